"""Planted bugs in the softmax and its relatives, over the last axis."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


def softmax(z):
    e = jnp.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_forward(z):
    p = softmax(z)
    return p, p


def diagonal_of_the_jacobian(p, y_bar):
    return (y_bar * p * (1 - p),)


def mean_over_the_batch(p, y_bar):
    return (p * (y_bar - jnp.sum(y_bar * p, axis=0, keepdims=True)),)


def clipped(p, y_bar):
    z_bar = p * (y_bar - jnp.sum(y_bar * p, axis=-1, keepdims=True))
    return (jnp.clip(z_bar, -0.1, 0.1),)  # for stability


def probabilities_held_fixed(p, y_bar):
    p = jax.lax.stop_gradient(p)
    return (p * (y_bar - jnp.sum(y_bar * p, axis=-1, keepdims=True)),)


def softmax_recomputed_forward(z):
    return softmax(z), z


def recomputed_without_shift(z, y_bar):
    e = jnp.exp(z)  # overflows where the forward does not
    p = e / e.sum(-1, keepdims=True)
    return (p * (y_bar - jnp.sum(y_bar * p, axis=-1, keepdims=True)),)


recomputed_without_shift_rule = with_rule(softmax, softmax_recomputed_forward, recomputed_without_shift)


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))


def log_softmax_forward(z):
    y = log_softmax(z)
    return y, y


def sum_of_one_assumed(y, y_bar):
    return (y_bar - jnp.exp(y),)


sum_of_one_assumed_rule = with_rule(log_softmax, log_softmax_forward, sum_of_one_assumed)


def at_temperature(temperature, z):
    return softmax(z / temperature)


def at_temperature_forward(temperature, z):
    p = at_temperature(temperature, z)
    return p, p


def temperature_forgotten(temperature, p, y_bar):
    return (p * (y_bar - jnp.sum(y_bar * p, axis=-1, keepdims=True)),)


def learned_temperature(z, log_t):
    return softmax(z * jnp.exp(-log_t))


def learned_temperature_forward(z, log_t):
    p = learned_temperature(z, log_t)
    return p, (p, log_t)


def temperature_has_no_cotangent(residuals, y_bar):
    p, log_t = residuals
    z_bar = p * (y_bar - jnp.sum(y_bar * p, axis=-1, keepdims=True)) * jnp.exp(-log_t)
    return z_bar, jnp.zeros_like(log_t)  # "a hyper-parameter"


def build_temperature(key, dtype):
    rule = with_rule(learned_temperature, learned_temperature_forward, temperature_has_no_cotangent)
    z, log_t = draw(key, dtype, (4, 5), ())
    return Check(rule, (z, 0.3 * log_t))


def masked_log_softmax(mask, z):
    """Log-probabilities among the valid entries, 0 at the others."""
    z = z - z.max(-1, keepdims=True)
    total = jnp.sum(jnp.where(mask, jnp.exp(z), 0), axis=-1, keepdims=True)
    return jnp.where(mask, z - jnp.log(total), 0)


def masked_log_softmax_forward(mask, z):
    return masked_log_softmax(mask, z), (mask, z)


def masked_entries_keep_their_cotangent(residuals, y_bar):
    mask, z = residuals
    p = jnp.where(mask, jnp.exp(masked_log_softmax(mask, z)), 0)
    return None, y_bar - p * jnp.sum(jnp.where(mask, y_bar, 0), axis=-1, keepdims=True)  # g itself where masked


def build_masked(key, dtype):
    rule = with_rule(masked_log_softmax, masked_log_softmax_forward, masked_entries_keep_their_cotangent)
    mask = jnp.arange(5)[None] < jnp.array([5, 3, 4, 5])[:, None]
    return Check(rule, (mask, *draw(key, dtype, (4, 5))))


def masked_softmax(mask, z):
    """Zeros in a row without a valid entry."""
    e = jnp.where(mask, jnp.exp(z - z.max(-1, keepdims=True)), 0)
    total = e.sum(-1, keepdims=True)
    return jnp.where(total > 0, e / jnp.where(total > 0, total, 1), 0)


def masked_softmax_forward(mask, z):
    return masked_softmax(mask, z), (mask, z)


def empty_row_divided(residuals, y_bar):
    mask, z = residuals
    e = jnp.where(mask, jnp.exp(z - z.max(-1, keepdims=True)), 0)
    p = e / e.sum(-1, keepdims=True)  # 0/0 in an empty row
    return None, p * (y_bar - jnp.sum(y_bar * p, axis=-1, keepdims=True))


def build_empty_row(key, dtype):
    mask = jnp.arange(5)[None] < jnp.array([5, 0, 3, 5])[:, None]
    return Check(with_rule(masked_softmax, masked_softmax_forward, empty_row_divided), (mask, *draw(key, dtype, (4, 5))))


@jax.custom_jvp
def forward_softmax(z):
    return softmax(z)


@forward_softmax.defjvp
def forward_softmax_jvp(primals, tangents):
    (z,), (z_dot,) = primals, tangents
    p = softmax(z)
    return p, p * z_dot  # the normaliser moves too


def build_forward(key, dtype):
    return Check(forward_softmax, draw(key, dtype, (4, 5)), "jvp")


def entropy(z):
    """Entropy of softmax(z), by rows."""
    log_p = log_softmax(z)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def entropy_forward(z):
    return entropy(z), z


def entropy_over_the_batch(z, y_bar):
    log_p = log_softmax(z)
    return (-y_bar[:, None] * jnp.exp(log_p) * (log_p - jnp.sum(jnp.exp(log_p) * log_p)),)  # summed over the batch as well


entropy_over_the_batch_rule = with_rule(entropy, entropy_forward, entropy_over_the_batch)


rule = partial(with_rule, softmax, softmax_forward)
temperature_rule = partial(with_rule(at_temperature, at_temperature_forward, temperature_forgotten, nondiff=(0,)), 2.5)

MUTANTS = planted(
    "softmax",
    ("diagonal of the Jacobian only", "diagonal only", on(rule(diagonal_of_the_jacobian), (4, 5)), "missing-term"),
    ("p·g summed over the batch, not the classes", "wrong axis", on(rule(mean_over_the_batch), (4, 5)), "missing-term"),
    ("cotangent clipped for stability", "cotangent nonlinear", on(rule(clipped), (4, 5)), "nonlinear"),
    ("probabilities under stop_gradient", "second order", on(rule(probabilities_held_fixed), (4, 5), order=2), "second-order"),
    ("recomputed without the shift by the maximum", "saturation", on(recomputed_without_shift_rule, (4, 5)), "input"),
    ("log-softmax: cotangents assumed to sum to one", "cotangent ignored", on(sum_of_one_assumed_rule, (4, 5)), "nonlinear"),
    ("temperature forgotten in the backward", "option not forwarded", on(temperature_rule, (4, 5)), "factor"),
    ("a learned temperature without a cotangent", "argument dropped", build_temperature, "zero"),
    ("log-softmax: masked entries keep their cotangent", "mask ignored", build_masked, "subset"),
    ("0/0 in the backward of an empty row", "nan guard", build_empty_row, "nan"),
    ("forward rule without the normaliser's term", "missing mean term", build_forward, "missing-term"),
    ("entropy's inner sum over the whole batch", "sum over too much", on(entropy_over_the_batch_rule, (4, 5)), "missing-term"),
)
