"""Wrong rules of cross-entropies on logits (batch, classes), labels as integers."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, Mutant, draw, with_rule
from jaxbp.check.mutants.softmax import log_softmax, softmax


def one_hot(labels: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.eye(like.shape[-1], dtype=like.dtype)[labels] * (labels >= 0)[..., None]  # zeros for a negative label


def of_label(values: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, labels[..., None], axis=-1)[..., 0]


def losses(z: jax.Array, labels: jax.Array) -> jax.Array:
    return -of_label(log_softmax(z), labels)


def losses_fwd(z: jax.Array, labels: jax.Array) -> tuple:
    return losses(z, labels), (z, labels)


def labels_from_one(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    hot = one_hot((labels + 1) % z.shape[1], z)  # the data set counts from 1, the forward does not
    return g[:, None] * (softmax(z) - hot), None


def logits_in_half_precision(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    p = softmax(z.astype(jnp.float16)).astype(z.dtype)
    return g[:, None] * (p - one_hot(labels, z)), None


def last_classes_lost(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    p, chunk = softmax(z), 3
    z_bar = jnp.zeros_like(z)
    for i in range(z.shape[1] // chunk):  # seven classes in chunks of three
        columns = slice(i * chunk, (i + 1) * chunk)
        z_bar = z_bar.at[:, columns].set(g[:, None] * (p - one_hot(labels, z))[:, columns])
    return z_bar, None


def mean_loss(z: jax.Array, labels: jax.Array) -> jax.Array:
    return losses(z, labels).mean()


def mean_loss_fwd(z: jax.Array, labels: jax.Array) -> tuple:
    return mean_loss(z, labels), (z, labels)


def summed_over_the_batch(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    return g * (softmax(z) - one_hot(labels, z)), None


def the_loss_is_last(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    return (softmax(z) - one_hot(labels, z)) / len(z), None  # g is 1 in training


def differences(z: jax.Array, labels: jax.Array) -> jax.Array:
    """A gradient by one-sided differences, "good enough"."""
    h = 1e-2
    moved = lambda e: (mean_loss(z + h * e.reshape(z.shape), labels) - mean_loss(z, labels)) / h
    return jax.vmap(moved)(jnp.eye(z.size, dtype=z.dtype)).reshape(z.shape)


def smoothed(z: jax.Array, labels: jax.Array) -> jax.Array:
    log_p = log_softmax(z)
    return -0.9 * of_label(log_p, labels) - 0.1 * log_p.mean(-1)


def smoothed_fwd(z: jax.Array, labels: jax.Array) -> tuple:
    return smoothed(z, labels), (z, labels)


def smoothing_forgotten(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    return g[:, None] * (softmax(z) - one_hot(labels, z)), None


def with_ignored(z: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over the examples whose label is not negative."""
    valid = labels >= 0
    return jnp.where(valid, losses(z, jnp.where(valid, labels, 0)), 0).sum() / valid.sum()


def with_ignored_fwd(z: jax.Array, labels: jax.Array) -> tuple:
    return with_ignored(z, labels), (z, labels)


def ignored_rows_pushed(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    return g / (labels >= 0).sum() * (softmax(z) - one_hot(labels, z)), None  # rows of label -1 get softmax(z)


def divided_by_all(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    valid = (labels >= 0)[:, None]
    return jnp.where(valid, g / len(z) * (softmax(z) - one_hot(labels, z)), 0), None


def class_weighted(z: jax.Array, labels: jax.Array) -> jax.Array:
    return class_weights(z)[labels] * losses(z, labels)


def class_weights(z: jax.Array) -> jax.Array:
    return jnp.linspace(0.5, 2.0, z.shape[1], dtype=z.dtype)


def class_weighted_fwd(z: jax.Array, labels: jax.Array) -> tuple:
    return class_weighted(z, labels), (z, labels)


def class_weights_forgotten(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    return g[:, None] * (softmax(z) - one_hot(labels, z)), None


def labelled(rule: Any, labels: tuple[int, ...], classes: int, key: jax.Array, dtype: Any) -> Check:
    return Check(rule, (*draw(key, dtype, (len(labels), classes)), jnp.array(labels)))


def difference_case(key: jax.Array, dtype: Any) -> Check:
    return Check(mean_loss, (*draw(key, dtype, (4, 5)), jnp.array([1, 0, 4, 2])), "gradient", differences)


def binary(z: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.maximum(z, 0) - z * t + jnp.log1p(jnp.exp(-jnp.abs(z)))


def binary_fwd(z: jax.Array, t: jax.Array) -> tuple:
    return binary(z, t), (z, t)


def sigmoid_of_large_logits(res: tuple, g: jax.Array) -> tuple:
    z, t = res
    e = jnp.exp(z)
    return g * (e / (1 + e) - t), -g * z  # inf/inf for large z


def binary_case(rule: Any, key: jax.Array, dtype: Any) -> Check:
    z, t = draw(key, dtype, (4, 5), (4, 5))
    return Check(rule, (z, jax.nn.sigmoid(t)))


def of_probabilities(p: jax.Array, t: jax.Array) -> jax.Array:
    return -t * jnp.log(p) - (1 - t) * jnp.log(1 - p)


def of_probabilities_fwd(p: jax.Array, t: jax.Array) -> tuple:
    return of_probabilities(p, t), (p, t)


def as_if_of_logits(res: tuple, g: jax.Array) -> tuple:
    p, t = res
    return g * (p - t), g * (jnp.log(1 - p) - jnp.log(p))  # p (1 - p) belongs below


def probabilities_case(key: jax.Array, dtype: Any) -> Check:
    p, t = (jax.nn.sigmoid(a) for a in draw(key, dtype, (4, 5), (4, 5)))
    return Check(with_rule(of_probabilities, of_probabilities_fwd, as_if_of_logits), (p, t))


def weighted_positives(z: jax.Array, positive: jax.Array) -> jax.Array:
    """Positives count three times; `positive` is bool."""
    return jnp.where(positive, 3.0, 1.0).astype(z.dtype) * jnp.log1p(jnp.exp(jnp.where(positive, -z, z)))


def weighted_positives_fwd(z: jax.Array, positive: jax.Array) -> tuple:
    return weighted_positives(z, positive), (z, positive)


def positive_weight_forgotten(res: tuple, g: jax.Array) -> tuple:
    z, positive = res
    return g * (1 / (1 + jnp.exp(-z)) - positive), None


def positives_case(key: jax.Array, dtype: Any) -> Check:
    positive = (jnp.arange(20) % 3 == 1).reshape(4, 5)
    rule = with_rule(weighted_positives, weighted_positives_fwd, positive_weight_forgotten)
    return Check(rule, (*draw(key, dtype, (4, 5)), positive))


def soft(z: jax.Array, t: jax.Array) -> jax.Array:
    return -jnp.sum(t * log_softmax(z), axis=-1)


def soft_fwd(z: jax.Array, t: jax.Array) -> tuple:
    return soft(z, t), (z, t)


def targets_assumed_to_sum_to_one(res: tuple, g: jax.Array) -> tuple:
    z, t = res
    return g[:, None] * (softmax(z) - t), -g[:, None] * log_softmax(z)  # softmax(z) times the sum of t


def targets_minus_probabilities(res: tuple, g: jax.Array) -> tuple:
    z, t = res
    return g[:, None] * (t - softmax(z) * t.sum(-1, keepdims=True)), -g[:, None] * log_softmax(z)


def soft_case(rule: Any, key: jax.Array, dtype: Any) -> Check:
    """Targets that sum to one exactly in every dtype."""
    t = jnp.array([0.5, 0.25, 0.125, 0.0625, 0.0625], dtype)
    t = jnp.stack([jax.random.permutation(k, t) for k in jax.random.split(key, 4)])
    return Check(rule, (*draw(key, dtype, (4, 5)), t))


def focal(z: jax.Array, labels: jax.Array) -> jax.Array:
    log_p = of_label(log_softmax(z), labels)
    return -((1 - jnp.exp(log_p)) ** 2) * log_p


def focal_fwd(z: jax.Array, labels: jax.Array) -> tuple:
    return focal(z, labels), (z, labels)


def focal_weight_held_fixed(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    p = softmax(z)
    weight = (1 - of_label(p, labels)) ** 2
    return (g * weight)[:, None] * (p - one_hot(labels, z)), None  # and the weight's own derivative?


def over_time(z: jax.Array, labels: jax.Array, lengths: jax.Array) -> jax.Array:
    """Losses of each sequence summed over its valid steps."""
    valid = jnp.arange(z.shape[1])[None] < lengths[:, None]
    return jnp.where(valid, losses(z, labels), 0).sum(1)


def over_time_fwd(z: jax.Array, labels: jax.Array, lengths: jax.Array) -> tuple:
    return over_time(z, labels, lengths), (z, labels)


def padded_steps_count(res: tuple, g: jax.Array) -> tuple:
    z, labels = res
    return g[:, None, None] * (softmax(z) - one_hot(labels, z)), None, None


def over_time_case(key: jax.Array, dtype: Any) -> Check:
    labels = jnp.array([[1, 0, 2, 2], [2, 2, 0, 0], [0, 1, 1, 2]])
    rule = with_rule(over_time, over_time_fwd, padded_steps_count)
    return Check(rule, (*draw(key, dtype, (3, 4, 3)), labels, jnp.array([4, 2, 3])))


def of(primal: Any, forward: Any, backward: Any, labels: tuple[int, ...] = (1, 0, 4, 2), classes: int = 5) -> Any:
    return partial(labelled, with_rule(primal, forward, backward), labels, classes)


soft_rule = partial(with_rule, soft, soft_fwd)
seven = (1, 6, 4, 2)

MUTANTS = [
    Mutant("cross-entropy: labels counted from one in the backward", "cross_entropy", "index off by one",
           of(losses, losses_fwd, labels_from_one, seven, 7), "subset"),
    Mutant("cross-entropy: probabilities in float16", "cross_entropy", "narrow dtype",
           of(losses, losses_fwd, logits_in_half_precision), "dtype"),
    Mutant("cross-entropy: classes in chunks, the last chunk lost", "cross_entropy", "last block",
           of(losses, losses_fwd, last_classes_lost, seven, 7), "subset"),
    Mutant("cross-entropy: mean in the forward, sum in the backward", "cross_entropy", "batch factor",
           of(mean_loss, mean_loss_fwd, summed_over_the_batch), "factor"),
    Mutant("cross-entropy: the loss assumed to be last", "cross_entropy", "cotangent ignored",
           of(mean_loss, mean_loss_fwd, the_loss_is_last), "nonlinear"),
    Mutant("cross-entropy: one-sided differences for the gradient", "cross_entropy", "approximate derivative",
           difference_case, "missing-term"),
    Mutant("cross-entropy: label smoothing forgotten", "cross_entropy", "smoothing forgotten",
           of(smoothed, smoothed_fwd, smoothing_forgotten), "missing-term"),
    Mutant("cross-entropy: ignored examples get a gradient", "cross_entropy", "ignored label",
           of(with_ignored, with_ignored_fwd, ignored_rows_pushed, (1, -1, 4, 2, 0)), "subset"),
    Mutant("cross-entropy: divided by all examples, not the valid ones", "cross_entropy", "batch factor",
           of(with_ignored, with_ignored_fwd, divided_by_all, (1, -1, 4, 2, 0)), "factor"),
    Mutant("cross-entropy: class weights forgotten", "cross_entropy", "weights forgotten",
           of(class_weighted, class_weighted_fwd, class_weights_forgotten), "missing-term"),
    Mutant("binary cross-entropy: inf/inf for large logits", "cross_entropy", "saturation",
           partial(binary_case, with_rule(binary, binary_fwd, sigmoid_of_large_logits)), "input"),
    Mutant("binary cross-entropy: probabilities treated as logits", "cross_entropy", "option not forwarded",
           probabilities_case, "missing-term"),
    Mutant("binary cross-entropy: weight of the positives forgotten", "cross_entropy", "weights forgotten",
           positives_case, "subset"),
    Mutant("cross-entropy: soft targets assumed to sum to one", "cross_entropy", "unit sum assumed",
           partial(soft_case, soft_rule(targets_assumed_to_sum_to_one)), "input"),
    Mutant("cross-entropy: targets minus probabilities", "cross_entropy", "sign",
           partial(soft_case, soft_rule(targets_minus_probabilities)), "sign"),
    Mutant("cross-entropy: focal weight held fixed", "cross_entropy", "product rule",
           of(focal, focal_fwd, focal_weight_held_fixed), "missing-term"),
    Mutant("cross-entropy: padded steps count in the backward", "cross_entropy", "mask ignored", over_time_case, "subset"),
]  # fmt: skip
