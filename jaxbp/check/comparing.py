"""A claim against the truth, leaf by leaf, with the second opinion that every failure needs."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbp import jaxprs
from jaxbp.check.findings import Findings
from jaxbp.check.instruments import Instruments, Measured
from jaxbp.check.judge import Judged, by_entries, judge, second_opinion
from jaxbp.check.noise import narrows
from jaxbp.check.problem import Problem, dtype_of
from jaxbp.check.report import Hint


def compare(
    found: Findings,
    tools: Instruments,
    step: str,
    leaves: tuple,
    seeds: list,
    claimed: Measured,
    truth: Measured,
    category: str = "",
) -> bool:
    """Judge every leaf; a failure needs a second opinion. True where nothing failed."""
    noise = truth.results_noise
    judged = judge(claimed.results, truth.results, noise, found.floor)
    if any(j.verdict == "fail" for j in judged) and not found.narrowed:
        own = tools.claim_noise(leaves, seeds)
        noise = [max(a, b) for a, b in zip(noise, own, strict=True)]
        judged = judge(claimed.results, truth.results, noise, found.floor)
    settled = truth._replace(results=list(truth.results))
    for i, j in enumerate(judged):
        j, settled.results[i] = _opinion(found, tools, leaves, seeds, i, j, claimed, truth)
        if j.verdict != "inconclusive":  # what it settled counts
            j = judge(claimed.results, settled.results, noise, found.floor)[i]._replace(verdict=j.verdict, note=j.note)
        judged[i] = j
        if j.verdict == "pass" and j.note:
            found.convention(step, i, j.note)
        if j.verdict == "fail" and not found.narrow_rule:
            found.narrow_rule = _narrow_rule(tools.problem, leaves, seeds) if tools.traceable else ""
        if j.verdict == "fail" and found.narrow_rule and j.relative < 64 * float(jnp.finfo(found.narrow_rule).eps):
            text = (
                f"{tools.problem.paths[i]} loses digits: the rule rounds to {found.narrow_rule} on the way, the function does not"
            )
            found.hints.append(Hint("dtype", text))
        found.leaf(step, i, j, claimed, settled, leaves, seeds, category)
    right = all(j.verdict != "fail" for j in judged)
    if right:
        found.step(step, "pass")
    return right


def _opinion(
    found: Findings, tools: Instruments, leaves: tuple, seeds: list, i: int, j: Judged, claimed: Measured, truth: Measured
) -> tuple[Judged, np.ndarray]:
    """The verdict on leaf i after a second opinion, and what is true, which that may settle where autodiff does not."""
    ours, true = claimed.results[i], truth.results[i]
    undefined = ~np.isfinite(true)
    if j.verdict == "fail" and np.isfinite(j.error):
        opinion = second_opinion(tools, leaves, seeds, i, ours, truth, j.tolerance, found.held)
        if opinion.verdict == "inconclusive" and j.error > 1e3 * j.tolerance:
            opinion = opinion._replace(verdict="fail")  # far beyond rounding in float64, whatever central differences see
        if opinion.verdict == "torn":
            opinion = opinion._replace(verdict="inconclusive")
    elif undefined.any() and np.isfinite(ours[undefined]).all() and all(np.isfinite(o).all() for o in truth.outs):
        opinion = by_entries(tools, leaves, seeds, i, ours, truth, undefined)
        if opinion.verdict == "inconclusive":
            return j, true
    else:
        return j, true
    return j._replace(verdict=opinion.verdict, note=opinion.note), true if opinion.true is None else opinion.true


def _narrow_rule(problem: Problem, leaves: tuple, seeds: list) -> str:
    """The narrowest dtype that the claim converts to in float64 and the truth does not; "" where there is none."""
    narrow = []
    for run in (problem.claim, problem.truth):
        program = jaxprs.trace(lambda *xs, run=run: run(xs[: len(leaves)], list(xs[len(leaves) :])), *leaves, *seeds).program
        narrow.append({jnp.dtype(eqn.params["new_dtype"]) for eqn, _ in jaxprs.equations(program) if narrows(eqn)})
    own = sorted(narrow[0] - narrow[1], key=lambda dtype: float(jnp.finfo(dtype).eps))
    return str(own[-1]) if own else ""


def own_eps(leaves: Any, diff: Any) -> float:
    return max(float(jnp.finfo(dtype_of(leaves[i])).eps) for i in diff)
