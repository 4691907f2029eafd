"""K-FAC: for every parameter a Kronecker product in the place of its block of the curvature matrix."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.contracts import Layer, Loss
from jaxbp.curvature import columns
from jaxbp.curvature.columns import Column, Passes
from jaxbp.curvature.kronecker import Kronecker
from jaxbp.curvature.sides import alone, incoming, is_turned, outgoing, uses_of
from jaxbp.factors import at_least_float32
from jaxbp.per_example import passing


def kfac(
    net: Layer, loss: Loss, *, of: str = "ggn", samples: int | None = None, sharing: str = "expand", reduction: str = "mean"
) -> Callable:
    """The block of every parameter as A (x) G, from its factors g_bc = sum_t x_bt (outer) y_bar_btc, c the columns:

        expand    A = mean_bt x_bt x_bt^T                     G = 1/W sum_bct y_bar_btc y_bar_btc^T
        reduce    A = mean_b x_b x_b^T, x_b = mean_t x_bt     G = 1/W sum_bc y_bar_bc y_bar_bc^T, y_bar_bc = sum_t y_bar_btc

    t runs over what shares the weight: steps of a time axis, positions of a convolution (x: the patches), the uses of a tied
    weight. Without any the two are one. `expand` takes the terms of the sum as if each had a loss of its own, `reduce` as if the
    net averaged over them before its loss. Means are weighted by `sample_weight`, step by step where x has
    the axes of the losses.

    of: "ggn", the generalized Gauss-Newton matrix, its columns all (exact) or `samples` random ones; "fisher", with targets drawn
    from the net's predictive distribution as in `fisher_diagonal`, samples=1 being the usual K-FAC; "empirical_fisher".

    Returns f(params, x, targets, *, sample_weight=None, key=None, train=True) -> a tree like params with a `Kronecker` in the
    place of each array, in at least float32. Weights have A and G. A bias is a parameter of its own: its input is the constant 1,
    so A is left out, and G is its whole block; so it is for gains. What a weight and its bias share, a homogeneous coordinate
    would add, is left out with all other blocks off the diagonal. A table read by index has a diagonal A, the share of each row.

    The product is exact, the block itself, for a net of linear layers and a loss whose Hessian is the same for all examples
    (`quadratic`, `mse`) with of="ggn" and all columns, at any batch size: without sharing, and under sharing in the setting
    named; and for a batch of one example without sharing where the loss has one column.

    >>> import jax, jaxbp
    >>> net, loss = jaxbp.dense(1), jaxbp.losses.quadratic()
    >>> params, _ = net.init(jax.random.key(0), (2,))
    >>> x, targets = jax.numpy.array([[1.0, 2.0], [3.0, 0.0]]), jax.numpy.zeros((2, 1))
    >>> block = kfac(net, loss)(params, x, targets).w
    >>> block.a.tolist(), block.g.tolist()
    ([[5.0, 1.0], [1.0, 2.0]], [[1.0]])

    Raises: ValueError for a table that also multiplies (tied embeddings), a factor type without an input and an output side, and
    as `ggn_diagonal` and `fisher_diagonal`.
    Source: Martens and Grosse 2015; Grosse and Martens 2016 for convolutions; Eschenhagen et al. 2023, Kronecker-Factored
    Approximate Curvature for Modern Neural Network Architectures, for expand and reduce.
    """
    asked = columns.options_of("kfac", net, loss, of, samples, reduction)
    if sharing not in ("expand", "reduce"):
        raise ValueError(f"kfac: sharing is 'expand' or 'reduce', got {sharing!r}")

    def f(params: Any, x: Any, targets: Any, options: dict) -> Any:
        passes = columns.forward(net, loss, params, x, targets, options, asked)
        gather = functools.partial(outgoing, sharing=sharing)
        return columns.reduce(passes, gather, functools.partial(_block, passes, sharing))

    return passing.door(f)


def _block(passes: Passes, sharing: str, fixed: Column, sums: Any) -> Kronecker:
    """The block of one parameter: A from its inputs, G from the sum over columns of its output cotangents."""
    if sums is None:
        value = fixed.leaf.value
        return Kronecker(None, jnp.zeros((value.size,) * 2, at_least_float32(value)), value.shape)
    a = incoming([use.leaf for use in uses_of(fixed)], passes.weights, sharing)
    g = alone(sums / jnp.asarray(passes.divisor, sums.dtype))
    shape = jax.eval_shape(fixed.leaf.total).shape
    return Kronecker(g, a, shape) if is_turned(fixed) else Kronecker(a, g, shape)  # type: ignore[arg-type]
