"""Elementwise functions for any JAX code, whose derivative is a formula of its own that keeps its digits.

    f'(x)            is within 16 units in the last place in float32 wherever it is a normal number, 2 in bfloat16 and float16
    forward rule     f_dot = f'(x) x_dot, of which JAX makes reverse mode, and by differentiating f' again the higher orders

The slopes that come back in their own derivatives (sigmoid', tanh') carry a rule as well, so no order loses digits by
cancellation. Everything is done in at least float32; the cast to the dtype of the input is outside of the rule.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxbp import inputs
from jaxbp.ops import plain
from jaxbp.ops.bits import lift_of, lifted


def with_slopes(value: Callable, *slopes: Callable) -> Callable:
    """A function with the values of `value` and df/d(argument i) = slopes[i](*arguments).

    What is not differentiated is left out, not multiplied by 0: 0 times a slope of inf would be NaN.
    """
    fun = jax.custom_jvp(value)

    def rule(primals: tuple, tangents: tuple) -> tuple:
        moving = [(slope, t) for slope, t in zip(slopes, tangents, strict=True) if not isinstance(t, SymbolicZero)]
        y = fun(*primals)
        parts = [slope(*primals) * t for slope, t in moving]
        return y, functools.reduce(operator.add, parts) if parts else jnp.zeros_like(y)

    fun.defjvp(rule, symbolic_zeros=True)
    return fun


def widened(name: str, fun: Callable, *arrays: Any) -> jax.Array:
    """fun of floating arrays, broadcast and in at least float32; its result in the dtype of the arrays."""
    arrays = tuple(map(jnp.asarray, arrays))
    inputs.require_floating(name, arrays)
    dtype = jnp.result_type(*arrays)
    wide = jnp.promote_types(dtype, jnp.float32)
    shape = jnp.broadcast_shapes(*(a.shape for a in arrays))
    return fun(*(jnp.broadcast_to(a, shape).astype(wide) for a in arrays)).astype(dtype)


# --- sigmoid and its kin


def _sigmoid_value(x: jax.Array) -> jax.Array:
    """By the e^-|x| that the slope is made of: `lax.logistic` would take a second exponential."""
    e = jnp.exp(-plain.modulus(x))
    return jnp.where(x >= 0, 1, e) / (1 + e)


_tanh_slope = with_slopes(plain.tanh_slope, lambda x: -2 * _tanh(x) * _tanh_slope(x))
_tanh = with_slopes(plain.tanh_value, _tanh_slope)
_sigmoid_slope = with_slopes(plain.sigmoid_slope, lambda x: -_tanh(x / 2) * _sigmoid_slope(x))
_sigmoid = with_slopes(_sigmoid_value, _sigmoid_slope)
_softplus = with_slopes(plain.softplus_value, _sigmoid)


def sigmoid(x: Any) -> jax.Array:
    """1 / (1 + e^-x); derivative sigmoid(x) sigmoid(-x), which 1 - y would have lost from x = 17 on.

    Finite everywhere: 0 and 1 at -inf and inf, with derivative 0.

    >>> import jax
    >>> print(jax.grad(sigmoid)(20.0), jax.grad(jax.nn.sigmoid)(20.0))
    2.0611537e-09 0.0
    """
    return widened("sigmoid", _sigmoid, x)


def tanh(x: Any) -> jax.Array:
    """tanh(x); derivative 1 / cosh(x)^2, which 1 - y^2 would have lost from |x| = 9 on. Derivative 0 at -inf and inf."""
    return widened("tanh", _tanh, x)


def softplus(x: Any) -> jax.Array:
    """log(1 + e^x); derivative sigmoid(x). At -inf 0 with derivative 0, at inf inf with derivative 1."""
    return widened("softplus", _softplus, x)


def log_sigmoid(x: Any) -> jax.Array:
    """log(1 / (1 + e^-x)) = -softplus(-x); derivative sigmoid(-x). At -inf -inf with derivative 1, at inf 0 with derivative 0."""
    return widened("log_sigmoid", lambda x: -_softplus(-x), x)


# --- roots and angles


def _sqrt_value(x: jax.Array) -> jax.Array:
    return jnp.where(x <= 0, 0, jnp.sqrt(jnp.where(x <= 0, 1, x)))


def _sqrt_slope_value(x: jax.Array) -> jax.Array:
    a, subnormal = lifted(x)  # sqrt(x) of a subnormal x is a normal number, and so is its reciprocal
    slope = 0.5 / jnp.sqrt(jnp.where(a <= 0, 1, a)) * jnp.where(subnormal, 2.0 ** (lift_of(x) // 2), 1)
    return jnp.where(a <= 0, 0, slope)


def _sqrt_curvature(x: jax.Array) -> jax.Array:
    return jnp.where(x <= 0, 0, _sqrt_slope(x) / jnp.where(x <= 0, 1, -2 * x))


_sqrt_slope = with_slopes(_sqrt_slope_value, _sqrt_curvature)
_sqrt = with_slopes(_sqrt_value, _sqrt_slope)


def safe_sqrt(x: Any) -> jax.Array:
    """sqrt(x) where x > 0, else 0; derivative 1 / (2 sqrt(x)).

    Conventions: for x <= 0 value and derivative are 0 (a variance that rounding has made negative counts as 0). NaN goes through.

    >>> import jax, jax.numpy as jnp
    >>> print(jax.vmap(jax.grad(safe_sqrt))(jnp.array([-1.0, 0.0, 4.0])))
    [0.   0.   0.25]
    """
    return widened("safe_sqrt", _sqrt, x)


def _arccos_value(x: jax.Array) -> jax.Array:
    """2 atan2(sqrt(1 - x), sqrt(1 + x)): 1 - x is exact where it is small, 1 - x^2 is not."""
    inside = jnp.where(abs(x) >= 1, 0, x)
    angle = 2 * lax.atan2(jnp.sqrt(1 - inside), jnp.sqrt(1 + inside))
    return jnp.where(x >= 1, 0, jnp.where(x <= -1, math.pi, angle))


def _arccos_slope(x: jax.Array) -> jax.Array:
    inside = jnp.where(abs(x) >= 1, 0, x)
    return jnp.where(abs(x) >= 1, 0, -1 / jnp.sqrt((1 - inside) * (1 + inside)))


_arccos = with_slopes(_arccos_value, _arccos_slope)


def arccos(x: Any) -> jax.Array:
    """The angle in [0, pi] whose cosine is x; derivative -1 / sqrt((1 - x) (1 + x)).

    Conventions: x is held in [-1, 1] (a cosine of 1.0000001 is that of equal vectors), so the derivative beyond is 0; it is 0 at
    -1 and 1 too, where the derivative from inside is infinite. NaN goes through.
    """
    return widened("arccos", _arccos, x)


# --- logarithms


def _log(x: jax.Array) -> jax.Array:
    """log(x), subnormal or not."""
    a, subnormal = lifted(x)
    return jnp.log(a) - jnp.where(subnormal, lift_of(x) * math.log(2), 0)


def _ratio_value(x: jax.Array, y: jax.Array) -> jax.Array:
    (a, a_small), (b, b_small) = lifted(x), lifted(y)
    step = 2.0 ** lift_of(x)
    return jnp.where(a == 0, 0, a / b * jnp.where(b_small, step, 1) * jnp.where(a_small, 1 / step, 1))


_ratio = with_slopes(_ratio_value, lambda x, y: _xlogy_log_slope(x, y), lambda x, y: -_ratio(x, y) * _xlogy_log_slope(x, y))


def _xlogy_log(x: jax.Array, y: jax.Array) -> jax.Array:
    """log(y), and 0 where x = 0 would meet an infinite one."""
    a, _ = lifted(y)
    nothing = (x == 0) & ((a <= 0) | (a == jnp.inf))
    return _log(jnp.where(nothing, 1, y))


def _xlogy_log_slope(x: jax.Array, y: jax.Array) -> jax.Array:
    nothing = (x == 0) & (y <= 0)
    return jnp.where(nothing, 0, 1 / jnp.where(nothing, 1, y))


def _xlogy_value(x: jax.Array, y: jax.Array) -> jax.Array:
    return x * _xlogy_log(x, y)


_xlogy = with_slopes(_xlogy_value, with_slopes(_xlogy_log, lambda x, y: jnp.zeros_like(x), _xlogy_log_slope), _ratio)


def xlogy(x: Any, y: Any) -> jax.Array:
    """x log(y), and 0 where x = 0; derivatives log(y) in x and x / y in y.

    Conventions at x = 0: the derivative in y is 0, and that in x is log(y) where y is positive and finite,
    else 0. So p -> xlogy(p, p) has the derivative 0 at 0 (that from the right is -inf). Elsewhere the limits: at y = 0
    the value is -inf times the sign of x.

    >>> import jax
    >>> jax.grad(xlogy, argnums=(0, 1))(0.0, 0.0)
    (Array(0., dtype=float32, weak_type=True), Array(0., dtype=float32, weak_type=True))
    """
    return widened("xlogy", _xlogy, x, y)


def _held_log(a: jax.Array, tiny: float) -> jax.Array:
    """log(a), below tiny its tangent at tiny."""
    return jnp.log(jnp.maximum(a, tiny)) + (jnp.minimum(a * (1 / tiny), 1) - 1)


def _logs(tiny: float, p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(log(p), log(1 - p)); the latter is log(q) of the rounded q = 1 - p plus the rounding 1 - p - q (p < 1/2, else 0)."""
    q = 1 - p
    return _held_log(p, tiny), _held_log(q, tiny) - ((q - 1) + p)


def _bce_value(tiny: float, p: jax.Array, y: jax.Array) -> jax.Array:
    log_p, log_q = _logs(tiny, p)
    return -y * log_p - (1 - y) * log_q


def _bce_slope(tiny: float, p: jax.Array, y: jax.Array) -> jax.Array:
    """(1 - y) / (1 - p) - y / p; where the two are near each other, their common fraction (p - y) / (p (1 - p))."""
    by_p, by_q = 1 / jnp.maximum(p, tiny), 1 / jnp.maximum(1 - p, tiny)
    up, down = (1 - y) * by_q, y * by_p
    return jnp.where(2 * abs(up - down) < up + down, (p - y) * by_p * by_q, up - down)


def _bce_curvature(tiny: float, p: jax.Array, y: jax.Array) -> jax.Array:
    held_p, held_q = jnp.maximum(p, tiny), jnp.maximum(1 - p, tiny)
    return jnp.where(1 - p < tiny, 0, (1 - y) / held_q / held_q) + jnp.where(p < tiny, 0, y / held_p / held_p)


def _minus_logit(tiny: float, p: jax.Array, y: jax.Array) -> jax.Array:
    """log((1 - p) / p), which near p = 1/2 is log1p((1 - 2p) / p)."""
    middle = abs(p - 0.5) < 0.25
    inner = jnp.where(middle, p, 0.5)
    log_p, log_q = _logs(tiny, p)
    return jnp.where(middle, jnp.log1p((1 - 2 * inner) / inner), log_q - log_p)


def _minus_logit_slope(tiny: float, p: jax.Array, y: jax.Array) -> jax.Array:
    return -1 / jnp.maximum(p, tiny) - 1 / jnp.maximum(1 - p, tiny)


@functools.cache
def _bce(tiny: float) -> Callable:
    of = lambda fun: functools.partial(fun, tiny)
    nought = lambda p, y: jnp.zeros_like(p)
    d_p = with_slopes(of(_bce_slope), of(_bce_curvature), of(_minus_logit_slope))
    return with_slopes(of(_bce_value), d_p, with_slopes(of(_minus_logit), of(_minus_logit_slope), nought))


def bce(probs: Any, targets: Any) -> jax.Array:
    """-y log(p) - (1 - y) log(1 - p), elementwise, of probabilities p and targets y in [0, 1]; derivative (p - y) / (p (1 - p)).

    Conventions: below `tiny`, the smallest normal number of the dtype of probs, both logarithms are continued by their tangents
    at tiny. So a probability of 0 or 1 costs 0 where it is right and 88.3 in float32 (10.7 in float16) where it is wrong,
    with slope 1 / tiny. For logits `sigmoid_cross_entropy` keeps the digits that a sigmoid near 1 has lost.

    >>> import jax
    >>> print(bce(0.0, 0.0), jax.grad(bce)(0.0, 0.0), bce(0.0, 1.0))
    0.0 1.0 88.33655
    """
    return widened("bce", _bce(float(jnp.finfo(jnp.result_type(probs)).tiny)), probs, targets)


def _crossing_value(z: jax.Array, y: jax.Array) -> jax.Array:
    size = plain.modulus(z)
    weight = jnp.where(z >= 0, 1 - y, y)
    return jnp.log1p(jnp.exp(-size)) + jnp.where(weight == 0, 0, weight * jnp.where(weight == 0, 1, size))


def _crossing_slope(z: jax.Array, y: jax.Array) -> jax.Array:
    e = jnp.exp(-plain.modulus(z))
    larger = 1 / (1 + e)
    smaller = e * larger
    return jnp.where(z >= 0, (1 - y) * larger - y * smaller, (1 - y) * smaller - y * larger)


_crossing = with_slopes(
    _crossing_value,
    with_slopes(_crossing_slope, lambda z, y: _sigmoid_slope(z), lambda z, y: -jnp.ones_like(z)),
    with_slopes(lambda z, y: -z, lambda z, y: -jnp.ones_like(z), lambda z, y: jnp.zeros_like(z)),
)


def sigmoid_cross_entropy(logits: Any, targets: Any) -> jax.Array:
    """-y log(sigmoid(z)) - (1 - y) log(sigmoid(-z)), elementwise, of logits z and targets y in [0, 1].

    The derivative in z is (1 - y) sigmoid(z) - y sigmoid(-z), for targets 0 and 1 right however small it is; that in y is -z.
    Conventions: a logit of inf or -inf costs 0 where y is 1 or 0, with derivative 0, and inf elsewhere.

    >>> import jax
    >>> print(jax.grad(sigmoid_cross_entropy)(20.0, 1.0))
    -2.0611537e-09
    """
    return widened("sigmoid_cross_entropy", _crossing, logits, targets)
