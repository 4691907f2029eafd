"""The sum over all paths: dC/dw = sum over paths w -> v1 -> ... -> C of the product of the rates along their edges.

Of our nets the values on a path are neurons, as in Nielsen's eq. 53: a weight enters one neuron, goes through its activation,
to every neuron of the next layer, and so on to the cost. Every path's product is formed. Of any other function the values
are the entries of every array of its traced program (`jaxbp.graph.explain`), so there are more. Paths that hold a factor 0
are none: they add nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs, tree
from jaxbp.chains import chain
from jaxbp.contracts import Layer, spell
from jaxbp.factors import Factor, per_leaf
from jaxbp.graph import explain
from jaxbp.passes import backward_of, forward_of
from jaxbp.per_example.passing import weights_of
from jaxbp.routes.problem import Found, NetObjective, Passes, entries
from jaxbp.routes.ways import Options


def path_sum(fun: Callable, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    """Raises: ValueError, with their number, where there are more than `options.most` paths."""
    if not inputs.is_concrete((params, args, kwargs)):
        raise TypeError("gradient by 'paths': works on values; call it outside jit, grad and vmap")
    if isinstance(fun, NetObjective):
        return _of_net(fun, params, args, kwargs, options)
    return _of_program(fun, params, args, kwargs, options)


def path_counts(fun: NetObjective) -> Callable:
    """How many paths lead from each parameter of a net to its cost.

    Returns f(params, x, targets, **options as of `value_and_grad`) -> a tree like params of integer arrays; of a weight of the
    first layer of [784, 30, 10] there are 10, with one more layer of 30 there are 300. Nothing is multiplied out. The numbers
    are int64, or Python integers where that is too narrow.

    Raises: TypeError for a function that is not `of_net`; ValueError for a net that is no chain of layers of vectors.
    """
    if not isinstance(fun, NetObjective):
        raise TypeError(f"path_counts: takes routes.of_net(net, loss), got {spell(fun)}; graph.explain counts a function's")

    def counts(params: Any, x: Any, targets: Any, **options: Any) -> Any:
        stages, ends = _stages(fun, params, x, targets, **options)
        found = [_parameter_counts(stage, count) for stage, count in zip(stages, _neuron_counts(stages, ends), strict=True)]
        return jax.tree.map(lambda a: a if np.max(a, initial=0) > 2**62 else a.astype(np.int64), _rebuilt(fun.net, params, found))

    return counts


def _require_few(count: int, most: int) -> None:
    if count > most:
        raise ValueError(
            f"gradient by 'paths': {count:,} paths lead from the parameters to the value, too many to multiply out (at most "
            f"{most:,}); gradient(..., most={count}) does it, backpropagation sums them all in one pass"
        )


# --- of any function


def _of_program(fun: Callable, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    found = entries(params)
    alone = lambda params: fun(params, *args, **kwargs)
    names = [name for name, on in zip(tree.paths(params, "params"), found.on, strict=True) if on]
    told = [
        explain(alone, name, index, most=options.most)(params)
        for name, leaf in zip(names, found.trained, strict=True)
        for index in np.ndindex(leaf.shape)
    ]
    count = sum(explanation.count for explanation in told)
    _require_few(count, options.most)
    sums = [sum(path.product for path in explanation.paths) for explanation in told]
    return Found(found.grads(jnp.asarray(sums, found.dtype)), Passes(forwards=len(told), paths=count))


# --- of a net


class Stage(NamedTuple):
    """One layer at one batch.

    rates: (outputs, batch, inputs), of each output by each input; None for the first layer. own: a tree like the layer's
    params of (outputs, batch, *shape).
    """

    rates: Any
    own: Any


def _of_net(fun: NetObjective, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    stages, ends = _stages(fun, params, *args, **kwargs)
    counts = [_parameter_counts(stage, count) for stage, count in zip(stages, _neuron_counts(stages, ends), strict=True)]
    count = sum(int(np.sum(leaf)) for leaf in jax.tree.leaves(counts))
    _require_few(count, options.most)
    products, sums = [end[:, None] for end in ends], []
    for i, stage in reversed(list(enumerate(stages))):
        sums.insert(0, jax.tree.map(lambda own: _summed(own, products), stage.own))  # noqa: B023  (used at once)
        products = _products(stage, products) if i else []
    grads = jax.tree.map(lambda g, p: jnp.asarray(g, p.dtype), _rebuilt(fun.net, params, sums), params)
    if fun.penalty is not None:  # straight from the weight to the cost
        grads = tree.add(grads, fun.penalty.backward(params))
    return Found(grads, Passes(forwards=1, paths=count))


def _products(stage: Stage, onward: list) -> list:
    """For every input of a stage (batch, paths): the product along each path from it to the cost. onward: of its outputs."""
    batch, inputs_count = stage.rates.shape[1:]
    leads = np.any(stage.rates != 0, axis=1)
    none = np.zeros((batch, 0), stage.rates.dtype)
    step = lambda o, k: stage.rates[o, :, k, None] * onward[o]
    return [np.concatenate([none, *(step(o, k) for o in np.flatnonzero(leads[:, k]))], axis=1) for k in range(inputs_count)]


def _summed(own: np.ndarray, products: list) -> np.ndarray:
    """sum over examples and paths of (rate of a neuron by the parameter) times (product along the path from that neuron)."""
    total = np.zeros(own.shape[2:], own.dtype)
    for rate, product in zip(own, products, strict=True):
        for at in np.argwhere(np.any(rate != 0, axis=0)):
            total[tuple(at)] += np.sum(rate[(slice(None), *at)][:, None] * product)
    return total


def _neuron_counts(stages: list[Stage], ends: np.ndarray) -> list[np.ndarray]:
    """For every stage (outputs,): how many paths lead from each output to the cost; Python integers, which do not wrap."""
    counts = [np.any(ends != 0, axis=1).astype(int).astype(object)]
    for stage in reversed(stages[1:]):
        counts.insert(0, np.any(stage.rates != 0, axis=1).astype(int).astype(object).T @ counts[0])
    return counts


def _parameter_counts(stage: Stage, counts: np.ndarray) -> Any:
    return jax.tree.map(lambda own: np.tensordot(counts, np.any(own != 0, axis=1).astype(int).astype(object), 1), stage.own)


def _stages(
    fun: NetObjective, params: Any, x: Any, targets: Any, *, sample_weight: Any = None, key: Any = None, train: bool = True
) -> tuple[list[Stage], np.ndarray]:
    """The layers in order, and (outputs, batch): the rate of the cost by each output."""
    if train and fun.net.traits:
        raise ValueError(f"gradient by 'paths': {fun.net!r} draws at random or mixes the rows of a batch; use train=False")
    jax.eval_shape(lambda: fun.value(params, x, targets, sample_weight=sample_weight, key=key, train=train))  # its checks
    stages, ends = jax.tree.map(np.asarray, _rates(fun, train, params, x, targets, sample_weight))
    return stages, ends.T


@functools.partial(jax.jit, static_argnums=(0, 1))
def _rates(
    fun: NetObjective, train: bool, params: Any, x: Any, targets: Any, sample_weight: Any
) -> tuple[list[Stage], jax.Array]:
    stages: list[Stage] = []
    for layer, layer_params, _ in chain(fun.net, params):
        y, residuals = forward_of(layer, layer_params, x, train=train)
        _require_vectors(layer, y)
        stages.append(_stage(layer, layer_params, residuals, y, first=not stages))
        x = y
    losses, residuals = fun.loss.forward(x, targets)
    weights = jnp.ones_like(losses) if sample_weight is None else weights_of(sample_weight, losses)
    total = jnp.sum(weights) if fun.reduction == "mean" else 1
    return stages, fun.loss.backward(residuals, weights / jnp.where(total == 0, 1, total))


def _stage(layer: Layer, params: Any, residuals: Any, y: jax.Array, first: bool) -> Stage:
    def of_output(unit: jax.Array) -> tuple:
        factors, x_bar = backward_of(layer, params, residuals, jnp.broadcast_to(unit, y.shape))
        return per_leaf(Factor.examples, factors), None if first else x_bar

    own, rates = jax.vmap(of_output)(jnp.eye(y.shape[1], dtype=y.dtype)[:, None])
    return Stage(None if first else rates, own)


def _require_vectors(layer: Layer, y: Any) -> None:
    if not inputs.is_floating(y) or y.ndim != 2:
        shown = jax.tree.map(inputs.describe, y)
        raise ValueError(
            f"gradient by 'paths': layers that give vectors, (batch, features), were expected; {layer!r} gives {shown}"
        )


def _rebuilt(net: Layer, params: Any, found: list) -> Any:
    """The layers' trees, in the order of `chain`, as one tree like params."""
    return jax.tree.unflatten(jax.tree.structure(params), [leaf for one in found for leaf in jax.tree.leaves(one)])
