"""The steps of a check, in order, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check import battery as batteries
from jaxbp.check import numeric
from jaxbp.check.asked import UNTRACED, WrongCall, first_line, untraced
from jaxbp.check.beyond import derived, differences, linearity, second_order
from jaxbp.check.comparing import compare, own_eps
from jaxbp.check.findings import Findings
from jaxbp.check.instruments import Instruments, Measured, arrays, draw, out_specs
from jaxbp.check.judge import EPS, judge
from jaxbp.check.problem import Problem, name_of, widened
from jaxbp.check.report import Report
from jaxbp.check.transforms import OwnRuns, mapped, own_dtype


COTANGENTS = 3
BATCHES = (1, 3, 5)
NOT_DIFFERENTIABLE = ("do not support JVP", "not differentiable", "Reverse-mode differentiation does not work", "not implemented")


def run(problem: Problem, flat: Any, seed: int, *, dtype_check: bool, battery: bool, order: int) -> Report:
    """All steps on one problem."""
    found, rng = Findings(problem, seed), np.random.default_rng(seed)
    if not problem.diff:
        raise ValueError(f"check: {problem.subject} has no floating-point argument, so there is nothing to differentiate")
    if found.bad_inputs():
        return found.report()
    seeds = _first_seeds(found, problem, flat, rng)
    eager = _structure(found, problem, seeds[0], dtype_check)
    if eager is None:
        return found.report()
    own = OwnRuns(found, problem, seeds[0], eager)
    with jax.enable_x64(True), np.errstate(all="ignore"):  # what is not finite is told by the report
        tools = Instruments(problem, own.traceable)
        leaves = widened(problem.leaves)
        if not _given(found, tools, leaves, seeds):
            return found.report()
        linearity(found, tools, leaves, seeds)
        if found.opaque:
            return found.report()
        own_dtype(found, tools, leaves, seeds[0], own)
        if found.rules and own.traceable:
            mapped(found, tools, leaves, seeds[0], rng)
        differences(found, tools, leaves, seeds[0], rng)
        if not found.failed("cotangent", "tangent", "ladder"):  # what is wrong at the given input needs no other
            _elsewhere(found, tools, leaves, seeds[0], own, rng, battery)
            if order > 1:
                second_order(found, problem, leaves, seeds[0], rng)
    return found.report()


def _elsewhere(
    found: Findings, tools: Instruments, leaves: tuple, seeds: list, own: OwnRuns, rng: np.random.Generator, battery: bool
) -> None:
    """Derived inputs and, where the batch axis is known, other batch sizes."""
    problem = tools.problem
    for name, changed in batteries.derived(leaves, problem.diff, rng) if battery else ():
        derived(found, tools, f"battery: {name}", changed, seeds, own)
    for size in BATCHES if problem.axes else ():
        changed = batteries.resized(leaves, problem.axes or (), size)
        try:
            fitting = _seeds(problem.at(changed), rng)[0]
        except Exception as error:
            found.step(f"batch of {size}", "pass", f"not tried: the function does not take it ({first_line(error)})")
            continue
        derived(found, tools, f"batch of {size}", changed, fitting, own)


def _first_seeds(found: Findings, problem: Problem, flat: Any, rng: np.random.Generator) -> list[list]:
    """The seeds at the given input. Raises: ValueError where the function has no gradient, or is none that JAX can take."""
    subject = name_of(problem.functions[0]) if problem.handwritten else problem.subject
    outs = _asked(subject, lambda: jax.eval_shape(lambda *xs: flat(xs), *problem.leaves))
    if not outs:
        raise ValueError(f"check: {subject} returns no floating-point output, so it has no gradient")
    if problem.seeds is not None and [out.shape for out in outs] != [()]:
        shapes = ", ".join(str(out.shape) for out in outs)
        raise ValueError(f"check: a gradient is of one scalar; {subject} returns shapes {shapes} (auxiliary outputs: has_aux)")
    if not any(map(np.size, (problem.leaves[i] for i in problem.diff))) or not any(out.size for out in outs):
        found.step("entries", "inconclusive", "every floating argument, or every output, is empty: nothing was looked at")
    with jax.enable_x64(True):
        return _asked(subject, lambda: _seeds(problem, rng), " in float64")


def output_shapes(subject: str, flat: Any) -> Any:
    """Shapes and dtypes of all outputs."""
    return _asked(subject, lambda: jax.eval_shape(lambda *xs: flat.fun(*flat.args(xs)), *flat.leaves))


def _asked(subject: str, call: Callable, where: str = "") -> Any:
    try:
        return call()
    except WrongCall:
        raise
    except UNTRACED as error:
        why, advice = untraced(error)
        text = f"check: {subject} cannot be traced by JAX, and the truth is the derivative of what was traced: {why}; {advice}"
        raise ValueError(text) from error
    except Exception as error:
        raise ValueError(f"check: {subject} itself raises{where} {type(error).__name__}: {first_line(error)}") from error


def _seeds(problem: Problem, rng: np.random.Generator) -> list[list]:
    """Dense random seeds, rounded to the dtype of what they multiply, so that every precision is given the same."""
    if problem.seeds is not None:
        return [list(problem.seeds)]
    eps = own_eps(problem.leaves, problem.diff)
    dtype = {2.0**-52: np.float64, 2.0**-23: np.float32}.get(eps, jnp.bfloat16)
    drawn = [[np.asarray(s.astype(dtype), np.float64) for s in draw(out_specs(problem), rng)] for _ in range(COTANGENTS)]
    return ([list(problem.given_seeds)] if problem.given_seeds is not None else []) + drawn


def _structure(found: Findings, problem: Problem, seeds: list, dtype_check: bool) -> list | None:
    """Trees, shapes, dtypes, and the same result twice, eagerly and in the caller's own dtype."""
    try:
        results, outs = problem.claim(problem.leaves, seeds)
        again, outs_again = problem.claim(problem.leaves, seeds)
    except Exception as error:
        text = first_line(error)
        known = isinstance(error, (ValueError, NotImplementedError)) and any(words in str(error) for words in NOT_DIFFERENTIABLE)
        if known or (isinstance(error, NotImplementedError) and not found.rules):
            found.step("structure", "inconclusive", f"it has no derivative rule: {text}")
        else:
            found.fail("structure", "structure", f"the rule raises {type(error).__name__}: {text}")
        return None
    specs = [problem.leaves[i] for i in problem.diff] if problem.reverse else results
    for path, result, spec in zip(problem.paths, results, specs, strict=True):
        if jnp.shape(result) != jnp.shape(spec):
            found.fail("structure", "structure", f"{path}: shape {jnp.shape(spec)} was expected, got {jnp.shape(result)}")
            return None
        wanted, got = jnp.result_type(spec), jnp.result_type(result)
        if dtype_check and got != wanted:
            found.fail("dtype", "dtype", f"the cotangent of {path} is {got}, the argument {wanted}; cast it")
    found.step("structure", "pass")
    same = lambda a, b: all(np.array_equal(x, y, equal_nan=True) for x, y in zip(arrays(a), arrays(b), strict=True))
    if not same(outs, outs_again):
        text = (
            "two calls of the function with the same arguments give different values: it draws fresh randomness or keeps a state"
        )
        found.fail("repeat", "nondeterministic", text)
        return None
    if same(results, again):
        found.step("repeat", "pass")
    else:
        found.fail("repeat", "nondeterministic", "two calls with the same arguments give different results")
    return arrays(results)


def _given(found: Findings, tools: Instruments, leaves: tuple, seeds: list) -> bool:
    """The claim against the truth at the given input, for every seed. False where the check cannot go on."""
    try:
        claims = [tools.claim(leaves, s) for s in seeds]
    except Exception as error:
        found.narrow(f"the claim cannot run in float64 ({first_line(error)})")
        claims = [_narrow_claim(tools, s) for s in seeds]
    try:
        truths = [tools.truth(leaves, s, found.amplitude) for s in seeds]
    except Exception as error:
        return _without_autodiff(found, tools, leaves, seeds[0], claims[0], error)
    _primal(found, tools, leaves, seeds[0], claims[0], truths[0])
    for s, claimed, truth in zip(seeds, claims, truths, strict=True):
        if not compare(found, tools, "cotangent" if tools.problem.reverse else "tangent", leaves, s, claimed, truth):
            break
    return not found.narrowed


def _narrow_claim(tools: Instruments, seeds: list) -> Measured:
    results, outs = tools.problem.claim(tools.problem.leaves, seeds)
    return Measured(arrays(results), arrays(outs))


def _primal(found: Findings, tools: Instruments, leaves: tuple, seeds: list, claimed: Measured, truth: Measured) -> None:
    judged = judge(claimed.outs, truth.outs, truth.outs_noise, max(found.floor, 64 * EPS))
    for n, (j, out) in enumerate(zip(judged, truth.outs, strict=True)):
        if np.isnan(out).any():
            found.step("primal", "inconclusive", f"output {n} is NaN at {np.argwhere(np.isnan(out))[0].tolist()}")
        if j.verdict == "fail" and not tools.problem.surrogate:
            at = tuple(j.place or ())
            own = tools.problem.options.get("primal") is not None
            advice = "; where another function's derivative is claimed on purpose, name it by derivative_of" if own else ""
            found.fail(
                "primal", "primal",
                f"the rule's own forward differs from the function: output {n} at {list(at)} is {claimed.outs[n][at]:.9g}, "
                f"the function gives {truth.outs[n][at]:.9g}{advice}",
            )  # fmt: skip
            return
    found.step("primal", "pass")


def _without_autodiff(
    found: Findings, tools: Instruments, leaves: tuple, seeds: list, claimed: Measured, error: Exception
) -> bool:
    """The ladder alone, where the primal cannot be differentiated (a callback, a kernel, a while loop)."""
    found.opaque = first_line(error)
    noise = 4 * found.amplitude * EPS * float(sum(np.sum(np.abs(s)) for s in seeds))
    if not tools.problem.reverse:
        found.step("ladder", "inconclusive", "forward mode without autodiff of the primal is not checked")
        return False
    for i, result in enumerate(claimed.results):
        try:
            measured = numeric.leaf(tools, leaves, seeds, i, result, noise)
        except Exception as problem:
            found.step("ladder", "inconclusive", f"the function cannot run in float64: {first_line(problem)}")
            return False
        found.numeric(i, measured, result, leaves, seeds)
    return True
