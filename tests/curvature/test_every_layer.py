"""Curvature of every layer against explicit Jacobians and Hessians of the same mathematics."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LAYERS, LayerCase
from explicit import Problem, assert_close, ggn, gradients, hessian, outer_products
from jax.flatten_util import ravel_pytree

import jaxbp as bp
from jaxbp import curvature, inputs
from jaxbp.curvature import columns, sampling
from jaxbp.factors import is_factor
from jaxbp.per_example import losses_and_factors


KEY = jax.random.key(7)
LOSS = bp.losses.sigmoid_cross_entropy()
WEIGHTS = np.array([1.0, 2.0, 0.0, 0.5])


def has_curvature(case: LayerCase) -> bool:
    spec = inputs.as_spec(case.spec)
    return not case.layer.traits & {"mixes", "key"} and bool(
        jax.tree.leaves(jax.eval_shape(lambda: case.layer.init(KEY, spec)[0]))
    )


CASES = [case for case in LAYERS if has_curvature(case)]
FEW = [LayerCase(bp.serial(bp.dense(2), bp.tanh(), bp.dense(2)), (2, 3))]


def problem(case: LayerCase, dtype=jnp.float64, batch: int = 4) -> Problem:
    rng = np.random.default_rng(0)
    spec = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype) if inputs.is_floating(s) else s, inputs.as_spec(case.spec))
    layer = case.at(dtype)
    params, out = jax.eval_shape(lambda: _init(layer, spec))
    draw = lambda s: rng.normal(size=(batch, *s.shape)) if inputs.is_floating(s) else rng.integers(0, 5, (batch, *s.shape))
    param = lambda p: (rng.normal(size=p.shape) if len(p.shape) > 1 else rng.uniform(0.5, 1.5, p.shape)).astype(p.dtype)
    x = jax.tree.map(lambda s: draw(s).astype(s.dtype), spec)
    targets = rng.uniform(size=(batch, *out.shape)).astype(out.dtype)
    weights = np.broadcast_to(WEIGHTS[:batch].reshape(-1, *[1] * (len(out.shape) - 1)), (batch, *out.shape[:-1]))
    return Problem(layer, LOSS, jax.tree.map(param, params), x, targets, np.array(weights, dtype))


def _init(layer, spec):
    params, out = layer.init(KEY, spec)
    return params, jnp.zeros(out.shape, out.dtype)


def by_hand(p: Problem, v, samples: int = 2) -> dict:
    ask = lambda door: door(p.params, p.x, p.targets, sample_weight=p.weights, key=KEY)
    product = lambda door: ravel_pytree(door(p.params, v, p.x, p.targets, sample_weight=p.weights))[0]
    return {
        "ggn": ask(curvature.ggn_diagonal(p.net, p.loss)),
        "fisher": ask(curvature.fisher_diagonal(p.net, p.loss, samples=samples)),
        "empirical": ask(curvature.empirical_fisher_diagonal(p.net, p.loss)),
        "ggn v": product(curvature.ggn_vector_product(p.net, p.loss)),
        "hessian v": product(curvature.hessian_vector_product(p.net, p.loss)),
    }


def drawn(p: Problem, like: Problem, samples: int):
    """The targets that the Fisher diagonal draws at the outputs of `like`."""
    outputs = like.net.forward(like.params, like.x, train=True)[0]
    keys = jax.random.split(jax.random.fold_in(KEY, columns.DRAWS), samples)
    return [sampling.sampler(p.loss)[0](key, outputs) for key in keys]


def written_out(p: Problem, v, like: Problem, samples: int = 2) -> dict:
    matrix, flat = ggn(p), ravel_pytree(v)[0]
    draws = drawn(p, like, samples)
    return {
        "ggn": jnp.diagonal(matrix),
        "fisher": sum(jnp.sum(gradients(p, t) ** 2, axis=0) for t in draws) / samples / jnp.sum(p.weights),
        "empirical": jnp.diagonal(outer_products(p, p.targets)),
        "ggn v": matrix @ flat,
        "hessian v": hessian(p) @ flat,
    }


def compare(case: LayerCase, dtype, tolerance: float) -> None:
    p = problem(case, dtype)
    v = jax.tree.map(lambda leaf: np.cos(np.arange(leaf.size)).reshape(leaf.shape).astype(leaf.dtype), p.params)
    arrays = lambda p: (p.params, p.x, p.targets, p.weights)
    wide = jax.tree.map(lambda a: a.astype(np.float64) if a.dtype == np.float32 else a, (*arrays(p), v))

    @jax.jit
    def both(data, v, wide):
        narrow = Problem(p.net, p.loss, *data)
        return by_hand(narrow, v), written_out(Problem(case.at(jnp.float64), p.loss, *wide[:-1]), wide[-1], narrow)

    got, want = both(arrays(p), v, wide)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
    for name, wanted in want.items():
        assert_close(got[name], wanted, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_every_layer_equals_explicit_matrices(case):
    compare(case, jnp.float64, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_every_layer_in_float32(case):
    compare(case, jnp.float32, 1e-5)


@pytest.mark.parametrize("case", FEW, ids=[case.id for case in FEW])
def test_some_layers_equal_explicit_matrices(case):
    compare(case, jnp.float64, 1e-10)


def test_a_net_in_float32():
    compare(FEW[0], jnp.float32, 1e-5)


# --- K-FAC: for one example and one column the product of its factors is the block itself


@functools.cache
def shared(case: LayerCase) -> list[bool]:
    """For every parameter whether it is shared inside an example."""
    p = problem(case, batch=1)
    found = jax.eval_shape(lambda: losses_and_factors(p.net, p.loss)(p.params, p.x, p.targets)[1])
    axes = {"Outer": lambda f: f.x.shape[1:-1], "Rows": lambda f: f.indices.shape[1:], "Conv": lambda f: f.y_bar.shape[1:-1]}
    of = lambda f: axes.get(type(f).__name__, lambda f: (2,))(f)
    return [np.prod(of(leaf)) > 1 for leaf in jax.tree.leaves(found, is_leaf=is_factor)]


def kfac_is_exact(case: LayerCase, dtype, tolerance: float) -> None:
    p = problem(case, dtype, batch=1)
    by = lambda sharing: curvature.kfac(p.net, p.loss, of="empirical_fisher", sharing=sharing)
    run = jax.jit(
        lambda params: (
            [by(sharing)(params, p.x, p.targets) for sharing in ("expand", "reduce")],
            gradients(p._replace(params=params), p.targets),
        )
    )
    (expand, reduced), (g,) = run(p.params)
    parts = jax.tree.leaves(ravel_pytree(p.params)[1](g))
    leaves = [jax.tree.leaves(t, is_leaf=lambda b: isinstance(b, curvature.Kronecker)) for t in (expand, reduced)]
    count = p.weights.size
    for e, r, part, several, param in zip(*leaves, parts, shared(case), jax.tree.leaves(p.params), strict=True):
        want = np.outer(part, part) / count
        assert e.shape == r.shape == param.shape
        if e.a is None:  # a bias or a gain: its steps are summed by reduce
            assert_close(r.matrix(), want, tolerance)
        if not several:
            assert_close(e.matrix(), want, tolerance)
            assert_close(r.matrix(), want, tolerance)
            assert_close(e.diagonal(), np.diagonal(want), tolerance)


TIED = ("tied_embedding", "repeat")
KFAC_CASES = [case for case in CASES if not case.layer.name.startswith(TIED)]


@pytest.mark.slow
@pytest.mark.parametrize("case", KFAC_CASES, ids=[case.id for case in KFAC_CASES])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-10), (jnp.float32, 1e-5)], ids=["float64", "float32"])
def test_kfac_of_one_example_is_its_block(case, dtype, tolerance):
    kfac_is_exact(case, dtype, tolerance)
