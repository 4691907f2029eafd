"""Any function of one output and one target as a loss."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxbp import inputs
from jaxbp.contracts import Loss, constructor
from jaxbp.factors import at_least_float32


def custom_forward(fun: Callable, outputs: Any, targets: Any) -> tuple[jax.Array, tuple]:
    """C_b = fun(outputs_b, targets_b). Residuals: outputs and targets, because backward runs fun again."""
    return _losses(fun, outputs, targets), (outputs, targets)


def custom_backward(fun: Callable, residuals: tuple, losses_bar: jax.Array) -> Any:
    """outputs_bar by JAX: the vector-Jacobian product of fun. Integer leaves of the outputs have cotangent None."""
    outputs, targets = residuals
    losses, vjp = jax.vjp(lambda outputs: _losses(fun, outputs, targets), outputs)
    (outputs_bar,) = vjp(losses_bar.astype(losses.dtype))
    return jax.tree.map(lambda bar: None if bar.dtype == jax.dtypes.float0 else bar, outputs_bar)


def _losses(fun: Callable, outputs: Any, targets: Any) -> jax.Array:
    losses = jax.vmap(fun)(outputs, targets)
    return losses.astype(at_least_float32(losses))


def custom_check(fun: Callable, outputs: Any, targets: Any) -> None:
    loss = jax.eval_shape(fun, inputs.spec_of(outputs), inputs.spec_of(targets))
    if not hasattr(loss, "shape") or loss.shape != () or not inputs.is_floating(loss):
        got = jax.tree.map(inputs.describe, loss)
        raise ValueError(
            f"loss_from: fun(output, target) of one example has to return one floating-point number, got {got} for an output "
            f"{jax.tree.map(inputs.describe, inputs.spec_of(outputs))}; sum or average inside fun"
        )


@constructor
def loss_from(fun: Callable) -> Loss:
    """C_b = fun(output_b, target_b) for any function of one example that JAX can differentiate; its backward is `jax.vjp` of it.

    The automatic way, beside the hand-written ones: nothing here knows what is inside fun, so accuracy and cost are those of its
    autodiff. Residuals: outputs and targets; backward runs fun again (under one jit XLA shares the work). A fun at module level
    lets the loss be pickled.

    Shapes: outputs and targets are arrays or pytrees with a leading batch axis, which fun does not see; losses (batch,) in at
    least float32.

    >>> import jax, jaxbp
    >>> huber = lambda output, target: jax.numpy.sum(jax.numpy.minimum((output - target) ** 2, 1.0))
    >>> loss = jaxbp.losses.loss_from(huber)
    >>> loss(jax.numpy.array([[0.5, 3.0]]), jax.numpy.zeros((1, 2))).tolist()
    [1.25]

    Raises: TypeError for a fun that cannot be called, ValueError for one that does not return one floating-point number.
    """
    if not callable(fun):
        raise TypeError(f"loss_from: takes a function fun(output, target) -> number, got {fun!r}")
    forward, backward, check = (functools.partial(part, fun) for part in (custom_forward, custom_backward, custom_check))
    return Loss(forward, backward, "loss_from", check)
