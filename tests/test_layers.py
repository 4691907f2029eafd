"""Every layer of cases.py: contract, shapes, dtypes, agreement with autodiff of its own forward, factors against brute force."""

from __future__ import annotations

import functools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LAYERS, LayerCase

import jaxbp as bp
from jaxbp import factors, inputs


KEY = jax.random.key(0)

every_layer = pytest.mark.parametrize("case", LAYERS, ids=[case.id for case in LAYERS])


OPTIONS = {"train": True, "key": jax.random.key(3)}


@functools.cache
def draw(case: LayerCase, batch: int = 3, dtype=jnp.float64):
    """params, x and a random y_bar, all in `dtype`. NumPy draws params and y_bar: it compiles nothing."""
    rng = np.random.default_rng(0)
    spec = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype) if inputs.is_floating(s) else s, inputs.as_spec(case.spec))
    x = jax.tree.map(np.asarray, case.draw(jax.random.fold_in(KEY, 2), batch, spec, dtype))

    def shapes(x):
        params, _ = case.at(dtype).init(KEY, spec)
        return params, case.layer.forward(params, x, **OPTIONS)[0]

    params, y = jax.eval_shape(shapes, x)
    # gains and variances are positive, weights of both signs
    param = lambda p: (rng.normal(size=p.shape) if len(p.shape) > 1 else rng.uniform(0.5, 1.5, p.shape)).astype(p.dtype)
    return jax.tree.map(param, params), x, jax.tree.map(lambda s: rng.normal(size=s.shape).astype(s.dtype), y)


def by_hand(layer: bp.Layer, params, x, y_bar):
    _, residuals = layer.forward(params, x, **OPTIONS)
    return layer.backward(params, residuals, y_bar)


def gradients(layer: bp.Layer, params, x, y_bar):
    """(params_bar, x_bar) by the hand-written backward; x_bar is None at integer leaves."""
    found, x_bar = by_hand(layer, params, x, y_bar)
    return factors.total(params, found), x_bar


def autodiff(layer: bp.Layer, params, x, y_bar):
    _, vjp = jax.vjp(lambda p, x: layer.forward(p, x, **OPTIONS)[0], params, x)
    params_bar, x_bar = vjp(y_bar)
    floating = jax.tree.map(lambda bar: None if bar.dtype == jax.dtypes.float0 else bar, x_bar)
    return params_bar, floating


def assert_leaves_close(got, truth, tolerance: float):
    """Each leaf within tolerance of max(its largest entry, 1e-3 of the largest entry of all leaves)."""
    chex.assert_trees_all_equal_shapes_and_dtypes(got, truth)
    got, truth = jax.tree.map(np.asarray, (got, truth))
    whole = max((float(np.max(np.abs(t), initial=0)) for t in jax.tree.leaves(truth)), default=0.0)
    for (path, g), t in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(truth), strict=True):
        scale = max(float(np.max(np.abs(t), initial=0)), 1e-3 * whole)
        error = float(np.max(np.abs(g - t), initial=0))
        assert error <= tolerance * scale, f"{jax.tree_util.keystr(path)}: {error:.2e} at scale {scale:.2e}"


@pytest.mark.parametrize(
    ("case", "batch"), [pytest.param(case, n, id=f"{case.id}, batch {n}") for case in LAYERS for n in case.batches]
)
def test_backward_is_the_vjp_of_forward_in_float64(case, batch):
    hand, auto = jax.jit(lambda a: (gradients(case.layer, *a), autodiff(case.layer, *a)))(draw(case, batch))
    assert_leaves_close(hand, auto, 1e-12)


@every_layer
def test_contract(case):
    """Tree of factors, out_spec, dtypes kept in every precision, residuals of arrays only, input untouched."""
    for dtype in (jnp.float32, jnp.bfloat16):
        params, x, y_bar = jax.eval_shape(lambda drawn: drawn, draw(case, 3, dtype))
        found, x_bar = jax.eval_shape(lambda *a: by_hand(case.layer, *a), params, x, y_bar)
        for param, leaf in zip(jax.tree.leaves(params), jax.tree.leaves(found, is_leaf=factors.is_factor), strict=True):
            assert isinstance(leaf, factors.Factor)
            total = jax.eval_shape(lambda f: f.total(), leaf)
            assert (total.shape, total.dtype) == (param.shape, param.dtype)
        for leaf, bar in zip(jax.tree.leaves(x), jax.tree.leaves(x_bar, is_leaf=lambda b: b is None), strict=True):
            assert bar is None if not inputs.is_floating(leaf) else (bar.shape, bar.dtype) == (leaf.shape, leaf.dtype)
        out_spec = inputs.check_batch(case.at(dtype), params, x, **OPTIONS)
        assert [(s.shape, s.dtype) for s in jax.tree.leaves(out_spec)] == [(b.shape[1:], b.dtype) for b in jax.tree.leaves(y_bar)]


@every_layer
def test_jit_equals_plain_and_vmap_equals_loop(case):
    params, x, y_bar = draw(case)
    run = lambda p, x, y_bar: gradients(case.layer, p, x, y_bar)
    stack = lambda tree, c: jax.tree.map(lambda a: jnp.stack([a, (c * a).astype(a.dtype)]), tree)
    lanes = stack(params, 2), stack(x, 1), stack(y_bar, 2)
    apart = "key" in case.layer.traits  # draws differ from lane to lane
    compiled, both = jax.jit(lambda one, lanes: (run(*one), None if apart else jax.vmap(run)(*lanes)))((params, x, y_bar), lanes)
    if not case.layer.parts:  # a composite without jit is its parts without jit
        chex.assert_trees_all_close(compiled, run(params, x, y_bar), rtol=1e-11, atol=1e-13)
    if not apart:
        chex.assert_trees_all_close(jax.tree.map(lambda a: a[0], both), compiled, rtol=1e-11, atol=1e-13)


@every_layer
def test_construction_is_cached_repr_is_code_and_pickle_is_the_call(case):
    assert eval(repr(case.layer), vars(bp)) is case.layer
    assert pickle.loads(pickle.dumps(case.layer)) is case.layer


def answers(leaf: factors.Factor, v, c):
    """Everything that a factor can be asked."""
    part = jax.tree.map(lambda a: a[:4], leaf)
    return {
        "examples": leaf.examples(),
        "sq_norms": leaf.sq_norms(),
        "second_moment": leaf.second_moment(),
        "dot": leaf.dot(v),
        "gram": leaf.gram(),
        "gram of two batches": leaf.gram(part),
        "inner": leaf.inner(leaf),
        "scaled": leaf.scaled(c).total(),
    }


def brute_force(g, v, c):
    """The same answers from instantiated per-example gradients g (batch, *shape)."""
    flat = g.reshape(g.shape[0], -1)
    norms = jnp.sum(flat**2, axis=1)
    return {
        "examples": g,
        "sq_norms": norms,
        "second_moment": jnp.sum(g**2, axis=0),
        "dot": flat @ v.ravel(),
        "gram": flat @ flat.T,
        "gram of two batches": flat @ flat[:4].T,
        "inner": norms,
        "scaled": jnp.tensordot(c, g, 1),
    }


@every_layer
def test_factors_equal_brute_force(case):
    """Every answer of every factor against the per-example gradients of `vmap(grad)`."""
    layer = case.layer
    if layer.traits & {"mixes", "key"} or not jax.tree.leaves(draw(case)[0]):
        return  # examples meet, draws depend on the batch, or no params

    def one(p, x, y_bar):
        ys = layer.forward(p, jax.tree.map(lambda a: a[None], x), **OPTIONS)[0]
        return sum(jnp.sum(y * bar[None]) for y, bar in zip(jax.tree.leaves(ys), jax.tree.leaves(y_bar), strict=True))

    @jax.jit
    def both(params, x, y_bar):
        found, _ = by_hand(layer, params, x, y_bar)
        brute = jax.vmap(jax.grad(one), (None, 0, 0))(params, x, y_bar)
        c = jax.random.normal(KEY, (9,))
        v = jax.tree.map(lambda p: jax.random.normal(KEY, p.shape), params)
        asked = jax.tree.map(lambda v, leaf: answers(leaf, v, c), v, found)
        return asked, jax.tree.map(lambda v, g: brute_force(g, v, c), v, brute)

    for (path, got), want in zip(*(jax.tree_util.tree_leaves_with_path(t) for t in both(*draw(case, 9))), strict=True):
        np.testing.assert_allclose(got, want[1], rtol=1e-10, atol=1e-12 * max(1.0, np.abs(want[1]).max()), err_msg=str(path))
