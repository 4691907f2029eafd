"""Steps beyond the given input and seeds: linearity, central differences, derived inputs, the derivative of the rule."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check.comparing import compare, first_line
from jaxbp.check.findings import Findings
from jaxbp.check.instruments import Instruments, draw
from jaxbp.check.judge import MARGIN, phi_noise, scales
from jaxbp.check.ladder import directions
from jaxbp.check.problem import Problem


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
        size = abs(slope.value) + float(
            sum(np.sum(np.abs(r * d)) for r, d in zip(claimed.results, v if problem.reverse else bars, strict=True))
        )
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
        found.fail(
            "ladder", "missing-term",
            f"central differences along {path} say {slope.value:.9g} +- {slope.error:.1g}, the claim {by_claim:.9g}; "
            "JAX's autodiff of the primal agrees with the claim",
        )  # fmt: skip


def derived(found: Findings, tools: Instruments, step: str, leaves: tuple, seeds: list) -> None:
    """The claim against the truth at a derived input. Outside the function's domain nothing is said."""
    try:
        truth = tools.truth(leaves, seeds)
    except Exception as error:
        found.step(step, "pass", f"not tried: the function does not take it ({first_line(error)})")
        return
    defined = all(np.isfinite(o).all() for o in truth.outs) and all(np.isfinite(r).all() for r in truth.results)
    if not defined:
        found.step(step, "pass", "not tried: the value or its derivative is not finite there")
        return
    try:
        claimed = tools.claim(leaves, seeds)
    except Exception as error:
        found.fail(step, "input", f"{step}: the rule raises {type(error).__name__}: {first_line(error)}")
        return
    compare(found, tools, step, leaves, seeds, claimed, truth, category="input")


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
