"""What the classics share: params in the notation of the texts, plain descent in one compiled scan, the page of a text."""

from __future__ import annotations

import functools
import pathlib
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import jaxbp as bp
from experiments import published, runs, terminal
from experiments.config import Study, UsageError
from jaxbp.page.charts import Series
from jaxbp.page.document import Section, document
from jaxbp.page.markup import element
from jaxbp.page.plane import Points, Surface
from jaxbp.page.rows import Dots
from jaxbp.page.tables import Column
from jaxbp.page.wiring import Node


MADE = "Made by jaxbp; this file needs no other."


class Claim(NamedTuple):
    """A sentence that is said and is not so. truth: what is so. measured: what the run gave. refuted: whether that refutes it."""

    sentence: str
    source: str
    truth: str
    measured: str
    refuted: bool

    @property
    def answer(self) -> str:
        return f"{self.truth} {self.measured[:1].upper()}{self.measured[1:]}."


class Story(NamedTuple):
    """A text as it was run here. lead: what it is. numbers: published beside ours. sections: of the page. summary: for JSON."""

    title: str
    lead: str
    numbers: Sequence[published.Number]
    sections: Sequence[Section]
    summary: dict[str, Any]
    claims: Sequence[Claim] = ()

    @property
    def missed(self) -> list[str]:
        return [
            *published.missed(self.numbers),
            *(f"not refuted: {c.sentence}: {c.measured}" for c in self.claims if not c.refuted),
        ]


def present(name: str, options: Study, tell: Callable[[Any], Story]) -> int:
    """Tell the story in float64 and write its run folder.

    Returns the exit status: 1 where a number is not the published one, or a claim is not refuted.
    """
    with runs.opened(name, options) as folder, jax.enable_x64(True):
        story = tell(options)
        told, head = (_of_claims if story.claims else _of_numbers)(story)
        terminal.section(story.title, told)
        facts = {"experiment": name, "numbers": published.to_json(story.numbers), "missed": story.missed, **story.summary}
        if story.claims:
            facts["claims"] = [claim._asdict() for claim in story.claims]
        folder.write_json("summary.json", facts)
        folder.write("report.html", document(story.title, [head, *story.sections], lead=story.lead, footer=MADE))
        print(f"\nReport: {folder.path / 'report.html'}", flush=True)
        for line in story.missed:
            print(f"error: {line}", file=sys.stderr)
        return 1 if story.missed else 0


def _of_numbers(story: Story) -> tuple[str, Section]:
    """For the terminal, and for the page."""
    table = published.table(story.numbers, digits=10)
    return table.to_text(140), Section("Numbers", [table.to_html()], "What the text publishes beside what came out here.")


def _of_claims(story: Story) -> tuple[str, Section]:
    lines = [f"{'refuted' if c.refuted else 'NOT REFUTED'}: “{c.sentence}” ({c.source}). {c.answer}" for c in story.claims]
    told = "\n".join(textwrap.fill(line, 120, subsequent_indent="    ") for line in lines)
    blocks = [element("p", element("strong", f"“{c.sentence}”"), f" ({c.source}). {c.answer}") for c in story.claims]
    return told, Section("In short", blocks, "Each sentence, what is so instead, and what its run gave.")


def half_unit(decimals: int) -> float:
    """Half a unit of the last printed place, and a hair for its own rounding."""
    return 0.5000001 * 10.0**-decimals


def dense(rows: Any, biases: Any) -> bp.Dense:
    """Params of a dense layer from the texts' W, one row of weights for each neuron: w is W transposed."""
    return bp.Dense(jnp.asarray(rows, float).T, jnp.asarray(biases, float))


def sigmoid_net(*sizes: int, w_init: Any = None, bias: bool = True) -> bp.Layer:
    """dense, sigmoid, dense, sigmoid, ...: the net of most of the texts. w_init draws the biases too, as they do."""
    draw = {"w_init": w_init, "b_init": w_init} if w_init is not None else {}
    return bp.serial(*(layer for size in sizes for layer in (bp.dense(size, bias=bias, **draw), bp.sigmoid())))


def starts(net: bp.Layer, features: int, seed: int, n: int) -> Any:
    """Params of n random starts, stacked."""
    return _starts(net, features, n, seed)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _starts(net: bp.Layer, features: int, n: int, seed: Any) -> Any:
    keys = jax.random.split(jax.random.key(seed), n)
    return jax.vmap(lambda key: net.init(key, jax.ShapeDtypeStruct((features,), jnp.float64))[0])(keys)


@functools.partial(jax.jit, static_argnums=0)
def activations(net: bp.Layer, params: Any, x: Any) -> tuple[jax.Array, jax.Array]:
    """Of every start: the activations of the first hidden layer and the outputs, for a net of dense, sigmoid, ..."""
    first = bp.serial(*net.parts[:2])
    return jax.vmap(lambda p: (first(p[:2], x), net(p, x)))(params)


def nothing(params: Any) -> tuple:
    return ()


def everything(params: Any) -> Any:
    return params


@functools.partial(
    jax.jit, static_argnames=("net", "loss", "passes", "momentum", "batch_size", "every", "watch", "reduction", "decay_biases")
)
def descend(
    params: Any,
    x: jax.Array,
    targets: jax.Array,
    rate: Any,
    decay: Any = None,
    *,
    net: bp.Layer,
    loss: Any,
    passes: int,
    momentum: float = 0.0,
    batch_size: int | None = None,
    every: int = 1,
    watch: Callable = nothing,
    reduction: str = "sum",
    decay_biases: bool = False,
) -> tuple[Any, Any]:
    """w <- w - rate dE/dw + momentum (the update before), rows in their order, in one compiled scan.

    batch_size: 1 for case updating, None for one update a pass by the gradient over all rows; it divides their number.
    decay: the λ of a penalty λ/2 Σ w² on the weights, with decay_biases on the biases too.
    Returns: params after `passes` passes, and what `watch(params)` gave before the first and after every `every` passes.
    """
    penalty = None if decay is None else bp.penalties.l2(decay, biases=decay_biases)
    gradient = bp.value_and_grad(net, loss, reduction=reduction, penalty=penalty)
    optimizer = optax.sgd(rate, momentum or None)
    size = batch_size or len(x)
    batches = jax.tree.map(lambda rows: rows.reshape(len(x) // size, size, *rows.shape[1:]), (x, targets))

    def update(carry: tuple, batch: tuple) -> tuple[tuple, None]:
        params, state = carry
        updates, state = optimizer.update(gradient(params, *batch)[1], state)
        return (optax.apply_updates(params, updates), state), None

    def some_passes(carry: tuple, _: None) -> tuple[tuple, Any]:
        one_pass = lambda _, c: lax.scan(update, c, batches)[0] if size < len(x) else update(c, (x, targets))[0]
        carry = lax.fori_loop(0, every, one_pass, carry)
        return carry, watch(carry[0])

    first = watch(params)
    (params, _), seen = lax.scan(some_passes, (params, optimizer.init(params)), length=passes // every)
    return params, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, seen)


@functools.cache
def side_by_side(axes: tuple = (0, None, None, None, None), **how: Any) -> Callable:
    """`descend` with that keyword for many runs at once, over the axes of (params, x, targets, rate, decay)."""
    return jax.jit(jax.vmap(functools.partial(descend, **how), in_axes=axes))


def one_of(stacked: Any, i: int) -> Any:
    return jax.tree.map(lambda a: a[i], stacked)


def surface(
    net: bp.Layer, params: Any, x: tuple[float, float], y: tuple[float, float], threshold: float, **names: str
) -> Surface:
    """The first output of a net of two inputs over a rectangle, 80 by 80 cells."""
    n = 80
    middles = [low + (np.arange(n) + 0.5) * (high - low) / n for low, high in (x, y)]
    points = np.stack(np.meshgrid(*middles), -1).reshape(-1, 2)
    values = np.asarray(jax.jit(net)(params, jnp.asarray(points)))[:, 0].reshape(n, n)
    return Surface(values.tolist(), x, y, threshold, **names)


def curve(name: str, values: Any, x: Any = None, *, each: Any = (), each_name: str = "run") -> Series:
    """A series of a line chart, from arrays."""
    listed = lambda a: np.asarray(a, float).tolist()
    return Series(name, listed(values), None if x is None else listed(x), [listed(run) for run in each], each_name)


def points(name: str, x: Any, y: Any) -> Points:
    return Points(name, np.asarray(x, float).tolist(), np.asarray(y, float).tolist())


def dot_row(name: str, values: Any) -> Dots:
    return Dots(name, np.asarray(values, float).tolist())


def units(names: Sequence[str], **notes: Any) -> list[Node]:
    """Nodes with a line for each note: "bias -0.4", "out 0.332"."""
    written = lambda value: f"{float(value):.3f}".replace("-", "−")
    return [Node(name, [f"{what} {written(values[i])}" for what, values in notes.items()]) for i, name in enumerate(names)]


def bits(n: int) -> np.ndarray:
    """All 2^n patterns of n bits, in rising order."""
    return (np.arange(2**n)[:, None] >> np.arange(n)[::-1]) & 1


def pattern(row: Any) -> str:
    return "".join(str(int(bit)) for bit in row)


def data_file(folder: pathlib.Path, name: str, what: str, how: str) -> pathlib.Path:
    """The file in the data folder. Raises: UsageError that says where it was looked for and how to get it."""
    path = folder / name
    if not path.is_file():
        raise UsageError(f"--data-dir {folder}: {what}: looked for {path.absolute()}, there is no such file; {how}")
    return path


def digits(name: str, n: int) -> Column:
    return Column(name, digits=n)
