"""Layers made of layers. A composite's forward is a loop; its backward is that loop read upwards.

These are the only loops over layers in the library.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp import inputs, tree
from jaxbp.contracts import Layer, constructor
from jaxbp.factors import Sum, is_factor
from jaxbp.passes import backward_of, forward_of


def _keys(key: jax.Array | None, n: int) -> Any:
    return [None] * n if key is None else jax.random.split(key, n)


def _traits(layers: tuple[Layer, ...]) -> frozenset[str]:
    return frozenset().union(*(layer.traits for layer in layers))


def require_layers(name: str, layers: Any, least: int = 1) -> None:
    for layer in layers:
        if not isinstance(layer, Layer):
            hint = "; call its constructor first" if callable(layer) else ""
            if isinstance(layer, (tuple, list)):
                hint = f"; unpack them: {name}(*layers)"
            raise TypeError(f"{name}: takes layers, got {layer!r}{hint}")
    if len(layers) < least:
        raise ValueError(f"{name}: takes at least {least} layer{'s' if least > 1 else ''}, got {len(layers)}")


# --- serial: y = f_n(... f_2(f_1(x)))


def serial_init(layers: tuple[Layer, ...], key: jax.Array, spec: Any) -> tuple:
    spec, params = inputs.as_spec(spec), []
    inputs.require_key("init", key)
    for i, (layer, layer_key) in enumerate(zip(layers, jax.random.split(key, len(layers)), strict=True)):
        try:
            layer_params, spec = layer.init(layer_key, spec)
        except (ValueError, TypeError) as error:
            error.add_note(f"in layer {i} of serial, {layer!r}")
            raise
        params.append(layer_params)
    return tuple(params), spec


def serial_forward(layers: tuple[Layer, ...], params: tuple, x: Any, *, train: bool = False, key: Any = None) -> tuple:
    residuals = []
    for layer, layer_params, layer_key in zip(layers, params, _keys(key, len(layers)), strict=True):
        x, layer_residuals = forward_of(layer, layer_params, x, train=train, key=layer_key)
        residuals.append(layer_residuals)
    return x, tuple(residuals)


def serial_backward(layers: tuple[Layer, ...], params: tuple, residuals: tuple, y_bar: Any) -> tuple:
    factors = []
    for layer, layer_params, layer_residuals in reversed(list(zip(layers, params, residuals, strict=True))):
        layer_factors, y_bar = backward_of(layer, layer_params, layer_residuals, y_bar)
        factors.append(layer_factors)
    return tuple(reversed(factors)), y_bar


def serial_check(layers: tuple[Layer, ...], params: tuple, x: Any) -> None:
    if layers[0].check is not None:  # only the first layer meets the input itself
        layers[0].check(params[0], x)


@constructor
def serial(*layers: Layer) -> Layer:
    """y = f_n(... f_2(f_1(x))), one layer after another.

    params, residuals and factors are tuples with one entry a layer. In training a key is split among the layers.

    >>> import jax, jaxbp
    >>> net = jaxbp.serial(jaxbp.dense(30), jaxbp.sigmoid(), jaxbp.dense(10))
    >>> net
    serial(dense(30), sigmoid(), dense(10))
    >>> params, spec = net.init(jax.random.key(0), (784,))
    >>> spec.shape
    (10,)

    Raises: TypeError for an argument that is no layer, ValueError without layers.
    """
    require_layers("serial", layers)
    return Layer(
        init=functools.partial(serial_init, layers),
        forward=functools.partial(serial_forward, layers),
        backward=functools.partial(serial_backward, layers),
        name="serial",
        parts=layers,
        traits=_traits(layers),
        check=functools.partial(serial_check, layers),
    )


# --- skip: y = x + f(x)


def skip_init(layer: Layer, key: jax.Array, spec: Any) -> tuple:
    spec = inputs.as_spec(spec)
    params, out_spec = layer.init(key, spec)
    if jax.tree.map(lambda s: s.shape, out_spec) != jax.tree.map(lambda s: s.shape, spec):
        got, wanted = jax.tree.map(inputs.describe, (out_spec, spec))
        raise ValueError(f"skip({layer!r}): x + f(x) needs f to keep the shape {wanted}, it gives {got}")
    return params, out_spec


def skip_forward(layer: Layer, params: Any, x: Any, *, train: bool = False, key: Any = None) -> tuple:
    y, residuals = forward_of(layer, params, x, train=train, key=key)
    return tree.add(x, y), residuals


def skip_backward(layer: Layer, params: Any, residuals: Any, y_bar: Any) -> tuple:
    factors, x_bar = backward_of(layer, params, residuals, y_bar)
    return factors, tree.add(y_bar, x_bar)  # x is used twice


@constructor
def skip(layer: Layer) -> Layer:
    """y = x + f(x), a skip connection around one layer that keeps the shape. x_bar = y_bar + f's x_bar."""
    require_layers("skip", (layer,))
    return Layer(
        init=functools.partial(skip_init, layer),
        forward=functools.partial(skip_forward, layer),
        backward=functools.partial(skip_backward, layer),
        name="skip",
        parts=(layer,),
        traits=layer.traits,
        check=layer.check,
    )


# --- parallel: y = f_1(x) + ... + f_n(x), or these concatenated


def parallel_init(layers: tuple[Layer, ...], combine: str, key: jax.Array, spec: Any) -> tuple:
    spec = inputs.as_spec(spec)
    inputs.require_key("init", key)
    made = [layer.init(k, spec) for layer, k in zip(layers, jax.random.split(key, len(layers)), strict=True)]
    params, outs = zip(*made, strict=True)
    kept = [out.shape if combine == "add" else out.shape[:-1] for out in outs]
    if len(set(kept)) > 1:
        raise ValueError(f"parallel: to {combine}, branches have to agree, got {[inputs.describe(out) for out in outs]}")
    if combine == "add":
        return params, outs[0]
    width = sum(out.shape[-1] for out in outs)
    return params, jax.ShapeDtypeStruct((*outs[0].shape[:-1], width), outs[0].dtype)


def parallel_forward(
    layers: tuple[Layer, ...], combine: str, params: tuple, x: Any, *, train: bool = False, key: Any = None
) -> tuple:
    keys = _keys(key, len(layers))
    made = [forward_of(f, p, x, train=train, key=k) for f, p, k in zip(layers, params, keys, strict=True)]
    ys, residuals = zip(*made, strict=True)
    if combine == "add":
        return sum(ys[1:], ys[0]), (residuals, tree.Static(None))
    return jnp.concatenate(ys, axis=-1), (residuals, tree.Static(tuple(y.shape[-1] for y in ys)))


def parallel_backward(layers: tuple[Layer, ...], combine: str, params: tuple, residuals: tuple, y_bar: Any) -> tuple:
    residuals, widths = residuals
    if combine == "add":
        y_bars = [y_bar] * len(layers)
    else:
        ends = list(itertools.accumulate(widths.value))
        y_bars = jnp.split(y_bar, ends[:-1], axis=-1)
    made = [backward_of(f, p, r, b) for f, p, r, b in zip(layers, params, residuals, y_bars, strict=True)]
    factors, x_bars = zip(*made, strict=True)
    return factors, functools.reduce(tree.add, x_bars)  # x is used once a branch


def parallel_check(layers: tuple[Layer, ...], params: tuple, x: Any) -> None:
    for layer, layer_params in zip(layers, params, strict=True):
        if layer.check is not None:
            layer.check(layer_params, x)


@constructor
def parallel(*layers: Layer, combine: str = "add") -> Layer:
    """y = f_1(x) + ... + f_n(x), or with combine="concatenate" these side by side along the last axis.

    x_bar is the sum of the branches' x_bars. params, residuals and factors are tuples with one entry a branch.
    """
    require_layers("parallel", layers, 2)
    if combine not in ("add", "concatenate"):
        raise ValueError(f"parallel: combine is 'add' or 'concatenate', got {combine!r}")
    return Layer(
        init=functools.partial(parallel_init, layers, combine),
        forward=functools.partial(parallel_forward, layers, combine),
        backward=functools.partial(parallel_backward, layers, combine),
        name="parallel",
        parts=layers,
        traits=_traits(layers),
        check=functools.partial(parallel_check, layers),
    )


# --- repeat: y = f(... f(f(x))) with one set of params


def repeat_init(layer: Layer, times: int, key: jax.Array, spec: Any) -> tuple:
    params, out_spec = skip_init(layer, key, spec)  # the same demand: f keeps the shape
    if not all(jax.tree.leaves(tree.trainable(params))):
        raise ValueError(
            f"repeat({layer!r}, {times}): population statistics would differ from use to use; write the layers out in a serial"
        )
    return params, out_spec


def repeat_forward(layer: Layer, times: int, params: Any, x: Any, *, train: bool = False, key: Any = None) -> tuple:
    residuals = []
    for layer_key in _keys(key, times):
        x, layer_residuals = forward_of(layer, params, x, train=train, key=layer_key)
        residuals.append(layer_residuals)
    return x, tuple(residuals)


def repeat_backward(layer: Layer, times: int, params: Any, residuals: tuple, y_bar: Any) -> tuple:
    uses = []
    for layer_residuals in reversed(residuals):
        factors, y_bar = backward_of(layer, params, layer_residuals, y_bar)
        uses.append(factors)
    return jax.tree.map(lambda *parts: Sum(parts), *uses, is_leaf=is_factor), y_bar  # params are used `times` times


@constructor
def repeat(layer: Layer, times: int) -> Layer:
    """y = f(... f(f(x))), the same layer and the same (tied) params `times` times.

    Factors: `Sum` of the factors of each use, so that per-example quantities hold the cross terms between uses.
    """
    require_layers("repeat", (layer,))
    inputs.require_positive("repeat", "times", times)
    return Layer(
        init=functools.partial(repeat_init, layer, times),
        forward=functools.partial(repeat_forward, layer, times),
        backward=functools.partial(repeat_backward, layer, times),
        name="repeat",
        parts=(layer,),
        traits=layer.traits,
        check=layer.check,
    )


# --- remat: the same map, keeping only its input


def remat_forward(layer: Layer, params: Any, x: Any, *, train: bool = False, key: Any = None) -> tuple:
    y, _ = forward_of(layer, params, x, train=train, key=key)
    return y, (x, key, tree.Static(train))


def remat_backward(layer: Layer, params: Any, residuals: tuple, y_bar: Any) -> tuple:
    x, key, train = residuals
    # the barrier keeps XLA from merging this forward with the first one, which would keep its residuals alive
    params, x, y_bar = jax.lax.optimization_barrier((params, x, y_bar))
    _, layer_residuals = forward_of(layer, params, x, train=train.value, key=key)
    return backward_of(layer, params, layer_residuals, y_bar)


@constructor
def remat(layer: Layer) -> Layer:
    """The same map as `layer` with the least residuals: its input (and key). Backward runs the forward again.

    Time for memory: one more forward pass, against all that `layer` would have kept; `jax.eval_shape` shows both.
    """
    require_layers("remat", (layer,))
    return Layer(
        init=layer.init,
        forward=functools.partial(remat_forward, layer),
        backward=functools.partial(remat_backward, layer),
        name="remat",
        parts=(layer,),
        traits=layer.traits,
        check=layer.check,
    )
