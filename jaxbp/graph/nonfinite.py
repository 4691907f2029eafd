"""find_nonfinite: where a function, and where its backward pass, first leaves the finite numbers.

A step is the first place when it makes an infinity of finite operands, or a NaN of operands without one. An infinity that
is a constant of the program (a mask of -inf) is meant, and what only passes it on is no fault.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbp import inputs, jaxprs
from jaxbp.graph import doors
from jaxbp.graph.reverse import Reverse
from jaxbp.graph.tape import Step, Value, is_inexact, is_plain
from jaxbp.page.tables import number


@dataclasses.dataclass(frozen=True)
class Operand:
    """What a faulty step took: its name, its entry at the faulty index (None where it has no such entry), all of it."""

    name: str
    entry: Any
    array: Any

    def __str__(self) -> str:
        if self.entry is not None:
            return f"{self.name} = {self.entry}"
        return f"{self.name} = {inputs.describe(self.array)}, {_range(self.array)}"


@dataclasses.dataclass(frozen=True)
class Fault:
    """The first value of a pass that is not finite.

    Fields:
      where: "forward" or "backward".
      place, function: the line that did it, 'file.py:12', and the function around it.
      primitive: what that line did; in a backward pass, what is being differentiated, or a line of a custom rule.
      path: what the line is inside of: jit, scan body, branch 1, rule f, outermost first.
      turns: the iteration of each loop around, outermost first, counted from 0.
      index, value: the first entry that is not finite.
      operands: the values that did it.
      reaches: whether the output (forward), or a gradient (backward), is not finite in the end.
    """

    where: str
    place: str
    function: str
    primitive: str
    path: tuple[str, ...]
    turns: tuple[int, ...]
    index: tuple[int, ...]
    value: Any
    operands: tuple[Operand, ...]
    reaches: bool = True

    def __str__(self) -> str:
        inside = f", inside {' > '.join(self.path)}" if self.path else ""
        turn = f", iteration {', '.join(map(str, self.turns))}" if self.turns else ""
        entry = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        at = f"{self.place} ({self.function})" if self.function else self.place or "an unknown place"
        did = f"{'derivative of ' if self.where == 'backward' else ''}{self.primitive}"
        lines = [f"{self.where}: {at}{inside}{turn}", f"  {did} gives {self.value}{' at ' + entry if entry else ''} of"]
        lines += [f"    {operand}" for operand in self.operands]
        if not self.reaches:
            lines.append(f"  It does not reach the {'output' if self.where == 'forward' else 'gradient'}.")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Nonfinite:
    """What `find_nonfinite` found: a fault of each pass, None for a pass that stays finite."""

    forward: Fault | None
    backward: Fault | None

    def __bool__(self) -> bool:
        return self.forward is not None or self.backward is not None

    def __str__(self) -> str:
        pair = (("forward", self.forward), ("backward", self.backward))
        return "\n".join(str(fault or f"{name}: every value is finite") for name, fault in pair)


class _Watch:
    """Keeps the first fault of one pass."""

    def __init__(self, where: str):
        self.where, self.fault = where, None

    def forward(self, step: Step, around: Step | None = None) -> None:
        """A step that ran; `around` is the step of the custom rule whose backward program it belongs to."""
        if self.fault is None and step.kind == "plain":
            self._check(step, [v.array for v in step.outs], [(f"operand {i}", v.array) for i, v in enumerate(step.ins)], around)

    def backward(self, step: Step, bars: Sequence) -> None:
        if self.fault is not None or step.kind in ("stack", "unstack"):
            return
        cotangents = [(_numbered("cotangent", i, step.outs), v.bar) for i, v in enumerate(step.outs) if v.bar is not None]
        operands = [(f"operand {i}", v.array) for i, v in enumerate(step.ins)]
        if not self._check(step, bars, [*cotangents, *operands], None, born_of=[bar for _, bar in cotangents]):
            self._sums(step, bars)

    def _sums(self, step: Step, bars: Sequence) -> None:
        """Adjoints of two uses may be finite where their sum is not."""
        for i, (value, bar) in enumerate(zip(step.ins, bars, strict=True)):
            if bar is None or value.bar is None:
                continue
            parts = [("adjoint so far", value.bar), (f"adjoint sent to operand {i}", bar)]
            if self._check(step, [value.bar + bar], parts, None):
                return

    def within(self, step: Step) -> Callable:
        """A watch for the backward program of a custom rule."""
        return lambda inner: self.forward(inner, step)

    def arguments(self, values: Iterable[Value]) -> None:
        for value in values:
            index = first_bad(value.array) if self.fault is None else None
            if index is not None:
                entry = _entry(value.array, index)
                operand = Operand(value.name, entry, value.array)
                self.fault = Fault(self.where, "", "", f"argument {value.name}", (), (), index, entry, (operand,))

    def _check(self, step: Step, results: Sequence, operands: list, around: Step | None, born_of: Any = None) -> bool:
        for result in results:
            index = first_bad(result) if result is not None else None
            if index is None:
                continue
            if _passed_on(result, [a for _, a in operands] if born_of is None else born_of):
                continue
            self.fault = _fault(self.where, step, around, index, result, operands)
            return True
        return False


def _fault(where: str, step: Step, around: Step | None, index: tuple, result: Any, operands: list) -> Fault:
    place, function = doors.place_of(step)
    if not place and around is not None:
        place, function = doors.place_of(around)
    turns = around.turns if around is not None else step.turns
    shape = jnp.shape(result)
    told = tuple(Operand(name, _entry(a, index if jnp.shape(a) == shape else ()), a) for name, a in operands)
    path = tuple(step.path)
    if around is not None:
        path = (*around.path, _rule_label(around), *path[len(around.path) :])
    return Fault(where, place, function, step.eqn.primitive.name, path, turns, index, _entry(result, index), told)


def _rule_label(step: Step) -> str:
    return jaxprs.programs(step.eqn)[0][0]


def _numbered(word: str, i: int, among: Sequence) -> str:
    return f"{word} {i}" if len(among) > 1 else word


def _entry(array: Any, index: tuple) -> Any:
    """An entry as a number; None where the array has no such entry."""
    if jnp.ndim(array) != len(index) or not is_plain(array):
        return None
    return np.asarray(array)[index].item()


def _range(array: Any) -> str:
    if not is_plain(array) or jnp.iscomplexobj(array):
        return "values without an order"
    data = np.asarray(array)
    return f"{number(data.min())} to {number(data.max())}" if data.size and data.dtype != bool else "no entries"


def first_bad(array: Any) -> tuple[int, ...] | None:
    """The index of the first entry that is NaN or infinite."""
    if not is_inexact(array):
        return None
    bad = ~np.isfinite(np.asarray(array))
    return tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)) if bad.any() else None


def _passed_on(result: Any, operands: Sequence) -> bool:
    """Whether nothing new went wrong: a NaN has an operand with a NaN, an infinity one that is not finite."""
    kinds = [np.asarray(a) for a in operands if is_inexact(a)]
    if np.isnan(np.asarray(result)).any():
        return any(np.isnan(a).any() for a in kinds)
    return any(not np.isfinite(a).all() for a in kinds)


def find_nonfinite(fun: Callable, *, cotangent: Any = None) -> Callable[..., Nonfinite]:
    """The first equation of fun(*args), and the first of its backward pass, that leaves the finite numbers.

    `find_nonfinite(fun)(*args)` runs both passes equation by equation: jit, scan (the iteration is named), while, cond,
    remat and custom rules are entered; of a custom rule the line of the rule is named.

    Args:
      fun: a function of pytrees of arrays with a scalar output.
      cotangent: a tree like the output, where that is not a scalar.

    Returns: a function of the arguments that gives a `Nonfinite`: `forward` and `backward`, each a `Fault` or None.
    Raises: as `adjoints`.

    >>> import jax.numpy as jnp
    >>> found = find_nonfinite(lambda x: jnp.sqrt(x) * 2.0)(0.0)
    >>> found.forward, found.backward.primitive, found.backward.value
    (None, 'sqrt', inf)
    """

    def found(*args: Any) -> Nonfinite:
        ahead, back = _Watch("forward"), _Watch("backward")
        run = doors.forward("find_nonfinite", fun, args, ahead.forward, ahead.arguments)
        doors.seed("find_nonfinite", run, cotangent)
        Reverse(back.backward, back.within).run(run.tape)
        reached = [v.array for v in run.tape.outputs], [v.bar for v in run.tape.inputs if v.bar is not None]
        return Nonfinite(*(_reaching(watch.fault, arrays) for watch, arrays in zip((ahead, back), reached, strict=True)))

    return found


def _reaching(fault: Fault | None, arrays: Sequence) -> Fault | None:
    return fault and dataclasses.replace(fault, reaches=any(first_bad(a) is not None for a in arrays))
