"""layer_norm and batch_norm: accuracy the usual formulas do not reach, conventions without spread, the population's way."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp
from jaxbp import factors, tree
from jaxbp.layers import normalization


EPSILON = 1e-5


def two_pass(x, gain, axis):
    d = x - jnp.mean(x, axis, keepdims=True)
    return d / jnp.sqrt(jnp.mean(d**2, axis, keepdims=True) + EPSILON) * jnp.broadcast_to(gain, x.shape)


def one_pass(x, gain, axis):
    mean = jnp.mean(x, axis, keepdims=True)
    variance = jnp.mean(x**2, axis, keepdims=True) - mean**2
    return (x - mean) / jnp.sqrt(variance + EPSILON) * jnp.broadcast_to(gain, x.shape)


def fresh(layer, features, dtype=jnp.float32):
    """params with the population at (0, 1), drawn gain and no bias."""
    params, _ = layer.init(jax.random.key(0), jax.ShapeDtypeStruct((features,), dtype))
    return params


@functools.partial(jax.jit, static_argnames=("layer", "train"))
def by_hand(layer, params, x, y_bar, train=True):
    y, residuals = layer.forward(params, x, train=train)
    found, x_bar = layer.backward(params, residuals, y_bar)
    return y, found, x_bar


def normals(shape, dtype=jnp.float32, mean=0.0, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, 1, shape), dtype)


def error(got, truth):
    """The largest error in units of the largest entry."""
    got, truth = (np.asarray(a, np.float64) for a in (got, truth))
    return np.abs(got - truth).max() / np.abs(truth).max()


both = pytest.mark.parametrize(("layer", "axis"), [(bp.layer_norm(), -1), (bp.batch_norm(), 0)], ids=["layer_norm", "batch_norm"])


@both
@pytest.mark.parametrize("n", [64, 256])
def test_float32_at_a_mean_of_a_thousand_sigma(layer, axis, n):
    """Errors in y, x_bar and gain_bar (a sum over rows) against float64: the usual formulas lose 1 to 5 digits more."""
    shape = (n, 16) if axis == 0 else (16, n)
    x, y_bar, gain = normals(shape, mean=1e3, seed=1), normals(shape, seed=2), normals(shape[1:], mean=1, seed=3)

    @functools.partial(jax.jit, static_argnums=0)
    def auto(formula, x, gain, y_bar):
        y, vjp = jax.vjp(functools.partial(formula, axis=axis), x, gain)
        return y, *vjp(y_bar)

    @jax.jit
    def hand(x, gain, y_bar):
        y, found, x_bar = by_hand(layer, fresh(layer, shape[-1])._replace(gain=gain), x, y_bar)
        return y, x_bar, found.gain.total()

    truth = auto(two_pass, *(a.astype(jnp.float64) for a in (x, gain, y_bar)))
    errors = lambda out: np.array([error(a, t) for a, t in zip(out, truth, strict=True)])
    assert np.all(errors(hand(x, gain, y_bar)) <= [1.3e-7, 1.3e-7, 2e-7])
    assert np.all(errors(auto(two_pass, x, gain, y_bar)) > [5e-6, 1e-6, 5e-6])
    assert np.all(errors(auto(one_pass, x, gain, y_bar)) > 1e-2)


def test_a_y_bar_with_a_common_offset_loses_nothing():
    """mean(c) does for the cotangent what mean(d) does for x."""
    layer, x, y_bar = bp.layer_norm(), normals((16, 256), seed=1), normals((16, 256), mean=1e3, seed=2)
    params = fresh(layer, 256)
    truth = jax.vjp(lambda x: two_pass(x, jnp.ones(256), -1), x.astype(jnp.float64))[1](y_bar.astype(jnp.float64))[0]
    usual = jax.vjp(lambda x: two_pass(x, params.gain, -1), x)[1](y_bar)[0]
    assert error(by_hand(layer, params, x, y_bar)[2], truth) <= 2e-7
    assert error(usual, truth) > 1e-6


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@both
def test_half_precision_rounds_once(layer, axis, dtype):
    """y and x_bar are the float64 values rounded to dtype; x**2 itself would overflow float16."""
    x, y_bar = (300 + 20 * normals((64, 64), seed=1)).astype(dtype), normals((64, 64), dtype, seed=2)
    params = fresh(layer, 64, dtype)
    y, found, x_bar = by_hand(layer, params, x, y_bar)
    truth_y, vjp = jax.vjp(lambda x: two_pass(x, jnp.ones(64), axis), x.astype(jnp.float64))
    (truth,) = vjp(y_bar.astype(jnp.float64))
    half_ulp = float(jnp.finfo(dtype).eps) / 2
    tiny = 1e-6  # float32's own error where an entry is near 0
    np.testing.assert_allclose(y.astype(jnp.float64), truth_y, rtol=1.01 * half_ulp, atol=tiny)
    np.testing.assert_allclose(x_bar.astype(jnp.float64), truth, rtol=1.01 * half_ulp, atol=tiny)
    assert y.dtype == x_bar.dtype == dtype
    assert {leaf.total().dtype for leaf in (found.gain, found.bias)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("epsilon", [0, 1e-5])
def test_one_feature_gives_the_bias_and_no_cotangent(epsilon):
    layer = bp.layer_norm(epsilon=epsilon)
    params = normalization.LayerNorm(gain=jnp.array([3.0]), bias=jnp.array([0.25]))
    y, _, x_bar = by_hand(layer, params, jnp.array([[0.1], [-7e8]]), jnp.array([[1.0], [2.0]]))
    assert y.tolist() == [[0.25], [0.25]]
    assert x_bar.tolist() == [[0], [0]]


@pytest.mark.parametrize("n", [2, 7, 333, 1000])
def test_a_row_without_spread_and_no_epsilon(n):
    """Whatever rounding makes of the mean of n equal numbers: y = bias, x_bar = 0, no NaN in autodiff either."""
    layer = bp.layer_norm(epsilon=0, gain=False, bias=False)
    constants = jnp.concatenate([normals(64), jnp.array([1.7e9, 0.0, 3e-30], jnp.float32)])
    x = jnp.repeat(constants[:, None], n, axis=1)
    params = fresh(layer, n)
    y_bar = normals(x.shape)
    y, _, x_bar = by_hand(layer, params, x, y_bar)
    auto = jax.jit(jax.grad(lambda x: jnp.sum(y_bar * layer.forward(params, x)[0])))(x)
    _, (_, moments) = jax.jit(layer.forward)(params, x)  # compiled alone, rounding leaves other crumbs
    assert not any(np.any(a) for a in (y, x_bar, auto, moments.variance))


@pytest.mark.parametrize("epsilon", [0, 1e-5])
def test_a_constant_feature_in_batch_norm(epsilon):
    """A column of time stamps: the usual formulas make noise of size 1 of it; here y = bias up to epsilon's share of an ulp."""
    layer = bp.batch_norm(epsilon=epsilon)
    x = jnp.full((1000, 2), 1.7e9, jnp.float32) + jnp.array([[0, 1]]) * normals((1000, 2)) * 1e7
    y, found, x_bar = by_hand(layer, fresh(layer, 2), x, normals((1000, 2), seed=1))
    assert np.abs(y[:, 0]).max() <= (0 if epsilon == 0 else 1e-2)
    assert np.isfinite(x_bar).all()
    assert found.population.variance.value[0] == pytest.approx(0.9)
    if epsilon == 0:
        assert not np.any(x_bar[:, 0])


@pytest.mark.parametrize("layer", [bp.layer_norm(), bp.layer_norm(epsilon=0), bp.batch_norm()])
def test_hessian_vector_products(layer):
    """jvp through forward and backward together equals autodiff's, in float64."""
    params = fresh(layer, 4, jnp.float64)
    x, v = normals((5, 4), jnp.float64), normals((5, 4), jnp.float64, seed=1)
    value = lambda x: -jnp.sum(jnp.cos(3 * layer.forward(params, x, train=True)[0])) / 3

    def grad(x):
        y, residuals = layer.forward(params, x, train=True)
        return layer.backward(params, residuals, jnp.sin(3 * y))[1]

    hand, auto = jax.jit(lambda: [jax.jvp(f, (x,), (v,))[1] for f in (grad, jax.grad(value))])()
    np.testing.assert_allclose(hand, auto, rtol=0, atol=1e-12 * np.abs(auto).max())


def test_layer_norm_keeps_x_and_three_numbers_a_row():
    layer = bp.layer_norm()
    _, residuals = jax.eval_shape(layer.forward, fresh(layer, 64), jnp.zeros((8, 10, 64), jnp.bfloat16))
    kept = [(r.shape, r.dtype) for r in jax.tree.leaves(residuals)]
    assert kept == [((8, 10, 64), jnp.bfloat16), *3 * [((8, 10, 1), jnp.float32)]]


def test_training_moves_the_population_by_statistics():
    """momentum old + (1 - momentum) batch, unbiased variance, over all axes but the last."""
    layer = bp.batch_norm(momentum=0.75)
    old = tree.Population(mean=jnp.array([1.0, -2.0]), variance=jnp.array([3.0, 0.5]))
    params = fresh(layer, 2, jnp.float64)._replace(population=old)
    x = normals((4, 5, 2), jnp.float64, mean=2)
    _, found, _ = by_hand(layer, params, x, x)
    flat = np.asarray(x).reshape(-1, 2)
    np.testing.assert_allclose(found.population.mean.value, 0.75 * old.mean + 0.25 * flat.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.population.variance.value, 0.75 * old.variance + 0.25 * flat.var(0, ddof=1), rtol=1e-14)
    assert all(isinstance(leaf, factors.Statistic) and not np.any(leaf.total()) for leaf in found.population)
    assert all(isinstance(leaf, factors.Whole) for leaf in (found.gain, found.bias))


@pytest.mark.parametrize("train", [True, False])
def test_population_has_no_gradient_by_either_way_and_evaluation_leaves_it(train):
    layer = bp.batch_norm()
    population = tree.Population(mean=jnp.array([0.5, -1.0]), variance=jnp.array([2.0, 0.25]))
    params = normalization.BatchNorm(gain=jnp.array([1.5, 0.5]), bias=jnp.array([0.1, 0.2]), population=population)
    x, y_bar = normals((6, 3, 2), jnp.float64), normals((6, 3, 2), jnp.float64, seed=1)
    _, found, x_bar = by_hand(layer, params, x, y_bar, train)
    auto, auto_x_bar = jax.vjp(lambda p, x: layer.forward(p, x, train=train)[0], params, x)[1](y_bar)
    hand = factors.total(params, found)
    for got, want in zip(jax.tree.leaves((hand, x_bar)), jax.tree.leaves((auto, auto_x_bar)), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((hand.population, auto.population)))
    moved = [not np.array_equal(leaf.value, old) for leaf, old in zip(found.population, population, strict=True)]
    assert moved == [train, train]


def test_evaluation_uses_the_population_and_has_shares_of_each_example():
    layer = bp.batch_norm(epsilon=0)
    population = tree.Population(mean=jnp.array([1.0]), variance=jnp.array([4.0]))
    params = fresh(layer, 1)._replace(population=population)
    y, found, x_bar = by_hand(layer, params, jnp.array([[5.0], [-1.0]]), jnp.array([[1.0], [2.0]]), train=False)
    assert y.tolist() == [[2.0], [-1.0]]
    assert x_bar.tolist() == [[0.5], [1.0]]
    assert found.gain.examples().tolist() == [[2.0], [-2.0]]
    assert layer(params, jnp.array([[5.0]])).tolist() == [[2.0]]  # one row is enough here


def test_residuals_tell_training_from_evaluation_by_structure():
    """So a forward and a backward compiled apart agree on the mode, with no traced boolean among the residuals."""
    layer, x = bp.batch_norm(), normals((4, 2))
    params = fresh(layer, 2)
    for train in (True, False):
        _, residuals = jax.jit(layer.forward, static_argnames="train")(params, x, train=train)
        _, x_bar = jax.jit(layer.backward)(params, residuals, x)
        np.testing.assert_allclose(x_bar, by_hand(layer, params, x, x, train)[2], atol=1e-6)
        assert len(jax.tree.leaves(residuals)) == (4 if train else 1)


def test_trainable_masks_the_population():
    net = bp.serial(bp.dense(2), bp.batch_norm(), bp.dense(1))
    params, _ = net.init(jax.random.key(0), (3,))
    mask = tree.trainable(params)
    assert mask[1] == normalization.BatchNorm(gain=True, bias=True, population=tree.Population(mean=False, variance=False))
    assert all(jax.tree.leaves((mask[0], mask[2])))


def test_the_population_of_half_precision_is_float32():
    """0.9 old + 0.1 new near 100 in bfloat16 would stop half a unit away: a tenth of a step is below half an ulp."""
    layer = bp.batch_norm(gain=False, bias=False)
    params = fresh(layer, 1, jnp.bfloat16)
    x = jnp.full((4, 1), 100, jnp.bfloat16) + jnp.array([[0], [1], [2], [1]], jnp.bfloat16)

    def step(population, _):
        _, found, _ = by_hand(layer, params._replace(population=population), x, x)
        return tree.Population(*(leaf.value for leaf in found.population)), None

    population, _ = jax.lax.scan(step, params.population, length=200)
    assert population.mean.dtype == jnp.float32
    assert population.mean[0] == pytest.approx(101, abs=1e-3)
    assert population.variance[0] == pytest.approx(2 / 3, abs=1e-3)


def test_one_value_a_feature_has_no_variance():
    layer = bp.batch_norm()
    params = fresh(layer, 3)
    with pytest.raises(ValueError, match="at least 2 values a feature in training, got 1"):
        layer(params, jnp.zeros((1, 3)), train=True)
    with pytest.raises(ValueError, match="train=False"):
        jax.vmap(lambda x: layer.forward(params, x[None], train=True)[0])(jnp.zeros((4, 3)))
    assert layer(params, jnp.zeros((1, 2, 3)), train=True).shape == (1, 2, 3)


def test_whole_refuses_shares_of_examples():
    layer = bp.batch_norm()
    _, found, _ = by_hand(layer, fresh(layer, 2), normals((4, 2)), normals((4, 2)))
    with pytest.raises(ValueError, match="mixes"):
        found.gain.sq_norms()


@pytest.mark.parametrize("build", [bp.layer_norm, bp.batch_norm])
def test_gain_and_bias_are_optional(build):
    layer = build(gain=False, bias=False)
    params = fresh(layer, 3)
    assert (params.gain, params.bias) == (None, None)
    y, found, _ = by_hand(layer, params, normals((4, 3)), normals((4, 3)))
    assert (found.gain, found.bias) == (None, None)
    other = build(gain_init=bp.initializers.constant(2.0), bias_init=bp.initializers.constant(-1.0))
    np.testing.assert_allclose(by_hand(other, fresh(other, 3), normals((4, 3)), y)[0], 2 * y - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: bp.layer_norm(epsilon=-1e-5), ValueError, "0 or positive"),
        (lambda: bp.layer_norm(epsilon=float("nan")), ValueError, "0 or positive"),
        (lambda: bp.layer_norm(epsilon="small"), TypeError, "a number"),
        (lambda: bp.batch_norm(epsilon=float("inf")), ValueError, "0 or positive"),
        (lambda: bp.batch_norm(momentum=1), ValueError, r"\[0, 1\)"),
        (lambda: bp.batch_norm(momentum=-0.1), ValueError, r"\[0, 1\)"),
        (lambda: bp.batch_norm(momentum=True), TypeError, "a number"),
        (lambda: bp.layer_norm().init(jax.random.key(0), ()), ValueError, "at least one feature"),
        (lambda: bp.batch_norm().init(jax.random.key(0), (4, 0)), ValueError, "at least one feature"),
        (lambda: bp.layer_norm().init(jax.random.key(0), jax.ShapeDtypeStruct((3,), jnp.int32)), TypeError, "floating"),
        (lambda: bp.batch_norm()(fresh(bp.batch_norm(), 3), jnp.zeros((2, 4))), ValueError, "should be"),
    ],
)
def test_bad_input(build, error, says):
    with pytest.raises(error, match=says):
        build()
