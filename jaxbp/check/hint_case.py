"""One wrong leaf with all that is known about it, and what it takes for a rule to fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxbp.check.hint_numbers import Number, number


EVIDENCE = 5.0  # decimal digits of agreement beyond the free numbers of a rule
FIT = 1e-7  # of the leaf's scale: a rule in float64 that rounds through float32 somewhere still matches


class Context(NamedTuple):
    """All that is known at a failed check. Dictionaries hold every leaf by its path.

    tolerance: errors below tolerance × the leaf's scale are noise. outputs: the primal's, where they are known.
    """

    values: dict[str, np.ndarray]
    claimed: dict[str, np.ndarray]
    true: dict[str, np.ndarray]
    out_bar: Sequence[np.ndarray] = ()
    tolerance: float = 1e-9
    batch: int | None = None
    outputs: Sequence[np.ndarray] = ()


class Case(NamedTuple):
    """One wrong leaf. error = claimed − true; wrong: |error| > tol, the tolerance of every fit; scale: of the leaf."""

    leaf: str
    claimed: np.ndarray
    true: np.ndarray
    error: np.ndarray
    wrong: np.ndarray
    tol: float
    scale: float
    context: Context

    @property
    def value(self) -> np.ndarray | None:
        """The leaf's primal value, None where it is unknown or has another shape."""
        value = self.context.values.get(self.leaf)
        return None if value is None or value.shape != self.true.shape else value.astype(np.float64)

    def fits(self, a: np.ndarray, b: np.ndarray, free: float = 1.0) -> bool:
        """Whether a = b within tol on all entries, and not by chance, `free` numbers having been fitted."""
        digits = np.log10(np.max(np.abs(self.error)) / self.tol)
        enough = (np.count_nonzero(self.wrong) - free) * digits >= EVIDENCE
        return bool(enough and np.max(np.abs(a - b)) <= self.tol)

    def coefficient(self, a: np.ndarray, q: np.ndarray) -> Number:
        """The k of a = k q, by least squares, under its best name."""
        shapes = {f"'{path}'": np.shape(v) for path, v in self.context.values.items()}
        outputs = {f"output {i}" if i else "the output": np.shape(g) for i, g in enumerate(self.context.out_bar)}
        k = float(np.sum(a * q) / np.sum(q * q))
        return number(k, max(3 * self.tol / largest(q), 1e-12 * abs(k)), shapes | outputs, self.context.batch)

    def multiple_of(self, q: np.ndarray) -> Number | None:
        """k where error = k · q on every entry."""
        some = np.linspace(0, q.size - 1, min(q.size, 64)).astype(np.int64)
        e, p = self.error.reshape(-1)[some], q.reshape(-1)[some]
        if np.max(np.abs(e * np.sum(p * p) - p * np.sum(e * p))) > 100 * self.tol * np.sum(p * p):
            return None  # cheaply, for large leaves: not even these agree
        squares = np.sum(q * q)
        if not squares > 0.0 or not np.isfinite(squares):
            return None
        k = self.coefficient(self.error, q)
        return k if self.fits(self.error, k.value * q) else None

    def right(self) -> np.ndarray:
        """Entries without error that an error of the usual relative size would have shown."""
        sizes = np.abs(self.true)
        ratios = np.abs(self.error[self.wrong]) / np.maximum(sizes[self.wrong], self.tol)
        return ~self.wrong & (sizes * min(np.median(ratios), 1.0) > 10 * self.tol)


def case_of(leaf: str, claimed: np.ndarray, true: np.ndarray, context: Context) -> Case:
    """The case of one leaf, whose cotangents are finite. A leaf is small beside the whole gradient only if its error is."""
    error = claimed - true
    everything = max((largest(t) for t in context.true.values()), default=0.0)
    scale = max(largest(true), 1e-3 * everything)
    if not largest(error) > context.tolerance * scale or scale == 0.0:
        scale = largest(true) or largest(claimed)
    tol = max(context.tolerance * scale, min(FIT * scale, 1e-5 * largest(error)), np.finfo(np.float64).tiny)
    return Case(leaf, claimed, true, error, np.abs(error) > tol, tol, scale, context)


def plain(context: Context) -> Context:
    """With every array as NumPy's own float64, integer or bool; others, such as float0, left out."""
    tree = lambda leaves: {path: a for path, leaf in leaves.items() if (a := _plain(leaf)) is not None}
    flat = lambda leaves: [a for leaf in leaves if (a := _plain(leaf)) is not None]
    values, claimed, true = tree(context.values), tree(context.claimed), tree(context.true)
    out_bar, outputs = flat(context.out_bar), flat(context.outputs)
    return context._replace(values=values, claimed=claimed, true=true, out_bar=out_bar, outputs=outputs)


def _plain(a: Any) -> np.ndarray | None:
    a = np.asarray(a)
    if a.dtype.kind in "iub":
        return a
    try:
        return a.astype(np.float64) if a.dtype.itemsize and a.dtype.kind in "fV" else None  # V: bfloat16 and its kin
    except (TypeError, ValueError):
        return None


def largest(a: np.ndarray) -> float:
    """The largest |entry| that is finite."""
    a = np.abs(np.asarray(a, np.float64))
    return float(np.max(a, initial=0.0, where=np.isfinite(a)))


def varied(a: np.ndarray, tol: float = 0.0) -> bool:
    """Whether at least two entries that are not zero differ in size."""
    sizes = np.abs(a[np.abs(a) > tol])
    return bool(sizes.size > 1 and np.ptp(sizes) > 1e-3 * np.max(sizes))


def uneven(q: np.ndarray) -> bool:
    """Whether q is finite and not the same number everywhere."""
    return bool(np.all(np.isfinite(q)) and np.ptp(q) > 1e-3 * np.max(np.abs(q)))


def at(index: Sequence[Any]) -> str:
    return f"[{', '.join(str(int(i)) for i in index)}]"
