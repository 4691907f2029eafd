"""One pass through a net of ours: the losses of a batch and the factors of its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp import inputs
from jaxbp.contracts import Layer, Loss


class Pass(NamedTuple):
    """losses (batch,): l_b; factors of the g_b; x_bar: of sum l_b; weight: sum w; present: examples of weight other than 0."""

    losses: jax.Array
    factors: Any
    x_bar: Any
    weight: jax.Array
    present: jax.Array


def run(net: Layer, loss: Loss, params: Any, x: Any, targets: Any, options: dict, *, mean: bool = False) -> Pass:
    """Forward and backward with the seed w for each loss, or w / sum w with mean=True."""
    sample_weight, key, train = options.get("sample_weight"), options.get("key"), options.get("train", True)
    spec = check(net, loss, params, x, targets, key=key, train=train)
    weights = None if sample_weight is None else weights_of(sample_weight, spec)
    if weights is not None:
        x, targets = without_padding(weights, (x, targets))
    outputs, residuals = net.forward(params, x, train=train, key=key)
    losses, loss_residuals = loss.forward(outputs, targets)
    if weights is None:
        weights, weight, present = jnp.ones(losses.shape, losses.dtype), losses.size, len(losses)
    else:
        weight, present = jnp.sum(weights), jnp.sum(_present(weights))
        weight = jnp.where(weight == 0, 1, weight)
    weight, present = jnp.asarray(weight, losses.dtype), jnp.asarray(present, losses.dtype)
    factors, x_bar = net.backward(params, residuals, loss.backward(loss_residuals, weights / weight if mean else weights))
    losses = jnp.where(weights == 0, 0, weights * losses)
    return Pass(jnp.sum(losses, axis=tuple(range(1, losses.ndim))), factors, x_bar, weight, present)


def check(net: Layer, loss: Loss, params: Any, x: Any, targets: Any, *, key: Any = None, train: bool = True) -> Any:
    """Raise unless the net takes the batch and its examples do not meet; returns the spec of the losses."""
    if train and "mixes" in net.traits:
        raise ValueError(
            f"{net!r}: examples of a batch meet in training (batch norm), so the gradient of one example is not defined; "
            "use layer_norm, or train=False, where the population statistics are constants"
        )
    out_spec = inputs.check_batch(net, params, x, train=train, key=key)
    n = inputs.batch_size(x)
    outputs = jax.tree.map(lambda s: jax.ShapeDtypeStruct((n, *s.shape), s.dtype), out_spec)
    inputs.check_targets(loss, outputs, targets)
    return jax.eval_shape(lambda outputs, targets: loss.forward(outputs, targets)[0], outputs, targets)


def require(name: str, net: Any, loss: Any) -> None:
    if not isinstance(net, Layer):
        raise TypeError(f"{name}: net: a Layer was expected, got {net!r}; for a model that is not ours use factors_of")
    if not isinstance(loss, Loss):
        raise TypeError(f"{name}: loss: a Loss was expected, got {loss!r}; wrap a per-example function by losses.loss_from(fun)")


def weights_of(sample_weight: Any, spec: Any) -> jax.Array:
    """sample_weight in the shape and dtype of the losses."""
    weights = jnp.asarray(sample_weight, spec.dtype)
    if weights.shape not in (spec.shape, spec.shape[:1]):
        raise ValueError(
            f"sample_weight: shape {list(spec.shape)} or {list(spec.shape[:1])} was expected, got {list(weights.shape)}"
        )
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(spec.shape) - weights.ndim)), spec.shape)


def _present(weights: jax.Array) -> jax.Array:
    """(batch,): the example has a weight other than 0."""
    return jnp.any(weights != 0, axis=tuple(range(1, weights.ndim)))


def without_padding(weights: jax.Array, batch: Any) -> Any:
    """The batch with the first example that counts in the place of those of weight 0, which may hold anything: 0 inf is NaN."""
    present = _present(weights)
    first = jnp.argmax(present)

    def one(leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        mask = present.reshape(present.shape + (1,) * (leaf.ndim - 1))
        return jnp.where(jnp.broadcast_to(mask, leaf.shape), leaf, jnp.broadcast_to(leaf[first], leaf.shape))

    return jax.tree.map(one, batch)


def door(run_one: Callable) -> Callable:
    """f(params, x, targets, *, sample_weight=None, key=None, train=True) of a function of (params, x, targets, options)."""

    def f(params: Any, x: Any, targets: Any, *, sample_weight: Any = None, key: Any = None, train: bool = True) -> Any:
        return run_one(params, x, targets, {"sample_weight": sample_weight, "key": key, "train": train})

    return f


# --- the layers of a net


def layer_paths(net: Layer, params: Any) -> list[str]:
    """The path in params of every layer that has parameters, as `per_layer=True` counts them: 'params[0]', 'params[2]'."""
    return [path for path, _ in _layers(net, params, "params")]


def layer_groups(net: Layer, params: Any) -> list[int]:
    """For every leaf of params the number of its layer."""
    return [i for i, (_, layer_params) in enumerate(_layers(net, params, "params")) for _ in jax.tree.leaves(layer_params)]


def _layers(net: Layer, params: Any, path: str) -> list[tuple[str, Any]]:
    if type(params) is tuple and len(params) == len(net.parts):
        inside = [_layers(part, p, f"{path}[{i}]") for i, (part, p) in enumerate(zip(net.parts, params, strict=True))]
        return [layer for found in inside for layer in found]
    if len(net.parts) == 1 and type(params) is tuple:  # skip, repeat, remat: the params of the one layer inside
        return _layers(net.parts[0], params, path)
    return [(path, params)] if jax.tree.leaves(params) else []
