"""Dropout: y = x / (1 - rate) where a fair draw keeps it, else 0."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs
from jaxbp.contracts import Layer, constructor
from jaxbp.factors import at_least_float32


def dropout_forward(params: tuple, x: jax.Array, *, train: bool = False, key: Any = None, rate: float) -> tuple:
    """y = kept x / (1 - rate). Residual: the mask `kept`, one byte an entry; None in evaluation, where y = x."""
    if not train or (inputs.is_concrete(rate) and rate == 0):
        return x, None
    if key is None:
        raise ValueError("dropout: draws at random in training: pass key=, or train=False")
    # bits against a threshold, not uniform floats: the same mask in every dtype, with float64 switched on or off
    kept = jax.random.bits(key, x.shape, jnp.uint32) >= _threshold(rate)
    return _keep(kept, x, rate), kept


def _threshold(rate: Any) -> Any:
    """rate of the 2^32 words lie below it."""
    if inputs.is_concrete(rate):
        return np.uint32(min(round(rate * 2**32), 2**32 - 1))
    # in two halves of 16 bits, which float32 holds without loss
    high = jnp.floor(rate * 2**16)
    return high.astype(jnp.uint32) << 16 | ((rate * 2**16 - high) * 2**16).astype(jnp.uint32)


def dropout_backward(params: tuple, kept: jax.Array | None, y_bar: jax.Array, *, rate: float) -> tuple[tuple, jax.Array]:
    """x_bar = kept y_bar / (1 - rate)."""
    return (), y_bar if kept is None else _keep(kept, y_bar, rate)


def _keep(kept: jax.Array, a: jax.Array, rate: float) -> jax.Array:
    # divided in float32: 1 - rate rounded to bfloat16 would be off by up to 0.4 % in every entry alike
    scaled = a.astype(at_least_float32(a))
    scaled = scaled / jnp.asarray(1 - rate, scaled.dtype)
    return jnp.where(kept, scaled, 0).astype(a.dtype)  # where, so that a dropped inf or NaN is gone


def dropout_init(key: Any, spec: Any) -> tuple:
    spec = inputs.as_spec(spec)
    inputs.require_floating("dropout", spec)
    return (), spec


@constructor
def dropout(rate: float) -> Layer:
    """y = x / (1 - rate) with probability 1 - rate, else 0, for every entry on its own, so that E[y] = x; in evaluation y = x.

    Shapes and dtype: any floating x, y the same. Trait "key" (not at rate 0, where nothing is drawn). Residual: the boolean mask,
    one byte an entry. The mask depends on the key and the shape alone, not on the dtype.

    >>> import jax, jaxbp
    >>> layer = jaxbp.dropout(0.5)
    >>> params, _ = layer.init(jax.random.key(0), (100,))
    >>> y = layer(params, jax.numpy.ones((1, 100)), train=True, key=jax.random.key(1))
    >>> sorted(set(y.ravel().tolist()))
    [0.0, 2.0]

    Raises: ValueError for a rate outside [0, 1) and for training without a key, TypeError for integer x.
    Source: Srivastava et al. 2014, in the inverted form that leaves evaluation untouched.
    """
    known = inputs.require_number("dropout", "rate", rate)
    if known and not 0 <= rate < 1:
        raise ValueError(f"dropout: rate, the share of entries set to 0, lies in [0, 1), got {rate!r}")
    return Layer(
        init=dropout_init,
        forward=functools.partial(dropout_forward, rate=rate),
        backward=functools.partial(dropout_backward, rate=rate),
        name="dropout",
        traits=frozenset({"key"} if not known or rate > 0 else ()),
    )
