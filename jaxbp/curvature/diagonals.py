"""Diagonals of the Fisher and the generalized Gauss-Newton matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.contracts import Layer, Loss
from jaxbp.curvature import columns
from jaxbp.curvature.columns import Column
from jaxbp.factors import Outer, at_least_float32
from jaxbp.factors.base import wide
from jaxbp.per_example import passing


def ggn_diagonal(net: Layer, loss: Loss, *, samples: int | None = None, reduction: str = "mean") -> Callable:
    """diag G, G = 1/W sum_b w_b J_b^T H_b J_b: the generalized Gauss-Newton matrix of the objective.

    J_b is the Jacobian of the outputs of example b, H_b the Hessian of its loss in them. Returns f(params, x, targets, *,
    sample_weight=None, key=None, train=True) -> a tree like params in at least float32. Exact by default: a backward pass for
    every output of an example (for losses with a time axis every step and class), and one contraction. With samples=n an
    unbiased estimate from n passes with random signs of the columns of H_b's square root, which needs key=.

    G is what is left of the Hessian where the net is taken as linear; it depends on where the net ends and the loss begins. For
    a loss on logits that is a negative log-likelihood it is the Fisher matrix. reduction="sum": W = 1.

    >>> import jax, jaxbp
    >>> net, loss = jaxbp.dense(1), jaxbp.losses.quadratic()
    >>> params, _ = net.init(jax.random.key(0), (2,))
    >>> x, targets = jax.numpy.array([[1.0, 2.0], [3.0, 0.0]]), jax.numpy.zeros((2, 1))
    >>> diagonal = ggn_diagonal(net, loss)(params, x, targets)
    >>> diagonal.w.tolist(), diagonal.b.tolist()
    ([[5.0], [2.0]], [1.0])

    Raises: ValueError for a loss that is not convex in the outputs, negative weights, samples without a key, and nets in which
    examples meet or that keep only sums.
    Source: Schraudolph 2002, Fast Curvature Matrix-Vector Products; Dangel, Kunstner and Hennig 2020, BackPACK.
    """
    return _diagonal("ggn_diagonal", net, loss, "ggn", samples, reduction)


def fisher_diagonal(net: Layer, loss: Loss, *, samples: int = 1, reduction: str = "mean") -> Callable:
    """diag F, F = 1/W sum_b w_b E_y[g_b(y) g_b(y)^T], y drawn from the net's own predictive distribution: Monte-Carlo Fisher.

    g_b(y) is the gradient of the loss of example b at target y. Returns f(params, x, targets, *, key, sample_weight=None,
    train=True) -> a tree like params in at least float32, the mean over `samples` draws for every example (and step); the
    targets given are only checked. The distribution is the one that the loss is the negative log-likelihood of: N(a, 1) for
    `quadratic`, N(a, n/2) for `mse` of n outputs, softmax(z) for `softmax_cross_entropy` (smoothed or not), sigma(z) for
    `sigmoid_cross_entropy` and `logistic`, the outputs themselves for `log_likelihood` and `binary_cross_entropy`.

    Raises: ValueError for a loss without such a distribution, and as `ggn_diagonal`.
    Source: Martens 2020, New Insights and Perspectives on the Natural Gradient Method, section 5.
    """
    return _diagonal("fisher_diagonal", net, loss, "fisher", samples, reduction)


def empirical_fisher_diagonal(net: Layer, loss: Loss, *, reduction: str = "mean") -> Callable:
    """diag 1/W sum_b w_b g_b g_b^T, g_b the gradient of the loss of example b at its own target.

    Returns f(params, x, targets, ...) -> a tree like params in at least float32. Without weights it is
    `per_example.second_moment`, divided by the number of steps for a loss with a time axis: there g_b = sum_t sqrt(w_bt)
    dC_bt/dparams. It is no estimate of the Fisher matrix unless the targets follow the net's predictions.

    Raises: ValueError as `ggn_diagonal`.
    Source: Kunstner, Balles and Hennig 2019, Limitations of the Empirical Fisher Approximation.
    """
    return _diagonal("empirical_fisher_diagonal", net, loss, "empirical_fisher", None, reduction)


def _diagonal(name: str, net: Layer, loss: Loss, of: str, samples: int | None, reduction: str) -> Callable:
    asked = columns.options_of(name, net, loss, of, samples, reduction)

    def f(params: Any, x: Any, targets: Any, options: dict) -> Any:
        passes = columns.forward(net, loss, params, x, targets, options, asked)

        def finish(fixed: Column, sums: Any) -> jax.Array:
            if sums is None:
                value = fixed.leaf.value
                return jnp.zeros(value.shape, at_least_float32(value))
            found = finished(fixed, sums)
            return found / jnp.asarray(passes.divisor, found.dtype)

        return columns.reduce(passes, squares, finish)

    return passing.door(f)


def squares(column: Column) -> jax.Array:
    """sum_b g_b^2; for a dense weight, sum_b x_bi^2 y_bo^2, no more than the square of the side that varies."""
    side = _side(column)
    return column.leaf.second_moment() if side is None else wide(side) ** 2


def finished(fixed: Column, sums: jax.Array) -> jax.Array:
    """sum_bc x_bi^2 y_bco^2 = sum_b x_bi^2 sum_c y_bco^2: one product for all columns."""
    leaf = fixed.leaf
    if _side(fixed) is None:
        return sums
    return (Outer(sums, wide(leaf.y_bar) ** 2) if fixed.varies.x else Outer(wide(leaf.x) ** 2, sums)).total()


def _side(column: Column) -> jax.Array | None:
    """The one side of an `Outer` without time that differs between columns, None for any other factor."""
    _, leaf, varies = column
    if not isinstance(leaf, Outer) or leaf.x.ndim != 2 or varies.x == varies.y_bar:
        return None
    return leaf.x if varies.x else leaf.y_bar
