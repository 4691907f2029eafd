"""A published file beside a run: read, checked epoch by epoch, the first difference told."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.config import UsageError
from experiments.nielsen.program import HISTORY
from jaxbp.page.tables import Column, Table


MANY_UPDATES = 50_000  # beyond, rounding has grown past 1e-9


class Published(NamedTuple):
    """name: of the file and part. curves: by the names of `HISTORY`, those that the file has. last: in percent, where the file
    holds nothing but the evaluated accuracy at the end."""

    name: str
    curves: dict[str, list[float]]
    last: float | None = None


class Difference(NamedTuple):
    """One curve beside its published one. epochs: how many were compared. missed: how many epochs differ by more than allowed.
    first: the first of them, from 0, with both values."""

    curve: str
    epochs: int
    allowed: float
    largest: float
    missed: int
    first: tuple[int, float, float] | None

    @property
    def told(self) -> str | None:
        if self.first is None:
            return None
        epoch, published, ours = self.first
        return (
            f"{self.curve}: {published!r} is published for epoch {epoch}, {ours!r} came, the first of {self.missed} "
            f"differences in {self.epochs} epochs"
        )


def tolerance(given: float | None, updates: int) -> float:
    """How far a cost may be off: what was given, else 1e-9, and 1e-6 for more than 50,000 updates."""
    return given if given is not None else 1e-9 if updates <= MANY_UPDATES else 1e-6


def read(path: pathlib.Path, part: str = "") -> Published:
    """Raises: UsageError for a file that is missing, no JSON, of another layout, or holds several results and none was chosen."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--compare {path}: cannot be read: {error}") from error
    if not is_curves(value):
        names = (
            sorted(value) if isinstance(value, dict) else [str(i) for i in range(len(value))] if isinstance(value, list) else []
        )
        if not names:
            raise UsageError(f"--compare {path}: expected {', '.join(HISTORY)}, four lists, got {str(value)[:60]}")
        if part not in names:
            said = f"no part {part!r}" if part else "several results"
            raise UsageError(f"--compare {path}: {said}; choose one of {', '.join(names)} by --part")
        value = value[part] if isinstance(value, dict) else value[int(part)]
    elif part:
        raise UsageError(f"--part {part}: {path} holds one result; leave --part out")
    name = f"{path.name}, part {part}" if part else path.name
    if isinstance(value, (int, float)):
        return Published(name, {}, float(value))
    if not is_curves(value):
        raise UsageError(f"--compare {path}: expected {', '.join(HISTORY)}, four lists of numbers, in {name}")
    return Published(name, {curve: values for curve, values in zip(HISTORY, value, strict=True) if values})


def is_curves(value: Any) -> bool:
    """Whether this is one result: four lists of numbers, those that were not monitored empty."""
    number = lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)
    one = lambda values: isinstance(values, list) and all(map(number, values))
    return isinstance(value, list) and len(value) == 4 and all(map(one, value)) and any(value)


def differences(
    published: Published, history: Mapping[str, Sequence[float]], allowed: float, evaluated: int, every: int = 1
) -> list[Difference]:
    """Every published curve beside ours, over the epochs that both have.

    evaluated: images of the set that was evaluated. every: `history` holds one epoch of so many, the last of them.
    """
    if published.last is not None:
        percent = history["test_accuracy"][-1] / evaluated * 100
        return [_difference("test_accuracy, in percent at the end", [published.last], [percent], 1e-9, 1)]
    of = lambda curve: 0.0 if curve.endswith("accuracy") else allowed
    pairs = ((curve, values[every - 1 :: every], history[curve]) for curve, values in published.curves.items())
    return [_difference(curve, there, here, of(curve), every) for curve, there, here in pairs]


def _difference(curve: str, published: Sequence[float], ours: Sequence[float], allowed: float, every: int) -> Difference:
    epochs = min(len(published), len(ours))
    there, here = np.asarray(published[:epochs], float), np.asarray(ours[:epochs], float)
    off = np.abs(here - there)
    off[~np.isfinite(off)] = np.inf
    wrong = np.flatnonzero(off > allowed)
    at = lambda i: (int((i + 1) * every - 1), float(there[i]), float(here[i]))
    return Difference(curve, epochs, allowed, float(off.max(initial=0.0)), int(wrong.size), at(wrong[0]) if wrong.size else None)


def table(found: Sequence[Difference]) -> Table:
    rows = [(d.curve, d.epochs, d.largest, d.allowed, d.missed, d.first and d.first[0]) for d in found]
    columns = ["curve", "epochs", Column("largest difference", digits=3), "allowed", "epochs that differ", "first of them"]
    note = "Epochs count from 0, as the published files do. Accuracies are counts, and none may differ."
    return Table(columns, rows, note=note)
