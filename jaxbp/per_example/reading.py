"""Which parameters of a traced loss meet data in products, convolutions and look-ups, and how.

The program is that of one example. A parameter may be transposed, reshaped, cut and cast on its way (a view, views.py), also
into jit, remat and the constants of a scan. Each place where a view meets something else in a dot_general,
conv_general_dilated or gather is a `Use`. A parameter of which any use is not understood is refused as a whole: its
cotangents are then taken per example, which is slower and never wrong.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from jaxbp import jaxprs
from jaxbp.factors import Conv, Factor, Outer, Rows
from jaxbp.per_example.views import Steps, then
from jaxbp.windows import Window


ENTERED = (jaxprs.CALLS | jaxprs.REMAT).keys() - {"custom_vmap_call", "composite"}  # the others bring rules of their own
Key = tuple[int, ...]  # the equations that lead to one, each by its id: one program may be called twice


class Seen(NamedTuple):
    """What a variable holds of a parameter."""

    leaf: int
    steps: Steps
    shape: tuple[int, ...]

    def then(self, kind: str, *how: Any) -> Seen:
        return Seen(self.leaf, *then(self.steps, self.shape, kind, *how))


@dataclasses.dataclass(frozen=True)
class Use:
    """One place where a parameter meets data.

    steps: the view that its factor is of. data: which argument of the equation to keep. make: (data, out_bar), both with the
    batch and the axes of loops in front -> the factor. out: the shape and dtype of the equation's result; lengths: of the loops
    around it.
    """

    leaf: int
    steps: Steps
    data: int
    make: Callable[[jax.Array, jax.Array], Factor]
    out: jax.ShapeDtypeStruct
    lengths: tuple[int, ...]


class Reader:
    """Walks a program: `uses` by the key of their equation, `refused` the numbers of the leaves that are not understood."""

    def __init__(self) -> None:
        self.uses: dict[Key, Use] = {}
        self.refused: set[int] = set()

    def read(self, program: ClosedJaxpr, seen: list[Seen | None], key: Key = (), lengths: tuple[int, ...] = ()) -> list:
        """What the outputs hold of parameters, given what the inputs hold."""
        known = {var: view for var, view in zip(program.jaxpr.invars, seen, strict=True) if view is not None}
        look = lambda atom: None if isinstance(atom, Literal) else known.get(atom)
        for eqn in program.jaxpr.eqns:
            views = [look(atom) for atom in eqn.invars]
            if any(views):
                outs = self._equation(eqn, views, (*key, id(eqn)), lengths)
                known.update({var: view for var, view in zip(eqn.outvars, outs, strict=True) if view is not None})
        return [look(atom) for atom in program.jaxpr.outvars]

    def refuse(self, views: list[Seen | None]) -> None:
        self.refused |= {view.leaf for view in views if view is not None}

    def _equation(self, eqn: JaxprEqn, views: list[Seen | None], key: Key, lengths: tuple[int, ...]) -> list:
        name, nothing = eqn.primitive.name, [None] * len(eqn.outvars)
        if name in ENTERED:
            ((_, inner),) = jaxprs.programs(eqn)
            return self.read(inner, views, key, lengths)
        if name == "scan":
            self._scan(eqn, views, key, lengths)
            return nothing
        if name == "split":
            return _split(eqn, views[0])  # type: ignore[arg-type]
        if name in VIEWS and (view := VIEWS[name](eqn, views[0])) is not None:
            return [view]
        at = [i for i, view in enumerate(views) if view is not None]
        use = USES[name](eqn, at[0], views[at[0]], lengths) if name in USES and len(at) == 1 else None
        if use is None:
            self.refuse(views)
        else:
            self.uses[key] = use
        return nothing

    def _scan(self, eqn: JaxprEqn, views: list[Seen | None], key: Key, lengths: tuple[int, ...]) -> None:
        ((_, body),) = jaxprs.programs(eqn)
        n = eqn.params["num_consts"]
        self.refuse(views[n:])  # carried, or cut along the loop
        inside = [*views[:n], *[None] * (len(views) - n)]
        self.refuse(self.read(body, inside, key, (*lengths, eqn.params["length"])))


# --- equations that only move the entries of a parameter


def _cast(eqn: JaxprEqn, view: Seen) -> Seen | None:
    floating = all(jnp.issubdtype(_typed(var)[1], jnp.floating) for var in (eqn.invars[0], eqn.outvars[0]))
    return view if floating else None


def _reshape(eqn: JaxprEqn, view: Seen) -> Seen | None:
    """reshape, squeeze, expand_dims, and a broadcast along axes of length 1."""
    shape = _shape(eqn.outvars[0])
    if math.prod(shape) != math.prod(view.shape) or len(eqn.invars) > 1 or eqn.params.get("dimensions") is not None:
        return view.then("reshape", shape) if eqn.primitive.name == "squeeze" else None
    return view.then("reshape", shape)


def _broadcast(eqn: JaxprEqn, view: Seen) -> Seen | None:
    shape = _shape(eqn.outvars[0])
    return view.then("reshape", shape) if math.prod(shape) == math.prod(view.shape) else None


def _slice(eqn: JaxprEqn, view: Seen) -> Seen:
    p = eqn.params
    strides = p["strides"] or (1,) * len(view.shape)
    return view.then("slice", tuple(p["start_indices"]), tuple(p["limit_indices"]), tuple(strides))


def _split(eqn: JaxprEqn, view: Seen) -> list[Seen]:
    axis, ones = eqn.params["axis"], (1,) * len(view.shape)
    ends = list(itertools.accumulate(eqn.params["sizes"], initial=0))
    at = lambda values, i: (*values[:axis], i, *values[axis + 1 :])
    cut = lambda start, end: view.then("slice", at((0,) * len(ones), start), at(view.shape, end), ones)
    return list(itertools.starmap(cut, itertools.pairwise(ends)))


VIEWS: dict[str, Callable] = {
    "transpose": lambda eqn, view: view.then("transpose", tuple(eqn.params["permutation"])),
    "reshape": _reshape,
    "squeeze": _reshape,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "copy": lambda eqn, view: view,
    "convert_element_type": _cast,
}


# --- equations in which a parameter meets data


def _shape(var: Any) -> tuple[int, ...]:
    return var.aval.shape


def _typed(var: Any) -> tuple[tuple[int, ...], Any]:
    return var.aval.shape, var.aval.dtype


def _spec(eqn: JaxprEqn) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(*_typed(eqn.outvars[0]))


def _flat(a: jax.Array, loops: int, moved: tuple[int, ...], width: int) -> jax.Array:
    """(batch, *loops, *own axes) as (batch, steps, width), its own axes in the order `moved`; without steps (batch, width)."""
    front = loops + 1
    a = a.transpose(*range(front), *(front + axis for axis in moved))
    a = a.reshape(a.shape[0], -1, width)
    return a[:, 0] if a.shape[1] == 1 else a


def _dot(eqn: JaxprEqn, at: int, view: Seen, lengths: tuple[int, ...]) -> Use | None:
    """y = x w over any axes, seen as a product of matrices; w is turned to (contracted axes, free axes)."""
    contract, batch = eqn.params["dimension_numbers"]
    if batch[0]:
        return None
    w_in, x_in = tuple(contract[at]), tuple(contract[1 - at])
    x_shape = _shape(eqn.invars[1 - at])
    w_out, x_free = (tuple(i for i in range(len(s)) if i not in c) for s, c in ((view.shape, w_in), (x_shape, x_in)))
    fan_in = math.prod(view.shape[i] for i in w_in)
    fan_out = math.prod(view.shape[i] for i in w_out)
    seen = view.then("transpose", (*w_in, *w_out)).then("reshape", (fan_in, fan_out))
    n, m, loops = len(w_out), len(x_free), len(lengths)
    y_moved = tuple(range(n + m)) if at == 1 else (*range(n, n + m), *range(n))  # the result has the axes of its left side first
    turned = bool(seen.steps) and seen.steps[-1] == ("transpose", (1, 0))  # x w^T: the outer product the other way round

    def make(x: jax.Array, y_bar: jax.Array) -> Outer:
        outer = Outer(_flat(x, loops, (*x_free, *x_in), fan_in), _flat(y_bar, loops, y_moved, fan_out))
        return outer.T if turned else outer

    return Use(view.leaf, seen.steps[:-1] if turned else seen.steps, 1 - at, make, _spec(eqn), lengths)


def _conv(eqn: JaxprEqn, at: int, view: Seen, lengths: tuple[int, ...]) -> Use | None:
    """A kernel slid over one image, in any order of axes."""
    p = eqn.params
    numbers, x_shape = p["dimension_numbers"], _shape(eqn.invars[0])
    plain = p["batch_group_count"] == 1 and set(p["lhs_dilation"]) == {1} and not lengths
    if at != 1 or not plain or x_shape[numbers.lhs_spec[0]] != 1 or not 3 <= len(x_shape) <= 5:
        return None
    out, into, *space = numbers.rhs_spec
    seen = view.then("transpose", (*space, into, out))
    window = Window(seen.shape[:-2], tuple(p["window_strides"]), tuple(map(tuple, p["padding"])), tuple(p["rhs_dilation"]))
    groups = p["feature_group_count"]

    def image(a: jax.Array, spec: tuple[int, ...]) -> jax.Array:
        one, channels, *space = (1 + axis for axis in spec)
        return a.transpose(0, one, *space, channels)[:, 0]

    make = lambda x, y_bar: Conv(image(x, numbers.lhs_spec), image(y_bar, numbers.out_spec), window, groups)
    return Use(view.leaf, seen.steps, 0, make, _spec(eqn), lengths)


def _gather(eqn: JaxprEqn, at: int, view: Seen, lengths: tuple[int, ...]) -> Use | None:
    """Whole rows of a table, picked by their first index."""
    p = eqn.params
    numbers, ids = p["dimension_numbers"], _shape(eqn.invars[1])
    axes, width = len(ids) - 1, math.prod(view.shape[1:])
    rows = (
        at == 0
        and numbers.collapsed_slice_dims == numbers.start_index_map == (0,)
        and not getattr(numbers, "operand_batching_dims", ())
        and tuple(p["slice_sizes"]) == (1, *view.shape[1:])
        and tuple(numbers.offset_dims) == tuple(range(axes, axes + len(view.shape) - 1))
    )
    if not rows or p["mode"] == lax.GatherScatterMode.ONE_HOT:
        return None
    size, clipped = view.shape[0], p["mode"] == lax.GatherScatterMode.CLIP
    seen = view.then("reshape", (size, width))

    def make(ids: jax.Array, rows_bar: jax.Array) -> Rows:
        ids = ids.reshape(ids.shape[0], -1)
        signed = ids.astype(jnp.promote_types(ids.dtype, jnp.int32))
        return Rows(jnp.clip(signed, 0, size - 1) if clipped else signed, rows_bar.reshape(*ids.shape, width), size)

    return Use(view.leaf, seen.steps, 1, make, _spec(eqn), lengths)


USES: dict[str, Callable] = {"dot_general": _dot, "conv_general_dilated": _conv, "gather": _gather}
