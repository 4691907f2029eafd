"""What every way starts from: the objective of a net, the entries of params in one row, what a way gives back."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp import backprop, inputs, tree
from jaxbp.contracts import Layer, Loss


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Passes:
    """What a gradient took: evaluations of the function, tangents and cotangents through it, paths multiplied out.

    A vjp comes after one evaluation, which is counted too; a jvp carries its own.
    """

    forwards: int = 0
    jvps: int = 0
    vjps: int = 0
    paths: int = 0

    def __str__(self) -> str:
        named = [(n, field.name) for field in dataclasses.fields(self) if (n := getattr(self, field.name))]
        return ", ".join(f"{n:,} {name if n > 1 else name[:-1]}" for n, name in named) or "none"


class Found(NamedTuple):
    """grads: a tree like params, in its dtypes. passes: what it took; static, so that it comes out of a `jit` as it is."""

    grads: Any
    passes: Passes


@dataclasses.dataclass(frozen=True)
class NetObjective:
    """The value of `jaxbp.value_and_grad(net, loss, ...)` as a function that still knows its net; made by `of_net`."""

    net: Layer
    loss: Loss
    penalty: Any = None
    reduction: str = "mean"

    @property
    def value(self) -> Callable:
        return backprop.objective(self.net, self.loss, penalty=self.penalty, reduction=self.reduction)

    @property
    def value_and_grad(self) -> Callable:
        return backprop.value_and_grad(self.net, self.loss, penalty=self.penalty, reduction=self.reduction)

    def __call__(self, params: Any, x: Any, targets: Any, **options: Any) -> jax.Array:
        return self.value(params, x, targets, **options)


class Entries(NamedTuple):
    """The entries of params that are differentiated, as one row, and the way back.

    Population statistics (batch norm's) are no parameters: they stay as they are, and their derivative is 0.
    """

    leaves: list
    on: tuple[bool, ...]
    structure: Any

    @property
    def row(self) -> jax.Array:
        """(P,), in the widest dtype of the leaves."""
        return jnp.concatenate([jnp.ravel(leaf).astype(self.dtype) for leaf in self.trained])

    @property
    def trained(self) -> list:
        return [jnp.asarray(leaf) for leaf, on in zip(self.leaves, self.on, strict=True) if on]

    @property
    def dtype(self) -> Any:
        return jnp.result_type(*self.trained)

    @property
    def size(self) -> int:
        return sum(leaf.size for leaf in self.trained)

    def split(self, row: jax.Array) -> list:
        """The row cut into arrays of the leaves' shapes, in its own dtype."""
        sizes = [leaf.size for leaf in self.trained]
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        pieces = zip(self.trained, sizes, ends, strict=True)
        return [row[end - size : end].reshape(leaf.shape) for leaf, size, end in pieces]

    def params(self, row: jax.Array) -> Any:
        """params with these entries in their place."""
        parts = iter(self.split(row))
        put = [next(parts).astype(jnp.result_type(leaf)) if on else leaf for leaf, on in zip(self.leaves, self.on, strict=True)]
        return jax.tree.unflatten(self.structure, put)

    def grads(self, row: jax.Array) -> Any:
        """The same for derivatives: 0 at what is not differentiated."""
        zeros = [jnp.zeros_like(leaf) for leaf in self.leaves]
        return self._replace(leaves=zeros).params(row)


def entries(params: Any) -> Entries:
    """Raises: TypeError for a leaf that is no floating array, ValueError where nothing is to be differentiated."""
    leaves, structure = jax.tree.flatten(params)
    for path, leaf in zip(tree.paths(params, "params"), leaves, strict=True):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"{path}: a floating array was expected, got {inputs.describe(jnp.asarray(leaf))}")
    found = Entries(leaves, tuple(jax.tree.leaves(tree.trainable(params))), structure)
    if not found.size:
        raise ValueError("params: there is no entry to differentiate by")
    return found


def require_scalar(way: str, fun: Callable, params: Any, args: tuple, kwargs: dict) -> Any:
    """The spec of the value. Raises: TypeError unless it is one floating number."""
    made = jax.eval_shape(lambda p: fun(p, *args, **kwargs), params)
    leaves = jax.tree.leaves(made)
    if len(leaves) != 1 or leaves[0].shape or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        shown = ", ".join(inputs.describe(leaf) for leaf in leaves) or "nothing"
        raise TypeError(f"gradient by {way!r}: the function has to give one floating number, it gives {shown}")
    return leaves[0]


def of_row(fun: Callable, found: Entries, args: tuple, kwargs: dict) -> Callable:
    """The function of the row alone."""
    return lambda row: fun(found.params(row), *args, **kwargs)


@functools.cache
def chunk_of(count: int, chunk: int | None) -> int:
    """How many entries go through at a time: a divisor of their number if one is near, so that no rest is compiled apart."""
    most = min(count, chunk or max(1, min(256, 2**22 // count)))
    return next((c for c in range(most, math.ceil(most / 2), -1) if count % c == 0), most)
