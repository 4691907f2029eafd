"""The gradient of a batch, as training finds it: by hand or by autodiff, in one pass or in parts, in one dtype or in two.

Every function here has the call (params, x, targets, *, sample_weight, key, loss_scale) -> ((value, Aux), grads), and grads are
in at least float32. What wraps another one goes on top of it:

    by_hand or by_autodiff      one pass
    in_parts                    sums over the parts of a batch
    lowering                    params and x in the dtype of the passes
    penalized                   the penalty, at the params as they are kept
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import backprop, inputs, tree
from jaxbp.contracts import Layer, Loss
from jaxbp.factors import at_least_float32
from jaxbp.training.gathering import weighted
from jaxbp.training.precision import Precision, lowered, wide_dtype, widened


def by_autodiff(net: Layer, loss: Loss, **options: Any) -> Callable:
    """`jax.value_and_grad` of the objective, the loss scaled before and the gradient, in at least float32, divided after."""
    objective = backprop.objective(net, loss, has_aux=True, **options)

    def f(params: Any, x: Any, targets: Any, *, loss_scale: Any = None, **rest: Any) -> tuple:
        def scaled(params: Any) -> tuple:
            value, aux = objective(params, x, targets, **rest)
            return value if loss_scale is None else value * jnp.asarray(loss_scale, value.dtype), (value, aux)

        (_, (value, aux)), grads = jax.value_and_grad(scaled, has_aux=True)(params)
        return (value, aux), backprop.unscaled(loss_scale, widened(grads))

    return f


def by_hand(net: Layer, loss: Loss, **options: Any) -> Callable:
    """`value_and_grad` with gradients in at least float32."""

    def f(params: Any, x: Any, targets: Any, **rest: Any) -> tuple:
        wide = backprop.value_and_grad(net, loss, has_aux=True, grad_dtype=wide_dtype(params), **options)
        return wide(params, x, targets, **rest)

    return f


def lowering(precision: Precision, find: Callable) -> Callable:
    """`find` with params and x in the dtype of the passes."""

    def f(params: Any, x: Any, targets: Any, **rest: Any) -> tuple:
        return find(lowered(precision, params), tree.cast(x, precision.compute), targets, **rest)

    return f


def penalized(penalty: Any, slope: Callable, find: Callable) -> Callable:
    """`find` with the penalty and its slope at the params, in at least float32."""

    def f(params: Any, x: Any, targets: Any, **rest: Any) -> tuple:
        (value, aux), grads = find(params, x, targets, **rest)
        wide = widened(params)
        return (value + penalty.forward(wide), aux), tree.add(grads, slope(wide))

    return f


def in_parts(find_sum: Callable, parts: int, reduction: str) -> Callable:
    """The gradient of a batch from those of its parts, one after another: the memory of one part, sums in at least float32.

    find_sum: of the weighted sum of the losses. The mean is that of the whole batch, sum w l / sum w.
    """

    def f(
        params: Any, x: Any, targets: Any, *, sample_weight: Any = None, key: Any = None, loss_scale: Any = None, **rest: Any
    ) -> tuple:
        cut = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), (x, targets, sample_weight))
        keys = None if key is None else jax.random.split(key, parts)
        if loss_scale is not None and reduction == "mean":  # the seeds of a sum are larger by about the batch
            loss_scale = loss_scale / inputs.batch_size(x)

        def add(carry: tuple, part: tuple) -> tuple:
            (x, targets, weight), key = part
            (value, aux), grads = find_sum(params, x, targets, sample_weight=weight, key=key, loss_scale=loss_scale, **rest)
            return jax.tree.map(lambda a, b: a + b.astype(a.dtype), carry, (value, grads)), (aux.outputs, aux.losses)

        zeros = lambda a: jnp.zeros(a.shape, at_least_float32(a))
        start = (
            jnp.zeros((), at_least_float32(jnp.float32, *filter(inputs.is_floating, jax.tree.leaves(params)))),
            jax.tree.map(zeros, params),
        )
        (value, grads), collected = lax.scan(add, start, (cut, keys))
        outputs, losses = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), collected)
        if reduction == "mean":
            total = weighted(losses, sample_weight)[1]
            value, grads = jax.tree.map(lambda a: a / jnp.where(total == 0, 1, total).astype(a.dtype), (value, grads))
        return (value, backprop.Aux(outputs, losses, jax.tree.map(lambda _: None, params))), grads

    return f


def require_no_mixing(name: str, net: Layer, what: str, parts: int) -> None:
    if parts > 1 and "mixes" in net.traits:
        raise ValueError(f"{name}: {net!r} mixes the rows of a batch, so a batch cannot be cut into parts; use {what}=1")


def value_and_grad_in_parts(
    net: Layer, loss: Loss, parts: int, *, penalty: Any = None, reduction: str = "mean", has_aux: bool = False
) -> Callable:
    """`jaxbp.value_and_grad` of a batch that is cut into parts, one after another: the memory of one part, sums in float32.

    For loops of one's own; `fit` has accumulate=. The signature is that of `value_and_grad`'s function; value and gradient are
    those of the whole batch, sum w l / sum w, the gradient in at least float32 whatever the dtype of the params, the penalty
    added once. Each part draws from a key of its own.

    >>> import jax, jaxbp
    >>> net, loss = jaxbp.dense(2), jaxbp.losses.softmax_cross_entropy()
    >>> params, _ = net.init(jax.random.key(0), jax.ShapeDtypeStruct((3,), "bfloat16"))
    >>> x, labels = jax.numpy.ones((4, 3), "bfloat16"), jax.numpy.array([0, 1, 1, 0])
    >>> value, grads = value_and_grad_in_parts(net, loss, 2)(params, x, labels)
    >>> grads.w.dtype.name
    'float32'

    Raises: ValueError for parts that do not divide the batch, a net that mixes the rows of a batch, and as `value_and_grad`.
    """
    inputs.require_positive("value_and_grad_in_parts", "parts", parts)
    backprop.value_and_grad(net, loss, reduction=reduction, has_aux=has_aux)  # looks at the options
    require_no_mixing("value_and_grad_in_parts", net, "parts", parts)
    find = in_parts(by_hand(net, loss, reduction="sum"), parts, reduction)
    if penalty is not None:
        find = penalized(penalty, penalty.backward, find)

    def f(params: Any, x: Any, targets: Any, *, sample_weight: Any = None, **rest: Any) -> tuple:
        if (n := inputs.batch_size(x)) % parts:
            raise ValueError(f"value_and_grad_in_parts: parts={parts} does not divide the batch of {n}")
        weight = None if sample_weight is None else jnp.asarray(sample_weight)
        (value, aux), grads = find(params, x, targets, sample_weight=weight, **rest)
        return ((value, aux), grads) if has_aux else (value, grads)

    return f
