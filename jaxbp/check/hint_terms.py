"""Terms that are missing or too many: what the error of a leaf is made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from jaxbp.check.hint_case import Case, uneven, varied
from jaxbp.check.hint_numbers import Number
from jaxbp.check.hint_regions import aligned, region
from jaxbp.check.report import Hint


def decay(case: Case) -> Hint | None:
    """error = k · value, with a k of some name or a scalar output: else it is rather the term of a projection.

    For a single number k has to be of two digits, where neither the value nor the truth is so short.
    """
    value = case.value
    if value is None or not np.any(value) or not (uneven(value) or value.size == 1):
        return None
    bars = [float(g.reshape(-1)[0]) for g in case.context.out_bar if g.size == 1 and np.any(g)]
    for bar in bars:
        k = _decay_rate(case, value, value * bar)
        if k is not None and k.short:
            return _decay(case, k.text if bar == 1.0 else f"{k.text} × the output's cotangent")
    k = _decay_rate(case, value, value)
    if k is None or not (k.short or bars or not case.context.out_bar):
        return None
    return _decay(case, k.text)


def _decay_rate(case: Case, value: np.ndarray, q: np.ndarray) -> Number | None:
    if case.true.size > 1:
        return case.multiple_of(q)
    rate, noise = case.error.item() / q.item(), 3 * case.context.tolerance * case.scale
    chance = any(abs(a.item() - float(f"{a.item():.3g}")) <= 1e-6 * abs(a.item()) for a in (value, case.true))
    if chance or not abs(float(f"{rate:.2g}") - rate) * abs(q.item()) <= noise <= 1e-6 * abs(case.error.item()):
        return None
    return case.coefficient(case.error, q)


def _decay(case: Case, k: str) -> Hint:
    return Hint("decay", f"claimed − true = k · the value of '{case.leaf}', with k = {k}: a decay term too many or missing")


def two_factors(case: Case) -> Hint | None:
    """claimed = 0 · true at some entries and 2 · true at others, as where one of several equal ones takes it all."""
    known = np.abs(case.true) > case.tol
    if np.any(case.wrong & ~known) or np.count_nonzero(case.wrong) < 2:
        return None
    c, t = case.claimed[case.wrong], case.true[case.wrong]
    none = np.abs(c) <= case.tol
    if not np.any(none) or np.all(none):
        return None
    k = case.coefficient(c[~none], t[~none])
    if not k.known or np.max(np.abs(c[~none] - k.value * t[~none])) > case.tol:
        return None
    counts = f"{np.count_nonzero(none)} entries and {k.text} · true at {np.count_nonzero(~none)}"
    return Hint("subset", f"claimed is 0 at {counts}: one of several entries takes what they should share")


def symmetry(case: Case) -> Hint | None:
    """A matrix cotangent that lacks its transpose, or has it too many."""
    c, t = case.claimed, case.true
    if t.ndim < 2 or t.shape[-1] != t.shape[-2] or t.shape[-1] < 2:
        return None
    for half, words in ((0.5, "half of "), (1.0, "")):
        if case.fits(half * (c + np.swapaxes(c, -1, -2)), t, 0):
            return Hint("missing-term", f"the transpose is missing: {words}claimed + claimedᵀ is right")
        if case.fits(c, half * (t + np.swapaxes(t, -1, -2)), 0):
            return Hint("missing-term", f"a transpose too many: claimed is {words}true + trueᵀ")
    return None


def missing_term(case: Case) -> Hint | None:
    """Named where it can be; else the last resort: wrong everywhere, by different amounts, and no other rule fits."""
    text = next(itertools.chain(_parallel(case), _multiplied(case), _by_slices(case)), None)
    if not np.any(np.abs(case.true) > case.tol):
        why = "a term too many, a stop_gradient that the rule does not heed, or a straight-through estimator (see derivative_of)"
        return Hint("missing-term", "; ".join(filter(None, [text, f"the true cotangent is zero: {why}"])))
    if text is not None:
        return Hint("missing-term", text)
    right = case.right()
    if np.count_nonzero(case.wrong) < max(1, np.count_nonzero(right)):
        return None
    some = np.count_nonzero(right) > 0.1 * np.count_nonzero(case.wrong)
    where = region(case.leaf, right, case.wrong, case.true, case.context)[0] if some else ""
    rest = f" (right only {where.removeprefix('only ')})" if where else ""
    return Hint("missing-term", f"{_known(case)}{rest}: a term is missing or too many, or a residual is not the right value")


def _known(case: Case) -> str:
    """Where the error is largest, and what it is no multiple of."""
    at = np.unravel_index(int(np.argmax(np.abs(case.error))), case.error.shape)
    bars = ["the output's cotangent"] if any(_summed(g, case.true.shape) is not None for g in case.context.out_bar) else []
    names = [*(name for name, _ in _arrays(case)), *bars]
    names = [*names[:3], f"{len(names) - 3} other arrays"] if len(names) > 4 else names
    none = f"; the error is no multiple of {' or '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}" if names else ""
    if case.true.size < 2:
        return f"off by {case.error.item():.4g}, by no simple factor"
    worst = f"{case.claimed[at]:.4g} where the truth is {case.true[at]:.4g}"
    return (
        f"{np.count_nonzero(case.wrong)} of {case.true.size} entries are wrong, most of all {list(map(int, at))}, {worst}{none}"
    )


def _quantities(case: Case) -> Iterator[tuple[str, np.ndarray]]:
    """Natural quantities of the leaf's shape."""
    shape, ctx, value = case.true.shape, case.context, case.value
    for path, other in ctx.true.items():
        if path != case.leaf and other.shape == shape:
            yield f"the true cotangent of '{path}'", other
    bars = [(_summed(g, shape), g.shape == shape) for g in ctx.out_bar]
    bars = [("the output's cotangent" + ("" if same else ", summed"), g) for g, same in bars if g is not None]
    yield from bars
    for name, q in _arrays(case):
        yield name, q
        yield from ((f"{name} × {bar}", q * g) for bar, g in bars)
        yield f"{name} × the true cotangent", q * case.true
    if value is not None:
        yield f"the sign of '{case.leaf}', the slope of |.|", np.sign(value)
        yield f"the square of '{case.leaf}'", value**2


def _arrays(case: Case) -> Iterator[tuple[str, np.ndarray]]:
    """The leaf's value, the outputs, and the other float leaves, where they go on the leaf's shape."""
    values = case.context.values
    named = [(case.leaf, values.get(case.leaf))] + [(path, v) for path, v in values.items() if path != case.leaf]
    found = [(f"the value of '{path}'", v) for path, v in named if v is not None and v.dtype.kind == "f"]
    for name, v in found[:1] + [("the output", y) for y in case.context.outputs] + found[1:]:
        if (a := aligned(v, case.true.shape)) is not None:
            yield name, a


def _summed(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """g, or its sum over leading axes, where that has the shape: what a bias gets."""
    lead = g.ndim - len(shape)
    return np.sum(g, tuple(range(lead))) if shape and lead >= 0 and g.shape[lead:] == shape else None


def _parallel(case: Case) -> Iterator[str]:
    """error = k · q, or k of its own for each slice along an axis."""
    for name, q in _quantities(case):
        if uneven(q) and (k := case.multiple_of(q)) is not None:
            yield f"claimed − true = k · {name}, with k = {k.text}"
    shaped = [(name, q) for name, q in _arrays(case) if name in ("the output", f"the value of '{case.leaf}'")]
    for axis in (a for a in range(case.true.ndim) if case.true.shape[a] > 2):
        centred = [] if case.value is None else [case.value - np.mean(case.value, axis, keepdims=True)]
        for name, q in shaped + [(f"'{case.leaf}' − its mean along axis {axis}", q) for q in centred]:
            squares = np.sum(q * q, axis, keepdims=True)
            k = np.sum(case.error * q, axis, keepdims=True) / np.where(squares > 0.0, squares, 1.0)
            if uneven(q) and case.fits(case.error, k * q, k.size):
                yield f"along axis {axis} the error is parallel to {name}: a term of that form, times a sum over the axis"


def _multiplied(case: Case) -> Iterator[str]:
    """claimed · q = true or claimed = true · q."""
    bars = [("the output's cotangent", a) for g in case.context.out_bar if (a := aligned(g, case.true.shape)) is not None]
    for name, q in itertools.chain(_arrays(case), bars):
        if not np.all(np.isfinite(q)) or not (varied(q) or uneven(q)):
            continue
        if case.fits(case.claimed * q, case.true, 1):
            yield f"claimed lacks a factor: claimed × {name} is right"
        if case.fits(case.claimed, case.true * q, 1):
            yield f"claimed has a factor too many: it is the truth × {name}"


def _by_slices(case: Case) -> Iterator[str]:
    """claimed = true times a number that changes along one axis only."""
    for axis in (a for a in range(case.true.ndim) if case.true.ndim > 1 and case.true.shape[a] > 1):
        others = tuple(a for a in range(case.true.ndim) if a != axis)
        squares = np.sum(case.true**2, others, keepdims=True)
        k = np.sum(case.claimed * case.true, others, keepdims=True) / np.where(squares > 0.0, squares, 1.0)
        if case.fits(case.claimed, k * case.true, 2 * k.size):
            yield f"claimed = true × a factor for each index of axis {axis}, from {np.min(k):.4g} to {np.max(k):.4g}"
