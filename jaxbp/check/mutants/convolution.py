"""Wrong rules of convolutions: (batch, length, channels) with kernels (taps, channels in, channels out), and one in 2-D."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp.check.mutants.cases import Mutant, on, with_rule


def conv(x: jax.Array, w: jax.Array, stride: int = 1, pads: tuple[int, int] = (0, 0), dilation: int = 1) -> jax.Array:
    layout = ("NWC", "WIO", "NWC")
    return lax.conv_general_dilated(x, w, (stride,), (pads,), rhs_dilation=(dilation,), dimension_numbers=layout)


def windows(x: jax.Array, taps: int, n: int, stride: int = 1, dilation: int = 1) -> list[jax.Array]:
    """The n inputs that each tap meets."""
    return [x[:, k * dilation : k * dilation + stride * (n - 1) + 1 : stride] for k in range(taps)]


def kernel_bar(x: jax.Array, taps: int, g: jax.Array, stride: int = 1, dilation: int = 1) -> jax.Array:
    return jnp.stack([jnp.einsum("blc,blo->co", part, g) for part in windows(x, taps, g.shape[1], stride, dilation)])


def spread(g: jax.Array, w: jax.Array, length: int, stride: int = 1, dilation: int = 1) -> jax.Array:
    """The cotangent of the (padded) input: every output adds g w[k]^T to the input that tap k met."""
    x_bar = jnp.zeros((len(g), length, w.shape[1]), g.dtype)
    n = g.shape[1]
    for k in range(len(w)):
        x_bar = x_bar.at[:, k * dilation : k * dilation + stride * (n - 1) + 1 : stride].add(g @ w[k].T)
    return x_bar


def same(w: jax.Array, x: jax.Array) -> jax.Array:
    return conv(x, w, pads=(1, 1))


def same_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return same(w, x), (w, x)


def pad_one(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (1, 1), (0, 0)))


def taps_not_flipped(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    x_bar = conv(g, w.transpose(0, 2, 1), pads=(1, 1))  # needs w[::-1]
    return kernel_bar(pad_one(x), 3, g), x_bar


def kernel_bar_flipped(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    w_bar = kernel_bar(pad_one(x), 3, g)[::-1]  # as for a convolution in the sense of mathematics
    return w_bar, spread(g, w, x.shape[1] + 2)[:, 1:-1]


def strided(w: jax.Array, x: jax.Array) -> jax.Array:
    return conv(x, w, stride=2, pads=(1, 1))


def strided_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return strided(w, x), (w, x)


def cotangent_not_spread(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    missing = x.shape[1] + 2 - g.shape[1]  # padded to the right length instead of dilated by the stride
    x_bar = conv(g, w[::-1].transpose(0, 2, 1), pads=(len(w) - 1, missing))
    return kernel_bar(pad_one(x), len(w), g, stride=2), x_bar[:, 1 : x.shape[1] + 1]


def windows_without_stride(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return kernel_bar(pad_one(x), len(w), g), spread(g, w, x.shape[1] + 2, stride=2)[:, 1:-1]


def windows_overwritten(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    x_bar = jnp.zeros_like(pad_one(x))
    for i in range(g.shape[1]):
        x_bar = x_bar.at[:, 2 * i : 2 * i + len(w)].set(jnp.einsum("bo,kco->bkc", g[:, i], w))  # neighbours share an input
    return kernel_bar(pad_one(x), len(w), g, stride=2), x_bar[:, 1:-1]


def dilated(w: jax.Array, x: jax.Array) -> jax.Array:
    return conv(x, w, pads=(2, 2), dilation=2)


def dilated_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return dilated(w, x), (w, x)


def pad_two(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (2, 2), (0, 0)))


def taps_side_by_side(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return kernel_bar(pad_two(x), len(w), g), spread(g, w, x.shape[1] + 4, dilation=2)[:, 2:-2]


def input_bar_without_dilation(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return kernel_bar(pad_two(x), len(w), g, dilation=2), spread(g, w, x.shape[1] + 4)[:, 2:-2]


def even_kernel(w: jax.Array, x: jax.Array) -> jax.Array:
    return conv(x, w, pads=(1, 2))  # "SAME" for four taps


def even_kernel_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return even_kernel(w, x), (w, x)


def pads_the_other_way(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    padded = jnp.pad(x, ((0, 0), (1, 2), (0, 0)))
    x_bar = spread(g, w, x.shape[1] + 3)
    return kernel_bar(padded, len(w), g), x_bar[:, 2:-1]  # cropped by (2, 1)


def circular(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.stack([jnp.roll(x, 1 - k, axis=1) @ w[k] for k in range(3)]).sum(0)


def circular_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return circular(w, x), (w, x)


def rolled_one_too_far(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    w_bar = jnp.stack([jnp.einsum("blc,blo->co", jnp.roll(x, 1 - k, axis=1), g) for k in range(3)])
    return w_bar, sum(jnp.roll(g, k, axis=1) @ w[k].T for k in range(3))  # back by k - 1


def grouped(w: jax.Array, x: jax.Array) -> jax.Array:
    """Two groups; w (groups, taps, channels in per group, channels out per group)."""
    parts = jnp.split(x, 2, axis=2)
    return jnp.concatenate([conv(part, w[i]) for i, part in enumerate(parts)], axis=2)


def grouped_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return grouped(w, x), (w, x)


def groups_interleaved(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    xs, gs = jnp.split(x, 2, axis=2), jnp.split(g, 2, axis=2)
    w_bar = jnp.stack([kernel_bar(xs[i], w.shape[1], gs[i]) for i in range(2)])
    parts = [spread(gs[i], w[i], x.shape[1]) for i in range(2)]
    return w_bar, jnp.stack(parts, axis=-1).reshape(x.shape)  # channel 0 of both groups, then channel 1


def groups_exchanged(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    xs, gs = jnp.split(x, 2, axis=2), jnp.split(g, 2, axis=2)
    w_bar = jnp.stack([kernel_bar(xs[1 - i], w.shape[1], gs[i]) for i in range(2)])  # the other group's input
    return w_bar, jnp.concatenate([spread(gs[i], w[i], x.shape[1]) for i in range(2)], axis=2)


def with_bias(w: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    return conv(x, w) + b[None, None]


def with_bias_fwd(w: jax.Array, b: jax.Array, x: jax.Array) -> tuple:
    return with_bias(w, b, x), (w, x)


def bias_bar_averaged_over_positions(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return kernel_bar(x, len(w), g), g.mean(1).sum(0), spread(g, w, x.shape[1])


def reflected(w: jax.Array, x: jax.Array) -> jax.Array:
    return conv(jnp.pad(x, ((0, 0), (1, 1), (0, 0)), mode="reflect"), w)


def reflected_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return reflected(w, x), (w, x)


def reflection_not_folded(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)), mode="reflect")
    return kernel_bar(padded, len(w), g), spread(g, w, x.shape[1] + 2)[:, 1:-1]  # what the mirrored rows got is dropped


def conv_2d(w: jax.Array, x: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv_2d_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return conv_2d(w, x), (w, x)


def height_and_width_exchanged(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    (height, width), (rows, columns) = w.shape[:2], g.shape[1:3]
    patch = lambda i, j: x[:, i : i + rows, j : j + columns]
    tap = lambda i, j: jnp.einsum("bhwc,bhwo->co", patch(i, j), g)
    w_bar = jnp.stack([jnp.stack([tap(i, j) for i in range(height)]) for j in range(width)])  # built column by column
    x_bar = jnp.zeros_like(x)
    for i in range(height):
        for j in range(width):
            x_bar = x_bar.at[:, i : i + rows, j : j + columns].add(g @ w[i, j].T)
    return w_bar, x_bar


usual = ((3, 2, 3), (2, 6, 2))
same_rule = partial(with_rule, same, same_fwd)
strided_rule = partial(with_rule, strided, strided_fwd)
dilated_rule = partial(with_rule, dilated, dilated_fwd)
grouped_rule = partial(with_rule, grouped, grouped_fwd)

MUTANTS = [
    Mutant("convolution: taps not flipped for x_bar", "convolution", "flip forgotten",
           on(same_rule(taps_not_flipped), *usual), "missing-term"),
    Mutant("convolution: w_bar with its taps reversed", "convolution", "flip forgotten",
           on(same_rule(kernel_bar_flipped), *usual), "permuted"),
    Mutant("convolution: cotangent padded, not spread by the stride", "convolution", "stride forgotten",
           on(strided_rule(cotangent_not_spread), (3, 2, 3), (2, 7, 2)), "missing-term"),
    Mutant("convolution: windows of w_bar without the stride", "convolution", "stride forgotten",
           on(strided_rule(windows_without_stride), (3, 2, 3), (2, 7, 2)), "missing-term"),
    Mutant("convolution: overlapping windows of x_bar overwritten", "convolution", "overlap overwritten",
           on(strided_rule(windows_overwritten), (3, 2, 3), (2, 7, 2)), "subset"),
    Mutant("convolution: w_bar takes dilated taps side by side", "convolution", "dilation forgotten",
           on(dilated_rule(taps_side_by_side), (3, 2, 3), (2, 6, 2)), "subset"),
    Mutant("convolution: x_bar without the dilation", "convolution", "dilation forgotten",
           on(dilated_rule(input_bar_without_dilation), (3, 2, 3), (2, 6, 2)), "missing-term"),
    Mutant("convolution: x_bar of an even kernel cropped the other way", "convolution", "padding off by one",
           on(with_rule(even_kernel, even_kernel_fwd, pads_the_other_way), (4, 2, 3), (2, 6, 2)), "permuted"),
    Mutant("convolution: circular, x_bar rolled one too far", "convolution", "index off by one",
           on(with_rule(circular, circular_fwd, rolled_one_too_far), *usual), "permuted"),
    Mutant("convolution: channels of x_bar interleaved over groups", "convolution", "groups mixed",
           on(grouped_rule(groups_interleaved), (2, 3, 2, 2), (2, 5, 4)), "permuted"),
    Mutant("convolution: w_bar from the other group's input", "convolution", "groups mixed",
           on(grouped_rule(groups_exchanged), (2, 3, 2, 2), (2, 5, 4)), "missing-term"),
    Mutant("convolution: b_bar a mean over positions", "convolution", "width factor",
           on(with_rule(with_bias, with_bias_fwd, bias_bar_averaged_over_positions), (3, 2, 3), (3,), (2, 6, 2)), "factor"),
    Mutant("convolution: reflected border not folded back", "convolution", "border windows",
           on(with_rule(reflected, reflected_fwd, reflection_not_folded), (3, 2, 3), (2, 8, 2)), "subset"),
    Mutant("convolution: height and width of w_bar exchanged", "convolution", "swapped axes",
           on(with_rule(conv_2d, conv_2d_fwd, height_and_width_exchanged), (3, 3, 2, 2), (2, 4, 5, 2)), "transposed"),
]  # fmt: skip
