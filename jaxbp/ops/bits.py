"""Numbers by their bits: exact powers of two, half-length parts, and subnormal numbers, which XLA on CPU takes for zeros.

XLA's CPU arithmetic reads a subnormal operand as 0, so that sqrt'(1e-40) = 5e19 would come out as that of 0. Integers know no
such rule: the bits of a subnormal number are its mantissa, an integer.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def _words(x: jax.Array) -> tuple[Any, int]:
    """(unsigned type of the width of x, digits of the mantissa without the leading one)."""
    return (np.uint64, 52) if x.dtype == jnp.float64 else (np.uint32, 23)


def coarse(x: jax.Array) -> jax.Array:
    """x rounded to less than half its digits, as a constant: the product of two such numbers is exact."""
    whole, cut = (np.uint64, 27) if x.dtype == jnp.float64 else (np.uint32, 12)
    half, keep = whole(1 << (cut - 1)), ~whole((1 << cut) - 1)
    return lax.bitcast_convert_type((lax.bitcast_convert_type(lax.stop_gradient(x), whole) + half) & keep, x.dtype)


def lifted(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(a, is_subnormal): a is x, and 2^lift_of(x) x where x is subnormal, which a is not; a constant to autodiff there."""
    word, digits = _words(x)
    bits = lax.bitcast_convert_type(lax.stop_gradient(x), word)
    sign = word(1 << (x.dtype.itemsize * 8 - 1))
    mantissa = bits & ~sign
    subnormal = (mantissa < word(1 << digits)) & (mantissa > 0)
    step = 2.0 ** lift_of(x) * 2.0 ** (int(jnp.finfo(x.dtype).minexp) - digits)
    up = mantissa.astype(x.dtype) * step
    return jnp.where(subnormal, jnp.where(bits >= sign, -up, up), x), subnormal


def lift_of(x: jax.Array) -> int:
    """By how many powers of two `lifted` lifts: no less than the digits of x, and even, so that the root is one as well."""
    return 54 if x.dtype == jnp.float64 else 24


def power_of_two(x: jax.Array) -> jax.Array:
    """The largest power of two not above |x|, held between 2^-126 and 2^126 (float64: 2^-1022, 2^1022), as a constant."""
    word, digits = _words(x)
    info = jnp.finfo(x.dtype)
    exponent = word((1 << (x.dtype.itemsize * 8 - 1)) - (1 << digits))
    bits = lax.bitcast_convert_type(lax.stop_gradient(x), word) & exponent
    largest = lax.bitcast_convert_type(jnp.asarray(2.0 ** (-int(info.minexp)), x.dtype), word)
    smallest = lax.bitcast_convert_type(jnp.asarray(2.0 ** int(info.minexp), x.dtype), word)
    return lax.bitcast_convert_type(jnp.clip(bits, smallest, largest), x.dtype)
