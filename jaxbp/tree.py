"""Pytree arithmetic, paths and masks."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Population(NamedTuple):
    """Statistics of a population, kept beside the params of a layer. They are no parameters: `trainable` masks them."""

    mean: jax.Array
    variance: jax.Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    """A hashable value that travels in a pytree without being an array: sizes and switches among residuals."""

    value: Any


def add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def subtract(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.subtract, a, b)


def scale(c: Any, a: Any) -> Any:
    return jax.tree.map(lambda leaf: c * leaf, a)


def dot(a: Any, b: Any) -> jax.Array:
    """sum over all leaves of <a, b>."""
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)), jnp.zeros(()))


def norm(a: Any) -> jax.Array:
    """The Euclidean norm of all leaves together."""
    return jnp.sqrt(dot(a, a))


def where(condition: Any, a: Any, b: Any) -> Any:
    """Leaf by leaf `a` where the scalar `condition` holds, else `b`."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def cast(a: Any, dtype: Any) -> Any:
    """Floating leaves in `dtype`, others as they are."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, a)


def paths(a: Any, prefix: str = "") -> list[str]:
    """The path of every leaf, such as 'params[0].w'."""
    return [prefix + jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(a)]


def trainable(params: Any) -> Any:
    """A tree of booleans like `params`: False at population statistics, True elsewhere (an optax mask)."""
    is_population = lambda node: isinstance(node, Population)
    return jax.tree.map(
        lambda node: jax.tree.map(lambda _: False, node) if is_population(node) else True, params, is_leaf=is_population
    )


def weights(params: Any) -> Any:
    """A tree of booleans like `params`: True at trainable leaves of two or more axes, so not at biases and gains."""
    return jax.tree.map(lambda leaf, train: bool(train and jnp.ndim(leaf) >= 2), params, trainable(params))
