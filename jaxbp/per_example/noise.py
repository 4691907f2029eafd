"""The gradient's noise: how many examples a step should average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxbp.contracts import Layer, Loss
from jaxbp.factors import at_least_float32, total
from jaxbp.per_example import passing, reducing
from jaxbp.per_example.doors import require_two


class NoiseScale(NamedTuple):
    """noise: tr Sigma, the variance of an example's gradient over all parameters; signal: |G|^2 of the true gradient; both
    unbiased. scale: noise / signal, the batch size beyond which a step gains little; inf where the signal is not above 0."""

    noise: jax.Array
    signal: jax.Array
    scale: jax.Array


def noise_scale(net: Layer, loss: Loss) -> Callable:
    """B_simple = tr Sigma / |G|^2 from one batch of n examples with gradients g_b and mean g:

        tr Sigma = (sum_b |g_b|^2 - n |g|^2) / (n - 1),        |G|^2 = |g|^2 - tr Sigma / n,

    both unbiased (their quotient is not: average both over steps, as `noise_scale_ema` does). These are the estimates of the
    source for batch sizes 1 and n. Returns f(params, x, targets, ...) -> `NoiseScale`; weights as in the other functions, n
    the examples of weight other than 0.

    Raises: ValueError for a batch of one.
    Source: McCandlish et al. 2018, An Empirical Model of Large-Batch Training, appendix A.
    """
    passing.require("noise_scale", net, loss)

    def f(params: Any, x: Any, targets: Any, options: dict) -> NoiseScale:
        require_two("noise_scale", x)
        done = passing.run(net, loss, params, x, targets, options)
        mean = total(params, done.factors, at_least_float32(done.losses))
        sq_mean = _sq_norm(mean) / jnp.maximum(done.present, 1) ** 2
        return _of(*_estimates(reducing.sq_norms(done.factors), sq_mean, done.present))

    return passing.door(f)


def _sq_norm(updates: Any) -> jax.Array:
    squares = [jnp.sum(leaf.astype(at_least_float32(leaf)) ** 2) for leaf in jax.tree.leaves(updates)]
    return sum(squares[1:], squares[0])


def _estimates(sq_norms: jax.Array, sq_mean: jax.Array, n: Any) -> tuple[jax.Array, jax.Array]:
    """(tr Sigma, |G|^2) from the squared norms of the examples, that of their mean, and how many there are."""
    noise = (jnp.sum(sq_norms) - n * sq_mean) / jnp.where(n > 1, n - 1, jnp.nan)
    return noise, sq_mean - noise / n


def _of(noise: jax.Array, signal: jax.Array) -> NoiseScale:
    positive = signal > 0
    return NoiseScale(noise, signal, jnp.where(positive, noise / jnp.where(positive, signal, 1), jnp.inf))


class NoiseScaleState(NamedTuple):
    """step; the moving averages of noise and signal; `estimate`, the `NoiseScale` of these, without the bias of their start."""

    step: jax.Array
    noise: jax.Array
    signal: jax.Array
    estimate: NoiseScale


def noise_scale_ema(decay: float = 0.99) -> optax.GradientTransformationExtraArgs:
    """An optax transformation that leaves the updates alone and follows the noise scale along a run.

        noise_t = decay noise_(t-1) + (1 - decay) tr Sigma_t, likewise the signal; estimate = their quotient

    with Adam's correction for the zeros of the start. First in an `optax.chain`: its updates are the mean gradient over the
    examples, and `update(updates, state, params, norms=norms)` takes the norms of `value_grads_and_norms`. An example whose
    norm is exactly 0 counts; leave padding out. For a loss with a time axis, whose mean gradient is one over all steps, divide
    the norms by the number of steps.

    Raises: ValueError for a decay outside [0, 1), a missing `norms`, or norms of fewer than two examples.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"noise_scale_ema: decay lies in [0, 1), got {decay!r}")

    def init(params: Any) -> NoiseScaleState:
        zero = jnp.zeros((), at_least_float32(*[leaf.dtype for leaf in jax.tree.leaves(params)]))
        return NoiseScaleState(jnp.zeros((), jnp.int32), zero, zero, NoiseScale(zero, zero, zero))

    def update(updates: Any, state: NoiseScaleState, params: Any = None, *, norms: Any = None, **_: Any) -> tuple:
        if norms is None or jnp.ndim(norms) != 1 or len(norms) < 2:
            raise ValueError("noise_scale_ema: update needs norms=, one for each of two examples or more")
        new = _estimates(jnp.asarray(norms) ** 2, _sq_norm(updates), len(norms))
        noise, signal = (
            (decay * old + (1 - decay) * value).astype(old.dtype)
            for old, value in zip((state.noise, state.signal), new, strict=True)
        )
        step = state.step + 1
        unbiased = 1 / (1 - jnp.asarray(decay, noise.dtype) ** step)
        return updates, NoiseScaleState(step, noise, signal, _of(noise * unbiased, signal * unbiased))

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]
