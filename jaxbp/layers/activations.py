"""Activations: y = f(x) elementwise, x_bar = y_bar f'(x).

Every layer here takes any shape in any floating dtype, keeps both, and has no params. The residual is y where f' can be read
from it without losing digits (y is also what the next layer keeps), else x. In float32 f' is within 16 ULP for |x| <= 100
wherever it is a normal number, and never flushed to 0 there; formulas in `jaxbp.ops`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp import inputs, ops
from jaxbp.contracts import Layer, constructor, elementwise


def identity_forward(x: jax.Array) -> tuple[jax.Array, tuple]:
    """y = x. No residual."""
    return x, ()


def identity_backward(residuals: tuple, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar."""
    return y_bar


@constructor
def identity() -> Layer:
    """y = x; x_bar = y_bar. No residual."""
    return elementwise("identity", identity_forward, identity_backward)


# --- sigmoid and its kin


def sigmoid_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = 1 / (1 + e^-x). Residual: x, because y near 1 has lost the digits of 1 - y."""
    return ops.sigmoid_value(x), x


def sigmoid_backward(x: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar sigmoid(x) sigmoid(-x)."""
    return y_bar * ops.sigmoid_slope(x)


@constructor
def sigmoid() -> Layer:
    """y = 1 / (1 + e^-x); y' = sigmoid(x) sigmoid(-x). Residual: x.

    >>> import jax, jax.numpy as jnp, jaxbp
    >>> layer, x = jaxbp.sigmoid(), jnp.array([20.0])
    >>> y, residuals = layer.forward((), x)
    >>> layer.backward((), residuals, jnp.ones(1))[1], jax.vjp(jax.nn.sigmoid, x)[1](jnp.ones(1))[0]
    (Array([2.0611537e-09], dtype=float32), Array([0.], dtype=float32))

    Source: Nielsen, Neural Networks and Deep Learning, eq. 3.
    """
    return elementwise("sigmoid", sigmoid_forward, sigmoid_backward)


def tanh_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = tanh(x). Residual: x, because y near +-1 has lost the digits of 1 - y^2."""
    return ops.tanh_value(x), x


def tanh_backward(x: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar / cosh(x)^2."""
    return y_bar * ops.tanh_slope(x)


@constructor
def tanh() -> Layer:
    """y = tanh(x); y' = 1 / cosh(x)^2. Residual: x."""
    return elementwise("tanh", tanh_forward, tanh_backward)


def softplus_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = log(1 + e^x). Residual: y."""
    y = ops.softplus_value(x)
    return y, y


def softplus_backward(y: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar sigmoid(x), and sigmoid(x) = 1 - e^-y."""
    return y_bar * ops.softplus_slope_of_value(y)


@constructor
def softplus() -> Layer:
    """y = log(1 + e^x); y' = sigmoid(x) = 1 - e^-y. Residual: y."""
    return elementwise("softplus", softplus_forward, softplus_backward)


def softsign_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = x / (1 + |x|). Residual: x, because y near +-1 has lost the digits of 1 - |y|."""
    return ops.softsign_value(x), x


def softsign_backward(x: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar / (1 + |x|)^2."""
    return y_bar * ops.softsign_slope(x)


@constructor
def softsign() -> Layer:
    """y = x / (1 + |x|); y' = 1 / (1 + |x|)^2. Residual: x. y'' at 0 is that of the right, -2."""
    return elementwise("softsign", softsign_forward, softsign_backward)


# --- rectifiers


def relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = max(x, 0). Residual: y, which is 0 where x <= 0."""
    y = ops.relu_value(x)
    return y, y


def relu_backward(y: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar where x > 0, else 0."""
    return jnp.where(y <= 0, 0, y_bar)


@constructor
def relu() -> Layer:
    """y = max(x, 0); y' = 1 for x > 0, 0 for x <= 0. Residual: y. A NaN in x goes through."""
    return elementwise("relu", relu_forward, relu_backward)


def leaky_relu_forward(x: jax.Array, *, slope: float) -> tuple[jax.Array, jax.Array]:
    """y = x where x > 0, else slope x. Residual: y, which has the sign of x (slope >= 0)."""
    y = ops.leaky_relu_value(x, slope)
    return y, y


def leaky_relu_backward(y: jax.Array, y_bar: jax.Array, *, slope: float) -> jax.Array:
    """x_bar = y_bar where x > 0, else slope y_bar."""
    return jnp.where(y <= 0, slope * y_bar, y_bar)


@constructor
def leaky_relu(slope: float = 0.01) -> Layer:
    """y = x for x > 0, slope x for x <= 0; y' = 1 or slope (at 0: slope). Residual: y.

    Raises: TypeError unless slope is a number, ValueError unless it is finite and at least 0.
    """
    _require_finite("leaky_relu", "slope", slope)
    if slope < 0:
        raise ValueError(f"leaky_relu: slope has to be at least 0, got {slope!r}")
    forward = functools.partial(leaky_relu_forward, slope=slope)
    return elementwise("leaky_relu", forward, functools.partial(leaky_relu_backward, slope=slope))


def elu_forward(x: jax.Array, *, alpha: float) -> tuple[jax.Array, jax.Array]:
    """y = x where x > 0, else alpha (e^x - 1). Residual: x, because y near -alpha has lost the digits of alpha e^x."""
    return ops.elu_value(x, alpha), x


def elu_backward(x: jax.Array, y_bar: jax.Array, *, alpha: float) -> jax.Array:
    """x_bar = y_bar where x > 0, else alpha e^x y_bar."""
    return y_bar * ops.elu_slope(x, alpha)


@constructor
def elu(alpha: float = 1.0) -> Layer:
    """y = x for x > 0, alpha (e^x - 1) for x <= 0; y' = 1 or alpha e^x (at 0: alpha). Residual: x.

    y'' at 0 is that of the left, alpha.
    Raises: TypeError unless alpha is a number, ValueError unless it is finite and positive.
    Source: Clevert, Unterthiner and Hochreiter 2016, arXiv 1511.07289.
    """
    _require_finite("elu", "alpha", alpha)
    inputs.require_positive("elu", "alpha", alpha, whole=False)
    return elementwise("elu", functools.partial(elu_forward, alpha=alpha), functools.partial(elu_backward, alpha=alpha))


def selu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = l x where x > 0, else l a (e^x - 1); l = 1.0507, a = 1.6733. Residual: x, as of elu."""
    return ops.selu_value(x), x


def selu_backward(x: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = l y_bar where x > 0, else l a e^x y_bar."""
    return y_bar * ops.selu_slope(x)


@constructor
def selu() -> Layer:
    """y = l x for x > 0, l a (e^x - 1) for x <= 0; l = 1.0507, a = 1.6733; y' = l or l a e^x (at 0: l a). Residual: x.

    Source: Klambauer, Unterthiner, Mayr and Hochreiter 2017, arXiv 1706.02515.
    """
    return elementwise("selu", selu_forward, selu_backward)


def hard_tanh_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = x held between -1 and 1. Residual: y, which is at a bound where x is at or beyond it."""
    y = ops.hard_tanh_value(x)
    return y, y


def hard_tanh_backward(y: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar where -1 < x < 1, else 0."""
    return jnp.where(jnp.abs(y) >= 1, 0, y_bar)


@constructor
def hard_tanh() -> Layer:
    """y = min(max(x, -1), 1); y' = 1 for -1 < x < 1, 0 elsewhere and at the bounds. Residual: y. A NaN in x goes through."""
    return elementwise("hard_tanh", hard_tanh_forward, hard_tanh_backward)


# --- gates: y = x P(x)


def silu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = x sigmoid(x). Residual: x, because y takes the values below 0 twice."""
    return ops.silu_value(x), x


def silu_backward(x: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar sigmoid(x) (1 + x sigmoid(-x))."""
    return y_bar * ops.silu_slope(x)


@constructor
def silu() -> Layer:
    """y = x sigmoid(x) (swish); y' = sigmoid(x) (1 + x sigmoid(-x)). Residual: x.

    y' in float32 for -1.6 < x < -0.9, where it crosses 0: within 1 ULP of 1.
    """
    return elementwise("silu", silu_forward, silu_backward)


def gelu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = x Phi(x). Residual: x, because y takes the values below 0 twice."""
    return ops.gelu_value(x), x


def gelu_backward(x: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar (Phi(x) + x phi(x))."""
    return y_bar * ops.gelu_slope(x)


def gelu_tanh_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). Residual: x, as of the exact form."""
    return ops.gelu_tanh_value(x), x


def gelu_tanh_backward(x: jax.Array, y_bar: jax.Array) -> jax.Array:
    """x_bar = y_bar sigmoid(2u) (1 + 2 x u' sigmoid(-2u))."""
    return y_bar * ops.gelu_tanh_slope(x)


@constructor
def gelu(*, approximate: bool = False) -> Layer:
    """y = x Phi(x), Phi the distribution function of the standard normal; y' = Phi(x) + x phi(x). Residual: x.

    approximate=True takes the tanh form x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as older language models do.
    y' in float32, both forms, for -1.1 < x < -0.45, where it crosses 0: within 1 ULP of 1.

    Raises: TypeError unless approximate is a bool.
    Source: Hendrycks and Gimpel 2016, arXiv 1606.08415.
    """
    if not isinstance(approximate, bool):
        raise TypeError(f"gelu: approximate is True (the tanh form) or False (exact), got {approximate!r}")
    if approximate:
        return elementwise("gelu_tanh", gelu_tanh_forward, gelu_tanh_backward)
    return elementwise("gelu", gelu_forward, gelu_backward)


def _require_finite(name: str, what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: {what} is a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: {what} has to be finite, got {value!r}")
