"""The outer doors of backpropagation: a net and a loss become a value and a gradient.

    outputs, residuals = net.forward(params, x)            forward
    losses, loss_residuals = loss.forward(outputs, targets)
    outputs_bar = loss.backward(loss_residuals, seeds)     seeds: the derivative of the value in each loss, w_b / sum w
    factors, x_bar = net.backward(params, residuals, outputs_bar)
    grads = total(params, factors)

Weights, means and sums over the batch live here and nowhere else. They enter as the seeds of the backward pass, so that
they are right also where examples of a batch meet (batch norm); per-example quantities seed ones and weigh the factors.
A loss scale enters there too, and leaves after the total.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import factors as _factors
from jaxbp import inputs, tree
from jaxbp.contracts import Layer, Loss
from jaxbp.factors import at_least_float32
from jaxbp.passes import backward_of, forward_of


class Aux(NamedTuple):
    """What `has_aux=True` gives beside the value.

    outputs: of the net, with the batch axis. losses: (batch,) or (batch, time), unweighted. statistics: the tree of params
    with a new value at every population statistic and None elsewhere; `update_statistics` puts them in their place.
    """

    outputs: Any
    losses: jax.Array
    statistics: Any


def value_and_grad(
    net: Layer, loss: Loss, *, penalty: Any = None, reduction: str = "mean", has_aux: bool = False, grad_dtype: Any = None
) -> Callable:
    """value = sum_b w_b l_b / sum_b w_b + penalty(params), and its gradient in params by the hand-written backward pass.

    Returns f(params, x, targets, *, sample_weight=None, key=None, train=True, loss_scale=None) -> (value, grads), the layout of
    `jax.value_and_grad`; with has_aux=True ((value, Aux), grads). `sample_weight` has the shape of the losses, or (batch,);
    where all weights are 0, so are value and gradient. reduction="sum" gives sum_b w_b l_b. `grads` has the tree and dtypes
    of `params`.

    grad_dtype="float32" gives the gradient of bfloat16 or float16 params as it is summed, not rounded to their dtype; `jax.grad`
    cannot: a cotangent has its primal's dtype. The passes stay in the dtypes of params and x; a `lift`ed model rounds its sum.
    loss_scale multiplies the seeds and divides the summed gradient: cotangents that float16 would flush to 0 survive.

    The function is pure: jit it, vmap it over stacked params, differentiate it (`jax.jvp` of the gradient is a
    Hessian-vector product), hand the gradients to any optax optimiser.

    >>> import jax, jaxbp
    >>> net, loss = jaxbp.dense(2), jaxbp.losses.softmax_cross_entropy()
    >>> params, _ = net.init(jax.random.key(0), (3,))
    >>> x, labels = jax.numpy.ones((4, 3)), jax.numpy.array([0, 1, 1, 0])
    >>> value, grads = jaxbp.value_and_grad(net, loss)(params, x, labels)
    >>> jax.tree.map(lambda g: g.shape, grads)
    Dense(w=(3, 2), b=(2,))

    Raises: ValueError or TypeError for params, x, targets or weights that do not fit, a grad_dtype that is no floating dtype or
    narrower than a parameter, a loss_scale that is not positive; before anything is computed.
    """
    _require(net, loss, reduction, has_aux)
    dtype = None if grad_dtype is None else as_floating("value_and_grad", "grad_dtype", grad_dtype)

    def f(
        params: Any,
        x: Any,
        targets: Any,
        *,
        sample_weight: Any = None,
        key: Any = None,
        train: bool = True,
        loss_scale: Any = None,
    ) -> tuple:
        _check(net, loss, params, x, targets, train, key)
        if dtype is not None:
            _require_wide_enough(params, dtype)
        _require_loss_scale(loss_scale)
        outputs, residuals = forward_of(net, params, x, train=train, key=key)
        losses, loss_residuals = loss.forward(outputs, targets)
        value, seeds = _reduce(losses, sample_weight, reduction)
        if loss_scale is not None:
            seeds = seeds * jnp.asarray(loss_scale, seeds.dtype)
        factors, _ = backward_of(net, params, residuals, loss.backward(loss_residuals, seeds))
        grads = _grads(net, params, factors, dtype, loss_scale)
        if penalty is not None:
            value = value + penalty.forward(params)
            grads = tree.add(grads, penalty.backward(params if dtype is None else tree.cast(params, dtype)))
        return ((value, Aux(outputs, losses, _statistics(factors))), grads) if has_aux else (value, grads)

    return f


def objective(net: Layer, loss: Loss, *, penalty: Any = None, reduction: str = "mean", has_aux: bool = False) -> Callable:
    """The value of `value_and_grad` as a plain function of the same signature, without any rule of ours.

    `jax.value_and_grad(objective(net, loss))` is the automatic gradient of the same mathematics. With has_aux=True it
    returns (value, Aux), for `jax.value_and_grad(..., has_aux=True)`.
    """
    _require(net, loss, reduction, has_aux)

    def f(params: Any, x: Any, targets: Any, *, sample_weight: Any = None, key: Any = None, train: bool = True) -> Any:
        _check(net, loss, params, x, targets, train, key)
        outputs, residuals = forward_of(net, params, x, train=train, key=key)
        losses, _ = loss.forward(outputs, targets)
        value, _ = _reduce(losses, sample_weight, reduction)
        if penalty is not None:
            value = value + penalty.forward(params)
        return (value, Aux(outputs, losses, _population(net, params, residuals, outputs))) if has_aux else value

    return f


def update_statistics(params: Any, statistics: Any) -> Any:
    """params with the population statistics of `Aux.statistics` in their place."""
    return jax.tree.map(lambda param, new: param if new is None else new.astype(param.dtype), params, statistics)


def _require(net: Any, loss: Any, reduction: str, has_aux: bool) -> None:
    if not isinstance(net, Layer):
        raise TypeError(f"net: a Layer was expected, got {net!r}; wrap another JAX model by jaxbp.lift(init, apply)")
    if not isinstance(loss, Loss):
        raise TypeError(f"loss: a Loss was expected, got {loss!r}; wrap a per-example function by jaxbp.losses.loss_from(fun)")
    inputs.require_flag("value_and_grad", "has_aux", has_aux)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', got {reduction!r}")


def _check(net: Layer, loss: Loss, params: Any, x: Any, targets: Any, train: bool, key: Any) -> None:
    out_spec = inputs.check_batch(net, params, x, train=train, key=key)
    n = inputs.batch_size(x)
    outputs = jax.tree.map(lambda s: jax.ShapeDtypeStruct((n, *s.shape), s.dtype), out_spec)
    inputs.check_targets(loss, outputs, targets, x)


def _reduce(losses: jax.Array, sample_weight: Any, reduction: str) -> tuple[jax.Array, jax.Array]:
    """(value, seeds): the weighted mean or sum of the losses, and its derivative in each of them."""
    if sample_weight is None:
        size = losses.size if reduction == "mean" else 1
        return jnp.sum(losses) / size, jnp.full(losses.shape, 1 / size, losses.dtype)
    weights = jnp.asarray(sample_weight, losses.dtype)
    if weights.shape not in (losses.shape, losses.shape[:1]):
        raise ValueError(
            f"sample_weight: shape {list(losses.shape)} or {list(losses.shape[:1])} was expected, got {list(weights.shape)}"
        )
    weights = jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (losses.ndim - weights.ndim)), losses.shape)
    if reduction == "mean":
        sum_of_weights = jnp.sum(weights)
        weights = weights / jnp.where(sum_of_weights == 0, 1, sum_of_weights)
    # a padded row may hold anything: its loss must not reach the value as 0 * inf
    return jnp.sum(jnp.where(weights == 0, 0, weights * losses)), weights


def _grads(net: Layer, params: Any, factors: Any, dtype: Any, loss_scale: Any) -> Any:
    """The total in `dtype`, by default that of each parameter; summed and unscaled in at least float32."""
    if dtype is None and loss_scale is None:
        return _total(net, params, factors)
    spec = lambda p: jax.ShapeDtypeStruct(p.shape, (dtype or at_least_float32(p)) if inputs.is_floating(p) else p.dtype)
    grads = unscaled(loss_scale, _total(net, jax.tree.map(spec, params), factors))
    return grads if dtype else jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)


def as_floating(name: str, what: str, dtype: Any) -> Any:
    """The floating dtype that `dtype` names. Raises: TypeError for what names none, ValueError for one that is switched off."""
    try:
        named = jnp.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"{name}: {what} is a floating dtype such as 'float32', got {dtype!r}") from error
    if dtype is None or not jnp.issubdtype(named, jnp.floating):
        raise TypeError(f"{name}: {what} is a floating dtype such as 'float32', got {dtype!r}")
    if jax.dtypes.canonicalize_dtype(named) != named:
        raise ValueError(f"{name}: {what}={named.name!r} is switched off: jax.config.update('jax_enable_x64', True)")
    return named


def _require_wide_enough(params: Any, dtype: Any) -> None:
    for path, leaf in zip(tree.paths(params, "params"), jax.tree.leaves(params), strict=True):
        if inputs.is_floating(leaf) and jnp.promote_types(leaf.dtype, dtype) != dtype:
            raise ValueError(
                f"value_and_grad: grad_dtype={dtype.name!r} is narrower than {path}, which is {leaf.dtype}; "
                f"use {jnp.promote_types(leaf.dtype, dtype).name!r} or wider"
            )


def _require_loss_scale(loss_scale: Any) -> None:
    given = loss_scale is not None
    if given and (jnp.ndim(loss_scale) or (inputs.is_concrete(loss_scale) and not 0 < float(loss_scale) < float("inf"))):
        raise ValueError(f"value_and_grad: loss_scale is one number, positive and finite, got {inputs.describe(loss_scale)}")


def unscaled(loss_scale: Any, grads: Any) -> Any:
    """Floating leaves divided by the loss scale."""
    if loss_scale is None:
        return grads
    return jax.tree.map(lambda g: g / jnp.asarray(loss_scale, g.dtype) if inputs.is_floating(g) else g, grads)


def _total(net: Layer, params: Any, factors: Any) -> Any:
    try:
        return _factors.total(params, factors)
    except (TypeError, ValueError) as error:
        error.add_note(f"in {net!r}")
        raise


def _statistics(factors: Any) -> Any:
    return _factors.per_leaf(lambda f: f.value if isinstance(f, _factors.Statistic) else None, factors)


def _population(net: Layer, params: Any, residuals: Any, outputs: Any) -> Any:
    """The statistics of a forward pass for the automatic route: what backward says of them whatever the cotangent."""
    if all(jax.tree.leaves(tree.trainable(params))):
        return jax.tree.map(lambda _: None, params)
    params, residuals = jax.lax.stop_gradient((params, residuals))
    zero = jax.tree.map(jnp.zeros_like, outputs)
    return _statistics(backward_of(net, params, residuals, zero)[0])


def as_custom_vjp(rule: Layer | Loss) -> Callable:
    """The forward of a layer, net or loss as a function whose gradient under `jax.grad` is the hand-written backward.

    For a layer: f(params, x, *, train=False, key=None) -> y; for a loss: f(outputs, targets) -> losses. Drops into
    Equinox, Flax, Haiku or plain JAX code. Integer leaves have no cotangent. Reverse mode only, as for any
    `jax.custom_vjp`, but to any order: the backward pass is itself plain JAX.
    """
    if isinstance(rule, Loss):
        return _loss_as_custom_vjp(rule)
    if not isinstance(rule, Layer):
        raise TypeError(f"as_custom_vjp: takes a Layer or a Loss, got {rule!r}")

    def apply(params: Any, x: Any, *, train: bool = False, key: Any = None) -> Any:
        inputs.check_batch(rule, params, x, train=train, key=key)

        @jax.custom_vjp
        def call(params: Any, x: Any, key: Any) -> Any:
            return forward_of(rule, params, x, train=train, key=key)[0]

        def forward(params: Any, x: Any, key: Any) -> tuple:
            y, residuals = forward_of(rule, params, x, train=train, key=key)
            return y, (params, x, key, residuals)

        def backward(kept: tuple, y_bar: Any) -> tuple:
            params, x, key, residuals = kept
            factors, x_bar = backward_of(rule, params, residuals, y_bar)
            return _total(rule, params, factors), _cotangent(x, x_bar), _cotangent(key, None)

        call.defvjp(forward, backward)
        return call(params, x, key)

    return apply


def _loss_as_custom_vjp(loss: Loss) -> Callable:
    @jax.custom_vjp
    def call(outputs: Any, targets: Any) -> jax.Array:
        return loss.forward(outputs, targets)[0]

    def forward(outputs: Any, targets: Any) -> tuple:
        if any(leaf.perturbed for leaf in jax.tree.leaves(targets, is_leaf=_is_primal)):
            # a None cotangent would be a silent zero
            raise TypeError(f"{loss!r}: has no cotangent for its targets; use jax.lax.stop_gradient(targets)")
        outputs, targets = jax.tree.map(lambda leaf: leaf.value, (outputs, targets), is_leaf=_is_primal)
        losses, residuals = loss.forward(outputs, targets)
        return losses, (outputs, targets, residuals, losses)

    def backward(kept: tuple, losses_bar: Any) -> tuple:
        outputs, targets, residuals, losses = kept
        if isinstance(losses_bar, jax.custom_derivatives.SymbolicZero):
            losses_bar = jnp.zeros_like(losses)
        return _cotangent(outputs, loss.backward(residuals, losses_bar)), _cotangent(targets, None)

    call.defvjp(forward, backward, symbolic_zeros=True)

    def apply(outputs: Any, targets: Any) -> jax.Array:
        inputs.check_targets(loss, outputs, targets)
        return call(outputs, targets)

    return apply


def _is_primal(node: Any) -> bool:
    return isinstance(node, jax.custom_derivatives.CustomVJPPrimal)


def _cotangent(primal: Any, bar: Any) -> Any:
    """`bar` as custom_vjp wants it: the primal's dtype (JAX does not check it), float0 zeros for integers and keys."""
    if bar is None:
        return jax.tree.map(_zero_cotangent, primal)
    return jax.tree.map(lambda p, b: _zero_cotangent(p) if b is None else b.astype(p.dtype), primal, bar)


def _zero_cotangent(primal: Any) -> Any:
    floating = inputs.is_floating(primal)
    return jnp.zeros_like(primal) if floating else np.zeros(jnp.shape(primal), jax.dtypes.float0)
