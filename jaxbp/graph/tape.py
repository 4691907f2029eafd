"""The forward pass, written down: every equation that runs becomes a step, loops turn by turn, with the values it took and gave.

Jit, remat and the like leave no step of their own; of a cond only the branch that runs is entered; a scan and a while
give one step for each equation and turn. A custom rule is one step, because its derivative is the rule's; the steps of its
primal are kept inside it. What a loop does to rows (take them apart, put them together) is a step as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxbp import jaxprs


class Value:
    """One array of a run. `bar` is its adjoint, None while nothing has flowed back to it."""

    __slots__ = ("active", "array", "bar", "constant", "name")

    def __init__(self, array: Any, *, active: bool = False, name: str = "", constant: bool = False):
        self.array, self.active, self.name, self.constant = array, active, name, constant
        self.bar: Any = None


@dataclasses.dataclass(slots=True, eq=False)
class Step:
    """One equation at one turn of the loops around it.

    Fields:
      kind: "plain", "rule" (a custom rule; `inner` holds the steps of its primal), "unstack" and "stack" (rows of a scan).
      turns: the iteration of every loop around, outermost first.
      around: the equations that it is inside of, outermost first.
      sent: after the reverse pass, what it sent to each operand.
    """

    eqn: JaxprEqn
    ins: list[Value]
    outs: list[Value]
    path: jaxprs.Path
    turns: tuple[int, ...]
    around: tuple[JaxprEqn, ...] = ()
    kind: str = "plain"
    inner: Tape | None = None
    how: str = ""
    sent: list | None = None

    @property
    def active(self) -> bool:
        return any(value.active for value in self.outs)


@dataclasses.dataclass(slots=True, eq=False)
class Tape:
    """The steps in the order in which they ran."""

    steps: list[Step]
    inputs: list[Value]
    outputs: list[Value]


Watch = Callable[[Step], None]


def record(program: ClosedJaxpr, inputs: Sequence[Value], watch: Watch | None = None, path: jaxprs.Path = ()) -> Tape:
    """Run a program and write it down; `watch` is shown every step as soon as it has run."""
    recorder = Recorder(watch)
    outs, _ = recorder.run(program, inputs, (), path)
    return Tape(recorder.steps, list(inputs), [as_value(out) for out in outs])


def as_value(x: Any) -> Value:
    return x if isinstance(x, Value) else Value(x, constant=True)


def is_inexact(array: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(array), jnp.inexact)


def is_plain(array: Any) -> bool:
    """Whether an array holds numbers or truth values, which NumPy can read; PRNG keys are not."""
    return not jnp.issubdtype(jnp.result_type(array), jax.dtypes.extended)


class Recorder(jaxprs.Visitor):
    """The visitor behind `record`; values are `Value`s, the state is the tuple of turns."""

    def __init__(self, watch: Watch | None = None, around: tuple[JaxprEqn, ...] = ()):
        self.steps: list[Step] = []
        self.watch, self.around = watch, around

    def equation(self, eqn: JaxprEqn, args: list, state: Any, path: jaxprs.Path) -> tuple[list, Any]:
        values = [as_value(arg) for arg in args]
        name = eqn.primitive.name
        inside = jaxprs.programs(eqn)
        if inside and name in jaxprs.CUSTOM_RULES:
            return self._rule(eqn, values, state, path), state
        if inside and (name in jaxprs.INLINED or name in LOOPS):
            outer, self.around = self.around, (*self.around, eqn)
            run = LOOPS.get(name, _inlined)
            outs, self.around = run(self, eqn, values, state, path), outer
            return outs, state
        return self.step(eqn, values, jaxprs.bind(eqn, [value.array for value in values]), state, path), state

    def step(
        self, eqn: JaxprEqn, ins: list, arrays: Sequence, state: Any, path: jaxprs.Path, kind: str = "plain", inner: Any = None
    ) -> list:
        """Write one step down; its outputs."""
        active = any(value.active for value in ins)
        outs = [Value(array, active=active and is_inexact(array)) for array in arrays]
        step = Step(eqn, ins, outs, path, state, self.around, kind, inner)
        self.steps.append(step)
        if self.watch:
            self.watch(step)
        return outs

    def _rule(self, eqn: JaxprEqn, ins: list, state: Any, path: jaxprs.Path) -> list:
        """The primal runs on copies of its operands, so that no adjoint flows out of it: the rule's do."""
        ((label, inner),) = jaxprs.programs(eqn)
        recorder = Recorder(self.watch, (*self.around, eqn))
        copies = [Value(value.array, active=value.active, name=value.name) for value in ins]
        outs = [as_value(out) for out in recorder.run(inner, copies, state, (*path, label))[0]]
        tape = Tape(recorder.steps, copies, outs)
        return self.step(eqn, ins, [out.array for out in outs], state, path, "rule", tape)


def _inlined(recorder: Recorder, eqn: JaxprEqn, args: list, state: Any, path: jaxprs.Path) -> list:
    return recorder.enter(eqn, args, state, path)[0]


def _scan(recorder: Recorder, eqn: JaxprEqn, args: list, state: Any, path: jaxprs.Path) -> list:
    ((label, body),) = jaxprs.programs(eqn)
    n, m, length = eqn.params["num_consts"], eqn.params["num_carry"], eqn.params["length"]
    consts, carry, xs = args[:n], args[n : n + m], args[n + m :]
    rows = [recorder.step(eqn, [x], unstacked(x.array), state, path, "unstack") for x in xs] if length else []
    turns = reversed(range(length)) if eqn.params["reverse"] else range(length)
    ys: list[list] = [[None] * length for _ in eqn.outvars[m:]]
    for i in turns:
        outs, _ = recorder.run(body, [*consts, *carry, *(row[i] for row in rows)], (*state, i), (*path, label))
        carry = [as_value(out) for out in outs[:m]]
        for column, out in zip(ys, outs[m:], strict=True):
            column[i] = as_value(out)
    for column, var in zip(ys, eqn.outvars[m:], strict=True):
        array = stacked([row.array for row in column]) if column else _empty(var.aval)
        carry = [*carry, *recorder.step(eqn, column, [array], state, path, "stack")]
    return carry


def _empty(aval: Any) -> Any:
    return jnp.zeros(aval.shape, aval.dtype)


def _while(recorder: Recorder, eqn: JaxprEqn, args: list, state: Any, path: jaxprs.Path) -> list:
    (test_label, test), (body_label, body) = jaxprs.programs(eqn)
    n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    test_consts, body_consts, carry = args[:n], args[n : n + m], args[n + m :]
    turn = 0
    while True:
        (again,), _ = recorder.run(test, [*test_consts, *carry], (*state, turn), (*path, test_label))
        again = as_value(again)
        if not np.any(np.asarray(again.array)):
            return carry
        new, _ = recorder.run(body, [*body_consts, *carry], (*state, turn), (*path, body_label))
        if jnp.ndim(again.array):  # a loop under vmap: a lane that is done keeps its values
            new = [_kept(recorder, again, as_value(a), b, (*state, turn), path) for a, b in zip(new, carry, strict=True)]
        carry, turn = [as_value(value) for value in new], turn + 1


def _kept(recorder: Recorder, again: Value, new: Value, old: Value, state: Any, path: jaxprs.Path) -> Value:
    def keep(mask: Any, new: Any, old: Any) -> Any:
        mask = lax.broadcast_in_dim(mask, jnp.shape(new), range(jnp.ndim(mask)))
        return lax.select_n(mask, old, new)

    program = jaxprs.trace(keep, again.array, new.array, old.array).program
    return recorder.run(program, [again, new, old], state, path)[0][0]


def _cond(recorder: Recorder, eqn: JaxprEqn, args: list, state: Any, path: jaxprs.Path) -> list:
    index, *operands = args
    branches = jaxprs.programs(eqn)
    label, branch = branches[int(np.clip(int(index.array), 0, len(branches) - 1))]
    return recorder.run(branch, operands, state, (*path, label))[0]


LOOPS = {"scan": _scan, "while": _while, "cond": _cond}


def unstacked(array: Any) -> list:
    """The rows of an array."""
    if not is_plain(array):
        return list(array)
    return [jnp.asarray(row) for row in np.asarray(array)]


def stacked(rows: Sequence) -> Any:
    """Rows as one array, without compiling a program of as many operands."""
    if not is_plain(rows[0]):
        return jnp.stack(rows)
    return jnp.asarray(np.stack([np.asarray(row) for row in rows]))
