"""What a wrong cotangent looks like: exact-match rules that name the error, or else only say where it is.

A rule speaks only where it fits every entry of the leaf to within the noise, and where a chance fit is out of the question:
with d free numbers, w wrong entries and a fit to the fraction r of the error, (w − d)·log10(1/r) must reach `EVIDENCE`.
Plain NumPy in float64, at most O(n log n) for n entries.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from jaxbp.check.hint_case import Case, Context, at, case_of, plain, varied
from jaxbp.check.hint_regions import region, tied
from jaxbp.check.hint_terms import decay, missing_term, symmetry, two_factors
from jaxbp.check.report import Hint


LARGEST_SQUARE = 128  # matrices up to this size are tried as the one that was not transposed


def explain(leaf: str, claimed: np.ndarray, true: np.ndarray, context: Context) -> tuple[Hint, ...]:
    """What the error of one leaf looks like, the most telling hint first, "localised" always last.

    claimed, true: the cotangent that is wrong and the right one, of one shape. Entries where the truth itself is not
    finite are left out. At most one cause is named: the first in the order of precedence that fits exactly.
    """
    claimed, true = np.asarray(claimed, np.float64), np.asarray(true, np.float64)
    if claimed.shape != true.shape:
        raise ValueError(f"'{leaf}': expected two cotangents of one shape, got claimed {claimed.shape} and true {true.shape}")
    if claimed.size == 0:
        return (Hint("localised", "the leaf has no entries"),)
    with np.errstate(all="ignore"):  # whatever overflows fits nothing
        return _explain(leaf, claimed, true, plain(context))


def _explain(leaf: str, claimed: np.ndarray, true: np.ndarray, context: Context) -> tuple[Hint, ...]:
    known = np.isfinite(true)
    if not np.all(np.isfinite(claimed[known])):
        return _nan(leaf, claimed, true, context)
    case = case_of(leaf, np.where(known, claimed, 0.0), np.where(known, true, 0.0), context)
    if not np.any(case.wrong):
        return (Hint("localised", f"no entry is off by more than the noise, {case.tol:.1e}"),)
    hint = next((hint for rule in RULES if (hint := rule(case)) is not None), None)
    return (_localised(case),) if hint is None else (hint, _localised(case))


# --- where


def _nan(leaf: str, claimed: np.ndarray, true: np.ndarray, context: Context) -> tuple[Hint, ...]:
    bad = np.isfinite(true) & ~np.isfinite(claimed)
    index = np.unravel_index(np.argmax(bad), bad.shape)
    where = region(leaf, bad, ~bad, true, context)[0] if not np.all(bad) else ""
    count = f"{np.count_nonzero(bad)} of {bad.size} entries are not finite" if bad.size > 1 else "it is not finite"
    hint = Hint("nan", f"{count} where the truth is{f', {where}' if where else ''}: {claimed[index]} for {true[index]:.6g}")
    return hint, Hint("localised", f"first at {at(index)}: claimed {claimed[index]}, true {true[index]:.6g}")


def _localised(case: Case) -> Hint:
    index = np.unravel_index(np.argmax(np.abs(case.error)), case.error.shape)
    wrong = f"{np.count_nonzero(case.wrong)} of {case.wrong.size} entries wrong; " if case.wrong.size > 1 else ""
    return Hint("localised", f"{wrong}worst at {at(index)}: claimed {case.claimed[index]:.6g}, true {case.true[index]:.6g}")


# --- the whole leaf


def _zero(case: Case) -> Hint | None:
    if np.any(np.abs(case.claimed) > case.tol):
        return None
    text = "the claimed cotangent is zero, the true one is not: does bwd return None for it (JAX takes None for zero), or"
    return Hint("zero", f"{text} is it behind stop_gradient?")


def _factor(case: Case) -> Hint | None:
    """claimed = k · true. A k of no name counts only where at least two entries agree on it."""
    if np.sum(case.true**2) == 0.0:
        return None
    k = case.coefficient(case.claimed, case.true)
    if np.max(np.abs(case.claimed - k.value * case.true)) > case.tol:
        return None
    if k.text == "−1":
        return Hint("sign", "claimed = −true: the sign is wrong")
    if k.known or case.fits(case.claimed, k.value * case.true):
        return Hint("factor", f"claimed = k · true on every entry, with k = {k.text}")
    return None


def _transposed(case: Case) -> Hint | None:
    t, axes = case.true, range(case.true.ndim)
    swaps = itertools.permutations(axes) if t.ndim <= 4 else (_swap(t.ndim, i, j) for i, j in itertools.combinations(axes, 2))
    for order in sorted(swaps, key=lambda order: sum(i != a for i, a in enumerate(order))):
        moved = t.transpose(order)
        if case.fits(case.claimed, moved.reshape(t.shape), 0):
            if moved.shape != t.shape:
                return Hint("transposed", f"claimed is true.transpose{order}, its entries poured into the shape {t.shape}")
            swapped = [a for i, a in enumerate(order) if i != a]
            name = "true.T" if t.ndim == 2 else f"true with axes {_listed(swapped)} exchanged"
            return Hint("transposed", f"claimed = {name}")
    return _untransposed_operand(case)


def _swap(ndim: int, i: int, j: int) -> tuple[int, ...]:
    order = list(range(ndim))
    order[i], order[j] = j, i
    return tuple(order)


def _listed(items: Sequence[int]) -> str:
    return " and ".join(str(i) for i in sorted(items))


def _untransposed_operand(case: Case) -> Hint | None:
    """true = d Wᵀ but claimed = d W for a square W and some d (also on the left, and inverses): claimed = true W⁻ᵀ W."""
    t = case.true
    matrices = [(f"'{path}'", w) for path, w in case.context.values.items()]
    for name, w in matrices + [("the output's cotangent", g) for g in case.context.out_bar]:
        square = w.ndim == 2 and 1 < len(w) == w.shape[1] <= LARGEST_SQUARE and w.dtype.kind == "f"
        if not square or not np.all(np.isfinite(w)) or np.linalg.cond(w) > 1e6:
            continue
        inverse = np.linalg.inv(w)
        turns = [(inverse.T @ w, name), (inverse @ w.T, name), (w.T @ inverse, f"the inverse of {name}")]
        turns += [(w @ inverse.T, f"the inverse of {name}")]
        for turn, what in turns:
            on_right = t.ndim and t.shape[-1] == len(w) and case.fits(case.claimed, t @ turn, 0)
            if on_right or (t.ndim == 2 and t.shape[0] == len(w) and case.fits(case.claimed, turn.T @ t, 0)):
                return Hint(
                    "transposed", f"claimed multiplies by {what} where the truth multiplies by its transpose, or the reverse"
                )
    return None


def _swapped(case: Case) -> Hint | None:
    for path, other in case.context.true.items():
        if path == case.leaf or case.true.size < 2 or not np.all(np.isfinite(other)):
            continue
        for name, candidate in (("", other), (", transposed", np.transpose(other)), (", with the other sign", -other)):
            if candidate.shape == case.true.shape and case.fits(case.claimed, candidate, 0):
                return Hint("swapped", f"claimed is the true cotangent of '{path}'{name}")
    return None


# --- the right entries in another order


def _permuted(case: Case) -> Hint | None:
    if np.count_nonzero(case.wrong) < 2 or case.true.size < 2:
        return None
    axes = [a for a in range(case.true.ndim) if case.true.shape[a] > 1]
    for count in (1, 2, 3):
        for some in itertools.combinations(axes, count):
            if case.fits(case.claimed, np.flip(case.true, some), 0):
                return Hint("permuted", f"claimed is true reversed along {'axis' if count == 1 else 'axes'} {_listed(some)}")
    for axis in axes:
        if (text := _rolled(case, axis)) is not None:
            return Hint("permuted", text)
    same = case.fits(np.sort(case.claimed, axis=None), np.sort(case.true, axis=None))
    if same and varied(case.true[case.wrong], case.tol) and not _only_ties(case):
        return Hint("permuted", f"claimed has the right entries in another order, {np.count_nonzero(case.wrong)} out of place")
    return None


def _only_ties(case: Case) -> bool:
    """A share that went to another of several equal values is a matter of ties, not of order."""
    ties = np.zeros(case.wrong.shape, bool) if case.value is None else tied(case.value)
    return bool(np.all(ties[case.wrong]) and not np.all(ties))


def _rolled(case: Case, axis: int) -> str | None:
    """Whether claimed is true moved along an axis, around its end or off it; by how far, the peak of their correlation tells."""
    c, t = (np.moveaxis(a, axis, 0) for a in (case.claimed, case.true))
    n = len(c)
    weights = np.cos(np.arange(c[0].size) + 1.0).reshape(c[0].shape)
    lines = [np.tensordot(a, weights, c.ndim - 1) for a in (c, t)]
    spectrum = np.fft.rfft(lines[0]) * np.conj(np.fft.rfft(lines[1]))
    peak = int(np.argmax(np.fft.irfft(spectrum, n)))
    for shift in dict.fromkeys((peak, 1, n - 1)):
        by = shift if shift <= n // 2 else shift - n
        if shift and case.fits(c, np.roll(t, shift, 0), 0):
            return f"claimed is true rolled by {by} along axis {axis}"
        kept, source = (c[by:], t[:-by]) if by > 0 else (c[:by], t[-by:])
        if by and 2 * len(kept) > n and varied(source, case.tol) and case.fits(kept, source):
            return f"claimed is true shifted by {by} along axis {axis}, other values coming in at the end"
    return None


# --- the error has a shape of its own


def _constant(case: Case) -> Hint | None:
    """The error is the same along an axis, in most of the leaf: the most axes at once."""
    axes = [a for a in range(case.true.ndim) if case.true.shape[a] > 1]
    if 2 * np.count_nonzero(case.wrong) <= case.wrong.size or not (varied(case.true, case.tol) or varied(case.claimed, case.tol)):
        return None
    for count in range(len(axes), 0, -1):
        for some in itertools.combinations(axes, count):
            mean = np.mean(case.error, some, keepdims=True)
            if case.fits(case.error, np.broadcast_to(mean, case.error.shape), mean.size):
                return Hint("constant", _constant_text(case, some))
    return None


def _constant_text(case: Case, axes: tuple[int, ...]) -> str:
    along = f"along {'axis' if len(axes) == 1 else 'axes'} {_listed(axes)}"
    if np.max(np.abs(np.mean(case.true, axes))) <= case.tol:
        return f"the error is constant {along}, where the truth sums to 0: claimed − mean(claimed) {along} would be right"
    if np.max(np.abs(np.mean(case.claimed, axes))) <= case.tol:
        return f"the error is constant {along}, where the claimed sums to 0: a mean is subtracted that should not be"
    return f"the error is constant {along}: a mean or sum over it is missing, or too many"


# --- some entries only


def _subset(case: Case) -> Hint | None:
    """Right in some entries that could have shown the error. Where three in four are wrong, something must set those apart."""
    right = case.right()
    wrong, count = np.count_nonzero(case.wrong), np.count_nonzero(right)
    if count < max(1, 0.1 * (wrong + count)):
        return None
    where, telling = region(case.leaf, case.wrong, right, case.true, case.context)
    inside, exact = _inside(case)
    if wrong > 3 * count and not (exact or telling):
        return None
    return Hint("subset", f"right but for {wrong} of {case.wrong.size} entries{f', {where}' if where else ''}{inside}")


def _inside(case: Case) -> tuple[str, bool]:
    """What holds at the wrong entries, and whether it is one exact thing."""
    c, t = case.claimed[case.wrong], case.true[case.wrong]
    if np.all(np.abs(c) <= case.tol):
        return ": the claimed is 0 there", True
    if np.all(np.abs(t) <= case.tol):
        return ": the truth is 0 there", True
    k = case.coefficient(c, t)
    if np.max(np.abs(c - k.value * t)) <= case.tol and (k.known or varied(t, case.tol)):
        return f": claimed = k · true there, with k = {k.text}", True
    if c.size > 1 and np.ptp(c - t) <= case.tol:
        return f": off by {c[0] - t[0]:.4g} there", True
    return "", False


RULES = (_zero, _factor, _transposed, _swapped, _permuted, decay, _constant, symmetry, _subset, two_factors, missing_term)
