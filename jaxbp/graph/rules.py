"""The backward rules of the common primitives: what an output's cotangent sends to each operand.

    y = op(x_1, ..., x_k)    RULES[op](y_bar, (x_1, ..., x_k), y, params) = (x_1_bar, ..., x_k_bar)

None stands for an operand that gets nothing. The formulas are those that autodiff uses where values leave the finite
numbers (sqrt at 0 divides by its output), so that what goes wrong here goes wrong there. At ties max and min share evenly.
A primitive that is not here is differentiated through its own rule, `jax.vjp` of it (see `reverse`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax


Rule = Callable[[Any, Sequence, Any, dict], Sequence]

# What these give does not move with what they take, wherever it has a derivative.
ZERO = frozenset(("stop_gradient", "sign", "floor", "ceil", "round", "is_finite", "argmax", "argmin"))
ZERO |= frozenset(("eq", "ne", "lt", "le", "gt", "ge", "eq_to", "lt_to", "le_to", "and", "or", "xor", "not"))


def _unary(slope: Callable) -> Rule:
    return lambda bar, xs, y, params: (slope(bar, xs[0], y),)


def _to(bar: Any, x: Any) -> Any:
    """`bar` summed to the shape of `x`: scalars and axes of size 1 are broadcast without an equation of their own."""
    if jnp.shape(bar) == jnp.shape(x):
        return bar
    if not jnp.ndim(x):
        return jnp.sum(bar, dtype=bar.dtype)
    stretched = tuple(i for i, (n, m) in enumerate(zip(jnp.shape(x), bar.shape, strict=True)) if n != m)
    return jnp.sum(bar, axis=stretched, keepdims=True, dtype=bar.dtype)


def _like(x: Any, y: Any) -> Any:
    """`x` broadcast to the shape of `y`."""
    return x if jnp.shape(x) == jnp.shape(y) else lax.broadcast_in_dim(x, jnp.shape(y), range(jnp.ndim(x)))


def _add(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    return tuple(_to(bar, x) for x in xs)


def _sub(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    return _to(bar, xs[0]), _to(-bar, xs[1])


def _mul(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    a, b = xs
    return _to(bar * _like(b, bar), a), _to(bar * _like(a, bar), b)


def _div(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    a, b = xs
    b = _like(b, bar)
    return _to(bar / b, a), _to(-(bar * y) / b, xs[1])


def _integer_pow(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    n = params["y"]
    return (bar * (n * lax.integer_pow(xs[0], n - 1)) if n else None,)


def _extreme(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    a, b = (_like(x, y) for x in xs)
    tie, none = 0.5 * bar, jnp.zeros_like(bar)
    share = lambda mine, other: lax.select(mine == y, lax.select(other == y, tie, bar), none)
    return _to(share(a, b), xs[0]), _to(share(b, a), xs[1])


def _select_n(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    which, *cases = xs
    which = _like(which, bar)
    return None, *(lax.select(which == i, bar, jnp.zeros_like(bar)) for i in range(len(cases)))


def _broadcast_in_dim(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    x, dims = xs[0], params["broadcast_dimensions"]
    new = tuple(i for i in range(bar.ndim) if i not in dims)
    bar = jnp.sum(bar, axis=new, dtype=bar.dtype) if new else bar
    return (_to(bar, x), *(None for _ in xs[1:]))


def _reshape(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    return (jnp.reshape(bar, jnp.shape(xs[0])), *(None for _ in xs[1:]))


def _transpose(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    order = params["permutation"]
    return (jnp.transpose(bar, sorted(range(len(order)), key=order.__getitem__)),)


def _convert(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    return (bar.astype(xs[0].dtype) if jnp.issubdtype(xs[0].dtype, jnp.inexact) else None,)


def _concatenate(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    axis, ends = params["dimension"], [0]
    for x in xs:
        ends.append(ends[-1] + jnp.shape(x)[axis])
    return tuple(lax.slice_in_dim(bar, a, b, axis=axis) for a, b in itertools.pairwise(ends))


def _slice(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    starts, strides = params["start_indices"], params["strides"] or (1,) * bar.ndim
    config = []
    for start, stride, n, kept in zip(starts, strides, jnp.shape(xs[0]), bar.shape, strict=True):
        config.append((start, n - start - (stride * (kept - 1) + 1 if kept else 0), stride - 1))
    return (lax.pad(bar, jnp.zeros((), bar.dtype), config),)


def _over(params: dict, bar: Any, x: Any) -> Any:
    """A reduced array put back over the axes that were reduced."""
    kept = [i for i in range(jnp.ndim(x)) if i not in params["axes"]]
    return lax.broadcast_in_dim(bar, jnp.shape(x), kept)


def _reduce_sum(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    return (_over(params, bar, xs[0]),)


def _reduce_extreme(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    hits = (xs[0] == _over(params, y, xs[0])).astype(bar.dtype)
    count = jnp.sum(hits, axis=tuple(params["axes"]), dtype=bar.dtype)
    return (_over(params, bar / count, xs[0]) * hits,)


def _dot_general(bar: Any, xs: Sequence, y: Any, params: dict) -> Sequence:
    """A and B contracted over c, batched over b: A_bar is y_bar contracted with B over B's free axes; B_bar likewise."""
    a, b = xs
    ((a_con, b_con), (a_batch, b_batch)) = params["dimension_numbers"]
    batch = tuple(range(len(a_batch)))
    a_free = [i for i in range(a.ndim) if i not in (*a_con, *a_batch)]
    b_free = [i for i in range(b.ndim) if i not in (*b_con, *b_batch)]
    a_in_y = [len(batch) + i for i in range(len(a_free))]
    b_in_y = [len(batch) + len(a_free) + i for i in range(len(b_free))]

    def side(x: Any, other: Any, y_axes: list, free: list, other_batch: Any, mine: tuple, con: Any, other_con: Any) -> Any:
        dims = (tuple(y_axes), tuple(free)), (batch, tuple(other_batch))
        dtype = params["preferred_element_type"]
        out = lax.dot_general(bar, other, dims, precision=params["precision"], preferred_element_type=dtype)
        by_other = sorted(range(len(con)), key=lambda k: other_con[k])  # the contracted axes come in the other's order
        axes = [*mine[0], *mine[1], *(con[k] for k in by_other)]
        return jnp.transpose(out, sorted(range(x.ndim), key=axes.__getitem__)).astype(x.dtype)

    a_bar = side(a, b, b_in_y, b_free, b_batch, (a_batch, a_free), a_con, b_con)
    b_bar = side(b, a, a_in_y, a_free, a_batch, (b_batch, b_free), b_con, a_con)
    return a_bar, b_bar


RULES: dict[str, Rule] = {
    "add": _add,
    "add_any": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "max": _extreme,
    "min": _extreme,
    "integer_pow": _integer_pow,
    "neg": _unary(lambda bar, x, y: -bar),
    "exp": _unary(lambda bar, x, y: bar * y),
    "log": _unary(lambda bar, x, y: bar / x),
    "log1p": _unary(lambda bar, x, y: bar / (x + 1)),
    "expm1": _unary(lambda bar, x, y: bar * (y + 1)),
    "tanh": _unary(lambda bar, x, y: (bar + bar * y) * (1 - y)),
    "logistic": _unary(lambda bar, x, y: bar * y * (1 - y)),
    "sqrt": _unary(lambda bar, x, y: (0.5 * bar) / y),
    "rsqrt": _unary(lambda bar, x, y: bar * (-0.5 * (y / x))),
    "square": _unary(lambda bar, x, y: bar * (2 * x)),
    "sin": _unary(lambda bar, x, y: bar * lax.cos(x)),
    "cos": _unary(lambda bar, x, y: -(bar * lax.sin(x))),
    "abs": _unary(lambda bar, x, y: bar * lax.sign(x)),
    "copy": _unary(lambda bar, x, y: bar),
    "copy_p": _unary(lambda bar, x, y: bar),
    "name": _unary(lambda bar, x, y: bar),
    "select_n": _select_n,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "convert_element_type": _convert,
    "concatenate": _concatenate,
    "slice": _slice,
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_extreme,
    "reduce_min": _reduce_extreme,
    "dot_general": _dot_general,
}
