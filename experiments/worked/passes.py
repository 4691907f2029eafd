"""Every value of one forward and one backward pass, in float64 by jaxbp's own rules; and one weight taken apart."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from experiments.worked.net import Net, unit, weight_name
from jaxbp.passes import backward_of, forward_of


class Values(NamedTuple):
    """What the passes compute, float64: a[0] are the inputs; z[l], slope[l], a_bar[l], ... are those of layer l + 1.

    slope: f'(z), None for softmax outputs; a_bar: ∂C/∂a; delta: ∂C/∂z; w_bar, b_bar: the gradient. apart: the largest
    difference of that hand-written gradient from jax.grad's.
    """

    z: list
    a: list
    slope: list
    a_bar: list
    delta: list
    w_bar: list
    b_bar: list
    cost: float
    apart: float


Kind = tuple[str, str, str]  # activation, that of the outputs, loss


class _Layer(NamedTuple):
    """One layer on its way forward: its rules, its params, and what their backward rules need."""

    dense: jaxbp.Layer
    squash: jaxbp.Layer
    params: jaxbp.Dense
    of_dense: Any
    of_squash: Any


def values_of(net: Net) -> Values:
    """Both passes in float64 by the hand-written rules of jaxbp, layer by layer, and their gradient beside jax.grad's."""
    with jax.enable_x64(True):
        params = [jaxbp.Dense(jnp.array(w.T), jnp.array(b)) for w, b in zip(net.weights, net.biases, strict=True)]
        x, y = jnp.array(net.inputs)[None], jnp.array(net.targets)[None]
        kind = net.activation, net.output, net.loss
        *parts, grads, costs = _passes(kind, params, x, y)
        apart = _apart(grads, _automatic(kind, params, x, y))
        z, a, slope, a_bar, delta = ([None if row is None else np.array(row[0]) for row in part] for part in parts)
        return Values(
            z, a, slope, a_bar, delta, [np.array(g.w.T) for g in grads], [np.array(g.b) for g in grads], float(costs[0]), apart
        )


@functools.partial(jax.jit, static_argnums=0)
def _passes(kind: Kind, params: list[jaxbp.Dense], x: jax.Array, y: jax.Array) -> tuple:
    z, a, layers = _forward(kind, params, x)
    fused, loss = kind[2] != "quadratic", _loss(kind)
    costs, residuals = loss.forward(z[-1] if fused else a[-1], y)
    bar = loss.backward(residuals, jnp.ones(1, x.dtype))
    return z, a, *_backward(layers, bar, a[-1], y, fused), costs


def _forward(kind: Kind, params: list[jaxbp.Dense], x: jax.Array) -> tuple:
    """z = W a + b, a = f(z), up through the layers."""
    z, a, layers = [], [x], []
    for i, p in enumerate(params, 1):
        dense = jaxbp.dense(p.w.shape[1])
        squash = getattr(jaxbp, kind[0] if i < len(params) else kind[1])()
        sums, of_dense = forward_of(dense, p, a[-1])
        out, of_squash = forward_of(squash, (), sums)
        layers.append(_Layer(dense, squash, p, of_dense, of_squash))
        z.append(sums)
        a.append(out)
    return z, a, layers


def _backward(layers: list[_Layer], bar: jax.Array, outputs: jax.Array, y: jax.Array, fused: bool) -> tuple:
    """δ = ∂C/∂a f'(z), the gradient δ a and the next ∂C/∂a = δ W, down through the layers; lists in the order of the layers."""
    slope, a_bar, delta, grads = [], [], [], []
    for layer in reversed(layers):
        on_z = fused and not delta  # bar is δ already
        whole = layer.squash.name == "softmax"  # no slope of one unit alone
        slope.append(None if whole else backward_of(layer.squash, (), layer.of_squash, jnp.ones_like(bar))[1])
        a_bar.append(_by_outputs(outputs, y, bar, slope[-1]) if on_z else bar)
        delta.append(bar if on_z else backward_of(layer.squash, (), layer.of_squash, bar)[1])
        factors, bar = backward_of(layer.dense, layer.params, layer.of_dense, delta[-1])
        grads.append(jaxbp.factors.total(layer.params, factors))
    return slope[::-1], a_bar[::-1], delta[::-1], grads[::-1]


def _by_outputs(outputs: jax.Array, y: jax.Array, delta: jax.Array, slope: jax.Array | None) -> jax.Array:
    """∂C/∂a of a loss that was taken on z: (a - y) / f'(z) for a sigmoid, -y / a for softmax. Infinite where f' has run out."""
    return -y / outputs if slope is None else jnp.where(slope > 0, delta / slope, jnp.inf)


def _loss(kind: Kind) -> jaxbp.Loss:
    names = {"cross-entropy": "sigmoid_cross_entropy", "softmax": "softmax_cross_entropy"}
    return getattr(jaxbp.losses, names.get(kind[2], kind[2]))()


@functools.partial(jax.jit, static_argnums=0)
def _automatic(kind: Kind, params: list[jaxbp.Dense], x: jax.Array, y: jax.Array) -> list[jaxbp.Dense]:
    """The gradient by jax.grad of the same mathematics."""
    parts = [part for p in params for part in (jaxbp.dense(p.w.shape[1]), getattr(jaxbp, kind[0])())][:-1]
    parts += [] if kind[2] != "quadratic" else [getattr(jaxbp, kind[1])()]
    arranged = tuple(p for dense in params for p in (dense, ()))[: len(parts)]
    return list(jax.grad(jaxbp.objective(jaxbp.serial(*parts), _loss(kind)))(arranged, x, y)[::2])


def _apart(ours: list[jaxbp.Dense], theirs: list[jaxbp.Dense]) -> float:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(jnp.max(jnp.abs(p - q))) for p, q in pairs)


class Factor(NamedTuple):
    """One factor of a product: what it is, and its value."""

    name: str
    value: float


class Path(NamedTuple):
    """One way from a weight to the cost: its units, its own first and counted from 0, and its factors, from the cost down."""

    units: tuple[int, ...]
    factors: tuple[Factor, ...]

    @property
    def product(self) -> float:
        return float(np.prod([factor.value for factor in self.factors]))


MOST_PATHS = 64  # written out; more are counted


def path_count(net: Net) -> int:
    """Of the chosen weight."""
    return int(np.prod(net.sizes[net.chosen[0] + 1 :], dtype=int))


def paths(net: Net, values: Values) -> list[Path]:
    """∂C/∂w = sum over all paths from the weight to the cost of the product of the local rates of change.

    Of an output unit the last two, ∂C/∂a f'(z), are one, ∂C/∂z, where the loss is taken on z.
    """
    layer, to, source = net.chosen
    into = (
        Factor("1", 1.0) if source is None else Factor(unit(net, layer - 1, source - 1), float(values.a[layer - 1][source - 1]))
    )
    open_ways, last = [((to - 1,), ())], len(net.biases)
    for at in range(layer, last):
        slopes, w = values.slope[at - 1], net.weights[at]
        step = lambda j, k, at=at, slopes=slopes, w=w: (
            _weight(net, at + 1, k, j, w),
            Factor(f"f'({unit(net, at, j)})", float(slopes[j])),
        )
        open_ways = [((*js, k), (*step(js[-1], k), *fs)) for js, fs in open_ways for k in range(net.sizes[at + 1])]
    return [Path(js, (*_at_cost(net, values, js[-1]), *fs, into)) for js, fs in open_ways]


def largest(found: list[Path]) -> list[Path]:
    """All paths, or the MOST_PATHS of the largest products."""
    return found if len(found) <= MOST_PATHS else sorted(found, key=lambda path: -abs(path.product))[:MOST_PATHS]


def _weight(net: Net, layer: int, to: int, source: int, w: np.ndarray) -> Factor:
    return Factor(weight_name(net, layer, to + 1, source + 1), float(w[to, source]))


def _at_cost(net: Net, values: Values, j: int) -> tuple[Factor, ...]:
    name = unit(net, len(net.biases), j)
    if net.fused:
        return (Factor(f"∂C/∂z({name})", float(values.delta[-1][j])),)
    return Factor(f"∂C/∂{name}", float(values.a_bar[-1][j])), Factor(f"f'({name})", float(values.slope[-1][j]))


def updated(net: Net, values: Values) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases after one step of gradient descent, all from the old ones."""
    down = lambda old, grads: [p - net.rate * g for p, g in zip(old, grads, strict=True)]
    return down(net.weights, values.w_bar), down(net.biases, values.b_bar)
