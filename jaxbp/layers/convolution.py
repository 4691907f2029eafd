"""Convolution: y[p] = sum over taps j of x[strides p + dilation j - before] w[j] + b, images with channels last."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import initializers, inputs, windows
from jaxbp.contracts import Layer, constructor, deterministic
from jaxbp.factors import Conv, Each, at_least_float32
from jaxbp.windows import Window


class Convolution(NamedTuple):
    w: jax.Array  # (*kernel_size, in / groups, features)
    b: jax.Array | None  # (features,), None without bias


def conv_forward(params: Convolution, x: jax.Array, *, stops: Any, groups: int) -> tuple[jax.Array, jax.Array]:
    """y[p, o] = sum_{j, i} x[strides p + dilation j - before, i] w[j, i, o] + b[o]. Residual: x, because w_bar is made of it."""
    y = windows.convolve(x, params.w, stops(x.shape[1:-1]), groups=groups)
    if params.b is not None:
        y = y + jnp.broadcast_to(params.b, y.shape)
    return y, x


def conv_backward(params: Convolution, x: jax.Array, y_bar: jax.Array, *, stops: Any, groups: int) -> tuple:
    """w_bar[j] = sum_{b, p} x_b[strides p + dilation j - before] (outer) y_bar_b[p], b_bar = sum_{b, p} y_bar_b[p]."""
    window = stops(x.shape[1:-1])
    b = None if params.b is None else Each(y_bar)
    x_bar = image_bar(params.w, y_bar, window, x.shape[1:-1], groups)
    return Convolution(w=Conv(x, y_bar, window, groups), b=b), x_bar.astype(x.dtype)  # type: ignore[arg-type]


def image_bar(w: jax.Array, y_bar: jax.Array, window: Window, image: tuple[int, ...], groups: int) -> jax.Array:
    """x_bar[n] = sum over p, j with strides p + dilation j - before = n of y_bar[p] w[j]^T: a convolution of y_bar.

    Its entries stand strides apart, the taps run backwards, in and out change places; what no window read gets 0.
    """
    swap = functools.partial(_transposed, window=window, image=image)
    if groups == 1 or groups == y_bar.shape[-1]:  # with one output a group XLA's own grouped form is the shorter one
        return swap(w, y_bar, groups=groups)
    return windows.by_group(functools.partial(swap, groups=1), groups, w, y_bar)


def _transposed(w: jax.Array, y_bar: jax.Array, *, window: Window, image: tuple[int, ...], groups: int) -> jax.Array:
    axes = len(image)
    # (*size, in, groups, out) with the taps backwards -> (*size, out, groups, in)
    w = lax.rev(w, tuple(range(axes))).reshape(*w.shape[:-1], groups, -1).swapaxes(axes, axes + 2)
    w = w.reshape(*w.shape[:-2], -1)
    dtype = at_least_float32(w, y_bar)
    x_bar = windows.convolve(y_bar, w, window.turned(image), groups=groups, spacing=window.strides, dtype=dtype)
    return x_bar.astype(y_bar.dtype)


def conv_init(
    key: jax.Array, spec: Any, *, features: int, size: tuple, stops: Any, groups: int, bias: bool, w_init: Any, b_init: Any
) -> tuple:
    spec = inputs.as_spec(spec)
    inputs.require_floating("conv2d", spec)
    if len(spec.shape) != 3:
        raise ValueError(f"conv2d: one example has the shape (height, width, channels), got {list(spec.shape)}; use reshape")
    channels = spec.shape[-1]
    if channels == 0 or channels % groups:
        raise ValueError(
            f"conv2d: the {channels} channels of an example of shape {list(spec.shape)} do not divide into {groups} equal groups"
        )
    positions = stops(spec.shape[:-1]).positions(spec.shape[:-1])
    w_key, b_key = jax.random.split(key)
    w = w_init(w_key, (*size, channels // groups, features), spec.dtype)
    b = b_init(b_key, (features,), spec.dtype) if bias else None
    return Convolution(w, b), jax.ShapeDtypeStruct((*positions, features), spec.dtype)


@constructor
def conv2d(
    features: int,
    kernel_size: int | tuple[int, int],
    *,
    strides: int | tuple[int, int] = 1,
    padding: Any = "SAME",
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = True,
    w_init: Any = initializers.lecun_normal(),
    b_init: Any = initializers.zeros(),
) -> Layer:
    """y[p, o] = sum_{j, i} x[strides p + dilation j - before, i] w[j, i, o] + b[o], i over the channels of o's group.

    This is the correlation that deep learning calls convolution: the kernel is not flipped. w has shape (height, width,
    in / groups, features), b (features,). Numbers stand for both axes; padding is "SAME" (ceil(n / stride) positions), "VALID"
    (none) or a (before, after) pair of zeros for each axis.

    Shapes: x (batch, height, width, in) in any floating dtype; y (batch, *positions, features) in the same. Residual: x.
    Factors: `Conv` for w, `Each` for b. x_bar is 0 where no window reads. Default w ~ N(0, 1/fan_in), b = 0.

    >>> import jax, jaxbp
    >>> layer = jaxbp.conv2d(32, 3, strides=2)
    >>> params, spec = layer.init(jax.random.key(0), (28, 28, 16))
    >>> spec.shape, params.w.shape
    ((14, 14, 32), (3, 3, 16, 32))

    Raises: ValueError for sizes below 1, for features or channels that do not divide into the groups, for an unknown
    padding, for an example that is not (height, width, channels) and for a window that does not fit; TypeError for integer x.
    Source: Dumoulin and Visin 2016, A guide to convolution arithmetic for deep learning, chapter 4.
    """
    windows.check_options("conv2d", padding, axes=2, kernel_size=kernel_size, strides=strides, dilation=dilation)
    for what, value in (("features", features), ("groups", groups)):
        inputs.require_positive("conv2d", what, value)
    if features % groups:
        raise ValueError(f"conv2d: {features} features do not divide into {groups} equal groups")
    size = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * 2
    stops = functools.partial(windows.fit, "conv2d", size=size, strides=strides, padding=padding, dilation=dilation)
    init = functools.partial(
        conv_init, features=features, size=size, stops=stops, groups=groups, bias=bias, w_init=w_init, b_init=b_init
    )
    rule = {"stops": stops, "groups": groups}
    return deterministic("conv2d", init, functools.partial(conv_forward, **rule), functools.partial(conv_backward, **rule))
