"""A batch cut into parts gives the update of the whole batch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxbp as bp
from jaxbp.training import fit
from jaxbp.training.state import Plan
from jaxbp.training.updates import accumulated_gradient, gradient


RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(22, 4)), RNG.integers(0, 3, 22)
NET, LOSS, SGD = bp.mlp([4, 5, 3], hidden=bp.tanh()), bp.losses.softmax_cross_entropy(), optax.sgd(0.1, momentum=0.9)
PARAMS, _ = NET.init(jax.random.key(0), jax.ShapeDtypeStruct((4,), X.dtype))


def run(**options):
    return fit(NET, LOSS, SGD, X, LABELS, **{"key": jax.random.key(1), "epochs": 3, "batch_size": 8, "params": PARAMS} | options)


@pytest.mark.parametrize(
    "options",
    [
        {},  # the last batch has 6 rows and padding
        {"sample_weight": RNG.integers(0, 3, 22), "penalty": bp.penalties.l2(0.1)},
        {"reduction": "sum", "gradient": "autodiff"},
    ],
)
def test_parts_make_the_whole(options):
    whole, parts = run(**options), run(accumulate=4, **options)
    chex.assert_trees_all_close(parts.params, whole.params, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(parts.history["loss"], whole.history["loss"], rtol=1e-11)
    np.testing.assert_array_equal(parts.history["accuracy"], whole.history["accuracy"])


def test_bfloat16_gradients_are_added_in_float32():
    plan = Plan(NET, LOSS, SGD, None, "sum", "manual", (), None, "", False, False, accumulate=256)
    params, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), (PARAMS, np.repeat(X[:2], 512, axis=0)))
    labels = np.repeat(LABELS[:2], 512)
    _, grads = jax.jit(accumulated_gradient(plan))(params, x, labels)
    _, part = jax.jit(gradient(plan))(params, x[:4], labels[:4])
    _, other = jax.jit(gradient(plan))(params, x[-4:], labels[-4:])
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}
    for g, a, b in zip(*map(jax.tree.leaves, (grads, part, other)), strict=True):
        exact = 128 * (np.asarray(a, np.float64) + np.asarray(b, np.float64))
        # each of 256 additions may round by half an ulp of a sum no larger than the largest; a bfloat16 sum is off by 2e-3
        assert np.max(np.abs(np.asarray(g) - exact)) <= 256 * 2.0**-24 * np.max(np.abs(exact))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="accumulate=3 does not divide the batch of 8"):
        run(accumulate=3)
    with pytest.raises(ValueError, match="mixes the rows"):
        fit(bp.batch_norm(), LOSS, SGD, X, LABELS, key=jax.random.key(0), epochs=1, batch_size=22, accumulate=2)
