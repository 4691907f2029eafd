"""Planted bugs in normalisations."""

from functools import partial

import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


EPS = 1e-3


def standardized(x, *axes):
    """((x - mean) r, r), r = 1/sqrt(var + eps), over these axes or the last one."""
    axes = axes or (-1,)
    centred = x - x.mean(axes, keepdims=True)
    r = 1 / jnp.sqrt(jnp.mean(centred**2, axes, keepdims=True) + EPS)
    return centred * r, r


def standardized_bar(n, r, n_bar, *axes):
    axes = axes or (-1,)
    return r * (n_bar - n_bar.mean(axes, keepdims=True) - n * jnp.mean(n_bar * n, axes, keepdims=True))


def layer_norm(gain, bias, x):
    return standardized(x)[0] * gain[None] + bias[None]


def layer_norm_forward(gain, bias, x):
    n, r = standardized(x)
    return n * gain[None] + bias[None], (gain, n, r)


def mean_term_missing(residuals, y_bar):
    gain, n, r = residuals
    n_bar = y_bar * gain[None]
    return (y_bar * n).sum(0), y_bar.sum(0), r * (n_bar - n * jnp.mean(n_bar * n, -1, keepdims=True))


def variance_held_fixed(residuals, y_bar):
    gain, n, r = residuals
    n_bar = y_bar * gain[None]
    return (y_bar * n).sum(0), y_bar.sum(0), r * (n_bar - n_bar.mean(-1, keepdims=True))


def gain_forgotten(residuals, y_bar):
    _, n, r = residuals
    return (y_bar * n).sum(0), y_bar.sum(0), standardized_bar(n, r, y_bar)


def gain_and_bias_exchanged(residuals, y_bar):
    gain, n, r = residuals
    return y_bar.sum(0), (y_bar * n).sum(0), standardized_bar(n, r, y_bar * gain[None])


def unbiased_variance(residuals, y_bar):
    gain, n, r = residuals
    n_bar = y_bar * gain[None]
    projection = n * jnp.sum(n_bar * n, -1, keepdims=True) / (n.shape[-1] - 1)  # the forward divides by n
    return (y_bar * n).sum(0), y_bar.sum(0), r * (n_bar - n_bar.mean(-1, keepdims=True) - projection)


def gain_bar_in_bfloat16(residuals, y_bar):
    gain, n, r = residuals
    gain_bar = jnp.sum((y_bar * n).astype(jnp.bfloat16), 0)  # and left in it
    return gain_bar, y_bar.sum(0), standardized_bar(n, r, y_bar * gain[None])


def layer_norm_keeping_the_output_forward(gain, bias, x):
    n, r = standardized(x)
    y = n * gain[None] + bias[None]
    return y, (gain, y, n, r)


def gain_bar_from_the_output(residuals, y_bar):
    gain, y, n, r = residuals
    return (y_bar * y).sum(0), y_bar.sum(0), standardized_bar(n, r, y_bar * gain[None])


def layer_norm_keeping_x_forward(gain, bias, x):
    return layer_norm(gain, bias, x), (gain, x)


def eps_outside_the_root(residuals, y_bar):
    gain, x = residuals
    centred = x - x.mean(-1, keepdims=True)
    r = 1 / (jnp.std(x, axis=-1, keepdims=True) + EPS)
    n = centred * r
    return (y_bar * n).sum(0), y_bar.sum(0), standardized_bar(n, r, y_bar * gain[None])


def power_one(residuals, y_bar):
    gain, x = residuals
    size, centred = x.shape[-1], x - x.mean(-1, keepdims=True)
    var = jnp.mean(centred**2, -1, keepdims=True) + EPS
    n_bar = y_bar * gain[None]
    var_bar = jnp.sum(n_bar * centred * -0.5 / var, -1, keepdims=True)  # var ** 1.5
    mean_bar = -jnp.sum(n_bar / jnp.sqrt(var), -1, keepdims=True)
    x_bar = n_bar / jnp.sqrt(var) + var_bar * 2 * centred / size + mean_bar / size
    return (y_bar * centred / jnp.sqrt(var)).sum(0), y_bar.sum(0), x_bar


def batch_norm(gain, x):
    return standardized(x, 0)[0] * gain[None]


def batch_norm_forward(gain, x):
    n, r = standardized(x, 0)
    return n * gain[None], (gain, n, r)


def as_in_evaluation(residuals, y_bar):
    gain, n, r = residuals
    return (y_bar * n).sum(0), y_bar * gain[None] * r  # mean and variance are of this batch


as_in_evaluation_rule = with_rule(batch_norm, batch_norm_forward, as_in_evaluation)


def batch_norm_pair(gain, bias, x):
    n, r = standardized(x, 0)
    return n * gain[None] + bias[None], (gain, n, r)


def gain_bar_averaged(residuals, y_bar):
    gain, n, r = residuals
    return (y_bar * n).mean(0), y_bar.sum(0), standardized_bar(n, r, y_bar * gain[None], 0)


def build_batch_norm_pair(key, dtype):
    return Check(batch_norm_pair, draw(key, dtype, (4,), (4,), (6, 4)), "pair", gain_bar_averaged)


def image_batch_norm(x):
    """Per channel over batch, height and width."""
    return standardized(x, 0, 1, 2)[0]


def image_batch_norm_forward(x):
    n, r = standardized(x, 0, 1, 2)
    return n, (n, r)


def means_over_the_batch(residuals, y_bar):
    n, r = residuals
    return (standardized_bar(n, r, y_bar, 0),)  # (0, 1, 2)


means_over_the_batch_rule = with_rule(image_batch_norm, image_batch_norm_forward, means_over_the_batch)


def group_norm(x):
    """Three groups of two neighbouring channels, over positions and the channels of a group: x (batch, length, 6)."""
    return standardized(x.reshape(*x.shape[:2], 3, 2), 1, 3)[0].reshape(x.shape)


def group_norm_forward(x):
    n, r = standardized(x.reshape(*x.shape[:2], 3, 2), 1, 3)
    return n.reshape(x.shape), (n, r)


def every_third_channel(residuals, y_bar):
    n, r = residuals
    n_bar = y_bar.reshape(*y_bar.shape[:2], 2, 3).swapaxes(2, 3)
    return (standardized_bar(n, r, n_bar, 1, 3).swapaxes(2, 3).reshape(y_bar.shape),)


every_third_channel_rule = with_rule(group_norm, group_norm_forward, every_third_channel)


def rms_norm(gain, x):
    return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + EPS) * gain[None]


def rms_norm_forward(gain, x):
    return rms_norm(gain, x), (gain, x)


def eps_forgotten(residuals, y_bar):
    gain, x = residuals
    r = 1 / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True))
    n_bar = y_bar * gain[None]
    n = x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + EPS)
    return (y_bar * n).sum(0), r * (n_bar - x * r * jnp.mean(n_bar * x * r, -1, keepdims=True))


def size_held_fixed(residuals, y_bar):
    gain, x = residuals
    r = 1 / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + EPS)
    return (y_bar * x * r).sum(0), y_bar * gain[None] * r


def weight_norm(length, v, x):
    """x w, the columns of w of given lengths in the directions of v's."""
    return x @ (length[None] * v / jnp.sqrt(jnp.sum(v**2, 0, keepdims=True)))


def weight_norm_forward(length, v, x):
    return weight_norm(length, v, x), (length, v, x)


def length_held_fixed(residuals, y_bar):
    length, v, x = residuals
    norm = jnp.sqrt(jnp.sum(v**2, 0, keepdims=True))
    w_bar = x.T @ y_bar
    v_bar = w_bar * length[None] / norm  # only the part across v counts
    return jnp.sum(w_bar * v / norm, 0), v_bar, y_bar @ (length[None] * v / norm).T


length_held_fixed_rule = with_rule(weight_norm, weight_norm_forward, length_held_fixed)


def unit_rows(x):
    """x / max(|x|, eps) by rows."""
    return x / jnp.sqrt(jnp.maximum(jnp.sum(x**2, -1, keepdims=True), EPS**2))


def unit_rows_forward(x):
    return unit_rows(x), x


def zero_row_divided(x, y_bar):
    norm = jnp.sqrt(jnp.sum(x**2, -1, keepdims=True))
    u = x / norm  # the guard is in the forward
    return ((y_bar - u * jnp.sum(y_bar * u, -1, keepdims=True)) / norm,)


def build_zero_row(key, dtype):
    (x,) = draw(key, dtype, (4, 5))
    return Check(with_rule(unit_rows, unit_rows_forward, zero_row_divided), (x.at[2].set(0),))


def cosine(a, b):
    length = lambda v: jnp.sqrt(jnp.sum(v**2, -1))
    return jnp.sum(a * b, -1) / (length(a) * length(b))


def cosine_forward(a, b):
    return cosine(a, b), (a, b, cosine(a, b))


def vectors_assumed_unit(residuals, y_bar):
    a, b, c = residuals
    return y_bar[:, None] * (b - c[:, None] * a), y_bar[:, None] * (a - c[:, None] * b)


def build_unit_vectors(key, dtype):
    """Vectors whose length is one exactly in every dtype."""
    a, b = (0.5 * jnp.sign(v) for v in draw(key, dtype, (4, 4), (4, 4)))
    return Check(with_rule(cosine, cosine_forward, vectors_assumed_unit), (a, b))


usual = ((5,), (5,), (4, 5))
rule = partial(with_rule, layer_norm, layer_norm_forward)
from_output = partial(with_rule, layer_norm, layer_norm_keeping_the_output_forward)
from_x = partial(with_rule, layer_norm, layer_norm_keeping_x_forward)
rms_rule = partial(with_rule, rms_norm, rms_norm_forward)

MUTANTS = planted(
    "norms",
    ("layer norm: the term through the mean missing", "missing mean term", on(rule(mean_term_missing), *usual), "constant"),
    ("layer norm: the variance held fixed", "statistic held fixed", on(rule(variance_held_fixed), *usual), "missing-term"),
    ("layer norm: x_bar without the gain", "chain factor", on(rule(gain_forgotten), *usual), "missing-term"),
    ("layer norm: gain_bar and bias_bar exchanged", "swapped values", on(rule(gain_and_bias_exchanged), *usual), "swapped"),
    ("layer norm: n - 1 in the backward", "biased divisor", on(rule(unbiased_variance), *usual), "missing-term"),
    ("layer norm: gain_bar summed and left in bfloat16", "cotangent dtype", on(rule(gain_bar_in_bfloat16), *usual), "dtype"),
    ("layer norm: gain_bar from the output", "stale residual", on(from_output(gain_bar_from_the_output), *usual), "missing-term"),
    ("layer norm: epsilon outside the root", "epsilon misplaced", on(from_x(eps_outside_the_root), *usual), "missing-term"),
    ("layer norm: variance to the power 1 for 3/2", "wrong power", on(from_x(power_one), *usual), "missing-term"),
    ("batch norm: goes back as in evaluation", "statistic held fixed", on(as_in_evaluation_rule, (4,), (6, 4)), "missing-term"),
    ("batch norm: gain_bar a mean over the batch", "batch factor", build_batch_norm_pair, "factor"),
    ("batch norm: means over the batch alone", "wrong axis", on(means_over_the_batch_rule, (3, 2, 4, 2)), "missing-term"),
    ("group norm: every third channel a group", "groups mixed", on(every_third_channel_rule, (2, 4, 6)), "missing-term"),
    ("rms norm: epsilon forgotten", "epsilon misplaced", on(rms_rule(eps_forgotten), (5,), (4, 5)), "missing-term"),
    ("rms norm: the size held fixed", "statistic held fixed", on(rms_rule(size_held_fixed), (5,), (4, 5)), "missing-term"),
    ("weight norm: length of v held fixed", "product rule", on(length_held_fixed_rule, (3,), (4, 3), (5, 4)), "missing-term"),
    ("unit rows: 0/0 at a row of zeros", "nan guard", build_zero_row, "nan"),
    ("cosine: vectors assumed of unit length", "unit sum assumed", build_unit_vectors, "input"),
)
