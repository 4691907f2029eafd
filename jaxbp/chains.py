"""A net as the chain of its layers, one after another, for what looks at a net layer by layer."""

from __future__ import annotations

from typing import Any

import jax

from jaxbp.compose import serial
from jaxbp.contracts import Layer, elementwise


def chain(net: Layer, params: Any, key: Any = None) -> list[tuple[Layer, Any, Any]]:
    """(layer, params, key) one after another, keys as `serial` gives them; a composite that is no chain is one layer."""
    if not _is_chain(net):
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


def is_elementwise(layer: Layer) -> bool:
    """Whether the layer is an activation: no parameters, every entry by itself."""
    return _rule(layer.forward) is _rule(_ELEMENTWISE.forward)


def _is_chain(net: Layer) -> bool:
    return bool(net.parts) and _rule(net.forward) is _rule(serial(*net.parts).forward)


def _rule(forward: Any) -> Any:
    return getattr(forward, "func", forward)


def _paths(net: Layer, path: str) -> list[str]:
    if not _is_chain(net):
        return [path]
    return [found for i, part in enumerate(net.parts) for found in _paths(part, f"{path}[{i}]")]


_ELEMENTWISE = elementwise("elementwise", lambda x: (x, ()), lambda _, y_bar: y_bar)
