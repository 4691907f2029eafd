"""A snippet that runs the same check again: functions by their import, arguments spelled out where they are small."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check.problem import Problem, dtype_of, is_array, is_key, name_of


SPELLED = 200  # arrays of more entries are described, not spelled out
WIDE = {"float64", "int64", "uint64", "complex128"}


def reproduction(problem: Problem, seed: int) -> str:
    """The call of the check, with all that it needs."""
    given = [*problem.functions, *(value for value in problem.options.values() if callable(value))]
    named = [imported(fun, f"fun{i}" if i else "fun") for i, fun in enumerate(given)]
    others = iter(name for _, name in named[len(problem.functions) :])
    options = "".join(f", {key}={next(others) if callable(value) else repr(value)}" for key, value in problem.options.items())
    places = "(*args,)" if problem.entry == "check_jvp" else "*args"
    functions = ", ".join(name for _, name in named[: len(problem.functions)])
    call = f"print({problem.entry}({functions}, {places}, key={seed}{options}))"
    return snippet(problem.entry, [line for line, _ in named], problem.args, [call])


def snippet(entry: str, imports: list[str], args: tuple, calls: list[str]) -> str:
    """Code with imports, `args`, and what is called with them."""
    needed = dict.fromkeys([*imports, *(imported(kind)[0] for kind in _kinds(args))])
    lines = ["import jax", "import jax.numpy as jnp", f"from jaxbp.check import {entry}", *filter(None, needed), ""]
    if any(is_array(leaf) and str(dtype_of(leaf)) in WIDE for leaf in jax.tree.leaves(args)):
        lines.append('jax.config.update("jax_enable_x64", True)')
    for i, arg in enumerate(args):
        code, large = written(arg), any(_large(leaf) for leaf in jax.tree.leaves(arg))
        lines.append(f"x{i} = {code}" + ("  # ...: large, the values that you passed" if large or "..." in code else ""))
    return "\n".join([*lines, f"args = ({', '.join(f'x{i}' for i in range(len(args)))},)", *calls])


def imported(fun: Any, nameless: str = "fun") -> tuple[str, str]:
    """(the line that brings a function, its name there); where nothing brings it, a line that says what it stands for."""
    if isinstance(fun, functools.partial):
        line, inner = imported(fun.func, nameless)
        given = [written(a) for a in fun.args] + [f"{name}={written(a)}" for name, a in fun.keywords.items()]
        return f"import functools\n{line}" if line else "import functools", f"functools.partial({', '.join([inner, *given])})"
    module = sys.modules.get(getattr(fun, "__module__", None) or "")
    found = next((name for name, value in vars(module).items() if value is fun), "") if module else ""
    where = getattr(module, "__name__", "")
    if found and where != "__main__" and all(part.isidentifier() for part in where.split(".")):
        return f"from {where} import {found}", found
    name = name_of(fun)
    name = name if name.isidentifier() else nameless
    if found and getattr(module, "__file__", None):
        return f"from runpy import run_path\n\n{found} = run_path({module.__file__!r})[{found!r}]", found  # type: ignore[union-attr]
    return f"\n{name} = ...  # {_place(fun)}", name


def _place(fun: Callable) -> str:
    code = getattr(inspect.unwrap(fun), "__code__", None)
    return f"{name_of(fun)}, {code.co_filename}:{code.co_firstlineno}" if code else f"{name_of(fun)}, as you passed it"


def written(value: Any) -> str:
    """An argument as code; `...` stands for what is too large, or of a type that is not known here."""
    if is_array(value):
        return "..." if _large(value) else spelled(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"{type(value).__name__}({', '.join(written(v) for v in value)})"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(written(v) for v in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    if type(value) is dict:
        return "{" + ", ".join(f"{k!r}: {written(v)}" for k, v in value.items()) + "}"
    return repr(value) if isinstance(value, (bool, int, str, complex, type(None))) else "..."


def _kinds(value: Any) -> Iterator[type]:
    """The NamedTuples in an argument."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        yield type(value)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ():
        yield from _kinds(inner)


def _large(leaf: Any) -> bool:
    return is_array(leaf) and np.size(leaf) > SPELLED


def spelled(leaf: Any) -> str:
    """An array as code."""
    dtype = dtype_of(leaf)
    if is_key(leaf):
        return f"jax.random.wrap_key_data(jnp.array({np.asarray(jax.random.key_data(leaf)).tolist()}, jnp.uint32))"
    if isinstance(leaf, float):
        return repr(leaf)
    values = np.asarray(leaf)
    values = values.astype(np.float64) if jnp.issubdtype(dtype, jnp.floating) else values
    digits = {"float64": 17, "float32": 9}.get(str(dtype), 5)
    text = np.array2string(values, separator=", ", threshold=SPELLED, max_line_width=110, floatmode="unique",
                           formatter={"float": lambda v: f"{v:.{digits}g}"})  # fmt: skip
    text = text.replace("nan", "jnp.nan").replace("inf", "jnp.inf") if not np.all(np.isfinite(values.astype(complex))) else text
    return f"jnp.array({text}, {str(dtype) if str(dtype) == 'bool' else f'jnp.{dtype}'})"
