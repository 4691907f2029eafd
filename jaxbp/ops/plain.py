"""Plain values and slopes: what the forwards of layers are made of, without any rule of their own.

    sigmoid_value(x)  the function         sigmoid_slope(x)  its derivative

Differences of nearly equal numbers are rewritten, and no factor underflows before its product does (XLA flushes numbers
below 1.2e-38 to zero in float32). In float32 for |x| <= 100, wherever the true number is normal, values are within 8 ULP and
slopes within 16, those of the gates (silu, gelu) within 1 ULP of 1 near their root. Narrower inputs are worked on in float32
and rounded once. NaN goes through values; values at +-inf are the limits. All are made of primitives, which JAX can
differentiate; the bare names (`sigmoid`, ...) belong to the functions that carry these slopes as their rule, in `entries`.

Three habits recur. |x| is `where(x >= 0, x, -x)`: its derivative at 0 is 1 by its own words (that of `jnp.abs` is 1 as well in
JAX 0.10, where it was 0 as long as its rule was sign(x)), and whatever goes beside it asks x >= 0 too, so that an even smooth
function of |x| has its right-hand derivatives at 0, which are the true ones.
An exponential that may underflow before its factor is applied is multiplied in as two halves, h (h c). And where the square
of an exponential is needed, d = 2 e^-x is squared: XLA would turn e^-x e^-x into a second exponential, the dearest part.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import inputs
from jaxbp.factors import at_least_float32


_F = TypeVar("_F", bound=Callable)


def rounded_once(rule: _F) -> _F:
    """`rule` in float32 where x is narrower, its result rounded once to the dtype of x."""

    @functools.wraps(rule)
    def run(x: Any, *args: Any, **kwargs: Any) -> jax.Array:
        x = jnp.asarray(x)
        inputs.require_floating(rule.__name__, x)
        return rule(x.astype(at_least_float32(x)), *args, **kwargs).astype(x.dtype)

    return run  # type: ignore[return-value]


def modulus(x: jax.Array) -> jax.Array:
    """|x| with derivative 1 at 0."""
    return jnp.where(x >= 0, x, -x)


def positive_part(x: jax.Array) -> jax.Array:
    """max(x, 0) with derivative 1 at 0."""
    return jnp.where(x >= 0, x, 0)


# --- sigmoid and its kin


@rounded_once
def sigmoid_value(x: jax.Array) -> jax.Array:
    """1 / (1 + e^-x)."""
    return lax.logistic(x)


@rounded_once
def sigmoid_slope(x: jax.Array) -> jax.Array:
    """sigmoid(x) sigmoid(-x) = e / (1 + e)^2, e = e^-|x|. The form y (1 - y) is 0 from x = 17 in float32."""
    e = jnp.exp(-modulus(x))
    return e / ((1 + e) * (1 + e))


@rounded_once
def tanh_value(x: jax.Array) -> jax.Array:
    """(e^x - e^-x) / (e^x + e^-x)."""
    return lax.tanh(x)


@rounded_once
def tanh_slope(x: jax.Array) -> jax.Array:
    """1 / cosh(x)^2 = (2e / (1 + e^2))^2, e = e^-|x|. The form 1 - y^2 is 0 from |x| = 9 in float32."""
    d = 2 * jnp.exp(-modulus(x))
    sech = 4 * d / (4 + d * d)
    return sech * sech


@rounded_once
def softplus_value(x: jax.Array) -> jax.Array:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    return positive_part(x) + jnp.log1p(jnp.exp(-modulus(x)))


@rounded_once
def softplus_slope(x: jax.Array) -> jax.Array:
    """sigmoid(x)."""
    return lax.logistic(x)


@rounded_once
def softplus_slope_of_value(y: jax.Array) -> jax.Array:
    """sigmoid(x) = 1 - e^-y from y = softplus(x)."""
    return -jnp.expm1(-y)


@rounded_once
def softsign_value(x: jax.Array) -> jax.Array:
    """x / (1 + |x|), +-1 at +-inf."""
    largest = float(jnp.finfo(x.dtype).max)
    x = jnp.clip(x, -largest, largest)  # not inf / inf
    return x / (1 + modulus(x))


@rounded_once
def softsign_slope(x: jax.Array) -> jax.Array:
    """1 / (1 + |x|)^2. The form (1 - |y|)^2 loses the digits of 1 - |y|."""
    reciprocal = 1 / (1 + modulus(x))
    return reciprocal * reciprocal


# --- rectifiers: the branch of x <= 0 holds 0, and a NaN goes through


@rounded_once
def relu_value(x: jax.Array) -> jax.Array:
    """max(x, 0)."""
    return jnp.where(x <= 0, 0, x)


@rounded_once
def relu_slope(x: jax.Array) -> jax.Array:
    """1 for x > 0, 0 for x <= 0; the same of relu(x) as of x."""
    return jnp.where(x <= 0, jnp.zeros_like(x), 1)


@rounded_once
def leaky_relu_value(x: jax.Array, slope: float = 0.01) -> jax.Array:
    """x for x > 0, slope x for x <= 0."""
    return jnp.where(x <= 0, slope * x, x)


@rounded_once
def leaky_relu_slope(x: jax.Array, slope: float = 0.01) -> jax.Array:
    """1 for x > 0, slope for x <= 0; with slope >= 0 the same of leaky_relu(x) as of x."""
    return jnp.where(x <= 0, jnp.full_like(x, slope), 1)


@rounded_once
def elu_value(x: jax.Array, alpha: float = 1.0, scale: float = 1.0) -> jax.Array:
    """scale x for x > 0, scale alpha (e^x - 1) for x <= 0."""
    below = jnp.where(x <= 0, x, 0)  # keeps e^x finite in the branch that is not taken
    return jnp.where(x <= 0, scale * alpha * jnp.expm1(below), scale * x)


@rounded_once
def elu_slope(x: jax.Array, alpha: float = 1.0, scale: float = 1.0) -> jax.Array:
    """scale for x > 0, scale alpha e^x for x <= 0. e^x is flushed where alpha e^x may be normal, so it comes in halves."""
    half = jnp.exp(jnp.where(x <= 0, x, 0) / 2)
    return jnp.where(x <= 0, scale * alpha * half * half, scale)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848  # fixed point at mean 0 and variance 1


@rounded_once
def selu_value(x: jax.Array) -> jax.Array:
    """elu(x) times 1.0507..., alpha = 1.6732..."""
    return elu_value(x, SELU_ALPHA, SELU_SCALE)


@rounded_once
def selu_slope(x: jax.Array) -> jax.Array:
    """1.0507 for x > 0, 1.7581 e^x for x <= 0."""
    return elu_slope(x, SELU_ALPHA, SELU_SCALE)


@rounded_once
def hard_tanh_value(x: jax.Array) -> jax.Array:
    """x held between -1 and 1."""
    return jnp.where(x >= 1, 1, jnp.where(x <= -1, -1, x))


@rounded_once
def hard_tanh_slope(x: jax.Array) -> jax.Array:
    """1 for -1 < x < 1, else 0; the same of hard_tanh(x) as of x."""
    return jnp.where(modulus(x) >= 1, jnp.zeros_like(x), 1)
