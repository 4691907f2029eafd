"""The steps of a check, in order, and what they add up to."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check import battery as batteries
from jaxbp.check import numeric
from jaxbp.check.findings import Findings
from jaxbp.check.instruments import Instruments, Measured, arrays, draw, out_specs
from jaxbp.check.judge import EPS, MARGIN, judge, phi_noise, scales, second_opinion
from jaxbp.check.ladder import directions
from jaxbp.check.problem import Problem, widened
from jaxbp.check.report import Report


COTANGENTS = 3
BATCHES = (1, 3, 5)
NOT_DIFFERENTIABLE = ("do not support JVP", "not differentiable", "Reverse-mode differentiation does not work", "not implemented")


def run(problem: Problem, flat: Any, seed: int, *, dtype_check: bool, battery: bool, order: int) -> Report:
    """All steps on one problem."""
    found = Findings(problem, seed)
    if not problem.diff:
        raise ValueError(f"check: {problem.subject} has no floating-point argument, so there is nothing to differentiate")
    if found.bad_inputs():
        return found.report()
    rng = np.random.default_rng(seed)
    outs = _call(problem, flat)
    if not outs:
        raise ValueError(f"check: {problem.subject} returns no floating-point output, so it has no gradient")
    with jax.enable_x64(True):
        seeds = _seeds(problem, rng)
    eager = _structure(found, problem, seeds[0], dtype_check)
    if eager is None:
        return found.report()
    own = _own_runs(found, problem, seeds[0], eager)
    with jax.enable_x64(True):
        tools = Instruments(problem)
        leaves = widened(problem.leaves)
        if not _given(found, tools, leaves, seeds):
            return found.report()
        _linearity(found, tools, leaves, seeds)
        if found.opaque:
            return found.report()
        _own_dtype(found, tools, leaves, seeds[0], own)
        if found.rules:
            _vmap(found, tools, leaves, seeds[0], rng)
        _ladder(found, tools, leaves, seeds[0], rng)
        wrong = found.failed("cotangent", "tangent", "ladder")
        if battery and not wrong:  # what is wrong at the given input needs no other
            for name, changed in batteries.derived(leaves, problem.diff, rng):
                _derived(found, tools, f"battery: {name}", changed, seeds[0])
        for size in BATCHES if problem.axes and not wrong else ():
            changed = batteries.resized(leaves, problem.axes, size)
            _derived(found, tools, f"batch of {size}", changed, _seeds(problem.at(changed), rng)[0])
        if order > 1 and not wrong:
            _second_order(found, problem, leaves, seeds[0], rng)
    return found.report()


def _call(problem: Problem, flat: Any) -> list:
    try:
        return flat(problem.leaves)
    except Exception as error:
        raise ValueError(f"check: {problem.subject} itself raises {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def _seeds(problem: Problem, rng: np.random.Generator) -> list[list]:
    """Dense random seeds, rounded to the dtype of what they multiply, so that every precision is given the same."""
    if problem.seeds is not None:
        return [list(problem.seeds)]
    eps = _own_eps(problem.leaves, problem.diff)
    dtype = {2.0**-52: np.float64, 2.0**-23: np.float32}.get(eps, jnp.bfloat16)
    drawn = [[np.asarray(s.astype(dtype), np.float64) for s in draw(out_specs(problem), rng)] for _ in range(COTANGENTS)]
    return ([list(problem.given_seeds)] if problem.given_seeds is not None else []) + drawn


def _own_eps(leaves: Any, diff: Any) -> float:
    return max(float(jnp.finfo(jnp.result_type(leaves[i])).eps) for i in diff)


def _structure(found: Findings, problem: Problem, seeds: list, dtype_check: bool) -> list | None:
    """Trees, shapes, dtypes, and the same result twice, eagerly and in the caller's own dtype."""
    try:
        results, _ = problem.claim(problem.leaves, seeds)
        again, _ = problem.claim(problem.leaves, seeds)
    except Exception as error:
        text = _first_line(error)
        if isinstance(error, (ValueError, NotImplementedError)) and any(words in str(error) for words in NOT_DIFFERENTIABLE):
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
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(arrays(results), arrays(again), strict=True))
    if same:
        found.step("repeat", "pass")
    else:
        found.fail("repeat", "nondeterministic", "two calls with the same arguments give different results")
    return arrays(results)


def _given(found: Findings, tools: Instruments, leaves: tuple, seeds: list) -> bool:
    """The claim against the truth at the given input, for every seed. False where the check cannot go on."""
    try:
        claims = [tools.claim(leaves, s) for s in seeds]
    except Exception as error:
        found.narrow(f"the claim cannot run in float64 ({_first_line(error)})")
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


def compare(
    found: Findings, tools: Instruments, step: str, leaves: tuple, seeds: list, claimed: Measured, truth: Measured, category: str = ""
) -> bool:
    """Judge every leaf; a failure needs a second opinion. True where nothing failed."""
    noise = truth.results_noise
    judged = judge(claimed.results, truth.results, noise, found.floor)
    if any(j.verdict == "fail" for j in judged) and not found.narrowed:
        own = tools.claim_noise(leaves, seeds)
        noise = [max(a, b) for a, b in zip(noise, own, strict=True)]
        judged = judge(claimed.results, truth.results, noise, found.floor)
    right = True
    for i, j in enumerate(judged):
        if j.verdict == "fail" and np.isfinite(j.error):
            opinion = second_opinion(tools, leaves, seeds, i, claimed.results[i], truth)
            verdict = opinion.verdict
            if verdict == "inconclusive" and j.error > 1e3 * j.tolerance:
                verdict = "fail"  # far beyond rounding in float64, whatever central differences can see
            j = j._replace(verdict=verdict, note=opinion.note)
            if verdict == "pass":
                found.convention(step, i, opinion.note)
        right &= j.verdict != "fail"
        found.leaf(step, i, j, claimed, truth, leaves, seeds, category)
    if right:
        found.step(step, "pass")
    return right


def _primal(found: Findings, tools: Instruments, leaves: tuple, seeds: list, claimed: Measured, truth: Measured) -> None:
    judged = judge(claimed.outs, truth.outs, truth.outs_noise, max(found.floor, 64 * EPS))
    for n, j in enumerate(judged):
        if j.verdict == "fail":
            index = list(j.index or ())
            at = tuple(j.index or ())
            found.fail(
                "primal", "primal",
                f"the rule's own forward differs from the function: output {n} at {index} is {claimed.outs[n][at]:.9g}, "
                f"the function gives {truth.outs[n][at]:.9g}",
            )  # fmt: skip
            return
    found.step("primal", "pass")


def _without_autodiff(found: Findings, tools: Instruments, leaves: tuple, seeds: list, claimed: Measured, error: Exception) -> bool:
    """The ladder alone, where the primal cannot be differentiated (a callback, a kernel, a while loop)."""
    found.opaque = _first_line(error)
    noise = 4 * found.amplitude * EPS * float(sum(np.sum(np.abs(s)) for s in seeds))
    if not tools.problem.reverse:
        found.step("ladder", "inconclusive", "forward mode without autodiff of the primal is not checked")
        return False
    for i, result in enumerate(claimed.results):
        try:
            measured = numeric.leaf(tools, leaves, seeds, i, result, noise)
        except Exception as problem:
            found.step("ladder", "inconclusive", f"the function cannot run in float64: {_first_line(problem)}")
            return False
        found.numeric(i, measured, result, leaves, seeds)
    return True


def _linearity(found: Findings, tools: Instruments, leaves: tuple, seeds: list) -> None:
    """0, -g, 1000 g and g1 + g2: a cotangent map is linear."""
    if tools.problem.seeds is not None or found.failed("structure"):
        return
    first, second = seeds[0], seeds[-1]
    at = lambda s: tools.claim(leaves, s).results
    one, two = at(first), at(second)
    noise = spread_of(one) if found.opaque else tools.truth(leaves, first).results_noise
    tried = [
        ("0", [0 * s for s in first], [0 * r for r in one]),
        ("-g", [-s for s in first], [-r for r in one]),
        ("1000 g", [1000 * s for s in first], [1000 * r for r in one]),
        ("g1 + g2", [a + b for a, b in zip(first, second, strict=True)], [a + b for a, b in zip(one, two, strict=True)]),
    ]
    for name, s, expected in tried:
        got = at(s)
        for path, g, e, n, scale in zip(tools.problem.paths, got, expected, noise, scales(one), strict=True):
            size = 1000 if "1000" in name else 2
            both = np.isfinite(g) & np.isfinite(e)
            error = float(np.max(np.abs(np.where(both, g - e, 0.0)), initial=0.0))
            if error > size * max(4 * MARGIN * n, 1e-11 * scale, 1e-250):
                found.fail("linearity", "nonlinear", f"{path} is not linear in the seed: at {name} it is off by {error:.3g}")
                return
    found.step("linearity", "pass")


def spread_of(results: list) -> list:
    return [1e-12 * float(np.max(np.abs(r), initial=0.0)) for r in results]


class OwnRuns(NamedTuple):
    """Results in the caller's own dtype and configuration: the claim eagerly and jitted, the plain autodiff jitted."""

    eager: list
    jitted: list | None
    plain: list | None


def _own_runs(found: Findings, problem: Problem, seeds: list, eager: list) -> OwnRuns:
    jitted = plain = None
    if found.rules:
        try:
            jitted = arrays(jax.jit(problem.claim)(problem.leaves, seeds)[0])
        except Exception as error:
            found.fail("jit", "jit", f"under jit it raises {type(error).__name__}: {_first_line(error)}")
        try:
            plain = arrays(jax.jit(problem.truth)(problem.leaves, seeds)[0])
        except Exception:
            plain = None  # no autodiff of the primal; the step that needs it will say so
    return OwnRuns(eager, jitted, plain)


def _own_dtype(found: Findings, tools: Instruments, leaves: tuple, seeds: list, own: OwnRuns) -> None:
    """Jitted against eager, and the digits in the caller's own dtype against float64."""
    if not found.rules:
        return
    problem = tools.problem
    eps = _own_eps(problem.leaves, problem.diff)
    truth = tools.truth(leaves, seeds, eps / EPS)
    sizes = scales(truth.results)
    limits = [MARGIN * n + 64 * eps * s for n, s in zip(truth.results_noise, sizes, strict=True)]
    differ = lambda a, b: float(np.max(np.where(np.isfinite(a) & np.isfinite(b), np.abs(a - b), 0.0), initial=0.0))
    if own.jitted is not None:
        bad = [
            f"{path} differs by {differ(a, b):.3g} between jit and eager"
            for path, a, b, limit in zip(problem.paths, own.jitted, own.eager, limits, strict=True)
            if differ(a, b) > limit
        ]
        if bad:
            found.fail("jit", "jit", bad[0])
        else:
            found.step("jit", "pass")
    if eps == EPS or own.plain is None or found.failed("cotangent", "tangent", "jit"):
        return
    wide = tools.claim(leaves, seeds).results  # found right by now; at kinks it may hold to another convention than autodiff
    for path, e, w, p, t, limit, size in zip(
        problem.paths, own.eager, wide, own.plain, truth.results, limits, sizes, strict=True
    ):
        # what a function draws at random may differ from float64; then the plain form tells how far
        error, usual = differ(e, w), differ(p, t)
        if error > limit and error > 4 * usual:
            found.fail(
                "own dtype", "dtype",
                f"{path}: in its own dtype it loses digits: off by {error / size:.3g} of the leaf's scale, the plain form by {usual / size:.3g}",
            )  # fmt: skip
            return
    found.step("own dtype", "pass")


def _vmap(found: Findings, tools: Instruments, leaves: tuple, seeds: list, rng: np.random.Generator) -> None:
    """The rule mapped over two inputs against the rule at each."""
    diff = tools.problem.diff
    other = tuple(leaf * 0.75 if i in diff else leaf for i, leaf in enumerate(leaves))
    axes = tuple(0 if i in diff else None for i in range(len(leaves)))
    stacked = tuple(jnp.stack([a, b]) if i in diff else a for i, (a, b) in enumerate(zip(leaves, other, strict=True)))
    try:
        both = arrays(jax.jit(jax.vmap(lambda xs, s: tools.problem.claim(xs, s)[0], (axes, None)))(stacked, seeds))
    except Exception as error:
        if any(words in str(error) for words in ("vmap", "batch")):
            found.step("vmap", "pass", f"cannot be mapped: {_first_line(error)}")
        else:
            found.fail("vmap", "vmap", f"under vmap it raises {type(error).__name__}: {_first_line(error)}")
        return
    for k, at in enumerate((leaves, other)):
        alone, noise = tools.claim(at, seeds).results, tools.truth(at, seeds).results_noise
        for path, b, a, n, scale in zip(tools.problem.paths, both, alone, noise, scales(alone), strict=True):
            error = float(np.max(np.where(np.isfinite(a), np.abs(b[k] - a), 0.0), initial=0.0))
            if error > max(4 * MARGIN * n, 1e-10 * scale, 1e-250):
                found.fail("vmap", "vmap", f"{path} differs by {error:.3g} between vmap and a loop")
                return
    found.step("vmap", "pass")


def _ladder(found: Findings, tools: Instruments, leaves: tuple, seeds: list, rng: np.random.Generator) -> None:
    """Central differences along one direction a leaf and one of all leaves, against what the claim predicts."""
    problem = tools.problem
    claimed, truth = tools.claim(leaves, seeds), tools.truth(leaves, seeds)
    if not all(np.isfinite(o).all() for o in truth.outs):
        return
    if problem.reverse:
        whole = directions([leaves[i] for i in problem.diff], rng)
        alone = [[v if j == i else 0 * v for j, v in enumerate(whole)] for i in range(len(whole))]
        tried = [(p, seeds, v, i) for i, (p, v) in enumerate(zip(problem.paths, alone, strict=True))]
        predict = lambda results, v, bars: float(sum(np.sum(r * d) for r, d in zip(results, v, strict=True)))
        tried += [("all leaves", seeds, whole, None)] if len(whole) > 1 else []
    else:
        weights = [rng.uniform(0.5, 1.5, o.shape) for o in truth.outs]
        tried = [("all outputs", weights, seeds, None)]
        predict = lambda results, v, bars: float(sum(np.sum(r * w) for r, w in zip(results, bars, strict=True)))
    disagreements = []
    for path, bars, v, _ in tried:
        slope = tools.slope(leaves, bars, v, phi_noise(bars, truth))
        by_claim = predict(claimed.results, v, bars)
        size = abs(slope.value) + float(sum(np.sum(np.abs(r * d)) for r, d in zip(claimed.results, v if problem.reverse else bars, strict=True)))
        found.ladder[path] = {"step": slope.steps.tolist(), "value": slope.values.tolist(), "claimed": by_claim}
        # what may be claimed where kinks meet is for the second opinion, which looks at the entries one by one
        clear = np.isfinite(slope.value) and not slope.kink and slope.error < 1e-4 * size
        if clear and np.isfinite(by_claim) and not slope.agrees(by_claim, 1e-9 * size):
            disagreements.append((path, slope, by_claim))
    if not disagreements or found.failed("cotangent", "tangent"):
        found.step("ladder", "pass")
    elif found.stops:
        found.step("ladder", "pass", "central differences differ, as they must: the function holds values fixed by stop_gradient")
    else:
        path, slope, by_claim = disagreements[0]
        found.fail("ladder", "missing-term", f"central differences along {path} say {slope.value:.9g} +- {slope.error:.1g}, the claim "
                   f"{by_claim:.9g}; JAX's autodiff of the primal agrees with the claim")  # fmt: skip


def _derived(found: Findings, tools: Instruments, step: str, leaves: tuple, seeds: list) -> None:
    """The claim against the truth at a derived input. Outside the function's domain nothing is said."""
    try:
        truth = tools.truth(leaves, seeds)
    except Exception as error:
        found.step(step, "pass", f"not tried: the function does not take it ({_first_line(error)})")
        return
    defined = all(np.isfinite(o).all() for o in truth.outs) and all(np.isfinite(r).all() for r in truth.results)
    if not defined:
        found.step(step, "pass", "not tried: the value or its derivative is not finite there")
        return
    try:
        claimed = tools.claim(leaves, seeds)
    except Exception as error:
        found.fail(step, "input", f"{step}: the rule raises {type(error).__name__}: {_first_line(error)}")
        return
    compare(found, tools, step, leaves, seeds, claimed, truth, category="input")


def _second_order(found: Findings, problem: Problem, leaves: tuple, seeds: list, rng: np.random.Generator) -> None:
    """The derivative of the rule: the claim of the claim."""
    def twice(inner: Any) -> Any:
        def claim(xs: Any, bars: Any) -> tuple[list, list]:
            of_diff = lambda *floats: inner(problem.merge(xs, floats), seeds)[0]
            outs, vjp = jax.vjp(of_diff, *(xs[i] for i in problem.diff))
            return list(vjp([jnp.asarray(b).astype(o.dtype) for b, o in zip(bars, outs, strict=True)])), outs

        return claim

    second = dataclasses.replace(
        problem, primal=lambda xs: problem.truth(xs, seeds)[0], claim=twice(problem.claim), seeds=None, given_seeds=None
    )
    tools = Instruments(second)
    bars = draw([jax.ShapeDtypeStruct(np.shape(leaves[i]), np.float64) for i in problem.diff], rng)
    try:
        claimed, truth = tools.claim(leaves, bars), tools.truth(leaves, bars)
    except Exception as error:
        found.fail("second order", "second-order", f"the rule cannot be differentiated: {type(error).__name__}: {_first_line(error)}")
        return
    compare(found, tools, "second order", leaves, bars, claimed, truth, category="second-order")
