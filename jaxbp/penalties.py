"""Penalties on parameters: forward(params) -> a number, backward(params) -> params_bar, a tree like params.

Penalized are the weights, the leaves of two or more axes; with biases=True biases and gains too; population statistics and
integer leaves never.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp import inputs, tree
from jaxbp.contracts import Call, Constructed, constructor
from jaxbp.factors import at_least_float32


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Penalty(Constructed):
    """A function of the parameters that is added to the loss, with its hand-written gradient.

    Fields:
      forward: params -> a scalar in float32 or wider.
      backward: params -> params_bar, the gradient, with the tree and dtypes of params; zero at leaves that are not penalized.
      name: as tables print it.
    """

    forward: Callable
    backward: Callable
    name: str
    call: Call | None = None

    def __call__(self, params: Any) -> jax.Array:
        return self.forward(params)


def penalty_forward(rule: Callable, strength: float, biases: bool, params: Any) -> jax.Array:
    """strength times the sum of the rule's values over all entries of the penalized leaves."""
    sums = [jnp.sum(rule(_wide(leaf))[0]) for leaf, on in _leaves(params, biases) if on]
    return jnp.asarray(strength, sums[0].dtype) * sum(sums[1:], sums[0]) if sums else jnp.zeros((), jnp.float32)


def penalty_backward(rule: Callable, strength: float, biases: bool, params: Any) -> Any:
    """strength times the rule's slope at every entry of the penalized leaves."""

    def one(leaf: jax.Array, on: bool) -> jax.Array:
        if not on:
            return jnp.zeros_like(leaf)
        slope = rule(_wide(leaf))[1]
        return (jnp.asarray(strength, slope.dtype) * slope).astype(leaf.dtype)

    return jax.tree.unflatten(jax.tree.structure(params), [one(leaf, on) for leaf, on in _leaves(params, biases)])


def _leaves(params: Any, biases: bool) -> list[tuple[jax.Array, bool]]:
    """Every leaf of params, and whether it is penalized."""
    mask = tree.trainable(params) if biases else tree.weights(params)
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True)
    return [(leaf, on and inputs.is_floating(leaf)) for leaf, on in pairs]


def _wide(leaf: jax.Array) -> jax.Array:
    return leaf.astype(at_least_float32(leaf))


def _require_strength(name: str, what: str, value: Any) -> None:
    if inputs.require_number(name, what, value) and not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: {what} has to be finite and not negative, got {value!r}")


def _penalty(name: str, rule: Callable, strength: float, biases: bool = False) -> Penalty:
    if not isinstance(biases, bool):
        raise TypeError(f"{name}: biases is True or False, got {biases!r}")
    forward = functools.partial(penalty_forward, rule, strength, biases)
    return Penalty(forward, functools.partial(penalty_backward, rule, strength, biases), name)


def square(w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """w^2 / 2, slope w."""
    return w * w / 2, w


def modulus(w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """|w|, slope sign(w), 0 at 0."""
    return jnp.maximum(w, -w), jnp.sign(w)  # the maximum of equals has the mean of their derivatives, 0: as sign has it


@constructor
def l2(strength: float, biases: bool = False) -> Penalty:
    """strength / 2 sum w^2, gradient strength w.

    >>> import jax.numpy as jnp, jaxbp
    >>> params = jaxbp.Dense(w=jnp.array([[1.0, -2.0]]), b=jnp.array([3.0, 3.0]))
    >>> print(jaxbp.penalties.l2(0.5)(params), jaxbp.penalties.l2(0.5, biases=True)(params))
    1.25 5.75

    Raises: ValueError for a negative or infinite strength, TypeError for one that is no number.
    """
    _require_strength("l2", "strength", strength)
    return _penalty("l2", square, strength, biases)


@constructor
def l1(strength: float, biases: bool = False) -> Penalty:
    """strength sum |w|, gradient strength sign(w), 0 at w = 0. Errors as `l2`."""
    _require_strength("l1", "strength", strength)
    return _penalty("l1", modulus, strength, biases)


@constructor
def weight_decay(lmbda: float, n: int) -> Penalty:
    """lmbda / (2n) sum w^2 over the weights, n the number of training examples; gradient (lmbda / n) w. It is l2(lmbda / n).

    Raises: ValueError for a negative or infinite lmbda and for n below 1, TypeError for others than numbers.
    Source: Nielsen, Neural Networks and Deep Learning, eqs. 85-93 (L2 regularization, "weight decay").
    """
    _require_strength("weight_decay", "lmbda", lmbda)
    inputs.require_positive("weight_decay", "n", n)
    return _penalty("weight_decay", square, lmbda / n)
