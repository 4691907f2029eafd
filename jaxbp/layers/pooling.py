"""Pools: the maximum or the mean of each window of an image, channel by channel."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbp import inputs, windows
from jaxbp.contracts import Layer, constructor, deterministic
from jaxbp.factors import at_least_float32
from jaxbp.windows import Window


UNROLLED = 4  # taps of windows side by side up to which writing out the maximum beats argmax: 2 x 2, at 0.7 to 0.9 of its time


# --- maximum


def max_pool_forward(params: tuple, x: jax.Array, *, stops: Any) -> tuple[jax.Array, tuple]:
    """y[p] = max over taps j of x[strides p + j - before]. Residuals: the number of the tap that won, and x's empty outline."""
    window = stops(x.shape[1:-1])
    taps = math.prod(window.size)
    dtype = jnp.uint8 if taps <= 256 else jnp.int32
    if window.disjoint and taps > UNROLLED:
        read = windows.fold(x, window, -math.inf)
        winner = jnp.argmax(read, axis=-2, keepdims=True)
        return jnp.take_along_axis(read, winner, axis=-2).squeeze(-2), (winner.squeeze(-2).astype(dtype), x[:0])
    y, *rest = windows.taps(x, window, -math.inf)
    winner = jnp.zeros(y.shape, dtype)
    for j, tap in enumerate(rest, 1):
        better = (tap > y) | (jnp.isnan(tap) & ~jnp.isnan(y))  # strictly: of equals the first stays
        y = jnp.where(better, tap, y)
        winner = jnp.where(better, jnp.asarray(j, winner.dtype), winner)
    return y, (winner, x[:0])


def max_pool_backward(params: tuple, residuals: tuple, y_bar: jax.Array, *, stops: Any) -> tuple[tuple, jax.Array]:
    """x_bar[n] = sum of the y_bar[p] of the windows in which entry n won."""
    winner, outline = residuals
    image = outline.shape[1:-1]
    window = stops(image)
    if window.disjoint:  # each entry is in one window at most: a comparison, no sum
        number = jnp.broadcast_to(jnp.asarray(_numbers(window, image), winner.dtype), (*image, y_bar.shape[-1]))
        won = windows.spread(winner, window, image) == jnp.broadcast_to(number, (len(y_bar), *number.shape))
        return (), jnp.where(won, windows.spread(y_bar, window, image), 0)
    wide = y_bar.astype(at_least_float32(y_bar))
    share = lambda tap: jnp.where(winner == jnp.asarray(tap, winner.dtype), wide, 0)
    return (), windows.untap(share, window, image).astype(y_bar.dtype)


def _numbers(window: Window, image: tuple[int, ...]) -> np.ndarray:
    """(*image, 1): which tap reads each entry, of windows that lie side by side."""
    along = [(np.arange(n) + before) % k for n, (before, _), k in zip(image, window.padding, window.size, strict=True)]
    return np.ravel_multi_index(np.meshgrid(*along, indexing="ij"), window.size)[..., None]


@constructor
def max_pool(window: int | tuple[int, ...], *, strides: Any = None, padding: Any = "VALID") -> Layer:
    """y[p, c] = max over taps j of x[strides p + j - before, c].

    Of equal entries the first in row-major order takes the whole cotangent, as in XLA. A NaN counts as the largest, the first
    one takes the cotangent, so that it does not go unseen. Padding is -inf: it never wins against a number, only, as the
    first, in a window of nothing but -inf, whose cotangent is then lost.

    Options: numbers stand for every spatial axis; `strides` is the window itself where it is not given; padding is "VALID",
    "SAME" or a (before, after) pair for each axis, smaller than the window.
    Shapes: x (batch, *image, channels) in any floating dtype, one spatial axis or more; y (batch, *positions, channels) in
    the same. Residuals: the number of the winning tap, one byte an output up to 256 taps, and an empty array of x's shape.

    >>> import jax.numpy as jnp, jaxbp
    >>> x = jnp.asarray([[1.0, 3.0], [3.0, 2.0]]).reshape(1, 2, 2, 1)
    >>> layer = jaxbp.max_pool(2)
    >>> y, residuals = layer.forward((), x)
    >>> float(y[0, 0, 0, 0]), layer.backward((), residuals, y)[1].reshape(2, 2).tolist()
    (3.0, [[0.0, 3.0], [0.0, 0.0]])

    Raises: ValueError for sizes below 1, an unknown padding or one as large as the window, a window larger than the image
    and an example without spatial axes; TypeError for integer x.
    """
    return _pool("max_pool", window, strides, padding, max_pool_forward, max_pool_backward)


# --- mean


def avg_pool_forward(params: tuple, x: jax.Array, *, stops: Any) -> tuple[jax.Array, jax.Array]:
    """y[p] = sum over taps j of x[strides p + j - before] / the entries that are in the image. Residual: x's empty outline."""
    window = stops(x.shape[1:-1])
    total = _sums(x.astype(at_least_float32(x)), window)
    return _mean(total, window, x.shape[1:-1]).astype(x.dtype), x[:0]


def avg_pool_backward(params: tuple, outline: jax.Array, y_bar: jax.Array, *, stops: Any) -> tuple[tuple, jax.Array]:
    """x_bar[n] = sum over the windows p that read entry n of y_bar[p] / their number of entries."""
    image = outline.shape[1:-1]
    window = stops(image)
    share = _mean(y_bar.astype(at_least_float32(y_bar)), window, image)
    if window.disjoint:
        return (), windows.spread(share.astype(y_bar.dtype), window, image)
    return (), _sums(share, window.turned(image), spacing=window.strides).astype(y_bar.dtype)


def _sums(x: jax.Array, window: Window, spacing: Any = None) -> jax.Array:
    """The sum of what each position reads; `spacing` puts spacing - 1 zeros between the entries of x."""
    size, strides, padding = (1, *window.size, 1), (1, *window.strides, 1), ((0, 0), *window.padding, (0, 0))
    return lax.reduce_window(x, 0.0, lax.add, size, strides, padding, spacing and (1, *spacing, 1))


def _mean(total: jax.Array, window: Window, image: tuple[int, ...]) -> jax.Array:
    """total / the entries of each window that are in the image."""
    counts = 1
    for p, n, (before, _), k, stride in zip(
        window.positions(image), image, window.padding, window.size, window.strides, strict=True
    ):
        start = stride * np.arange(p) - before
        counts = np.multiply.outer(counts, np.minimum(start + k, n) - np.maximum(start, 0))
    counts = jnp.asarray(counts, total.dtype)[None, ..., None]
    return total / jnp.broadcast_to(counts, total.shape)


@constructor
def avg_pool(window: int | tuple[int, ...], *, strides: Any = None, padding: Any = "VALID") -> Layer:
    """y[p, c] = mean over taps j of x[strides p + j - before, c], over the entries that are in the image: padding does not count.

    Options and shapes as in `max_pool`. Sums in at least float32. Residual: an empty array of x's shape.

    >>> import jax.numpy as jnp, jaxbp
    >>> layer = jaxbp.avg_pool(2, padding="SAME")
    >>> layer(() , jnp.asarray([1.0, 3.0, 7.0]).reshape(1, 3, 1)).ravel().tolist()
    [2.0, 7.0]

    Raises: as `max_pool`.
    """
    return _pool("avg_pool", window, strides, padding, avg_pool_forward, avg_pool_backward)


# --- both


def _pool(name: str, window: Any, strides: Any, padding: Any, forward: Any, backward: Any) -> Layer:
    strides = window if strides is None else strides
    windows.check_options(name, padding, window=window, strides=strides)
    stops = functools.partial(_fit, name, size=window, strides=strides, padding=padding)
    init = functools.partial(pool_init, name=name, stops=stops)
    return deterministic(name, init, functools.partial(forward, stops=stops), functools.partial(backward, stops=stops))


def pool_init(key: Any, spec: Any, *, name: str, stops: Any) -> tuple:
    spec = inputs.as_spec(spec)
    inputs.require_floating(name, spec)
    if len(spec.shape) < 2 or spec.shape[-1] == 0:
        raise ValueError(f"{name}: one example has the shape (*image, channels), such as [28, 28, 1], got {list(spec.shape)}")
    positions = stops(spec.shape[:-1]).positions(spec.shape[:-1])
    return (), jax.ShapeDtypeStruct((*positions, spec.shape[-1]), spec.dtype)


def _fit(name: str, image: tuple[int, ...], *, size: Any, strides: Any, padding: Any) -> Window:
    window = windows.fit(name, image, size, strides, padding)
    if any(max(pair) >= k for pair, k in zip(window.padding, window.size, strict=True)):
        raise ValueError(
            f"{name}: padding {[list(pair) for pair in window.padding]} has to be smaller than the window {list(window.size)}, "
            "else some windows hold nothing but padding"
        )
    return window
