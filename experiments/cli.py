"""The command line: which experiment, with which options; what cannot be used is said in one line, with exit status 2."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import tyro

from experiments.config import EXPERIMENTS, Options, UsageError


MODULES = {"csv": "table"}  # where the module has not the name of its experiment


def main(args: Sequence[str] | None = None) -> int:
    """Run one experiment. Status 0; 1 where training turned non-finite; 2 for options or data that cannot be used."""
    options = parse(sys.argv[1:] if args is None else args)
    name = next(name for name, kind in EXPERIMENTS.items() if type(options) is kind)
    try:
        return importlib.import_module(f"experiments.{MODULES.get(name, name.replace('-', '_'))}").run(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the run folder holds the metrics so far", file=sys.stderr)
        return 130


def parse(args: Sequence[str]) -> Options:
    """The options of the experiment that `args` name; exits with status 2, and says why, where there is no such thing."""
    return tyro.extras.subcommand_cli_from_dict(
        EXPERIMENTS, args=args, prog="python -m experiments", description="Backpropagation written by hand, on real data."
    )
