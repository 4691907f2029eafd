"""Wrong rules of the softmax and its relatives, over the last axis."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, Mutant, draw, on, with_rule


def softmax(z: jax.Array) -> jax.Array:
    e = jnp.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_fwd(z: jax.Array) -> tuple:
    p = softmax(z)
    return p, p


def diagonal_of_the_jacobian(p: jax.Array, g: jax.Array) -> tuple:
    return (g * p * (1 - p),)


def mean_over_the_batch(p: jax.Array, g: jax.Array) -> tuple:
    return (p * (g - jnp.sum(g * p, axis=0, keepdims=True)),)


def clipped(p: jax.Array, g: jax.Array) -> tuple:
    z_bar = p * (g - jnp.sum(g * p, axis=-1, keepdims=True))
    return (jnp.clip(z_bar, -0.1, 0.1),)  # for stability


def probabilities_held_fixed(p: jax.Array, g: jax.Array) -> tuple:
    p = jax.lax.stop_gradient(p)
    return (p * (g - jnp.sum(g * p, axis=-1, keepdims=True)),)


def softmax_recomputed_fwd(z: jax.Array) -> tuple:
    return softmax(z), z


def recomputed_without_shift(z: jax.Array, g: jax.Array) -> tuple:
    e = jnp.exp(z)  # overflows where the forward does not
    p = e / e.sum(-1, keepdims=True)
    return (p * (g - jnp.sum(g * p, axis=-1, keepdims=True)),)


def log_softmax(z: jax.Array) -> jax.Array:
    z = z - z.max(-1, keepdims=True)
    return z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))


def log_softmax_fwd(z: jax.Array) -> tuple:
    y = log_softmax(z)
    return y, y


def cotangents_assumed_to_sum_to_one(y: jax.Array, g: jax.Array) -> tuple:
    return (g - jnp.exp(y),)


def at_temperature(temperature: float, z: jax.Array) -> jax.Array:
    return softmax(z / temperature)


def at_temperature_fwd(temperature: float, z: jax.Array) -> tuple:
    p = at_temperature(temperature, z)
    return p, p


def temperature_forgotten(temperature: float, p: jax.Array, g: jax.Array) -> tuple:
    return (p * (g - jnp.sum(g * p, axis=-1, keepdims=True)),)


def learned_temperature(z: jax.Array, log_t: jax.Array) -> jax.Array:
    return softmax(z * jnp.exp(-log_t))


def learned_temperature_fwd(z: jax.Array, log_t: jax.Array) -> tuple:
    p = learned_temperature(z, log_t)
    return p, (p, log_t)


def temperature_has_no_cotangent(res: tuple, g: jax.Array) -> tuple:
    p, log_t = res
    z_bar = p * (g - jnp.sum(g * p, axis=-1, keepdims=True)) * jnp.exp(-log_t)
    return z_bar, jnp.zeros_like(log_t)  # "a hyper-parameter"


def temperature_case(key: jax.Array, dtype: Any) -> Check:
    rule = with_rule(learned_temperature, learned_temperature_fwd, temperature_has_no_cotangent)
    z, log_t = draw(key, dtype, (4, 5), ())
    return Check(rule, (z, 0.3 * log_t))


def masked_log_softmax(mask: jax.Array, z: jax.Array) -> jax.Array:
    """Log-probabilities among the valid entries, 0 at the others."""
    z = z - z.max(-1, keepdims=True)
    total = jnp.sum(jnp.where(mask, jnp.exp(z), 0), axis=-1, keepdims=True)
    return jnp.where(mask, z - jnp.log(total), 0)


def masked_log_softmax_fwd(mask: jax.Array, z: jax.Array) -> tuple:
    return masked_log_softmax(mask, z), (mask, z)


def masked_entries_keep_their_cotangent(res: tuple, g: jax.Array) -> tuple:
    mask, z = res
    p = jnp.where(mask, jnp.exp(masked_log_softmax(mask, z)), 0)
    return None, g - p * jnp.sum(jnp.where(mask, g, 0), axis=-1, keepdims=True)  # g itself where masked


def masked_case(key: jax.Array, dtype: Any) -> Check:
    rule = with_rule(masked_log_softmax, masked_log_softmax_fwd, masked_entries_keep_their_cotangent)
    mask = jnp.arange(5)[None] < jnp.array([5, 3, 4, 5])[:, None]
    return Check(rule, (mask, *draw(key, dtype, (4, 5))))


def masked_softmax(mask: jax.Array, z: jax.Array) -> jax.Array:
    """Zeros in a row without a valid entry."""
    e = jnp.where(mask, jnp.exp(z - z.max(-1, keepdims=True)), 0)
    total = e.sum(-1, keepdims=True)
    return jnp.where(total > 0, e / jnp.where(total > 0, total, 1), 0)


def masked_softmax_fwd(mask: jax.Array, z: jax.Array) -> tuple:
    return masked_softmax(mask, z), (mask, z)


def empty_row_divided(res: tuple, g: jax.Array) -> tuple:
    mask, z = res
    e = jnp.where(mask, jnp.exp(z - z.max(-1, keepdims=True)), 0)
    p = e / e.sum(-1, keepdims=True)  # 0/0 in an empty row
    return None, p * (g - jnp.sum(g * p, axis=-1, keepdims=True))


def empty_row_case(key: jax.Array, dtype: Any) -> Check:
    mask = jnp.arange(5)[None] < jnp.array([5, 0, 3, 5])[:, None]
    return Check(with_rule(masked_softmax, masked_softmax_fwd, empty_row_divided), (mask, *draw(key, dtype, (4, 5))))


@jax.custom_jvp
def forward_softmax(z: jax.Array) -> jax.Array:
    return softmax(z)


@forward_softmax.defjvp
def forward_softmax_jvp(primals: tuple, tangents: tuple) -> tuple:
    (z,), (z_dot,) = primals, tangents
    p = softmax(z)
    return p, p * z_dot  # the normaliser moves too


def forward_case(key: jax.Array, dtype: Any) -> Check:
    return Check(forward_softmax, draw(key, dtype, (4, 5)), "jvp")


def entropy(z: jax.Array) -> jax.Array:
    """Entropy of softmax(z), by rows."""
    log_p = log_softmax(z)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def entropy_fwd(z: jax.Array) -> tuple:
    return entropy(z), z


def entropy_over_the_batch(z: jax.Array, g: jax.Array) -> tuple:
    log_p = log_softmax(z)
    return (-g[:, None] * jnp.exp(log_p) * (log_p - jnp.sum(jnp.exp(log_p) * log_p)),)  # summed over the batch as well


rule = partial(with_rule, softmax, softmax_fwd)
temperature_rule = partial(with_rule(at_temperature, at_temperature_fwd, temperature_forgotten, nondiff=(0,)), 2.5)

MUTANTS = [
    Mutant("softmax: diagonal of the Jacobian only", "softmax", "diagonal only",
           on(rule(diagonal_of_the_jacobian), (4, 5)), "missing-term"),
    Mutant("softmax: p·g summed over the batch, not the classes", "softmax", "wrong axis",
           on(rule(mean_over_the_batch), (4, 5)), "missing-term"),
    Mutant("softmax: cotangent clipped for stability", "softmax", "cotangent nonlinear", on(rule(clipped), (4, 5)), "nonlinear"),
    Mutant("softmax: probabilities under stop_gradient in the backward", "softmax", "second order",
           on(rule(probabilities_held_fixed), (4, 5), order=2), "second-order"),
    Mutant("softmax: recomputed without the shift by the maximum", "softmax", "saturation",
           on(with_rule(softmax, softmax_recomputed_fwd, recomputed_without_shift), (4, 5)), "input"),
    Mutant("log-softmax: cotangents assumed to sum to one", "softmax", "cotangent ignored",
           on(with_rule(log_softmax, log_softmax_fwd, cotangents_assumed_to_sum_to_one), (4, 5)), "nonlinear"),
    Mutant("softmax: temperature forgotten in the backward", "softmax", "option not forwarded",
           on(temperature_rule, (4, 5)), "factor"),
    Mutant("softmax: a learned temperature without a cotangent", "softmax", "argument dropped", temperature_case, "zero"),
    Mutant("log-softmax: masked entries keep their cotangent", "softmax", "mask ignored", masked_case, "subset"),
    Mutant("softmax: 0/0 in the backward of an empty row", "softmax", "nan guard", empty_row_case, "nan"),
    Mutant("softmax: forward rule without the normaliser's term", "softmax", "missing mean term", forward_case, "missing-term"),
    Mutant("softmax: entropy's inner sum over the whole batch", "softmax", "wrong axis",
           on(with_rule(entropy, entropy_fwd, entropy_over_the_batch), (4, 5)), "missing-term"),
]  # fmt: skip
