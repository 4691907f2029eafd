"""Normalization: y = gain (x - mean) / sigma + bias, over the features of an example or over a batch.

Both layers share three formulas, with the mean over the normalized axes:

    d     = x - mean(x)
    x_hat = (d - mean(d)) / sigma,  sigma^2 = mean(d^2) - mean(d)^2 + epsilon
    x_bar = (c - mean(c) - x_hat mean(c x_hat)) / sigma,  c = gain y_bar - mean(gain y_bar)

In exact arithmetic mean(d) and mean(c) are 0. In float32 mean(x) is off by an ulp or so of |x|, a constant that
mean/sigma = 1e3 turns into an error of 1e-4 in x_hat; mean(d) is that constant, known to full relative precision. It
costs no further pass over the data, as mean(d) and mean(d^2) are taken together.
Everything is computed in at least float32 and rounded once, to the dtype of x.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp import initializers, inputs
from jaxbp.contracts import Layer, constructor, deterministic
from jaxbp.factors import Each, Statistic, Whole, at_least_float32
from jaxbp.tree import Population


class Moments(NamedTuple):
    """mean + rest is the mean, rest being what the rounding of mean lost; variance is that of the numbers themselves (/ n)."""

    mean: jax.Array
    rest: jax.Array
    variance: jax.Array


def _mean(a: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.broadcast_to(jnp.mean(a, axes, keepdims=True), a.shape)


def _moments(x: jax.Array, axes: tuple[int, ...]) -> Moments:
    x = x.astype(at_least_float32(x))
    mean = jnp.mean(x, axes, keepdims=True)
    d = x - jnp.broadcast_to(mean, x.shape)
    rest = jnp.mean(d, axes, keepdims=True)
    # the two means of d are taken in one pass; nothing cancels, as rest is a few ulps of mean and sigma far more,
    # unless x is constant: what is left then is rounding
    variance = jnp.mean(d**2, axes, keepdims=True) - rest**2
    return Moments(mean, rest, jnp.where(variance > 64 * jnp.finfo(d.dtype).eps * rest**2, variance, 0))


def _standardized(x: jax.Array, moments: Moments, epsilon: float) -> tuple[jax.Array, jax.Array]:
    """(x_hat, 1 / sigma), both in at least float32; x_hat has the shape of x."""
    mean, rest, variance = moments
    d = x.astype(mean.dtype) - jnp.broadcast_to(mean, x.shape) - jnp.broadcast_to(rest, x.shape)
    inverse = _inverse_sigma(variance, epsilon)
    return d * jnp.broadcast_to(inverse, x.shape), inverse


def _inverse_sigma(variance: jax.Array, epsilon: float) -> jax.Array:
    if epsilon > 0:
        return 1 / jnp.sqrt(variance + epsilon)
    spread = variance > 0  # no spread, no direction to scale: 0, and 0 in the derivative
    return jnp.where(spread, 1 / jnp.sqrt(jnp.where(spread, variance, 1)), 0)


def _affine(params: Any, x_hat: jax.Array, dtype: Any) -> jax.Array:
    y = x_hat
    if params.gain is not None:
        y = y * jnp.broadcast_to(params.gain, y.shape)
    if params.bias is not None:
        y = y + jnp.broadcast_to(params.bias, y.shape)
    return y.astype(dtype)


def _affine_backward(params: Any, x_hat: jax.Array, y_bar: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x_hat_bar = gain y_bar, and each row's share of gain_bar and bias_bar, y_bar x_hat and y_bar, in at least float32."""
    y_bar = y_bar.astype(x_hat.dtype)
    x_hat_bar = y_bar if params.gain is None else y_bar * jnp.broadcast_to(params.gain, y_bar.shape).astype(y_bar.dtype)
    return x_hat_bar, y_bar * x_hat, y_bar


def _standardized_backward(x_hat: jax.Array, inverse: jax.Array, x_hat_bar: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """x_bar = (c - x_hat mean(c x_hat)) / sigma: x_hat_bar less its parts along 1 and along x_hat, which x_hat cannot move in."""
    c = x_hat_bar - _mean(x_hat_bar, axes)
    return (c - _mean(c, axes) - x_hat * _mean(c * x_hat, axes)) * jnp.broadcast_to(inverse, c.shape)


def _require_epsilon(name: str, epsilon: Any) -> None:
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)):
        raise TypeError(f"{name}: epsilon is a number, got {epsilon!r}")
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"{name}: epsilon has to be 0 or positive, got {epsilon!r}")


def _affine_init(name: str, key: Any, spec: Any, gain_init: Any, bias_init: Any) -> tuple[Any, Any, Any]:
    """(spec, gain, bias) for the last axis of an example; an initializer of None leaves that parameter out."""
    spec = inputs.as_spec(spec)
    inputs.require_floating(name, spec)
    if not spec.shape or 0 in spec.shape:
        raise ValueError(f"{name}: one example needs a last axis of at least one feature, got shape {list(spec.shape)}")
    keys = jax.random.split(key)
    made = [None if f is None else f(k, spec.shape[-1:], spec.dtype) for f, k in zip((gain_init, bias_init), keys, strict=True)]
    return spec, made[0], made[1]


# --- layer norm: over the last axis of each example


class LayerNorm(NamedTuple):
    gain: jax.Array | None  # (features,)
    bias: jax.Array | None  # (features,)


def layer_norm_forward(params: LayerNorm, x: jax.Array, *, epsilon: float) -> tuple[jax.Array, tuple]:
    """y = gain (x - mean) / sigma + bias over the last axis. Residuals: x and three numbers a row, which give x_hat again."""
    moments = _moments(x, (-1,))
    x_hat, _ = _standardized(x, moments, epsilon)
    return _affine(params, x_hat, x.dtype), (x, moments)


def layer_norm_backward(params: LayerNorm, residuals: tuple, y_bar: jax.Array, *, epsilon: float) -> tuple[LayerNorm, jax.Array]:
    """gain_bar = sum y_bar x_hat, bias_bar = sum y_bar, x_bar as at the top of this file."""
    x, moments = residuals
    x_hat, inverse = _standardized(x, moments, epsilon)
    x_hat_bar, gain_bar, bias_bar = _affine_backward(params, x_hat, y_bar)
    x_bar = _standardized_backward(x_hat, inverse, x_hat_bar, (-1,))
    return LayerNorm(_each(params.gain, gain_bar), _each(params.bias, bias_bar)), x_bar.astype(x.dtype)  # type: ignore[arg-type]


def _each(param: jax.Array | None, shares: jax.Array) -> Each | None:
    return None if param is None else Each(shares.astype(param.dtype))


def _whole(param: jax.Array | None, shares: jax.Array) -> Whole | None:
    return None if param is None else Whole(Each(shares).total(param.dtype))


def layer_norm_init(key: Any, spec: Any, *, gain_init: Any, bias_init: Any) -> tuple:
    spec, gain, bias = _affine_init("layer_norm", key, spec, gain_init, bias_init)
    return LayerNorm(gain, bias), spec


@constructor
def layer_norm(
    *,
    epsilon: float = 1e-5,
    gain: bool = True,
    bias: bool = True,
    gain_init: Any = initializers.ones(),
    bias_init: Any = initializers.zeros(),
) -> Layer:
    """y = gain (x - mean) / sqrt(variance + epsilon) + bias, mean and variance over the last axis of every row.

    The variance is the mean of the squared deviations (divided by n, not n - 1).

    Shapes: x (batch, *time, features) in any floating dtype, y the same; gain and bias (features,). Residuals: x, and for
    each row the mean (as two numbers) and the variance. Factors: `Each` for both. With gain=False or bias=False that
    parameter is None.

    Conventions: one feature gives y = bias and x_bar = 0. With epsilon = 0 so does a row without spread, where the
    derivative does not exist.

    >>> import jax, jaxbp
    >>> layer = jaxbp.layer_norm()
    >>> params, _ = layer.init(jax.random.key(0), (2,))
    >>> layer(params, jax.numpy.array([[1.0, 3.0], [1000.0, 1002.0]])).round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]

    Raises: ValueError for a negative epsilon or an example without features, TypeError for integer x.
    Source: Ba, Kiros & Hinton 2016, Layer Normalization; the second mean is added here.
    """
    _require_epsilon("layer_norm", epsilon)
    init = functools.partial(layer_norm_init, gain_init=gain_init if gain else None, bias_init=bias_init if bias else None)
    forward = functools.partial(layer_norm_forward, epsilon=epsilon)
    return deterministic("layer_norm", init, forward, functools.partial(layer_norm_backward, epsilon=epsilon))


# --- batch norm: every feature over the batch and all axes between


class BatchNorm(NamedTuple):
    gain: jax.Array | None  # (features,)
    bias: jax.Array | None  # (features,)
    population: Population  # (features,) each; no parameters


def batch_norm_forward(params: BatchNorm, x: jax.Array, *, train: bool = False, key: Any = None, epsilon: float) -> tuple:
    """y = gain (x - mean) / sigma + bias for every feature. Residuals: x, and in training the moments of the batch, else None."""
    moments = None
    if train:
        axes = _all_but_last(x)
        if (n := math.prod(x.shape[:-1])) < 2:
            raise ValueError(
                f"batch_norm: needs at least 2 values a feature in training, got {n} (x of shape {list(x.shape)}): one value has "
                "no variance; use a larger batch (drop or merge a last batch of one), or train=False"
            )
        moments = _moments(x, axes)
    x_hat, _ = _standardized(x, moments or _population_moments(params, x), epsilon)
    return _affine(params, x_hat, x.dtype), (x, moments)


def batch_norm_backward(params: BatchNorm, residuals: tuple, y_bar: jax.Array, *, momentum: float, epsilon: float) -> tuple:
    """As layer norm over the other axes; in evaluation mean and sigma are constants, so x_bar = gain y_bar / sigma."""
    x, moments = residuals
    x_hat, inverse = _standardized(x, moments or _population_moments(params, x), epsilon)
    x_hat_bar, gain_bar, bias_bar = _affine_backward(params, x_hat, y_bar)
    if moments is None:
        x_bar = x_hat_bar * jnp.broadcast_to(inverse, x.shape)
        factor_of, population = _each, params.population
    else:
        x_bar = _standardized_backward(x_hat, inverse, x_hat_bar, _all_but_last(x))
        factor_of = _whole  # x_hat knows the whole batch: one example has no share of its own
        population = _next_population(params.population, moments, math.prod(x.shape[:-1]), momentum)
    statistics = Population(*map(Statistic, population))  # type: ignore[arg-type]
    factors = BatchNorm(factor_of(params.gain, gain_bar), factor_of(params.bias, bias_bar), statistics)  # type: ignore[arg-type]
    return factors, x_bar.astype(x.dtype)


def _all_but_last(x: jax.Array) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))


def _population_moments(params: BatchNorm, x: jax.Array) -> Moments:
    """The population's moments, constants under any differentiation, in the axes of x."""
    mean, variance = (
        jax.lax.stop_gradient(p).astype(at_least_float32(x, p)).reshape((1,) * (x.ndim - 1) + p.shape) for p in params.population
    )
    return Moments(mean, jnp.zeros_like(mean), variance)


def _next_population(old: Population, moments: Moments, n: int, momentum: float) -> Population:
    """momentum old + (1 - momentum) batch, with the unbiased variance of the batch."""
    batch = Population(mean=moments.mean + moments.rest, variance=moments.variance * (n / (n - 1)))
    step = lambda old, new: momentum * old + (1 - momentum) * new.reshape(old.shape).astype(old.dtype)
    return Population(*map(step, old, batch))


def batch_norm_init(key: Any, spec: Any, *, gain_init: Any, bias_init: Any) -> tuple:
    spec, gain, bias = _affine_init("batch_norm", key, spec, gain_init, bias_init)
    wide = jnp.promote_types(spec.dtype, jnp.float32)  # a running mean stops moving where its steps are below an ulp
    population = Population(mean=jnp.zeros(spec.shape[-1:], wide), variance=jnp.ones(spec.shape[-1:], wide))
    return BatchNorm(gain, bias, population), spec


@constructor
def batch_norm(
    *,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    gain: bool = True,
    bias: bool = True,
    gain_init: Any = initializers.ones(),
    bias_init: Any = initializers.zeros(),
) -> Layer:
    """y = gain (x - mean) / sqrt(variance + epsilon) + bias for every feature, mean and variance over all axes but the last.

    In training they are those of the batch (variance divided by n), and the backward pass goes through them. In evaluation
    they are `params.population`, constants. Training moves the population to momentum * old + (1 - momentum) * batch, with
    the unbiased variance of the batch (divided by n - 1), as the paper has it. The new values leave as `Statistic` factors:
    `value_and_grad(..., has_aux=True)` hands them out and `update_statistics` puts them in place. Their gradient is zero in
    both modes, by hand and by autodiff; `tree.trainable` masks them from optimisers, decay and penalties.

    Shapes: x (batch, *axes, features) in any floating dtype, y the same; gain, bias and population (features,), the population
    in at least float32. Residuals: x, and in training the moments of the batch. Factors: `Whole` for gain and bias in training,
    where examples meet (trait "mixes"), `Each` in evaluation. With gain=False or bias=False that parameter is None.

    Conventions: a feature without spread gives y = bias; with epsilon = 0 its x_bar is 0.

    >>> import jax, jaxbp
    >>> layer = jaxbp.batch_norm()
    >>> params, _ = layer.init(jax.random.key(0), (1,))
    >>> layer(params, jax.numpy.array([[1.0], [3.0]]), train=True).round(3).tolist()
    [[-1.0], [1.0]]

    Raises: ValueError for one value a feature in training, for a negative epsilon, a momentum outside [0, 1) or an example
    without features; TypeError for integer x.
    Source: Ioffe & Szegedy 2015, Batch Normalization, algorithms 1 and 2.
    """
    _require_epsilon("batch_norm", epsilon)
    if isinstance(momentum, bool) or not isinstance(momentum, (int, float)):
        raise TypeError(f"batch_norm: momentum is a number, got {momentum!r}")
    if not 0 <= momentum < 1:
        raise ValueError(f"batch_norm: momentum, the share of the old population that stays, lies in [0, 1), got {momentum!r}")
    return Layer(
        init=functools.partial(batch_norm_init, gain_init=gain_init if gain else None, bias_init=bias_init if bias else None),
        forward=functools.partial(batch_norm_forward, epsilon=epsilon),
        backward=functools.partial(batch_norm_backward, momentum=momentum, epsilon=epsilon),
        name="batch_norm",
        traits=frozenset({"mixes"}),
    )
