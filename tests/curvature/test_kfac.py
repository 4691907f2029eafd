"""K-FAC: its products are the Gauss-Newton blocks where they should be; its two sides against loops; what is refused."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explicit import Problem, assert_close, blocks, ggn

import jaxbp as bp
from jaxbp import curvature, factors
from jaxbp.curvature import Kronecker


KEY = jax.random.key(0)
LOSS = bp.losses.quadratic()
is_block = lambda node: isinstance(node, Kronecker)


# --- a weight stored (fan_out, fan_in)


def turned_init(key, spec):
    return jnp.zeros((2, spec.shape[-1]), spec.dtype), jax.ShapeDtypeStruct((*spec.shape[:-1], 2), spec.dtype)


def turned_backward(w, x, y_bar):
    return factors.Outer(y_bar, x), y_bar @ w


TURNED = bp.deterministic("turned", turned_init, lambda w, x: (x @ w.T, x), turned_backward)
POOLED = (bp.flatten(), bp.dense(2))


def problem(net, spec, loss=LOSS, dtype=np.float64, weights=None, batch=5) -> Problem:
    rng = np.random.default_rng(1)
    spec = jax.ShapeDtypeStruct(spec, dtype) if isinstance(spec, tuple) else spec
    params, out = jax.eval_shape(lambda: (lambda p, o: (p, jnp.zeros(o.shape, o.dtype)))(*net.init(KEY, spec)))
    x = rng.normal(size=(batch, *spec.shape)) if spec.dtype == dtype else rng.integers(0, 4, (batch, *spec.shape))
    weights = rng.uniform(0.5, 2, batch) if weights is None else weights
    weights = np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(out.shape) - weights.ndim)), (batch, *out.shape[:-1]))
    draw = lambda s: rng.normal(size=s.shape).astype(s.dtype)
    targets = rng.normal(size=(batch, *out.shape)).astype(out.dtype)
    return Problem(net, loss, jax.tree.map(draw, params), x.astype(spec.dtype), targets, np.array(weights, out.dtype))


def kfac_of(p: Problem, params, **options):
    return curvature.kfac(p.net, p.loss, **options)(params, p.x, p.targets, sample_weight=p.weights, key=KEY)


STEPS = np.random.default_rng(0).uniform(0.5, 2, (5, 3))
LINEAR = {
    "two layers": (problem(bp.serial(bp.dense(3), bp.dense(2)), (4,)), "expand"),
    "mse": (problem(bp.serial(bp.dense(3), bp.dense(2)), (4,), bp.losses.mse()), "reduce"),
    "branches": (problem(bp.serial(bp.skip(bp.dense(3)), bp.parallel(bp.dense(2), bp.dense(2))), (3,)), "expand"),
    "time": (problem(bp.serial(bp.dense(3), bp.dense(2)), (3, 4), weights=STEPS), "expand"),
    "mean over time": (problem(bp.serial(bp.dense(3), bp.avg_pool(3), *POOLED), (3, 4)), "reduce"),
    "kernel in groups": (problem(bp.conv2d(4, 2, strides=(1, 2), groups=2), (3, 4, 4)), "expand"),
    "mean over positions": (problem(bp.serial(bp.conv2d(3, 2), bp.avg_pool((3, 4)), *POOLED), (3, 4, 2)), "reduce"),
    "table": (problem(bp.embedding(5, 2, dtype="float64"), jax.ShapeDtypeStruct((3,), np.int32), weights=STEPS), "expand"),
    "stored transposed": (problem(bp.serial(bp.dense(3), TURNED), (4,)), "expand"),
    "kept in remat": (problem(bp.remat(bp.serial(bp.dense(3), bp.dense(2))), (4,)), "expand"),
}


def is_the_block(p: Problem, sharing: str, tolerance: float) -> None:
    run = jax.jit(lambda params: (kfac_of(p, params, sharing=sharing), ggn(p._replace(params=params))))
    found, matrix = run(p.params)
    leaves = jax.tree.leaves(found, is_leaf=is_block)
    for block, want, param in zip(leaves, blocks(p.params, matrix), jax.tree.leaves(p.params), strict=True):
        assert block.shape == param.shape
        assert_close(block.matrix(), want, tolerance)


SLOW = ("two layers", "mse", "branches", "kept in remat", "mean over time")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in LINEAR])
def test_linear_nets_and_constant_hessians_have_exact_products(name):
    is_the_block(*LINEAR[name], 1e-10)


@pytest.mark.slow
def test_in_float32():
    is_the_block(problem(bp.serial(bp.dense(3), bp.dense(2)), (4,), dtype=np.float32), "expand", 1e-5)


@pytest.mark.slow
def test_one_column_of_one_example_is_exact_whatever_the_net():
    net = bp.serial(bp.dense(3), bp.tanh(), bp.dense(1))
    p = problem(net, (4,), bp.losses.sigmoid_cross_entropy(), batch=1)
    is_the_block(p._replace(targets=np.ones((1, 1))), "expand", 1e-10)


# --- sides against loops


def test_masked_steps_reach_neither_side():
    """Of a net over time, expand and reduce, from the x and y_bar of every step that counts."""
    mask = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [2, 0, 1.0]])
    p = problem(bp.dense(2), (3, 4), weights=mask)
    spoiled = np.where((mask.sum(1) == 0)[:, None, None], np.nan, p.x)
    p = p._replace(x=np.where((mask == 0)[..., None] & np.isfinite(spoiled), 1e3, spoiled))
    run = jax.jit(lambda params: [kfac_of(p, params, of="empirical_fisher", sharing=s).w for s in ("expand", "reduce")])
    expand, reduced = run(p.params)
    y_bar = np.sqrt(mask)[..., None] * (p.x @ p.params.w + p.params.b - p.targets)
    counts = [(b, t) for b in range(5) for t in range(3) if mask[b, t]]
    a = sum(mask[i] * np.outer(p.x[i], p.x[i]) for i in counts) / mask.sum()
    g = sum(np.outer(y_bar[i], y_bar[i]) for i in counts) / mask.sum()
    assert_close((expand.a, expand.g), (a, g), 1e-12)
    rows = [b for b in range(5) if mask[b].sum()]
    mean = {b: sum(mask[b, t] * p.x[b, t] for t in range(3) if mask[b, t]) / mask[b].sum() for b in rows}
    whole = {b: sum(y_bar[b, t] for t in range(3) if mask[b, t]) for b in rows}
    a = sum(mask[b].sum() * np.outer(mean[b], mean[b]) for b in rows) / mask.sum()
    g = sum(np.outer(whole[b], whole[b]) for b in rows) / mask.sum()
    assert_close((reduced.a, reduced.g), (a, g), 1e-12)


def test_uses_of_a_tied_weight_are_steps():
    p = problem(bp.repeat(bp.dense(3), 2), (3,))
    expand, reduced = jax.jit(lambda w: [kfac_of(p, w, of="empirical_fisher", sharing=s) for s in ("expand", "reduce")])(p.params)
    w, b = p.params
    h, c, share = p.x @ w + b, np.sqrt(p.weights)[:, None], p.weights / p.weights.sum()
    last = c * (h @ w + b - p.targets)
    first, scale = last @ w.T, p.weights.sum()
    squares = lambda y: y.T @ y / scale
    weighted = lambda x: (x * share[:, None]).T @ x
    assert_close((expand.w.a, expand.w.g), ((weighted(p.x) + weighted(h)) / 2, squares(first) + squares(last)), 1e-12)
    assert_close((reduced.w.a, reduced.w.g), (weighted((p.x + h) / 2), squares(first + last)), 1e-12)
    assert expand.b.a is None
    assert_close(reduced.b.g, squares(first + last), 1e-12)


def test_a_table_counts_its_rows():
    """The diagonal of A: shares of the ids, or mean squares of their shares inside an example; ids outside are no rows."""
    ids = np.array([[0, 0, 1], [2, 2, 2], [1, 0, 4]], np.int32)
    net = bp.embedding(4, 2, dtype="float64")
    params = net.init(KEY, jax.ShapeDtypeStruct((3,), np.int32))[0]
    ask = lambda p, ids, sharing: curvature.kfac(net, LOSS, sharing=sharing)(p, ids, jnp.zeros((3, 3, 2))).table
    expand, reduced = jax.jit(lambda p, ids: [ask(p, ids, sharing) for sharing in ("expand", "reduce")])(params, ids)
    np.testing.assert_allclose(expand.a, np.array([3, 2, 3, 0]) / 9, rtol=1e-14)
    np.testing.assert_allclose(reduced.a, np.array([5, 2, 9, 0]) / 27, rtol=1e-14)
    np.testing.assert_allclose(expand.g, 8 / 9 * np.eye(2), rtol=1e-14)


def test_fisher_samples_are_the_exact_factors_in_the_mean():
    net = bp.serial(bp.dense(3), bp.tanh(), bp.dense(3))
    p = problem(net, (4,), bp.losses.softmax_cross_entropy())._replace(targets=np.zeros(5, int), weights=np.ones(5))
    asked = {"exact": {}, "drawn": {"of": "fisher", "samples": 4000}, "signs": {"samples": 4000}}
    got = jax.jit(lambda params: {name: kfac_of(p, params, **options) for name, options in asked.items()})(p.params)
    for name in ("drawn", "signs"):
        for block, want in zip(*(jax.tree.leaves(got[n], is_leaf=is_block) for n in (name, "exact")), strict=True):
            np.testing.assert_allclose(block.g, want.g, atol=0.06 * np.abs(want.g).max())  # 1/sqrt(20000) = 0.007
            np.testing.assert_array_equal(0 if block.a is None else block.a, 0 if want.a is None else want.a)


# --- the product


@functools.cache
def blocks_of(name: str) -> list[Kronecker]:
    p, sharing = LINEAR[name]
    return jax.tree.leaves(jax.jit(lambda params: kfac_of(p, params, sharing=sharing))(p.params), is_leaf=is_block)


@pytest.mark.parametrize("name", ["two layers", "kernel in groups", "table"])
def test_answers_of_a_block(name):
    block = blocks_of(name)[0]
    v = np.random.default_rng(2).normal(size=block.shape)
    matrix = np.asarray(block.matrix())
    assert_close(block.product(v).ravel(), matrix @ v.ravel(), 1e-12)
    assert_close(block.diagonal().ravel(), np.diagonal(matrix), 1e-12)
    damping = 0.3
    a, g = np.asarray(block.a), np.asarray(block.g)
    mean = lambda side: np.mean(side if side.ndim == 1 else np.diagonal(side, axis1=-2, axis2=-1))
    pi = np.sqrt(mean(a) / mean(g))
    plus = lambda side, c: side + c * (1 if side.ndim == 1 else np.eye(side.shape[-1]))
    damped = Kronecker(plus(a, pi * damping**0.5), plus(g, damping**0.5 / pi), block.shape)
    assert_close(damped.product(block.solve(v, damping)), v, 1e-10)


def test_a_bias_is_its_own_block():
    block = blocks_of("two layers")[1]
    v = np.arange(3.0)
    assert block.a is None
    assert_close(block.matrix(), block.g, 1e-14)
    assert_close(block.product(v), block.g @ v, 1e-12)
    assert_close(block.solve(v, 0.1), np.linalg.solve(block.g + 0.1 * np.eye(3), v), 1e-10)
    with pytest.raises(ValueError, match="the shape of the parameter"):
        block.product(np.ones(4))
    for damping in (0.0, -1.0):
        with pytest.raises(ValueError, match="damping has to be positive"):
            block.solve(v, damping)


def test_a_side_of_zeros_is_solved_by_its_damping():
    block = Kronecker(jnp.zeros((2, 2)), jnp.zeros((3, 3)), (2, 3))
    assert_close(block.solve(np.ones((2, 3)), 0.5), np.full((2, 3), 2.0), 1e-12)


# --- what is refused


def test_a_table_that_also_multiplies_is_refused():
    net = bp.tied_embedding(5, 2, bp.dense(2))
    ids = np.zeros((2, 3), np.int32)
    params = jax.jit(lambda: net.init(KEY, jax.ShapeDtypeStruct((3,), np.int32))[0])()
    with pytest.raises(ValueError, match=r"params.table is tied: .*\(Outer, Rows\)"):
        jax.eval_shape(curvature.kfac(net, bp.losses.softmax_cross_entropy()), params, ids, ids)


def test_factors_without_sides_are_refused():
    strange = factors.factor(type("Strange", (factors.Factor,), {"__annotations__": {"value": jax.Array}}))
    forward = lambda w, x: (x * jnp.broadcast_to(w, x.shape), x)
    backward = lambda w, x, y_bar: (strange(jnp.sum(x * y_bar, axis=1)), y_bar * jnp.broadcast_to(w, x.shape))
    net = bp.deterministic("strange", lambda key, spec: (jnp.ones(()), spec), forward, backward)
    with pytest.raises(ValueError, match="factor of type Strange, which has no input and output side"):
        jax.eval_shape(curvature.kfac(net, LOSS), jnp.ones(()), jnp.ones((2, 3)), jnp.ones((2, 3)))


def test_sharing_is_named():
    with pytest.raises(ValueError, match="sharing is 'expand' or 'reduce'"):
        curvature.kfac(bp.dense(2), LOSS, sharing="mean")
