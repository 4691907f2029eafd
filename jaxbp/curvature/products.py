"""Products of the Hessian and of the generalized Gauss-Newton matrix with a vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp import backprop, factors, inputs
from jaxbp.contracts import Layer, Loss
from jaxbp.passes import backward_of, forward_of
from jaxbp.per_example import passing, reducing


def hessian_vector_product(net: Layer, loss: Loss, *, penalty: Any = None, reduction: str = "mean") -> Callable:
    """H v, H = d^2 C / dparams^2 of the value C of `value_and_grad`, penalty included: the tangent of the gradient along v.

    Returns f(params, v, x, targets, *, sample_weight=None, key=None, train=True) -> a tree like params. v has the tree and the
    shapes of params. `jax.jvp` through the hand-written backward pass: forward over reverse, about two gradients, any net (also
    one in which examples meet, whose batch is then one function) and any loss. `jax.vmap` over v gives several products.

    At a kink the derivative of the stated convention is taken: relu's slope is constant, so is its part of H v.

    Raises: ValueError for a v of another tree or other shapes, and as `value_and_grad`.
    Source: Pearlmutter 1994, Fast Exact Multiplication by the Hessian.
    """
    gradient = backprop.value_and_grad(net, loss, penalty=penalty, reduction=reduction)

    def f(params: Any, v: Any, x: Any, targets: Any, **options: Any) -> Any:
        v = _tangent("hessian_vector_product", params, v)
        grads = lambda params: gradient(params, x, targets, **options)[1]
        return jax.jvp(grads, (params,), (v,))[1]

    return f


def ggn_vector_product(net: Layer, loss: Loss, *, reduction: str = "mean") -> Callable:
    """G v = 1/W sum_b w_b J_b^T H_b J_b v: J v by forward mode, H_b by the tangent of the loss's backward, J^T by ours.

    Returns f(params, v, x, targets, *, sample_weight=None, key=None, train=True) -> a tree like params; v as in
    `hessian_vector_product`. The loss need not be convex in the outputs; where it is, G has no negative eigenvalue. A net in
    which examples meet is one function of its batch.

    >>> import jax, jaxbp
    >>> net, loss = jaxbp.dense(1, bias=False), jaxbp.losses.quadratic()
    >>> params, _ = net.init(jax.random.key(0), (2,))
    >>> x, targets = jax.numpy.array([[1.0, 2.0], [3.0, 0.0]]), jax.numpy.zeros((2, 1))
    >>> v = params._replace(w=jax.numpy.array([[1.0], [0.0]]))
    >>> ggn_vector_product(net, loss)(params, v, x, targets).w.tolist()
    [[5.0], [1.0]]

    Raises: ValueError for a v of another tree or other shapes, and as `value_and_grad`.
    Source: Schraudolph 2002, Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent.
    """
    backprop.objective(net, loss, reduction=reduction)  # which checks the configuration

    def f(params: Any, v: Any, x: Any, targets: Any, *, sample_weight: Any = None, key: Any = None, train: bool = True) -> Any:
        v = _tangent("ggn_vector_product", params, v)
        inputs.check_batch(net, params, x, train=train, key=key)
        forward = lambda params: forward_of(net, params, x, train=train, key=key)
        outputs, outputs_dot, residuals = jax.jvp(forward, (params,), (v,), has_aux=True)
        inputs.check_targets(loss, outputs, targets, x)
        slopes = lambda outputs: _slopes(loss, outputs, targets, sample_weight, reduction)
        outputs_bar = jax.jvp(slopes, (outputs,), (outputs_dot,))[1]
        return factors.total(params, backward_of(net, params, residuals, outputs_bar)[0])

    return f


def _slopes(loss: Loss, outputs: Any, targets: Any, sample_weight: Any, reduction: str) -> Any:
    """The gradient of the objective in the outputs."""
    losses, residuals = loss.forward(outputs, targets)
    weights = jnp.ones_like(losses) if sample_weight is None else passing.weights_of(sample_weight, losses)
    if reduction == "mean":
        whole = jnp.sum(weights)
        weights = weights / jnp.where(whole == 0, 1, whole)
    return loss.backward(residuals, weights)


def _tangent(name: str, params: Any, v: Any) -> Any:
    """v in the dtypes of params."""
    reducing.require_like(name, params, v)
    return jax.tree.map(lambda p, leaf: jnp.asarray(leaf).astype(jnp.result_type(p)), params, v)
