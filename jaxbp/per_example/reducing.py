"""What a tree of factors is asked: the answers of its leaves, put together over all parameters."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from jaxbp import inputs, tree
from jaxbp.factors import Factor, Statistic, Whole, at_least_float32, is_factor, per_leaf, total


def leaves_of(factors: Any) -> list[Factor]:
    """The factors of a tree that have a cotangent per example; population statistics have none."""
    found = [leaf for leaf in jax.tree.leaves(factors, is_leaf=is_factor) if not isinstance(leaf, Statistic)]
    if any(isinstance(leaf, Whole) for leaf in found):
        raise ValueError(
            "some parameters keep only the sum of their cotangents over the batch (factor Whole): a lifted model or a layer in "
            "which examples meet; for a model that is not ours use jaxbp.per_example.factors_of"
        )
    if not found:
        raise ValueError("there are no trainable parameters, so there is no gradient of an example")
    return found


def _sum(terms: Any) -> jax.Array:
    return functools.reduce(operator.add, terms)


def sq_norms(factors: Any, groups: Sequence[int] | None = None) -> jax.Array:
    """(batch,): |g_b|^2 over all parameters; with `groups`, a group's number for every leaf, (batch, groups)."""
    if groups is None:
        return _sum(leaf.sq_norms() for leaf in leaves_of(factors))
    leaves_of(factors)
    every = jax.tree.leaves(factors, is_leaf=is_factor)
    columns: dict[int, list[jax.Array]] = {}
    for leaf, group in zip(every, groups, strict=True):
        if not isinstance(leaf, Statistic):
            columns.setdefault(group, []).append(leaf.sq_norms())
    return jnp.stack([_sum(columns[group]) for group in sorted(columns)], axis=1)


def clip_coefficients(norms: jax.Array, clip_norm: Any) -> jax.Array:
    """c = min(1, C / |g|), so that |c g| <= C."""
    clip_norm = jnp.broadcast_to(jnp.asarray(clip_norm, norms.dtype), norms.shape)
    return clip_norm / jnp.maximum(norms, clip_norm)


def scaled_total(
    params: Any, factors: Any, coefficients: jax.Array, groups: Sequence[int] | None = None, dtype: Any = None
) -> Any:
    """sum_b c_b g_b; with `groups` coefficients (batch, groups), a column for each group of leaves."""
    found, structure = jax.tree.flatten(factors, is_leaf=is_factor)
    pick = lambda i: coefficients if groups is None else coefficients[:, groups[i]]
    scaled = [leaf if isinstance(leaf, Statistic) else leaf.scaled(pick(i)) for i, leaf in enumerate(found)]
    return total(params, jax.tree.unflatten(structure, scaled), dtype)


def gram(factors: Any, others: Any = None) -> jax.Array:
    """(batch, batch'): <g_b, h_c> over all parameters."""
    found = leaves_of(factors)
    if others is None:
        return _sum(leaf.gram() for leaf in found)
    return _sum(leaf.gram(other) for leaf, other in zip(found, leaves_of(others), strict=True))


def dot(factors: Any, v: Any) -> jax.Array:
    """(batch,): <g_b, v> for a tree v like the parameters."""
    leaves_of(factors)
    terms = per_leaf_with(lambda leaf, value: None if isinstance(leaf, Statistic) else leaf.dot(jnp.asarray(value)), factors, v)
    return _sum(jax.tree.leaves(terms))


def second_moment(factors: Any) -> Any:
    """sum_b g_b^2, elementwise, in at least float32; zero at population statistics."""
    leaves_of(factors)
    zero = lambda leaf: jnp.zeros(leaf.value.shape, at_least_float32(leaf.value))
    return per_leaf(lambda leaf: zero(leaf) if isinstance(leaf, Statistic) else leaf.second_moment(), factors)


def mean(params: Any, done: Any) -> Any:
    """(sum_b g_b) / n of a `passing.Pass`, n the examples of weight other than 0."""
    share = jnp.broadcast_to(1 / jnp.maximum(done.present, 1), done.losses.shape)
    return scaled_total(params, done.factors, share)


def mean_square(done: Any) -> Any:
    """(sum_b g_b^2) / n."""
    return tree.scale(1 / jnp.maximum(done.present, 1), second_moment(done.factors))


def examples(params: Any, factors: Any, chunk: int | None = None) -> Any:
    """(batch, *shape): every g_b, in the dtype of its parameter; `chunk` of them at a time, all at once where it is None."""
    leaves_of(factors)

    def one(param: jax.Array, leaf: Factor) -> jax.Array:
        if chunk is None:
            return leaf.examples().astype(param.dtype)
        single = lambda one: one.of_one().examples()[0].astype(param.dtype)
        return jax.lax.map(single, leaf, batch_size=chunk)

    return per_leaf_with(lambda leaf, param: None if isinstance(leaf, Statistic) else one(param, leaf), factors, params)


def per_leaf_with(fun: Any, factors: Any, *trees: Any) -> Any:
    return jax.tree.map(fun, factors, *trees, is_leaf=is_factor)


# --- what is checked before anything compiles


def require_clip_norm(name: str, clip_norm: Any) -> None:
    """Raise unless a clip norm is a positive number (a traced one cannot be looked at)."""
    if inputs.is_concrete(clip_norm) and getattr(clip_norm, "shape", None) == ():
        clip_norm = clip_norm.item()
    if isinstance(clip_norm, jax.core.Tracer) and clip_norm.ndim == 0:
        return
    inputs.require_positive(name, "clip_norm", clip_norm, whole=False)


def require_like(name: str, params: Any, v: Any) -> None:
    """Raise unless v has the tree and the shapes of params."""
    wanted, got = jax.tree.structure(params), jax.tree.structure(v)
    if wanted != got:
        raise ValueError(f"{name}: v needs the tree of params, {wanted}, got {got}")
    for path, param, leaf in zip(tree.paths(params), jax.tree.leaves(params), jax.tree.leaves(v), strict=True):
        if jnp.shape(param) != jnp.shape(leaf):
            raise ValueError(
                f"{name}: v{path} needs the shape {list(jnp.shape(param))} of its parameter, got {list(jnp.shape(leaf))}"
            )


def require_room(name: str, rows: int, columns: int, dtype: Any) -> None:
    """Raise where a (rows, columns) matrix would take more than half the memory of the device."""
    size, room = rows * columns * jnp.dtype(dtype).itemsize, device_memory()
    if size > room / 2:
        raise ValueError(
            f"{name}: a matrix of {rows} x {columns} {jnp.dtype(dtype).name} takes {size / 2**30:.1f} GiB, more than half of the "
            f"{room / 2**30:.1f} GiB there are; ask for blocks of it, two smaller batches at a time (others=)"
        )


def device_memory() -> int:
    """Bytes that the default device has, or the machine where the device does not tell."""
    try:
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        limit = None
    if limit:
        return limit
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**34
