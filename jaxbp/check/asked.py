"""What a check was asked: functions, argument numbers, batch axes and keys, with an error that says what was expected."""

from __future__ import annotations

import operator
import textwrap
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


CALLS = {
    "check_vjp": "check_vjp(fun, *args)",
    "check_gradient": "check_gradient(fun, gradient_fun, *args)",
    "check_jvp": "check_jvp(fun, primals, tangents)",
    "check_pair": "check_pair(forward, backward, *args)",
    "audit": "audit(fun, *args)",
}
UNTRACED = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
)
LONGEST = 500  # characters of someone else's message


class WrongCall(TypeError):
    """A check was called with something else than it takes."""


def call(entry: str, args: tuple, **functions: Any) -> None:
    """Raises: WrongCall where a function is none, or there is no argument."""
    for name, fun in functions.items():
        if fun is not None and not callable(fun):
            raise WrongCall(f"{entry}: {name} should be a function, got {described(fun)}; the call is {CALLS[entry]}")
    if not args:
        raise WrongCall(f"{entry}: there are no arguments to differentiate at; the call is {CALLS[entry]}")


def described(value: Any) -> str:
    """`value` in a message: arrays by their type, anything long cut short."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array {value.dtype}[{','.join(map(str, value.shape))}]"
    return shortened(repr(value), 80)


def shortened(text: str, longest: int = LONGEST) -> str:
    """The first line of a text, cut between words."""
    return textwrap.shorten((text.strip().splitlines() or [""])[0], longest, placeholder=" ...")


def first_line(error: BaseException) -> str:
    return shortened(str(error))


def numbers(entry: str, argnums: Any, count: int) -> tuple[int, ...]:
    """`argnums`, one or several, as numbers from 0 on."""
    try:
        every = [operator.index(n) for n in (argnums if isinstance(argnums, (tuple, list)) else (argnums,))]
    except TypeError:
        every = []
    if not every or not all(-count <= n < count for n in every):
        error = ValueError if every else WrongCall
        raise error(f"{entry}: argnums: there are {count} arguments, so numbers below {count} were expected, got {argnums!r}")
    return tuple(n % count for n in every)


def axes(batch_axes: Any, args: tuple) -> list[int | None]:
    """The batch axis of every leaf of the arguments, from in_axes like those of `vmap`."""
    if batch_axes is not None and not isinstance(batch_axes, (int, tuple, list)):
        raise WrongCall(f"batch_axes: an axis, or a tuple of one for each argument, was expected, got {batch_axes!r}")
    each = tuple(batch_axes) if isinstance(batch_axes, (tuple, list)) else (batch_axes,) * len(args)
    if len(each) != len(args):
        raise ValueError(f"batch_axes: one entry for each of the {len(args)} arguments was expected, got {batch_axes!r}")
    found: list[int | None] = []
    for axis, arg in zip(each, args, strict=True):
        inside = [axis] * len(jax.tree.leaves(arg)) if not isinstance(axis, (dict, list, tuple)) else _spread(axis, arg)
        found += inside
    if not all(axis is None or isinstance(axis, int) for axis in found):
        raise WrongCall(f"batch_axes: axes are whole numbers or None, got {batch_axes!r}")
    return found


def _spread(axis: Any, arg: Any) -> Sequence:
    inside = jax.tree.leaves(axis, is_leaf=lambda a: a is None)
    if len(inside) != len(jax.tree.leaves(arg)):
        raise ValueError(f"batch_axes: one entry for each of the {len(jax.tree.leaves(arg))} leaves was expected, got {axis!r}")
    return inside


def seed(key: Any) -> int:
    """A number for NumPy's generator from None, a number or a PRNG key."""
    if key is None:
        return 0
    if isinstance(key, (int, np.integer)) and key >= 0:
        return int(key)
    if not isinstance(key, (jax.Array, np.ndarray)):
        raise WrongCall(f"key: a PRNG key or a number from 0 on was expected, got {key!r}")
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return int(np.asarray(data, np.uint64).ravel()[-1])


def untraced(error: BaseException) -> tuple[str, str]:
    """(why JAX cannot trace a function, what to do) for the errors of `UNTRACED`."""
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "it gives a traced array to NumPy", "use jax.numpy there, or jax.pure_callback around the NumPy code"
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return "it branches in Python on a traced value", "use jnp.where or jax.lax.cond"
    return (
        "it needs a traced array as a Python number, as float(x), range(n) and shapes do",
        "keep to jax.numpy, or bind that number beforehand (functools.partial)",
    )
