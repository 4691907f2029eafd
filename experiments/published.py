"""Published numbers beside ours: what a text prints, what was computed here, and how far apart they may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxbp.page.tables import Column, Table


class Number(NamedTuple):
    """One published number, or a list of them that is compared entry by entry.

    name: what it is, in the words of its source. published, ours: both numbers. within: the largest |ours − published| that
    still shows the published digits, in the number's own units; half a unit of its last printed place, or 0 for counts.
    note: where it stands, or why it is another one.
    """

    name: str
    published: Any
    ours: Any
    within: float
    note: str = ""

    @property
    def off(self) -> float:
        """max |ours − published|; infinite where the shapes differ or ours is not a number."""
        published, ours = np.asarray(self.published, float), np.asarray(self.ours, float)
        if published.shape != ours.shape or not np.isfinite(ours).all():
            return float("inf")
        return float(np.max(np.abs(ours - published), initial=0.0))

    @property
    def holds(self) -> bool:
        return self.off <= self.within


def table(numbers: Sequence[Number], digits: int = 9, **more: Any) -> Table:
    """Every number beside its published one; a list shows its worst entry."""
    rows = [(n.name, *_worst(n), n.off, n.within, n.holds, n.note) for n in numbers]
    columns = ["number", Column("published", digits=digits), Column("here", digits=digits), "apart", "allowed", "holds", "source"]
    noted = any(n.note for n in numbers)
    return Table(columns[: None if noted else -1], [row[: None if noted else -1] for row in rows], **more)


def to_json(numbers: Sequence[Number]) -> list[dict[str, Any]]:
    return [{**n._asdict(), "off": n.off, "holds": n.holds} for n in numbers]


def missed(numbers: Sequence[Number]) -> list[str]:
    """A line for each number that is not met."""
    return [f"{n.name}: {n.published} is published, {n.ours} came" for n in numbers if not n.holds]


def _worst(number: Number) -> tuple[Any, Any]:
    published, ours = np.asarray(number.published), np.asarray(number.ours)
    if published.shape != ours.shape or not published.size:
        return f"{published.size} numbers", f"{ours.size} numbers"
    at = np.unravel_index(np.argmax(np.abs(ours.astype(float) - published.astype(float))), published.shape)
    return published[at], ours[at]
