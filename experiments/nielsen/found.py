"""What a study of the book gives: its section of the page, its numbers, its part of summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.published import Number
from jaxbp.page.document import Section
from jaxbp.page.tables import Table


class Found(NamedTuple):
    name: str
    section: Section
    numbers: Sequence[Number]
    summary: dict[str, Any]
    table: Table
