"""Multilayer perceptron: dense layers with an activation between them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax

from jaxbp import initializers, inputs
from jaxbp.compose import require_layers, serial
from jaxbp.contracts import Layer, constructor
from jaxbp.layers.activations import sigmoid
from jaxbp.layers.linear import dense


def mlp_init(net: Layer, features: int, key: jax.Array, spec: Any) -> tuple:
    spec = inputs.as_spec(spec)
    if spec.shape[-1:] != (features,):
        raise ValueError(
            f"mlp: sizes[0] is {features}, but one example has shape {list(spec.shape)}; its last axis is the features"
        )
    return net.init(key, spec)


@constructor
def mlp(
    sizes: Sequence[int],
    *,
    hidden: Layer = sigmoid(),
    output: Layer | None = None,
    w_init: Any = initializers.lecun_normal(),
    b_init: Any = initializers.zeros(),
) -> Layer:
    """a^0 = x; z^l = a^(l-1) w^l + b^l; a^l = hidden(z^l), the last z^L (or output(z^L)) being the outputs.

    sizes: [features, units of each hidden layer ..., outputs]; [features, outputs] has no hidden layer. The parts are those
    of the `serial` that one would write: dense(sizes[1]), hidden, dense(sizes[2]), ..., and params its tuple.

    >>> import jaxbp
    >>> jaxbp.mlp([784, 30, 10], hidden=jaxbp.tanh()).parts
    (dense(30), tanh(), dense(10))

    Raises: ValueError for fewer than two sizes, a size below 1, or an example that has not sizes[0] features;
    TypeError for a hidden or output that is no layer.
    """
    if len(sizes) < 2:
        raise ValueError(f"mlp: sizes are [features, ..., outputs], two or more, got {list(sizes)}")
    for size in sizes:
        inputs.require_positive("mlp", "each size", size)
    require_layers("mlp: hidden", [hidden])
    require_layers("mlp: output", [] if output is None else [output], 0)
    layers: list[Layer] = []
    for units in sizes[1:]:
        layers += [dense(units, w_init=w_init, b_init=b_init), hidden]
    layers[-1:] = [] if output is None else [output]
    net = serial(*layers)
    return dataclasses.replace(net, init=functools.partial(mlp_init, net, sizes[0]), name="mlp")
