"""The gates silu and gelu: f(x) = x P(x) with P(x) + P(-x) = 1, plain like `plain`.

All digits that can be lost are lost in the left tail; the right side follows from it: f(a) = a + f(-a) and
f'(a) = 1 - f'(-a) for a = |x|. a is held at a point beyond which the tail is 0 in float64 too (1000 for silu, 40 for gelu),
which keeps 0 times infinity out.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.ops.bits import coarse
from jaxbp.ops.plain import modulus, positive_part, rounded_once


def _gate_slope(x: jax.Array, tail_slope: jax.Array) -> jax.Array:
    """f'(x) from tail_slope = f'(-|x|)."""
    return jnp.where(x >= 0, 1 - tail_slope, tail_slope)


@rounded_once
def silu_value(x: jax.Array) -> jax.Array:
    """x sigmoid(x), 0 at -inf."""
    a = jnp.minimum(modulus(x), 1000)
    d = 2 * jnp.exp(-a / 2)
    return positive_part(x) - (d * a) * (d / (4 + d * d))


@rounded_once
def silu_slope(x: jax.Array) -> jax.Array:
    """sigmoid(x) (1 + x sigmoid(-x))."""
    a = jnp.minimum(modulus(x), 1000)
    d = 2 * jnp.exp(-a / 2)
    return _gate_slope(x, d * (d / (4 + d * d) * (1 - 4 * a / (4 + d * d))))


@rounded_once
def gelu_value(x: jax.Array) -> jax.Array:
    """x Phi(x), Phi the distribution function of the standard normal; 0 at -inf."""
    a = jnp.minimum(modulus(x), 40)
    h = _root_of_bell(a)
    return positive_part(x) - (h * a) * (h * (_mills(a) / math.sqrt(2 * math.pi)))


@rounded_once
def gelu_slope(x: jax.Array) -> jax.Array:
    """Phi(x) + x phi(x), phi the density of the standard normal."""
    a = jnp.minimum(modulus(x), 40)
    h = _root_of_bell(a)
    return _gate_slope(x, h * (h * ((_mills(a) - a) / math.sqrt(2 * math.pi))))


def _exp_of_sum(big: jax.Array, small: jax.Array) -> jax.Array:
    """e^(big + small) without rounding the sum; |small| < 0.03. (XLA would merge e^big e^small into the rounded sum.)"""
    e = jnp.exp(big)
    return e + e * (small * (1 + small * (1 / 2 + small * (1 / 6))))


def _root_of_bell(a: jax.Array) -> jax.Array:
    """e^(-a^2 / 4), a^2 in two parts: rounding it would cost 80 ULP at a = 13."""
    top = coarse(a)
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


@rounded_once
def gelu_tanh_value(x: jax.Array) -> jax.Array:
    """x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3); 0 at -inf."""
    a = jnp.minimum(modulus(x), 40)
    h = _exp_of_cubic(a)
    return positive_part(x) - (h * a) * (h / (1 + h * h))


@rounded_once
def gelu_tanh_slope(x: jax.Array) -> jax.Array:
    """sigmoid(2u) (1 + 2 x u' sigmoid(-2u)), u as in `gelu_tanh_value`."""
    a = jnp.minimum(modulus(x), 40)
    h = _exp_of_cubic(a)
    return _gate_slope(x, h * (h / (1 + h * h) * (1 - 2 * a * (_C + 3 * _M * a * a) / (1 + h * h))))


_C = math.sqrt(2 / math.pi)
_M = 0.044715 * _C
_C_TOP, _M_TOP = round(_C * 2**12) / 2**12, round(_M * 2**16) / 2**16  # their first 12 bits


def _exp_of_cubic(a: jax.Array) -> jax.Array:
    """e^-u, u = a s, s = C + M a^2: `top` parts multiply exactly, what they leave is carried beside them."""
    top = coarse(a)
    square_top = coarse(a * a)
    square_rest = (top * top - square_top) + (a - top) * (a + top)
    s_top = coarse(_C + _M * square_top)
    s_rest = ((_C_TOP - s_top) + _M_TOP * square_top) + ((_C - _C_TOP) + (_M - _M_TOP) * square_top + _M * square_rest)
    return _exp_of_sum(-top * s_top, -(top * s_rest + (a - top) * (s_top + s_rest)))
