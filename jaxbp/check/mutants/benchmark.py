"""Runs the tools on every planted bug and every correct function, and says what came out, in 100 columns."""

from __future__ import annotations

import dataclasses
import statistics
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Correct, Mutant
from jaxbp.check.mutants.tools import Outcome, run_tool


WIDTH = 100
NO_CAUSE = ("none", "localised")  # first hints that name no cause


@dataclasses.dataclass(frozen=True)
class Record:
    """One tool on one entry with one seed. `expected` is the hint of a planted bug, None for a correct function."""

    tool: str
    dtype: str
    entry: str
    expected: str | None
    seed: int
    outcome: Outcome

    @property
    def planted(self) -> bool:
        return self.expected is not None

    @property
    def detected(self) -> bool:
        """A planted bug that is a "fail"; or, where the structure of the cotangents is wrong, JAX's own refusal."""
        refused = self.outcome.verdict == "error" and self.expected == "structure"
        return self.planted and (self.outcome.verdict == "fail" or refused)

    @property
    def first_hint(self) -> str:
        return next(iter(self.outcome.hints), "none")

    def to_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("tool", "dtype", "entry", "expected", "seed", "detected")}
        return {**fields, **self.outcome._asdict()}


def run(entries: Iterable[Mutant | Correct], tools: Sequence[str], dtypes: Sequence[str], seeds: int) -> Iterator[Record]:
    """Entry by entry, so that the first seed of each is cold: the compiled programs are dropped between entries."""
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            for entry in entries:
                yield from run_entry(entry, tools, dtype, seeds)
                jax.clear_caches()


def run_entry(entry: Mutant | Correct, tools: Sequence[str], dtype: str, seeds: int) -> Iterator[Record]:
    expected = entry.hint if isinstance(entry, Mutant) else None
    for seed in range(seeds):
        check = entry.build(jax.random.key(seed), jnp.dtype(dtype))
        for tool in tools:
            yield Record(tool, dtype, f"{entry.area}: {entry.name}", expected, seed, run_tool(tool, check, seed))


# --- the text

ROW = "{:<11} {:<7} {:>16} {:>14} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6}"
ABOVE = "{:<11} {:<7} {:>16} {:>14} {:>15} {:>7} {:>6} {:>6} {:>6}"
HEADS = (
    ABOVE.format("", "", "detected", "false alarms", "inconclusive on", "not", "cold s", "worst", "warm s"),
    ROW.format("tool", "dtype", "of planted bugs", "of correct", "bugs", "correct", "run", "median", "s", "median"),
)


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def share(part: int, whole: int) -> str:
    return f"{part}/{whole} {percent(part, whole)}" if whole else "-"


def count(records: Iterable[Record], verdict: str) -> int:
    return sum(r.outcome.verdict == verdict for r in records)


def groups(records: Sequence[Record]) -> Iterator[tuple[str, str, list[Record]]]:
    """(tool, dtype, its records) in the order of the run."""
    for tool, dtype in dict.fromkeys((r.tool, r.dtype) for r in records):
        yield tool, dtype, [r for r in records if (r.tool, r.dtype) == (tool, dtype)]


def table(records: Sequence[Record]) -> Iterator[str]:
    """Detection and false alarms side by side, a line for each tool and dtype."""
    yield from HEADS
    for tool, dtype, mine in groups(records):
        bugs, right = [r for r in mine if r.planted], [r for r in mine if not r.planted]
        cold = [r.outcome.seconds for r in mine if r.seed == 0]
        warm = [r.outcome.seconds for r in mine if r.seed > 0]
        yield ROW.format(
            tool,
            dtype,
            share(sum(r.detected for r in bugs), len(bugs)),
            share(count(right, "fail"), len(right)),
            percent(count(bugs, "inconclusive"), len(bugs)),
            percent(count(right, "inconclusive"), len(right)),
            count(mine, "error") - sum(r.detected for r in bugs if r.outcome.verdict == "error"),
            f"{statistics.median(cold):.2f}",
            f"{max(cold):.2f}",
            f"{statistics.median(warm):.2f}" if warm else "-",
        )


def listed(title: str, records: Sequence[Record], seeds: int, say: Callable[[Record], str] | None = None) -> Iterator[str]:
    """The entries among the records, with the number of seeds where not all; with `say`, a line each and its first word."""
    if not records:
        return
    yield f"\n{title}"
    those = {entry: [r for r in records if r.entry == entry] for entry in dict.fromkeys(r.entry for r in records)}
    some = {entry: "" if len(mine) == seeds else f" ({len(mine)}/{seeds})" for entry, mine in those.items()}
    if say is not None:
        for entry, mine in those.items():
            yield textwrap.fill(f"{entry}{some[entry]}: {say(mine[0])}", WIDTH, initial_indent="  ", subsequent_indent="      ")
        return
    areas: dict[str, list[str]] = {}
    for entry, suffix in some.items():
        area, _, name = entry.partition(": ")
        areas.setdefault(area, []).append(name + suffix)
    for area, names in areas.items():
        yield textwrap.fill(f"{area}: {'; '.join(names)}", WIDTH, initial_indent="  ", subsequent_indent="      ")


def hint_lines(dtype: str, records: Sequence[Record], seeds: int) -> Iterator[str]:
    """How often the first hint of a failure is the expected category."""
    failures = [r for r in records if r.planted and r.outcome.verdict == "fail"]
    if not failures:
        return
    right = [r for r in failures if r.first_hint == r.expected]
    silent = [r for r in failures if r.first_hint in NO_CAUSE]
    wrong = [r for r in failures if r.first_hint not in (r.expected, *NO_CAUSE)]
    yield (
        f"\nours, {dtype}, first hint: expected {share(len(right), len(failures))}, "
        f"wrong {share(len(wrong), len(failures))}, none {share(len(silent), len(failures))}"
    )
    say = lambda r: f"expected {r.expected}, got {', '.join(r.outcome.hints) or 'none'}"
    yield from listed(f"ours, {dtype}: another first hint", wrong, seeds, say)
    yield from listed(f"ours, {dtype}: no hint of a cause", silent, seeds, say)


def text(records: Sequence[Record], seeds: int) -> Iterator[str]:
    """The table; what each tool missed; what it said of correct functions; how good our hints were."""
    yield from table(records)
    for tool, dtype, mine in groups(records):
        word = lambda r: f"{r.outcome.verdict}, {r.outcome.detail}"
        say = word if tool == "ours" else None
        missed = [r for r in mine if r.planted and not r.detected]
        yield from listed(f"{tool}, {dtype}: missed bugs", missed, seeds, say)
        for verdict, title in (("fail", "false alarms on"), ("inconclusive", "inconclusive on"), ("error", "could not run on")):
            those = [r for r in mine if not r.planted and r.outcome.verdict == verdict]
            yield from listed(f"{tool}, {dtype}: {title} correct functions", those, seeds, say)
        if tool == "ours":
            yield from hint_lines(dtype, mine, seeds)
