"""The complex step: g_k = Im f(p + i h e_k) / h. No difference is taken, so h may be tiny and nothing cancels.

f is run as its traced program on complex numbers, where it has a complex form. What an equation may be:

    linear        real and imaginary parts apart: sums, reshapes, gathers, selections
    bilinear      matrix products and convolutions, by four real ones
    analytic      the complex function of the same name: products, quotients, exp, log, tanh, powers ...
    by pieces     |x|, max, min, clamp, comparisons: the piece is chosen by the real part
    constant      floor, sign, rounding, stop_gradient, casts to integers: derivative 0

Any other (erf, lgamma, solvers) has no complex form here: TypeError, with its line. An equation that no entry of params
reaches is run as it is, whatever it is; inside loops and branches all are taken as reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxbp import jaxprs
from jaxbp.routes.problem import Found, Passes, entries
from jaxbp.routes.ways import Options, each_entry


STEP = {"float32": 2.0**-60, "float64": 2.0**-100}  # its square is nothing beside 1, and small derivatives do not underflow


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LINEAR = _names("""add sub neg add_any reduce_sum cumsum broadcast_in_dim reshape squeeze expand_dims transpose rev concatenate
pad slice split dynamic_slice dynamic_update_slice gather scatter scatter-add scatter_add select_n copy copy_p reduce_window_sum
name optimization_barrier sharding_constraint device_put psum pvary""")
ANALYTIC = _names("""mul div exp exp2 log log1p expm1 sqrt rsqrt integer_pow pow square tanh
logistic sin cos tan asin acos atan sinh cosh asinh acosh atanh reduce_prod cumprod sort""")
BILINEAR = frozenset(("dot_general", "conv_general_dilated"))  # a complex convolution of JAX's saves a product by cancelling
CONSTANT = _names("""eq ne lt le gt ge eq_to lt_to le_to sign floor ceil round is_finite stop_gradient argmax argmin""")


def complex_step(fun: Callable, params: Any, args: tuple, kwargs: dict, options: Options) -> Found:
    """P evaluations on complex numbers; in float64 right to rounding."""
    found = entries(params)
    if found.dtype.name not in STEP:
        raise TypeError(f"gradient by 'complex': there are complex numbers of float32 and float64 only, params are {found.dtype}")
    program = jaxprs.trace(lambda params: fun(params, *args, **kwargs), params).program
    step = STEP[found.dtype.name] if options.step is None else options.step
    parts = found.split(found.row)

    def column(k: jax.Array) -> jax.Array:
        moved = found.split(jnp.zeros(found.size, found.dtype).at[k].set(step))
        pairs = iter(jax.lax.complex(a, b) for a, b in zip(parts, moved, strict=True))
        leaves = [next(pairs) if on else jnp.asarray(leaf) for leaf, on in zip(found.leaves, found.on, strict=True)]
        (value,) = _Complex(False).run(program, [_as_typed(v, var) for v, var in zip(leaves, program.in_avals, strict=True)])[0]
        return jnp.imag(value) / step

    columns, count = each_entry(column, found, options)
    return Found(found.grads(columns), Passes(forwards=count))


def _as_typed(value: jax.Array, aval: Any) -> jax.Array:
    return value.astype(_complex_of(aval.dtype, None)) if jnp.iscomplexobj(value) else value


class _Complex(jaxprs.Visitor):
    """Runs a program on complex numbers. everywhere: every floating value is complex, as the carry of a loop has to be."""

    def __init__(self, everywhere: bool):
        self.everywhere = everywhere

    def run(self, program: ClosedJaxpr, args: Sequence, state: Any = (), path: jaxprs.Path = ()) -> tuple[list, Any]:
        if not self.everywhere:
            return super().run(program, args, state, path)
        lifted = ClosedJaxpr(program.jaxpr, [_lifted(c, None) for c in program.consts])
        outs, state = super().run(lifted, args, state, path)
        return [_lifted(out, None) for out in outs], state

    def equation(self, eqn: JaxprEqn, args: list, state: Any, path: jaxprs.Path) -> tuple[list, Any]:
        if not any(jnp.iscomplexobj(a) for a in args):
            if jaxprs.programs(eqn) and eqn.primitive.name in jaxprs.INLINED:
                return self.enter(eqn, args, state, path)
            outs = jaxprs.bind(eqn, args)
        elif jaxprs.programs(eqn):
            if eqn.primitive.name in jaxprs.INLINED:
                return self.enter(eqn, args, state, path)
            return _Complex(True).enter(eqn, [_lifted(a, eqn) for a in args], state, path)
        else:
            outs = _apply(eqn, args)
        return [_lifted(out, eqn) for out in outs] if self.everywhere else outs, state


def _apply(eqn: JaxprEqn, args: list) -> list:
    """One equation with a complex operand."""
    name = eqn.primitive.name
    if name in PIECES:
        return [PIECES[name](eqn, *args)]
    if name in CONSTANT:
        return jaxprs.bind(eqn, [jnp.real(a) if jnp.iscomplexobj(a) else a for a in args])
    args = [_lifted(a, eqn) for a in args]
    if name in LINEAR:
        parts = [jaxprs.bind(eqn, [part(a) if jnp.iscomplexobj(a) else a for a in args]) for part in (jnp.real, jnp.imag)]
        return [jax.lax.complex(re, im) for re, im in zip(*parts, strict=True)]
    if name in BILINEAR:
        (a, b), (c, d) = ((jnp.real(z), jnp.imag(z)) for z in args)
        product = lambda left, right: jaxprs.bind(eqn, [left, right])[0]
        return [jax.lax.complex(product(a, c) - product(b, d), product(a, d) + product(b, c))]
    if name not in ANALYTIC:
        raise TypeError(_no_form(name, eqn))
    return jaxprs.bind(eqn, args)


def _no_form(what: str, eqn: JaxprEqn | None) -> str:
    where = jaxprs.place(eqn) if eqn is not None else ""
    return (
        f"gradient by 'complex': {what}{f' at {where}' if where else ''} has no complex form, so the complex step does not apply "
        "to this function; 'forward' and 'central' take it as it is"
    )


def _lifted(value: Any, eqn: JaxprEqn | None) -> Any:
    """A floating value as a complex one; others as they are."""
    dtype = jnp.result_type(value)
    return jnp.asarray(value).astype(_complex_of(dtype, eqn)) if jnp.issubdtype(dtype, jnp.floating) else value


def _complex_of(dtype: Any, eqn: JaxprEqn | None) -> Any:
    kinds = {"float32": jnp.complex64, "float64": jnp.complex128}
    if jnp.dtype(dtype).name not in kinds:
        raise TypeError(_no_form(jnp.dtype(dtype).name, eqn))
    return kinds[jnp.dtype(dtype).name]


# --- by pieces: the real part chooses, ties as JAX has them


def _cast(eqn: JaxprEqn, z: jax.Array) -> jax.Array:
    dtype = eqn.params["new_dtype"]
    return z.astype(_complex_of(dtype, eqn)) if jnp.issubdtype(dtype, jnp.floating) else jnp.real(z).astype(dtype)


def _absolute(eqn: JaxprEqn, z: jax.Array) -> jax.Array:
    return z * jnp.sign(jnp.real(z)).astype(z.dtype)  # at 0 the derivative 0


def _larger(sign: float, eqn: JaxprEqn, a: Any, b: Any) -> jax.Array:
    a, b = _lifted(a, eqn), _lifted(b, eqn)
    ahead = sign * (jnp.real(a) - jnp.real(b))
    return jnp.where(ahead > 0, a, jnp.where(ahead < 0, b, (a + b) / 2))


def _largest(reduce: Callable, eqn: JaxprEqn, z: jax.Array) -> jax.Array:
    axes = tuple(eqn.params["axes"])
    best = reduce(jnp.real(z), axis=axes, keepdims=True)
    found = jnp.real(z) == jnp.broadcast_to(best, z.shape)
    slope = jnp.sum(jnp.where(found, jnp.imag(z), 0), axis=axes) / jnp.sum(found, axis=axes).astype(best.dtype)
    return jax.lax.complex(jnp.squeeze(best, axes), slope)


def _clamped(eqn: JaxprEqn, low: Any, z: Any, high: Any) -> jax.Array:
    low, z, high = (jnp.broadcast_to(_lifted(a, eqn), jnp.shape(z)) for a in (low, z, high))
    below, above = jnp.real(z) < jnp.real(low), jnp.real(z) > jnp.real(high)
    inside = (jnp.real(z) > jnp.real(low)) & (jnp.real(z) < jnp.real(high))
    at_edge = jnp.real(z).astype(z.dtype)
    return jnp.where(below, low, jnp.where(above, high, jnp.where(inside, z, at_edge)))


def _max(eqn: JaxprEqn, a: Any, b: Any) -> jax.Array:
    return _larger(1.0, eqn, a, b)


def _min(eqn: JaxprEqn, a: Any, b: Any) -> jax.Array:
    return _larger(-1.0, eqn, a, b)


def _reduce_max(eqn: JaxprEqn, z: jax.Array) -> jax.Array:
    return _largest(jnp.max, eqn, z)


def _reduce_min(eqn: JaxprEqn, z: jax.Array) -> jax.Array:
    return _largest(jnp.min, eqn, z)


PIECES = {
    "convert_element_type": _cast,
    "abs": _absolute,
    "max": _max,
    "min": _min,
    "reduce_max": _reduce_max,
    "reduce_min": _reduce_min,
    "clamp": _clamped,
}
