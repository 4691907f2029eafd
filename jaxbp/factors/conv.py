"""Conv: the cotangent of a convolution's kernel."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import windows
from jaxbp.factors.base import CHUNK, Factor, at_least_float32, columns, factor, static, wide
from jaxbp.factors.outer import Outer, pairs_are_cheaper
from jaxbp.windows import Window


@factor
class Conv(Factor):
    """w_bar[j] = sum_{b, p} x_b[strides p + dilation j - before] (outer) y_bar_b[p], for a kernel (*size, in / groups, out).

    x: (batch, *image, in); y_bar: (batch, *positions, out), one, two or three spatial axes; window: where the kernel
    stopped; groups: the channels, in and out, fall into this many blocks that do not meet.

    The gradient is one convolution. A single example is an `Outer` over positions, of the patches that the kernel saw and
    y_bar; what is asked of examples forms it for one at a time, or over pairs of positions, where these are few, for `CHUNK`.
    """

    x: jax.Array
    y_bar: jax.Array
    window: Window = static()
    groups: int = static(default=1)

    def total(self, dtype: Any = None) -> jax.Array:
        kernel_bar = functools.partial(_kernel_bar, window=self.window)
        if self.groups == 1:
            w_bar = kernel_bar(self.x, self.y_bar)
        else:
            w_bar = windows.by_group(kernel_bar, self.groups, self.x, self.y_bar)
        return w_bar.astype(dtype or self.y_bar.dtype)

    def scaled(self, c: jax.Array) -> Conv:
        return Conv(self.x, columns(c, self.y_bar), self.window, self.groups)

    def _patches(self) -> jax.Array:
        """(batch, positions, taps, in): what the kernel saw."""
        taps = jnp.stack(windows.taps(self.x, self.window), axis=-2)
        return taps.reshape(self.batch, -1, *taps.shape[-2:])

    def _example(self) -> jax.Array:
        patches = wide(self.of_one()._patches()[0])  # type: ignore[attr-defined]
        y_bar = wide(self.y_bar).reshape(len(patches), -1)
        if self.groups == 1:
            g = jnp.tensordot(patches, y_bar, (0, 0))
        else:
            apart = lambda a: a.reshape(*a.shape[:-1], self.groups, -1)
            g = jnp.einsum("ptgi,pgo->tigo", apart(patches), apart(y_bar))
        return g.reshape(*self.window.size, g.shape[1], -1)

    def examples(self) -> jax.Array:
        return self.map_examples(lambda g: g)

    def map_examples(self, fun: Any, *others: Factor) -> Any:
        # one at a time: on CPU up to 1.7 times faster than CHUNK, whose patches leave the cache
        return lax.map(lambda one: fun(*(f._example() for f in one)), (self, *others))

    def second_moment(self) -> jax.Array:
        add = lambda total, one: (total + one._example() ** 2, None)
        zero = jax.eval_shape(lambda f: f.total(at_least_float32(self.dtype)), self)
        return lax.scan(add, jnp.zeros(zero.shape, zero.dtype), self)[0]

    def outers(self) -> Outer:
        """For each group the Outer of patches and y_bar: fields (groups, batch, positions, taps in / groups or out / groups)."""
        patches, groups = self._patches(), self.groups
        patches = jnp.moveaxis(patches.reshape(*patches.shape[:-1], groups, -1), 3, 0)
        y_bar = self.y_bar.reshape(self.batch, patches.shape[2], groups, -1)
        return Outer(patches.reshape(*patches.shape[:3], -1), jnp.moveaxis(y_bar, 2, 0))

    def _meets(self, other: Factor | None) -> bool:
        """Whether example by example the two are sums over the same groups of Outers of the same shape."""
        return isinstance(other, Conv) and (other.window.size, other.groups) == (self.window.size, self.groups)

    def sq_norms(self) -> jax.Array:
        return jnp.maximum(self.inner(self), 0)  # over pairs of positions rounding may leave it below zero

    def inner(self, other: Factor) -> jax.Array:
        if not self._meets(other) or not self._pairs_are_cheaper(other):  # type: ignore[arg-type]
            return self.map_examples(lambda g: jnp.sum(g**2)) if other is self else super().inner(other)
        one = lambda convs: jnp.sum(jax.vmap(Outer.inner)(*(conv.of_one().outers() for conv in convs)))
        return lax.map(one, (self, other), batch_size=CHUNK)

    def _pairs_are_cheaper(self, other: Conv) -> bool:
        positions = min(math.prod(f.y_bar.shape[1:-1]) for f in (self, other))
        ins, outs = (a.shape[-1] // self.groups for a in (self.x, self.y_bar))
        return pairs_are_cheaper(positions, math.prod(self.window.size) * ins, outs)

    def dot(self, v: jax.Array) -> jax.Array:
        """sum_p y_bar[p] . (the convolution of x with v)[p]."""
        x, y_bar = wide(self.x), wide(self.y_bar)
        y_dot = windows.convolve(x, v.astype(x.dtype), self.window, groups=self.groups)
        return jnp.sum(y_dot * y_bar, axis=tuple(range(1, y_bar.ndim)))

    def gram(self, other: Factor | None = None) -> jax.Array:
        positions, features = math.prod(self.y_bar.shape[1:-1]), self.y_bar.shape[-1] // self.groups
        if positions > features or not (other is None or self._meets(other)):
            return super().gram(other)  # a kernel is smaller than the patches that it saw
        others = None if other is None else other.outers()  # type: ignore[attr-defined]
        return jnp.sum(jax.vmap(Outer.gram)(self.outers(), others), axis=0)


def _kernel_bar(x: jax.Array, y_bar: jax.Array, window: Window) -> jax.Array:
    """w_bar = the convolution of x, its channels as the batch, with y_bar as the kernel, the batch as its channels."""
    axes = len(window.size)
    space, image = range(1, axes + 1), x.shape[1:-1]
    # strides and dilation change places: y_bar's entries stand strides apart in x, the taps of w dilation apart
    swapped = Window(y_bar.shape[1:-1], window.dilation, window.snug(image), window.strides)
    w_bar = windows.convolve(
        x.transpose(axes + 1, *space, 0), y_bar.transpose(*space, 0, axes + 1), swapped, dtype=at_least_float32(x, y_bar)
    )
    return w_bar.transpose(*space, 0, axes + 1)
