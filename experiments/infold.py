"""What is fitted inside each fold of a table: imputation, scaling of the features, and the units of a real target.

All of it is one pair (fit, apply) of pure functions for `cross_validate(scale=...)`. A real target reaches the net through
it too: `apply` gives, beside the features, the mean and the spread of the fold's training targets, and `in_target_units` makes of
a net f the net y = mean + spread f(features). So no held-out row has a part in any of them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp.contracts import Layer, constructor
from jaxbp.training.metrics import Metric, mean_of, ratio, weighted
from jaxbp.training.scaling import Affine, Scale, standardize_fit


class Rows(NamedTuple):
    """The examples as they are held, (n, columns) each. target: None for classes, whose units need no fitting."""

    numbers: Any
    missing: Any
    absent: Any
    categories: Any
    target: Any


class Fitted(NamedTuple):
    numbers: Affine
    target: Affine | None


class WithUnits(NamedTuple):
    """What the net of a regression takes: features (batch, width), and the fold's units, (batch, targets) each."""

    features: Any
    mean: Any
    spread: Any


def fit(rows: Rows, sample_weight: jax.Array) -> Fitted:
    """Mean and 1 / standard deviation of the numbers that are there, and of the target."""
    there = sample_weight[:, None].astype(rows.numbers.dtype) * (1 - rows.missing)
    total = jnp.sum(there, axis=0, keepdims=True)
    total = jnp.where(total == 0, 1, total)
    mean = jnp.sum(there * rows.numbers, axis=0, keepdims=True) / total
    spread = jnp.sqrt(jnp.sum(there * (rows.numbers - mean) ** 2, axis=0, keepdims=True) / total)
    numbers = Affine(mean[0], _inverse(spread[0], mean[0]))
    return Fitted(numbers, None if rows.target is None else standardize_fit(rows.target, sample_weight))


def _inverse(spread: jax.Array, mean: jax.Array) -> jax.Array:
    """1 / spread, 1 for a column that is constant in the fold, but for rounding."""
    constant = spread <= 8 * jnp.finfo(spread.dtype).eps * jnp.abs(mean)
    return 1 / jnp.where(constant, 1, spread)


def apply(fitted: Fitted, rows: Rows) -> Any:
    """Standardised numbers with the mean where one is missing, which are missing, categories: side by side."""
    shift, factor = (jnp.broadcast_to(a, rows.numbers.shape) for a in fitted.numbers)
    numbers = jnp.where(rows.missing == 1, 0, (rows.numbers - shift) * factor)
    features = jnp.concatenate([numbers, rows.absent, rows.categories], axis=1)
    if fitted.target is None:
        return features
    mean, factor = (jnp.broadcast_to(a, rows.target.shape) for a in fitted.target)
    return WithUnits(features, mean, 1 / factor)


IN_FOLD = Scale(fit, apply)


# --- a net in the units of the target


def units_init(net: Layer, key: Any, spec: WithUnits) -> tuple:
    return net.init(key, spec.features)


def units_forward(net: Layer, params: Any, x: WithUnits, *, train: bool = False, key: Any = None) -> tuple:
    """y = mean + spread f(features). Residuals: those of f, f(features) and spread."""
    f, residuals = net.forward(params, x.features, train=train, key=key)
    return x.mean + x.spread * f, (residuals, f, x.spread)


def units_backward(net: Layer, params: Any, residuals: Any, y_bar: jax.Array) -> tuple:
    """f_bar = spread y_bar, mean_bar = y_bar, spread_bar = f y_bar."""
    of_net, f, spread = residuals
    factors, features_bar = net.backward(params, of_net, spread * y_bar)
    return factors, WithUnits(features_bar, y_bar, f * y_bar)


@constructor
def in_target_units(net: Layer) -> Layer:
    """y = mean + spread f(features) for x = WithUnits(features, mean, spread) and a net f, whose params it has."""
    init, forward, backward = (functools.partial(rule, net) for rule in (units_init, units_forward, units_backward))
    return Layer(init, forward, backward, "in_target_units", (net,), net.traits)


# --- scores of a regression


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.sum((outputs - targets) ** 2, axis=1)


def rmse_value(unit: float, sums: tuple) -> jax.Array:
    return unit * jnp.sqrt(ratio(sums))


def metrics(unit: float) -> tuple[Metric, Metric]:
    """R squared, and the root of the mean squared error in the column's own units, of targets that were divided by `unit`."""
    errors = mean_of("rmse", squared_error)
    return Metric("r2", r2_sums, r2_value), Metric("rmse", errors.sums, functools.partial(rmse_value, unit))


def r2_sums(outputs: jax.Array, targets: jax.Array, sample_weight: Any = None) -> tuple:
    """Sums of (a - y)^2, y and y^2, and the weights."""
    sums = [weighted(values, sample_weight) for values in (squared_error(outputs, targets), targets[:, 0], targets[:, 0] ** 2)]
    return (*(total for total, _ in sums), sums[0][1])


def r2_value(sums: tuple) -> jax.Array:
    """1 - sum w (a - y)^2 / sum w (y - mean)^2; NaN for one row, or targets that are all alike."""
    errors, total, squares, weight = sums
    around_mean = squares - total**2 / jnp.where(weight == 0, 1, weight)
    alike = around_mean <= 8 * jnp.finfo(squares.dtype).eps * squares
    return jnp.where(alike, jnp.nan, 1 - errors / jnp.where(alike, 1, around_mean))
