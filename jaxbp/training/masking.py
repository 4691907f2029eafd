"""Masks: entries of params that are 0 and stay 0, whatever the optimiser does.

A mask is a tree like params of booleans, True where an entry stays: an array of the leaf's shape, or one boolean for all of it
(`tree.weights(params)` is a mask). Population statistics are no parameters and are never masked.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxbp import tree


class Masked(NamedTuple):
    """Params to begin with, None to draw them, and the mask that they are trained under."""

    params: Any
    mask: Any


class MaskedState(NamedTuple):
    """mask: arrays of booleans, data of the program, so that another mask compiles nothing. inner: of the optimiser inside."""

    mask: Any
    inner: Any


def apply_mask(mask: Any, a: Any) -> Any:
    """The leaves of a tree like the mask, exactly 0 where the mask is False."""
    one = lambda m, leaf, train: jnp.where(m, leaf, jnp.zeros((), leaf.dtype)) if train else leaf
    return jax.tree.map(one, mask, a, tree.trainable(a))


def masked(optimizer: Any, mask: Any = None) -> optax.GradientTransformationExtraArgs:
    """The optimiser on the entries where the mask is True; updates of all others are exactly 0.

    What the optimiser inside sees of a masked entry is a gradient 0, so that momentum and second moments stay 0 too; what it
    adds on its own (weight decay, noise) is cut off. A line search looks along the masked function. Params have to be 0 where
    the mask is False: `apply_mask(mask, params)`. Without a mask here it is given by the state (`fit(..., mask=mask)` does).

    >>> import jax.numpy as jnp, optax
    >>> params, mask = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([True, False])}
    >>> optimizer = masked(optax.adamw(0.1), mask)
    >>> updates, _ = optimizer.update({"w": jnp.array([1.0, 5.0])}, optimizer.init(params), params)
    >>> (updates["w"] != 0).tolist()
    [True, False]
    """
    inner = optax.with_extra_args_support(optimizer)
    return optax.GradientTransformationExtraArgs(functools.partial(_init, inner, mask), functools.partial(_update, inner))


@functools.cache
def masked_once(optimizer: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """`masked` without a mask, the same object each time, so that nothing is traced twice."""
    return masked(optimizer)


def _init(inner: Any, mask: Any, params: Any) -> MaskedState:
    full = jax.tree.map(lambda p: jnp.ones(jnp.shape(p), bool), params)
    return MaskedState(full if mask is None else broadcast(mask, params), inner.init(params))


def _update(inner: Any, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple:
    cut = functools.partial(_cut, state.mask)
    if "grad" in extra:
        extra["grad"] = cut(extra["grad"])
    if "value_fn" in extra:
        extra["value_fn"] = lambda params, value_fn=extra["value_fn"], **more: value_fn(cut(params), **more)
    updates, inner_state = inner.update(cut(updates), state.inner, params, **extra)
    return cut(updates), MaskedState(state.mask, inner_state)


def _cut(mask: Any, a: Any) -> Any:
    return jax.tree.map(lambda m, leaf: jnp.where(m, leaf, jnp.zeros((), leaf.dtype)), mask, a)


def broadcast(mask: Any, params: Any) -> Any:
    """The mask with an array of booleans for every leaf; all True at population statistics."""
    whole = lambda train, m, p: jnp.broadcast_to(jnp.asarray(m, bool), jnp.shape(p)) if train else jnp.ones(jnp.shape(p), bool)
    return jax.tree.map(whole, tree.trainable(params), mask, params)


def under(mask: Any, params: Any, opt_state: Any) -> tuple[Any, MaskedState]:
    """Params and the state of a `masked` optimiser as they begin under a mask."""
    return apply_mask(mask, params), opt_state._replace(mask=broadcast(mask, params))


def began(given: Any) -> tuple[Any, Any]:
    """(params, mask or None) of what a job begins with."""
    return given if isinstance(given, Masked) else (given, None)


def require_mask(name: str, mask: Any, params: Any) -> None:
    """Raise unless the mask has the tree of params (arrays or specs) and booleans that fit its leaves."""
    if jax.tree.structure(mask) != jax.tree.structure(params):
        raise ValueError(
            f"{name}: mask: a tree like params was expected, {jax.tree.structure(params)}, got {jax.tree.structure(mask)}"
        )
    for path, m, p in zip(tree.paths(params, "mask"), jax.tree.leaves(mask), jax.tree.leaves(params), strict=True):
        values = np.asarray(m)
        if values.dtype != bool:
            raise TypeError(f"{name}: {path}: booleans were expected, True where an entry stays, got {values.dtype}")
        if values.shape not in ((), jnp.shape(p)):
            raise ValueError(f"{name}: {path}: shape {list(jnp.shape(p))} or one boolean was expected, got {list(values.shape)}")
