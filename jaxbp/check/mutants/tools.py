"""The checkers that the benchmark compares, each as a function of one `Check` that returns an `Outcome`.

Every tool is called as its documentation says, with its default tolerances. The peers take floating arguments only, so the
others are closed over for them; a gradient function or a forward-backward pair reaches them as the `custom_vjp` that it means.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp
from jax.test_util import check_grads

from jaxbp.check.checks import check_gradient, check_jvp, check_pair, check_vjp
from jaxbp.check.mutants.cases import Check


class Outcome(NamedTuple):
    """What a tool said of one check. "error" is an exception that is no verdict: the tool could not run, or JAX refused."""

    verdict: str  # "pass", "fail", "inconclusive", "error"
    seconds: float
    hints: tuple[str, ...] = ()
    detail: str = ""


def is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def gradient_of(gradient_fun: Callable, args: tuple) -> Any:
    """What a function with the layout of `jax.grad` or `jax.value_and_grad` says of its first argument."""
    result = gradient_fun(*args)
    value_first = isinstance(result, tuple) and jax.tree.structure(result[1:]) == jax.tree.structure(args[:1])
    return result[1] if value_first else result


def as_rule(check: Check) -> Callable:
    """The function whose `jax.vjp` is the claim of the check."""
    fun, other = check.fun, cast(Callable, check.other)
    if check.kind in ("vjp", "jvp"):
        return fun
    if check.kind == "gradient":
        rule = jax.custom_vjp(fun)
        rule.defvjp(
            lambda *args: (fun(*args), args),
            lambda args, bar: (jax.tree.map(lambda g: bar * g, gradient_of(other, args)), *(None for _ in args[1:])),
        )
        return rule
    rule = jax.custom_vjp(lambda *args: fun(*args)[0])
    rule.defvjp(fun, other)
    return rule


def of_floats(check: Check) -> tuple[Callable, tuple]:
    """The function of the floating leaves that can be differentiated, and these leaves; a gradient has its first argument's."""
    leaves, tree = jax.tree.flatten(check.args)
    count = len(jax.tree.leaves(check.args[0])) if check.kind == "gradient" else len(leaves)
    places = [i for i, leaf in enumerate(leaves) if is_float(leaf) and i < count]
    rule = as_rule(check)

    def of(*floats: Any) -> Any:
        filled = list(leaves)
        for place, value in zip(places, floats, strict=True):
            filled[place] = value
        return rule(*jax.tree.unflatten(tree, filled))

    return of, tuple(leaves[place] for place in places)


def ours(check: Check, seed: int) -> tuple[str, tuple[str, ...], str]:
    options, other = dict(check.options), cast(Callable, check.other)
    if check.kind == "gradient":
        report = check_gradient(check.fun, other, *check.args, key=seed, **options)
    elif check.kind == "pair":
        report = check_pair(check.fun, other, *check.args, key=seed, **options)
    elif check.kind == "jvp":
        report = check_jvp(check.fun, check.args, key=seed, **options)
    else:
        report = check_vjp(check.fun, *check.args, key=seed, **options)
    return report.verdict, tuple(hint.category for hint in report.hints), report.reason


def peer(check_of: Callable) -> Callable:
    """`check_of(fun, args, order=, modes=)`, which raises AssertionError, as a tool: second order where the entry asks for it."""

    def tool(check: Check, seed: int) -> tuple[str, tuple[str, ...], str]:
        del seed  # their directions are fixed
        try:
            check_of(*of_floats(check), order=check.options.get("order", 1), modes=["fwd" if check.kind == "jvp" else "rev"])
        except AssertionError as error:
            return "fail", (), first_line(error)
        return "pass", (), ""

    return tool


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:160]


TOOLS = {"ours": ours, "check_grads": peer(check_grads), "chex": peer(chex.assert_numerical_grads)}


def run_tool(name: str, check: Check, seed: int) -> Outcome:
    """One tool on one check. An exception is an Outcome too."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            verdict, hints, detail = TOOLS[name](check, seed)
        except Exception as error:
            verdict, hints, detail = "error", (), f"{type(error).__name__}: {first_line(error)}"
    return Outcome(verdict, time.perf_counter() - start, hints, detail)
