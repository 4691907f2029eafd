"""A net as the chain of its layers, one after another, for what looks at a net layer by layer."""

from __future__ import annotations

from typing import Any

import jax

from jaxbp.compose import serial_forward
from jaxbp.contracts import Layer


def is_chain(net: Layer) -> bool:
    """Whether the net is its parts one after another: a `serial`, so an mlp too."""
    return getattr(net.forward, "func", None) is serial_forward


def layers_of(net: Layer) -> list[Layer]:
    """The layers of nested chains, one after another; a composite that is no chain is one layer."""
    return [layer for part in net.parts for layer in layers_of(part)] if is_chain(net) else [net]


def chain(net: Layer, params: Any, key: Any = None) -> list[tuple[Layer, Any, Any]]:
    """(layer, params, key) of `layers_of(net)`, keys as `serial` gives them."""
    if not is_chain(net):
        return [(net, params, key)]
    keys = [None] * len(net.parts) if key is None else jax.random.split(key, len(net.parts))
    return [one for part in zip(net.parts, params, keys, strict=True) for one in chain(*part)]


def layer_names(net: Layer, params: Any) -> list[str]:
    """'params[0]: dense, sigmoid' for each layer with parameters and those without that follow it."""
    names: list[str] = []
    for (layer, layer_params, _), path in zip(chain(net, params), _paths(net, "params"), strict=True):
        if jax.tree.leaves(layer_params):
            names.append(f"{path}: {layer.name}")
        elif names:
            names[-1] += f", {layer.name}"
    return names


def _paths(net: Layer, path: str) -> list[str]:
    return [found for i, part in enumerate(net.parts) for found in _paths(part, f"{path}[{i}]")] if is_chain(net) else [path]
