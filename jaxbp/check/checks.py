"""The checks: any function, gradient, forward rule or forward-backward pair against the derivative that it should be.

check_vjp(fun, *args)                      what `jax.vjp(fun, *args)` returns, custom rules included
check_gradient(fun, gradient_fun, *args)   a hand-derived gradient function
check_jvp(fun, primals, tangents)          what `jax.jvp` returns
check_pair(forward, backward, *args)       forward(*args) -> out, residuals; backward(residuals, out_bar) -> cotangents
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check import asked, layouts, steps
from jaxbp.check.problem import Flat, Problem, is_float, name_of, opened
from jaxbp.check.programs import compiled_call
from jaxbp.check.report import Report, announce


DEFAULTS = {"argnums": 0, "has_aux": False, "batch_axes": None, "dtype_check": True, "battery": True, "order": 1}
DEFAULTS |= {"primal": None, "derivative_of": None}


def check_vjp(
    fun: Callable,
    *args: Any,
    key: Any = None,
    batch_axes: Any = None,
    dtype_check: bool = True,
    battery: bool = True,
    order: int = 1,
    primal: Callable | None = None,
    derivative_of: Callable | None = None,
    name: str | None = None,
) -> Report:
    """Is the cotangent x_bar = J(x)^T y_bar that JAX gives for `fun` the derivative of `fun`?

    `fun` takes pytrees of arrays (floating, integer, boolean, PRNG keys; other leaves are held static) and returns any tree
    with a floating array. Custom rules anywhere inside are the claim; the truth is the autodiff, in float64, of the same
    program with every rule opened to its primal, and, independent of autodiff, central differences. A function without
    custom rules is checked as well: JAX's autodiff is the claim then.

    Arguments:
      key: a PRNG key or number that seeds the random cotangents (default 0; it is in the reproduction).
      batch_axes: as `in_axes` of `jax.vmap`; names the batch axis of each argument, so that batches of 1, 3 and an odd size
        are tried too. None leaves the batch as it is.
      dtype_check: a cotangent of another dtype than its argument is a failure.
      battery: try derived inputs (scaled, negated, zeros, rounded, equal, repeated indices, flipped masks ...).
      order: 2 checks the derivative of the rule as well.
      primal: the function that is meant, where it is not `fun` with its rules opened. Its values and its derivative must be
        those of `fun`.
      derivative_of: the function whose derivative is claimed, where that is not the function computed: a straight-through or
        surrogate gradient (`fun` rounds, its rule is that of `lambda x: x`). Values are not compared then.
      name: what the report calls it.

    Raises: ValueError where nothing can be checked: no floating argument or output, or `fun` itself raises.
    """
    asked.call("check_vjp", args, fun=fun, primal=primal, derivative_of=derivative_of)
    if order not in (1, 2):
        raise ValueError(f"order: 1 or 2 was expected, got {order!r}")
    flat, meant, other = Flat(fun, args, split=True), _meant(primal, derivative_of), primal or derivative_of

    def claim(leaves: Any, bars: Any) -> tuple[list, list]:
        of_diff = lambda *floats: flat(problem.merge(leaves, floats))
        outs, vjp = jax.vjp(of_diff, *(leaves[i] for i in problem.diff))
        return list(vjp([jnp.asarray(b).astype(o.dtype) for b, o in zip(bars, outs, strict=True)])), outs

    subject = name or name_of(fun)
    problem = _problem(
        flat, args,
        {"batch_axes": batch_axes, "dtype_check": dtype_check, "battery": battery, "order": order, **meant},
        subject=subject,
        says=f"cotangents that jax.vjp gives for {subject}, its custom rules included",
        primal=opened(flat if other is None else Flat(other, args, split=True)),
        surrogate=derivative_of is not None,
        claim=claim,
        functions=(fun,),
    )  # fmt: skip
    return announce(steps.run(problem, flat, asked.seed(key), dtype_check=dtype_check, battery=battery, order=order))


def _meant(primal: Callable | None, derivative_of: Callable | None) -> dict[str, Callable | None]:
    if primal is not None and derivative_of is not None:
        raise ValueError("primal and derivative_of exclude each other: is the value meant to be that of the function given?")
    return {"primal": primal, "derivative_of": derivative_of}


def _problem(flat: Flat, args: tuple, options: dict[str, Any], diff: Any = None, paths: Any = None, **fields: Any) -> Problem:
    """A problem over the leaves of `flat`, by default in all floating ones."""
    diff = tuple(i for i, leaf in enumerate(flat.leaves) if is_float(leaf)) if diff is None else diff
    return Problem(
        leaves=flat.leaves,
        diff=diff,
        paths=tuple(flat.paths[i] for i in diff) if paths is None else paths,
        arg_paths=flat.paths,
        plain=flat,
        axes=flat.axes(options.get("batch_axes"), args),
        args=args,
        options={name: value for name, value in options.items() if value != DEFAULTS[name]},
        **fields,
    )


def check_gradient(
    fun: Callable,
    gradient_fun: Callable,
    *args: Any,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    key: Any = None,
    batch_axes: Any = None,
    dtype_check: bool = True,
    battery: bool = True,
    name: str | None = None,
) -> Report:
    """Is `gradient_fun(*args)` the gradient of the scalar function `fun`, as `jax.grad(fun, argnums)` would give it?

    `gradient_fun` may also have the layout of `jax.value_and_grad(fun, argnums, has_aux)`; with has_aux `fun` returns
    (value, aux). Other arguments: see `check_vjp`. The cotangent of a gradient is 1, so linearity is not tested.
    """
    asked.call("check_gradient", args, fun=fun, gradient_fun=gradient_fun)
    numbers = asked.numbers("check_gradient", argnums, len(args))
    scalar = (lambda *a: fun(*a)[0]) if has_aux else fun
    flat = Flat(scalar, args)
    first = np.cumsum([0] + [len(jax.tree.leaves(a)) for a in args])
    chosen = {i for n in numbers for i in range(first[n], first[n + 1])}
    diff = tuple(i for i, where in enumerate(flat.dynamic) if where in chosen and is_float(flat.leaves[i]))
    wanted = jax.tree.structure(args[numbers[0]] if isinstance(argnums, int) else tuple(args[n] for n in numbers))

    def claim(leaves: Any, bars: Any) -> tuple[list, list]:
        grads = layouts.gradient(gradient_fun(*flat.args(leaves)), wanted, has_aux)
        kept = [g for g, n in zip(jax.tree.leaves(grads), sorted(chosen), strict=True) if n in {flat.dynamic[i] for i in diff}]
        return kept, compiled_call(flat, leaves)  # the cotangent is 1

    subject = name or name_of(gradient_fun)
    options = {"argnums": argnums, "has_aux": has_aux}
    problem = _problem(
        flat, args, {**options, "batch_axes": batch_axes, "dtype_check": dtype_check, "battery": battery}, diff,
        subject=subject,
        says=f"the gradient that {subject} returns for {name_of(fun)}",
        primal=opened(flat),
        claim=claim,
        handwritten=True,
        entry="check_gradient",
        seeds=(np.ones(()),),
        functions=(fun, gradient_fun),
    )  # fmt: skip
    return announce(steps.run(problem, flat, asked.seed(key), dtype_check=dtype_check, battery=battery, order=1))


def check_jvp(
    fun: Callable,
    primals: tuple,
    tangents: tuple | None = None,
    *,
    key: Any = None,
    battery: bool = True,
    primal: Callable | None = None,
    derivative_of: Callable | None = None,
    name: str | None = None,
) -> Report:
    """Is the tangent y_dot = J(x) x_dot that `jax.jvp(fun, primals, tangents)` gives the derivative of `fun`?

    Beside the given tangents, random ones are tried. Leaves of the report are the outputs. Other arguments: see `check_vjp`.
    """
    asked.call("check_jvp", (fun,), fun=fun, primal=primal, derivative_of=derivative_of)
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list, type(None))):
        raise TypeError("check_jvp: primals, and tangents where they are given, must be tuples with one entry for each argument")
    flat, other = Flat(fun, tuple(primals)), primal or derivative_of
    subject = name or name_of(fun)
    outs = jax.tree_util.tree_leaves_with_path(steps.output_shapes(subject, flat))

    def claim(leaves: Any, dots: Any) -> tuple[list, list]:
        of_diff = lambda *floats: flat(problem.merge(leaves, floats))
        floats = tuple(jnp.asarray(leaves[i]) for i in problem.diff)
        outs, results = jax.jvp(of_diff, floats, tuple(jnp.asarray(d).astype(f.dtype) for d, f in zip(dots, floats, strict=True)))
        return results, outs

    problem = _problem(
        flat, tuple(primals), {"battery": battery, **_meant(primal, derivative_of)},
        paths=tuple(f"out{jax.tree_util.keystr(path)}" for path, out in outs if is_float(out)),
        out_dtypes=tuple(out.dtype for _, out in outs if is_float(out)),
        subject=subject,
        says=f"tangents that jax.jvp gives for {subject}, its custom rules included",
        primal=opened(flat if other is None else Flat(other, tuple(primals))),
        surrogate=derivative_of is not None,
        claim=claim,
        entry="check_jvp",
        reverse=False,
        functions=(fun,),
    )  # fmt: skip
    if tangents is not None:
        problem = dataclasses.replace(problem, given_seeds=layouts.tangents(tuple(tangents), flat, problem.diff))
    return announce(steps.run(problem, flat, asked.seed(key), dtype_check=True, battery=battery, order=1))


def check_pair(
    forward: Callable,
    backward: Callable,
    *args: Any,
    key: Any = None,
    batch_axes: Any = None,
    dtype_check: bool = True,
    battery: bool = True,
    name: str | None = None,
) -> Report:
    """Is `backward` the vector-Jacobian product of `forward`?

    forward(*args) -> (out, residuals); backward(residuals, out_bar) -> a tuple with one cotangent for each argument (None for
    arguments that have none), or the cotangent itself where there is one argument. Other arguments: see `check_vjp`.
    """
    asked.call("check_pair", args, forward=forward, backward=backward)
    flat = Flat(lambda *a: layouts.forwarded(forward(*a))[0], args)

    def claim(leaves: Any, bars: Any) -> tuple[list, list]:
        out, residuals = layouts.forwarded(forward(*flat.args(leaves)))
        outs, tree = jax.tree.flatten(out)
        queue = iter(bars)
        filled = [jnp.asarray(next(queue)).astype(o.dtype) if is_float(o) else np.zeros(o.shape, jax.dtypes.float0) for o in outs]
        every = layouts.cotangents(backward(residuals, jax.tree.unflatten(tree, filled)), args)
        kept = {flat.dynamic[i]: path for i, path in zip(problem.diff, problem.paths, strict=True)}
        results = [layouts.present(every[j], flat.held[j], path) for j, path in kept.items()]
        return results, [o for o in outs if is_float(o)]

    subject = name or name_of(backward)
    problem = _problem(
        flat, args, {"batch_axes": batch_axes, "dtype_check": dtype_check, "battery": battery},
        subject=subject,
        says=f"cotangents that {subject} returns for {name_of(forward)}",
        primal=opened(flat),
        claim=claim,
        handwritten=True,
        entry="check_pair",
        functions=(forward, backward),
    )  # fmt: skip
    return announce(steps.run(problem, flat, asked.seed(key), dtype_check=dtype_check, battery=battery, order=1))
