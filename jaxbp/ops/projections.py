"""Functions whose derivative is a projection, for any JAX code: cosine_similarity and layer_norm.

A projection takes a part away, b - (a . b / a . a) a, and what is left may be small: all of its digits then come from the
rounding of what was taken. So it is done twice, the second time on the small rest, and the products of the first time are kept
exactly (Dekker's two-product).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxbp import inputs
from jaxbp.ops.bits import coarse
from jaxbp.ops.lengths import centred, deviations, scaled, total, wide, without


LAST = (-1,)


def _exactly(s: jax.Array, a: jax.Array) -> jax.Array:
    """s a - fl(s a), a constant: the rounding error of the product, by halves that multiply exactly."""
    s, a = lax.stop_gradient((s, a))
    s_top, a_top = coarse(s), coarse(a)
    s_low, a_low = s - s_top, a - a_top
    return ((s_top * a_top - s * a) + s_top * a_low + s_low * a_top) + s_low * a_low


def _rejection(a: jax.Array, b: jax.Array) -> jax.Array:
    """The part of b that is orthogonal to a != 0; both scaled. It does not depend on the s of the first step, a constant."""
    square = total(a * a, LAST)
    s = lax.stop_gradient(jnp.broadcast_to(total(a * b, LAST) / square, a.shape))
    rest = (b - s * a) - _exactly(s, a)
    return rest - (total(rest * a, LAST) / square) * a


def _plain_parts(a: jax.Array, b: jax.Array) -> tuple[jax.Array, ...]:
    """(cosine, a . b / a . a, 1 / (|a| |b|), safe): safe where no square under- or overflowed, and a, b are not near parallel."""
    info = jnp.finfo(a.dtype)
    least, most = float(info.tiny) ** 0.5 / float(info.eps), float(info.max) ** 0.5 / 4
    a_square, b_square, product = total(a * a, LAST), total(b * b, LAST), total(a * b, LAST)
    safe = (a_square > least) & (a_square < most) & (b_square > least) & (b_square < most)
    safe = safe & (product * product < 0.8 * (a_square * b_square))
    inverse = 1 / jnp.sqrt(jnp.where(safe, a_square * b_square, 1))
    return product * inverse, product / jnp.where(safe, a_square, 1), inverse, safe


def _split(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(x / p, its length, p), p a power of two; where x = 0 the length is given as inf."""
    a, p = scaled(LAST, x)
    square = total(a * a, LAST)
    some = ~(square <= 0)
    return a, jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), jnp.inf), p


def _cosine_by_scaling(a: jax.Array, b: jax.Array) -> jax.Array:
    (a, a_length, _), (b, b_length, _) = _split(a), _split(b)
    return total((a / a_length) * (b / b_length), LAST)


def _slope_by_scaling(a: jax.Array, b: jax.Array) -> jax.Array:
    (a, a_length, p), (b, b_length, _) = _split(a), _split(b)
    none = a_length == jnp.inf
    return _rejection(jnp.where(none, 1, a), b) * (1 / (a_length * b_length)) / p


@jax.custom_jvp
def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    cosine, _, _, safe = _plain_parts(a, b)
    return lax.cond(jnp.all(safe), lambda a, b: cosine, _cosine_by_scaling, a, b)


def _cosine_slope(a: jax.Array, b: jax.Array) -> jax.Array:
    """(v - (u . v) u) / |a|, u and v the directions of a and b; 0 where either is 0."""
    _, s, inverse, safe = _plain_parts(a, b)
    return lax.cond(jnp.all(safe), lambda a, b: (b - s * a) * inverse, _slope_by_scaling, a, b)


def _cosine_jvp(primals: tuple, tangents: tuple) -> tuple:
    (a, b), (a_dot, b_dot) = primals, tangents
    y = _cosine(a, b)
    y_dot = jnp.zeros_like(y)
    if not isinstance(a_dot, SymbolicZero):
        y_dot = y_dot + total(_cosine_slope(a, b) * a_dot, LAST)
    if not isinstance(b_dot, SymbolicZero):
        y_dot = y_dot + total(_cosine_slope(b, a) * b_dot, LAST)
    return y, y_dot


_cosine.defjvp(_cosine_jvp, symbolic_zeros=True)


def cosine_similarity(a: Any, b: Any, *, keepdims: bool = False) -> jax.Array:
    """a . b / (|a| |b|) over the last axis; derivative in a (v - (u . v) u) / |a|, u and v being the directions of a and b.

    Right for vectors of any length, and where a and b are nearly parallel. Conventions: 0 where a or b is a vector of zeros,
    with derivatives 0; an infinite entry counts as the largest number of its dtype.

    >>> import jax, jax.numpy as jnp
    >>> print(cosine_similarity(jnp.array([1e30, 0.0]), jnp.array([1e-30, 1e-30])))
    0.70710677
    >>> print(jax.grad(cosine_similarity)(jnp.zeros(2), jnp.ones(2)))
    [0. 0.]

    Raises: TypeError for integers, ValueError for vectors of different shapes or without entries.
    """
    wide_a, wide_b = wide("cosine_similarity", a), wide("cosine_similarity", b)
    if wide_a.shape != wide_b.shape or not wide_a.ndim or not wide_a.shape[-1]:
        got = f"{inputs.describe(wide_a)} and {inputs.describe(wide_b)}"
        raise ValueError(f"cosine_similarity: two arrays of one shape with a last axis, not empty, were expected, got {got}")
    dtype = jnp.result_type(a, b)
    wider = jnp.promote_types(wide_a.dtype, wide_b.dtype)
    return without(_cosine(wide_a.astype(wider), wide_b.astype(wider)), (wide_a.ndim - 1,), keepdims, dtype)


# --- layer norm


def _standard_parts(epsilon: float, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(x_hat, 1 / sigma), sigma^2 = mean(d^2) + epsilon, d = x - mean. Rows of equal entries with epsilon = 0 give 0 and 0."""
    n = x.shape[-1]
    info = jnp.finfo(x.dtype)
    d = deviations(LAST, x)
    variance = total(d * d, LAST) / n
    least = float(info.tiny) / float(info.eps) ** 2
    safe = (variance + epsilon > least) & (variance < float(info.max) / 4 / n)

    def plain(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        inverse = 1 / jnp.sqrt(jnp.where(safe, variance + epsilon, 1))
        return d * inverse, inverse

    def by_scaling(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        a, p = scaled(LAST, x, 2.0**-40 if epsilon else 0.0)
        d = deviations(LAST, a)
        square = total(d * d, LAST) / n
        square = square + epsilon * (1 / p) * (1 / p) if epsilon else square  # epsilon / p / p becomes epsilon / p^2, 0 / 0
        some = ~(square <= 0)
        inverse = jnp.where(some, 1 / jnp.sqrt(jnp.where(some, square, 1)), 0)
        return d * inverse, inverse / p

    return lax.cond(jnp.all(safe), plain, by_scaling, x)


def _x_hat_value(epsilon: float, x: jax.Array) -> jax.Array:
    return _standard_parts(epsilon, x)[0]


def _inverse_value(epsilon: float, x: jax.Array) -> jax.Array:
    return _standard_parts(epsilon, x)[1]


_x_hat = jax.custom_jvp(_x_hat_value, nondiff_argnums=(0,))
_inverse = jax.custom_jvp(_inverse_value, nondiff_argnums=(0,))


@_x_hat.defjvp
def _x_hat_jvp(epsilon: float, primals: tuple, tangents: tuple) -> tuple:
    """x_hat_dot = (c - x_hat mean(x_hat c)) / sigma, c = x_dot - mean(x_dot); centred on both sides, as its transpose has to be.

    Half of 1 / sigma goes to either side, so that in neither mode small parts are flushed before they have met.
    """
    (x,), (x_dot,) = primals, tangents
    x_hat, inverse = _x_hat(epsilon, x), _inverse(epsilon, x)
    some = inverse > 0
    half = jnp.where(some, jnp.sqrt(jnp.where(some, inverse, 1)), 0)
    c = centred(LAST, x_dot * half)
    return x_hat, (c - x_hat * (total(x_hat * c, LAST) / x.shape[-1])) * half


@_inverse.defjvp
def _inverse_jvp(epsilon: float, primals: tuple, tangents: tuple) -> tuple:
    (x,), (x_dot,) = primals, tangents
    inverse = _inverse(epsilon, x)
    return inverse, -inverse * inverse * (total(_x_hat(epsilon, x) * x_dot, LAST) / x.shape[-1])


def layer_norm(x: Any, gain: Any = None, bias: Any = None, *, epsilon: float = 1e-5) -> jax.Array:
    """gain (x - mean) / sqrt(variance + epsilon) + bias over the last axis, the variance divided by n.

    The derivative in x is (c - mean(c) - x_hat mean(c x_hat)) / sigma with c = gain y_bar, the mean taken away twice, so that no
    mean / sigma costs its digits. gain and bias (features,) may be left out. Convention: a row of equal entries gives bias; with
    epsilon = 0 its derivatives are 0.

    >>> import jax.numpy as jnp
    >>> layer_norm(jnp.array([[1.0, 3.0], [1000.0, 1002.0]])).round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]

    Raises: TypeError for integers, ValueError for a negative epsilon, x without features and gain or bias of another shape.
    Source: Ba, Kiros & Hinton 2016, Layer Normalization; the second mean is added here.
    """
    a = wide("layer_norm", x)
    if not a.ndim or not a.shape[-1]:
        raise ValueError(f"layer_norm: x needs a last axis of at least one feature, got {inputs.describe(a)}")
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 <= epsilon < jnp.inf:
        raise ValueError(f"layer_norm: epsilon is a number, 0 or positive, got {epsilon!r}")
    y = _x_hat(float(epsilon), a)
    for name, param, join in (("gain", gain, jnp.multiply), ("bias", bias, jnp.add)):
        if param is None:
            continue
        if jnp.shape(param) != a.shape[-1:]:
            raise ValueError(f"layer_norm: {name} of shape {list(a.shape[-1:])} was expected, got {list(jnp.shape(param))}")
        y = join(y, jnp.broadcast_to(wide("layer_norm", param), y.shape))
    return y.astype(jnp.result_type(x))
