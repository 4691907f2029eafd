"""A parameter seen reshaped, transposed or cut, and the factor of a parameter that is used through such a view."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp.factors import Factor, Sum, factor, static


# A step is ("transpose", axes), ("reshape", shape) or ("slice", starts, limits, strides): every entry of what is seen is one
# entry of the parameter, and no entry is seen twice. So norms are kept, and squares go where the entries go.
Steps = tuple[tuple, ...]


def see(a: jax.Array, steps: Steps) -> jax.Array:
    """What is seen of a parameter."""
    for kind, *how in steps:
        if kind == "slice":
            a = lax.slice(a, *how)
        else:
            a = a.transpose(*how) if kind == "transpose" else a.reshape(*how)
    return a


def put_back(seen: jax.Array, shape: tuple[int, ...], steps: Steps) -> jax.Array:
    """The array of `shape` that is seen as `seen`, zero where nothing is seen."""
    (a,) = jax.linear_transpose(lambda a: see(a, steps), jax.ShapeDtypeStruct(shape, seen.dtype))(seen)
    return a


def then(steps: Steps, shape: tuple[int, ...], kind: str, *how: Any) -> tuple[Steps, tuple[int, ...]]:
    """(steps, shape) after one more step; a step that changes nothing is left out."""
    new = jax.eval_shape(lambda a: see(a, ((kind, *how),)), jax.ShapeDtypeStruct(shape, jnp.float32)).shape
    nothing = how[0] == tuple(range(len(shape))) if kind == "transpose" else new == shape
    return (steps if nothing else (*steps, (kind, *how))), new


def disjoint(a: Steps, b: Steps) -> bool:
    """Whether two views of one parameter are seen to share no entry: different cuts of the same array."""
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    if not (a and b and a[0][0] == b[0][0] == "slice"):
        return False
    (_, starts, limits, _), (_, others, ends, _) = a[0], b[0]
    return any(limit <= other or end <= start for start, limit, other, end in zip(starts, limits, others, ends, strict=True))


@factor
class View(Factor):
    """The cotangent of a parameter of `shape` that is seen through `steps`; seen: the cotangent of what is seen."""

    reach: ClassVar[int] = 1

    seen: Factor
    shape: tuple[int, ...] = static()
    steps: Steps = static()

    def total(self, dtype: Any = None) -> jax.Array:
        return put_back(self.seen.total(dtype), self.shape, self.steps)

    def scaled(self, c: jax.Array) -> View:
        return View(self.seen.scaled(c), self.shape, self.steps)

    def examples(self) -> jax.Array:
        return jax.vmap(lambda g: put_back(g, self.shape, self.steps))(self.seen.examples())

    def sq_norms(self) -> jax.Array:
        return self.seen.sq_norms()

    def second_moment(self) -> jax.Array:
        return put_back(self.seen.second_moment(), self.shape, self.steps)

    def dot(self, v: jax.Array) -> jax.Array:
        return self.seen.dot(see(v, self.steps))

    def inner(self, other: Factor) -> jax.Array:
        if isinstance(other, View) and other.steps == self.steps:
            return self.seen.inner(other.seen)
        if isinstance(other, View) and disjoint(self.steps, other.steps):
            return jnp.zeros(self.batch, self.dtype)
        return super().inner(other)

    def gram(self, other: Factor | None = None) -> jax.Array:
        if other is None:
            return self.seen.gram()
        if isinstance(other, View) and other.steps == self.steps:
            return self.seen.gram(other.seen)
        if isinstance(other, View) and disjoint(self.steps, other.steps):
            return jnp.zeros((self.batch, other.batch), self.dtype)
        return super().gram(other)


def in_parts(views: list[tuple[Factor, Steps]], shape: tuple[int, ...]) -> Factor | None:
    """One factor of the parameter from those of its views; None where views may overlap, so that their sum must be formed."""
    for i, (_, steps) in enumerate(views):
        if any(not disjoint(steps, other) for _, other in views[:i]):
            return None
    parts = tuple(View(seen, shape, steps) if steps else seen for seen, steps in views)
    return parts[0] if len(parts) == 1 else Sum(parts)
