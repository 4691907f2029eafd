"""Every layer of cases.py tells the truth about itself: "mixes" iff rows of a batch meet in training, "key" iff it draws."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LAYERS

from jaxbp import inputs


KEY = jax.random.key(7)
KEYS = jax.random.split(KEY)[np.array([0, 0, 1])]


def draw(case):
    """float32 params (drawn by NumPy, which compiles nothing) and three inputs: x, x with another first row, x again."""
    spec, rng = inputs.as_spec(case.spec), np.random.default_rng(0)
    params = jax.eval_shape(lambda: case.layer.init(KEY, spec)[0])
    params = jax.tree.map(lambda p: rng.uniform(0.5, 1.5, p.shape).astype(p.dtype), params)
    x, other = (jax.tree.map(np.asarray, case.draw(jax.random.key(i), 3, spec, jnp.float32)) for i in (1, 2))
    return params, jax.tree.map(lambda a, b: np.stack([a, np.concatenate([b[:1], a[1:]]), a]), x, other)


def y_and_x_bar(layer, params, x, key, *, train):
    """All that leaves the layer row by row: outputs, and x_bar for a cotangent that differs from row to row."""
    y, residuals = layer.forward(params, x, train=train, key=key)
    y_bar = jax.tree.map(lambda a: jnp.asarray(np.cos(np.arange(a.size)).reshape(a.shape), a.dtype), y)
    return y, layer.backward(params, residuals, y_bar)[1]


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("case", LAYERS, ids=[case.id for case in LAYERS])
def test_traits(case):
    layer = case.layer

    @jax.jit
    def run(params, xs, keys):
        # lax.map: one compiled body for all three, so that rows which do not meet agree to the last bit
        return [jax.lax.map(lambda one, t=t: y_and_x_bar(layer, params, *one, train=t), (xs, keys)) for t in (True, False)]

    outs = jax.tree.map(np.asarray, run(*draw(case), KEYS))
    (first, row_changed, key_changed), predicted = ([jax.tree.map(lambda a, i=i: a[i], out) for i in range(3)] for out in outs)
    last_rows = functools.partial(jax.tree.map, lambda a: a[1:])
    assert same(last_rows(first), last_rows(row_changed)) == ("mixes" not in layer.traits)
    assert same(first, key_changed) == ("key" not in layer.traits)
    assert same(last_rows(predicted[0]), last_rows(predicted[1])), "rows meet in prediction"
    assert same(predicted[0], predicted[2]), "prediction depends on the key"


@pytest.mark.parametrize("case", LAYERS, ids=[case.id for case in LAYERS])
def test_training_asks_for_a_key_iff_it_draws(case):
    params, xs = draw(case)
    for door in (case.layer, case.layer.forward):  # the outer door, and the rule itself
        keyless = lambda door=door: door(params, jax.tree.map(lambda a: jnp.asarray(a[0]), xs), train=True)
        if "key" in case.layer.traits:
            with pytest.raises(ValueError, match="pass key="):
                jax.eval_shape(keyless)
        else:
            jax.eval_shape(keyless)
