"""Windows that slide over images: which entry each tap reads. What convolutions and pools share.

An image is an array (batch, *image, channels) of one or more spatial axes. A window of shape `size` stops at
`positions`; at position p its tap j reads, along each spatial axis, the entry

    strides * p + dilation * j - padding before

of the image, or padding where that lies outside. Nothing else in the library computes such an index.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbp import inputs


class Window(NamedTuple):
    """One entry a spatial axis in every field. Hashable, so that it can be a static field of a factor."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]  # entries before and after
    dilation: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """From the first tap to the last, both counted."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True))

    @property
    def disjoint(self) -> bool:
        """No entry of the image is read twice, because the windows lie side by side."""
        return self.strides == self.size and set(self.dilation) == {1}

    def positions(self, image: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(
            (n + before + after - reach) // stride + 1
            for n, (before, after), reach, stride in zip(image, self.padding, self.reach, self.strides, strict=True)
        )

    def snug(self, image: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The padding that ends with the last tap of the last position: entries that no window reads are cut (negative)."""
        return tuple(
            (before, stride * (p - 1) + reach - before - n)
            for n, p, (before, _), reach, stride in zip(
                image, self.positions(image), self.padding, self.reach, self.strides, strict=True
            )
        )

    def turned(self, image: tuple[int, ...]) -> Window:
        """The window that gathers, for each entry of the image, what has read it: over the positions set strides apart.

        Position p and tap j have read entry strides p + dilation j - before, so entry n gathers p from n + before -
        dilation j: its taps run the other way.
        """
        padding = tuple(
            (reach - 1 - before, n + before - 1 - stride * (p - 1))
            for n, p, (before, _), reach, stride in zip(
                image, self.positions(image), self.padding, self.reach, self.strides, strict=True
            )
        )
        return Window(self.size, (1,) * len(image), padding, self.dilation)


# --- from options to a Window


def check_options(name: str, padding: Any, *, axes: int | None = None, **sizes: Any) -> None:
    """Raise unless each of `sizes` is a positive whole number or one for each axis, and `padding` is one of its forms."""
    for what, value in sizes.items():
        entries = value if isinstance(value, (tuple, list)) else (value,)
        if not entries or (isinstance(value, (tuple, list)) and axes not in (None, len(value))):
            raise ValueError(f"{name}: {what} is one number or one for each of the {axes or ''} spatial axes, got {list(value)}")
        for entry in entries:
            inputs.require_positive(name, what, entry)
    forms = f"{name}: padding is 'SAME', 'VALID' or a (before, after) pair for every spatial axis"
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"{forms}, got {padding!r}")
        return
    pairs = padding if isinstance(padding, (tuple, list)) else (padding,)
    if not pairs or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise TypeError(f"{forms}, got {padding!r}")
    for entry in itertools.chain(*pairs):
        if isinstance(entry, bool) or not isinstance(entry, (int, np.integer)) or entry < 0:
            raise ValueError(f"{name}: padding pairs hold whole numbers of at least 0, got {padding!r}")


def fit(name: str, image: tuple[int, ...], size: Any, strides: Any, padding: Any, dilation: Any = 1) -> Window:
    """The Window over images of shape `image`: a number stands for every axis, "SAME" and "VALID" for their pairs.

    "SAME" gives ceil(n / stride) positions, an odd entry of padding coming after the image. Raises ValueError where the
    window does not fit into the padded image.
    """
    axes = len(image)
    size, strides, dilation = (
        _per_axis(name, what, value, axes) for what, value in (("window", size), ("strides", strides), ("dilation", dilation))
    )
    if isinstance(padding, str):
        along = zip(image, size, strides, dilation, strict=True)
        pairs = tuple(_same(*sizes) if padding == "SAME" else (0, 0) for sizes in along)
    else:
        pairs = tuple((int(before), int(after)) for before, after in _per_axis(name, "padding", padding, axes))
    window = Window(size, strides, pairs, dilation)
    padded = tuple(n + before + after for n, (before, after) in zip(image, pairs, strict=True))
    if 0 in image or any(reach > n for reach, n in zip(window.reach, padded, strict=True)):
        raise ValueError(
            f"{name}: a window over {list(window.reach)} entries (size {list(size)}, dilation {list(dilation)}) does not fit "
            f"into an image of {list(image)}, {list(padded)} with its padding; use a smaller window or padding='SAME'"
        )
    return window


def _per_axis(name: str, what: str, value: Any, axes: int) -> tuple:
    value = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(value) != axes:
        raise ValueError(f"{name}: {what} {list(value)} has {len(value)} entries, the image {axes} spatial axes")
    return value


def _same(n: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    missing = max((math.ceil(n / stride) - 1) * stride + dilation * (size - 1) + 1 - n, 0)
    return missing // 2, missing - missing // 2


# --- taps: one array (batch, *positions, channels) for each tap, row-major


def taps(x: jax.Array, window: Window, fill: float = 0) -> list[jax.Array]:
    """What each tap reads at all positions, `fill` in the padding, in row-major order of the taps."""
    positions = window.positions(x.shape[1:-1])
    x = _pad(x, fill, [(*pair, 0) for pair in window.snug(x.shape[1:-1])])

    def read(starts: tuple[int, ...]) -> jax.Array:
        limits = [start + s * (p - 1) + 1 for start, s, p in zip(starts, window.strides, positions, strict=True)]
        return lax.slice(x, (0, *starts, 0), (x.shape[0], *limits, x.shape[-1]), (1, *window.strides, 1))

    return [read(starts) for starts in _starts(window)]


def untap(part: Callable[[Any], jax.Array], window: Window, image: tuple[int, ...]) -> jax.Array:
    """The transpose of `taps`: the sum over the taps k of part(k), put back where tap k reads; what lay in padding is dropped.

    `part` is called under a loop over the first axis of the window: written out, XLA's CPU compiler would compute again,
    for each tap, whatever `part` is made of (a 3 x 3 maximum then takes 4 times as long).
    """
    shape = jax.eval_shape(part, 0)
    rows, *others = _axes(window, image, shape.shape[1:-1])
    columns = list(itertools.product(*(range(axis.size) for axis in others)))
    tall = rows.stride * (rows.positions - 1) + 1

    def add(i: Any, x_bar: jax.Array) -> jax.Array:
        row: Any = None
        for k, column in enumerate(columns):
            edges = [axis.edges(j) for axis, j in zip(others, column, strict=True)]
            placed = _pad(part(i * len(columns) + k), 0, [(0, 0, rows.stride - 1), *edges])
            row = placed if row is None else row + placed
        old = lax.dynamic_slice_in_dim(x_bar, rows.dilation * i, tall, axis=1)
        return lax.dynamic_update_slice_in_dim(x_bar, old + row, rows.dilation * i, axis=1)

    read = tall + rows.dilation * (rows.size - 1)
    zero = jnp.zeros((shape.shape[0], read, *image[1:], shape.shape[-1]), shape.dtype)
    x_bar = lax.fori_loop(0, rows.size, add, zero)
    return _pad(x_bar, 0, [(-rows.before, image[0] + rows.before - read, 0), *[(0, 0, 0)] * len(others)])


class _Axis(NamedTuple):
    """One spatial axis of a window over an image."""

    size: int
    stride: int
    before: int
    dilation: int
    length: int  # of the image
    positions: int

    def edges(self, tap: int) -> tuple[int, int, int]:
        """The padding (before, after, between) that puts a value for each position where its tap reads."""
        first = self.dilation * tap - self.before
        return first, self.length - (first + self.stride * (self.positions - 1) + 1), self.stride - 1


def _axes(window: Window, image: tuple[int, ...], positions: tuple[int, ...]) -> list[_Axis]:
    before = tuple(pair[0] for pair in window.padding)
    return [_Axis(*of) for of in zip(window.size, window.strides, before, window.dilation, image, positions, strict=True)]


def _pad(x: jax.Array, fill: float, edges: Any) -> jax.Array:
    """x with (before, after, between) entries of `fill` along each spatial axis; negative ones cut."""
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def _starts(window: Window) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(0, reach, d) for reach, d in zip(window.reach, window.dilation, strict=True)))


def fold(x: jax.Array, window: Window, fill: float = 0) -> jax.Array:
    """Of disjoint windows: (batch, *positions, taps, channels), what each position reads, `fill` in the padding."""
    axes, positions = len(window.size), window.positions(x.shape[1:-1])
    x = _pad(x, fill, [(*pair, 0) for pair in window.snug(x.shape[1:-1])])
    x = x.reshape(x.shape[0], *itertools.chain(*zip(positions, window.size, strict=True)), x.shape[-1])
    x = x.transpose(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    return x.reshape(x.shape[0], *positions, -1, x.shape[-1])


def spread(values: jax.Array, window: Window, image: tuple[int, ...]) -> jax.Array:
    """Of disjoint windows: every entry of the image holds the value of its window's position, 0 where there is no window."""
    batch, *positions, channels = values.shape
    axes = range(2, 2 * len(positions) + 1, 2)
    widened = jnp.expand_dims(values, tuple(axes))
    shape = (batch, *itertools.chain(*zip(positions, window.size, strict=True)), channels)
    covered = tuple(p * k for p, k in zip(positions, window.size, strict=True))
    flat = jnp.broadcast_to(widened, shape).reshape(batch, *covered, channels)
    edges = [(-before, n + before - m, 0) for n, m, (before, _) in zip(image, covered, window.padding, strict=True)]
    return _pad(flat, 0, edges)


# --- convolution


def convolve(
    x: jax.Array, kernel: jax.Array, window: Window, *, groups: int = 1, spacing: Any = None, dtype: Any = None
) -> jax.Array:
    """y[p, o] = sum_{j, i} x[strides p + dilation j - before, i] kernel[j, i, o], the images with channels last.

    kernel: (*size, in / groups, out). `spacing` puts spacing - 1 zeros between the entries of x; `dtype` is what the sum
    works in. Every convolution of the library takes this one layout, because XLA's CPU compiler turns others into it
    only outside of loops: inside `scan` the layouts that autodiff asks for are 17 to 45 times slower.
    """
    shared = jnp.promote_types(x.dtype, kernel.dtype)
    axes = len(window.size)
    image = (0, axes + 1, *range(1, axes + 1))
    layout = lax.ConvDimensionNumbers(image, (axes + 1, axes, *range(axes)), image)
    return lax.conv_general_dilated(
        x.astype(shared),
        kernel.astype(shared),
        window.strides,
        window.padding,
        lhs_dilation=spacing,
        rhs_dilation=window.dilation,
        dimension_numbers=layout,
        feature_group_count=groups,
        preferred_element_type=dtype,
    )


def by_group(fun: Any, groups: int, *arrays: jax.Array) -> jax.Array:
    """`fun` of each block of channels (the last axis cut into `groups`), block after block, its results side by side again.

    On CPU a loop of plain convolutions: XLA's grouped form takes twice the time where it makes x_bar, 30 to 200 times where
    it makes w_bar.
    """
    apart = lambda a: jnp.moveaxis(a.reshape(*a.shape[:-1], groups, -1), -2, 0)
    blocks = lax.map(lambda one: fun(*one), tuple(apart(a) for a in arrays))
    return jnp.moveaxis(blocks, 0, -2).reshape(*blocks.shape[1:-1], -1)
