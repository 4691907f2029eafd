"""`compare_gradients`: its errors against errors computed here, a planted mistake, and what it leaves as it was."""

from __future__ import annotations

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp
from jaxbp import losses, penalties


KEY = jax.random.key(0)
NET = bp.serial(bp.dense(6), bp.tanh(), bp.dense(3))
LOSS = losses.softmax_cross_entropy()


def problem(dtype=jnp.float32):
    params, _ = NET.init(KEY, jax.ShapeDtypeStruct((4,), dtype))
    return params, jax.random.normal(KEY, (8, 4), dtype), jnp.array([0, 1, 2, 0, 1, 2, 0, 1])


def test_errors_are_in_units_of_the_leafs_scale():
    params, x, labels = problem()
    found = bp.compare_gradients(NET, LOSS, params, x, labels, measure=False)
    exact = jax.tree.map(lambda a: a.astype(jnp.float64), (params, x))
    truth = jax.jit(jax.grad(bp.objective(NET, LOSS)))(*exact, labels)
    got = jax.jit(jax.grad(bp.objective(NET, LOSS)))(params, x, labels)
    assert [leaf.path for leaf in found.leaves] == ["params[0].w", "params[0].b", "params[2].w", "params[2].b"]
    for leaf, t, g in zip(found.leaves, jax.tree.leaves(truth), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(leaf.scale, np.abs(t).max(), rtol=1e-12)
        np.testing.assert_allclose(leaf.autodiff, np.abs(np.asarray(g, np.float64) - t).max() / np.abs(t).max(), rtol=1e-6)
    assert found.max_error_f64 <= 1e-12
    assert 1e-9 < found.max_error < 2e-6
    assert found.dtype == "float32"


def test_a_planted_mistake_is_seen_in_its_leaf():
    right = NET.parts[2]

    def backward(params, residuals, y_bar):
        factors, x_bar = right.backward(params, residuals, y_bar)
        return factors._replace(b=factors.b.scaled(jnp.full((y_bar.shape[0],), 1.001, y_bar.dtype))), x_bar

    wrong = bp.serial(*NET.parts[:2], dataclasses.replace(right, backward=backward, call=None))
    found = bp.compare_gradients(wrong, LOSS, *problem(), measure=False)
    errors = {leaf.path: leaf.hand_f64 for leaf in found.leaves}
    np.testing.assert_allclose(errors.pop("params[2].b"), 1e-3, rtol=1e-6)
    assert max(errors.values()) <= 1e-12
    assert not found.agrees
    assert str(found).endswith("WRONG: in float64 params[2].b is off by 1.0e-03 of its scale (1e-09 is allowed)")
    unknown = dataclasses.replace(found, leaves=(dataclasses.replace(found.leaves[0], hand_f64=float("nan")),))
    assert unknown.verdict.startswith("WRONG: in float64 params[0].w is off by nan")


def test_it_prints_and_serialises():
    found = bp.compare_gradients(NET, LOSS, *problem(), penalty=penalties.l2(0.1))
    text = str(found)
    assert "params[2].w" in text
    assert "step time" in text
    assert re.fullmatch(r"ok: in float64 every leaf is within \S+ of its scale \(1e-09 is allowed\)", text.splitlines()[-1])
    assert found.agrees
    as_dict = json.loads(json.dumps(found.to_dict()))
    assert as_dict["leaves"][0]["hand_f64"] <= 1e-12
    assert {"hand_f32", "autodiff_f32"} <= set(as_dict["leaves"][0])
    assert as_dict["step_time_ratio"] > 0


def test_nothing_global_changes(monkeypatch):
    with jax.enable_x64(False):
        params, x, labels = problem()
        found = bp.compare_gradients(NET, LOSS, params, x, labels, measure=False)
        assert found.max_error_f64 <= 1e-12
        assert jnp.zeros(1).dtype == jnp.float32


def test_bf16_is_compared_in_its_own_dtype():
    found = bp.compare_gradients(NET, LOSS, *problem(jnp.bfloat16), measure=False)
    assert found.dtype == "bfloat16"
    assert "hand_bf16" in found.to_dict()["leaves"][0]


def test_dropout_draws_the_same_mask_in_every_precision():
    net = bp.serial(bp.dense(6), bp.dropout(0.5), bp.dense(3))
    params, _ = net.init(KEY, jax.ShapeDtypeStruct((4,), jnp.float32))
    found = bp.compare_gradients(net, LOSS, params, *problem()[1:], key=KEY, measure=False)
    assert found.max_error_f64 <= 1e-12
    assert found.max_error < 2e-6


def test_bad_input():
    params, x, labels = problem()
    with pytest.raises(ValueError, match=r"x: 1 values are NaN or infinite, the first at index \[2, 1\]"):
        bp.compare_gradients(NET, LOSS, params, x.at[2, 1].set(jnp.nan), labels)
    bad = (params[0]._replace(w=params[0].w.at[0, 0].set(jnp.inf)), *params[1:])
    with pytest.raises(ValueError, match=r"params\[0\].w"):
        bp.compare_gradients(NET, LOSS, bad, x, labels)
