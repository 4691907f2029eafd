"""From numbers to places: linear and logarithmic scales, where their ticks stand and how these are written."""

from __future__ import annotations

import dataclasses
import decimal
import itertools
import math
from collections.abc import Iterable

from jaxbp.page.svg import SMALL, text_width


LARGEST = 1e300  # beyond, sums and differences would overflow: drawn as gaps, like infinity
SMALLEST = 1e-300  # below, steps would underflow: drawn as 0


@dataclasses.dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, stop], by value or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def at(self, value: float) -> float | None:
        """The place of a value; None where it has none (NaN, infinity, zero or less on a logarithmic scale)."""
        if not drawable(value, self.log):
            return None
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        value = math.log10(value) if self.log else value
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round numbers within the scale, at most `most` (never fewer than one)."""
        ticks = log_ticks(self.low, self.high, most) if self.log else []
        return ticks or linear_ticks(self.low, self.high, most)


def drawable(value: float, log: bool = False) -> bool:
    return abs(value) <= LARGEST and (value >= SMALLEST or not log)  # false for NaN


def fit_scale(values: Iterable[float], start: float, stop: float, *, log: bool = False, pad: float = 0.05) -> Scale:
    """The scale that shows all drawable values with a little room; values that are all equal stand in the middle.

    Raises: ValueError where no value can be drawn.
    """
    kept = [float(v) for v in values if drawable(float(v), log)]
    if not kept:
        raise ValueError(f"there is no finite{' positive' if log else ''} value to draw")
    low, high = (v if abs(v) >= SMALLEST else 0.0 for v in (min(kept), max(kept)))
    if log:
        low, high = math.log10(low), math.log10(high)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # the digits of a tick would not tell them apart
        room = 0.5 if log else 0.5 * abs(high) or 0.5
    else:
        room = pad * (high - low)
    low, high = low - room, high + room
    return Scale(10 ** max(low, -307.0), 10 ** min(high, 307.0), start, stop, True) if log else Scale(low, high, start, stop)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [low, high].

    >>> linear_ticks(0.0, 1.04, 6)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    step = tick_step(low, high, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(i * step, digits) if digits < 300 else i * step for i in range(first, last + 1)]


def tick_step(low: float, high: float, most: int) -> float:
    """The least step of 1, 2 or 5 times a power of ten that needs at most `most` ticks."""
    least = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(least))
    for step in (1, 2, 5, 10, 20, 50):
        if math.floor(high / (step * power) + 1e-9) - math.ceil(low / (step * power) - 1e-9) < most:
            return step * power
    return 100 * power


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten in [low, high], every second or third if they are many; 1, 2, 5 times them if they are few.

    Fewer than two such numbers tell nothing of a scale: then none, and the scale falls back on linear ticks.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [i for i in range(first, last + 1) if low <= 10.0**i <= high]
    if len(powers) >= 3:
        rounder = ([i for i in powers if i % every == 0] for every in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000))
        shown = next(some for some in rounder if len(some) <= most)
        return [10.0**i for i in (shown if len(shown) >= 2 else powers[:: math.ceil(len(powers) / most)])]
    for parts in ((1, 2, 5), (1, 3), (1,)):
        ticks = [part * 10.0**i for i in range(first, last + 1) for part in parts if low <= part * 10.0**i <= high]
        if 2 <= len(ticks) <= most:
            return ticks
    return []


def tick_labels(ticks: list[float], log: bool = False) -> list[str]:
    """The ticks as text: with the same decimals on a linear scale, as powers of ten where they are very small or very large.

    >>> tick_labels([0.0, 0.5, 1.0]), tick_labels([1e-7, 1e-6], log=True), tick_labels([0.0, 2e9])
    (['0.0', '0.5', '1.0'], ['10⁻⁷', '10⁻⁶'], ['0', '2×10⁹'])
    """
    sizes = [abs(t) for t in ticks if t != 0]
    if not sizes:
        return ["0"] * len(ticks)
    if log:
        return [_power(t) for t in ticks] if min(sizes) < 1e-3 or max(sizes) >= 1e6 else [_decimal(t, -1) for t in ticks]
    gap = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=max(sizes))
    if max(sizes) < 1e-3 or max(sizes) >= 1e15 or (max(sizes) >= 1e6 and gap > 1e-3 * max(sizes)):
        return [_power(t) for t in ticks]
    decimals = max(len(_decimal(t, -1).partition(".")[2]) for t in ticks)
    return [_decimal(t, decimals) for t in ticks]


def _decimal(tick: float, decimals: int) -> str:
    """The tick with so many decimals, with as many as it needs where `decimals` is -1."""
    exact = decimal.Decimal(f"{tick:.15g}")  # a float's 16th digit is noise
    comma = "," if abs(exact) >= 10_000 else ""
    written = format(exact, f"{comma}.{decimals}f" if decimals >= 0 else f"{comma}f")
    return written.replace("-", "−")


def _power(tick: float) -> str:
    if tick == 0:
        return "0"
    mantissa, exponent = f"{tick:.10e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".").replace("-", "−")
    power = "10" + str(int(exponent)).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    return {"1": power, "−1": f"−{power}"}.get(mantissa, f"{mantissa}×{power}")


def spaced(
    scale: Scale, *, upright: bool = False, whole: bool = False, most: int = 8, edge: float = math.inf
) -> list[tuple[float, str]]:
    """(place, label) of as many ticks as stand beside each other (above each other if `upright`) without touching.

    With `whole` only whole numbers are ticks, where there are any. Labels beside each other are kept inside [0, edge].
    """
    for n in range(most, 0, -1):
        ticks = scale.ticks(n)
        ticks = [t for t in ticks if t == round(t)] or ticks if whole else ticks
        placed = [(scale.at(t), label) for t, label in zip(ticks, tick_labels(ticks, scale.log), strict=True)]
        placed = [(place, label) for place, label in placed if place is not None]
        if all(_apart(a, b, upright, edge) for a, b in itertools.pairwise(placed)):
            return placed
    return []


def _apart(a: tuple[float, str], b: tuple[float, str], upright: bool, edge: float) -> bool:
    if upright:
        return abs(b[0] - a[0]) >= 1.4 * SMALL
    return abs(label_middle(*b, edge) - label_middle(*a, edge)) >= (text_width(a[1]) + text_width(b[1])) / 2 + SMALL


def label_middle(place: float, label: str, edge: float) -> float:
    """Where the label of a tick is centred: at its place, or as near as [0, edge] lets it."""
    half = text_width(label) / 2
    return min(max(place, half), edge - half)
