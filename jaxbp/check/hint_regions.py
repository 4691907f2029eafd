"""Which entries of a leaf are wrong: ties, masked ones, repeated indices, the last block, where the value is negative."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from jaxbp.check.hint_case import Context

BITS = 10.0  # a condition on another array, or a threshold, has to pick the wrong entries out of 2^10 possible choices


def region(leaf: str, wrong: np.ndarray, right: np.ndarray, true: np.ndarray, context: Context) -> tuple[str, bool]:
    """The words for the wrong entries, and whether they name more than a list of entries.

    A condition counts only where it holds at every wrong entry and at no right one. Entries that are neither do not speak.
    """
    if not np.any(wrong):
        return "", False
    bits = _bits(int(np.count_nonzero(wrong)), int(np.count_nonzero(right)))
    for text, mask in _conditions(leaf, true, context, bits):
        if np.all(mask[wrong]) and not np.any(mask[right]):
            return text, True
    for found in (_threshold(leaf, wrong, right, true, context, bits), _matrix(wrong, right)):
        if found:
            return found, True
    return _slices(wrong, right) or (_first(wrong), False)


def _bits(wrong: int, right: int) -> float:
    """log2 of the number of ways to choose as many entries."""
    return (math.lgamma(wrong + right + 1) - math.lgamma(wrong + 1) - math.lgamma(right + 1)) / math.log(2)


def aligned(v: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """v spread over the shape, its axes being the last ones or else the first ones; None where it does not go."""
    v = np.asarray(v)
    if v.size < 2 or v.ndim > len(shape):
        return None
    for view in (v, v.reshape(v.shape + (1,) * (len(shape) - v.ndim))):
        if all(a in (1, b) for a, b in zip(view.shape[::-1], shape[::-1], strict=False)):
            return np.broadcast_to(view, shape)
    return None


def tied(value: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Where a value occurs again, in the whole array or along one axis."""
    line = value.reshape(1, -1) if axis is None else np.moveaxis(value, axis, -1)
    order = np.argsort(line, -1, kind="stable")
    ordered = np.take_along_axis(line, order, -1)
    same = ordered[..., 1:] == ordered[..., :-1]
    again = np.zeros(line.shape, bool)
    again[..., 1:] |= same
    again[..., :-1] |= same
    found = np.zeros(line.shape, bool)
    np.put_along_axis(found, order, again, -1)
    return found.reshape(value.shape) if axis is None else np.moveaxis(found, -1, axis)


def _conditions(leaf: str, true: np.ndarray, context: Context, bits: float) -> Iterator[tuple[str, np.ndarray]]:
    """Conditions on the values, the most particular first."""
    value = context.values.get(leaf)
    value = value if value is not None and np.shape(value) == true.shape else None
    others = {path: np.asarray(v) for path, v in context.values.items() if path != leaf}
    if value is not None:
        yield from _own(leaf, value)
    for path, v in others.items():
        if value is not None and v.shape == value.shape and v.dtype.kind == "f":
            yield f"where '{leaf}' and '{path}' are equal", value == v
        if v.dtype.kind in "iu" and v.size > 1:
            yield from _indexed(path, v.astype(np.int64), true.shape)
        if v.dtype.kind == "b" and (mask := aligned(v, true.shape)) is not None:
            yield from ((f"where '{path}' is True", mask), (f"where '{path}' is False", ~mask))
    if bits < BITS:
        return
    named = [(f"'{path}'", v) for path, v in others.items() if v.dtype.kind in "iuf"]
    for name, v in itertools.chain(_compared(leaf, true, context), named):
        if (a := aligned(v, true.shape)) is not None:
            yield from ((f"where {name} {words}", mask) for words, mask in _signs(a))


def _compared(leaf: str, true: np.ndarray, context: Context) -> Iterator[tuple[str, np.ndarray]]:
    """What a kink, a clip or a guard may depend on, in the leaf's shape."""
    value = context.values.get(leaf)
    if value is not None and value.shape == true.shape:
        yield f"'{leaf}'", value
        for path, v in context.values.items():
            if path != leaf and v.dtype.kind == "f" and (a := aligned(v, true.shape)) is not None:
                yield f"'{leaf}' − '{path}'", value - a
                yield f"'{leaf}' × '{path}'", value * a
    yield "the true cotangent", true
    yield from (("the output", y) for y in context.outputs if y.shape == true.shape)
    yield from (("the output's cotangent", g) for g in context.out_bar if g.shape == true.shape)


def _own(leaf: str, value: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if np.any(again := tied(value)):
        for axis in (a for a in range(value.ndim) if value.ndim > 1 and value.shape[a] > 1):
            along = tied(value, axis)
            yield f"at ties: values of '{leaf}' that occur again along axis {axis}", along
            for name, extreme in (("largest", np.max), ("least", np.min)):
                best = value == extreme(value, axis, keepdims=True)
                yield f"at ties for the {name} of '{leaf}' along axis {axis}", along & best
        yield f"at ties: values of '{leaf}' that occur again", again
        for name, extreme in (("largest", np.max(value)), ("least", np.min(value))):
            yield f"at ties for the {name} of '{leaf}'", again & (value == extreme)
    for axis in (a for a in range(value.ndim) if value.shape[a] > 1):
        for name, extreme in (("largest", np.max), ("least", np.min)):
            yield f"at the {name} of '{leaf}' along axis {axis}", value == extreme(value, axis, keepdims=True)
    yield from ((f"where '{leaf}' {words}", mask) for words, mask in _signs(value))


def _signs(a: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield from (("is 0", a == 0), ("is not 0", a != 0), ("< 0", a < 0), ("> 0", a > 0), ("≤ 0", a <= 0), ("≥ 0", a >= 0))
    yield from ((f"is {sign}1", a == v) for sign, v in (("", 1), ("−", -1)))


def _indexed(path: str, indices: np.ndarray, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """indices: into an axis of the leaf, the label of each of its rows, the lengths of its rows, or a group of its entries."""
    for axis, size in enumerate(shape):
        if -size <= indices.min() and indices.max() < size and size > 1:
            counts = np.bincount((indices % size).ravel(), minlength=size)
            spread = lambda line, axis=axis: np.broadcast_to(line.reshape([-1] + [1] * (len(shape) - axis - 1)), shape)
            yield f"at indices of axis {axis} that occur more than once in '{path}'", spread(counts > 1)
            yield f"at indices of axis {axis} that never occur in '{path}'", spread(counts == 0)
            yield f"at indices of axis {axis} that occur in '{path}'", spread(counts > 0)
            negative = np.bincount((indices[indices < 0] % size).ravel(), minlength=size)
            yield f"at indices of axis {axis} that are negative in '{path}'", spread(negative > 0)
    if shape[:-1] == indices.shape:
        named = indices[..., None] == np.arange(shape[-1])
        yield from ((f"at the entry that '{path}' names", named), (f"at the entries that '{path}' does not name", ~named))
    if 0 < indices.ndim < len(shape):
        length = shape[indices.ndim]
        inside = np.arange(length) < indices[..., None]
        padding = inside.reshape(inside.shape + (1,) * (len(shape) - inside.ndim))
        if indices.shape == shape[: indices.ndim]:
            yield f"in the padding beyond the lengths '{path}'", np.broadcast_to(~padding, shape)
            yield f"inside the lengths '{path}'", np.broadcast_to(padding, shape)
    group, again = aligned(indices, shape), aligned(tied(indices), shape)
    if group is not None and again is not None:
        yield f"where the index in '{path}' occurs more than once", again
        for v in (indices.min(), indices.max(), 0, -1):
            yield f"where '{path}' is {v}", group == v


def _threshold(leaf: str, wrong: np.ndarray, right: np.ndarray, true: np.ndarray, context: Context, bits: float) -> str:
    """A bound that parts the wrong entries from the right ones, as a clip or a guard does."""
    for name, v in _compared(leaf, true, context) if bits >= BITS and np.any(right) else ():
        for form, a in ((name, v), (f"|{name}|", np.abs(v))):
            if np.min(a[wrong]) > np.max(a[right]):
                return f"where {form} is {np.min(a[wrong]):.4g} or more ({np.max(a[right]):.4g} is right)"
            if np.max(a[wrong]) < np.min(a[right]):
                return f"where {form} is {np.max(a[wrong]):.4g} or less ({np.min(a[right]):.4g} is right)"
    return ""


def _matrix(wrong: np.ndarray, right: np.ndarray) -> str:
    """The diagonal or a triangle of square matrices."""
    if wrong.ndim < 2 or wrong.shape[-1] != wrong.shape[-2] or wrong.shape[-1] < 3:
        return ""
    below = np.arange(wrong.shape[-1])[:, None] - np.arange(wrong.shape[-1])
    places = {"on the diagonal": below == 0, "off the diagonal": below != 0, "below the diagonal": below > 0}
    places |= {"above the diagonal": below < 0, "on and below the diagonal": below >= 0, "on and above the diagonal": below <= 0}
    for text, mask in places.items():
        mask = np.broadcast_to(mask, wrong.shape)
        if np.all(mask[wrong]) and not np.any(mask[right]):
            return text
    return ""


def _slices(wrong: np.ndarray, right: np.ndarray) -> tuple[str, bool] | None:
    """All entries of some slices along one axis, fewest slices first: 'only axis 0 at 6..7, the last 2 of 8'."""
    found = []
    for axis in (a for a in range(wrong.ndim) if wrong.shape[a] > 1):
        others = tuple(a for a in range(wrong.ndim) if a != axis)
        bad, good = np.any(wrong, others), np.any(right, others)
        if not np.any(bad & good) and not np.all(bad):
            found.append((np.count_nonzero(bad) / bad.size, axis, np.flatnonzero(bad), bad.size))
    if not found or np.count_nonzero(wrong) == 1:
        return None
    _, axis, at, size = min(found, key=lambda item: item[:2])
    words, regular = _run(at, size)
    return f"only axis {axis} at {words}", regular or max(wrong.shape) < wrong.size


def _run(at: np.ndarray, size: int) -> tuple[str, bool]:
    """Words for some indices of an axis, and whether they follow each other regularly."""
    first, last, n = int(at[0]), int(at[-1]), len(at)
    if n == 1:
        return f"{first}{', the last' if first == size - 1 else ''}, of {size}", True
    if last - first == n - 1:
        end = f", the last {n} of {size}" if last == size - 1 else f", the first {n} of {size}" if first == 0 else f" of {size}"
        return f"{first}..{last}{end}", True
    if n == 2 and (first, last) == (0, size - 1):
        return "both ends", True
    steps = np.unique(np.diff(at))
    if len(steps) == 1 and n > 2:
        return f"{first}, {int(at[1])}, …, {last}: every {int(steps[0])}. of {size}", True
    return ", ".join(str(i) for i in at[:6]) + (", …" if n > 6 else "") + f" of {size}", False


def _first(wrong: np.ndarray) -> str:
    at = np.argwhere(wrong[..., None] if wrong.ndim == 0 else wrong)[:3]
    listed = ", ".join(f"[{', '.join(str(int(i)) for i in index)}]" for index in at)
    return f"at {listed}{', …' if np.count_nonzero(wrong) > 3 else ''}"
