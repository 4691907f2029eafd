"""Reverse accumulation over a tape: every value's adjoint is the sum of what each of its uses sends back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from jaxbp import jaxprs
from jaxbp.graph import custom
from jaxbp.graph.rules import RULES, ZERO
from jaxbp.graph.tape import Step, Tape, Value, is_inexact, record, stacked, unstacked


OWN, VJP, CUSTOM, ROWS, NOTHING = "own rule", "jax.vjp of the primitive", "custom rule", "rows of a scan", "no derivative"

Seen = Callable[[Step, Sequence], None]


class Reverse:
    """The backward pass. `seen(step, bars)` is shown what each step sends; `within` watches the steps of a custom rule.

    With `opened`, the primal of a custom rule gets adjoints as well: those that it would have without the rule. None of
    them leaves it; what the rule's operands get is what the rule says.
    """

    def __init__(self, seen: Seen | None = None, within: Callable | None = None, *, opened: bool = False):
        self.seen, self.within, self.opened = seen, within, opened
        self._pullbacks: dict = {}

    def run(self, tape: Tape) -> None:
        """From the `bar` of the outputs to all others."""
        for step in reversed(tape.steps):
            if step.active and any(value.bar is not None for value in step.outs):
                self._back(step)

    def _back(self, step: Step) -> None:
        bars = [bar if value.active else None for value, bar in zip(step.ins, self.pull(step), strict=True)]
        step.sent = bars
        if self.seen:
            self.seen(step, bars)
        for value, bar in zip(step.ins, bars, strict=True):
            if bar is not None:
                value.bar = bar if value.bar is None else value.bar + bar
        if self.opened and step.inner is not None:
            for inner, outer in zip(step.inner.outputs, step.outs, strict=True):
                add_bar(inner, outer.bar)
            self.run(step.inner)

    def pull(self, step: Step) -> Sequence:
        """What the cotangents of the outputs send to each operand of a step."""
        name, arrays = step.eqn.primitive.name, [value.array for value in step.ins]
        if step.kind == "unstack":
            step.how = ROWS
            rows = [jnp.zeros_like(v.array) if v.bar is None else v.bar for v in step.outs]
            return (stacked(rows),)
        if step.kind == "stack":
            step.how = ROWS
            return unstacked(step.outs[0].bar)
        if step.kind == "plain" and name in ZERO:
            step.how = NOTHING
            return (None,) * len(arrays)
        real = not any(jnp.iscomplexobj(x) for x in (*arrays, *(v.array for v in step.outs)))
        if step.kind == "plain" and name in RULES and real:
            step.how = OWN
            return RULES[name](step.outs[0].bar, arrays, step.outs[0].array, step.eqn.params)
        step.how = CUSTOM if step.kind == "rule" else VJP
        return self._through_jax(step, arrays)

    def _through_jax(self, step: Step, arrays: list) -> list:
        """Through JAX's own derivative of the equation, traced once for all turns of a loop."""
        which = tuple(i for i, value in enumerate(step.ins) if value.active)
        outs = tuple(i for i, value in enumerate(step.outs) if value.active)
        key = id(step.eqn), which, outs
        if key not in self._pullbacks:
            self._pullbacks[key] = pullback(step.eqn, which, outs, arrays, [step.outs[i].array for i in outs])
        seeds = [jnp.zeros_like(v.array) if v.bar is None else v.bar for v in (step.outs[i] for i in outs)]
        watch = self.within(step) if self.within and step.kind == "rule" else None
        results = record(self._pullbacks[key], [Value(x) for x in (*arrays, *seeds)], watch, step.path).outputs
        bars: list = [None] * len(arrays)
        for i, result in zip(which, results, strict=True):
            bars[i] = result.array
        return bars


def pullback(eqn: Any, which: tuple, outs: tuple, arrays: list, seeds: list) -> ClosedJaxpr:
    """The program (operands, cotangents of outputs `outs`) -> cotangents of operands `which`."""

    if eqn.primitive.name in jaxprs.CUSTOM_VJP:
        program = custom.traced(eqn, which, outs, arrays, seeds)
        if program is not None:
            return program

    def run(arrays: list, seeds: list) -> Any:
        def part(*chosen: Any) -> list:
            full = list(arrays)
            for i, x in zip(which, chosen, strict=True):
                full[i] = x
            results = jaxprs.bind(eqn, full)
            return [results[i] for i in outs]

        return jax.vjp(part, *[arrays[i] for i in which])[1](seeds)

    return jaxprs.trace(run, arrays, seeds).program


def add_bar(value: Value, bar: Any) -> None:
    if bar is not None and value.active and is_inexact(value.array):
        value.bar = bar if value.bar is None else value.bar + bar
