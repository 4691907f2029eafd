"""Custom rules inside a program: where each is, what reaches it, and the rule as a function of its own operands.

    find_rules(fun, *args)   every custom_vjp and custom_jvp call, wherever it hides, with the values that really reach it
    rule.as_function(call)   the rule alone, and its arguments at a recorded call
    rule.primal(call)        the function that the rule is a rule of, every rule inside opened

A rule is one equation of the traced program. It is run apart by binding that equation: in the given dtype, or, at float64
arguments, the equation of a second trace of the whole program in float64.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from jaxbp import jaxprs
from jaxbp.check.problem import Flat, is_float, widened


UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """A custom rule at one place of a program.

    name, kind, defined_at, called_at, path: as in `RuleReport`. written_at: where the derivative itself is written.
    eqn, wide: its equation, and that of the float64 trace (None where there is none; `note` says why).
    idle: operands that are held as they are. shards: the shard_map around it.
    calls: the operands of the first and, if there is another, the last call, in time. count: how often it ran; 0: not reached.
    wide_calls: the same of the float64 program, where constants of the rule have all their digits.
    """

    name: str
    kind: str
    defined_at: str
    written_at: str
    called_at: str
    path: jaxprs.Path
    eqn: JaxprEqn
    wide: JaxprEqn | None = None
    calls: tuple[tuple, ...] = ()
    wide_calls: tuple[tuple, ...] = ()
    count: int = 0
    note: str = ""
    idle: frozenset[int] = frozenset()
    shards: jaxprs.Shards | None = None

    @property
    def free(self) -> tuple[int, ...]:
        """Operands that are arguments of the rule: no constant that it closes over, not `idle`, no literal unless all are."""
        own = [i for i in range(self.eqn.params.get("num_consts", 0), len(self.eqn.invars)) if i not in self.idle]
        return tuple(i for i in own if not isinstance(self.eqn.invars[i], Literal)) or tuple(own)

    @property
    def constants(self) -> tuple[int, ...]:
        """Operands that are held and no literals: arrays that the rule closes over."""
        return tuple(i for i, atom in enumerate(self.eqn.invars) if i not in self.free and not isinstance(atom, Literal))

    def arguments(self, call: int = 0) -> tuple:
        return tuple(self.calls[call][i] for i in self.free)

    def as_function(self, call: int = 0) -> Callable:
        """The rule as a function of `arguments(call)`; the other operands are held as they were at that call."""
        return functools.partial(_apply, self, call, jaxprs.bind)

    def primal(self, call: int = 0) -> Callable:
        """What the rule is a rule of, as a function of the same arguments, opened completely."""
        return functools.partial(_apply, self, call, _open)


def _open(eqn: JaxprEqn, operands: list) -> list:
    ((_, program),) = jaxprs.programs(eqn)
    return jaxprs.evaluate(program, *operands)


def _apply(rule: Rule, call: int, run: Callable, *arguments: Any) -> list:
    """The equation at `arguments`; where they are in float64 the equation of the float64 trace, with float64 outputs."""
    wide = any(jnp.result_type(a) == jnp.float64 for a in arguments if is_float(a))
    eqn = rule.wide if wide and rule.wide is not None else rule.eqn
    held = rule.wide_calls if eqn is rule.wide and len(rule.wide_calls) == len(rule.calls) else rule.calls
    operands = list(held[call])
    for i, argument in zip(rule.free, arguments, strict=True):
        operands[i] = argument
    operands = [_as(value, atom) for value, atom in zip(operands, eqn.invars, strict=True)]
    if rule.shards is None:
        outs = run(eqn, operands)
    else:
        outs = rule.shards.apart(lambda *xs: run(eqn, list(xs)), [atom.aval for atom in eqn.invars], *operands)
    return [out.astype(jnp.float64) if wide and is_float(out) else out for out in outs]


def _as(value: Any, atom: Any) -> Any:
    """An operand in the dtype that the equation was traced at: in a float64 trace integers are wider too."""
    dtype = atom.aval.dtype
    if jnp.result_type(value) == dtype or jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return value
    return jnp.asarray(value).astype(dtype)


def find_rules(fun: Callable, *args: Any) -> list[Rule]:
    """Every custom rule of `fun` at `args`, in program order, with its operands from one run of the whole program.

    Leaves of `args` that are no arrays or floats are held static. Rules in branches that were not taken have no calls.
    Raises: whatever `fun` raises when it is traced or run.
    """
    flat = Flat(fun, args)
    program = _program(flat, flat.leaves)
    places = _places(program)
    calls = _record(program, places, flat.leaves)
    # JAX gives a NumPy constant one dtype for as long as a program that holds it lives: this one must go before float64 comes
    del program
    twins, wide_calls, note = _widen(flat, places)
    rules = []
    for place, (count, operands), twin, wide_operands in zip(places, calls, twins, wide_calls, strict=True):
        missing = note or ("" if twin is not None else "checked in the given dtype: the program has no such rule in float64")
        found = {"calls": operands, "count": count, "wide": twin, "wide_calls": wide_operands, "note": missing}
        rules.append(dataclasses.replace(_describe(place), **found))
    return rules


def _program(flat: Flat, leaves: tuple) -> Any:
    # a fresh function each time: JAX remembers traces of a function object
    return jaxprs.trace(lambda *leaves: flat.fun(*flat.args(leaves)), *leaves).program


class _Place(NamedTuple):
    """Where a rule is. A program that is called from one line several times is one place, called several times."""

    path: jaxprs.Path
    eqn: JaxprEqn
    called_at: str
    shards: jaxprs.Shards | None

    @property
    def key(self) -> tuple:
        return self.path, id(self.eqn)


def _places(program: Any) -> list[_Place]:
    found: dict[tuple, _Place] = {}
    around: dict[jaxprs.Path, tuple] = {(): (UNKNOWN, None)}  # what is known of the programs on the way
    for eqn, path in jaxprs.equations(program):
        line, shards = around[path]
        line = jaxprs.place(eqn) or line
        inner = jaxprs.Shards.of(eqn) if eqn.primitive.name == "shard_map" else shards
        around |= {(*path, label): (line, inner) for label, _ in jaxprs.programs(eqn)}
        if eqn.primitive.name in jaxprs.CUSTOM_RULES and jaxprs.programs(eqn):
            place = _Place(path, eqn, line, shards)
            found[place.key] = place
    return list(found.values())


def _describe(place: _Place) -> Rule:
    name, where = jaxprs.definition(place.eqn)
    kind = "custom_vjp" if place.eqn.primitive.name in jaxprs.CUSTOM_VJP else "custom_jvp"
    return Rule(
        name or kind, kind, where or UNKNOWN, _written_at(place.eqn), place.called_at, place.path, place.eqn, shards=place.shards
    )


def _written_at(eqn: JaxprEqn) -> str:
    """'f_bwd at file.py:7', from the debug information of the rule's functions."""
    for part in ("bwd", "jvp_jaxpr_fun", "jvp_jaxpr_thunk"):
        info = getattr(eqn.params.get(part), "debug_info", None)
        where = str(getattr(info, "func_src_info", None) or "")
        if where and "custom_derivatives.py" not in where:  # JAX's own wrapper, as `defjvps` makes
            return where
    return UNKNOWN


def _widen(flat: Flat, places: list[_Place], every: bool = False) -> tuple[list, list, str]:
    """(the equation of a float64 trace for each place or None, its operands there, why there is none at all)."""
    nothing = [()] * len(places)
    if all(jnp.result_type(leaf) == jnp.float64 for leaf in flat.leaves if is_float(leaf)):
        return [place.eqn for place in places], nothing, ""
    with jax.enable_x64(True):
        leaves = widened(flat.leaves)
        try:
            program = _program(flat, leaves)
        except Exception as error:  # any user code may insist on its dtype
            text = f"checked in the given dtype: in float64 the program raises {type(error).__name__}"
            return [None] * len(places), nothing, text
        queues: dict[Any, list] = {}
        for place in _places(program):
            queues.setdefault(_key(place), []).append(place)
        waiting = [queues.get(_key(place)) for place in places]
        twins = [queue.pop(0) if queue else None for queue in waiting]
        held = [twin for twin in twins if twin is not None and (every or twin.eqn.params.get("num_consts", 0))]
        recorded = iter(_record(program, held, leaves))
        calls = [next(recorded)[1] if twin in held else () for twin in twins]
    return [twin and twin.eqn for twin in twins], calls, ""


def _key(place: _Place) -> tuple:
    """What a place has in common with itself in a trace of another dtype."""
    invars = place.eqn.invars
    kinds = tuple((isinstance(atom, Literal), getattr(atom.aval, "shape", ())) for atom in invars)
    return place.path, jaxprs.definition(place.eqn), place.called_at, kinds


class _Recorder(jaxprs.Visitor):
    """A state of (count, first operands, last operands) for each place."""

    def __init__(self, places: list[_Place]):
        self.slots = {place.key: i for i, place in enumerate(places)}

    def equation(self, eqn: JaxprEqn, args: list, state: Any, path: jaxprs.Path) -> tuple[list, Any]:
        slot = self.slots.get((path, id(eqn)))
        if slot is not None:
            count, first, last = state[slot]
            now = [jnp.asarray(arg).astype(old.dtype) for arg, old in zip(args, last, strict=True)]
            first = [jnp.where(count == 0, new, old) for new, old in zip(now, first, strict=True)]
            state = [*state[:slot], (count + 1, first, now), *state[slot + 1 :]]
        return self.enter(eqn, args, state, path)


def _record(program: Any, places: list[_Place], leaves: tuple) -> list[tuple[int, tuple]]:
    """(number of calls, operands of the first and the last) of every place, from one compiled run."""
    if not places:
        return []
    found = []
    for count, first, last in jax.jit(lambda *leaves: _states(program, places, leaves))(*leaves):
        times = int(count)
        found.append((times, tuple(tuple(call) for call in (first, last)[: min(times, 2)])))
    return found


def _states(program: Any, places: list[_Place], leaves: Any) -> list:
    """(count, first operands, last operands) of every place after one run."""
    empty = lambda eqn: [_blank(atom.aval) for atom in eqn.invars]
    state = [(jnp.zeros((), jnp.int32), empty(place.eqn), empty(place.eqn)) for place in places]
    return _Recorder(places).run(program, leaves, state)[1]


def active_operands(fun: Callable, args: tuple, argnums: Any = None) -> list[frozenset[int]]:
    """For each rule that `find_rules` gives: the operands that change with the floating arguments `argnums` (default: all)."""
    flat = Flat(fun, args)
    program = _program(flat, flat.leaves)
    places = _places(program)
    numbers = range(len(args)) if argnums is None else (argnums,) if isinstance(argnums, int) else tuple(argnums)
    owners = [n for n, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
    chosen = {n % len(args) for n in numbers}
    moved = [i for i, at in enumerate(flat.dynamic) if owners[at] in chosen and is_float(flat.leaves[i])]

    def floats(*xs: Any) -> list:
        leaves = list(flat.leaves)
        for i, x in zip(moved, xs, strict=True):
            leaves[i] = x
        last = [operands for _, _, operands in _states(program, places, leaves)]
        return [[value if is_float(value) else jnp.zeros(()) for value in operands] for operands in last]

    at = tuple(jnp.asarray(flat.leaves[i]) for i in moved)
    rng = np.random.default_rng(0)
    dots = tuple(jnp.asarray(rng.uniform(0.5, 1.5, np.shape(x)), x.dtype) for x in at)
    try:
        _, tangents = jax.jit(lambda at, dots: jax.jvp(floats, at, dots))(at, dots)
    except Exception:  # no forward derivative (a callback): everything may change
        return [frozenset(range(len(place.eqn.invars))) for place in places]
    return [frozenset(i for i, dot in enumerate(dots) if bool(jnp.any(dot != 0))) for dots in tangents]


def wide_operands(fun: Callable, *args: Any) -> dict[int, tuple]:
    """What `Rule.wide_calls` is, for every rule by its number: constants that `vmap` made operands have all their digits here."""
    flat = Flat(fun, args)
    _, calls, _ = _widen(flat, _places(_program(flat, flat.leaves)), every=True)
    return dict(enumerate(calls))


def hidden_rules(fun: Callable, *args: Any) -> list[dict]:
    """Rules inside equations that are not entered (the matvec of custom_linear_solve, a kernel): what is known of them."""
    flat = Flat(fun, args)
    found = []
    for outer, path in jaxprs.equations(_program(flat, flat.leaves)):
        name = outer.primitive.name
        for inside in (place for program in jaxprs.closed_in(outer) for place in _places(program)):
            called = jaxprs.place(outer) if inside.called_at == UNKNOWN else inside.called_at
            rule = _describe(inside._replace(path=(*path, name), called_at=called or UNKNOWN))
            known = {field: getattr(rule, field) for field in ("name", "kind", "defined_at", "called_at", "path")}
            found.append({**known, "reason": f"inside {name}, which is not entered: check it by itself"})
    return found


def _blank(aval: Any) -> jax.Array:
    if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key):
        keys = jax.random.split(jax.random.key(0, impl=_impl(aval.dtype)), aval.shape or (1,))
        return keys if aval.shape else keys[0]
    return jnp.zeros(aval.shape, aval.dtype)


def _impl(dtype: Any) -> str:
    tag = str(dtype).removeprefix("key<").removesuffix(">")
    return {"fry": "threefry2x32", "rbg": "rbg", "urbg": "unsafe_rbg"}.get(tag, tag)
