"""The clipped sum handed to a library that adds the noise and keeps the account: each function is a whole recipe.

Both give one noisy sum of clipped gradients; divide it by the expected batch size and give it to any optimiser.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from jaxbp import Layer, Loss, per_example


def to_jax_privacy(
    net: Layer, loss: Loss, params: Any, x: Any, labels: Any, *, clip_norm: float, noise_multiplier: float, key: jax.Array
) -> Any:
    """jaxbp clips and sums, jax-privacy knows the sensitivity and adds the noise (pip install jax-privacy)."""
    from jax_privacy import clipping, noise_addition  # pyright: ignore[reportMissingImports]

    clipped = per_example.clipped_sum(net, loss, clip_norm)
    query = clipping.BoundedSensitivityCallable(lambda *batch: clipped(*batch)[1], l2_norm_bound=clip_norm, has_aux=False)
    privatizer = noise_addition.gaussian_privatizer(stddev=noise_multiplier * query.sensitivity(), prng_key=key)
    state = privatizer.init(params)  # made once; each update draws new noise
    noisy_sum, state = privatizer.update(query(params, x, labels), state)
    return noisy_sum


def to_optax(
    net: Layer, loss: Loss, params: Any, x: Any, labels: Any, *, clip_norm: float, noise_multiplier: float, key: jax.Array
) -> Any:
    """jaxbp clips and sums, optax adds Gaussian noise; nobody keeps an account."""
    _, clipped, _ = per_example.clipped_sum(net, loss, clip_norm)(params, x, labels)
    noising = optax.add_noise(eta=(noise_multiplier * clip_norm) ** 2, gamma=0.0, key=key)
    state = noising.init(params)  # made once; each update draws new noise
    noisy_sum, state = noising.update(clipped, state)
    return noisy_sum
