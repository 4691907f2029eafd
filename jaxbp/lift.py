"""`lift`: any JAX model as one layer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs
from jaxbp.contracts import Layer, constructor
from jaxbp.factors import Whole


def lift_init(model_init: Callable, apply: Callable, key: jax.Array, spec: Any, *, stochastic: bool) -> tuple:
    x = jax.tree.map(lambda s: jnp.zeros((1, *s.shape), s.dtype), inputs.as_spec(spec))
    params = model_init(key, x)
    options = {"train": False, "key": None} if stochastic else {}
    y = jax.eval_shape(lambda p, x: apply(p, x, **options), params, x)
    if any(leaf.shape[:1] != (1,) for leaf in jax.tree.leaves(y)):
        raise ValueError(
            f"lift: apply(params, x) has to keep the leading batch axis, it gives {inputs.describe(y)} for a batch of one"
        )
    return params, jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), y)


def lift_forward(apply: Callable, params: Any, x: Any, *, train: bool = False, key: Any = None, stochastic: bool) -> tuple:
    options = {"train": train, "key": key} if stochastic else {}
    y, vjp = jax.vjp(lambda p, x: apply(p, x, **options), params, x)
    return y, vjp  # a pytree of arrays: what autodiff keeps


def lift_backward(params: Any, vjp: Callable, y_bar: Any) -> tuple:
    params_bar, x_bar = vjp(y_bar)
    no_cotangent = lambda bar: None if bar.dtype == jax.dtypes.float0 else bar
    return jax.tree.map(_whole, params, params_bar), jax.tree.map(no_cotangent, x_bar)


def _whole(param: jax.Array, bar: Any) -> Whole:
    return Whole(jnp.zeros(param.shape, param.dtype) if isinstance(bar, np.ndarray) else bar)


@constructor
def lift(init: Callable, apply: Callable, *, stochastic: bool = False) -> Layer:
    """Any JAX model as one Layer whose backward is `jax.vjp` of its apply, so that `fit` and k-fold serve it.

    init(key, x) -> params for a batch x of one example, as `model.init` of Flax and Haiku; apply(params, x) -> y keeps the
    batch axis. With stochastic=True it is called as apply(params, x, train=..., key=...). Factors: `Whole`, the sum over
    the batch alone. Nothing is known of the inside: nothing here is written by hand.

    >>> import jax, jaxbp
    >>> linear = jaxbp.lift(lambda key, x: jax.numpy.zeros((x.shape[-1], 2)), lambda w, x: x @ w)
    >>> params, spec = linear.init(jax.random.key(0), (3,))
    >>> spec.shape
    (2,)

    Raises: ValueError where apply does not keep the batch axis.
    """
    for what, fun in (("init", init), ("apply", apply)):
        if not callable(fun):
            raise TypeError(f"lift: {what} has to be a function, got {fun!r}")
    return Layer(
        init=functools.partial(lift_init, init, apply, stochastic=stochastic),
        forward=functools.partial(lift_forward, apply, stochastic=stochastic),
        backward=lift_backward,
        name="lift",
        traits=frozenset({"key"}) if stochastic else frozenset(),
    )
