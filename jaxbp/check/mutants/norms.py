"""Wrong rules of normalisations."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, Mutant, draw, on, with_rule


EPS = 1e-3


def standardized(x: jax.Array, axis: Any = -1) -> tuple[jax.Array, jax.Array]:
    """((x - mean) r, r), r = 1/sqrt(var + eps)."""
    centred = x - x.mean(axis, keepdims=True)
    r = 1 / jnp.sqrt(jnp.mean(centred**2, axis, keepdims=True) + EPS)
    return centred * r, r


def standardized_bar(n: jax.Array, r: jax.Array, n_bar: jax.Array, axis: Any = -1) -> jax.Array:
    return r * (n_bar - n_bar.mean(axis, keepdims=True) - n * jnp.mean(n_bar * n, axis, keepdims=True))


def layer_norm(gain: jax.Array, bias: jax.Array, x: jax.Array) -> jax.Array:
    return standardized(x)[0] * gain[None] + bias[None]


def layer_norm_fwd(gain: jax.Array, bias: jax.Array, x: jax.Array) -> tuple:
    n, r = standardized(x)
    return n * gain[None] + bias[None], (gain, n, r)


def mean_term_missing(res: tuple, g: jax.Array) -> tuple:
    gain, n, r = res
    n_bar = g * gain[None]
    return (g * n).sum(0), g.sum(0), r * (n_bar - n * jnp.mean(n_bar * n, -1, keepdims=True))


def variance_held_fixed(res: tuple, g: jax.Array) -> tuple:
    gain, n, r = res
    n_bar = g * gain[None]
    return (g * n).sum(0), g.sum(0), r * (n_bar - n_bar.mean(-1, keepdims=True))


def gain_forgotten(res: tuple, g: jax.Array) -> tuple:
    _, n, r = res
    return (g * n).sum(0), g.sum(0), standardized_bar(n, r, g)


def gain_and_bias_exchanged(res: tuple, g: jax.Array) -> tuple:
    gain, n, r = res
    return g.sum(0), (g * n).sum(0), standardized_bar(n, r, g * gain[None])


def unbiased_variance(res: tuple, g: jax.Array) -> tuple:
    gain, n, r = res
    n_bar = g * gain[None]
    projection = n * jnp.sum(n_bar * n, -1, keepdims=True) / (n.shape[-1] - 1)  # the forward divides by n
    return (g * n).sum(0), g.sum(0), r * (n_bar - n_bar.mean(-1, keepdims=True) - projection)


def gain_bar_in_bfloat16(res: tuple, g: jax.Array) -> tuple:
    gain, n, r = res
    gain_bar = jnp.sum((g * n).astype(jnp.bfloat16), 0)  # and left in it
    return gain_bar, g.sum(0), standardized_bar(n, r, g * gain[None])


def layer_norm_keeping_the_output_fwd(gain: jax.Array, bias: jax.Array, x: jax.Array) -> tuple:
    n, r = standardized(x)
    y = n * gain[None] + bias[None]
    return y, (gain, y, n, r)


def gain_bar_from_the_output(res: tuple, g: jax.Array) -> tuple:
    gain, y, n, r = res
    return (g * y).sum(0), g.sum(0), standardized_bar(n, r, g * gain[None])


def layer_norm_keeping_x_fwd(gain: jax.Array, bias: jax.Array, x: jax.Array) -> tuple:
    return layer_norm(gain, bias, x), (gain, x)


def eps_outside_the_root(res: tuple, g: jax.Array) -> tuple:
    gain, x = res
    centred = x - x.mean(-1, keepdims=True)
    r = 1 / (jnp.std(x, axis=-1, keepdims=True) + EPS)
    n = centred * r
    return (g * n).sum(0), g.sum(0), standardized_bar(n, r, g * gain[None])


def variance_to_the_wrong_power(res: tuple, g: jax.Array) -> tuple:
    gain, x = res
    size, centred = x.shape[-1], x - x.mean(-1, keepdims=True)
    var = jnp.mean(centred**2, -1, keepdims=True) + EPS
    n_bar = g * gain[None]
    var_bar = jnp.sum(n_bar * centred * -0.5 / var, -1, keepdims=True)  # var ** 1.5
    mean_bar = -jnp.sum(n_bar / jnp.sqrt(var), -1, keepdims=True)
    x_bar = n_bar / jnp.sqrt(var) + var_bar * 2 * centred / size + mean_bar / size
    return (g * centred / jnp.sqrt(var)).sum(0), g.sum(0), x_bar


def batch_norm(gain: jax.Array, x: jax.Array) -> jax.Array:
    return standardized(x, 0)[0] * gain[None]


def batch_norm_fwd(gain: jax.Array, x: jax.Array) -> tuple:
    n, r = standardized(x, 0)
    return n * gain[None], (gain, n, r)


def as_in_evaluation(res: tuple, g: jax.Array) -> tuple:
    gain, n, r = res
    return (g * n).sum(0), g * gain[None] * r  # mean and variance are of this batch


def batch_norm_pair(gain: jax.Array, bias: jax.Array, x: jax.Array) -> tuple:
    n, r = standardized(x, 0)
    return n * gain[None] + bias[None], (gain, n, r)


def gain_bar_averaged(res: tuple, g: jax.Array) -> tuple:
    gain, n, r = res
    return (g * n).mean(0), g.sum(0), standardized_bar(n, r, g * gain[None], 0)


def batch_norm_pair_case(key: jax.Array, dtype: Any) -> Check:
    return Check(batch_norm_pair, draw(key, dtype, (4,), (4,), (6, 4)), "pair", gain_bar_averaged)


def image_batch_norm(x: jax.Array) -> jax.Array:
    """Per channel over batch, height and width."""
    return standardized(x, (0, 1, 2))[0]


def image_batch_norm_fwd(x: jax.Array) -> tuple:
    n, r = standardized(x, (0, 1, 2))
    return n, (n, r)


def means_over_the_batch_only(res: tuple, g: jax.Array) -> tuple:
    n, r = res
    return (standardized_bar(n, r, g, 0),)  # (0, 1, 2)


def group_norm(x: jax.Array) -> jax.Array:
    """Three groups of two neighbouring channels, over positions and the channels of a group: x (batch, length, 6)."""
    return standardized(x.reshape(*x.shape[:2], 3, 2), (1, 3))[0].reshape(x.shape)


def group_norm_fwd(x: jax.Array) -> tuple:
    n, r = standardized(x.reshape(*x.shape[:2], 3, 2), (1, 3))
    return n.reshape(x.shape), (n, r)


def groups_of_every_third_channel(res: tuple, g: jax.Array) -> tuple:
    n, r = res
    n_bar = g.reshape(*g.shape[:2], 2, 3).swapaxes(2, 3)
    return (standardized_bar(n, r, n_bar, (1, 3)).swapaxes(2, 3).reshape(g.shape),)


def rms_norm(gain: jax.Array, x: jax.Array) -> jax.Array:
    return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + EPS) * gain[None]


def rms_norm_fwd(gain: jax.Array, x: jax.Array) -> tuple:
    return rms_norm(gain, x), (gain, x)


def eps_forgotten(res: tuple, g: jax.Array) -> tuple:
    gain, x = res
    r = 1 / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True))
    n_bar = g * gain[None]
    n = x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + EPS)
    return (g * n).sum(0), r * (n_bar - x * r * jnp.mean(n_bar * x * r, -1, keepdims=True))


def root_mean_square_held_fixed(res: tuple, g: jax.Array) -> tuple:
    gain, x = res
    r = 1 / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + EPS)
    return (g * x * r).sum(0), g * gain[None] * r


def weight_norm(length: jax.Array, v: jax.Array, x: jax.Array) -> jax.Array:
    """x w, the columns of w of given lengths in the directions of v's."""
    return x @ (length[None] * v / jnp.sqrt(jnp.sum(v**2, 0, keepdims=True)))


def weight_norm_fwd(length: jax.Array, v: jax.Array, x: jax.Array) -> tuple:
    return weight_norm(length, v, x), (length, v, x)


def length_of_v_held_fixed(res: tuple, g: jax.Array) -> tuple:
    length, v, x = res
    norm = jnp.sqrt(jnp.sum(v**2, 0, keepdims=True))
    w_bar = x.T @ g
    v_bar = w_bar * length[None] / norm  # only the part across v counts
    return jnp.sum(w_bar * v / norm, 0), v_bar, g @ (length[None] * v / norm).T


def unit_rows(x: jax.Array) -> jax.Array:
    """x / max(|x|, eps) by rows."""
    return x / jnp.sqrt(jnp.maximum(jnp.sum(x**2, -1, keepdims=True), EPS**2))


def unit_rows_fwd(x: jax.Array) -> tuple:
    return unit_rows(x), x


def zero_row_divided(x: jax.Array, g: jax.Array) -> tuple:
    norm = jnp.sqrt(jnp.sum(x**2, -1, keepdims=True))
    u = x / norm  # the guard is in the forward
    return ((g - u * jnp.sum(g * u, -1, keepdims=True)) / norm,)


def zero_row_case(key: jax.Array, dtype: Any) -> Check:
    (x,) = draw(key, dtype, (4, 5))
    return Check(with_rule(unit_rows, unit_rows_fwd, zero_row_divided), (x.at[2].set(0),))


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    length = lambda v: jnp.sqrt(jnp.sum(v**2, -1))
    return jnp.sum(a * b, -1) / (length(a) * length(b))


def cosine_fwd(a: jax.Array, b: jax.Array) -> tuple:
    return cosine(a, b), (a, b, cosine(a, b))


def vectors_assumed_unit(res: tuple, g: jax.Array) -> tuple:
    a, b, c = res
    return g[:, None] * (b - c[:, None] * a), g[:, None] * (a - c[:, None] * b)


def unit_vectors_case(key: jax.Array, dtype: Any) -> Check:
    """Vectors whose length is one exactly in every dtype."""
    a, b = (0.5 * jnp.sign(v) for v in draw(key, dtype, (4, 4), (4, 4)))
    return Check(with_rule(cosine, cosine_fwd, vectors_assumed_unit), (a, b))


usual = ((5,), (5,), (4, 5))
rule = partial(with_rule, layer_norm, layer_norm_fwd)
from_output = partial(with_rule, layer_norm, layer_norm_keeping_the_output_fwd)
from_x = partial(with_rule, layer_norm, layer_norm_keeping_x_fwd)
rms_rule = partial(with_rule, rms_norm, rms_norm_fwd)

MUTANTS = [
    Mutant("layer norm: the term through the mean missing", "norms", "missing mean term",
           on(rule(mean_term_missing), *usual), "constant"),
    Mutant("layer norm: the variance held fixed", "norms", "statistic held fixed",
           on(rule(variance_held_fixed), *usual), "missing-term"),
    Mutant("layer norm: x_bar without the gain", "norms", "weights forgotten", on(rule(gain_forgotten), *usual), "missing-term"),
    Mutant("layer norm: gain_bar and bias_bar exchanged", "norms", "swapped values",
           on(rule(gain_and_bias_exchanged), *usual), "swapped"),
    Mutant("layer norm: n - 1 in the backward", "norms", "biased divisor", on(rule(unbiased_variance), *usual), "missing-term"),
    Mutant("layer norm: gain_bar summed and left in bfloat16", "norms", "cotangent dtype",
           on(rule(gain_bar_in_bfloat16), *usual), "dtype"),
    Mutant("layer norm: gain_bar from the output", "norms", "stale residual",
           on(from_output(gain_bar_from_the_output), *usual), "missing-term"),
    Mutant("layer norm: epsilon outside the root in the backward", "norms", "epsilon misplaced",
           on(from_x(eps_outside_the_root), *usual), "missing-term"),
    Mutant("layer norm: variance to the power 1 for 3/2", "norms", "wrong power",
           on(from_x(variance_to_the_wrong_power), *usual), "missing-term"),
    Mutant("batch norm: goes back as in evaluation", "norms", "statistic held fixed",
           on(with_rule(batch_norm, batch_norm_fwd, as_in_evaluation), (4,), (6, 4)), "missing-term"),
    Mutant("batch norm: gain_bar a mean over the batch", "norms", "batch factor", batch_norm_pair_case, "factor"),
    Mutant("batch norm: means over the batch only, not the image", "norms", "wrong axis",
           on(with_rule(image_batch_norm, image_batch_norm_fwd, means_over_the_batch_only), (3, 2, 4, 2)), "missing-term"),
    Mutant("group norm: groups of every third channel in the backward", "norms", "groups mixed",
           on(with_rule(group_norm, group_norm_fwd, groups_of_every_third_channel), (2, 4, 6)), "missing-term"),
    Mutant("rms norm: epsilon forgotten in the backward", "norms", "epsilon misplaced",
           on(rms_rule(eps_forgotten), (5,), (4, 5)), "missing-term"),
    Mutant("rms norm: the root mean square held fixed", "norms", "statistic held fixed",
           on(rms_rule(root_mean_square_held_fixed), (5,), (4, 5)), "missing-term"),
    Mutant("weight norm: length of v held fixed", "norms", "product rule",
           on(with_rule(weight_norm, weight_norm_fwd, length_of_v_held_fixed), (3,), (4, 3), (5, 4)), "missing-term"),
    Mutant("unit rows: 0/0 at a row of zeros", "norms", "nan guard", zero_row_case, "nan"),
    Mutant("cosine: vectors assumed of unit length", "norms", "unit sum assumed", unit_vectors_case, "input"),
]  # fmt: skip
