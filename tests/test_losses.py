"""Every loss of cases.py: contract, agreement with autodiff of its own forward."""

from __future__ import annotations

import pickle

import cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LOSSES, LossCase
from loss_rules import assert_close, autodiff, by_hand

import jaxbp as bp
from jaxbp import inputs, losses


KEY = jax.random.key(0)
every_loss = pytest.mark.parametrize("case", LOSSES, ids=[case.id for case in LOSSES])


def draw(case: LossCase, batch: int = 3, dtype=jnp.float64):
    """outputs, targets and a random losses_bar."""
    outputs = case.outputs(jax.random.fold_in(KEY, 1), batch, dtype)
    targets = case.targets(jax.random.fold_in(KEY, 2), batch, dtype)
    shape = jax.eval_shape(lambda *a: case.loss.forward(*a)[0], outputs, targets)
    return outputs, targets, jnp.asarray(np.random.default_rng(3).normal(size=shape.shape), shape.dtype)


@every_loss
@pytest.mark.parametrize("batch", [1, 3, 17])
def test_backward_is_the_vjp_of_forward_in_float64(case, batch, quick_compiles):
    hand, auto = jax.jit(lambda *a: (by_hand(case.loss, *a), autodiff(case.loss, *a)))(*draw(case, batch))
    assert_close(hand[0], auto[0])
    assert_close(hand[1], auto[1])


@every_loss
def test_hessian_vector_product_is_that_of_forward(case, quick_compiles):
    outputs, targets, losses_bar = draw(case, 4)
    direction = jnp.asarray(np.random.default_rng(0).normal(size=outputs.shape))
    along = lambda rule: jax.jvp(lambda outputs: rule(case.loss, outputs, targets, losses_bar)[1], (outputs,), (direction,))[1]
    assert_close(*jax.jit(lambda: (along(by_hand), along(autodiff)))(), tolerance=1e-10)


@every_loss
def test_contract(case):
    """Losses (batch, *axes) in at least float32, outputs_bar like the outputs, residuals of arrays, no check in the way."""
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        outputs, targets, losses_bar = draw(case, dtype=dtype)
        found, outputs_bar = jax.eval_shape(lambda *a: by_hand(case.loss, *a), outputs, targets, losses_bar)
        assert found.shape == ((3,) if case.loss.name == "loss_from" else outputs.shape[:-1])
        assert found.dtype == jnp.float32
        assert (outputs_bar.shape, outputs_bar.dtype) == (outputs.shape, dtype)
        inputs.check_targets(case.loss, outputs, targets)
        inputs.check_targets(case.loss, jax.ShapeDtypeStruct(outputs.shape, dtype), targets)
        _, outputs_bar = jax.eval_shape(lambda *a: by_hand(case.loss, *a), outputs, targets, losses_bar.astype(jnp.bfloat16))
        assert outputs_bar.dtype == dtype
    residuals = jax.eval_shape(lambda *a: case.loss.forward(*a)[1], outputs, targets)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(residuals))


@every_loss
def test_jit_equals_plain_and_every_example_stands_alone(case, quick_compiles):
    arrays = draw(case, 5)
    run = lambda *a: by_hand(case.loss, *a)
    plain = run(*arrays)
    np.testing.assert_array_equal(case.loss(*arrays[:2]), plain[0])
    chex.assert_trees_all_close(jax.jit(run)(*arrays), plain, rtol=1e-12, atol=1e-14)
    as_batches_of_one = jax.jit(jax.vmap(run))(*(a[:, None] for a in arrays))
    chex.assert_trees_all_close(jax.tree.map(lambda a: a[:, 0], as_batches_of_one), plain, rtol=1e-12, atol=1e-14)


@every_loss
def test_construction_is_cached_repr_is_code_and_pickle_is_the_call(case):
    assert eval(repr(case.loss), {**vars(bp), "cases": cases}) is case.loss
    assert pickle.loads(pickle.dumps(case.loss)) is case.loss
    assert repr(case.loss).startswith("losses.")


def test_every_public_loss_is_in_the_table():
    assert {repr(case.loss).split("(")[0] for case in LOSSES} == {f"losses.{name}" for name in losses.__all__}
