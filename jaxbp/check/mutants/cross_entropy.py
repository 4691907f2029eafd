"""Planted bugs in cross-entropies on logits (batch, classes), labels as integers."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, planted, with_rule
from jaxbp.check.mutants.softmax import log_softmax, softmax


def one_hot(labels, like):
    return jnp.eye(like.shape[-1], dtype=like.dtype)[labels] * (labels >= 0)[..., None]  # zeros for a negative label


def of_label(values, labels):
    return jnp.take_along_axis(values, labels[..., None], axis=-1)[..., 0]


def losses(z, labels):
    return -of_label(log_softmax(z), labels)


def losses_forward(z, labels):
    return losses(z, labels), (z, labels)


def labels_from_one(residuals, y_bar):
    z, labels = residuals
    hot = one_hot((labels + 1) % z.shape[1], z)  # the data set counts from 1, the forward does not
    return y_bar[:, None] * (softmax(z) - hot), None


def logits_in_half_precision(residuals, y_bar):
    z, labels = residuals
    p = softmax(z.astype(jnp.float16)).astype(z.dtype)
    return y_bar[:, None] * (p - one_hot(labels, z)), None


def last_classes_lost(residuals, y_bar):
    z, labels = residuals
    p, chunk = softmax(z), 3
    z_bar = jnp.zeros_like(z)
    for i in range(z.shape[1] // chunk):  # seven classes in chunks of three
        columns = slice(i * chunk, (i + 1) * chunk)
        z_bar = z_bar.at[:, columns].set(y_bar[:, None] * (p - one_hot(labels, z))[:, columns])
    return z_bar, None


def mean_loss(z, labels):
    return losses(z, labels).mean()


def mean_loss_forward(z, labels):
    return mean_loss(z, labels), (z, labels)


def summed_over_the_batch(residuals, y_bar):
    z, labels = residuals
    return y_bar * (softmax(z) - one_hot(labels, z)), None


def the_loss_is_last(residuals, y_bar):
    z, labels = residuals
    return (softmax(z) - one_hot(labels, z)) / len(z), None  # g is 1 in training


def differences(z, labels):
    """A gradient by one-sided differences, "good enough"."""
    h = 1e-2
    moved = lambda e: (mean_loss(z + h * e.reshape(z.shape), labels) - mean_loss(z, labels)) / h
    return jax.vmap(moved)(jnp.eye(z.size, dtype=z.dtype)).reshape(z.shape)


def smoothed(z, labels):
    log_p = log_softmax(z)
    return -0.9 * of_label(log_p, labels) - 0.1 * log_p.mean(-1)


def smoothed_forward(z, labels):
    return smoothed(z, labels), (z, labels)


def smoothing_forgotten(residuals, y_bar):
    z, labels = residuals
    return y_bar[:, None] * (softmax(z) - one_hot(labels, z)), None


def with_ignored(z, labels):
    """The mean over the examples whose label is not negative."""
    valid = labels >= 0
    return jnp.where(valid, losses(z, jnp.where(valid, labels, 0)), 0).sum() / valid.sum()


def with_ignored_forward(z, labels):
    return with_ignored(z, labels), (z, labels)


def ignored_rows_pushed(residuals, y_bar):
    z, labels = residuals
    return y_bar / (labels >= 0).sum() * (softmax(z) - one_hot(labels, z)), None  # rows of label -1 get softmax(z)


def divided_by_all(residuals, y_bar):
    z, labels = residuals
    valid = (labels >= 0)[:, None]
    return jnp.where(valid, y_bar / len(z) * (softmax(z) - one_hot(labels, z)), 0), None


def class_weighted(z, labels):
    return class_weights(z)[labels] * losses(z, labels)


def class_weights(z):
    return jnp.linspace(0.5, 2.0, z.shape[1], dtype=z.dtype)


def class_weighted_forward(z, labels):
    return class_weighted(z, labels), (z, labels)


def class_weights_forgotten(residuals, y_bar):
    z, labels = residuals
    return y_bar[:, None] * (softmax(z) - one_hot(labels, z)), None


def labelled(rule, labels, classes, key, dtype):
    return Check(rule, (*draw(key, dtype, (len(labels), classes)), jnp.array(labels)))


def build_difference(key, dtype):
    return Check(mean_loss, (*draw(key, dtype, (4, 5)), jnp.array([1, 0, 4, 2])), "gradient", differences)


def binary(z, t):
    return jnp.maximum(z, 0) - z * t + jnp.log1p(jnp.exp(-jnp.abs(z)))


def binary_forward(z, t):
    return binary(z, t), (z, t)


def sigmoid_of_large_logits(residuals, y_bar):
    z, t = residuals
    e = jnp.exp(z)
    return y_bar * (e / (1 + e) - t), -y_bar * z  # inf/inf for large z


def build_binary(rule, key, dtype):
    z, t = draw(key, dtype, (4, 5), (4, 5))
    return Check(rule, (z, jax.nn.sigmoid(t)))


def of_probabilities(p, t):
    return -t * jnp.log(p) - (1 - t) * jnp.log(1 - p)


def of_probabilities_forward(p, t):
    return of_probabilities(p, t), (p, t)


def as_if_of_logits(residuals, y_bar):
    p, t = residuals
    return y_bar * (p - t), y_bar * (jnp.log(1 - p) - jnp.log(p))  # p (1 - p) belongs below


def build_probabilities(key, dtype):
    p, t = (jax.nn.sigmoid(a) for a in draw(key, dtype, (4, 5), (4, 5)))
    return Check(with_rule(of_probabilities, of_probabilities_forward, as_if_of_logits), (p, t))


def weighted_positives(z, positive):
    """Positives count three times; `positive` is bool."""
    return jnp.where(positive, 3.0, 1.0).astype(z.dtype) * jnp.log1p(jnp.exp(jnp.where(positive, -z, z)))


def weighted_positives_forward(z, positive):
    return weighted_positives(z, positive), (z, positive)


def positive_weight_forgotten(residuals, y_bar):
    z, positive = residuals
    return y_bar * (1 / (1 + jnp.exp(-z)) - positive), None


def build_positives(key, dtype):
    positive = (jnp.arange(20) % 3 == 1).reshape(4, 5)
    rule = with_rule(weighted_positives, weighted_positives_forward, positive_weight_forgotten)
    return Check(rule, (*draw(key, dtype, (4, 5)), positive))


def soft(z, t):
    return -jnp.sum(t * log_softmax(z), axis=-1)


def soft_forward(z, t):
    return soft(z, t), (z, t)


def sum_of_one(residuals, y_bar):
    z, t = residuals
    return y_bar[:, None] * (softmax(z) - t), -y_bar[:, None] * log_softmax(z)  # softmax(z) times the sum of t


def targets_minus_probabilities(residuals, y_bar):
    z, t = residuals
    return y_bar[:, None] * (t - softmax(z) * t.sum(-1, keepdims=True)), -y_bar[:, None] * log_softmax(z)


def build_soft(rule, key, dtype):
    """Targets that sum to one exactly in every dtype."""
    t = jnp.array([0.5, 0.25, 0.125, 0.0625, 0.0625], dtype)
    t = jnp.stack([jax.random.permutation(k, t) for k in jax.random.split(key, 4)])
    return Check(rule, (*draw(key, dtype, (4, 5)), t))


def focal(z, labels):
    log_p = of_label(log_softmax(z), labels)
    return -((1 - jnp.exp(log_p)) ** 2) * log_p


def focal_forward(z, labels):
    return focal(z, labels), (z, labels)


def focal_weight_held_fixed(residuals, y_bar):
    z, labels = residuals
    p = softmax(z)
    weight = (1 - of_label(p, labels)) ** 2
    return (y_bar * weight)[:, None] * (p - one_hot(labels, z)), None  # and the weight's own derivative?


def over_time(z, labels, lengths):
    """Losses of each sequence summed over its valid steps."""
    valid = jnp.arange(z.shape[1])[None] < lengths[:, None]
    return jnp.where(valid, losses(z, labels), 0).sum(1)


def over_time_forward(z, labels, lengths):
    return over_time(z, labels, lengths), (z, labels)


def padded_steps_count(residuals, y_bar):
    z, labels = residuals
    return y_bar[:, None, None] * (softmax(z) - one_hot(labels, z)), None, None


def build_over_time(key, dtype):
    labels = jnp.array([[1, 0, 2, 2], [2, 2, 0, 0], [0, 1, 1, 2]])
    rule = with_rule(over_time, over_time_forward, padded_steps_count)
    return Check(rule, (*draw(key, dtype, (3, 4, 3)), labels, jnp.array([4, 2, 3])))


def of(primal, forward, backward, labels=(1, 0, 4, 2), classes=5):
    return partial(labelled, with_rule(primal, forward, backward), labels, classes)


plain, mean = partial(of, losses, losses_forward), partial(of, mean_loss, mean_loss_forward)
of_seven = {"labels": (1, 6, 4, 2), "classes": 7}
with_gaps = partial(of, with_ignored, with_ignored_forward, labels=(1, -1, 4, 2, 0))
class_weights_rule = of(class_weighted, class_weighted_forward, class_weights_forgotten)
large_logits = with_rule(binary, binary_forward, sigmoid_of_large_logits)
soft_rule = partial(with_rule, soft, soft_forward)

MUTANTS = planted(
    "cross_entropy",
    ("labels counted from one", "index off by one", plain(labels_from_one, **of_seven), "subset"),
    ("probabilities in float16", "narrow dtype", plain(logits_in_half_precision), "dtype"),
    ("classes in chunks, the last chunk lost", "last block", plain(last_classes_lost, **of_seven), "subset"),
    ("mean one way, sum the other", "batch factor", mean(summed_over_the_batch), "factor"),
    ("the loss assumed to be last", "cotangent ignored", mean(the_loss_is_last), "nonlinear"),
    ("one-sided differences for the gradient", "approximate derivative", build_difference, "missing-term"),
    ("label smoothing forgotten", "smoothing forgotten", of(smoothed, smoothed_forward, smoothing_forgotten), "missing-term"),
    ("ignored examples get a gradient", "ignored label", with_gaps(ignored_rows_pushed), "subset"),
    ("divided by all examples, not the valid ones", "batch factor", with_gaps(divided_by_all), "factor"),
    ("class weights forgotten", "weights forgotten", class_weights_rule, "missing-term"),
    ("binary: inf/inf for large logits", "saturation", partial(build_binary, large_logits), "input"),
    ("binary: probabilities treated as logits", "option not forwarded", build_probabilities, "missing-term"),
    ("binary: weight of the positives forgotten", "weights forgotten", build_positives, "subset"),
    ("targets assumed to sum to one", "unit sum assumed", partial(build_soft, soft_rule(sum_of_one)), "input"),
    ("targets minus probabilities", "sign", partial(build_soft, soft_rule(targets_minus_probabilities)), "sign"),
    ("focal weight held fixed", "product rule", of(focal, focal_forward, focal_weight_held_fixed), "missing-term"),
    ("padded steps count in the backward", "mask ignored", build_over_time, "subset"),
)
