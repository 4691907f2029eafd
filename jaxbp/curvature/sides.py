"""The two sides of a parameter: what comes into it, and the cotangents of what goes out of it.

Both as arrays (..., steps, groups, features), where steps are what shares the parameter inside an example: a time axis, the
positions of a convolution, the uses of a tied weight. Groups are 1 but for grouped kernels.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp.curvature.columns import Column
from jaxbp.factors import Conv, Each, Factor, Outer, Rows, Sum, at_least_float32
from jaxbp.factors.base import columns as times_each
from jaxbp.factors.base import wide


def uses_of(column: Column) -> list[Column]:
    """One column for each use of the parameter, with inputs on the side of x and cotangents on that of y_bar.

    Raises: ValueError where the uses do not agree, or the sides cannot be told.
    """
    path, leaf, varies = column
    if isinstance(leaf, Sum):
        uses = [use for part in column.parts() for use in uses_of(part)]
        kinds = {(type(use.leaf), getattr(use.leaf, "groups", 1)) for use in uses}
        if len(kinds) > 1 or len({is_turned(part) for part in column.parts()}) > 1:
            names = ", ".join(sorted({kind.__name__ for kind, _ in kinds}))
            raise ValueError(
                f"kfac: {path} is tied: it is used in ways that no one Kronecker product stands for ({names}); take "
                "ggn_diagonal or ggn_vector_product, or weights that are not tied"
            )
        return uses
    if not isinstance(leaf, (Outer, Conv, Each, Rows)):
        raise ValueError(f"kfac: {path} has a factor of type {type(leaf).__name__}, which has no input and output side")
    if is_turned(column):
        return [Column(path, leaf.T, varies.T)]  # type: ignore[union-attr]
    if isinstance(leaf, (Outer, Conv)) and varies.x:
        raise ValueError(f"kfac: {path}: both sides of its factor depend on the cotangent of the outputs, so neither is an input")
    return [column]


def is_turned(column: Column) -> bool:
    """Whether a weight is stored (fan_out, fan_in): the x of its `Outer` is what differs between columns."""
    if isinstance(column.leaf, Sum):
        return is_turned(column.parts()[0])
    return isinstance(column.leaf, Outer) and column.varies.x and not column.varies.y_bar


# --- G: the sum over columns, examples and, for expand, steps of y_bar y_bar^T


def outgoing(column: Column, *, sharing: str) -> jax.Array:
    """(groups, m, m): the sum over examples and, for expand, steps of y_bar y_bar^T."""
    steps = jnp.concatenate([_cotangents(use.leaf) for use in uses_of(column)], axis=1)
    return _squares(steps if sharing == "expand" else jnp.sum(wide(steps), axis=1))


def _cotangents(use: Any) -> jax.Array:
    """(batch, steps, groups, m)."""
    if isinstance(use, Each):
        value, first = use.value, use.value.ndim - use.ndim
        return value.reshape(len(value), math.prod(value.shape[1:first]), 1, math.prod(value.shape[first:]))
    if isinstance(use, Rows):
        inside = (use.indices >= 0) & (use.indices < use.size)
        rows = jnp.where(jnp.broadcast_to(inside[..., None], use.rows.shape), use.rows, 0)
        return rows.reshape(len(rows), -1, 1, rows.shape[-1])
    groups = use.groups if isinstance(use, Conv) else 1
    return use.y_bar.reshape(len(use.y_bar), -1, groups, use.y_bar.shape[-1] // groups)


def _squares(steps: jax.Array) -> jax.Array:
    """(groups, m, m): the sum over all axes before groups of y y^T, in at least float32."""
    dtype = at_least_float32(steps)
    product = lambda y: Outer(y, y).total(dtype)
    rows = steps.reshape(-1, *steps.shape[-2:])
    return product(rows[:, 0])[None] if rows.shape[1] == 1 else jax.vmap(product, 1)(rows)


# --- A: the mean over examples and, for expand, steps of x x^T


def incoming(uses: list[Factor], weights: jax.Array | None, sharing: str) -> jax.Array | None:
    """(n, n), (groups, n, n), or (n,) for a table; None for a parameter that is added."""
    if isinstance(uses[0], Each):
        return None
    shares = [_shares(use, weights) for use in uses]
    if isinstance(uses[0], Rows):
        return _counts(uses, shares, sharing)
    if not any(isinstance(use, Conv) for use in uses):
        return alone(_mean_squares(uses, shares, sharing))

    # patches are many times the image: those of one example at a time
    def one(batch: tuple) -> jax.Array:
        uses, shares = jax.tree.map(lambda a: a[None], batch)
        return _mean_squares(uses, shares, sharing)

    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, jax.tree.map(lambda a: a[0], (uses, shares))))
    return alone(lax.scan(lambda total, batch: (total + one(batch), None), zero, (uses, shares))[0])


def alone(side: jax.Array) -> jax.Array:
    """Without the axis of groups where there is one group."""
    return side[0] if len(side) == 1 else side


def _shares(use: Any, weights: jax.Array | None) -> jax.Array:
    """(batch, steps) that sum to 1: those of the weights where steps are those of the losses, else even inside an example."""
    axes = use.indices.shape if isinstance(use, Rows) else use.y_bar.shape[:-1]
    dtype, batch, steps = at_least_float32(use.dtype), axes[0], math.prod(axes[1:])
    if weights is None:
        return jnp.full((batch, steps), 1 / (batch * steps), dtype)
    if weights.shape == axes:
        return weights.reshape(batch, steps).astype(dtype)
    share = jnp.sum(weights.reshape(batch, -1), axis=1, keepdims=True) / steps
    return jnp.broadcast_to(share, (batch, steps)).astype(dtype)


def _all_shares(shares: list[jax.Array]) -> jax.Array:
    """Those of all uses side by side; each use counts by its steps."""
    whole = sum(c.shape[1] for c in shares)
    return jnp.concatenate([c * (c.shape[1] / whole) for c in shares], axis=1)


def _mean_squares(uses: list[Factor], shares: list[jax.Array], sharing: str) -> jax.Array:
    """(groups, n, n): sum_bt c_bt x_bt x_bt^T, or sum_b c_b x_b x_b^T with c_b = sum_t c_bt and x_b = sum_t c_bt x_bt / c_b."""
    x, c = jnp.concatenate([_inputs(use) for use in uses], axis=1), _all_shares(shares)
    if sharing == "reduce":
        whole, within = _within(c)
        x, c = jnp.einsum("bt,btqn->bqn", within, wide(x)), whole
    rows = x.reshape(-1, *x.shape[-2:])
    product = lambda x: Outer(x, times_each(c.reshape(-1), x)).total(c.dtype)
    return product(rows[:, 0])[None] if rows.shape[1] == 1 else jax.vmap(product, 1)(rows)


def _within(c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """c_b and c_bt / c_b, 0 where c_b is."""
    whole = jnp.sum(c, axis=1)
    return whole, c / jnp.where(whole == 0, 1, whole)[:, None]


def _inputs(use: Any) -> jax.Array:
    """(batch, steps, groups, n)."""
    if isinstance(use, Conv):
        return jnp.moveaxis(use.outers().x, 0, 2)
    return use.x.reshape(len(use.x), -1, 1, use.x.shape[-1])


def _counts(uses: list[Any], shares: list[jax.Array], sharing: str) -> jax.Array:
    """(size,): the diagonal of A where the inputs are rows of the identity. For expand A has nothing else; for reduce it has."""
    indices = jnp.concatenate([use.indices.reshape(use.batch, -1) for use in uses], axis=1)
    c = _all_shares(shares)
    if sharing == "expand":
        return Rows(indices, c[..., None], uses[0].size).total()[:, 0]
    whole, within = _within(c)
    return Rows(indices, within[..., None], uses[0].size).scaled(jnp.sqrt(whole)).second_moment()[:, 0]
