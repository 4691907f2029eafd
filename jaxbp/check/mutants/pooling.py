"""Planted bugs in pooling: (batch, length, channels) or (batch, height, width, channels)."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


def max_pool(x):
    """Windows of two: (batch, length, channels) -> (batch, length / 2, channels)."""
    return x.reshape(len(x), -1, 2, x.shape[2]).max(2)


def max_pool_forward(x):
    y = max_pool(x)
    return y, (x, y)


def all_ties_get_it(residuals, y_bar):
    x, y = residuals
    return (jnp.where(x == jnp.repeat(y, 2, axis=1), jnp.repeat(y_bar, 2, axis=1), 0),)


def build_few_levels(key, dtype):
    x = jax.random.randint(key, (2, 8, 3), 0, 2).astype(dtype)  # as after a relu or a quantizer
    return Check(with_rule(max_pool, max_pool_forward, all_ties_get_it), (x,))


def relu_pool(x):
    return jnp.maximum(max_pool(x), 0)


def relu_pool_forward(x):
    return relu_pool(x), x


def negative_windows_pass(x, y_bar):
    first = x[:, ::2] >= x[:, 1::2]
    x_bar = jnp.stack([jnp.where(first, y_bar, 0), jnp.where(first, 0, y_bar)], axis=2)  # relu's zero is forgotten
    return (x_bar.reshape(x.shape),)


negative_windows_pass_rule = with_rule(relu_pool, relu_pool_forward, negative_windows_pass)


def image_windows(x):
    """(batch, rows, columns, channels, 4): windows of 2 × 2, read by rows."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, c, 4)


def image_max_pool(x):
    return image_windows(x).max(-1)


def image_max_pool_forward(x):
    return image_max_pool(x), (image_windows(x).argmax(-1), x)


def winner_read_by_columns(residuals, y_bar):
    winner, x = residuals
    b, h, w, c = x.shape
    spread = y_bar[..., None] * jnp.eye(4, dtype=y_bar.dtype)[winner]
    spread = spread.reshape(b, h // 2, w // 2, c, 2, 2)
    return (spread.transpose(0, 1, 5, 2, 4, 3).reshape(x.shape),)  # (column, row) within the window


winner_read_by_columns_rule = with_rule(image_max_pool, image_max_pool_forward, winner_read_by_columns)


def largest_magnitude(x):
    """max |x| over the positions."""
    return jnp.abs(x).max(1)


def largest_magnitude_forward(x):
    return largest_magnitude(x), x


def sign_forgotten(x, y_bar):
    winner = jnp.abs(x).argmax(1)[:, None]
    return (jnp.where(jnp.arange(x.shape[1])[None, :, None] == winner, y_bar[:, None], 0),)


sign_forgotten_rule = with_rule(largest_magnitude, largest_magnitude_forward, sign_forgotten)


def mean_pool_same(x):
    """Windows of three, stride 1, means over what lies inside: (batch, length, channels)."""
    return windows_of_three(x) / inside(x)


def windows_of_three(x):
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    return padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]


def inside(x):
    return windows_of_three(jnp.ones_like(x[:1, :, :1]))


def mean_pool_same_forward(x):
    return mean_pool_same(x), None


def three_at_the_border_too(_, y_bar):
    return (windows_of_three(y_bar / 3),)


three_at_the_border_too_rule = with_rule(mean_pool_same, mean_pool_same_forward, three_at_the_border_too)


def mean_pool_overlapping(x):
    """Windows of three, stride two."""
    n = (x.shape[1] - 1) // 2
    return (x[:, : 2 * n : 2] + x[:, 1 : 1 + 2 * n : 2] + x[:, 2 : 2 + 2 * n : 2]) / 3


def mean_pool_overlapping_forward(x):
    return mean_pool_overlapping(x), x.shape[1]


def shared_overwritten(length, y_bar):
    x_bar = jnp.zeros((len(y_bar), length, y_bar.shape[2]), y_bar.dtype)
    for i in range(y_bar.shape[1]):
        x_bar = x_bar.at[:, 2 * i : 2 * i + 3].set(y_bar[:, i : i + 1] / 3)
    return (x_bar,)


shared_overwritten_rule = with_rule(mean_pool_overlapping, mean_pool_overlapping_forward, shared_overwritten)


def global_mean(x):
    return x.mean((1, 2))


def global_mean_forward(x):
    return global_mean(x), x


def divided_by_the_height(x, y_bar):
    return (jnp.broadcast_to(y_bar[:, None, None] / x.shape[1], x.shape),)


divided_by_the_height_rule = with_rule(global_mean, global_mean_forward, divided_by_the_height)


def valid(x, lengths):
    return (jnp.arange(x.shape[1])[None] < lengths[:, None])[..., None]


def masked_mean(x, lengths):
    return jnp.where(valid(x, lengths), x, 0).sum(1) / lengths[:, None].astype(x.dtype)


def masked_mean_forward(x, lengths):
    return masked_mean(x, lengths), (x, lengths)


def padding_gets_its_share(residuals, y_bar):
    x, lengths = residuals
    return jnp.broadcast_to((y_bar / lengths[:, None].astype(x.dtype))[:, None], x.shape), None


def padded_length(residuals, y_bar):
    x, lengths = residuals
    return jnp.where(valid(x, lengths), y_bar[:, None] / x.shape[1], 0), None


def build_lengths(rule, key, dtype):
    return Check(rule, (*draw(key, dtype, (3, 6, 2)), jnp.array([4, 5, 2])))


def smooth_max(x):
    """log(mean exp(3 x)) / 3 over the positions."""
    m = x.max(1, keepdims=True)
    return m[:, 0] + jnp.log(jnp.mean(jnp.exp(3 * (x - m)), 1)) / 3


def smooth_max_forward(x):
    return smooth_max(x), x


def sharpness_not_cancelled(x, y_bar):
    e = jnp.exp(3 * (x - x.max(1, keepdims=True)))
    return (3 * y_bar[:, None] * e / e.sum(1, keepdims=True),)


sharpness_not_cancelled_rule = with_rule(smooth_max, smooth_max_forward, sharpness_not_cancelled)


def power_mean(x):
    """(mean x³)^(1/3) over the positions, x > 0."""
    return jnp.mean(x**3, 1) ** (1 / 3)


def power_mean_forward(x):
    return power_mean(x), (x, power_mean(x))


def power_not_reduced(residuals, y_bar):
    x, y = residuals
    return (y_bar[:, None] * (x / y[:, None]) ** 3 / x.shape[1],)  # (x / y)²


def build_power_mean(key, dtype):
    (x,) = draw(key, dtype, (3, 4, 2))
    return Check(with_rule(power_mean, power_mean_forward, power_not_reduced), (0.3 + jnp.abs(x),))


def median(x):
    """Over the positions; the mean of the two middle ones where their number is even."""
    n, ordered = x.shape[1], jnp.sort(x, 1)
    return (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2


def median_forward(x):
    return median(x), x


def one_middle(x, y_bar):
    rank = x.argsort(1).argsort(1)
    return (jnp.where(rank == x.shape[1] // 2, y_bar[:, None], 0),)


one_middle_rule = with_rule(median, median_forward, one_middle)


def upsample(x):
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def upsample_forward(x):
    return upsample(x), None


def one_copy(_, y_bar):
    return (y_bar[:, ::2, ::2],)


one_copy_rule = with_rule(upsample, upsample_forward, one_copy)


def mean_square(x):
    """The mean over batch and positions of a channel's square, summed over channels."""
    return jnp.sum(jnp.mean(x**2, (0, 1)))


def mean_square_gradient(x):
    value = jnp.sum(jnp.mean(x**2, (0, 1)))
    return value, jnp.flip(2 * x, 0) / (x.shape[0] * x.shape[1])  # the batch was gathered from the other end


def build_mean_square(key, dtype):
    return Check(mean_square, draw(key, dtype, (4, 3, 2)), "gradient", mean_square_gradient)


max_rule = partial(with_rule, max_pool, max_pool_forward)
masked_rule = partial(with_rule, masked_mean, masked_mean_forward)
shared_with_padding, of_padded_length = (partial(build_lengths, masked_rule(f)) for f in (padding_gets_its_share, padded_length))

MUTANTS = planted(
    "pooling",
    ("max-pool: all ties get the whole cotangent", "ties", build_few_levels, "subset"),
    ("max-pool: ties, at an input without any", "ties", on(max_rule(all_ties_get_it), (2, 8, 3)), "input"),
    ("max-pool: windows below zero pass the relu", "kink side", on(negative_windows_pass_rule, (3, 8, 3)), "subset"),
    ("max-pool: place in the window read by columns", "swapped axes", on(winner_read_by_columns_rule, (2, 4, 6, 2)), "permuted"),
    ("largest magnitude: sign forgotten", "sign", on(sign_forgotten_rule, (6, 4, 4)), "subset"),
    ("mean-pool: three counted at the border too", "border windows", on(three_at_the_border_too_rule, (2, 9, 2)), "subset"),
    ("mean-pool: shared positions overwritten", "overlap overwritten", on(shared_overwritten_rule, (2, 7, 2)), "subset"),
    ("global mean: divided by the height alone", "width factor", on(divided_by_the_height_rule, (2, 3, 4, 2)), "factor"),
    ("masked mean: padding gets its share", "mask ignored", shared_with_padding, "subset"),
    ("masked mean: divided by the padded length", "padded length", of_padded_length, "missing-term"),
    ("smooth maximum: sharpness not cancelled", "constant factor", on(sharpness_not_cancelled_rule, (3, 5, 2)), "factor"),
    ("power mean: power not reduced by one", "wrong power", build_power_mean, "missing-term"),
    ("median: one of two middles gets it all", "even and odd", on(one_middle_rule, (3, 4, 2)), "subset"),
    ("upsampling: one copy goes back", "broadcast not undone", on(one_copy_rule, (2, 3, 3, 2)), "missing-term"),
    ("mean square: gradient of the batch backwards", "reversed order", build_mean_square, "permuted"),
)
