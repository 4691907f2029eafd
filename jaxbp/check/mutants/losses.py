"""Planted bugs in losses of real targets and of similarities: weights, kinks, means, margins, projections."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


# --- squares and their weights


def weighted_mse(predictions, targets, weights):
    return jnp.sum(weights[:, None] * (predictions - targets) ** 2) / jnp.sum(weights)


def weighted_mse_forward(predictions, targets, weights):
    return weighted_mse(predictions, targets, weights), (predictions - targets, weights)


def weighted_mse_backward(residuals, loss_bar):
    errors, weights = residuals
    predictions_bar = loss_bar * 2 * weights[:, None] * errors / weights.size  # / sum of the weights
    total = jnp.sum(weights)
    mean = jnp.sum(weights[:, None] * errors**2) / total
    return predictions_bar, -predictions_bar, loss_bar * (jnp.sum(errors**2, axis=1) - mean) / total


divided_by_count = with_rule(weighted_mse, weighted_mse_forward, weighted_mse_backward)


def weighted_mse_backward_constant(residuals, loss_bar):
    errors, weights = residuals
    total = jnp.sum(weights)
    predictions_bar = loss_bar * 2 * weights[:, None] * errors / total
    return predictions_bar, -predictions_bar, loss_bar * jnp.sum(errors**2, axis=1) / total  # - mean: the denominator


denominator_constant = with_rule(weighted_mse, weighted_mse_forward, weighted_mse_backward_constant)


def build_weighted(fun, key, dtype):
    predictions, targets, weights = draw(key, dtype, (4, 3), (4, 3), (4,))
    return Check(fun, (predictions, targets, jnp.abs(weights) + 0.5))


def squared_errors(predictions, targets):
    return jnp.sum((predictions - targets) ** 2, axis=1)


def squared_errors_forward(predictions, targets):
    return squared_errors(predictions, targets), predictions - targets


def squared_errors_backward(errors, losses_bar):
    predictions_bar = 2 * errors * jnp.mean(losses_bar)  # losses_bar[:, None]
    return predictions_bar, -predictions_bar


cotangents_averaged = with_rule(squared_errors, squared_errors_forward, squared_errors_backward)


def half_mse(predictions, targets):
    return 0.5 * jnp.mean((predictions - targets) ** 2)


def half_mse_forward(predictions, targets):
    return half_mse(predictions, targets), (predictions - targets) / predictions.size


def half_mse_backward(errors, loss_bar):
    del loss_bar  # "a loss is the end of the chain"
    return errors, -errors


taken_for_the_end = with_rule(half_mse, half_mse_forward, half_mse_backward)


# --- kinks


DELTA = 1.0


def huber(predictions, targets):
    errors = predictions - targets
    size = jnp.abs(errors)
    return jnp.sum(jnp.where(size <= DELTA, 0.5 * errors**2, DELTA * (size - 0.5 * DELTA)))


def huber_forward(predictions, targets):
    return huber(predictions, targets), predictions - targets


def huber_backward(errors, loss_bar):
    slope = jnp.where(errors <= DELTA, errors, DELTA * jnp.sign(errors))  # |errors|: large negative errors stay square
    return loss_bar * slope, -loss_bar * slope


huber_one_sided = with_rule(huber, huber_forward, huber_backward)


def smooth_l1_of(errors, beta):
    size = jnp.abs(errors)
    return jnp.sum(jnp.where(size < beta, 0.5 * size**2 / beta, size - 0.5 * beta))


def smooth_l1(predictions, targets):
    return smooth_l1_of(predictions - targets, beta=0.5)


def smooth_l1_forward(predictions, targets):
    return smooth_l1(predictions, targets), predictions - targets


def smooth_l1_backward(errors, loss_bar, beta=1.0):  # the default of another library
    slope = loss_bar * jnp.where(jnp.abs(errors) < beta, errors / beta, jnp.sign(errors))
    return slope, -slope


other_default = with_rule(smooth_l1, smooth_l1_forward, smooth_l1_backward)

QUANTILE = 0.9


def pinball(predictions, targets):
    errors = targets - predictions
    return jnp.mean(jnp.maximum(QUANTILE * errors, (QUANTILE - 1) * errors))


def pinball_forward(predictions, targets):
    return pinball(predictions, targets), targets - predictions


def pinball_backward(errors, loss_bar):
    slope = loss_bar * jnp.where(errors < 0, QUANTILE, QUANTILE - 1) / errors.size  # errors > 0, and the minus
    return -slope, slope


quantile_sides = with_rule(pinball, pinball_forward, pinball_backward)


def hinge(scores, signs):
    return jnp.sum(jnp.maximum(0, 1 - signs * scores))


def hinge_forward(scores, signs):
    return hinge(scores, signs), (scores, signs)


def hinge_backward(residuals, loss_bar):
    scores, signs = residuals
    active = signs * scores < 0  # < 1: right answers inside the margin
    return -loss_bar * jnp.where(active, signs, 0), -loss_bar * jnp.where(active, scores, 0)


margin_forgotten = with_rule(hinge, hinge_forward, hinge_backward)


def build_signs(key, dtype):
    """Right and wrong answers, inside the margin and beyond it, none at a kink."""
    scores = jnp.array([0.3, -0.4, 2.0, 0.6, -1.5, -0.2], dtype) + 0.1 * jax.random.uniform(key, (6,), dtype)
    return Check(margin_forgotten, (scores, jnp.array([1, 1, 1, -1, -1, -1], dtype)))


# --- formulas


def log_cosh(errors):
    size = jnp.abs(errors)
    return jnp.sum(size + jnp.log1p(jnp.exp(-2 * size)))


def log_cosh_forward(errors):
    return log_cosh(errors), errors


def log_cosh_backward(errors, loss_bar):
    return (loss_bar * jnp.sinh(errors) / jnp.cosh(errors),)  # inf / inf, where the forward took care


overflows = with_rule(log_cosh, log_cosh_forward, log_cosh_backward)


def build_large(key, dtype):
    (errors,) = draw(key, dtype, (5,))
    return Check(overflows, (errors.at[1].set(800.0).at[3].set(-900.0),))


def gaussian_kl(mean, log_variance):
    return 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)


def gaussian_kl_forward(mean, log_variance):
    return gaussian_kl(mean, log_variance), (mean, log_variance)


def gaussian_kl_backward(residuals, loss_bar):
    mean, log_variance = residuals
    return loss_bar * mean, loss_bar * 0.5 * jnp.exp(log_variance)  # - 1


log_term_lost = with_rule(gaussian_kl, gaussian_kl_forward, gaussian_kl_backward)


def cosine(a, b):
    return jnp.sum(a * b, axis=1) / jnp.sqrt(jnp.sum(a**2, axis=1) * jnp.sum(b**2, axis=1))


def cosine_forward(a, b):
    norm_a, norm_b = jnp.sqrt(jnp.sum(a**2, axis=1)), jnp.sqrt(jnp.sum(b**2, axis=1))
    return cosine(a, b), (a, b, norm_a, norm_b)


def cosine_backward(residuals, cosines_bar):
    a, b, norm_a, norm_b = residuals
    scale = (cosines_bar / (norm_a * norm_b))[:, None]
    return scale * b, scale * a  # - cosine a / |a|², - cosine b / |b|²


norms_held = with_rule(cosine, cosine_forward, cosine_backward)

TEMPERATURE = 0.2


def similarities(a, b):
    return a @ b.T / TEMPERATURE


def similarities_forward(a, b):
    return similarities(a, b), (a, b)


def similarities_backward(residuals, logits_bar):
    a, b = residuals
    return logits_bar @ b, logits_bar.T @ a  # / temperature


temperature_lost = with_rule(similarities, similarities_forward, similarities_backward)


def logistic_loss(w, x, y):
    z = x @ w
    return jnp.mean(jnp.log1p(jnp.exp(-jnp.abs(z))) + jnp.maximum(z, 0) - y * z)


def logistic_gradient(w, x, y):
    """The formula for labels -1 and 1; here they are 0 and 1."""
    return -x.T @ (y * sigmoid(-y * (x @ w))) / y.size


def build_logistic(key, dtype):
    w, x = draw(key, dtype, (3,), (5, 3))
    return Check(logistic_loss, (w, x, jnp.array([0, 1, 1, 0, 1], dtype)), "gradient", logistic_gradient)


MUTANTS = planted(
    "losses",
    ("weighted loss divided by the count", "weights forgotten", partial(build_weighted, divided_by_count), "factor"),
    ("sum of the weights held fixed", "product rule", partial(build_weighted, denominator_constant), "constant"),
    ("mean of the losses' cotangents", "cotangent averaged", on(cotangents_averaged, (4, 3), (4, 3)), "missing-term"),
    ("a loss taken for the end of the chain", "cotangent ignored", on(taken_for_the_end, (4, 3), (4, 3)), "nonlinear"),
    ("huber without the absolute value", "kink side", on(huber_one_sided, (24,), (24,)), "subset"),
    ("smooth L1 with another beta", "other default", on(other_default, (12,), (12,)), "subset"),
    ("quantile and its complement exchanged", "complement", on(quantile_sides, (9,), (9,)), "missing-term"),
    ("hinge active only below zero", "kink side", build_signs, "subset"),
    ("log cosh overflows in the backward", "saturation", build_large, "nan"),
    ("minus one of the Gaussian KL lost", "constant term", on(log_term_lost, (4, 2), (4, 2)), "constant"),
    ("cosine with the norms held fixed", "missing mean term", on(norms_held, (4, 3), (4, 3)), "missing-term"),
    ("temperature in the forward alone", "forward scale", on(temperature_lost, (4, 3), (5, 3)), "factor"),
    ("logistic gradient for labels -1 and 1", "label convention", build_logistic, "missing-term"),
)
