"""Sensitivity: how the outputs of a net move with its inputs (Han and Kamber, Data Mining, 9.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp import inputs
from jaxbp.contracts import Layer
from jaxbp.passes import backward_of, forward_of


def sensitivity(net: Layer) -> Callable:
    """d output_k / d x_i of every example, by the hand-written backward pass: one forward, a backward for each output.

    Returns f(params, x, *, train=False, key=None) -> (batch, *output, *input). x and the outputs are single floating arrays; what
    is constant along the batch in training (dropout's draws) needs key=. Equal to `jax.jacrev` of one example.

    >>> import jax, jaxbp
    >>> net = jaxbp.dense(1)
    >>> params = jaxbp.Dense(jax.numpy.array([[2.0], [-3.0]]), jax.numpy.zeros(1))
    >>> sensitivity(net)(params, jax.numpy.ones((1, 2))).tolist()
    [[[2.0, -3.0]]]

    Raises: ValueError or TypeError for params or x that do not fit; TypeError for inputs or outputs that are no single array;
    ValueError for a net that mixes the rows of a batch in training.
    """
    _require_net("sensitivity", net)

    def f(params: Any, x: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        inputs.check_batch(net, params, x, train=train, key=key)
        if train and "mixes" in net.traits:
            raise ValueError(
                f"sensitivity: {net!r} mixes the rows of a batch, so an output is not of one example; use train=False"
            )
        x = jnp.asarray(x) if not isinstance(x, (dict, tuple, list)) else x
        y, residuals = forward_of(net, params, x, train=train, key=key)
        _require_array("x", x)
        _require_array("the output", y)
        size = y.size // len(y)
        units = jnp.eye(size, dtype=y.dtype).reshape(size, 1, *y.shape[1:])
        of_unit = lambda unit: backward_of(net, params, residuals, jnp.broadcast_to(unit, y.shape))[1]
        rates = jnp.moveaxis(jax.vmap(of_unit)(units), 0, 1)
        return rates.reshape(*y.shape, *x.shape[1:])

    return f


def vary(net: Layer) -> Callable:
    """The outputs while one input is varied and the others stay.

    Returns f(params, x, index, values) -> (values, *output): x is one example without the batch axis, index one entry of it (an
    integer, or a tuple of them), values what that entry takes in turn.
    Raises: IndexError for an entry that is not there, ValueError or TypeError for params or x that do not fit.
    """
    _require_net("vary", net)

    def f(params: Any, x: Any, index: Any, values: Any) -> jax.Array:
        x, index = jnp.asarray(x), (index,) if isinstance(index, int) else tuple(index)
        if len(index) != x.ndim or any(not -n <= i < n for i, n in zip(index, x.shape, strict=True)):
            raise IndexError(f"vary: index {index} for an example of shape {list(x.shape)}")
        values = jnp.asarray(values, x.dtype)
        if values.ndim != 1:
            raise ValueError(f"vary: values of one entry, one axis, were expected, got shape {list(values.shape)}")
        rows = jnp.broadcast_to(x, (len(values), *x.shape)).at[(slice(None), *index)].set(values)
        return net(params, rows)

    return f


def _require_net(name: str, net: Any) -> None:
    if not isinstance(net, Layer):
        raise TypeError(f"{name}: a Layer was expected, got {net!r}; wrap another JAX model by jaxbp.lift(init, apply)")


def _require_array(what: str, a: Any) -> None:
    if not hasattr(a, "dtype") or not inputs.is_floating(a):
        raise TypeError(f"sensitivity: {what} has to be one floating array, got {jax.tree.map(inputs.describe, a)}")
