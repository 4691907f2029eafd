"""The quantities of any JAX loss, read from its program, against `vmap(grad)`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute import flat
from foreign_models import CASES, language, mlp, sliced

from jaxbp import factors as F
from jaxbp import per_example as pe


WEIGHTS = np.array([1.0, 0.0, 2.0, 1.0, 0.5])


def dots(factors, v):
    return sum(jax.tree.leaves(jax.tree.map(lambda v, f: f.dot(v), v, factors)))


def by_factors(loss, params, batch):
    """What the factors of one pass are asked."""
    losses, factors = pe.factors_of(loss)(params, batch)
    each = lambda fun: [fun(leaf) for leaf in jax.tree.leaves(factors, is_leaf=F.is_factor)]
    return {
        "losses": losses,
        "total": F.total(params, factors),
        "norms": jnp.sqrt(sum(each(lambda f: f.sq_norms()))),
        "scaled": each(lambda f: f.scaled(WEIGHTS).total()),
        "second moment": each(lambda f: f.second_moment()),
        "gram": sum(each(lambda f: f.gram(jax.tree.map(lambda a: a[:2], f)))),
        "dot": dots(factors, jax.tree.map(jnp.cos, params)),
    }


def by_brute_force(loss, params, batch):
    losses, g = jax.vmap(jax.value_and_grad(loss), (None, 0))(params, batch)
    a, each = flat(g), lambda fun: jax.tree.map(fun, g)
    return {
        "losses": losses,
        "total": each(lambda g: jnp.sum(g, 0)),
        "norms": jnp.linalg.norm(a, axis=1),
        "scaled": each(lambda g: jnp.tensordot(WEIGHTS, g, 1)),
        "second moment": each(lambda g: jnp.sum(g**2, 0)),
        "gram": a @ a[:2].T,
        "dot": a @ jnp.concatenate([jnp.cos(leaf).ravel() for leaf in jax.tree.leaves(params)]),
    }


def assert_close(got, want):
    for name in want:
        scale = max(float(np.max(np.abs(w), initial=0)) for w in jax.tree.leaves(want[name]))
        for g, w in zip(jax.tree.leaves(got[name]), jax.tree.leaves(want[name]), strict=True):
            np.testing.assert_allclose(g, w, rtol=0, atol=1e-12 * scale, err_msg=name)


@pytest.mark.parametrize("loss", CASES, ids=lambda loss: loss.__name__)
def test_equals_vmap_of_grad(loss):
    params, batch, _ = CASES[loss]
    got, want = jax.jit(lambda p, b: (by_factors(loss, p, b), by_brute_force(loss, p, b)))(params, batch)
    assert_close(got, want)


@pytest.mark.parametrize("loss", [sliced, language], ids=lambda loss: loss.__name__)
def test_doors(loss):
    params, batch, _ = CASES[loss]

    @jax.jit
    def both(params, batch):
        part = jax.tree.map(lambda a: a[:2], batch)
        got = {
            "norms": pe.norms_of(loss)(params, batch, sample_weight=WEIGHTS),
            "norms in chunks": pe.norms_of(loss, chunk=2)(params, batch, sample_weight=WEIGHTS),
            "clipped": pe.clipped_sum_of(loss, 0.9)(params, batch)[1],
            "clipped in chunks": pe.clipped_sum_of(loss, 0.9, chunk=3)(params, batch)[1],
            "gram": pe.gram_of(loss)(params, batch),
            "gram of two": pe.gram_of(loss)(params, batch, others=part),
            "second moment": pe.second_moment_of(loss)(params, batch)[1:],
        }
        losses, g = jax.vmap(jax.value_and_grad(loss), (None, 0))(params, batch)
        a, each = flat(g), lambda fun: jax.tree.map(fun, g)
        norms = jnp.linalg.norm(a, axis=1)
        weighted = (WEIGHTS * losses, each(lambda g: jnp.tensordot(WEIGHTS / WEIGHTS.sum(), g, 1)), WEIGHTS * norms)
        clipped = each(lambda g: jnp.tensordot(jnp.minimum(1, 0.9 / norms), g, 1))
        return got, {
            "norms": weighted,
            "norms in chunks": weighted,
            "clipped": clipped,
            "clipped in chunks": clipped,
            "gram": a @ a.T,
            "gram of two": a @ a[:2].T,
            "second moment": (each(lambda g: jnp.mean(g, 0)), each(lambda g: jnp.mean(g**2, 0))),
        }

    assert_close(*both(params, batch))


@pytest.mark.parametrize("loss", CASES, ids=lambda loss: loss.__name__)
def test_types_of_factors(loss):
    params, batch, types = CASES[loss]
    _, found = jax.eval_shape(pe.factors_of(loss), params, batch)
    assert {name: type(found[name]) for name in types} == types


def test_no_product_is_with_a_weight_for_each_example():
    """The products of the plain net are those of one gradient: 3 forward and backward ones, and 2 of the totals."""
    params, batch, _ = CASES[mlp]
    program = jax.make_jaxpr(pe.norms_of(mlp))(params, batch)
    assert str(program).count("dot_general") == 5


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)])
def test_narrow_dtypes(dtype, tolerance):
    params, batch, _ = CASES[mlp]
    cast = jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, batch))
    _, grads, norms = jax.jit(pe.norms_of(mlp))(*cast)
    exact = jax.tree.map(lambda a: np.asarray(a, np.float64), cast)
    g = jax.jit(jax.vmap(jax.grad(mlp), (None, 0)))(*exact)
    assert norms.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(dtype)}
    np.testing.assert_allclose(norms, jnp.linalg.norm(flat(g), axis=1), rtol=tolerance)


def test_padding_may_hold_anything():
    params, (x, y), _ = CASES[mlp]
    run = jax.jit(lambda b: pe.norms_of(mlp)(params, b, sample_weight=WEIGHTS))
    spoiled = np.where(WEIGHTS[:, None] == 0, np.nan, x)
    for got, want in zip(jax.tree.leaves(run((spoiled, y))), jax.tree.leaves(run((x, y))), strict=True):
        np.testing.assert_array_equal(got, want)


def test_bad_input():
    params, batch, _ = CASES[mlp]
    with pytest.raises(ValueError, match=r"one floating scalar.*returns float64\[2\]"):
        pe.norms_of(lambda p, e: (e[0] @ p["w"] @ p["v"]) ** 2)(params, batch)
    with pytest.raises(ValueError, match="one floating scalar"):
        pe.factors_of(lambda p, e: (mlp(p, e), 0.0))(params, batch)
    with pytest.raises(ValueError, match="the batch is empty"):
        pe.gram_of(mlp)(params, jax.tree.map(lambda a: a[:0], batch))
    with pytest.raises(ValueError, match="disagree on the batch size"):
        pe.norms_of(mlp)(params, (batch[0], batch[1][:3]))
    with pytest.raises(ValueError, match="clip_norm has to be positive"):
        pe.clipped_sum_of(mlp, 0.0)
    with pytest.raises(TypeError, match=r"params\['n'\]: a floating array was expected, got int"):
        pe.norms_of(mlp)({**params, "n": np.arange(3)}, batch)
    with pytest.raises(TypeError, match=r"got <.*tanh"):
        pe.norms_of(lambda p, e: 0.0)({"act": jnp.tanh}, batch)
    with pytest.raises(ValueError, match="no trainable parameters"):
        pe.norms_of(lambda p, e: jnp.sum(e[0]))({}, batch)
    with pytest.raises(ValueError, match="chunk has to be positive"):
        pe.norms_of(mlp, chunk=0)
    with pytest.raises(TypeError, match="loss_of_one"):
        pe.norms_of(params)
    with pytest.raises(ValueError, match=r"4000000 x 4000000 float64 takes"):
        pe.gram_of(mlp)(params, jax.tree.map(lambda a: jax.ShapeDtypeStruct((4_000_000, *a.shape[1:]), a.dtype), batch))
    with pytest.raises(ValueError, match="sample_weight"):
        pe.norms_of(mlp)(params, batch, sample_weight=np.ones(4))
