"""The folder of a run by its path, and the options that it has stored. Imports no JAX."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any, TypeVar

from experiments.config import CALL, EXPERIMENTS, PLACES, Options, Study, UsageError


CONFIG = "config.json"

Of = TypeVar("Of", bound=Options | Study)


def resumed_by(args: Sequence[str]) -> pathlib.Path | None:
    """The folder that --resume names."""
    for i, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name == "--resume" and (equals or i + 1 < len(args)):
            return pathlib.Path(value if equals else args[i + 1])
    return None


def load(place: pathlib.Path, name: str) -> Options | None:
    """The options in a folder, None where it has none; UsageError where they are of another experiment, or damaged."""
    path = place / CONFIG
    try:
        values = json.loads(path.read_bytes())
        experiment = values.pop("experiment")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--resume: {path} cannot be read ({error}); start a new run with --out and a new folder") from error
    if experiment != name:
        raise UsageError(f"--resume: expected a run of {name}, {place} holds one of {experiment}")
    kind = EXPERIMENTS[name]
    known = {field.name for field in dataclasses.fields(kind)} - set(CALL)
    if values.keys() != known:
        odd = ", ".join(sorted(values.keys() ^ known))
        raise UsageError(f"--resume: {path} was written by another version of this runner, it differs in {odd}")
    return kind(**{key: _restored(key, value) for key, value in values.items()})


def _restored(key: str, value: Any) -> Any:
    if key in PLACES:
        return pathlib.Path(value)
    return tuple(value) if isinstance(value, list) else value


def require_same(stored: Options, given: Options, place: pathlib.Path) -> None:
    """Raise for the first option that was given otherwise than the run in the folder has it; its data may have moved."""
    for field in dataclasses.fields(stored):
        there, here = getattr(stored, field.name), getattr(given, field.name)
        if field.name not in (*CALL, *PLACES) and there != here:
            name = "--" + field.name.replace("_", "-")
            raise UsageError(f"{name}: the run in {place} has {there}, got {here}; leave it out, or start a new run with --out")


def with_folder(name: str, options: Of) -> Of:
    """The options with a folder in `out` where they name none: runs/<name>-<time>."""
    if options.out is not None or options.resume is not None:
        return options
    return dataclasses.replace(options, out=unused(pathlib.Path("runs") / f"{name}-{now():%Y%m%d-%H%M%S}"))


def unused(path: pathlib.Path) -> pathlib.Path:
    """`path`, or path-2, path-3, ... where runs started in the same second."""
    candidates = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 1000))
    return next(candidate for candidate in candidates if not candidate.exists())


def now() -> datetime.datetime:
    return datetime.datetime.now()


def folder(options: Options | Study) -> pathlib.Path:
    """Of the run; `with_folder` saw to it that there is one."""
    path = options.out if options.resume is None else options.resume
    assert path is not None
    return path


def resume_line(name: str, options: Options) -> str:
    """The command that goes on with the run."""
    return f"python -m experiments {name} --resume {shlex.quote(str(folder(options)))}"
