"""The base class of all factors, and what their types share."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
from jax import lax


CHUNK = 8  # examples instantiated at a time where a reduction has no closed form: bounds the memory at 8 parameter sizes

_C = TypeVar("_C", bound=type)


def static(**options: Any) -> Any:
    """A dataclass field that is configuration (strides, sizes): hashable, never traced."""
    return dataclasses.field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static,))
def factor(cls: _C) -> _C:
    """Make a subclass of Factor a frozen dataclass and a pytree; fields under `static()` are configuration."""
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)
    meta = [f.name for f in fields if f.metadata.get("static")]
    return jax.tree_util.register_dataclass(cls, [f.name for f in fields if f.name not in meta], meta)


def at_least_float32(*arrays: Any) -> Any:
    """The dtype that reductions work in: that of the arrays, or float32 where they are narrower."""
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)


class Factor:
    """Base class: what every factor answers, derived from `total` and `scaled`."""

    reach: ClassVar[int] = 0  # of two types that meet in `inner`, the one of greater reach knows the other and answers

    def total(self, dtype: Any = None) -> jax.Array:
        """sum_b g_b in `dtype` (default: the dtype of the cotangent), accumulated in float32 or wider."""
        raise NotImplementedError

    def scaled(self, c: jax.Array) -> Factor:
        """The factor of c_b g_b; c has shape (batch,)."""
        raise NotImplementedError

    @property
    def batch(self) -> int:
        return jax.tree.leaves(self)[0].shape[0]

    @property
    def dtype(self) -> Any:
        """The dtype of the cotangent, which is always the last array field."""
        return jax.tree.leaves(self)[-1].dtype

    def of_one(self) -> Factor:
        """Under `vmap` over the batch: the factor of this one example, as a batch of one."""
        return jax.tree.map(lambda a: a[None], self)

    def _example(self) -> jax.Array:
        one = self.of_one()
        return one.total(dtype=at_least_float32(self.dtype))

    def map_examples(self, fun: Any, *others: Factor) -> Any:
        """fun(g_b, h_b, ...) for every example, `CHUNK` instantiated at a time."""
        return lax.map(lambda one: fun(*(f._example() for f in one)), (self, *others), batch_size=CHUNK)

    def examples(self) -> jax.Array:
        """(batch, *shape): every g_b, instantiated."""
        return jax.vmap(lambda one: one._example())(self)

    def sq_norms(self) -> jax.Array:
        return self.inner(self)

    def inner(self, other: Factor) -> jax.Array:
        """(batch,): <g_b, h_b> with another factor of the same parameter and batch."""
        if other.reach > self.reach:
            return other.inner(self)
        return self.map_examples(lambda g, h: jnp.sum(g * h), other)

    def dot(self, v: jax.Array) -> jax.Array:
        """(batch,): <g_b, v>, the linear transpose of c -> scaled(c).total()."""
        dtype = at_least_float32(v, self.dtype)
        weights = jax.ShapeDtypeStruct((self.batch,), dtype)
        (products,) = jax.linear_transpose(lambda c: self.scaled(c).total(dtype), weights)(v.astype(dtype))
        return products

    def second_moment(self) -> jax.Array:
        """sum_b g_b^2, elementwise, in the shape of the parameter."""
        chunks, rest = chunks_of(self)
        squares = lambda part: jnp.sum(part.examples() ** 2, axis=0)
        if chunks is None:
            return squares(rest)
        add = lambda total, part: (total + squares(part), None)
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(squares, jax.tree.map(lambda a: a[0], chunks)))
        total, _ = lax.scan(add, zero, chunks)
        return total if rest is None else total + squares(rest)

    def gram(self, other: Factor | None = None) -> jax.Array:
        """(batch, batch'): <g_b, h_c> for all pairs of examples."""
        if other is not None and other.reach > self.reach:
            return other.gram(self).T
        g = self.examples().reshape(self.batch, -1)
        h = g if other is None else other.examples().reshape(other.batch, -1)
        return g @ h.T


def chunks_of(factor: Factor) -> tuple[Factor | None, Factor | None]:
    """(whole chunks stacked, remainder): the batch cut in pieces of `CHUNK`, either None where there is none."""
    whole = factor.batch // CHUNK * CHUNK
    if whole <= CHUNK:
        return None, factor
    stacked = jax.tree.map(lambda a: a[:whole].reshape(-1, CHUNK, *a.shape[1:]), factor)
    return stacked, None if whole == factor.batch else jax.tree.map(lambda a: a[whole:], factor)


def columns(c: jax.Array, a: jax.Array) -> jax.Array:
    """a with example b times c[b], in the wider of the two dtypes."""
    return a * jnp.broadcast_to(c.reshape(c.shape + (1,) * (a.ndim - 1)), a.shape)


def wide(a: jax.Array) -> jax.Array:
    """a in at least float32."""
    return a.astype(at_least_float32(a))


def same_dtype(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.promote_types(x.dtype, y.dtype)
    return x.astype(dtype), y.astype(dtype)


def sq_each(a: jax.Array) -> jax.Array:
    """(batch,): the sum of the squares of each example."""
    return jnp.sum(wide(a) ** 2, axis=tuple(range(1, a.ndim)))


def is_factor(x: Any) -> bool:
    return isinstance(x, Factor)


def total(params: Any, factors: Any, dtype: Any = None) -> Any:
    """The gradient: `Factor.total` of every leaf, in the dtype of its parameter (or `dtype`).

    The tree of `params` leads, so a factor tree of another structure raises, and so does a total of another shape.
    """

    def one(path: Any, param: jax.Array, leaf: Factor) -> jax.Array:
        if not is_factor(leaf):
            raise TypeError(not_a_factor(leaf, path))
        grad = leaf.total(dtype or param.dtype)
        if grad.shape != param.shape:
            raise ValueError(
                f"backward's {type(leaf).__name__} for params{jax.tree_util.keystr(path)} has total {list(grad.shape)}, "
                f"the parameter {list(param.shape)}"
            )
        return grad

    return jax.tree_util.tree_map_with_path(one, params, factors)


def not_a_factor(leaf: Any, path: Any) -> str:
    """What is wrong with a leaf of what a backward returned, in words."""
    array = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    shown = f"an array {leaf.dtype}{list(leaf.shape)}" if array else repr(leaf)
    return (
        f"backward returned {shown} for params{jax.tree_util.keystr(path)}, expected a Factor: factors.Each(g) for g with a "
        "leading batch axis, factors.Outer(x, y_bar) for x^T y_bar, factors.Whole(g) for a sum over the batch"
    )


def per_leaf(fun: Any, factors: Any) -> Any:
    """`fun` of every factor of a tree, e.g. `per_leaf(Factor.sq_norms, factors)`."""
    return jax.tree.map(fun, factors, is_leaf=is_factor)
