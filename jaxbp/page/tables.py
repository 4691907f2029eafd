"""Tables: one value, printed on a terminal by `str` or put on a page by `to_html`."""

from __future__ import annotations

import dataclasses
import math
import numbers
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from jaxbp.page.markup import Markup, element, join


def number(x: Any, digits: int = 3) -> str:
    """x in `digits` significant digits, one fewer in the scientific form below 1e-3 and from 1e6 on; counts in full.

    >>> [number(x) for x in (1.34e-7, 0.973, 0.97, 12, 12345.6, 23860, 0.0, float("nan"))]
    ['1.3e-07', '0.973', '0.970', '12', '12,346', '23,860', '0', 'nan']
    """
    x = _plain(x)
    if isinstance(x, numbers.Integral):
        return _grouped(f"{int(x)}")
    x = float(x)
    if x == 0 or not math.isfinite(x):
        return f"{x:.0f}".removeprefix("-") if x == 0 else str(x)
    rounded = abs(float(f"{x:.{max(digits - 1, 0)}e}"))
    if not 1e-3 <= rounded < 1e6:
        return f"{x:.{max(digits - 2, 0)}e}"
    return _grouped(f"{x:.{_decimals(rounded, digits)}f}")


def _decimals(size: float, digits: int) -> int:
    """How many decimals show `digits` significant digits of a number of this size."""
    return max(0, digits - 1 - math.floor(math.log10(size)))


def _grouped(written: str) -> str:
    """Thousands apart from 10,000 on; four digits read well without."""
    whole, dot, decimals = written.partition(".")
    return f"{int(whole):,}{dot}{decimals}" if len(whole.lstrip("-")) > 4 else written


@dataclasses.dataclass(frozen=True)
class Column:
    """A heading, the unit of what stands below it (shown in the heading), and the digits of its numbers."""

    name: str
    unit: str | None = None
    digits: int = 3

    @property
    def heading(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under named columns; the first column names the row.

    Fields:
      columns: `Column`s, or plain strings.
      rows: a sequence of cells for each row. A cell is a number, a text, a shape (tuple of integers), a truth value
        or None for "not measured". Numbers stand right-aligned; in a column of similar size they share their decimals.
      title, note: the line above, the small print below.
      foot: rows set apart at the end (mean, total); None leaves a cell blank there.

    >>> print(Table(["leaf", Column("time", "ms")], [["w", 1.5], ["b", 0.25]], title="Step"))
    Step
    leaf  time (ms)
    ----  ---------
    w          1.50
    b          0.25
    """

    columns: Sequence[Column | str]
    rows: Sequence[Sequence[Any]]
    title: str | None = None
    note: str | None = None
    foot: Sequence[Sequence[Any]] = ()

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError("a table needs at least one column")
        for field in ("rows", "foot"):
            rows = tuple(tuple(_plain(cell) for cell in row) for row in getattr(self, field))
            for i, row in enumerate(rows):
                if len(row) != len(self.columns):
                    raise ValueError(f"table of {len(self.columns)} columns: {field}[{i}] has {len(row)} cells: {row}")
            object.__setattr__(self, field, rows)

    @property
    def head(self) -> tuple[Column, ...]:
        """The columns, those given by name alone included."""
        return tuple(c if isinstance(c, Column) else Column(str(c)) for c in self.columns)

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, width: int = 100) -> str:
        """Aligned columns in plain characters. Above `width`, headings wrap first, then the longest texts lose their middle."""
        cells = _columns_of_cells(self)
        heads = _fitted_headings([c.heading for c in self.head], cells, width)
        cells = _fitted_cells(heads, cells, width)
        right = [_is_numeric(self, j) for j in range(len(cells))]
        widths = [max(map(_width, (*head, *column)), default=0) for head, column in zip(heads, cells, strict=True)]
        lines = [_line(row, widths, right) for row in zip(*heads, strict=True)]
        rule = "  ".join("-" * w for w in widths)
        body = [_line(row, widths, right) for row in zip(*cells, strict=True)]
        lines += [rule, *body[: len(self.rows)]] + ([rule, *body[len(self.rows) :]] if self.foot else [])
        title = [self.title] if self.title else []
        return "\n".join([*title, *lines, *(textwrap.wrap(self.note, width) if self.note else [])])

    def to_html(self) -> Markup:
        """A <figure> with caption, header cells with their scope, and a box of its own to scroll in when it is wide."""
        cells = _columns_of_cells(self, times=" × ", missing="–")
        classes = ["n" if _is_numeric(self, j) else None for j in range(len(cells))]
        head = [element("th", c.heading, scope="col", class_=k) for c, k in zip(self.head, classes, strict=True)]
        rows = [_html_row(row, classes) for row in zip(*cells, strict=True)]
        n = len(self.rows)
        table = element(
            "table",
            element("caption", self.title) if self.title else None,
            element("thead", element("tr", head)),
            element("tbody", rows[:n]),
            element("tfoot", rows[n:]) if self.foot else None,
        )
        box = element("div", table, class_="scroll", tabindex="0", role="region", aria_label=self.title or "table")
        return element("figure", box, element("figcaption", self.note) if self.note else None)


def _html_row(row: Iterable[str], classes: list[str | None]) -> Markup:
    first, *rest = row
    cells = [element("td", cell, class_=k) for cell, k in zip(rest, classes[1:], strict=True)]
    return element("tr", element("th", first, scope="row", class_=classes[0]), join(cells))


def _plain(cell: Any) -> Any:
    """The Python value of a scalar of any array library; a shape as a tuple."""
    if getattr(cell, "ndim", None) == 0 and hasattr(cell, "item"):
        return cell.item()
    return tuple(cell) if isinstance(cell, list) else cell


def _is_number(cell: Any) -> bool:
    return isinstance(cell, numbers.Real) and not isinstance(cell, bool)


def _is_numeric(table: Table, j: int) -> bool:
    """Whether column j holds numbers (and gaps) only, and so stands on the right."""
    column = [row[j] for row in (*table.rows, *table.foot)]
    return bool(column) and all(cell is None or _is_number(cell) for cell in column)


def _columns_of_cells(table: Table, times: str = "x", missing: str = "-") -> list[list[str]]:
    written = []
    for j, column in enumerate(table.head):
        cells = _written([row[j] for row in (*table.rows, *table.foot)], column.digits, times, missing)
        n = len(table.rows)
        written.append(cells[:n] + ["" if row[j] is None else cell for row, cell in zip(table.foot, cells[n:], strict=True)])
    return written


def _written(cells: list[Any], digits: int, times: str, missing: str) -> list[str]:
    """The cells of one column as text; floats of similar size share their number of decimals, so that the points align."""
    decimals = _shared_decimals([c for c in cells if isinstance(c, float) and math.isfinite(c)], digits)
    shown = []
    for cell in cells:
        if cell is None:
            shown.append(missing)
        elif isinstance(cell, bool):
            shown.append("yes" if cell else "no")
        elif isinstance(cell, float) and math.isfinite(cell) and decimals is not None:
            shown.append(_grouped(f"{cell:.{decimals}f}"))
        elif _is_number(cell):
            shown.append(number(cell, digits))
        elif isinstance(cell, tuple):
            shown.append(times.join(str(n) for n in cell) or "scalar")
        else:
            shown.append(" ".join(str(cell).split()))
    return shown


def _shared_decimals(floats: list[float], digits: int) -> int | None:
    """Decimals that give the largest number `digits` digits and leave no other with fewer than two; None if there are none."""
    sizes = [abs(x) for x in floats if x != 0]
    if not sizes or max(sizes) >= 1e6:
        return None
    decimals = _decimals(max(sizes), digits)
    small = min(sizes)
    return decimals if small >= 1e-3 and small >= 10.0 ** (1 - decimals) else None


def _width(text: str) -> int:
    """Columns that a text takes on a terminal: two for wide East Asian characters, none for combining marks."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _line(row: Iterable[str], widths: list[int], right: list[bool]) -> str:
    cells = (" " * (w - _width(c)) + c if r else c + " " * (w - _width(c)) for c, w, r in zip(row, widths, right, strict=True))
    return "  ".join(cells).rstrip()


def _total(widths: Iterable[int]) -> int:
    widths = list(widths)
    return sum(widths) + 2 * (len(widths) - 1)


def _fitted_headings(headings: list[str], cells: list[list[str]], width: int) -> list[list[str]]:
    """Each heading as the same number of lines, the fewest that fit, aligned at the bottom."""
    body = [max(map(_width, column), default=1) for column in cells]
    heads = [[heading] for heading in headings]
    for lines in range(2, 1 + max(len(heading.split()) for heading in headings)):
        if _total(max(b, *map(_width, head)) for b, head in zip(body, heads, strict=True)) <= width:
            break
        heads = [_wrapped(heading, lines) for heading in headings]
    height = max(map(len, heads))
    return [[""] * (height - len(head)) + head for head in heads]


def _wrapped(text: str, lines: int) -> list[str]:
    """The text in at most `lines` lines between words, as narrow as that allows."""
    for width in range(max(map(len, text.split()), default=1), len(text) + 1):
        wrapped = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        if len(wrapped) <= lines:
            return wrapped
    return [text]


def _fitted_cells(heads: list[list[str]], cells: list[list[str]], width: int) -> list[list[str]]:
    """Texts shortened in the middle, the widest column first, until the line fits or no column can give more."""
    floor = [max(*map(_width, head), 12) for head in heads]
    widths = [max(*map(_width, head), *map(_width, column), 0) for head, column in zip(heads, cells, strict=True)]
    while _total(widths) > width:
        j = max(range(len(widths)), key=lambda j: widths[j] - floor[j])
        if widths[j] <= floor[j]:
            break
        widths[j] -= 1
    return [[_elided(cell, w) for cell in column] for column, w in zip(cells, widths, strict=True)]


def _elided(text: str, width: int) -> str:
    if _width(text) <= width or len(text) <= 5:
        return text
    keep = width - 3
    return f"{text[: (keep + 1) // 2]}...{text[len(text) - keep // 2 :]}"
