"""Wrong rules of pooling: (batch, length, channels) or (batch, height, width, channels)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, Mutant, draw, on, with_rule


def max_pool(x: jax.Array) -> jax.Array:
    """Windows of two: (batch, length, channels) -> (batch, length / 2, channels)."""
    return x.reshape(len(x), -1, 2, x.shape[2]).max(2)


def max_pool_fwd(x: jax.Array) -> tuple:
    y = max_pool(x)
    return y, (x, y)


def all_ties_get_it(res: tuple, g: jax.Array) -> tuple:
    x, y = res
    return (jnp.where(x == jnp.repeat(y, 2, axis=1), jnp.repeat(g, 2, axis=1), 0),)


def few_levels_case(key: jax.Array, dtype: Any) -> Check:
    x = jax.random.randint(key, (2, 8, 3), 0, 2).astype(dtype)  # as after a relu or a quantizer
    return Check(with_rule(max_pool, max_pool_fwd, all_ties_get_it), (x,))


def relu_pool(x: jax.Array) -> jax.Array:
    return jnp.maximum(max_pool(x), 0)


def relu_pool_fwd(x: jax.Array) -> tuple:
    return relu_pool(x), x


def negative_windows_pass(x: jax.Array, g: jax.Array) -> tuple:
    first = x[:, ::2] >= x[:, 1::2]
    x_bar = jnp.stack([jnp.where(first, g, 0), jnp.where(first, 0, g)], axis=2)  # relu's zero is forgotten
    return (x_bar.reshape(x.shape),)


def image_windows(x: jax.Array) -> jax.Array:
    """(batch, rows, columns, channels, 4): windows of 2 × 2, read by rows."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, c, 4)


def image_max_pool(x: jax.Array) -> jax.Array:
    return image_windows(x).max(-1)


def image_max_pool_fwd(x: jax.Array) -> tuple:
    return image_max_pool(x), (image_windows(x).argmax(-1), x)


def winner_read_by_columns(res: tuple, g: jax.Array) -> tuple:
    winner, x = res
    b, h, w, c = x.shape
    spread = g[..., None] * jnp.eye(4, dtype=g.dtype)[winner]
    spread = spread.reshape(b, h // 2, w // 2, c, 2, 2)
    return (spread.transpose(0, 1, 5, 2, 4, 3).reshape(x.shape),)  # (column, row) within the window


def largest_magnitude(x: jax.Array) -> jax.Array:
    """max |x| over the positions."""
    return jnp.abs(x).max(1)


def largest_magnitude_fwd(x: jax.Array) -> tuple:
    return largest_magnitude(x), x


def sign_forgotten(x: jax.Array, g: jax.Array) -> tuple:
    winner = jnp.abs(x).argmax(1)[:, None]
    return (jnp.where(jnp.arange(x.shape[1])[None, :, None] == winner, g[:, None], 0),)


def mean_pool_same(x: jax.Array) -> jax.Array:
    """Windows of three, stride 1, means over what lies inside: (batch, length, channels)."""
    return windows_of_three(x) / inside(x)


def windows_of_three(x: jax.Array) -> jax.Array:
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    return padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]


def inside(x: jax.Array) -> jax.Array:
    return windows_of_three(jnp.ones_like(x[:1, :, :1]))


def mean_pool_same_fwd(x: jax.Array) -> tuple:
    return mean_pool_same(x), None


def three_at_the_border_too(_: None, g: jax.Array) -> tuple:
    return (windows_of_three(g / 3),)


def mean_pool_overlapping(x: jax.Array) -> jax.Array:
    """Windows of three, stride two."""
    n = (x.shape[1] - 1) // 2
    return (x[:, : 2 * n : 2] + x[:, 1 : 1 + 2 * n : 2] + x[:, 2 : 2 + 2 * n : 2]) / 3


def mean_pool_overlapping_fwd(x: jax.Array) -> tuple:
    return mean_pool_overlapping(x), x.shape[1]


def shared_positions_overwritten(length: int, g: jax.Array) -> tuple:
    x_bar = jnp.zeros((len(g), length, g.shape[2]), g.dtype)
    for i in range(g.shape[1]):
        x_bar = x_bar.at[:, 2 * i : 2 * i + 3].set(g[:, i : i + 1] / 3)
    return (x_bar,)


def global_mean(x: jax.Array) -> jax.Array:
    return x.mean((1, 2))


def global_mean_fwd(x: jax.Array) -> tuple:
    return global_mean(x), x


def divided_by_the_height(x: jax.Array, g: jax.Array) -> tuple:
    return (jnp.broadcast_to(g[:, None, None] / x.shape[1], x.shape),)


def valid(x: jax.Array, lengths: jax.Array) -> jax.Array:
    return (jnp.arange(x.shape[1])[None] < lengths[:, None])[..., None]


def masked_mean(x: jax.Array, lengths: jax.Array) -> jax.Array:
    return jnp.where(valid(x, lengths), x, 0).sum(1) / lengths[:, None].astype(x.dtype)


def masked_mean_fwd(x: jax.Array, lengths: jax.Array) -> tuple:
    return masked_mean(x, lengths), (x, lengths)


def padding_gets_its_share(res: tuple, g: jax.Array) -> tuple:
    x, lengths = res
    return jnp.broadcast_to((g / lengths[:, None].astype(x.dtype))[:, None], x.shape), None


def divided_by_the_padded_length(res: tuple, g: jax.Array) -> tuple:
    x, lengths = res
    return jnp.where(valid(x, lengths), g[:, None] / x.shape[1], 0), None


def lengths_case(rule: Any, key: jax.Array, dtype: Any) -> Check:
    return Check(rule, (*draw(key, dtype, (3, 6, 2)), jnp.array([4, 5, 2])))


def smooth_max(x: jax.Array) -> jax.Array:
    """log(mean exp(3 x)) / 3 over the positions."""
    m = x.max(1, keepdims=True)
    return m[:, 0] + jnp.log(jnp.mean(jnp.exp(3 * (x - m)), 1)) / 3


def smooth_max_fwd(x: jax.Array) -> tuple:
    return smooth_max(x), x


def sharpness_not_cancelled(x: jax.Array, g: jax.Array) -> tuple:
    e = jnp.exp(3 * (x - x.max(1, keepdims=True)))
    return (3 * g[:, None] * e / e.sum(1, keepdims=True),)


def power_mean(x: jax.Array) -> jax.Array:
    """(mean x³)^(1/3) over the positions, x > 0."""
    return jnp.mean(x**3, 1) ** (1 / 3)


def power_mean_fwd(x: jax.Array) -> tuple:
    return power_mean(x), (x, power_mean(x))


def power_not_reduced(res: tuple, g: jax.Array) -> tuple:
    x, y = res
    return (g[:, None] * (x / y[:, None]) ** 3 / x.shape[1],)  # (x / y)²


def power_mean_case(key: jax.Array, dtype: Any) -> Check:
    (x,) = draw(key, dtype, (3, 4, 2))
    return Check(with_rule(power_mean, power_mean_fwd, power_not_reduced), (0.3 + jnp.abs(x),))


def median(x: jax.Array) -> jax.Array:
    """Over the positions; the mean of the two middle ones where their number is even."""
    n, ordered = x.shape[1], jnp.sort(x, 1)
    return (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2


def median_fwd(x: jax.Array) -> tuple:
    return median(x), x


def one_middle(x: jax.Array, g: jax.Array) -> tuple:
    rank = x.argsort(1).argsort(1)
    return (jnp.where(rank == x.shape[1] // 2, g[:, None], 0),)


def upsample(x: jax.Array) -> jax.Array:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def upsample_fwd(x: jax.Array) -> tuple:
    return upsample(x), None


def one_copy(_: None, g: jax.Array) -> tuple:
    return (g[:, ::2, ::2],)


def mean_square(x: jax.Array) -> jax.Array:
    """The mean over batch and positions of a channel's square, summed over channels."""
    return jnp.sum(jnp.mean(x**2, (0, 1)))


def mean_square_gradient(x: jax.Array) -> tuple:
    value = jnp.sum(jnp.mean(x**2, (0, 1)))
    return value, jnp.flip(2 * x, 0) / (x.shape[0] * x.shape[1])  # the batch was gathered from the other end


def mean_square_case(key: jax.Array, dtype: Any) -> Check:
    return Check(mean_square, draw(key, dtype, (4, 3, 2)), "gradient", mean_square_gradient)


max_rule = partial(with_rule, max_pool, max_pool_fwd)
masked_rule = partial(with_rule, masked_mean, masked_mean_fwd)

MUTANTS = [
    Mutant("max-pool: all ties get the whole cotangent", "pooling", "ties", few_levels_case, "subset"),
    Mutant("max-pool: ties, at an input without any", "pooling", "ties", on(max_rule(all_ties_get_it), (2, 8, 3)), "input"),
    Mutant("max-pool: windows below zero pass the relu", "pooling", "kink side",
           on(with_rule(relu_pool, relu_pool_fwd, negative_windows_pass), (3, 8, 3)), "subset"),
    Mutant("max-pool: place in the window read by columns", "pooling", "swapped axes",
           on(with_rule(image_max_pool, image_max_pool_fwd, winner_read_by_columns), (2, 4, 6, 2)), "permuted"),
    Mutant("largest magnitude: sign forgotten", "pooling", "sign",
           on(with_rule(largest_magnitude, largest_magnitude_fwd, sign_forgotten), (6, 4, 4)), "subset"),
    Mutant("mean-pool: three counted at the border too", "pooling", "border windows",
           on(with_rule(mean_pool_same, mean_pool_same_fwd, three_at_the_border_too), (2, 9, 2)), "subset"),
    Mutant("mean-pool: shared positions overwritten", "pooling", "overlap overwritten",
           on(with_rule(mean_pool_overlapping, mean_pool_overlapping_fwd, shared_positions_overwritten), (2, 7, 2)), "subset"),
    Mutant("global mean: divided by the height alone", "pooling", "width factor",
           on(with_rule(global_mean, global_mean_fwd, divided_by_the_height), (2, 3, 4, 2)), "factor"),
    Mutant("masked mean: padding gets its share", "pooling", "mask ignored",
           partial(lengths_case, masked_rule(padding_gets_its_share)), "subset"),
    Mutant("masked mean: divided by the padded length", "pooling", "padded length",
           partial(lengths_case, masked_rule(divided_by_the_padded_length)), "missing-term"),
    Mutant("smooth maximum: sharpness not cancelled", "pooling", "constant factor",
           on(with_rule(smooth_max, smooth_max_fwd, sharpness_not_cancelled), (3, 5, 2)), "factor"),
    Mutant("power mean: power not reduced by one", "pooling", "wrong power", power_mean_case, "missing-term"),
    Mutant("median: one of two middles gets it all", "pooling", "even and odd",
           on(with_rule(median, median_fwd, one_middle), (3, 4, 2)), "subset"),
    Mutant("upsampling: one copy goes back", "pooling", "broadcast not undone",
           on(with_rule(upsample, upsample_fwd, one_copy), (2, 3, 3, 2)), "missing-term"),
    Mutant("mean square: gradient of the batch backwards", "pooling", "reversed order", mean_square_case, "permuted"),
]  # fmt: skip
