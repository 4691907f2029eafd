"""adjoints: every intermediate of a run with its value and its adjoint."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import jaxprs
from jaxbp.graph import doors
from jaxbp.graph.reverse import Reverse
from jaxbp.graph.tape import Step, Tape, Value, is_inexact, is_plain
from jaxbp.page.markup import Markup
from jaxbp.page.tables import Table


class Statistics(NamedTuple):
    """Over the finite entries: smallest, largest, mean size. Over all: how many are 0, and how many NaN or infinite."""

    min: float
    max: float
    mean_abs: float
    zeros: int
    nonfinite: int


def statistics(array: Any) -> Statistics | None:
    """Statistics of a real array; None for one without entries, of complex numbers, or of keys."""
    if array is None or not np.size(array) or not is_plain(array):
        return None
    data = np.asarray(array)
    if np.iscomplexobj(data):
        return None
    data = data.astype(np.float64)
    finite = data[np.isfinite(data)]
    zeros, bad = int((data == 0).sum()), data.size - finite.size
    if not finite.size:
        return Statistics(np.nan, np.nan, np.nan, zeros, bad)
    return Statistics(float(finite.min()), float(finite.max()), float(np.abs(finite).mean()), zeros, bad)


class Sent(NamedTuple):
    """An edge: operand `operand` of the node is node `source`; `bar` is what the node sends back along it, or None."""

    source: int
    operand: int
    bar: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One array of the run.

    Fields:
      index: its place in `Graph.nodes`, which is the order in which the values were made.
      kind: "argument", "constant" or "equation".
      name: the argument's path ('params[0].w'), the name given by `jax.ad_checkpoint.checkpoint_name`, or the primitive.
      primitive: '' for arguments and constants.
      place, function: 'file.py:12' and the function around it.
      path, turns: what it is inside of, and the iteration of each loop around, outermost first.
      value: the array. adjoint: d output / d value (with `cotangent`, of <cotangent, output>); None where the output
        does not depend on it, or it has no derivative (integers, booleans).
      how: by what its adjoint goes on to its operands: "own rule", "jax.vjp of the primitive", "custom rule", "rows of a
        scan", "no derivative"; '' where nothing went on.
      opened: inside a custom rule. Its adjoint is then the one without the rule: the rule itself knows no such value.
      edges: from its operands.
    """

    index: int
    kind: str
    name: str
    primitive: str
    place: str
    function: str
    path: tuple[str, ...]
    turns: tuple[int, ...]
    value: Any
    adjoint: Any
    how: str
    opened: bool
    edges: tuple[Sent, ...] = ()

    @functools.cached_property
    def value_statistics(self) -> Statistics | None:
        return statistics(self.value)

    @functools.cached_property
    def adjoint_statistics(self) -> Statistics | None:
        return statistics(self.adjoint)

    def __repr__(self) -> str:
        return f"<node {self.index}: {self.name} at {self.place or '-'}>"


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A run with all its adjoints.

    Fields:
      nodes: in the order in which their values were made; constants stand before their first use.
      value: what the function gave. outputs: the indices of its nodes.
      grads: a tuple like the arguments: the adjoint of every floating leaf (zeros where nothing depends on it), None for others.
    """

    nodes: tuple[Node, ...]
    value: Any
    outputs: tuple[int, ...]
    grads: Any

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def named(self, name: str) -> list[Node]:
        """The nodes of that name: an argument, a `checkpoint_name`, or a primitive."""
        found = [node for node in self.nodes if node.name == name]
        if not found:
            known = ", ".join(dict.fromkeys(node.name for node in self.nodes))
            raise KeyError(f"no node is named {name!r}; there are {known}")
        return found

    def at(self, place: str) -> list[Node]:
        """The nodes made by a line: 'model.py:12', or a longer end of its path."""
        return [node for node in self.nodes if node.place == place or node.place.endswith(f"/{place}")]

    def table(self, *, constants: bool = False) -> Table:
        """A row for every node."""
        rows = [_row(node) for node in self.nodes if constants or node.kind != "constant"]
        columns = ["node", "line", "in", "shape", "value: min", "max", "mean abs", "adjoint: min", "max", "mean abs"]
        columns += ["zeros", "not finite", "back by"]
        return Table(columns, rows, note="zeros and not finite: of the adjoint, or of the value where that has none")

    def __str__(self) -> str:
        return self.table().to_text(170)

    def to_html(self) -> Markup:
        return self.table().to_html()

    _repr_html_ = to_html


def _row(node: Node) -> tuple:
    value, adjoint = node.value_statistics, node.adjoint_statistics
    three = lambda s: (s.min, s.max, s.mean_abs) if s else (None, None, None)
    counted = adjoint or value
    counts = (counted.zeros, counted.nonfinite) if counted else (None, None)
    inside = " > ".join(label.partition(" at ")[0] for label in node.path)
    turn = f" [{', '.join(map(str, node.turns))}]" if node.turns else ""
    place = pathlib.Path(node.place).name
    shape = tuple(np.shape(node.value))
    return (f"{node.index} {node.name}", place, inside + turn, shape, *three(value), *three(adjoint), *counts, node.how)


def adjoints(fun: Callable, *, cotangent: Any = None) -> Callable[..., Graph]:
    """v_bar = d fun(*args) / d v for every value v on the way, by reverse accumulation over the traced program.

    x_bar = sum over all uses y = op(..., x, ...) of (dy/dx)^T y_bar. Jit, scan, while, cond, remat and custom rules are
    entered: in a loop every iteration has nodes of its own. Memory: every intermediate is kept.

    Args:
      fun: a function of pytrees of arrays with a scalar output.
      cotangent: the adjoint of the output, a tree like it; needed where the output is not a scalar.

    Returns: a function of the arguments that gives a `Graph`.
    Raises: TypeError where no argument is a floating-point array; ValueError for an output that is no scalar without
      `cotangent`, or a `cotangent` of another structure or shape.

    A value that is used twice gets both adjoints:
    >>> graph = adjoints(lambda a: a + a)(3.0)
    >>> float(graph.grads[0])
    2.0
    """

    def graph(*args: Any) -> Graph:
        run = doors.forward("adjoints", fun, args)
        doors.seed("adjoints", run, cotangent)
        Reverse(opened=True).run(run.tape)
        return graph_of(run)

    return graph


def graph_of(run: doors.Run) -> Graph:
    """The nodes of a tape whose adjoints are there."""
    builder = _Builder()
    for value in run.tape.inputs:
        builder.add(value, "argument", value.name)
    builder.tape(run.tape, opened=False)
    for value in run.tape.outputs:
        builder.of(value)
    value = jax.tree.unflatten(run.out_tree, [out.array for out in run.tape.outputs])
    grads = jax.tree.unflatten(run.in_tree, [_grad(v) for v in run.tape.inputs])
    return Graph(tuple(builder.nodes), value, tuple(builder.of(out) for out in run.tape.outputs), grads)


def _grad(value: Value) -> Any:
    if not is_inexact(value.array):
        return None
    return jnp.zeros_like(value.array) if value.bar is None else value.bar


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._index: dict[Value, int] = {}

    def add(self, value: Value, kind: str, name: str, **fields: Any) -> int:
        told: dict[str, Any] = {"primitive": "", "place": "", "function": "", "path": (), "turns": (), "how": "", "opened": False}
        self._index[value] = len(self.nodes)
        self.nodes.append(Node(len(self.nodes), kind, name, value=value.array, adjoint=value.bar, **(told | fields)))
        return self._index[value]

    def of(self, value: Value) -> int:
        """The node of a value; one that no step made is a constant."""
        return self._index[value] if value in self._index else self.add(value, "constant", "constant")

    def tape(self, tape: Tape, *, opened: bool) -> None:
        for step in tape.steps:
            sources = [self.of(value) for value in step.ins]
            if step.inner is not None:
                for copy, source in zip(step.inner.inputs, sources, strict=True):
                    self._index[copy] = source
                self.tape(step.inner, opened=True)
            sent: Sequence = step.sent or [None] * len(sources)
            edges = tuple(Sent(s, i, bar) for i, (s, bar) in enumerate(zip(sources, sent, strict=True)))
            place, function = doors.place_of(step)
            told: dict[str, Any] = {"place": place, "function": function, "path": step.path, "turns": step.turns}
            told |= {"how": step.how, "opened": opened, "primitive": step.eqn.primitive.name, "edges": edges}
            for out in step.outs:
                self.add(out, "equation", step_name(step), **told)


def step_name(step: Step) -> str:
    """What a step is called: a name that the user gave, the rule's function, the primitive."""
    if step.kind == "rule":
        return jaxprs.definition(step.eqn)[0] or step.eqn.primitive.name
    if step.kind in ("stack", "unstack"):
        return f"{step.kind} rows"
    return str(step.eqn.params["name"]) if step.eqn.primitive.name == "name" else step.eqn.primitive.name
