"""Looking inside a net while it learns: what each layer sees, how large its errors are, how fast it moves, what has stalled.

z = f(params, x) of a layer with parameters, a = its activation, delta_b = d loss_b / d z_b of example b:

    input      sqrt(mean x^2): the activation that comes in; BP4 gives no gradient where it is 0
    slope      mean |f'(z)| of the activation after the layer
    saturated  share of the entries of z whose slope is below a twentieth of the activation's steepest
    dead       share of the units that are saturated for every example of the batch
    delta      sqrt(sum_b w_b^2 |delta_b|^2 / sum_b w_b^2), |.| over all entries of an example; w = 1 without weights
    grad       |dC/dparams| of the layer, as the optimiser is given it (mean over the batch, penalty included)
    update     |update of the weights| / |weights|

A layer here is one with parameters and what follows up to the next one. slope, saturated and dead belong to the first
elementwise activation there; without one they are NaN, as input is where integers come in. Under a `precision` the pass of a look
is in float32.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbp import inputs, tree
from jaxbp.chains import chain, layer_names
from jaxbp.contracts import Layer, Loss, is_elementwise
from jaxbp.factors import at_least_float32, total
from jaxbp.page.tables import Column, Table
from jaxbp.passes import backward_of, forward_of
from jaxbp.training.metrics import weights_like
from jaxbp.training.state import Data, Plan, TrainState
from jaxbp.training.updates import draw_keys, take, update_of


MEASURES = ("input", "slope", "saturated", "dead", "delta", "grad", "update")
LOOKS = "diagnosis"  # their name among the numbers of an epoch
SHARE = 40  # at most one step in so many is looked at: a look takes two to three steps' time, all of them less than a tenth
FLAT = 0.05  # a slope below this share of the steepest is saturated


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found. Every measure is an array (looks, layers), NaN where it has no meaning.

    Fields:
      layers: the name of each. epochs: (looks,), how many epochs had been done.
    """

    layers: tuple[str, ...]
    epochs: np.ndarray
    input: np.ndarray
    slope: np.ndarray
    saturated: np.ndarray
    dead: np.ndarray
    delta: np.ndarray
    grad: np.ndarray
    update: np.ndarray

    def table(self, look: int = -1) -> Table:
        """The measures of one look, a row for each layer."""
        found = {m: [v if np.isfinite(v) else None for v in getattr(self, m)[look].tolist()] for m in MEASURES}
        rows = [(name, *(found[m][i] for m in MEASURES)) for i, name in enumerate(self.layers)]
        done = int(self.epochs[look])
        return Table(["layer", *(Column(m) for m in MEASURES)], rows, title=f"Inside the net after {done} epochs")

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table().to_html()


# --- the doors


def diagnose(net: Layer, loss: Loss, *, penalty: Any = None) -> Callable[..., Diagnosis]:
    """One look at a net: f(params, x, targets, *, sample_weight=None, key=None, train=False) -> Diagnosis (update is NaN).

    Of a net in training `fit(..., diagnose=True)` looks at the first batch of the epochs.
    Raises: ValueError or TypeError for params, x or targets that do not fit, and for a net without parameters.
    """
    _require(net, loss)

    def f(params: Any, x: Any, targets: Any, *, sample_weight: Any = None, key: Any = None, train: bool = False) -> Diagnosis:
        spec = inputs.check_batch(net, params, x, train=train, key=key)
        n = inputs.batch_size(x)
        batch = jax.tree.map(lambda s: jax.ShapeDtypeStruct((n, *s.shape), s.dtype), spec)
        inputs.check_targets(loss, batch, targets)
        found = _one_look(net, loss, penalty, train, params, x, targets, sample_weight, key)
        return Diagnosis(tuple(layer_names(net, params)), np.zeros(1, int), **{m: np.asarray(found[m])[None] for m in MEASURES})

    return f


def _require(net: Any, loss: Any) -> None:
    if not isinstance(net, Layer) or not isinstance(loss, Loss):
        raise TypeError(f"diagnose: takes a Layer and a Loss, got {net!r} and {loss!r}")


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _one_look(
    net: Layer, loss: Loss, penalty: Any, train: bool, params: Any, x: Any, targets: Any, weight: Any, key: Any
) -> dict[str, jax.Array]:
    found, _ = look(net, loss, params, x, targets, weight, key, train=train, penalty=penalty)
    return {**found, "update": jnp.full_like(found["grad"], jnp.nan)}


def as_diagnosis(net: Layer, params: Any, looks: Any) -> Diagnosis | None:
    """The looks (epochs, measures, layers), epochs without one left out; None of None."""
    if looks is None:
        return None
    looked = np.flatnonzero(np.isfinite(looks).any(axis=(1, 2)))
    measures = {name: looks[looked, i] for i, name in enumerate(MEASURES)}
    return Diagnosis(tuple(layer_names(net, params)), looked, **measures)


def every(asked: Any, steps: int) -> int:
    """In how many epochs one is looked at: 0 for none; True so many that one step in `SHARE` or fewer is."""
    return -(-SHARE // steps) if asked is True else int(asked)


def between(plan: Plan, data: Data, order: jax.Array, room: int, length: Any, runs: Any, upto: Any, loop: tuple) -> tuple:
    """The loop over epochs in blocks of `plan.diagnose`, with a look before each, so that the epochs themselves stay as they are.

    runs(last, loop), upto(last, loop): whether there is an epoch before `last`, and the loop up to it; loop: (i, state, history).
    The history gets the measures (epochs, measures, layers), NaN where there was no look.
    """
    measure = functools.partial(_of_first_batch, plan, data)
    shape = jax.eval_shape(measure, loop[1], order[0])
    none = jnp.full(shape.shape, jnp.nan, shape.dtype)

    def block(blocks: tuple) -> tuple:
        i, state, history, looks = blocks
        past = state.epoch % plan.diagnose  # of a chunk that begins in a block: no look
        found = lax.cond(past == 0, lambda: measure(state, order[i % order.shape[0]]), lambda: none)
        last = jnp.minimum(length, i + plan.diagnose - past)
        return *upto(last, (i, state, history)), looks.at[i].set(found)

    looks = jnp.full((room, *none.shape), jnp.nan, none.dtype)
    i, state, history, looks = lax.while_loop(functools.partial(runs, length), block, (*loop, looks))
    return i, state, {**history, LOOKS: looks}


def _of_first_batch(plan: Plan, data: Data, state: TrainState, order: jax.Array) -> jax.Array:
    """(measures, layers): a pass of its own, beside that of the step. Of a batch that is trained in parts, the first part."""
    rows, keys = order[0][: order.shape[1] // plan.accumulate], draw_keys(plan, state, 1)
    key = None if keys is None else keys[0]
    x, targets, weight = take(plan, data, state.scale, rows)
    found, (value, grads) = look(
        plan.net, plan.loss, state.params, x, targets, weight, key, penalty=plan.penalty, reduction=plan.reduction
    )
    updates, _ = update_of(plan, (state.params, state.opt_state), value, grads, (x, targets, weight, key))
    if plan.stop:
        updates = tree.scale(state.rate, updates)
    share = lambda change, weights: jnp.where(weights == 0, jnp.nan, change / jnp.where(weights == 0, 1, weights))
    moved = _by_layer(plan.net, (updates, state.params), lambda u, p: share(_norm(_weights(u)), _norm(_weights(p))))
    return jnp.stack([*(found[name] for name in MEASURES[:-1]), moved.astype(found["grad"].dtype)])


# --- one pass, layer by layer


class Pass(NamedTuple):
    """A layer in a forward pass: its index among those with parameters, -1 before the first."""

    layer: Layer
    params: Any
    x: Any
    y: Any
    residuals: Any
    group: int


def look(
    net: Layer,
    loss: Loss,
    params: Any,
    x: Any,
    targets: Any,
    weight: Any,
    key: Any,
    *,
    train: bool = True,
    penalty: Any = None,
    reduction: str = "mean",
) -> tuple[dict[str, jax.Array], tuple[jax.Array, Any]]:
    """({measure: (layers,)} without "update", (value, grads)) of one batch, by the hand-written backward pass."""
    passes: list[Pass] = []
    for layer, layer_params, layer_key in chain(net, params, key):
        y, residuals = forward_of(layer, layer_params, x, train=train, key=layer_key)
        group = (passes[-1].group if passes else -1) + bool(jax.tree.leaves(layer_params))
        passes.append(Pass(layer, layer_params, x, y, residuals, group))
        x = y
    if passes[-1].group < 0:
        raise ValueError(f"diagnose: {net!r} has no parameters, so there is no layer to look at")
    losses, loss_residuals = loss.forward(x, targets)
    weights = weights_like(losses, weight)
    weighed = jnp.sum(weights) if reduction == "mean" else jnp.ones((), losses.dtype)
    seeds = weights / jnp.where(weighed == 0, 1, weighed)
    y_bars, grads = _backward(passes, loss.backward(loss_residuals, seeds))
    grads = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(grads))
    value = jnp.sum(jnp.where(seeds == 0, 0, seeds * losses))
    if penalty is not None:
        value, grads = value + penalty.forward(params), tree.add(grads, penalty.backward(params))
    return _measures(net, passes, y_bars, seeds, grads), (value, grads)


def _backward(passes: Sequence[Pass], y_bar: Any) -> tuple[list, list]:
    y_bars, grads = [], []
    for one in reversed(passes):
        y_bars.insert(0, y_bar)
        factors, y_bar = backward_of(one.layer, one.params, one.residuals, y_bar)
        grads.insert(0, total(one.params, factors))
    return y_bars, grads


def _measures(net: Layer, passes: list[Pass], y_bars: list, seeds: jax.Array, grads: Any) -> dict[str, jax.Array]:
    present = jnp.any(seeds != 0, axis=tuple(range(1, seeds.ndim)))
    squared = jnp.sum(seeds**2)
    heads = [(one, y_bar) for one, y_bar in zip(passes, y_bars, strict=True) if jax.tree.leaves(one.params)]
    slopes = [_slopes(passes, one.group, present) for one, _ in heads]
    dtype = at_least_float32(seeds)
    stack = lambda values: jnp.stack([jnp.asarray(v, dtype) for v in values])
    return {
        "input": stack([_root_mean_square(one.x, present) for one, _ in heads]),
        "slope": stack([slope for slope, _, _ in slopes]),
        "saturated": stack([saturated for _, saturated, _ in slopes]),
        "dead": stack([dead for _, _, dead in slopes]),
        "delta": stack([_norm(y_bar) / jnp.sqrt(jnp.where(squared == 0, 1, squared)) for _, y_bar in heads]),
        "grad": stack(_by_layer(net, (grads,), lambda g: _norm(_trained(g)))),
    }


def _slopes(passes: list[Pass], group: int, present: jax.Array) -> tuple:
    """(mean |f'|, share saturated, share of units dead) of the first activation of a group."""
    found = [one for one in passes if one.group == group and is_elementwise(one.layer)]
    if not found:
        return (jnp.nan,) * 3
    one = found[0]
    slope = jnp.abs(one.layer.backward((), one.residuals, jnp.ones_like(one.y))[1])
    grid = jnp.linspace(-6, 6, 121, dtype=slope.dtype)
    _, residuals = one.layer.forward((), grid)
    steepest = jnp.max(jnp.abs(one.layer.backward((), residuals, jnp.ones_like(grid))[1]))
    flat = slope < FLAT * steepest
    rows = present.reshape(-1, *(1,) * (flat.ndim - 1))
    mean = lambda a: jnp.sum(jnp.where(rows, a, 0)) / (jnp.maximum(jnp.sum(present), 1) * (a.size // len(a)))
    return mean(slope), mean(flat.astype(slope.dtype)), jnp.mean(jnp.all(flat | ~rows, axis=0))


def _root_mean_square(x: Any, present: jax.Array) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(x) if inputs.is_floating(leaf)]
    if not leaves:
        return jnp.asarray(jnp.nan)
    wide = [leaf.reshape(len(leaf), -1).astype(at_least_float32(leaf)) for leaf in leaves]
    sums = sum(jnp.sum(jnp.where(present[:, None], leaf, 0) ** 2) for leaf in wide)
    return jnp.sqrt(sums / (jnp.maximum(jnp.sum(present), 1) * sum(leaf.shape[1] for leaf in wide)))


def _by_layer(net: Layer, trees: tuple, fun: Callable) -> jax.Array:
    """(layers,): fun of the trees' parts that belong to each layer with parameters."""
    chains = [[part for _, part, _ in chain(net, a)] for a in trees]
    return jnp.stack([fun(*parts) for parts in zip(*chains, strict=True) if jax.tree.leaves(parts[0])])


def _trained(a: Any) -> list:
    return [leaf for leaf, on in zip(jax.tree.leaves(a), jax.tree.leaves(tree.trainable(a)), strict=True) if on]


def _weights(a: Any) -> list:
    """The leaves of two or more axes, or where there are none all that are trained."""
    return [leaf for leaf in _trained(a) if leaf.ndim > 1] or _trained(a)


def _norm(a: Any) -> jax.Array:
    squares = [jnp.sum(leaf.astype(at_least_float32(leaf)) ** 2) for leaf in jax.tree.leaves(a) if inputs.is_floating(leaf)]
    return jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))
