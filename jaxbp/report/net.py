"""From a net to the columns of its drawing."""

from __future__ import annotations

from typing import Any

import jax

from jaxbp import inputs
from jaxbp.chains import layers_of
from jaxbp.contracts import Layer
from jaxbp.page.diagram import Units


def net_columns(net: Layer, spec: Any) -> list[Units]:
    """The columns of `draw_net`: the input, then one column for each layer that makes new units.

    `spec` is the spec of one example, as for `net.init`. A layer without parameters that keeps the shape (an activation,
    dropout) is one more line in the caption of the column that it acts on.
    """
    spec = inputs.as_spec(spec)
    columns = [Units(_size(spec), "input")]
    for layer in layers_of(net):
        params, out = jax.eval_shape(lambda key, layer=layer, spec=spec: _shown_init(layer, key, spec), jax.random.key(0))
        before, after = columns[-1], _size(out)
        if not jax.tree.leaves(params) and after == before.size:
            columns[-1] = Units(before.size, (*before.lines, layer.name), before.links, before.skip)
        else:
            dense = isinstance(before.size, int) and isinstance(after, int)
            skip = layer.name == "skip"
            columns.append(Units(after, _captions(layer, before.label, after), "all" if dense else None, skip))
        spec = out
    return columns


def _shown_init(layer: Layer, key: Any, spec: Any) -> tuple:
    params, out = layer.init(key, spec)
    return params, jax.tree.map(lambda s: jax.numpy.zeros(s.shape, s.dtype), out)


def _captions(layer: Layer, before: str, after: Any) -> tuple[str, ...]:
    name = f"{layer.name} {before} → {Units(after).label}"
    inside = [inner.name for part in layer.parts for inner in layers_of(part)]
    return (name, ", ".join(inside)) if inside else (name,)


def _size(spec: Any) -> Any:
    """The number of units of one example, or its shape where it has two axes or more; the first leaf of several."""
    shape = jax.tree.leaves(spec)[0].shape
    return shape[0] if len(shape) == 1 else tuple(shape) or 1
