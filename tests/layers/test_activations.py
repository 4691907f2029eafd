"""Activation layers: the slope that a backward applies, its digits, its kinks, its derivative, and what is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scalars import SMOOTH
from ulps import is_normal, sweep, ulp_errors

from jaxbp.layers import activations


LAYERS = {
    "sigmoid": activations.sigmoid(),
    "tanh": activations.tanh(),
    "softplus": activations.softplus(),
    "softsign": activations.softsign(),
    "elu": activations.elu(),
    "selu": activations.selu(),
    "silu": activations.silu(),
    "gelu": activations.gelu(),
    "gelu_tanh": activations.gelu(approximate=True),
    "relu": activations.relu(),
    "leaky_relu": activations.leaky_relu(0.25),
    "hard_tanh": activations.hard_tanh(),
    "identity": activations.identity(),
}
INTEGERS = jax.ShapeDtypeStruct((3,), jnp.int32)
KINKS = [-1.0, -0.0, 0.0, 1.0]

every_smooth = pytest.mark.parametrize("case", SMOOTH, ids=[case.name for case in SMOOTH])
every_layer = pytest.mark.parametrize("name", LAYERS)


def backward(layer, x, y_bar):
    """x_bar through forward and backward together, as a training step fuses them."""
    _, residuals = layer.forward((), x)
    return layer.backward((), residuals, y_bar)[1]


def slope(layer):
    return lambda x: backward(layer, x, jnp.ones_like(x))


@every_smooth
def test_float32_x_bar_is_within_16_ulp_and_none_is_flushed(case):
    x = sweep(jnp.float32)
    truth, near = case.slope(x), (x > case.root[0]) & (x < case.root[1])
    got = np.asarray(jax.jit(slope(LAYERS[case.name]))(jnp.asarray(x, jnp.float32)))
    assert ulp_errors(got, truth, jnp.float32)[~near].max() <= 16
    assert ulp_errors(got[near], truth[near], jnp.float32, 1.0).max(initial=0) <= 1
    assert np.all(got[is_normal(truth, jnp.float32) & ~near] != 0)


@every_smooth
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_x_bar_is_within_2_ulp(case, dtype):
    x = sweep(dtype)
    truth, near = case.slope(x), (x > case.root[0]) & (x < case.root[1])
    got = np.asarray(jax.jit(slope(LAYERS[case.name]))(jnp.asarray(x, dtype)).astype(jnp.float64))
    assert ulp_errors(got, truth, dtype)[~near].max() <= 2
    assert np.all(got[is_normal(truth, dtype) & ~near] != 0)


def test_autodiff_of_the_sigmoid_layer_fails_the_same_bound():
    """The hand-written rule, not the forward, is what keeps the digits."""
    x = sweep(jnp.float32)
    for name in ("sigmoid", "tanh"):
        (case,) = [case for case in SMOOTH if case.name == name]
        automatic = jax.jit(lambda x, layer=LAYERS[name]: jax.vjp(lambda x: layer.forward((), x)[0], x)[1](jnp.ones_like(x))[0])
        got = np.asarray(automatic(jnp.asarray(x, jnp.float32)))
        assert np.sum((got == 0) & is_normal(case.slope(x), jnp.float32)) > 10_000


@every_layer
def test_agrees_with_autodiff_at_kinks_and_zero_in_float64(name):
    layer = LAYERS[name]
    x = jnp.asarray([*KINKS, 1e-300, -1e-300, 5e-16, -5e-16, 0.7, -0.7, 30.0, -30.0])
    y_bar = jnp.linspace(-2, 3, x.size)
    both = jax.jit(lambda x: (backward(layer, x, y_bar), jax.vjp(lambda x: layer.forward((), x)[0], x)[1](y_bar)[0]))
    by_hand, automatic = both(x)
    np.testing.assert_allclose(by_hand, automatic, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "at_kinks"),  # the slope at -1, -0, 0 and 1
    [("relu", [0, 0, 0, 1]), ("leaky_relu", [0.25, 0.25, 0.25, 1]), ("hard_tanh", [0, 1, 1, 0]), ("identity", [1, 1, 1, 1])],
)
def test_slopes_at_kinks(name, at_kinks):
    assert slope(LAYERS[name])(jnp.asarray(KINKS)).tolist() == at_kinks


def test_elu_kinks_take_the_left_slope():
    assert slope(activations.elu(3.0))(jnp.asarray([-0.0, 0.0, 1e-300])).tolist() == [3, 3, 1]


@every_smooth
def test_derivative_of_the_backward_in_float64(case):
    """A Hessian-vector product goes through forward and backward; beside 0 and at it the sides must not cancel."""
    x = np.concatenate([[-1e-3, -1e-12, -1e-300, -0.0, 0.0, 1e-300, 1e-12, 1e-3], np.linspace(-9, 9, 73), [-500.0, 500.0]])
    x_dot, y_bar = np.full_like(x, 0.5), np.full_like(x, 3.0)
    hvp = jax.jit(lambda x: jax.jvp(lambda x: backward(LAYERS[case.name], x, y_bar), (x,), (x_dot,))[1])
    np.testing.assert_allclose(hvp(jnp.asarray(x)), x_dot * y_bar * case.second(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "hard_tanh", "softplus"])
def test_keeps_y_where_the_slope_can_be_read_from_it(name):
    """y is what the next layer keeps anyway, so these cost no memory of their own."""
    y, residuals = LAYERS[name].forward((), jnp.linspace(-2, 2, 5))
    assert residuals is y


def test_keeps_x_or_nothing_elsewhere():
    x = jnp.linspace(-2, 2, 5)
    for name in ("sigmoid", "tanh", "softsign", "elu", "selu", "silu", "gelu", "gelu_tanh"):
        assert LAYERS[name].forward((), x)[1] is x
    assert LAYERS["identity"].forward((), x)[1] == ()


def test_leaky_relu_with_slope_zero_is_relu():
    x, y_bar = jnp.asarray([-3.0, -1e-300, 0.0, 1e-300, 2.0]), jnp.arange(1.0, 6.0)
    assert backward(activations.leaky_relu(0.0), x, y_bar).tolist() == backward(activations.relu(), x, y_bar).tolist()


@every_layer
def test_nan_goes_through(name):
    layer = LAYERS[name]
    assert np.isnan(layer.forward((), jnp.asarray([jnp.nan]))[0])[0]
    assert np.isnan(backward(layer, jnp.full(1, 0.5), jnp.asarray([jnp.nan])))[0]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: activations.elu(0), ValueError, "elu: alpha has to be positive, got 0"),
        (lambda: activations.elu(-1.0), ValueError, "elu: alpha has to be positive, got -1.0"),
        (lambda: activations.elu(float("inf")), ValueError, "elu: alpha has to be finite, got inf"),
        (lambda: activations.elu("1"), TypeError, "elu: alpha is a number, got '1'"),
        (lambda: activations.leaky_relu(-0.1), ValueError, "leaky_relu: slope has to be at least 0, got -0.1"),
        (lambda: activations.leaky_relu(float("nan")), ValueError, "leaky_relu: slope has to be finite, got nan"),
        (lambda: activations.leaky_relu(True), TypeError, "leaky_relu: slope is a number, got True"),
        (lambda: activations.gelu(approximate="tanh"), TypeError, "gelu: approximate is True .* got 'tanh'"),
        (lambda: activations.sigmoid(3), TypeError, "sigmoid: too many positional arguments"),
        (
            lambda: activations.relu().init(jax.random.key(0), INTEGERS),
            TypeError,
            "relu: takes floating",
        ),
    ],
)
def test_bad_configuration_says_what_is_wrong(build, error, message):
    with pytest.raises(error, match=message):
        build()
