"""The ways that are a few lines each. All are pure and run under `jit`: f(fun, params, args, kwargs, options) -> Found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import backprop, inputs, tree
from jaxbp.factors import at_least_float32
from jaxbp.per_example.passing import weights_of
from jaxbp.routes.problem import Entries, Found, NetObjective, Passes, chunk_of, entries, of_row


class Options(NamedTuple):
    """step: of the differences. chunk: entries at a time. most: paths that may be multiplied out."""

    step: Any
    chunk: int | None
    most: int


def manual(fun: NetObjective, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    """The hand-written backward pass: one forward, one backward."""
    _, grads = fun.value_and_grad(params, *args, **kwargs)
    return Found(grads, Passes(forwards=1, vjps=1))


def autodiff(fun: Callable, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    """`jax.grad`: reverse mode, one forward, one backward."""
    return Found(jax.grad(fun)(params, *args, **kwargs), Passes(forwards=1, vjps=1))


def forward(fun: Callable, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    """g_k = the tangent of the value along e_k: P jvps."""
    found = entries(params)
    value, row = of_row(fun, found, args, kwargs), found.row
    columns, count = each_entry(lambda k: jax.jvp(value, (row,), (_unit(found, k, 1.0),))[1], found, options)
    return Found(found.grads(columns), Passes(jvps=count))


def one_sided(fun: Callable, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    """g_k = (f(p + h e_k) - f(p)) / h: P + 1 evaluations, error O(h) + O(eps / h)."""
    found = entries(params)
    value, row = of_row(fun, found, args, kwargs), found.row
    here, step = value(row), _steps(row, options.step, 1 / 2)

    def column(k: jax.Array) -> jax.Array:
        beside = lax.optimization_barrier(row.at[k].add(step[k]))
        return (value(beside) - here).astype(row.dtype) / (beside[k] - row[k])  # the step that rounding left

    columns, count = each_entry(column, found, options)
    return Found(found.grads(columns), Passes(forwards=count + 1))


def central(fun: Callable, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    """g_k = (f(p + h e_k) - f(p - h e_k)) / 2h: 2P evaluations, error O(h^2) + O(eps / h)."""
    found = entries(params)
    value, row = of_row(fun, found, args, kwargs), found.row
    step = _steps(row, options.step, 1 / 3)

    def column(k: jax.Array) -> jax.Array:
        above, below = lax.optimization_barrier((row.at[k].add(step[k]), row.at[k].add(-step[k])))
        return (value(above) - value(below)).astype(row.dtype) / (above[k] - below[k])

    columns, count = each_entry(column, found, options)
    return Found(found.grads(columns), Passes(forwards=2 * count))


def per_example(fun: Callable, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    """The mean of the gradients of the examples, one after another: a forward and a backward for each."""
    if isinstance(fun, NetObjective):
        return _examples_of_net(fun, params, *args, **kwargs)
    if not args:
        raise TypeError("gradient by 'per-example': the function needs an argument with a leading axis of examples after params")
    count = inputs.batch_size(args, "the arguments after params")
    grad = jax.value_and_grad(lambda params, row: fun(params, *row, **kwargs))
    value, total = _loop(grad, params, jax.tree.map(lambda a: jnp.asarray(a)[:, None], args))
    _require_mean(fun, params, args, kwargs, value / count)
    return Found(_divided(total, count, params), Passes(forwards=count, vjps=count))


def _examples_of_net(
    fun: NetObjective, params: Any, x: Any, targets: Any, *, sample_weight: Any = None, key: Any = None, train: bool = True
) -> Found:
    for trait, why in (("mixes", "the rows of a batch meet"), ("key", "a batch of one draws other numbers than the batch")):
        if train and trait in fun.net.traits:
            raise ValueError(f"gradient by 'per-example': in {fun.net!r} {why}; use train=False")
    count = inputs.batch_size(x)
    outputs = jax.eval_shape(lambda: fun.net.forward(params, x, train=train, key=key)[0])
    losses = jax.eval_shape(lambda outputs: fun.loss.forward(outputs, targets)[0], outputs)
    weights = jnp.ones(losses.shape, losses.dtype) if sample_weight is None else weights_of(sample_weight, losses)
    of_one = backprop.value_and_grad(fun.net, fun.loss, reduction="sum")
    grad = lambda params, row: of_one(params, row[0], row[1], sample_weight=row[2], train=train)
    _, total = _loop(grad, params, jax.tree.map(lambda a: jnp.asarray(a)[:, None], (x, targets, weights)))
    weight = jnp.sum(weights) if fun.reduction == "mean" else 1
    grads = _divided(total, jnp.where(weight == 0, 1, weight), params)
    if fun.penalty is not None:
        grads = tree.add(grads, fun.penalty.backward(params))
    return Found(grads, Passes(forwards=count, vjps=count))


def _loop(grad: Callable, params: Any, rows: Any) -> tuple[jax.Array, Any]:
    """(sum of the values, sum of the gradients) over rows, one after another, in at least float32."""
    wide = lambda a: jnp.asarray(a).astype(at_least_float32(a))
    zeros = lambda spec: jnp.zeros(spec.shape, at_least_float32(spec.dtype))
    first = jax.tree.map(zeros, jax.eval_shape(grad, params, jax.tree.map(lambda a: a[0], rows)))
    add = lambda total, row: (jax.tree.map(lambda t, g: t + wide(g), total, grad(params, row)), None)
    return lax.scan(add, first, rows)[0]


def _divided(total: Any, by: Any, params: Any) -> Any:
    return jax.tree.map(lambda t, p: (t / jnp.asarray(by, t.dtype)).astype(jnp.result_type(p)), total, params)


def _require_mean(fun: Callable, params: Any, args: tuple, kwargs: dict, mean: Any) -> None:
    """Raise where values are at hand and the function is not the mean over the examples."""
    if not inputs.is_concrete((params, args, mean)):
        return
    value = fun(params, *args, **kwargs)
    if not jnp.abs(value - mean) <= jnp.finfo(value.dtype).eps ** 0.5 * (1 + jnp.abs(value)):
        raise ValueError(
            f"gradient by 'per-example': the function is not the mean of its values at the single examples: {value:.6g} against "
            f"{mean:.6g}; a sum, or a penalty beside the mean, has no such loop"
        )


def each_entry(column: Callable, found: Entries, options: Options) -> tuple[jax.Array, int]:
    """(column(k) for every entry k, how many that were), a chunk at a time."""
    places = jnp.arange(found.size)
    columns = lax.map(column, places, batch_size=chunk_of(found.size, options.chunk))
    return columns.astype(found.dtype), len(places)


def _unit(found: Entries, k: jax.Array, size: float) -> jax.Array:
    return jnp.zeros(found.size, found.dtype).at[k].set(size)


def _steps(row: jax.Array, step: Any, power: float) -> jax.Array:
    """(P,): the step that was asked for, or eps^power times the size of the entry (1 for small ones)."""
    if step is not None:
        return jnp.full(row.shape, step, row.dtype)
    return float(jnp.finfo(row.dtype).eps) ** power * jnp.maximum(1, jnp.abs(row))
