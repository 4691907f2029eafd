"""python -m jaxbp.check.mutants: the checkers side by side on planted bugs; with --tests, mutations of a user's own rules."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from jaxbp.check.mutants import CORRECT, MUTANTS
from jaxbp.check.mutants.benchmark import Record, run, text
from jaxbp.check.mutants.cases import Correct, Mutant
from jaxbp.check.mutants.mutate import report_on
from jaxbp.check.mutants.tools import TOOLS


DTYPES = ("float32", "float64")


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m jaxbp.check.mutants", description=__doc__)
    main.add_argument("--seeds", type=int, default=10, help="draws of the inputs for each entry (default 10)")
    main.add_argument("--dtype", default=",".join(DTYPES), help="float32, float64 or both, with a comma (default: both)")
    main.add_argument("--only", default="", metavar="TEXT", help="entries whose 'area: name' holds TEXT ('correct:', 'norms:')")
    main.add_argument("--tools", default=",".join(TOOLS), help=f"which tools, with commas (default: {','.join(TOOLS)})")
    main.add_argument("--json", type=pathlib.Path, metavar="PATH", help="also write every outcome to a JSON file")
    main.add_argument("--tests", metavar="PATH", help="mutate the custom rules that this pytest file covers, one at a time")
    main.add_argument("--limit", type=float, default=120.0, metavar="SECONDS", help="time limit of each run of --tests")
    return main


def words(option: str, given: str, known: tuple[str, ...]) -> list[str]:
    """The words of a list with commas, each of them known."""
    chosen = [word.strip() for word in given.split(",") if word.strip()]
    if not chosen or set(chosen) - set(known):
        raise ValueError(f"{option}: some of {', '.join(known)} were expected, got {given!r}")
    return chosen


def benchmark(options: argparse.Namespace) -> int:
    every: tuple[Mutant | Correct, ...] = (*MUTANTS, *CORRECT)
    entries = [e for e in every if options.only.lower() in f"{e.area}: {e.name}".lower()]
    tools, dtypes = words("--tools", options.tools, tuple(TOOLS)), words("--dtype", options.dtype, DTYPES)
    if not entries:
        raise ValueError(f"--only: no entry's 'area: name' holds {options.only!r}")
    if options.seeds < 1:
        raise ValueError(f"--seeds: at least 1 was expected, got {options.seeds}")
    if options.json and not options.json.parent.is_dir():
        raise ValueError(f"--json: there is no folder {options.json.parent}")
    records: list[Record] = []
    try:
        for record in run(entries, tools, dtypes, options.seeds):
            records.append(record)
            progress(record, len(records), len(entries) * len(tools) * len(dtypes) * options.seeds)
    except KeyboardInterrupt:
        if not records:
            raise
        print("\ninterrupted: what follows is of the entries up to here", file=sys.stderr)
    print("\n".join(text(records, options.seeds)))
    if options.json:
        options.json.write_text(json.dumps([r.to_dict() for r in records], indent=1) + "\n", encoding="utf-8")
    return int(any(r.tool == "ours" and (r.outcome.verdict == "fail") != r.planted for r in records))


def progress(record: Record, done: int, total: int) -> None:
    """A line that is overwritten in a terminal; elsewhere a line now and then."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{f'{done}/{total} {record.dtype} {record.entry}'[:99]}", end="", file=sys.stderr, flush=True)
        if done == total:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    elif done % 100 == 0:
        print(f"{done}/{total} {record.dtype} {record.entry}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 all found and no false alarm of ours (or no mutation survived), 1 otherwise, 3 unusable input."""
    options = parser().parse_args(arguments)
    try:
        return report_on(options.tests, options.limit) if options.tests else benchmark(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
