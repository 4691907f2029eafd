"""The one walker over traced programs: it knows how JAX nests programs inside equations, and nothing else.

    trace(fun, *args)          a function of pytrees as a program of flat arrays
    equations(program)         every equation, however deep, with the path that leads to it
    evaluate(program, ...)     run a program equation by equation; a visitor says what an equation does

Entered: jit, remat, closed calls, custom rules, custom_vmap, cond, while, scan, shard_map. What `vmap` did is already
written into the program. Primitives whose functions are no plain sub-programs (custom_linear_solve, custom_root,
pallas_call) are equations like others; `closed_in` says what they keep inside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params
from jax.sharding import PartitionSpec


# Primitive names differ between JAX versions; each maps to the parameter that holds its program.
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "composite": "jaxpr", "custom_vmap_call": "call"}
CALLS |= dict.fromkeys(("closed_call", "core_closed_call", "core_call"), "call_jaxpr")
REMAT = {"checkpoint": "jaxpr", "remat": "jaxpr", "remat2": "jaxpr"}
CUSTOM_VJP = {"custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr"}
CUSTOM_JVP = {"custom_jvp_call": "call_jaxpr"}
CUSTOM_RULES = CUSTOM_VJP | CUSTOM_JVP
INLINED = CALLS | REMAT | CUSTOM_RULES

Path = tuple[str, ...]
OWN = (__file__, str(pathlib.Path(__file__).parent / "check"))  # never the line of a user


@dataclasses.dataclass(frozen=True)
class Traced:
    """A function of pytrees as a program: `program` takes the flat leaves of the arguments and gives flat outputs."""

    program: ClosedJaxpr
    out_tree: Any


def trace(fun: Callable, *args: Any) -> Traced:
    """`fun` at the shapes and dtypes of `args`, without running it."""
    program, out = jax.make_jaxpr(fun, return_shape=True)(*args)
    return Traced(program, jax.tree.structure(out))


def source(eqn: JaxprEqn) -> str:
    """'file.py:12 (function)': the line of the user's code that made an equation; '' where JAX does not know."""
    where = source_info_util.summarize(eqn.source_info)
    if ":" not in where or where.startswith(OWN):
        return ""
    return re.sub(r"(:\d+):\d+( \(|$)", r"\1\2", where)  # newer JAX adds the column


def place(eqn: JaxprEqn) -> str:
    """'file.py:12'."""
    return source(eqn).rpartition(" (")[0] or source(eqn)


def definition(eqn: JaxprEqn) -> tuple[str, str]:
    """(name, 'file.py:3') of the function whose program an equation holds; ('', '') where JAX does not know."""
    name = eqn.primitive.name
    jaxpr = eqn.params.get(INLINED.get(name, ""), None)
    info = getattr(getattr(jaxpr, "jaxpr", jaxpr), "debug_info", None)
    called, _, where = str(getattr(info, "func_src_info", "")).partition(" at ")
    return called, where


def programs(eqn: JaxprEqn) -> list[tuple[str, ClosedJaxpr]]:
    """The programs inside an equation, with what each is called on a path; none for an equation that is not entered."""
    name, params = eqn.primitive.name, eqn.params
    if name in INLINED:
        inner = _closed(params[INLINED[name]])
        # lax.custom_root is a custom_jvp rule by construction only: the derivative of its solver is not what is meant
        if name in CUSTOM_JVP and definition(eqn)[0] == "_custom_root":
            return []
        kind = "rule" if name in CUSTOM_RULES else "checkpoint" if name in REMAT else name
        called = definition(eqn)[0] if name in CUSTOM_RULES else params.get("name")
        return [(_label(f"{kind} {called}" if called else kind, eqn), inner)]
    if name == "cond":
        return [(_label(f"branch {i}", eqn), branch) for i, branch in enumerate(params["branches"])]
    if name == "while":
        return [(_label("while condition", eqn), params["cond_jaxpr"]), (_label("while body", eqn), params["body_jaxpr"])]
    if name == "scan":
        return [(_label("scan body", eqn), params["jaxpr"])]
    if name == "shard_map":
        return [(_label("shard_map", eqn), _closed(params["jaxpr"]))]
    return []


def closed_in(eqn: JaxprEqn) -> list[ClosedJaxpr]:
    """The programs that an equation keeps to itself: those of an equation that is not entered (custom_linear_solve ...)."""
    return [] if programs(eqn) else [_closed(inner) for inner in jaxprs_in_params(eqn.params)]


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def _label(name: Any, eqn: JaxprEqn) -> str:
    """'scan body at model.py:12'."""
    where = place(eqn)
    return f"{name} at {pathlib.Path(where).name}" if where else str(name)


def equations(program: ClosedJaxpr | Jaxpr, path: Path = ()) -> Iterator[tuple[JaxprEqn, Path]]:
    """Every equation in order, the ones inside an equation right after it."""
    for eqn in getattr(program, "jaxpr", program).eqns:
        yield eqn, path
        for label, inner in programs(eqn):
            yield from equations(inner, (*path, label))


class Visitor:
    """What `evaluate` does at an equation. Subclass and override `equation`.

    A state, any pytree of arrays, is threaded through all equations in order, loops and branches included: where a loop
    runs the state is part of its carry.
    """

    def equation(self, eqn: JaxprEqn, args: list, state: Any, path: Path) -> tuple[list, Any]:
        """(outputs, state) of one equation. The default runs it, entering the programs inside."""
        return self.enter(eqn, args, state, path)

    def enter(self, eqn: JaxprEqn, args: list, state: Any, path: Path) -> tuple[list, Any]:
        """Run one equation as it is, its inner programs through this visitor."""
        inside = programs(eqn)
        if not inside:
            return bind(eqn, args), state
        if eqn.primitive.name in INLINED:
            ((label, inner),) = inside
            return self.run(inner, args, state, (*path, label))
        return ENTER[eqn.primitive.name](self, eqn, args, state, path)

    def run(self, program: ClosedJaxpr, args: Sequence, state: Any = (), path: Path = ()) -> tuple[list, Any]:
        """(outputs, state) of a whole program."""
        jaxpr, values = program.jaxpr, {}
        read = lambda atom: atom.val if isinstance(atom, Literal) else values[atom]
        values.update(zip(jaxpr.constvars, program.consts, strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))
        last = _last_use(jaxpr)
        for i, eqn in enumerate(jaxpr.eqns):
            outs, state = self.equation(eqn, [read(atom) for atom in eqn.invars], state, path)
            values.update(zip(eqn.outvars, outs, strict=True))
            for var in last.get(i, ()):  # long programs run eagerly would keep every value alive
                values.pop(var, None)
        return [read(atom) for atom in jaxpr.outvars], state


def evaluate(program: ClosedJaxpr, *args: Any, visitor: Visitor | None = None) -> list:
    """The flat outputs of a program at flat arguments; without a visitor, with every custom rule opened to its primal."""
    return (visitor or Visitor()).run(program, args)[0]


def bind(eqn: JaxprEqn, args: Sequence) -> list:
    """The outputs of one equation as JAX runs it, rules included."""
    params = eqn.primitive.get_bind_params(eqn.params)
    subfuns, params = params if isinstance(params, tuple) else ((), params)  # older JAX gives the functions apart
    context = getattr(getattr(eqn, "ctx", None), "manager", None) or contextlib.nullcontext()  # the mesh, compute_on ...
    with context:
        outs = eqn.primitive.bind(*subfuns, *args, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]


def _last_use(jaxpr: Jaxpr) -> dict[int, list]:
    last: dict[Any, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        for atom in (*eqn.invars, *eqn.outvars):
            if not isinstance(atom, Literal):
                last[atom] = i
    kept = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    uses: dict[int, list] = {}
    for var, i in last.items():
        if var not in kept:
            uses.setdefault(i, []).append(var)
    return uses


def _enter_cond(visitor: Visitor, eqn: JaxprEqn, args: list, state: Any, path: Path) -> tuple[list, Any]:
    index, *operands = args
    branch = lambda label, inner: lambda operands, state: visitor.run(inner, operands, state, (*path, label))
    return lax.switch(index, [branch(label, inner) for label, inner in programs(eqn)], operands, state)


def _enter_while(visitor: Visitor, eqn: JaxprEqn, args: list, state: Any, path: Path) -> tuple[list, Any]:
    (cond_label, cond), (body_label, body) = programs(eqn)
    n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    cond_consts, body_consts, carry = args[:n], args[n : n + m], args[n + m :]
    proceed = lambda values, state: visitor.run(cond, [*cond_consts, *values], state, (*path, cond_label))
    mapped = bool(cond.out_avals[0].shape)  # `vmap` of a loop: each lane has a condition and keeps its values when done

    def step(again: Any, values: list, state: Any) -> tuple:
        new, state = visitor.run(body, [*body_consts, *values], state, (*path, body_label))
        return ([_kept(again, n, old) for n, old in zip(new, values, strict=True)] if mapped else new), state

    if not mapped and not jax.tree.leaves(state):
        return lax.while_loop(lambda c: proceed(c, state)[0][0], lambda c: step(True, c, state)[0], carry), state

    def turn(c: tuple) -> tuple:  # no state leaves a condition, so the condition of the next turn is run in the body
        values, state = step(*c)
        (again,), state = proceed(values, state)
        return again, values, state

    (again,), state = proceed(carry, state)
    _, carry, state = lax.while_loop(lambda c: jnp.any(c[0]) if mapped else c[0], turn, (again, carry, state))
    return carry, state


def _kept(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """`new` where the mask of leading axes holds, else `old`."""
    return jnp.where(jnp.reshape(mask, mask.shape + (1,) * (jnp.ndim(new) - mask.ndim)), new, old)


def _enter_scan(visitor: Visitor, eqn: JaxprEqn, args: list, state: Any, path: Path) -> tuple[list, Any]:
    ((label, body),) = programs(eqn)
    n, m = eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, xs = args[:n], args[n : n + m], args[n + m :]

    def step(carry: tuple, x: list) -> tuple:
        values, state = carry
        outs, state = visitor.run(body, [*consts, *values, *x], state, (*path, label))
        return (outs[:m], state), outs[m:]

    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll") if name in eqn.params}
    (carry, state), ys = lax.scan(step, (carry, state), xs, **options)
    return [*carry, *ys], state


def _enter_shard_map(visitor: Visitor, eqn: JaxprEqn, args: list, state: Any, path: Path) -> tuple[list, Any]:
    ((label, inner),) = programs(eqn)
    shards = Shards.of(eqn)
    leaves, tree = jax.tree.flatten(state)

    def run(state: list, *xs: Any) -> tuple:
        state = [shards.varying(leaf, shards.axes) for leaf in state]
        outs, state = visitor.run(inner, xs, jax.tree.unflatten(tree, state), (*path, label))
        return tuple(outs), [leaf[None] for leaf in jax.tree.leaves(state)]

    # every device carries a state of its own; the one of the first device goes on
    in_specs = ([PartitionSpec()] * len(leaves), *eqn.params["in_specs"])
    out_specs = (tuple(eqn.params["out_specs"]), [PartitionSpec(shards.axes)] * len(leaves))
    outs, states = shards.map(run, in_specs, out_specs)(leaves, *args)
    return list(outs), jax.tree.unflatten(tree, [shards.first(leaf) for leaf in states])


class Shards(NamedTuple):
    """What a shard_map is mapped over."""

    mesh: Any
    axes: tuple[str, ...]
    checked: bool

    @classmethod
    def of(cls, eqn: JaxprEqn) -> Shards:
        mesh, params = eqn.params["mesh"], eqn.params
        axes = params.get("newly_manual_axes", params.get("manual_axes", mesh.axis_names))
        return cls(mesh, tuple(name for name in mesh.axis_names if name in axes), params.get("check_vma", True))

    def map(self, fun: Callable, in_specs: Any, out_specs: Any) -> Callable:
        return jax.shard_map(
            fun, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, axis_names=set(self.axes), check_vma=self.checked
        )

    def apart(self, fun: Callable, avals: Sequence, *args: Any) -> list:
        """The list that `fun` gives on the first device when every device has the same `args`, of types `avals` inside."""

        def local(*xs: Any) -> list:
            outs = fun(*[self.varying(x, _varies(aval)) for x, aval in zip(xs, avals, strict=True)])
            return [self.varying(out, self.axes)[None] for out in outs]

        outs = self.map(local, (PartitionSpec(),) * len(args), PartitionSpec(self.axes))(*args)
        return [self.first(out) for out in outs]

    def varying(self, leaf: Any, axes: Any) -> Any:
        """`leaf` with the type of a value that differs along the axes."""
        axes = tuple(name for name in axes if name not in _varies(jax.typeof(leaf)))
        if not self.checked or not axes:
            return leaf
        pcast = getattr(lax, "pcast", None)
        return pcast(leaf, axes, to="varying") if pcast else getattr(lax, "pvary")(leaf, axes)  # noqa: B009

    def first(self, leaf: jax.Array) -> jax.Array:
        """Entry 0 of an axis that is sharded over the mesh."""
        explicit = any(str(kind) == "Explicit" for kind in self.mesh.axis_types)
        return (jax.reshard(leaf, PartitionSpec()) if explicit else leaf)[0]


def _varies(aval: Any) -> Any:
    """The mesh axes along which a value inside shard_map differs."""
    return getattr(aval, "vma", None) or getattr(getattr(aval, "mat", None), "varying", None) or ()


ENTER = {"cond": _enter_cond, "while": _enter_while, "scan": _enter_scan, "shard_map": _enter_shard_map}
