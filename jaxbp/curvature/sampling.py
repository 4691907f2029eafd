"""The distribution over targets that a loss is the negative log-likelihood of, and draws from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp import losses
from jaxbp.contracts import Loss
from jaxbp.losses.cross_entropy import sigmoid_parts
from jaxbp.losses.entrywise import widened


def sampler(loss: Loss) -> tuple[Callable, Loss]:
    """(draw, score): draw(key, outputs) gives targets of every example and step, score is the loss of them.

    Raises: ValueError for a loss without such a distribution.
    """
    rule = RULES.get(loss.call.constructor) if loss.call else None
    if rule is None:
        raise ValueError(
            f"{loss!r} is no negative log-likelihood that is known here, so there is no predictive distribution to draw targets "
            "from; use the Gauss-Newton matrix, of='ggn' or ggn_diagonal, which samples=... estimates for any convex loss"
        )
    # a smoothed loss is not the likelihood of any label: its labels come from softmax(z) and are scored without smoothing
    return rule, losses.softmax_cross_entropy() if loss.call.constructor is losses.softmax_cross_entropy else loss  # type: ignore[union-attr]


def normal(key: jax.Array, a: jax.Array) -> jax.Array:
    """N(a, 1): -ln density = (a - y)^2 / 2."""
    a = widened(a)
    return a + jax.random.normal(key, a.shape, a.dtype)


def normal_of_mse(key: jax.Array, a: jax.Array) -> jax.Array:
    """N(a, n/2): -ln density = (a - y)^2 / n."""
    a = widened(a)
    return a + (a.shape[-1] / 2) ** 0.5 * jax.random.normal(key, a.shape, a.dtype)


def categorical(key: jax.Array, z: jax.Array) -> jax.Array:
    """Labels of probabilities softmax(z)."""
    return jax.random.categorical(key, widened(z))


def categorical_of_probabilities(key: jax.Array, p: jax.Array) -> jax.Array:
    """Labels of probabilities p."""
    return jax.random.categorical(key, jnp.log(widened(p)))


def bernoulli(key: jax.Array, z: jax.Array) -> jax.Array:
    """1 with probability sigma(z), else 0."""
    _, _, yes, _ = sigmoid_parts(widened(z))
    return jax.random.bernoulli(key, yes)


def bernoulli_of_probabilities(key: jax.Array, a: jax.Array) -> jax.Array:
    """1 with probability a, else 0."""
    return jax.random.bernoulli(key, widened(a))


def signs(key: jax.Array, s: jax.Array) -> jax.Array:
    """+1 with probability sigma(s), else -1."""
    return 2 * bernoulli(key, s).astype(jnp.int32) - 1


RULES: dict[Callable, Callable[[jax.Array, Any], jax.Array]] = {
    losses.quadratic: normal,
    losses.mse: normal_of_mse,
    losses.softmax_cross_entropy: categorical,
    losses.log_likelihood: categorical_of_probabilities,
    losses.sigmoid_cross_entropy: bernoulli,
    losses.binary_cross_entropy: bernoulli_of_probabilities,
    losses.logistic: signs,
}
