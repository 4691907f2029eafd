"""Runs the tools on every planted bug and every correct function, and says what came out."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.tools import Outcome, run_tool


@dataclasses.dataclass(frozen=True)
class Record:
    """One tool on one entry with one seed. `expected` is the hint of a planted bug, None for a correct function."""

    tool: str
    dtype: str
    entry: str
    area: str
    expected: str | None
    seed: int
    outcome: Outcome

    @property
    def planted(self) -> bool:
        return self.expected is not None

    @property
    def detected(self) -> bool:
        """A "fail"; or, where the structure of the cotangents is wrong, JAX's own refusal."""
        return self.outcome.verdict == "fail" or (self.outcome.verdict == "error" and self.expected == "structure")

    def to_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in ("tool", "dtype", "entry", "area", "expected", "seed", "detected")}
        return {**fields, **self.outcome._asdict()}


def run(entries: Iterable[Any], tools: Sequence[str], dtypes: Sequence[str], seeds: int) -> Iterator[Record]:
    """Entry by entry, so that the first seed of each is cold: the compiled programs are dropped between entries."""
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            for entry in entries:
                yield from run_entry(entry, tools, dtype, seeds)
                jax.clear_caches()


def run_entry(entry: Any, tools: Sequence[str], dtype: str, seeds: int) -> Iterator[Record]:
    for seed in range(seeds):
        check = entry.build(jax.random.key(seed), jnp.dtype(dtype))
        for tool in tools:
            outcome = run_tool(tool, check, seed)
            yield Record(tool, dtype, entry.name, getattr(entry, "area", "correct"), getattr(entry, "hint", None), seed, outcome)


# --- the text

ROW = "{:<22} {:<8} {:>16} {:>14} {:>14} {:>8} {:>9} {:>9} {:>9}"


def share(part: int, whole: int) -> str:
    return f"{part}/{whole} {100 * part / whole:.1f}%" if whole else "-"


def count(records: Iterable[Record], verdict: str) -> int:
    return sum(r.outcome.verdict == verdict for r in records)


def table(records: Sequence[Record]) -> Iterator[str]:
    """Detection and false alarms side by side, a line for each tool and dtype."""
    yield ROW.format("tool", "dtype", "detected", "false alarms", "inconclusive", "not run", "cold, s", "worst, s", "warm, s")
    yield ROW.format("", "", "planted bugs", "correct", "correct", "", "median", "", "median")
    for tool, dtype in dict.fromkeys((r.tool, r.dtype) for r in records):
        mine = [r for r in records if (r.tool, r.dtype) == (tool, dtype)]
        bugs, right = [r for r in mine if r.planted], [r for r in mine if not r.planted]
        cold = [r.outcome.seconds for r in mine if r.seed == 0]
        warm = [r.outcome.seconds for r in mine if r.seed > 0]
        yield ROW.format(
            tool,
            dtype,
            share(sum(r.detected for r in bugs), len(bugs)),
            share(count(right, "fail"), len(right)),
            share(count(right, "inconclusive"), len(right)),
            sum(r.outcome.verdict == "error" and not (r.planted and r.detected) for r in mine),
            f"{statistics.median(cold):.2f}",
            f"{max(cold):.2f}",
            f"{statistics.median(warm):.2f}" if warm else "-",
        )


def listed(title: str, records: Sequence[Record], seeds: int, say: Callable[[Record], str]) -> Iterator[str]:
    """One line for each entry among the records: how many seeds, and the first one's word."""
    if not records:
        return
    yield f"\n{title}"
    for entry in dict.fromkeys(r.entry for r in records):
        those = [r for r in records if r.entry == entry]
        yield f"  {entry} ({len(those)} of {seeds}): {say(those[0])}"


def hint_lines(records: Sequence[Record], seeds: int) -> Iterator[str]:
    """How often the first hint of a failure is the expected category."""
    failures = [r for r in records if r.planted and r.outcome.verdict == "fail"]
    if not failures:
        return
    first = lambda r: next(iter(r.outcome.hints), "none")
    right = [r for r in failures if first(r) == r.expected]
    silent = [r for r in failures if first(r) in ("none", "localised")]
    wrong = [r for r in failures if r not in right and r not in silent]
    yield (
        f"\nfirst hint: expected {share(len(right), len(failures))}, none or only localised {share(len(silent), len(failures))},"
        f" another {share(len(wrong), len(failures))}"
    )
    say = lambda r: f"expected {r.expected}, got {', '.join(r.outcome.hints) or 'none'}"
    yield from listed("  another hint, or none:", wrong + silent, seeds, say)


def text(records: Sequence[Record], seeds: int) -> Iterator[str]:
    yield from table(records)
    for tool, dtype in dict.fromkeys((r.tool, r.dtype) for r in records):
        mine = [r for r in records if (r.tool, r.dtype) == (tool, dtype)]
        say = lambda r: f"{r.outcome.verdict} {r.outcome.detail}".strip()
        missed = [r for r in mine if r.planted and not r.detected]
        yield from listed(f"{tool}, {dtype}: missed", missed, seeds, say)
        unclean = [r for r in mine if not r.planted and r.outcome.verdict != "pass"]
        yield from listed(f"{tool}, {dtype}: false alarms and other words on correct functions", unclean, seeds, say)
        if tool == "ours":
            yield from hint_lines(mine, seeds)
