"""When to stop: pure rules that look at every epoch's numbers, inside the compiled loop.

A rule is a pair of functions, so that each fold or trial of a mapped run carries its own memory and stops by itself:

    init() -> memory                              arrays
    update(memory, epoch) -> memory, Decision     epoch: an `Epoch`, what was just measured

`fit(..., stop=patience(10))`, or several: `stop=(patience(10), reach(0.01))`; the first that says so ends the run, and
`stop_reason` tells which.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp import inputs
from jaxbp.contracts import Call, Constructed, constructor


class Epoch(NamedTuple):
    """What a rule is told after an epoch. number: epochs done. info: the numbers by name. change: max |w_new - w_old|."""

    number: jax.Array
    info: dict[str, jax.Array]
    change: jax.Array


class Decision(NamedTuple):
    """What a rule answers.

    stop: end here. best: these params are the best so far. rate: what the updates are multiplied by from now on, times
    the rules' before it; 1 leaves them.
    """

    stop: jax.Array
    best: jax.Array
    rate: jax.Array


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StoppingRule(Constructed):
    """A pure rule; see the module's head for its two functions.

    Fields: monitor: the name it looks up in `info`, None where it needs none. keeps: True where the params of the best
    epoch are to be kept and given back. reason: why it stopped, in words.
    """

    init: Callable
    update: Callable
    name: str
    reason: str
    monitor: str | None = None
    keeps: bool = False
    call: Call | None = None


def _decision(stop: Any = False, best: Any = False, rate: Any = 1.0) -> Decision:
    return Decision(jnp.asarray(stop), jnp.asarray(best), jnp.asarray(rate, jnp.float32))


def rises(monitor: str) -> bool:
    """Whether more is better, told by the name: of anything but a loss or an error."""
    return not any(word in monitor for word in ("loss", "mae", "mse", "error"))


def _better(monitor: str, mode: str | None, least: float, new: jax.Array, old: jax.Array) -> jax.Array:
    """Whether new is better than old by more than `least`; any number is better than NaN."""
    gain = new - old if (rises(monitor) if mode is None else mode == "max") else old - new
    return ~jnp.isnan(new) & (jnp.isnan(old) | (gain > least))


class Since(NamedTuple):
    """The best value so far and the epoch when it came, or when the wait was begun anew."""

    value: jax.Array
    epoch: jax.Array


def _nothing_yet() -> Since:
    return Since(jnp.full((), jnp.nan, jnp.float32), jnp.zeros((), jnp.int32))


def _improve(memory: Since, epoch: Epoch, monitor: str, mode: str | None, least: float) -> tuple[Since, jax.Array]:
    value = epoch.info[monitor].astype(jnp.float32)
    best = _better(monitor, mode, least, value, memory.value)
    return Since(jnp.where(best, value, memory.value), jnp.where(best, epoch.number, memory.epoch)), best


def _patience_update(memory: Since, epoch: Epoch, *, epochs: int, monitor: str, mode: Any, least: float, warm_up: int) -> tuple:
    memory, best = _improve(memory, epoch, monitor, mode, least)
    waited = epoch.number - jnp.maximum(memory.epoch, warm_up)
    return memory, _decision(stop=waited >= epochs, best=best)


@constructor
def patience(
    epochs: int = 10,
    monitor: str = "validation_loss",
    *,
    mode: str | None = None,
    min_delta: float = 0.0,
    warm_up: int = 0,
    restore: bool = True,
) -> StoppingRule:
    """Stop when `epochs` epochs have brought no value of `monitor` better than the best by more than min_delta.

    mode: "min" or "max"; None tells it by the name (less is better for loss, mse and error). warm_up: the wait does not begin
    before so many epochs are done, however the curve looks ("do not stop too soon"). restore: give back the params of the
    best epoch, also where all epochs were run; the optimiser's state is that of the last.

    Raises: ValueError or TypeError for sizes that are not whole and positive, and for another mode.
    Source: Prechelt 1998; Nielsen, ch. 3, "no-improvement-in-n".
    """
    inputs.require_positive("patience", "epochs", epochs)
    _require_mode("patience", mode)
    options = {"epochs": epochs, "monitor": monitor, "mode": mode, "least": min_delta, "warm_up": warm_up}
    return StoppingRule(
        _nothing_yet, functools.partial(_patience_update, **options), "patience",
        f"no better {monitor} in {epochs} epochs", monitor, restore,
    )  # fmt: skip


def _plateau_update(memory: tuple, epoch: Epoch, *, epochs: int, monitor: str, mode: Any, factor: float, least: float) -> tuple:
    since, best = _improve(memory[0], epoch, monitor, mode, 0.0)
    waited = epoch.number - since.epoch >= epochs
    rate = jnp.where(waited, memory[1] * factor, memory[1])
    since = since._replace(epoch=jnp.where(waited, epoch.number, since.epoch))
    return (since, rate), _decision(stop=rate <= least, best=best, rate=jnp.where(waited, factor, 1.0))


@constructor
def halve_on_plateau(
    epochs: int = 10,
    monitor: str = "validation_accuracy",
    *,
    mode: str | None = None,
    factor: float = 0.5,
    least: float = 1 / 128,
    restore: bool = False,
) -> StoppingRule:
    """Multiply the updates by `factor` whenever `epochs` epochs brought nothing better; stop when `least` of the rate is left.

    The wait begins anew after each cut. For optimisers whose update is proportional to the learning rate (sgd, momentum, adam,
    adamw ...) this is a cut of the learning rate.
    Source: Nielsen, ch. 3: halve the rate on no-improvement-in-ten, end at 1/128.
    """
    inputs.require_positive("halve_on_plateau", "epochs", epochs)
    _require_mode("halve_on_plateau", mode)
    if not (0 < factor < 1 and 0 < least < 1):
        raise ValueError(f"halve_on_plateau: factor and least lie between 0 and 1, got {factor!r} and {least!r}")
    options = {"epochs": epochs, "monitor": monitor, "mode": mode, "factor": factor, "least": least * (1 + 1e-6)}
    return StoppingRule(
        _plateau_init, functools.partial(_plateau_update, **options), "halve_on_plateau",
        f"the learning rate came down to {least:.3g} of what it was", monitor, restore,
    )  # fmt: skip


def _plateau_init() -> tuple:
    return _nothing_yet(), jnp.ones((), jnp.float32)


def _no_memory() -> tuple:
    return ()


def _reach_update(memory: tuple, epoch: Epoch, *, value: float, monitor: str, mode: str | None) -> tuple:
    up = rises(monitor) if mode is None else mode == "max"
    seen = epoch.info[monitor]
    return memory, _decision(stop=seen >= value if up else seen <= value)


@constructor
def reach(value: float, monitor: str = "loss", *, mode: str | None = None) -> StoppingRule:
    """Stop when `monitor` is at most `value` (at least, where more is better): a target for the training error."""
    _require_mode("reach", mode)
    update = functools.partial(_reach_update, value=value, monitor=monitor, mode=mode)
    return StoppingRule(_no_memory, update, "reach", f"{monitor} reached {value:g}", monitor)


@constructor
def misclassified(share: float, monitor: str = "accuracy") -> StoppingRule:
    """Stop when less than this share of the examples is misclassified: 1 - accuracy < share (Han & Kamber)."""
    update = functools.partial(_misclassified_update, share=share, monitor=monitor)
    return StoppingRule(_no_memory, update, "misclassified", f"less than {share:g} misclassified", monitor)


def _misclassified_update(memory: tuple, epoch: Epoch, *, share: float, monitor: str) -> tuple:
    return memory, _decision(stop=1 - epoch.info[monitor] < share)


@constructor
def settle(tolerance: float) -> StoppingRule:
    """Stop when an epoch changed no parameter by `tolerance` or more: max |dw| < tolerance (Han & Kamber)."""
    update = functools.partial(_settle_update, tolerance=tolerance)
    return StoppingRule(_no_memory, update, "settle", f"no parameter changed by {tolerance:g}")


def _settle_update(memory: tuple, epoch: Epoch, *, tolerance: float) -> tuple:
    return memory, _decision(stop=epoch.change < tolerance)


def _require_mode(name: str, mode: Any) -> None:
    if mode not in (None, "min", "max"):
        raise ValueError(f"{name}: mode is 'min', 'max' or None, got {mode!r}")


def as_rules(stop: Any) -> tuple[StoppingRule, ...]:
    """The rules of an argument `stop`: None, one or several."""
    rules = () if stop is None else tuple(stop) if isinstance(stop, (tuple, list)) else (stop,)
    for rule in rules:
        if not isinstance(rule, StoppingRule):
            hint = "; call it first, e.g. patience(10)" if callable(rule) else ""
            raise TypeError(f"stop: stopping rules such as jaxbp.training.patience(10) were expected, got {rule!r}{hint}")
    if sum(rule.keeps for rule in rules) > 1:
        raise ValueError("stop: one rule can keep the best params; give the others restore=False")
    return rules
