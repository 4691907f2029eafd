"""A pytest plugin for the children of `python -m jaxbp.check.mutants --tests`: wraps the rules that a test run defines.

Loaded by `-p jaxbp_mutation` before the user's files are, and told by JAXBP_MUTATION, a JSON object: `rule` and `mutation` (null:
wrap nothing, only watch) and `folder`, where each process notes the rules it saw, and whether the mutation changed anything.
It imports nothing of jaxbp, so that rules of any package are seen when they are made.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import pathlib
import sysconfig
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


# --- the mutations: of a tree of cotangents, told the incoming cotangent; None where there is nothing to change


def floats(tree: Any) -> list:
    """The floating arrays; of a rule with `symbolic_zeros=True` also the arrays alone."""
    known = [a for a in jax.tree.leaves(tree) if hasattr(a, "dtype") and not isinstance(a, SymbolicZero)]
    return [a for a in known if jnp.issubdtype(a.dtype, jnp.floating)]


def arrays(tree: Any) -> Any:
    """Python's floats as arrays, so that they are mutated too."""
    return jax.tree.map(lambda a: jnp.asarray(a) if isinstance(a, float) else a, tree)


def each(tree: Any, change: Any, wanted: Any = lambda a: True) -> Any:
    """`change` on the floating leaves that are wanted."""
    if not any(wanted(a) for a in floats(tree)):
        return None
    return jax.tree.map(lambda a: change(a) if floats(a) and wanted(a) else a, tree)


def sign(bars: Any, g: Any) -> Any:
    return each(bars, lambda a: -a)


def doubled(bars: Any, g: Any) -> Any:
    return each(bars, lambda a: 2 * a)


def leaf_zeroed(bars: Any, g: Any) -> Any:
    """The last floating leaf."""
    if not floats(bars):
        return None
    last = floats(bars)[-1]
    return each(bars, jnp.zeros_like, lambda a: a is last)


def one_entry(bars: Any, g: Any) -> Any:
    """The largest entry of the largest leaf × 1.001."""
    if not floats(bars):
        return None
    largest = max(floats(bars), key=lambda a: a.size)

    def change(a: Any) -> Any:
        flat = a.reshape(-1)
        return flat.at[jnp.argmax(jnp.abs(flat))].multiply(jnp.asarray(1.001, a.dtype)).reshape(a.shape)

    return each(bars, change, lambda a: a is largest and a.size > 0)


def transposed(bars: Any, g: Any) -> Any:
    return each(bars, lambda a: a.T, lambda a: a.ndim == 2 and a.shape[0] == a.shape[1] > 1)


def batch_mean(bars: Any, g: Any) -> Any:
    """Leaves without the batch axis (the first of the incoming cotangent) divided by its size."""
    size = next((a.shape[0] for a in floats(g) if a.ndim), 1)
    return each(bars, lambda a: a / size, lambda a: size > 1 and a.shape[:1] != (size,))


def narrow(bars: Any, g: Any) -> Any:
    return each(bars, lambda a: a.astype(jnp.bfloat16), lambda a: a.dtype != jnp.bfloat16)


OF_BARS = {
    "sign": sign,
    "x 2": doubled,
    "leaf zeroed": leaf_zeroed,
    "entry x 1.001": one_entry,
    "transposed": transposed,
    "batch mean": batch_mean,
    "bf16 output": narrow,
}
MUTATIONS = (*OF_BARS, "cotangent ignored")


def ones(tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.ones_like(a) if floats(a) else a, tree)


def mutated_backward(backward: Any, mutation: str, note: Any) -> Any:
    """backward(*static, residuals, y_bar), mutated."""

    def wrong(*args: Any) -> Any:
        *before, g = args
        if mutation == "cotangent ignored":
            note(bool(floats(g)))
            return backward(*before, ones(g))
        bars = arrays(backward(*args))
        changed = OF_BARS[mutation](bars, g)
        note(changed is not None)
        return bars if changed is None else changed

    return wrong


def mutated_tangents(rule: Any, mutation: str, note: Any) -> Any:
    """rule(*static, primals, tangents) -> out, out_dot, mutated; an entry is a fixed one, so that it stays linear."""

    def wrong(*args: Any) -> Any:
        *before, tangents = *args[:-1], arrays(args[-1])
        if mutation == "cotangent ignored":
            note(True)
            return rule(*before, ones(tangents))
        if mutation == "leaf zeroed":
            note(bool(floats(tangents)))
            return rule(*before, leaf_zeroed(tangents, None) or tangents)
        out, out_dot = rule(*args)
        changed = of_tangent(mutation, arrays(out_dot))
        note(changed is not None)
        return out, out_dot if changed is None else changed

    return wrong


def of_tangent(mutation: str, out_dot: Any) -> Any:
    if mutation == "entry x 1.001":
        middle = lambda a: a.reshape(-1).at[a.size // 2].multiply(jnp.asarray(1.001, a.dtype)).reshape(a.shape)
        return each(out_dot, middle, lambda a: a.size > 0)
    if mutation == "bf16 output":  # JAX refuses another dtype of a tangent
        return each(out_dot, lambda a: a.astype(jnp.bfloat16).astype(a.dtype), lambda a: a.dtype != jnp.bfloat16)
    if mutation == "batch mean":
        return each(out_dot, lambda a: a / a.shape[0], lambda a: a.ndim > 0 and a.shape[0] > 1)
    return OF_BARS[mutation](out_dot, None)


# --- the wrapping


class Watch:
    """What this process sees: rules by name, whether each was reached, whether the mutation changed anything."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.path = pathlib.Path(task["folder"]) / f"{os.getpid()}.json"
        self.seen: dict[str, bool] = {}
        self.applied = False

    def write(self) -> None:
        self.path.write_text(json.dumps({"rules": self.seen, "applied": self.applied}), encoding="utf-8")

    def note(self, changed: bool) -> None:
        if changed and not self.applied:
            self.applied = True
            self.write()

    def watched(self, name: str, rule: Any) -> Any:
        """`rule`, noting its first call."""
        self.seen.setdefault(name, False)
        self.write()

        def noting(*args: Any) -> Any:
            if not self.seen[name]:
                self.seen[name] = True
                self.write()
            return rule(*args)

        return noting

    def of(self, name: str, rule: Any, mutated: Any) -> Any:
        if name == self.task["rule"]:
            rule = mutated(rule, self.task["mutation"], self.note)
        return self.watched(name, rule)


def source_of(fun: Any) -> tuple[Any, Any]:
    """The function under decorators and partials, and its code; of a callable object, its class's `__call__`."""
    fun = inspect.unwrap(fun)
    while isinstance(fun, functools.partial):
        fun = inspect.unwrap(fun.func)
    fun = fun if hasattr(fun, "__code__") else type(fun).__call__
    return fun, getattr(fun, "__code__", None)


def name_of(primal: Any, rule: Any) -> str | None:
    """file:line name of the primal, of the rule where the primal has no source; None for installed packages."""
    for fun in (primal, rule):
        fun, code = source_of(fun)
        if code is not None:
            path = pathlib.Path(code.co_filename)
            installed = [pathlib.Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")]
            if any(path.is_relative_to(folder) for folder in installed):
                return None
            shown = path.relative_to(pathlib.Path.cwd()) if path.is_relative_to(pathlib.Path.cwd()) else path
            return f"{shown}:{code.co_firstlineno} {fun.__qualname__}"
    return None


def install(task: dict[str, Any]) -> None:
    """Wraps `defvjp` and `defjvp` (which `defjvps` calls) of JAX's two public classes, in this process alone."""
    watch = Watch(task)
    defvjp, defjvp = jax.custom_vjp.defvjp, jax.custom_jvp.defjvp

    def defvjp_wrapped(self: Any, fwd: Any, bwd: Any, *args: Any, **options: Any) -> Any:
        name = name_of(self, bwd)
        return defvjp(self, fwd, watch.of(name, bwd, mutated_backward) if name else bwd, *args, **options)

    def defjvp_wrapped(self: Any, jvp: Any, *args: Any, **options: Any) -> Any:
        name = name_of(self, jvp)
        defjvp(self, watch.of(name, jvp, mutated_tangents) if name else jvp, *args, **options)
        return jvp

    jax.custom_vjp.defvjp = defvjp_wrapped
    jax.custom_jvp.defjvp = defjvp_wrapped


if "JAXBP_MUTATION" in os.environ:
    install(json.loads(os.environ["JAXBP_MUTATION"]))
