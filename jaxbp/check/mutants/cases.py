"""What the entries of the benchmark are: planted bugs with their cause and the hint they deserve, and correct functions.

`build(key, dtype)` draws the inputs, so that ten keys are ten cases; `dtype` is float32 or float64 (in x64 mode). The rules
themselves never name a dtype unless that is the bug, since a checker traces them again in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

import jax


NO_OPTIONS = MappingProxyType({})

HINTS = (
    "structure", "dtype", "primal", "nan", "nondeterministic", "jit", "vmap", "nonlinear", "zero", "sign", "factor",
    "transposed", "swapped", "permuted", "decay", "constant", "subset", "input", "second-order", "missing-term", "localised",
)  # fmt: skip


class Check(NamedTuple):
    """What is checked, and with what.

    kind "vjp": `fun` carries a custom rule; "jvp": the same, checked forward along a drawn tangent; "gradient": `fun` is
    plain and `other` is the gradient function; "pair": `fun(*args) -> (out, residuals)`, `other(residuals, out_bar)`.
    """

    fun: Callable
    args: tuple
    kind: str = "vjp"
    other: Callable | None = None
    options: Any = NO_OPTIONS  # batch_axes, order, ...: keyword arguments of the check


class Mutant(NamedTuple):
    """One planted bug. `hint` is the category that the wrong cotangent deserves, judged before any tool saw it."""

    area: str
    name: str
    cause: str
    build: Callable[[jax.Array, Any], Check]
    hint: str


class Correct(NamedTuple):
    """One function that is right; its name says why tools stumble over it."""

    area: str
    name: str
    build: Callable[[jax.Array, Any], Check]


def planted(area: str, *rows: tuple[str, str, Callable, str]) -> tuple[Mutant, ...]:
    """The bugs of one area from rows (name, cause, build, hint)."""
    return tuple(Mutant(area, *row) for row in rows)


def correct(area: str, *rows: tuple[str, Callable]) -> tuple[Correct, ...]:
    """The correct functions of one area from rows (name, build)."""
    return tuple(Correct(area, *row) for row in rows)


CAUSES = MappingProxyType({
    # the formula
    "wrong axis": "a sum, mean or softmax along another axis than the forward's",
    "sum over too much": "a sum over the whole array where one for each row is meant",
    "transpose": "a matrix transposed that should not be, or the reverse",
    "swapped axes": "height for width, rows for columns",
    "batch factor": "a mean over the batch for a sum, or the reverse",
    "width factor": "sqrt(d), d or a window size too many or too few",
    "constant factor": "a 2 or 1/2 of the derivative forgotten",
    "sign": "a minus lost",
    "wrong power": "x for x², 1/s for 1/s², sqrt for its square",
    "product rule": "one term of a product or quotient rule left out",
    "missing mean term": "the term through a mean, or through the normaliser, left out",
    "statistic held fixed": "a mean or variance of the data treated as a constant",
    "diagonal only": "the off-diagonal part of a Jacobian left out",
    "biased divisor": "n for n - 1, or the reverse",
    "epsilon misplaced": "epsilon inside the root in one direction, outside in the other",
    "approximate derivative": "the derivative of a neighbour of the function",
    "unit sum assumed": "right only where weights sum to one, or a vector has length one",
    "rounded constant": "a constant typed with few digits in the backward",
    "another constant": "a constant of a neighbouring formula, sqrt(2/π) for 2/sqrt(π)",
    "decay in the rule": "weight decay, or another penalty, inside the backward",
    "wrong primal": "the rule's own forward computes another value",
    # what reaches the backward
    "second use": "a value used twice whose cotangents are not both added",
    "stale residual": "the value before the step kept for the one after it, or the reverse",
    "swapped values": "two residuals, operands or cotangents exchanged",
    "argument dropped": "no cotangent for an argument that has one",
    "option not forwarded": "an option (scale, temperature, mode) known to the forward alone",
    "hard-coded size": "a length, count or size typed as a number",
    "smoothing forgotten": "label smoothing in the forward alone",
    "weights forgotten": "sample or class weights in the forward alone",
    "mask ignored": "a padding or validity mask in the forward alone",
    "padded length": "the padded length where the true one was meant",
    "causal mask forgotten": "the causal mask left out of one of the cotangents",
    "ignored label": "labels that the forward ignores get a gradient",
    "fresh dropout mask": "the mask drawn again from another key",
    # certain entries, certain data
    "ties": "equal entries treated otherwise than by the forward",
    "kink side": "the wrong branch on one side of a kink",
    "clip bound": "values clipped by the forward get a gradient, or the bound itself is wrong",
    "duplicates": "repeated indices overwrite instead of adding",
    "edge index": "the first, last, negative or out-of-range index",
    "index off by one": "rows shifted by one",
    "one entry": "one entry off by 1e-3",
    "batch of one": "a batch of one broadcast or squeezed wrongly",
    "last block": "the remainder of a blocked loop lost",
    "even and odd": "right for one parity of a size",
    "zero input": "wrong where an input is exactly zero",
    "rare branch": "wrong only where a rarely met condition holds",
    "saturation": "overflow or underflow in the backward alone",
    "nan guard": "0·inf or 0/0 in the backward without a guard",
    # layout
    "padding off by one": "asymmetric padding, or one row of it too many",
    "stride forgotten": "the cotangent not spread by the stride",
    "dilation forgotten": "the taps taken side by side in the backward",
    "groups mixed": "channels of another group",
    "reshape for transpose": "a reshape where a transpose was meant",
    "flip forgotten": "correlation for convolution",
    "overlap overwritten": "overlapping windows written instead of added",
    "border windows": "windows at the border counted or weighted wrongly",
    "reversed order": "a sequence run or stacked backwards",
    "not summed over time": "a shared parameter's cotangent from one step only",
    "broadcast not undone": "a broadcast axis not summed, or its size forgotten",
    # time
    "carry not passed": "the cotangent of a carry cut between steps",
    "initial state": "the first state treated as a constant",
    "step count": "one step too many or too few in the backward",
    # contracts of a rule
    "narrow dtype": "bfloat16 or float16 somewhere inside",
    "cotangent dtype": "the cotangent returned in another dtype",
    "cotangent ignored": "the incoming cotangent assumed to be one",
    "cotangent nonlinear": "the cotangent through abs, clip, sign or a norm",
    "nondeterminism": "fresh randomness or a mutated state",
    "under jit": "another result compiled than eager",
    "under vmap": "rows of a vmapped batch meet",
    "structure": "cotangents in another tree or shape",
    "second order": "the first derivative right, its own derivative cut off",
    # solvers, order, transforms, conventions
    "adjoint system": "the plain matrix or inverse where the transposed one is meant",
    "minus of an adjoint": "the sign of an adjoint solve or of an adjoint integral",
    "recomputed state": "states found again by going backwards that are not the forward's",
    "outer product turned": "v uᵀ for u vᵀ",
    "permutation not inverted": "the order of a sort where its inverse is meant",
    "transform norm": "another normalisation of an inverse Fourier transform",
    "complement": "t for 1 - t, or the reverse",
    "argument order": "cotangents in another order than the arguments",
    "sign of the entry": "sign(x) lost where |x| was differentiated",
    "difference turned": "b - a for a - b",
    "constant term": "the derivative of a linear term (a one, an identity) left out",
    "chain factor": "one factor of a chain left out",
    "skip path": "the direct path around a block left out",
    "second output": "the cotangent of one of several outputs never enters",
    "forward scale": "a multiplier of the forward missing in the backward",
    "other default": "an option whose default differs between forward and backward",
    "cotangent averaged": "one cotangent for the whole batch",
    "label convention": "labels coded -1, 1 where 0, 1 are meant",
    "padding id": "the row of the padding id trained",
    "block size assumed": "a batch that the block divides taken for granted",
})  # fmt: skip


def with_rule(primal: Callable, forward: Callable, backward: Callable, nondiff: tuple[int, ...] = ()) -> Callable:
    """`primal` with the rule (forward, backward): what `@jax.custom_vjp` and `defvjp` make of three functions."""
    rule = jax.custom_vjp(primal, nondiff_argnums=nondiff)
    rule.defvjp(forward, backward)
    return rule


def draw(key: jax.Array, dtype: Any, *shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Standard normal arrays, one of each shape."""
    keys = jax.random.split(key, len(shapes))
    return tuple(jax.random.normal(k, shape, dtype) for k, shape in zip(keys, shapes, strict=True))


def on(fun: Callable, *shapes: tuple[int, ...], **options: Any) -> Callable[[jax.Array, Any], Check]:
    """The commonest `build`: `fun` at standard normal arguments of these shapes."""
    return lambda key, dtype: Check(fun, draw(key, dtype, *shapes), options=options)
