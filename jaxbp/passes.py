"""The passes of a layer, with a look at what its rules returned: the pair, and a Factor for every parameter.

A rule that returns something else is told so here, by the name of its layer, and not by whatever comes next and takes it for
something it is not. Only trees are looked at, so that it costs nothing in a compiled program; and the factors only of layers
without parts, of which composites are made.
"""

from __future__ import annotations

from typing import Any

import jax

from jaxbp import inputs
from jaxbp.contracts import Layer
from jaxbp.factors import is_factor
from jaxbp.factors.base import not_a_factor


def forward_of(layer: Layer, params: Any, x: Any, *, train: bool = False, key: Any = None) -> tuple:
    """`layer.forward`. Raises: TypeError unless it returns a pair (y, residuals)."""
    return _pair(layer, "forward", layer.forward(params, x, train=train, key=key), "(y, residuals)")


def backward_of(layer: Layer, params: Any, residuals: Any, y_bar: Any) -> tuple:
    """`layer.backward`. Raises: TypeError unless it returns a pair (factors, x_bar), factors in the tree of params."""
    factors, x_bar = _pair(layer, "backward", layer.backward(params, residuals, y_bar), "(factors, x_bar)")
    if not layer.parts:
        _require_factors(layer, params, factors)
    return factors, x_bar


def _pair(layer: Layer, what: str, made: Any, wanted: str) -> tuple:
    if type(made) is not tuple or len(made) != 2:  # a NamedTuple of params is no pair either
        shown = jax.tree.map(inputs.describe, made)
        raise TypeError(f"{layer!r}: {what} returned {shown}, expected the pair {wanted}")
    return made


def _require_factors(layer: Layer, params: Any, factors: Any) -> None:
    expected, expected_tree = jax.tree_util.tree_flatten_with_path(params)
    leaves, tree = jax.tree.flatten(factors, is_leaf=is_factor)
    if tree != expected_tree:
        raise TypeError(
            f"{layer!r}: backward returned factors of another tree than params: expected {expected_tree} with a Factor at each "
            f"*, got {tree}"
        )
    for (path, _), leaf in zip(expected, leaves, strict=True):
        if not is_factor(leaf):
            raise TypeError(f"{layer!r}: {not_a_factor(leaf, path)}")
