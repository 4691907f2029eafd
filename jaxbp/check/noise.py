"""How far rounding alone can move a result: every float intermediate of a program moved at random by up to one epsilon."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal

from jaxbp import jaxprs


# These move values about or compare them; they do not round.
EXACT = frozenset(
    {
        "abs",
        "and",
        "argmax",
        "argmin",
        "bitcast_convert_type",
        "broadcast_in_dim",
        "ceil",
        "clamp",
        "concatenate",
        "convert_element_type",
        "copy",
        "copy_p",
        "cummax",
        "cummin",
        "device_put",
        "dynamic_slice",
        "dynamic_update_slice",
        "eq",
        "expand_dims",
        "floor",
        "full_like",
        "gather",
        "ge",
        "gt",
        "iota",
        "is_finite",
        "le",
        "lt",
        "max",
        "min",
        "ne",
        "neg",
        "nextafter",
        "not",
        "optimization_barrier",
        "or",
        "pad",
        "real",
        "reduce_and",
        "reduce_max",
        "reduce_min",
        "reduce_or",
        "reshape",
        "rev",
        "round",
        "scatter",
        "select_n",
        "sign",
        "slice",
        "sort",
        "split",
        "squeeze",
        "stop_gradient",
        "top_k",
        "transpose",
        "zeros_like",
    }
)


class Jitter(jaxprs.Visitor):
    """Multiply the outputs of every rounding equation by 1 + u, |u| <= amplitude * eps of their dtype, u hashed from the value.

    `only` restricts it to one dtype; equations in `fixed` (their ids) are left alone. Exact zeros, infinities and NaN stay what
    they are.
    """

    def __init__(self, seed: Any, amplitude: Any, only: Any = None, fixed: Set[int] = frozenset()):
        self.seed, self.amplitude, self.only, self.fixed = seed, amplitude, only, fixed

    def equation(self, eqn: Any, args: list, state: Any, path: Any) -> tuple[list, Any]:
        outs, state = self.enter(eqn, args, state, path)
        if (eqn.primitive.name in EXACT and not narrows(eqn)) or jaxprs.programs(eqn) or id(eqn) in self.fixed:
            return outs, state
        return [self.move(out) for out in outs], state

    def move(self, out: Any) -> Any:
        dtype = jnp.result_type(out)
        if not jnp.issubdtype(dtype, jnp.floating) or (self.only is not None and dtype != self.only):
            return out
        size = self.amplitude * float(jnp.finfo(dtype).eps)
        return (out * (1 + size * hashed(out, self.seed))).astype(dtype)


def constant_equations(program: Any) -> frozenset[int]:
    """The ids of equations that hang on no input: a position or a size computed from numbers is exact, or a matter of course."""
    constant: set[int] = set()
    moving: set[int] = set()

    def walk(jaxpr: Any, varying: Sequence[bool]) -> list[bool]:
        known = {var for var, varies in zip(jaxpr.invars, varying, strict=True) if varies}
        varies = lambda atom: not isinstance(atom, Literal) and atom in known
        for eqn in jaxpr.eqns:
            inside, reached = [inner for _, inner in jaxprs.programs(eqn)], [varies(atom) for atom in eqn.invars]
            if eqn.primitive.name in jaxprs.INLINED:
                outs = walk(inside[0].jaxpr, reached) if inside else [any(reached)] * len(eqn.outvars)
            else:
                outs = [any(reached)] * len(eqn.outvars)
                for inner in inside:
                    walk(inner.jaxpr, [any(reached)] * len(inner.jaxpr.invars))
            (moving if any(reached) else constant).add(id(eqn))
            known |= {var for var, moves in zip(eqn.outvars, outs, strict=True) if moves}
        return [varies(atom) for atom in jaxpr.outvars]

    walk(program.jaxpr, [True] * len(program.jaxpr.invars))
    return frozenset(constant - moving)


def narrows(eqn: Any) -> bool:
    """A conversion to a floating dtype of fewer digits rounds."""
    if eqn.primitive.name != "convert_element_type":
        return False
    before, after = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    both = jnp.issubdtype(before, jnp.floating) and jnp.issubdtype(after, jnp.floating)
    return bool(both and jnp.finfo(after).eps > jnp.finfo(before).eps)


def hashed(x: Any, seed: Any) -> Any:
    """A number in [-1, 1) from the bits of x and a seed: cheap, and as good as random for rounding."""
    bits = lax.bitcast_convert_type(x.astype(jnp.float64), jnp.uint64) ^ seed
    bits = (bits ^ (bits >> 31)) * jnp.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> 27)) * jnp.uint64(0xBF58476D1CE4E5B9)
    return (bits >> 11).astype(jnp.float64) * 2.0**-52 - 1
