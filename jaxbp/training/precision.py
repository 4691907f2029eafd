"""Mixed precision: the passes in bfloat16 or float16, the params, their gradient and the optimiser in float32.

    low = params in bfloat16                        population statistics stay in float32
    seeds = scale w_b / sum w                       the loss scale enters where the weights do, so that small cotangents survive
    grads = total(backward(low, seeds)) / scale     summed and divided in float32
    params <- params + update(grads)                in float32: an update far below an ulp of bfloat16 still adds up

A scale for float16 is found on the way: it is halved when a gradient is not finite, and that update left out; it is doubled
after so many finite ones.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp import backprop, inputs, tree
from jaxbp.factors import at_least_float32


LEAST, MOST = 1.0, 2.0**24  # the bounds of a dynamic scale


# --- what is asked for


@dataclasses.dataclass(frozen=True)
class DynamicScale:
    """A loss scale that is found on the way; made by `dynamic`."""

    initial: float
    growth: float
    backoff: float
    every: int


def dynamic(initial: float = 2.0**15, *, growth: float = 2.0, backoff: float = 0.5, every: int = 2000) -> DynamicScale:
    """The loss scale: times `backoff` when a gradient is not finite, times `growth` after `every` updates in a row that are.

    It stays within [1, 2^24]. The update of a gradient that is not finite is left out; at a scale of 1 it is made, as no scale
    would help then, and the run stops like any other that turns non-finite.

    >>> dynamic(2**10, every=100)
    DynamicScale(initial=1024.0, growth=2.0, backoff=0.5, every=100)

    Raises: ValueError for an initial scale outside [1, 2^24], growth of 1 or less, backoff outside (0, 1); TypeError for others
    than numbers.
    """
    for what, value in (("initial", initial), ("growth", growth), ("backoff", backoff)):
        inputs.require_positive("dynamic", what, value, whole=False)
    inputs.require_positive("dynamic", "every", every)
    if not LEAST <= initial <= MOST:
        raise ValueError(f"dynamic: initial, the first loss scale, lies in [1, 2^24], got {initial!r}")
    if not (1 < growth < math.inf and backoff < 1):
        raise ValueError(f"dynamic: growth is above 1 and backoff below, got growth={growth!r}, backoff={backoff!r}")
    return DynamicScale(float(initial), float(growth), float(backoff), int(every))


@dataclasses.dataclass(frozen=True)
class Precision:
    """What `fit(precision=...)` takes; made by `mixed_precision`."""

    compute: str
    loss_scale: float | DynamicScale | None


def mixed_precision(compute: Any = "bfloat16", *, loss_scale: Any = "default") -> Precision:
    """Passes in `compute`, bfloat16 or float16; params, sums, gradients and the optimiser in float32.

    loss_scale: what the seeds of the backward pass are multiplied by, and the gradient divided by: a number, `dynamic(...)`
    or None for none. By default none for bfloat16, which has the range of float32, and `dynamic()` for float16, whose numbers
    end at 65504 and lose their digits below 6e-5. With a dynamic scale the history has "loss_scale" and "skipped_steps" of
    every epoch.

    The hand-written backward pass sums over the batch in float32 and rounds nothing after. With gradient="autodiff" the
    gradient of every weight is rounded to `compute` (a cotangent has its primal's dtype) before it is cast.

    >>> mixed_precision()
    Precision(compute='bfloat16', loss_scale=None)

    Raises: ValueError for another dtype or a scale that is not positive and finite, TypeError for what is no dtype or scale.
    """
    name = backprop.as_floating("mixed_precision", "compute", compute).name
    if name not in ("bfloat16", "float16"):
        raise ValueError(f"mixed_precision: compute is 'bfloat16' or 'float16', got {name!r}; leave out precision= for float32")
    if isinstance(loss_scale, str) and loss_scale == "default":
        loss_scale = dynamic() if name == "float16" else None
    if loss_scale is None or isinstance(loss_scale, DynamicScale):
        return Precision(name, loss_scale)
    inputs.require_positive("mixed_precision", "loss_scale", loss_scale, whole=False)
    if not float(loss_scale) < math.inf:
        raise ValueError(f"mixed_precision: loss_scale has to be finite, got {loss_scale!r}")
    return Precision(name, float(loss_scale))


def require_precision(name: str, precision: Any) -> None:
    if not (precision is None or isinstance(precision, Precision)):
        raise TypeError(f"{name}: precision: jaxbp.training.mixed_precision(...) or None was expected, got {precision!r}")


def require_float32(name: str, precision: Precision | None, params: Any) -> None:
    """Raise where params (arrays or specs) in float64 would be trained by passes in a narrow dtype."""
    for path, leaf in zip(tree.paths(params, "params"), jax.tree.leaves(params), strict=True):
        if precision is not None and jnp.result_type(leaf) == jnp.float64:
            raise ValueError(
                f"{name}: precision: params are kept in float32 under {precision.compute} passes, but {path} is float64; "
                "give params in float32, or leave out precision="
            )


# --- dtypes


def widened(a: Any) -> Any:
    """Floating leaves in at least float32."""
    return jax.tree.map(lambda leaf: leaf.astype(at_least_float32(leaf)) if inputs.is_floating(leaf) else leaf, a)


def wide_dtype(params: Any) -> Any:
    """The `grad_dtype` that no leaf of params is wider than, at least float32; None where all are at least that anyway."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(params) if inputs.is_floating(leaf)]
    narrow = any(at_least_float32(dtype) != dtype for dtype in dtypes)
    return at_least_float32(*dtypes) if narrow else None


def lowered(precision: Precision, params: Any) -> Any:
    """params in the dtype of the passes; population statistics, running means of many steps, stay as they are."""
    one = lambda leaf, train: leaf.astype(precision.compute) if train and inputs.is_floating(leaf) else leaf
    return jax.tree.map(one, params, tree.trainable(params))


# --- the loss scale on its way


class ScaleState(NamedTuple):
    """scale: float32. finite: int32, updates in a row since the scale was last changed. skipped: int32, updates left out."""

    scale: jax.Array
    finite: jax.Array
    skipped: jax.Array


def start_scale(precision: Precision | None) -> Any:
    """The state of a dynamic scale, () without one."""
    if precision is None or not isinstance(precision.loss_scale, DynamicScale):
        return ()
    count = jnp.zeros((), jnp.int32)
    return ScaleState(jnp.asarray(precision.loss_scale.initial, jnp.float32), count, count)


def scale_of(precision: Precision | None, state: Any) -> Any:
    """The loss scale of this update, None without one."""
    return state.scale if isinstance(state, ScaleState) else precision and precision.loss_scale


def next_scale(rule: DynamicScale, state: ScaleState, grads: Any) -> tuple[ScaleState, jax.Array]:
    """(the next state, whether this update is made)."""
    finite = jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)] or [jnp.ones((), bool)]).all()
    made = finite | (state.scale <= LEAST)
    in_a_row = jnp.where(finite, state.finite + 1, 0)
    grows = in_a_row >= rule.every
    grown = jnp.where(grows, jnp.minimum(state.scale * rule.growth, MOST), state.scale)
    scale = jnp.where(finite, grown, jnp.maximum(state.scale * rule.backoff, LEAST))
    return ScaleState(scale, jnp.where(grows, 0, in_a_row), state.skipped + ~made), made


def scale_info(old: Any, new: Any) -> dict[str, jax.Array]:
    """What an epoch reports of its scale: where it is, and how many updates were left out."""
    if not isinstance(new, ScaleState):
        return {}
    return {"loss_scale": new.scale, "skipped_steps": (new.skipped - old.skipped).astype(jnp.float32)}
