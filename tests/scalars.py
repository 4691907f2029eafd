"""The scalar functions of jaxbp.ops in float64, by formulas that keep the digits there: the truth that float32 is held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from jaxbp import ops


class Scalar(NamedTuple):
    name: str  # in jaxbp.ops
    value: Callable  # float64 truth
    slope: Callable
    second: Callable | None  # derivative of the slope, from the right at 0 where the sides differ
    usual: Callable  # how the function is usually written in JAX
    root: tuple[float, float] = (0.0, 0.0)  # the open interval around the root of the slope


def phi(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def gelu_slope(x):
    a = np.abs(x)
    tail = phi(a) * (np.sqrt(np.pi / 2) * special.erfcx(a / np.sqrt(2)) - a)
    return np.where(x >= 0, 1 - tail, tail)


def gate(u, u_1, u_2):
    """Value, slope and second derivative of x sigmoid(u(x)) from u, u' and u''."""
    s, t = special.expit, lambda x: special.expit(-u(x))
    value = lambda x: x * s(u(x))
    slope = lambda x: s(u(x)) * (1 + x * u_1(x) * t(x))
    second = lambda x: s(u(x)) * t(x) * (2 * u_1(x) + x * u_2(x) + x * u_1(x) ** 2 * (t(x) - s(u(x))))
    return value, slope, second


def elu(alpha, scale):
    below = lambda x: np.exp(np.minimum(x, 0))
    value = lambda x: scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    slope = lambda x: scale * np.where(x > 0, 1, alpha * below(x))
    return value, slope, lambda x: scale * np.where(x > 0, 0, alpha * below(x))


C, K = np.sqrt(2 / np.pi), 0.044715
sigmoid_slope = lambda x: special.expit(x) * special.expit(-x)
one, zero = np.ones_like, np.zeros_like

SMOOTH = [
    Scalar(
        "sigmoid", special.expit, sigmoid_slope, lambda x: -sigmoid_slope(x) * np.tanh(x / 2), lambda x: 1 / (1 + jnp.exp(-x))
    ),
    Scalar("tanh", np.tanh, lambda x: np.cosh(x) ** -2.0, lambda x: -2 * np.tanh(x) * np.cosh(x) ** -2.0, jnp.tanh),
    Scalar(
        "softplus",
        lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
        special.expit,
        sigmoid_slope,
        lambda x: jnp.log(1 + jnp.exp(x)),
    ),
    Scalar(
        "softsign",
        lambda x: x / (1 + np.abs(x)),
        lambda x: (1 + np.abs(x)) ** -2.0,
        lambda x: np.where(x >= 0, -2, 2) * (1 + np.abs(x)) ** -3.0,
        lambda x: x / (1 + jnp.abs(x)),
    ),
    Scalar("elu", *elu(1.0, 1.0), jax.nn.elu),
    Scalar("selu", *elu(ops.SELU_ALPHA, ops.SELU_SCALE), jax.nn.selu),
    Scalar("silu", *gate(lambda x: x, one, zero), jax.nn.silu, (-1.6, -0.9)),
    Scalar(
        "gelu",
        lambda x: x * special.ndtr(x),
        gelu_slope,
        lambda x: phi(x) * (2 - x * x),
        lambda x: jax.nn.gelu(x, approximate=False),
        (-1.1, -0.45),
    ),
    Scalar(
        "gelu_tanh",
        *gate(lambda x: 2 * C * (x + K * x**3), lambda x: 2 * C * (1 + 3 * K * x * x), lambda x: 12 * C * K * x),
        lambda x: jax.nn.gelu(x, approximate=True),
        (-1.1, -0.45),
    ),
]
