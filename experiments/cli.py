"""The command line: which experiment, with which options; what cannot be used is said in one line, with exit status 2."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import tyro

from experiments import launch, machine, stored
from experiments.config import EXPERIMENTS, MODULES, Folded, Options, Study, UsageError


FINISHING = "told to stop: finishing this epoch and saving it; a second signal ends at once"


def main(args: Sequence[str] | None = None) -> int:
    """Run one experiment. Returns the exit status.

    0; 1 where training turned non-finite or a process of several died; 2 for options, data or folders that cannot be used; 130
    and 143 after SIGINT and SIGTERM.
    """
    args = sys.argv[1:] if args is None else args
    try:
        options = parse(args)
        name = next(name for name, kind in EXPERIMENTS.items() if type(options) is kind)
        if not isinstance(options, Options):
            return _study(name, options)
        options = stored.with_folder(name, machine.resolved(options))
        if isinstance(options, Folded) and options.processes > 1 and options.coordinator is None:
            return launch.run(name, options, args)
        return _train(name, options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what the run folder holds can be gone on with by --resume", file=sys.stderr)
        return 130


def parse(args: Sequence[str]) -> Any:
    """The options of the experiment that `args` name; exits with status 2, and says why, where there is no such thing."""
    prog, name, folder = "python -m experiments", next(iter(args), ""), stored.resumed_by(args)
    before = stored.load(folder, name) if folder is not None and issubclass(EXPERIMENTS.get(name, object), Options) else None
    if before is None or folder is None:
        about = "Backpropagation written by hand, on real data."
        return tyro.extras.subcommand_cli_from_dict(EXPERIMENTS, args=args, prog=prog, description=about)
    options = tyro.cli(EXPERIMENTS[name], args=args[1:], prog=f"{prog} {name}", default=before)
    stored.require_same(before, options, folder)
    return options


def _module(name: str) -> Any:
    return importlib.import_module(f"experiments.{MODULES.get(name, name.replace('-', '_'))}")


def _study(name: str, options: Any) -> int:
    """Run an experiment that is short enough to be run again rather than resumed."""
    module = _module(name)
    from jaxbp.training.folder import FolderError

    try:
        with plain_warnings():
            return module.run(stored.with_folder(name, options) if isinstance(options, Study) else options)
    except FolderError as error:
        raise UsageError(str(error)) from error


def _train(name: str, options: Options) -> int:
    """Run a training experiment in this process, alone or as one of several."""
    machine.prepare(options)
    from jaxbp.training.folder import FolderError, interruptible
    from jaxbp.training.keeping import Interrupted

    run, speaks = _module(name).run, machine.leads(options)
    # joined first: JAX takes SIGTERM for itself there
    with plain_warnings(), machine.joined(options), interruptible(FINISHING if speaks else "") as stopped:
        try:
            return run(options, stopped)
        except Interrupted as end:
            if speaks:
                line = stored.resume_line(name, options)
                print(f"stopped after epoch {end.epoch}, which is saved; to go on: {line}", file=sys.stderr)
            return 128 + end.number
        except FolderError as error:
            raise UsageError(str(error)) from error


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings of the run as lines that begin with "warning:"; a checkpoint that was passed over is always told."""
    with warnings.catch_warnings():
        warnings.showwarning = _say
        warnings.filterwarnings("always", ".*this checkpoint is passed over", RuntimeWarning)
        yield


def _say(message: Warning | str, *_: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)
