"""The Kronecker product that K-FAC puts in the place of one parameter's block of a curvature matrix."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax.scipy import linalg

from jaxbp import inputs


@functools.partial(jax.tree_util.register_dataclass, data_fields=["a", "g"], meta_fields=["shape"])
@dataclasses.dataclass(frozen=True, eq=False)
class Kronecker:
    """a (x) g, for a parameter of `shape` seen as a matrix (n, m): its entry [i, o] with [j, p] is a[i, j] g[o, p].

    a: (n, n), the inputs; (n,) where it is diagonal (rows of a table); None for a parameter that is added or scales, where it
    is the number 1, n = 1 and g is the whole block. g: (m, m), the output cotangents. For a kernel of q > 1 groups (q, n, n)
    and (q, m, m), the columns of its matrix (n, q m) in q blocks that do not meet. A dense weight (fan_in, fan_out) is that
    matrix; a kernel (*size, in / groups, out) is ((*size, in / groups), out).
    """

    a: jax.Array | None
    g: jax.Array
    shape: tuple[int, ...]

    def _apart(self, v: Any) -> jax.Array:
        """v as (groups, n, m)."""
        v = jnp.asarray(v)
        if v.shape != self.shape:
            raise ValueError(f"Kronecker: {list(self.shape)}, the shape of the parameter, was expected, got {list(v.shape)}")
        groups, m = self.g.shape[0] if self.g.ndim == 3 else 1, self.g.shape[-1]
        return v.reshape(-1, groups, m).swapaxes(0, 1)

    def _together(self, v: jax.Array) -> jax.Array:
        return v.swapaxes(0, 1).reshape(self.shape)

    def _sides(self) -> tuple[jax.Array, jax.Array]:
        """a as (groups, n, n), or (groups, n) where diagonal, and g as (groups, m, m)."""
        g = self.g if self.g.ndim == 3 else self.g[None]
        if self.a is None:
            return jnp.ones((1, 1), g.dtype), g
        return (self.a if self.a.ndim == 3 else self.a[None]), g

    def product(self, v: Any) -> jax.Array:
        """a v g, in the shape of the parameter: the block times v."""
        (a, g), v = self._sides(), self._apart(v)
        left = a[..., None] * v if a.ndim == 2 else a @ v
        return self._together(left @ g)

    def solve(self, v: Any, damping: Any) -> jax.Array:
        """(a + pi sqrt(damping) I)^-1 v (g + sqrt(damping) / pi I)^-1, pi^2 = mean of a's diagonal / mean of g's.

        For a = None this is (g + damping I)^-1 v. Source: Martens and Grosse 2015, section 6.3.

        Raises: ValueError for a damping that is not positive.
        """
        if not isinstance(damping, jax.core.Tracer):
            inputs.require_positive("Kronecker.solve", "damping", float(damping), whole=False)
        (a, g), v = self._sides(), self._apart(v)
        if self.a is None:
            return self._together(_solve(g, damping, v.swapaxes(1, 2)).swapaxes(1, 2))
        diagonal = a if a.ndim == 2 else jnp.diagonal(a, axis1=1, axis2=2)
        ratio = jnp.mean(diagonal) / jnp.mean(jnp.diagonal(g, axis1=1, axis2=2))
        pi = jnp.sqrt(jnp.where(jnp.isfinite(ratio) & (ratio > 0), ratio, 1))
        size = jnp.sqrt(jnp.asarray(damping, g.dtype))
        left = v / (a + pi * size)[..., None] if a.ndim == 2 else _solve(a, pi * size, v)
        return self._together(_solve(g, size / pi, left.swapaxes(1, 2)).swapaxes(1, 2))

    def diagonal(self) -> jax.Array:
        """The diagonal of the block, in the shape of the parameter."""
        a, g = self._sides()
        diagonal = a if a.ndim == 2 else jnp.diagonal(a, axis1=1, axis2=2)
        return self._together(diagonal[..., None] * jnp.diagonal(g, axis1=1, axis2=2)[:, None, :])

    def matrix(self) -> jax.Array:
        """The block itself, (size, size) over the entries of the parameter in their order. For small ones."""
        a, g = self._sides()
        a = jax.vmap(jnp.diag)(a) if a.ndim == 2 else a
        groups = jnp.eye(len(g), dtype=g.dtype)
        block = jnp.einsum("qr,qij,qop->iqojrp", groups, a, g)
        return block.reshape(math.prod(self.shape), -1)


def _solve(matrix: jax.Array, damping: Any, v: jax.Array) -> jax.Array:
    """(matrix + damping I)^-1 v for every group."""
    damped = matrix + damping * jnp.eye(matrix.shape[-1], dtype=matrix.dtype)[None]
    return jax.vmap(functools.partial(linalg.solve, assume_a="pos"))(damped, v)
