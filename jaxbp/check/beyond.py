"""Steps beyond the given input and seeds: linearity, central differences, derived inputs, the derivative of the rule."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check.asked import first_line
from jaxbp.check.comparing import compare
from jaxbp.check.findings import Findings
from jaxbp.check.instruments import Instruments, Measured, draw
from jaxbp.check.judge import MARGIN, beside, phi_noise, scales
from jaxbp.check.ladder import Slope, directions
from jaxbp.check.problem import Problem
from jaxbp.check.transforms import OwnRuns


def linearity(found: Findings, tools: Instruments, leaves: tuple, seeds: list) -> None:
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
                # a term that does not depend on the seed at all is told better by what it is
                affine = name == "0" and any(h.category == "decay" for h in found.hints)
                category = "decay" if affine else "nonlinear"
                found.fail("linearity", category, f"{path} is not linear in the seed: at {name} it is off by {error:.3g}")
                return
    found.step("linearity", "pass")


def spread_of(results: list) -> list:
    return [1e-12 * float(np.max(np.abs(r), initial=0.0)) for r in results]


def differences(found: Findings, tools: Instruments, leaves: tuple, seeds: list, rng: np.random.Generator) -> None:
    """Central differences along one direction a leaf and one of all leaves, against what the claim predicts."""
    claimed, truth = tools.claim(leaves, seeds), tools.truth(leaves, seeds)
    if not all(np.isfinite(o).all() for o in truth.outs):
        return
    disagreements = []
    for path, bars, along in _slopes(tools.problem, truth, leaves, seeds, rng):
        slope, by_claim, clear = _predicted(tools, claimed, truth, leaves, bars, along)
        found.ladder[path] = {"step": slope.steps.tolist(), "value": slope.values.tolist(), "claimed": by_claim}
        if clear and not all(_agrees_beside(tools, leaves, seeds, bars, along, k) for k in (0, 1)):
            disagreements.append((path, slope, by_claim))
    if not disagreements or found.failed("cotangent", "tangent"):
        found.step("ladder", "pass")
    elif found.held:
        text = (
            "central differences differ, as they must: the function holds values fixed by stop_gradient, or draws gamma variates"
        )
        found.step("ladder", "pass", text)
    else:
        path, slope, by_claim = disagreements[0]
        found.fail(
            "ladder", "missing-term",
            f"along a random direction of {path} central differences measure a slope of {slope.value:.9g} +- {slope.error:.1g}, "
            f"the claim has {by_claim:.9g}; "
            "autodiff of the primal does not contradict the claim",
        )  # fmt: skip


def _slopes(problem: Problem, truth: Measured, leaves: tuple, seeds: list, rng: np.random.Generator) -> list:
    """(what is tried, cotangents, direction): one direction a leaf and one of all; forwards the given direction."""
    if not problem.reverse:
        return [("all outputs", [rng.uniform(0.5, 1.5, o.shape) for o in truth.outs], seeds)]
    whole = directions([leaves[i] for i in problem.diff], rng)
    alone = [(path, seeds, [v if j == i else 0 * v for j, v in enumerate(whole)]) for i, path in enumerate(problem.paths)]
    return alone + ([("all leaves", seeds, whole)] if len(whole) > 1 else [])


def _predicted(
    tools: Instruments, claimed: Measured, truth: Measured, leaves: tuple, bars: list, along: list
) -> tuple[Slope, float, bool]:
    """(the slope, what the claim predicts, whether they clearly differ).

    What may be claimed where kinks meet is for the second opinion, which looks at the entries one by one.
    """
    slope = tools.slope(leaves, bars, along, phi_noise(bars, truth))
    weights = along if tools.problem.reverse else bars
    parts = [r * w for r, w in zip(claimed.results, weights, strict=True)]
    by_claim = float(sum(np.sum(part) for part in parts))
    size = abs(slope.value) + float(sum(np.sum(np.abs(part)) for part in parts))
    clear = np.isfinite(slope.value) and np.isfinite(by_claim) and not slope.kink and slope.error < 1e-4 * size
    return slope, by_claim, bool(clear and not slope.agrees(by_claim, 1e-9 * size))


def _agrees_beside(tools: Instruments, leaves: tuple, seeds: list, bars: list, along: list, k: int) -> bool:
    """Whether the claim agrees a little away: then it is a matter of ties here."""
    at = beside(tools, leaves, k, 1e-4)
    return not _predicted(tools, tools.claim(at, seeds), tools.truth(at, seeds), at, bars, along)[2]


def derived(found: Findings, tools: Instruments, step: str, leaves: tuple, seeds: list, own: OwnRuns) -> None:
    """The claim against the truth at a derived input. Outside the function's domain nothing is said."""
    try:
        truth = tools.truth(leaves, seeds)
    except Exception as error:
        found.step(step, "pass", f"not tried: the function does not take it ({first_line(error)})")
        return
    try:
        claimed = tools.claim(leaves, seeds)
    except Exception as error:
        found.fail(step, "input", f"{step}: the rule raises {type(error).__name__}: {first_line(error)}")
        return
    # a rule may know better than autodiff, which gives NaN beside a guarded branch
    told = all(np.isfinite(c[~np.isfinite(t)]).all() for c, t in zip(claimed.results, truth.results, strict=True))
    if not told or not all(np.isfinite(o).all() for o in truth.outs):
        found.step(step, "pass", "not tried: the value or its derivative is not finite there")
        return
    if compare(found, tools, step, leaves, seeds, claimed, truth, category="input"):
        text = own.overflow(tools.problem, leaves, seeds)
        if text:
            found.fail(step, "input", f"right at the given input, wrong at a derived one ({step}: {text})")


def second_order(found: Findings, problem: Problem, leaves: tuple, seeds: list, rng: np.random.Generator) -> None:
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
        found.fail(
            "second order", "second-order", f"the rule cannot be differentiated: {type(error).__name__}: {first_line(error)}"
        )
        return
    compare(found, tools, "second order", leaves, bars, claimed, truth, category="second-order")
