"""A name for a number that a hint found: 2, 1/2, an axis size, 1/√d."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple


SIMPLE = {1.0: "1", 2.0: "2", 0.5: "1/2", 3.0: "3", 1 / 3: "1/3", 4.0: "4", 0.25: "1/4"}
CONSTANTS = {math.pi: "π", 1 / math.pi: "1/π", 2 * math.pi: "2π", math.sqrt(2): "√2", math.sqrt(0.5): "1/√2", math.log(2): "ln 2"}
CONSTANTS |= {1 / math.log(2): "1/ln 2", math.sqrt(2 / math.pi): "√(2/π)", math.sqrt(2 * math.pi): "√(2π)"}
CONSTANTS |= {p / q: f"{p}/{q}" for p, q in ((2, 3), (3, 2), (3, 4), (4, 3), (1, 6), (5, 4), (4, 5), (1, 5), (1, 8), (1, 12))}
CONSTANTS |= {float(n): str(n) for n in (5, 6, 8, 10, 12)}
COARSE = 1e-5  # a number less well known than this matches some size by chance: only simple ones are named then


class Number(NamedTuple):
    """A number as found and its text.

    known: one that code is likely to be wrong by, simple or made of a size. short: that, or of at most four digits.
    """

    value: float
    text: str
    known: bool
    short: bool


def number(k: float, tolerance: float, shapes: Mapping[str, tuple[int, ...]], batch: int | None) -> Number:
    """k, known to within `tolerance`, under its best name. shapes: of the arrays by what they are called."""
    names = [(value, text) for value, text in SIMPLE.items() if abs(abs(k) - value) <= min(tolerance, 1e-3 * value)]
    if tolerance <= COARSE * abs(k):
        derived = [] if names else _derived(_sizes(shapes, batch))
        sizes = {value: text for value, text in (*derived, *_plain(_sizes(shapes, batch))) if abs(abs(k) - value) <= tolerance}
        names += [(value, text) for value, text in sizes.items() if value != 1.0][:1]
        names += [(value, text) for value, text in CONSTANTS.items() if not names and abs(abs(k) - value) <= tolerance]
    sign = "−" if k < 0 else ""
    if names:
        also = f" ({', '.join(text for _, text in names[1:])})" if len(names) > 1 else ""
        return Number(k, sign + names[0][1] + also, True, True)
    short = f"{abs(k):.4g}"
    exact = abs(abs(k) - float(short)) <= tolerance
    return Number(k, sign + (short if exact else f"about {abs(k):.6g}"), False, exact)


def _sizes(shapes: Mapping[str, tuple[int, ...]], batch: int | None) -> dict[int, str]:
    """What each size is the size of: the batch before an axis, an axis before a whole array."""
    found: dict[int, str] = {}
    for name, shape in shapes.items():
        found |= {size: f"the size of axis {axis} of {name}" for axis, size in enumerate(shape) if size not in found}
    for name, shape in shapes.items():
        found.setdefault(math.prod(shape), f"the number of entries of {name}")
    if batch is not None:
        found[batch] = "the batch size"
    return {n: what for n, what in found.items() if n > 1}


def _plain(sizes: Mapping[int, str]) -> Iterator[tuple[float, str]]:
    for n, what in sizes.items():
        yield from ((float(n), f"{n}, {what}"), (1.0 / n, f"1/{n}, {n} {what}"))


def _derived(sizes: Mapping[int, str]) -> Iterator[tuple[float, str]]:
    """Of one number the last name counts."""
    for n, what in sizes.items():
        if n > 2:
            yield from ((n - 1.0, f"n − 1, n = {n} {what}"), (1 / (n - 1), f"1/(n − 1), n = {n} {what}"))
            yield from (((n - 1) / n, f"(n − 1)/n, n = {n} {what}"), (n / (n - 1), f"n/(n − 1), n = {n} {what}"))
            yield from ((n**0.5, f"√{n}, {n} {what}"), (n**-0.5, f"1/√{n}, {n} {what}"))
    for n, what in sizes.items():
        yield from ((2.0 * n, f"2 × {n}, {what}"), (2.0 / n, f"2/{n}, {n} {what}"))
