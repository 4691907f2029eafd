"""Values and slopes of jaxbp.ops against float64 truth, in units in the last place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scalars import SMOOTH
from scipy import special
from ulps import is_normal, sweep, ulp_errors

from jaxbp import ops
from jaxbp.ops import gates


NAMES = [*[case.name for case in SMOOTH], "relu", "leaky_relu", "hard_tanh"]
NARROW = (jnp.bfloat16, jnp.float16)
EVERY_DTYPE = (jnp.float64, jnp.float32, *NARROW)

every_scalar = pytest.mark.parametrize("case", SMOOTH, ids=[case.name for case in SMOOTH])
every_name = pytest.mark.parametrize("name", NAMES)


def value_and_slope(name):
    return getattr(ops, f"{name}_value"), getattr(ops, f"{name}_slope")


def by_root(case, x):
    """True where x lies around the root of the slope, where errors count in ulps of 1."""
    return (x > case.root[0]) & (x < case.root[1])


def functions_and_truths(case, x):
    """(function, float64 truth, where errors count in ulps of 1) of the value and of the slope."""
    value, slope = value_and_slope(case.name)
    return [(value, case.value(x), np.zeros(x.shape, bool)), (slope, case.slope(x), by_root(case, x))]


def plain(fun):
    return fun


# --- accuracy


@every_scalar
@pytest.mark.parametrize("compiled", [plain, jax.jit])
def test_float32_slopes_are_within_16_ulp_and_none_is_flushed(case, compiled):
    x = sweep(jnp.float32)
    truth, near = case.slope(x), by_root(case, x)
    got = np.asarray(compiled(value_and_slope(case.name)[1])(jnp.asarray(x, jnp.float32)))
    assert ulp_errors(got, truth, jnp.float32)[~near].max() <= 16
    assert ulp_errors(got[near], truth[near], jnp.float32, 1.0).max(initial=0) <= 1
    assert np.all(got[is_normal(truth, jnp.float32) & ~near] != 0)


@every_scalar
def test_float32_values_are_within_8_ulp(case):
    x = sweep(jnp.float32)
    got = jax.jit(value_and_slope(case.name)[0])(jnp.asarray(x, jnp.float32))
    assert ulp_errors(got, case.value(x), jnp.float32).max() <= 8


@every_scalar
def test_the_usual_formula_fails_the_same_bound(case):
    """So the sweep above can fail: the automatic derivative of every one of these is off by more than 16 ULP somewhere."""
    x = sweep(jnp.float32)
    usual = jax.jit(lambda x: jax.vjp(case.usual, x)[1](jnp.ones_like(x))[0])
    errors = ulp_errors(usual(jnp.asarray(x, jnp.float32)), case.slope(x), jnp.float32)
    assert errors[~by_root(case, x)].max() > 200


@every_scalar
@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_dtypes_are_rounded_once(case, dtype):
    x = sweep(dtype)
    for fun, truth, near in zip(
        value_and_slope(case.name), (case.value(x), case.slope(x)), (x != x, by_root(case, x)), strict=True
    ):
        got = jax.jit(fun)(jnp.asarray(x, dtype))
        assert got.dtype == dtype
        assert ulp_errors(got, truth, dtype)[~near].max() <= 0.51


@pytest.mark.parametrize("dtype", [jnp.float32, *NARROW])
def test_slope_of_softplus_from_its_rounded_value(dtype):
    x = sweep(dtype)
    got = jax.jit(ops.softplus_slope_of_value)(ops.softplus_value(jnp.asarray(x, dtype)))
    assert ulp_errors(got, special.expit(x), dtype).max() <= (16 if dtype == jnp.float32 else 2)


@every_scalar
def test_float64_values_and_slopes(case):
    x = sweep(jnp.float64, bound=30.0, points=3001)
    for fun, truth, near in zip(
        value_and_slope(case.name), (case.value(x), case.slope(x)), (x != x, by_root(case, x)), strict=True
    ):
        got = jax.jit(fun)(jnp.asarray(x))
        np.testing.assert_allclose(got[~near], truth[~near], rtol=1e-12, atol=1e-300)  # the truth is no better in the tails
        np.testing.assert_allclose(got[near], truth[near], atol=1e-15)


def test_mills_ratio_in_both_precisions():
    a = np.linspace(0, 40, 20_001)
    truth = np.sqrt(np.pi / 2) * special.erfcx(a / np.sqrt(2))
    np.testing.assert_allclose(gates._mills(jnp.asarray(a)), truth, rtol=2e-15)
    a = a.astype(np.float32).astype(np.float64)
    truth = np.sqrt(np.pi / 2) * special.erfcx(a / np.sqrt(2))
    assert ulp_errors(gates._mills(jnp.asarray(a, jnp.float32)), truth, jnp.float32).max() <= 5


@pytest.mark.parametrize("alpha", [1e-3, 1.7, 1e5])
def test_elu_of_any_alpha(alpha):
    """alpha e^x is a normal number beyond the x where e^x is flushed, or is none where e^x still is."""
    x = sweep(jnp.float32)
    x = x[np.abs(alpha * x) >= float(jnp.finfo(jnp.float32).tiny)]
    truth = np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))
    got = jax.jit(ops.elu_slope, static_argnums=1)(jnp.asarray(x, jnp.float32), alpha)
    assert ulp_errors(got, truth, jnp.float32).max() <= 16


# --- derivatives

NEAR_ZERO = np.array([-1e-3, -1e-8, -1e-15, -1e-300, -0.0, 0.0, 1e-300, 1e-15, 1e-8, 1e-3])
POINTS = np.concatenate([NEAR_ZERO, np.linspace(-12, 12, 193), [-60.0, -38.0, 38.0, 60.0, 700.0, -700.0]])


@every_name
def test_slope_is_the_derivative_of_value_in_float64(name):
    """Everywhere and at 0, and at +-1 where hard_tanh has its kinks: autodiff of the value takes the stated side."""
    value, slope = value_and_slope(name)
    x = jnp.asarray(np.concatenate([POINTS, [-1.0, 1.0]]))
    automatic, by_hand = jax.jit(lambda x: (jax.vmap(jax.grad(value))(x), slope(x)))(x)
    np.testing.assert_allclose(automatic, by_hand, rtol=0, atol=1e-14)


@every_scalar
def test_derivative_of_slope_in_float64(case):
    """Right beside 0 and at it: this is what |x| with a derivative of 0 at 0 would spoil."""
    slope = value_and_slope(case.name)[1]
    got = jax.jit(jax.vmap(jax.grad(slope)))(jnp.asarray(POINTS))
    np.testing.assert_allclose(got, case.second(POINTS), rtol=0, atol=2e-14)


def test_third_derivatives_at_zero():
    third = lambda slope: float(jax.jit(jax.grad(jax.grad(slope)))(0.0))
    assert third(ops.tanh_slope) == pytest.approx(-2, rel=1e-12)
    assert third(ops.sigmoid_slope) == pytest.approx(-1 / 8, rel=1e-12)
    assert third(ops.softplus_slope) == pytest.approx(0, abs=1e-15)
    assert third(ops.silu_slope) == pytest.approx(0, abs=1e-12)
    assert third(ops.gelu_slope) == pytest.approx(0, abs=1e-12)


def test_derivative_of_float32_slope_beside_zero():
    x = np.array([-1e-2, -1e-4, -1e-30, 0.0, 1e-30, 1e-4, 1e-2])
    for case in SMOOTH:
        got = jax.jit(jax.vmap(jax.grad(value_and_slope(case.name)[1])))(jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(got, case.second(x), rtol=0, atol=1e-6, err_msg=case.name)


# --- conventions


@every_name
@pytest.mark.parametrize("dtype", EVERY_DTYPE)
def test_nothing_is_nan_at_the_ends_of_the_range(name, dtype):
    value, slope = value_and_slope(name)
    largest = float(jnp.finfo(dtype).max)
    x = jnp.asarray([-jnp.inf, -largest, -largest / 4, largest / 4, largest, jnp.inf], dtype)
    found = jax.jit(lambda x: [f(x) for f in (value, slope, jax.vmap(jax.grad(value)), jax.vmap(jax.grad(slope)))])(x)
    for got in found:
        assert not np.any(np.isnan(np.asarray(got, np.float64))), got
        assert got.dtype == dtype
    assert np.all(np.isfinite(np.asarray(found[1], np.float64)))


LIMITS = {
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "softplus": (0, np.inf),
    "softsign": (-1, 1),
    "elu": (-1, np.inf),
    "selu": (-ops.SELU_SCALE * ops.SELU_ALPHA, np.inf),
    "silu": (0, np.inf),
    "gelu": (0, np.inf),
    "gelu_tanh": (0, np.inf),
    "relu": (0, np.inf),
    "leaky_relu": (-np.inf, np.inf),
    "hard_tanh": (-1, 1),
}


@every_name
def test_values_at_infinity_are_the_limits_and_nan_goes_through(name):
    value = jax.jit(value_and_slope(name)[0])
    np.testing.assert_allclose(value(jnp.asarray([-jnp.inf, jnp.inf])), LIMITS[name], rtol=1e-15)
    assert np.isnan(value(jnp.asarray(jnp.nan)))


@pytest.mark.parametrize(
    ("name", "x", "slope"),
    [
        ("relu", [-0.0, 0.0, 1e-30], [0, 0, 1]),
        ("leaky_relu", [-0.0, 0.0, 1e-30], [0.01, 0.01, 1]),
        ("hard_tanh", [-1, 1, -1 + 1e-15, 1 - 1e-15, 0], [0, 0, 1, 1, 1]),
        ("elu", [-0.0, 0.0, 1e-30], [1, 1, 1]),
        ("selu", [0.0, 1e-30], [ops.SELU_SCALE * ops.SELU_ALPHA, ops.SELU_SCALE]),
        ("softplus", [0.0], [0.5]),
        ("silu", [0.0], [0.5]),
        ("gelu", [0.0], [0.5]),
        ("softsign", [0.0], [1]),
        ("tanh", [0.0], [1]),
        ("sigmoid", [0.0], [0.25]),
    ],
)
def test_slopes_at_kinks_and_at_zero(name, x, slope):
    np.testing.assert_allclose(jax.jit(value_and_slope(name)[1])(jnp.asarray(x)), slope, rtol=1e-15)


@every_name
def test_made_of_primitives(name):
    """No custom rule inside, so that autodiff of a value is independent of the slope."""
    for fun in value_and_slope(name):
        assert "custom" not in str(jax.make_jaxpr(fun)(1.0))


def test_integers_are_refused_and_python_numbers_taken():
    with pytest.raises(TypeError, match="sigmoid_slope: takes floating-point inputs, got int"):
        ops.sigmoid_slope(jnp.arange(3))
    assert ops.sigmoid_slope(0.0) == 0.25
