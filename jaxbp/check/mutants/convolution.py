"""Planted bugs in convolutions: (batch, length, channels) with kernels (taps, channels in, channels out), and one in 2-D."""

from functools import partial

import jax.numpy as jnp
from jax import lax

from jaxbp.check.mutants.cases import on, planted, with_rule


def conv(x, w, stride=1, pads=(0, 0), dilation=1):
    layout = ("NWC", "WIO", "NWC")
    return lax.conv_general_dilated(x, w, (stride,), (pads,), rhs_dilation=(dilation,), dimension_numbers=layout)


def windows(x, taps, n, stride=1, dilation=1):
    """The n inputs that each tap meets."""
    return [x[:, k * dilation : k * dilation + stride * (n - 1) + 1 : stride] for k in range(taps)]


def kernel_bar(x, taps, y_bar, stride=1, dilation=1):
    return jnp.stack([jnp.einsum("blc,blo->co", part, y_bar) for part in windows(x, taps, y_bar.shape[1], stride, dilation)])


def spread(y_bar, w, length, stride=1, dilation=1):
    """The cotangent of the (padded) input: every output adds g w[k]^T to the input that tap k met."""
    x_bar = jnp.zeros((len(y_bar), length, w.shape[1]), y_bar.dtype)
    n = y_bar.shape[1]
    for k in range(len(w)):
        x_bar = x_bar.at[:, k * dilation : k * dilation + stride * (n - 1) + 1 : stride].add(y_bar @ w[k].T)
    return x_bar


def same(w, x):
    return conv(x, w, pads=(1, 1))


def same_forward(w, x):
    return same(w, x), (w, x)


def pad_one(x):
    return jnp.pad(x, ((0, 0), (1, 1), (0, 0)))


def taps_not_flipped(residuals, y_bar):
    w, x = residuals
    x_bar = conv(y_bar, w.transpose(0, 2, 1), pads=(1, 1))  # needs w[::-1]
    return kernel_bar(pad_one(x), 3, y_bar), x_bar


def kernel_bar_flipped(residuals, y_bar):
    w, x = residuals
    w_bar = kernel_bar(pad_one(x), 3, y_bar)[::-1]  # as for a convolution in the sense of mathematics
    return w_bar, spread(y_bar, w, x.shape[1] + 2)[:, 1:-1]


def strided(w, x):
    return conv(x, w, stride=2, pads=(1, 1))


def strided_forward(w, x):
    return strided(w, x), (w, x)


def cotangent_not_spread(residuals, y_bar):
    w, x = residuals
    missing = x.shape[1] + 2 - y_bar.shape[1]  # padded to the right length instead of dilated by the stride
    x_bar = conv(y_bar, w[::-1].transpose(0, 2, 1), pads=(len(w) - 1, missing))
    return kernel_bar(pad_one(x), len(w), y_bar, stride=2), x_bar[:, 1 : x.shape[1] + 1]


def windows_without_stride(residuals, y_bar):
    w, x = residuals
    return kernel_bar(pad_one(x), len(w), y_bar), spread(y_bar, w, x.shape[1] + 2, stride=2)[:, 1:-1]


def windows_overwritten(residuals, y_bar):
    w, x = residuals
    x_bar = jnp.zeros_like(pad_one(x))
    for i in range(y_bar.shape[1]):
        x_bar = x_bar.at[:, 2 * i : 2 * i + len(w)].set(jnp.einsum("bo,kco->bkc", y_bar[:, i], w))  # neighbours share an input
    return kernel_bar(pad_one(x), len(w), y_bar, stride=2), x_bar[:, 1:-1]


def dilated(w, x):
    return conv(x, w, pads=(2, 2), dilation=2)


def dilated_forward(w, x):
    return dilated(w, x), (w, x)


def pad_two(x):
    return jnp.pad(x, ((0, 0), (2, 2), (0, 0)))


def taps_side_by_side(residuals, y_bar):
    w, x = residuals
    return kernel_bar(pad_two(x), len(w), y_bar), spread(y_bar, w, x.shape[1] + 4, dilation=2)[:, 2:-2]


def input_bar_without_dilation(residuals, y_bar):
    w, x = residuals
    return kernel_bar(pad_two(x), len(w), y_bar, dilation=2), spread(y_bar, w, x.shape[1] + 4)[:, 2:-2]


def even_kernel(w, x):
    return conv(x, w, pads=(1, 2))  # "SAME" for four taps


def even_kernel_forward(w, x):
    return even_kernel(w, x), (w, x)


def other_way(residuals, y_bar):
    w, x = residuals
    padded = jnp.pad(x, ((0, 0), (1, 2), (0, 0)))
    x_bar = spread(y_bar, w, x.shape[1] + 3)
    return kernel_bar(padded, len(w), y_bar), x_bar[:, 2:-1]  # cropped by (2, 1)


other_way_rule = with_rule(even_kernel, even_kernel_forward, other_way)


def circular(w, x):
    return jnp.stack([jnp.roll(x, 1 - k, axis=1) @ w[k] for k in range(3)]).sum(0)


def circular_forward(w, x):
    return circular(w, x), (w, x)


def rolled_one_too_far(residuals, y_bar):
    w, x = residuals
    w_bar = jnp.stack([jnp.einsum("blc,blo->co", jnp.roll(x, 1 - k, axis=1), y_bar) for k in range(3)])
    return w_bar, sum(jnp.roll(y_bar, k, axis=1) @ w[k].T for k in range(3))  # back by k - 1


rolled_one_too_far_rule = with_rule(circular, circular_forward, rolled_one_too_far)


def grouped(w, x):
    """Two groups; w (groups, taps, channels in per group, channels out per group)."""
    parts = jnp.split(x, 2, axis=2)
    return jnp.concatenate([conv(part, w[i]) for i, part in enumerate(parts)], axis=2)


def grouped_forward(w, x):
    return grouped(w, x), (w, x)


def groups_interleaved(residuals, y_bar):
    w, x = residuals
    xs, gs = jnp.split(x, 2, axis=2), jnp.split(y_bar, 2, axis=2)
    w_bar = jnp.stack([kernel_bar(xs[i], w.shape[1], gs[i]) for i in range(2)])
    parts = [spread(gs[i], w[i], x.shape[1]) for i in range(2)]
    return w_bar, jnp.stack(parts, axis=-1).reshape(x.shape)  # channel 0 of both groups, then channel 1


def groups_exchanged(residuals, y_bar):
    w, x = residuals
    xs, gs = jnp.split(x, 2, axis=2), jnp.split(y_bar, 2, axis=2)
    w_bar = jnp.stack([kernel_bar(xs[1 - i], w.shape[1], gs[i]) for i in range(2)])  # the other group's input
    return w_bar, jnp.concatenate([spread(gs[i], w[i], x.shape[1]) for i in range(2)], axis=2)


def with_bias(w, b, x):
    return conv(x, w) + b[None, None]


def with_bias_forward(w, b, x):
    return with_bias(w, b, x), (w, x)


def bias_bar_averaged(residuals, y_bar):
    w, x = residuals
    return kernel_bar(x, len(w), y_bar), y_bar.mean(1).sum(0), spread(y_bar, w, x.shape[1])


bias_bar_averaged_rule = with_rule(with_bias, with_bias_forward, bias_bar_averaged)


def reflected(w, x):
    return conv(jnp.pad(x, ((0, 0), (1, 1), (0, 0)), mode="reflect"), w)


def reflected_forward(w, x):
    return reflected(w, x), (w, x)


def reflection_not_folded(residuals, y_bar):
    w, x = residuals
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)), mode="reflect")
    return kernel_bar(padded, len(w), y_bar), spread(y_bar, w, x.shape[1] + 2)[:, 1:-1]  # what the mirrored rows got is dropped


reflection_not_folded_rule = with_rule(reflected, reflected_forward, reflection_not_folded)


def conv_2d(w, x):
    return lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv_2d_forward(w, x):
    return conv_2d(w, x), (w, x)


def exchanged(residuals, y_bar):
    w, x = residuals
    (height, width), (rows, columns) = w.shape[:2], y_bar.shape[1:3]
    patch = lambda i, j: x[:, i : i + rows, j : j + columns]
    tap = lambda i, j: jnp.einsum("bhwc,bhwo->co", patch(i, j), y_bar)
    w_bar = jnp.stack([jnp.stack([tap(i, j) for i in range(height)]) for j in range(width)])  # built column by column
    x_bar = jnp.zeros_like(x)
    for i in range(height):
        for j in range(width):
            x_bar = x_bar.at[:, i : i + rows, j : j + columns].add(y_bar @ w[i, j].T)
    return w_bar, x_bar


exchanged_rule = with_rule(conv_2d, conv_2d_forward, exchanged)


usual, odd, grouped_shapes = ((3, 2, 3), (2, 6, 2)), ((3, 2, 3), (2, 7, 2)), ((2, 3, 2, 2), (2, 5, 4))
same_rule = partial(with_rule, same, same_forward)
strided_rule = partial(with_rule, strided, strided_forward)
dilated_rule = partial(with_rule, dilated, dilated_forward)
grouped_rule = partial(with_rule, grouped, grouped_forward)

MUTANTS = planted(
    "convolution",
    ("taps not flipped for x_bar", "flip forgotten", on(same_rule(taps_not_flipped), *usual), "missing-term"),
    ("w_bar with its taps reversed", "flip forgotten", on(same_rule(kernel_bar_flipped), *usual), "permuted"),
    ("cotangent padded, not spread", "stride forgotten", on(strided_rule(cotangent_not_spread), *odd), "missing-term"),
    ("w_bar without the stride", "stride forgotten", on(strided_rule(windows_without_stride), *odd), "missing-term"),
    ("overlapping windows overwritten", "overlap overwritten", on(strided_rule(windows_overwritten), *odd), "subset"),
    ("dilated taps side by side for w_bar", "dilation forgotten", on(dilated_rule(taps_side_by_side), *usual), "subset"),
    ("x_bar without the dilation", "dilation forgotten", on(dilated_rule(input_bar_without_dilation), *usual), "missing-term"),
    ("even kernel cropped the other way", "padding off by one", on(other_way_rule, (4, 2, 3), (2, 6, 2)), "permuted"),
    ("circular, x_bar rolled one too far", "index off by one", on(rolled_one_too_far_rule, *usual), "permuted"),
    ("channels interleaved over groups", "groups mixed", on(grouped_rule(groups_interleaved), *grouped_shapes), "permuted"),
    ("w_bar from the other group", "groups mixed", on(grouped_rule(groups_exchanged), *grouped_shapes), "missing-term"),
    ("b_bar a mean over positions", "width factor", on(bias_bar_averaged_rule, (3, 2, 3), (3,), (2, 6, 2)), "factor"),
    ("reflected border not folded back", "border windows", on(reflection_not_folded_rule, (3, 2, 3), (2, 8, 2)), "subset"),
    ("height and width of w_bar exchanged", "swapped axes", on(exchanged_rule, (3, 3, 2, 2), (2, 4, 5, 2)), "transposed"),
)
