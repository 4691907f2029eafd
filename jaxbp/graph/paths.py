"""explain: the derivative of a scalar output by one entry of an argument, as the sum over all paths between them.

d out / d x = sum over paths x -> v1 -> ... -> out of (dv1/dx)(dv2/dv1)...(dout/dvk), v single entries of arrays. Paths
that hold a factor 0 are not counted: they add nothing.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs
from jaxbp.graph import doors
from jaxbp.graph.columns import columns
from jaxbp.graph.nodes import step_name
from jaxbp.graph.tape import Step, Value, is_inexact
from jaxbp.page.tables import Table


MOST = 64  # paths that are written out
_COLUMNS = 4096  # entries of one operand whose columns of the Jacobian are taken at a time


class Entry(NamedTuple):
    """One entry of one value; `step` is None for the argument."""

    value: Value
    at: int
    step: Step | None

    @property
    def name(self) -> str:
        base = self.value.name if self.step is None else step_name(self.step)
        index = np.unravel_index(self.at, jnp.shape(self.value.array)) if jnp.shape(self.value.array) else ()
        return f"{base}[{', '.join(str(int(i)) for i in index)}]" if index else base

    @property
    def place(self) -> str:
        return doors.place_of(self.step)[0] if self.step else ""


@dataclasses.dataclass(frozen=True, eq=False)
class Route:
    """One path: its entries from the argument to the output, and the partial derivative along each edge."""

    entries: tuple[Entry, ...]
    factors: tuple[float, ...]

    @property
    def product(self) -> float:
        return math.prod(self.factors)

    def by_line(self) -> list[tuple[str, float]]:
        """(line, product of its factors), one for each run of edges into the same line, from the output to the argument."""
        lines: list[tuple[str, float]] = []
        for entry, factor in zip(reversed(self.entries), reversed(self.factors), strict=False):
            if lines and lines[-1][0] == entry.place:
                lines[-1] = entry.place, lines[-1][1] * factor
            else:
                lines.append((entry.place, factor))
        return lines

    def __str__(self) -> str:
        factors = [(pathlib.Path(place).name, factor) for place, factor in self.by_line()]
        told = " · ".join(f"{factor:.9g}" for _, factor in factors)
        return f"{told} = {self.product:.9g}    ({', '.join(place or '?' for place, _ in factors)})"


class Derivative(NamedTuple):
    """d of / d by: `partial` over the paths that pass no other named value, `total` over all of them."""

    of: str
    by: str
    partial: float
    total: float


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """d output / d one entry, taken apart.

    Fields:
      name: the entry. out: the output's value.
      total: the derivative; the sum over the paths' products.
      count: how many paths there are, none with a factor 0.
      derivatives: partial and total, between the entry, what `checkpoint_name` names on the way, and the output.
    """

    name: str
    out: float
    total: float
    count: int
    derivatives: tuple[Derivative, ...]
    most: int
    _edges: dict
    _start: Entry | None
    _end: tuple

    @property
    def paths(self) -> tuple[Route, ...]:
        """Every path. Raises: ValueError, with their number, where there are more than `most`."""
        if self.count > self.most:
            raise ValueError(
                f"explain: {self.count:,} paths lead from {self.name} to the output, too many to write out "
                f"(at most {self.most:,}); explain(..., most={self.count}) writes them all"
            )
        return tuple(self._routes()) if self._start is not None and self.count else ()

    def _routes(self) -> Iterator[Route]:
        stack: list[tuple] = [((self._start,), ())]
        while stack:
            entries, factors = stack.pop()
            key = entries[-1].value, entries[-1].at
            if key == self._end:
                yield Route(entries, factors)
                continue
            for entry, factor in reversed(self._edges.get(key, ())):
                stack.append(((*entries, entry), (*factors, factor)))

    def __str__(self) -> str:
        plural = "path" if self.count == 1 else "paths"
        lines = [f"d output / d {self.name} = {self.total:.9g}, over {self.count:,} {plural} (output {self.out:.9g})"]
        if self.count <= self.most:
            lines += [f"  {route}" for route in self.paths]
        else:
            lines.append(f"  too many to write out (more than {self.most:,})")
        if len(self.derivatives) > 1:
            rows = [(f"d {d.of} / d {d.by}", d.partial, d.total) for d in self.derivatives]
            lines.append(str(Table(["derivative", "partial", "total"], rows)))
        return "\n".join(lines)


def explain(fun: Callable, argument: int | str = 0, index: Any = (), *, most: int = MOST) -> Callable[..., Explanation]:
    """d fun(*args) / d argument[index] = sum over all paths of the product of their local derivatives.

    Args:
      fun: a function of pytrees of arrays with a scalar output.
      argument: the position of an argument that is an array, or the path of a leaf such as 'params[0].w'.
      index: the entry, a tuple of integers.
      most: how many paths may be written out; more are counted.

    Returns: a function of the arguments that gives an `Explanation`. Work: one Jacobian column for each entry that the
    chosen entry reaches.
    Raises: as `adjoints`; KeyError for an argument, IndexError for an entry that is not there; TypeError where complex
    numbers lie on the way.

    >>> from jax.ad_checkpoint import checkpoint_name
    >>> def f(a):
    ...     b1 = checkpoint_name(2 * a, "b1")
    ...     b2 = checkpoint_name(3 * a + b1, "b2")
    ...     return 4 * b1 + 5 * b2
    >>> told = explain(f, "a")(1.0)
    >>> told.total, told.count, [d for d in told.derivatives if (d.of, d.by) == ("b2", "a")]
    (33.0, 3, [Derivative(of='b2', by='a', partial=3.0, total=5.0)])
    """

    def explained(*args: Any) -> Explanation:
        run = doors.forward("explain", fun, args)
        doors.seed("explain", run, None)
        start = _start(run, args, argument, index)
        return _explanation(run, start, most)

    return explained


def _start(run: doors.Run, args: Sequence, argument: int | str, index: Any) -> Entry:
    name = argument
    if isinstance(argument, int):
        sizes = [len(jax.tree.leaves(arg)) for arg in args]
        if not 0 <= argument < len(args) or sizes[argument] != 1:
            raise KeyError(f"explain: argument {argument} is no array; the leaves are {', '.join(run.names)}")
        name = run.names[sum(sizes[:argument])]
    found = [value for value in run.tape.inputs if value.name == name]
    if not found:
        raise KeyError(f"explain: no argument {argument!r}; the leaves are {', '.join(run.names)}")
    (value,), index = found, (index,) if isinstance(index, int) else tuple(index)
    shape = jnp.shape(value.array)
    if not is_inexact(value.array):
        raise TypeError(f"explain: {name} is {inputs.describe(value.array)}, which has no derivative")
    if len(index) != len(shape) or any(not -n <= i < n for i, n in zip(index, shape, strict=True)):
        raise IndexError(f"explain: index {index} for {name} of shape {shape}")
    at = int(np.ravel_multi_index([i % n for i, n in zip(index, shape, strict=True)], shape)) if shape else 0
    return Entry(value, at, None)


def _explanation(run: doors.Run, start: Entry, most: int) -> Explanation:
    (out,) = run.tape.outputs
    end: tuple[Value, int] = (out, 0)
    order, edges = _reached(run.tape.steps, start)
    counts: dict[tuple[Value, int], int] = {end: 1}
    totals: dict[tuple[Value, int], float] = {end: 1.0}
    for entry in reversed(order):
        key = entry.value, entry.at
        if key != end:
            counts[key] = sum(counts.get((to.value, to.at), 0) for to, _ in edges.get(key, ()))
            totals[key] = sum(f * totals[to.value, to.at] for to, f in edges.get(key, ()) if counts.get((to.value, to.at)))
    lead = {
        key: [(to, f) for to, f in onward if counts.get((to.value, to.at))] for key, onward in edges.items() if counts.get(key)
    }
    origin = start.value, start.at
    named = [e for e in order if counts.get((e.value, e.at)) and (e is start or _is_named(e) or (e.value, e.at) == end)]
    derivatives = _derivatives(order, lead, named, end) if len(named) <= 40 else ()
    return Explanation(
        start.name, float(out.array), totals.get(origin, 0.0), counts.get(origin, 0), derivatives, most, lead, start, end
    )


def _is_named(entry: Entry) -> bool:
    return entry.step is not None and entry.step.eqn.primitive.name == "name"


def _reached(steps: Sequence[Step], start: Entry) -> tuple[list[Entry], dict]:
    """The entries that `start` reaches, in order, and the edges out of each: (entry, local derivative)."""
    order, edges = [start], {}
    reached: dict[Value, dict[int, Entry]] = {start.value: {start.at: start}}
    for step in steps:
        new: dict[tuple[int, int], Entry] = {}
        for value in dict.fromkeys(step.ins):  # an operand that stands twice has one edge, the sum of both
            for first in range(0, len(reached.get(value, ())), _COLUMNS):
                entries = list(reached[value].values())[first : first + _COLUMNS]
                for k, block in enumerate(columns(step, value, [e.at for e in entries])):
                    for row, at in zip(*np.nonzero(block), strict=True):
                        to = new.setdefault((k, int(at)), Entry(step.outs[k], int(at), step))
                        source = entries[row]
                        edges.setdefault((source.value, source.at), []).append((to, float(block[row, at])))
        for (k, at), entry in sorted(new.items()):
            order.append(entry)
            reached.setdefault(step.outs[k], {})[at] = entry
    return order, edges


def _derivatives(order: list[Entry], edges: dict, named: list[Entry], end: tuple) -> tuple[Derivative, ...]:
    """Between every two of `named`: over the paths that pass no other of them, and over all."""
    stops = {(e.value, e.at) for e in named}
    names = {(e.value, e.at): "output" if (e.value, e.at) == end and not _is_named(e) else e.name for e in named}
    found = []
    for by in named:
        source = by.value, by.at
        partial, total = {source: 1.0}, {source: 1.0}
        for entry in order:
            key = entry.value, entry.at
            for to, factor in edges.get(key, ()):
                target = to.value, to.at
                if key in total:
                    total[target] = total.get(target, 0.0) + total[key] * factor
                if key in partial and (key == source or key not in stops):
                    partial[target] = partial.get(target, 0.0) + partial[key] * factor
        for of in named:
            key = of.value, of.at
            if key != source and key in total:
                found.append(Derivative(names[key], names[source], partial.get(key, 0.0), total[key]))
    return tuple(found)
