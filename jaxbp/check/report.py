"""What a check found: plain dataclasses that print as a table, become JSON or a page, and raise."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxbp.check import pages, plots, printing


listeners: list[Callable[[Any], None]] = []  # each is called with every report that is announced


def announce(report: Any) -> Any:
    """Hand a finished report to all `listeners` (the pytest plugin is one), and return it."""
    for listener in tuple(listeners):
        listener(report)
    return report


class WrongGradientError(AssertionError):
    """A gradient is wrong (or, under `strict`, could not be judged). The message is the table, `.report` the report."""

    report: Any = None


@dataclasses.dataclass(frozen=True)
class Hint:
    """What the error looks like: a category of a closed vocabulary, and a sentence to act on."""

    category: str
    text: str


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a check and how it ended."""

    name: str
    verdict: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class LeafReport:
    """What a check found for one argument leaf.

    Fields:
      path, shape, dtype: which leaf. verdict: "pass", "fail" or "inconclusive".
      error: the largest error in units of `scale`. ulp: the same in units of the last place of `dtype` at `scale`.
      scale: the largest true entry, or 1e-3 of the largest of the whole gradient where that is more.
      index, claimed, true: the worst entry and its two values; None where no entries were compared.
      resolution: the least error of any entry, in units of `scale`, that would have been a fail.
      hints: what the error looks like.
      claimed_array, true_array: all entries (NumPy, float64) for the heat-map; not in `to_dict`.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    verdict: str
    error: float
    ulp: float
    scale: float
    index: tuple[int, ...] | None
    claimed: float | None
    true: float | None
    resolution: float
    hints: tuple[Hint, ...] = ()
    claimed_array: Any = dataclasses.field(default=None, repr=False, compare=False)
    true_array: Any = dataclasses.field(default=None, repr=False, compare=False)


class _Judged:
    """What reports have in common: a verdict, and the ways to show it."""

    verdict: str

    @property
    def ok(self) -> bool:
        """Whether the gradient was found right. Inconclusive is not right."""
        return self.verdict == "pass"

    def to_text(self, width: int = 100) -> str:
        """The report for a terminal `width` columns wide; `str` is this at 100."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.to_text()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: tuples as lists, the leaves' arrays left out, "nan", "inf" and "-inf" as strings.

        JSON has no number for these three; a string, unlike null, tells which of them it was.
        """
        plain = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {"ok": self.ok, **plain}

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)

    def to_html(self) -> str:
        """The report as one self-contained HTML page."""
        return pages.page(self)

    def _repr_html_(self) -> str:
        return pages.fragment(self)

    def __rich__(self) -> Any:
        return printing.Colored(self)

    def raise_if_wrong(self, *, strict: bool = False) -> None:
        """Raise `WrongGradientError` with the table where the verdict is "fail"; with `strict` where it is not "pass"."""
        __tracebackhide__ = True
        if self.verdict == "fail" or (strict and not self.ok):
            error = WrongGradientError(str(self))
            error.report = self
            raise error


@dataclasses.dataclass(frozen=True)
class Report(_Judged):
    """What a check found; `print` it.

    Fields:
      subject: the function under test. claim: what the user's side is. reference: what it was compared with.
      verdict: "pass", "fail" or "inconclusive". reason: why, in one sentence.
      leaves, steps: one entry an argument leaf, one a step of the check.
      hints: of the whole check, the most telling first.
      reproduction: a program that shows the finding, with its seed.
      ladder: path -> {"step": [...], "value": [...], "claimed": x}: numerical directional derivatives by step.
    """

    subject: str
    claim: str
    reference: str
    verdict: str
    reason: str
    leaves: tuple[LeafReport, ...]
    steps: tuple[Step, ...]
    hints: tuple[Hint, ...]
    reproduction: str
    ladder: dict | None = dataclasses.field(default=None, repr=False, compare=False)

    __str__ = _Judged.__str__

    def to_text(self, width: int = 100) -> str:
        return printing.report_text(self, width)

    def plot(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Write a picture: error against the step of the differences, and a heat-map of the worst leaf.

        path: ends in .svg or .html. Raises: ValueError for another ending, or where the check left nothing to draw.
        """
        return plots.save(self, path)


@dataclasses.dataclass(frozen=True)
class RuleReport:
    """One custom rule that `audit` found.

    Fields:
      name: the rule's function. kind: "custom_vjp" or "custom_jvp". verdict, reason: as in `Report`.
      defined_at, called_at: "file:line". path: the way in, from the outside ("jit train", "scan, first step").
      report: the check of the rule; None where it was not run.
    """

    name: str
    kind: str
    verdict: str
    defined_at: str
    called_at: str
    path: tuple[str, ...]
    report: Report | None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class AuditReport(_Judged):
    """Every custom rule inside a function, each with its verdict; `print` it."""

    subject: str
    verdict: str
    reason: str
    rules: tuple[RuleReport, ...]

    __str__ = _Judged.__str__

    def to_text(self, width: int = 100) -> str:
        return printing.audit_text(self, width)


_ARRAYS = ("claimed_array", "true_array")


def _plain(value: Any) -> Any:
    """`value` as JSON has it."""
    if isinstance(value, _Judged):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field.name for field in dataclasses.fields(value) if field.name not in _ARRAYS)
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    array = np.asarray(value)  # arrays and scalars of any library
    if array.dtype == object:
        return str(value)
    return _plain(array.item() if array.ndim == 0 else array.tolist())
