"""python -m jaxbp.check.mutants: the checkers side by side on planted bugs; with --tests, mutations of a user's own rules."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m jaxbp.check.mutants", description=__doc__)
    main.add_argument("--seeds", type=int, default=10, help="draws of the inputs for each entry (default 10)")
    main.add_argument("--dtype", default="float32,float64", help="float32, float64 or both, with a comma")
    main.add_argument(
        "--only", default="", metavar="NAME", help="entries whose name holds NAME, or of area NAME ('correct' is one)"
    )
    main.add_argument("--tools", default="", help="which tools, with commas (default: all)")
    main.add_argument("--json", type=pathlib.Path, metavar="PATH", help="also write every outcome to a JSON file")
    main.add_argument("--tests", metavar="PATH", help="mutate the custom rules that this pytest file covers, one at a time")
    main.add_argument("--limit", type=float, default=120.0, metavar="SECONDS", help="time limit of each run of --tests")
    return main


def chosen(only: str) -> list[Any]:
    from jaxbp.check.mutants import CORRECT, MUTANTS

    every = [*MUTANTS, *CORRECT]
    return [e for e in every if only.lower() in e.name.lower() or only.lower() == getattr(e, "area", "correct")]


def tools_of(text: str) -> list[str]:
    from jaxbp.check.mutants.tools import TOOLS

    wanted = [name.strip() for name in text.split(",") if name.strip()] or list(TOOLS)
    if unknown := [name for name in wanted if name not in TOOLS]:
        raise ValueError(f"--tools: {', '.join(unknown)} is not among {', '.join(TOOLS)}")
    return wanted


def benchmark(options: argparse.Namespace) -> int:
    from jaxbp.check.mutants.benchmark import run, text

    entries, dtypes = chosen(options.only), [d.strip() for d in options.dtype.split(",")]
    if not entries:
        raise ValueError(f"--only: no entry's name or area holds {options.only!r}")
    if not set(dtypes) <= {"float32", "float64"}:
        raise ValueError(f"--dtype: float32 and float64 are known, not {options.dtype!r}")
    if options.seeds < 1:
        raise ValueError(f"--seeds: at least 1, not {options.seeds}")
    records = []
    for record in run(entries, tools_of(options.tools), dtypes, options.seeds):
        records.append(record)
        progress(record, len(records))
    print("\n".join(text(records, options.seeds)))
    if options.json:
        options.json.write_text(json.dumps([r.to_dict() for r in records], indent=1) + "\n", encoding="utf-8")
    mine = [r for r in records if r.tool == "ours"]
    return int(any(not r.detected if r.planted else r.outcome.verdict == "fail" for r in mine))


def progress(record: Any, done: int) -> None:
    """A line that is overwritten in a terminal; elsewhere a line now and then."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{done} {record.dtype} {record.entry}"[:120], end="\r", file=sys.stderr, flush=True)
    elif done % 100 == 0:
        print(f"{done} checks, {record.dtype}, {record.entry}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 all found and no false alarm of ours (or no mutation survived), 1 otherwise, 3 unusable input."""
    options = parser().parse_args(arguments)
    try:
        if options.tests:
            from jaxbp.check.mutants.mutate import report_on

            return report_on(options.tests, options.limit)
        return benchmark(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
