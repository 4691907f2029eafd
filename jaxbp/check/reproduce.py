"""A snippet that runs the same check again."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check.problem import Problem


SPELLED = 200  # arrays of more entries are described, not spelled out


def reproduction(problem: Problem, seed: int) -> str:
    """Code with the arguments spelled out where they are small; the user's function is imported by its name."""
    fun = getattr(problem.plain, "fun", None)
    module, name = getattr(fun, "__module__", None) or "__main__", problem.subject
    lines = ["import jax", "import jax.numpy as jnp", f"from jaxbp.check import {problem.entry}"]
    if module != "__main__" and name.isidentifier():
        lines.append(f"from {module} import {name}")
    lines.append("")
    names = [_argument(i) for i in range(len(problem.leaves))]
    for name_, path, leaf in zip(names, problem.arg_paths, problem.leaves, strict=True):
        lines.append(f"{name_} = {spelled(leaf)}  # {path}")
    held = "" if len(problem.leaves) == len(getattr(problem.plain, "held", problem.leaves)) else "  # and the static arguments"
    lines.append(f"print({problem.entry}({name}, {', '.join(names)}, key={seed})){held}")
    return "\n".join(lines)


def _argument(i: int) -> str:
    return f"x{i}"


def spelled(leaf: Any) -> str:
    """An array as code, or its description where it is large."""
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return f"jax.random.wrap_key_data(jnp.array({np.asarray(jax.random.key_data(leaf)).tolist()}, jnp.uint32))"
    values = np.asarray(leaf)
    if values.size > SPELLED:
        return f"...  # {dtype}{list(values.shape)}, too large to print: the array that you passed"
    if jnp.issubdtype(dtype, jnp.floating):
        values = values.astype(np.float64)
    digits = {"float64": 17, "float32": 9}.get(str(dtype), 5)
    written = np.array2string(values, separator=", ", threshold=SPELLED, max_line_width=110, floatmode="unique",
                              formatter={"float": lambda v: f"{v:.{digits}g}"})  # fmt: skip
    return f"jnp.array({written}, jnp.{dtype})"
