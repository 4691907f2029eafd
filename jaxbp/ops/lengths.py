"""Lengths, for any JAX code: norm and std.

A length is usually the root of a plain sum of squares, which is 0 or inf long before the length is. Here the plain sum is taken,
and where it left the safe range in any row, `lax.cond` goes another way: every row is scaled by a power of two (exactly) so
that its largest entry lies in [1, 2), subnormal entries by their bits. Directions are functions of their own with rules of their
own, so that the higher orders need no r^3 that under- or overflows:

    u = x / |x|        |x|_dot = u . x_dot          u_dot = (x_dot - u (u . x_dot)) / |x|

Conventions: a vector of zeros has length 0 and direction 0. An infinite entry makes the length inf; for the direction it counts
as the largest number of its dtype.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import inputs
from jaxbp.ops.bits import lift_of, lifted, power_of_two


def total(a: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sum(a, axis=axes, keepdims=True)


def wide(name: str, x: Any) -> jax.Array:
    x = jnp.asarray(x)
    inputs.require_floating(name, x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def axes_of(name: str, x: jax.Array, axis: Any) -> tuple[int, ...]:
    """The axes that are meant by None, a number or a tuple, counted from 0; there has to be something along them."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if not all(-x.ndim <= a < x.ndim for a in axes) or len({a % x.ndim for a in axes}) < len(axes):
        raise ValueError(f"{name}: axis has to name axes of {inputs.describe(x)}, each once, got {axis!r}")
    axes = tuple(sorted(a % x.ndim for a in axes))
    if 0 in (x.shape[a] for a in axes):
        raise ValueError(f"{name}: needs at least one entry along axis {axis!r}, got {inputs.describe(x)}")
    return axes


def without(y: jax.Array, axes: tuple[int, ...], keepdims: bool, dtype: Any) -> jax.Array:
    return (y if keepdims else jnp.squeeze(y, axes)).astype(dtype)


# --- the two ways to a direction


def scaled(axes: tuple[int, ...], x: jax.Array, least: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """(x / p, p), p a power of two that makes the largest entry of a row lie in [1, 2), though not below `least`."""
    largest = float(jnp.finfo(x.dtype).max)
    p = power_of_two(jnp.max(abs(x), axis=axes, keepdims=True))
    p = jnp.maximum(p, least) if least else p
    a, subnormal = lifted(x)
    down = jnp.broadcast_to(2.0 ** -lift_of(x) / p, a.shape)
    held = jnp.clip(a, -largest, largest)
    return held * jnp.where(subnormal, down, jnp.broadcast_to(1 / p, a.shape)), p


def centred(axes: tuple[int, ...], x: jax.Array) -> jax.Array:
    """x less its mean, and less the mean of that, which rounding of the first has left; linear in x."""
    n = math.prod(x.shape[a] for a in axes)
    d = x - total(x, axes) / n
    return d - total(d, axes) / n


def deviations(axes: tuple[int, ...], x: jax.Array) -> jax.Array:
    """x less its mean, to the last digits of its spread, by way of the middle of its range; 0 where all entries are equal.

    x - middle is exact where the spread is small. A mean in its place may not be the same number twice: XLA computes it again
    in each loop that uses it, in another order, and an ulp of the mean may be all of the spread.
    """
    n = math.prod(x.shape[a] for a in axes)
    middle = jnp.max(x, axis=axes, keepdims=True) / 2 + jnp.min(x, axis=axes, keepdims=True) / 2
    d = x - lax.stop_gradient(middle)
    return d - total(d, axes) / n


def _centre_if(centre: bool, axes: tuple[int, ...], x: jax.Array) -> jax.Array:
    return deviations(axes, x) if centre else x


def _safe(square: jax.Array) -> jax.Array:
    """Rows whose sum of squares is right: nothing that counts was flushed, nothing overflowed."""
    info = jnp.finfo(square.dtype)
    return (square > float(info.tiny) / float(info.eps) ** 2) & (square < float(info.max) / 4)


def _rescaled(centre: bool, axes: tuple[int, ...], x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(d, |d|, p, some): the row is d p, `some` where it is no row of zeros."""
    a, p = scaled(axes, x)
    d = _centre_if(centre, axes, a)
    square = total(d * d, axes)
    some = ~(square <= 0)
    return d, jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0), p, some


def _length_value(centre: bool, axes: tuple[int, ...], x: jax.Array) -> jax.Array:
    d = _centre_if(centre, axes, x)
    square = total(d * d, axes)
    safe = _safe(square)

    def by_scaling(x: jax.Array) -> jax.Array:
        _, length, p, _ = _rescaled(centre, axes, x)
        return jnp.where(jnp.max(abs(x), axis=axes, keepdims=True) == jnp.inf, jnp.inf, length * p)

    return lax.cond(jnp.all(safe), lambda x: jnp.sqrt(jnp.where(safe, square, 1)), by_scaling, x)


def _direction_value(centre: bool, axes: tuple[int, ...], x: jax.Array) -> jax.Array:
    d = _centre_if(centre, axes, x)
    square = total(d * d, axes)
    safe = _safe(square)

    def by_scaling(x: jax.Array) -> jax.Array:
        d, length, _, some = _rescaled(centre, axes, x)
        return d * jnp.where(some, 1 / jnp.where(some, length, 1), 0)

    return lax.cond(jnp.all(safe), lambda x: d * (1 / jnp.sqrt(jnp.where(safe, square, 1))), by_scaling, x)


_length = jax.custom_jvp(_length_value, nondiff_argnums=(0, 1))
_direction = jax.custom_jvp(_direction_value, nondiff_argnums=(0, 1))


@_length.defjvp
def _length_jvp(centre: bool, axes: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple:
    (x,), (x_dot,) = primals, tangents
    c = centred(axes, x_dot) if centre else x_dot  # u is orthogonal to a constant only up to rounding
    return _length(centre, axes, x), total(_direction(centre, axes, x) * c, axes)


@_direction.defjvp
def _direction_jvp(centre: bool, axes: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple:
    (x,), (x_dot,) = primals, tangents
    u, length = _direction(centre, axes, x), _length(centre, axes, x)
    c = centred(axes, x_dot) if centre else x_dot
    inverse = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    return u, (c - u * total(u * c, axes)) * inverse


def norm(x: Any, axis: Any = None, *, keepdims: bool = False) -> jax.Array:
    """sqrt(sum x^2) over `axis` (None: all axes); derivative x / norm(x).

    Conventions: derivatives of every order are 0 at a vector of zeros. An infinite entry gives inf; in the derivative it counts
    as the largest number of its dtype.

    >>> import jax, jax.numpy as jnp
    >>> print(norm(jnp.array([3e30, 4e30])), jax.grad(norm)(jnp.zeros(2)), jax.grad(norm)(jnp.array([3e-30, 4e-30])))
    5e+30 [0. 0.] [0.6 0.8]

    Raises: TypeError for integer x, ValueError for an axis that x has not.
    """
    a = wide("norm", x)
    axes = axes_of("norm", a, axis)
    return without(_length(False, axes, a), axes, keepdims, jnp.result_type(x))


def std(x: Any, axis: Any = None, *, ddof: int = 0, keepdims: bool = False) -> jax.Array:
    """sqrt(sum (x - mean)^2 / (n - ddof)) over `axis` (None: all axes); derivative (x - mean) / ((n - ddof) std).

    Conventions: where all entries are equal the derivatives of every order are 0. Infinite entries give inf or NaN.

    >>> import jax, jax.numpy as jnp
    >>> print(jax.grad(std)(jnp.array([1.0, 1.0])), jax.grad(std)(jnp.array([1.0, 3.0])).round(3))
    [0. 0.] [-0.5  0.5]

    Raises: TypeError for integer x, ValueError for an axis that x has not and for ddof outside [0, n).
    """
    a = wide("std", x)
    axes = axes_of("std", a, axis)
    n = math.prod(a.shape[i] for i in axes)
    if not 0 <= ddof < n:
        raise ValueError(f"std: ddof has to lie in [0, {n}) for {n} entries, got {ddof!r}")
    return without(_length(True, axes, a) / math.sqrt(n - ddof), axes, keepdims, jnp.result_type(x))
