"""Accurate values and slopes of the scalar functions that layers and losses are made of.

    sigmoid_value(x)  the function         sigmoid_slope(x)  its derivative

Differences of nearly equal numbers are rewritten, and no factor underflows before its product does (XLA flushes numbers
below 1.2e-38 to zero in float32). In float32 for |x| <= 100, wherever the true number is normal, values are within 8 ULP and
slopes within 16, those of the gates (silu, gelu) within 1 ULP of 1 near their root. Narrower inputs are worked on in float32
and rounded once. NaN goes through values; values at +-inf are the limits. All are made of primitives, which JAX can
differentiate; the bare names (`sigmoid`, ...) are left free for functions that carry these slopes as their rule.

Three habits recur. |x| is `where(x >= 0, x, -x)`: its derivative at 0 is 1 by its own words, and whatever goes beside it asks
x >= 0 too, so that an even smooth function of |x| has its right-hand derivatives at 0, which are the true ones.
An exponential that may underflow before its factor is applied is multiplied in as two halves, h (h c). And where the square
of an exponential is needed, d = 2 e^-x is squared: XLA would turn e^-x e^-x into a second exponential, the dearest part.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbp import inputs
from jaxbp.factors import at_least_float32


_F = TypeVar("_F", bound=Callable)


def _rounded_once(rule: _F) -> _F:
    """`rule` in float32 where x is narrower, its result rounded once to the dtype of x."""

    @functools.wraps(rule)
    def run(x: Any, *args: Any, **kwargs: Any) -> jax.Array:
        x = jnp.asarray(x)
        inputs.require_floating(rule.__name__, x)
        return rule(x.astype(at_least_float32(x)), *args, **kwargs).astype(x.dtype)

    return run  # type: ignore[return-value]


def _modulus(x: jax.Array) -> jax.Array:
    """|x| with derivative 1 at 0."""
    return jnp.where(x >= 0, x, -x)


def _positive_part(x: jax.Array) -> jax.Array:
    """max(x, 0) with derivative 1 at 0."""
    return jnp.where(x >= 0, x, 0)


# --- sigmoid and its kin


@_rounded_once
def sigmoid_value(x: jax.Array) -> jax.Array:
    """1 / (1 + e^-x)."""
    return lax.logistic(x)


@_rounded_once
def sigmoid_slope(x: jax.Array) -> jax.Array:
    """sigmoid(x) sigmoid(-x) = e / (1 + e)^2, e = e^-|x|. The form y (1 - y) is 0 from x = 17 in float32."""
    e = jnp.exp(-_modulus(x))
    return e / ((1 + e) * (1 + e))


@_rounded_once
def tanh_value(x: jax.Array) -> jax.Array:
    """(e^x - e^-x) / (e^x + e^-x)."""
    return lax.tanh(x)


@_rounded_once
def tanh_slope(x: jax.Array) -> jax.Array:
    """1 / cosh(x)^2 = (2e / (1 + e^2))^2, e = e^-|x|. The form 1 - y^2 is 0 from |x| = 9 in float32."""
    d = 2 * jnp.exp(-_modulus(x))
    sech = 4 * d / (4 + d * d)
    return sech * sech


@_rounded_once
def softplus_value(x: jax.Array) -> jax.Array:
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    return _positive_part(x) + jnp.log1p(jnp.exp(-_modulus(x)))


@_rounded_once
def softplus_slope(x: jax.Array) -> jax.Array:
    """sigmoid(x)."""
    return lax.logistic(x)


@_rounded_once
def softplus_slope_of_value(y: jax.Array) -> jax.Array:
    """sigmoid(x) = 1 - e^-y from y = softplus(x)."""
    return -jnp.expm1(-y)


@_rounded_once
def softsign_value(x: jax.Array) -> jax.Array:
    """x / (1 + |x|), +-1 at +-inf."""
    largest = float(jnp.finfo(x.dtype).max)
    x = jnp.clip(x, -largest, largest)  # not inf / inf
    return x / (1 + _modulus(x))


@_rounded_once
def softsign_slope(x: jax.Array) -> jax.Array:
    """1 / (1 + |x|)^2. The form (1 - |y|)^2 loses the digits of 1 - |y|."""
    reciprocal = 1 / (1 + _modulus(x))
    return reciprocal * reciprocal


# --- rectifiers: the branch of x <= 0 holds 0, and a NaN goes through


@_rounded_once
def relu_value(x: jax.Array) -> jax.Array:
    """max(x, 0)."""
    return jnp.where(x <= 0, 0, x)


@_rounded_once
def relu_slope(x: jax.Array) -> jax.Array:
    """1 for x > 0, 0 for x <= 0; the same of relu(x) as of x."""
    return jnp.where(x <= 0, jnp.zeros_like(x), 1)


@_rounded_once
def leaky_relu_value(x: jax.Array, slope: float = 0.01) -> jax.Array:
    """x for x > 0, slope x for x <= 0."""
    return jnp.where(x <= 0, slope * x, x)


@_rounded_once
def leaky_relu_slope(x: jax.Array, slope: float = 0.01) -> jax.Array:
    """1 for x > 0, slope for x <= 0; with slope >= 0 the same of leaky_relu(x) as of x."""
    return jnp.where(x <= 0, jnp.full_like(x, slope), 1)


@_rounded_once
def elu_value(x: jax.Array, alpha: float = 1.0, scale: float = 1.0) -> jax.Array:
    """scale x for x > 0, scale alpha (e^x - 1) for x <= 0."""
    below = jnp.where(x <= 0, x, 0)  # keeps e^x finite in the branch that is not taken
    return jnp.where(x <= 0, scale * alpha * jnp.expm1(below), scale * x)


@_rounded_once
def elu_slope(x: jax.Array, alpha: float = 1.0, scale: float = 1.0) -> jax.Array:
    """scale for x > 0, scale alpha e^x for x <= 0. e^x is flushed where alpha e^x may be normal, so it comes in halves."""
    half = jnp.exp(jnp.where(x <= 0, x, 0) / 2)
    return jnp.where(x <= 0, scale * alpha * half * half, scale)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848  # fixed point at mean 0 and variance 1


@_rounded_once
def selu_value(x: jax.Array) -> jax.Array:
    """elu(x) times 1.0507..., alpha = 1.6732..."""
    return elu_value(x, SELU_ALPHA, SELU_SCALE)


@_rounded_once
def selu_slope(x: jax.Array) -> jax.Array:
    """1.0507 for x > 0, 1.7581 e^x for x <= 0."""
    return elu_slope(x, SELU_ALPHA, SELU_SCALE)


@_rounded_once
def hard_tanh_value(x: jax.Array) -> jax.Array:
    """x held between -1 and 1."""
    return jnp.where(x >= 1, 1, jnp.where(x <= -1, -1, x))


@_rounded_once
def hard_tanh_slope(x: jax.Array) -> jax.Array:
    """1 for -1 < x < 1, else 0; the same of hard_tanh(x) as of x."""
    return jnp.where(_modulus(x) >= 1, jnp.zeros_like(x), 1)


# --- gates f(x) = x P(x) with P(x) + P(-x) = 1. All digits that can be lost are lost in the left tail; the right side
# follows from it:  f(a) = a + f(-a)  and  f'(a) = 1 - f'(-a)  for a = |x|. a is held at a point beyond which the tail is 0 in
# float64 too (1000 for silu, 40 for gelu), which keeps 0 times infinity out.


def _gate_slope(x: jax.Array, tail_slope: jax.Array) -> jax.Array:
    """f'(x) from tail_slope = f'(-|x|)."""
    return jnp.where(x >= 0, 1 - tail_slope, tail_slope)


@_rounded_once
def silu_value(x: jax.Array) -> jax.Array:
    """x sigmoid(x), 0 at -inf."""
    a = jnp.minimum(_modulus(x), 1000)
    d = 2 * jnp.exp(-a / 2)
    return _positive_part(x) - (d * a) * (d / (4 + d * d))


@_rounded_once
def silu_slope(x: jax.Array) -> jax.Array:
    """sigmoid(x) (1 + x sigmoid(-x))."""
    a = jnp.minimum(_modulus(x), 1000)
    d = 2 * jnp.exp(-a / 2)
    return _gate_slope(x, d * (d / (4 + d * d) * (1 - 4 * a / (4 + d * d))))


@_rounded_once
def gelu_value(x: jax.Array) -> jax.Array:
    """x Phi(x), Phi the distribution function of the standard normal; 0 at -inf."""
    a = jnp.minimum(_modulus(x), 40)
    h = _root_of_bell(a)
    return _positive_part(x) - (h * a) * (h * (_mills(a) / math.sqrt(2 * math.pi)))


@_rounded_once
def gelu_slope(x: jax.Array) -> jax.Array:
    """Phi(x) + x phi(x), phi the density of the standard normal."""
    a = jnp.minimum(_modulus(x), 40)
    h = _root_of_bell(a)
    return _gate_slope(x, h * (h * ((_mills(a) - a) / math.sqrt(2 * math.pi))))


def _coarse(x: jax.Array) -> jax.Array:
    """x >= 0 rounded to less than half its digits, as a constant: the product of two such numbers is exact."""
    whole, cut = (np.uint64, 27) if x.dtype == jnp.float64 else (np.uint32, 12)
    half, keep = whole(1 << (cut - 1)), ~whole((1 << cut) - 1)
    return lax.bitcast_convert_type((lax.bitcast_convert_type(lax.stop_gradient(x), whole) + half) & keep, x.dtype)


def _exp_of_sum(big: jax.Array, small: jax.Array) -> jax.Array:
    """e^(big + small) without rounding the sum; |small| < 0.03. (XLA would merge e^big e^small into the rounded sum.)"""
    e = jnp.exp(big)
    return e + e * (small * (1 + small * (1 / 2 + small * (1 / 6))))


def _root_of_bell(a: jax.Array) -> jax.Array:
    """e^(-a^2 / 4), a^2 in two parts: rounding it would cost 80 ULP at a = 13."""
    top = _coarse(a)
    return _exp_of_sum(-top * top / 4, -(a - top) * (a + top) / 4)


# Phi(-a) / phi(a) = F(t) / (a + 4) with t = 2.2 a / (a + 4) - 1, in [-1, 1] for a in [0, 40]. F's Chebyshev coefficients by
# interpolation in 40 digits at 60 nodes: 12 of them leave 2e-9, 24 leave 3e-18.
_MILLS = (
    2.535757572164505567, -1.8561664831031876625, 0.50825703652837417976, -0.10048310189125029507,
    0.01244530458873199383, -3.438972058431978243e-4, -1.7707307897251050094e-4, 2.2731820955805762754e-5,
    2.3695053044163289774e-6, -6.4939603473457731243e-7, -4.3894038241548366088e-8, 1.818083255932542891e-8,
    1.4035490056598844147e-9, -5.2477632516828081891e-10, -6.3543050846975108753e-11, 1.4457186072780150442e-11,
    3.0755377919835249803e-12, -3.006136314060238871e-13, -1.3904776043491971091e-13, -1.2596758496333039826e-15,
    5.3640080189961632337e-15, 6.4425566156958209292e-16, -1.4654585031806023753e-16, -4.6158882280630149245e-17,
)  # fmt: skip
_MILLS_POLYNOMIAL = {n: np.polynomial.chebyshev.cheb2poly(_MILLS[:n]).tolist() for n in (12, 24)}


def _mills(a: jax.Array) -> jax.Array:
    """Phi(-a) / phi(a) for 0 <= a <= 40 (Mills ratio)."""
    w = 1 / (a + 4)
    t = 2.2 * (a * w) - 1  # 1.2 - 8.8 w would have twice the rounding error
    *lower, highest = _MILLS_POLYNOMIAL[24 if a.dtype == jnp.float64 else 12]
    return w * functools.reduce(lambda total, c: total * t + c, reversed(lower), highest)


# gelu's tanh form is x sigmoid(2u) with u = C x + M x^3; u is kept in two parts, as above


@_rounded_once
def gelu_tanh_value(x: jax.Array) -> jax.Array:
    """x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3); 0 at -inf."""
    a = jnp.minimum(_modulus(x), 40)
    h = _exp_of_cubic(a)
    return _positive_part(x) - (h * a) * (h / (1 + h * h))


@_rounded_once
def gelu_tanh_slope(x: jax.Array) -> jax.Array:
    """sigmoid(2u) (1 + 2 x u' sigmoid(-2u)), u as in `gelu_tanh_value`."""
    a = jnp.minimum(_modulus(x), 40)
    h = _exp_of_cubic(a)
    return _gate_slope(x, h * (h / (1 + h * h) * (1 - 2 * a * (_C + 3 * _M * a * a) / (1 + h * h))))


_C = math.sqrt(2 / math.pi)
_M = 0.044715 * _C
_C_TOP, _M_TOP = round(_C * 2**12) / 2**12, round(_M * 2**16) / 2**16  # their first 12 bits


def _exp_of_cubic(a: jax.Array) -> jax.Array:
    """e^-u, u = a s, s = C + M a^2: `top` parts multiply exactly, what they leave is carried beside them."""
    top = _coarse(a)
    square_top = _coarse(a * a)
    square_rest = (top * top - square_top) + (a - top) * (a + top)
    s_top = _coarse(_C + _M * square_top)
    s_rest = ((_C_TOP - s_top) + _M_TOP * square_top) + ((_C - _C_TOP) + (_M - _M_TOP) * square_top + _M * square_rest)
    return _exp_of_sum(-top * s_top, -(top * s_rest + (a - top) * (s_top + s_rest)))
