"""Dense layer: y = x w + b."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp import initializers, inputs
from jaxbp.contracts import Layer, constructor, deterministic
from jaxbp.factors import Each, Outer


class Dense(NamedTuple):
    w: jax.Array  # (fan_in, fan_out)
    b: jax.Array | None  # (fan_out,), None without bias


def dense_forward(params: Dense, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = x w + b over the last axis: (batch, *time, fan_in) -> (batch, *time, fan_out). Residual: x, as w_bar = x^T y_bar."""
    y = x @ params.w
    if params.b is not None:
        y = y + jnp.broadcast_to(params.b, y.shape)
    return y, x


def dense_backward(params: Dense, x: jax.Array, y_bar: jax.Array) -> tuple[Dense, jax.Array]:
    """w_bar = x^T y_bar (BP4), b_bar = sum y_bar (BP3), x_bar = y_bar w^T (BP2 without the activation)."""
    b = None if params.b is None else Each(y_bar)
    return Dense(w=Outer(x, y_bar), b=b), y_bar @ params.w.T  # type: ignore[arg-type]


def dense_init(key: jax.Array, spec: Any, *, features: int, bias: bool, w_init: Any, b_init: Any) -> tuple:
    inputs.require_floating("dense", spec)
    if not spec.shape or spec.shape[-1] == 0:
        raise ValueError(f"dense: one example needs a last axis of at least one feature, got shape {list(spec.shape)}")
    w_key, b_key = jax.random.split(key)
    w = w_init(w_key, (spec.shape[-1], features), spec.dtype)
    b = b_init(b_key, (features,), spec.dtype) if bias else None
    return Dense(w, b), jax.ShapeDtypeStruct((*spec.shape[:-1], features), spec.dtype)


@constructor
def dense(
    features: int,
    *,
    bias: bool = True,
    w_init: Any = initializers.lecun_normal(),
    b_init: Any = initializers.zeros(),
) -> Layer:
    """y = x w + b, w of shape (fan_in, features), b of shape (features,).

    Shapes: x (batch, *time, fan_in) in any floating dtype; y (batch, *time, features) in the same; a time axis needs nothing
    more. Residual: x. Factors: `Outer` for w, `Each` for b. Default w ~ N(0, 1/fan_in), b = 0.

    >>> import jax, jaxbp
    >>> layer = jaxbp.dense(3)
    >>> params, spec = layer.init(jax.random.key(0), (2,))
    >>> spec.shape, jax.tree.map(lambda p: p.shape, params)
    ((3,), Dense(w=(2, 3), b=(3,)))

    Raises: ValueError for a size below 1 or an example without features, TypeError for integer x.
    Source: Nielsen, Neural Networks and Deep Learning, eqs. BP2-BP4.
    """
    inputs.require_positive("dense", "features", features)
    init = functools.partial(dense_init, features=features, bias=bias, w_init=w_init, b_init=b_init)
    return deterministic("dense", init, dense_forward, dense_backward)
