"""A claim against the truth, leaf by leaf, with the second opinion that every failure needs."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbp import jaxprs
from jaxbp.check.findings import Findings
from jaxbp.check.instruments import Instruments, Measured
from jaxbp.check.judge import judge, second_opinion
from jaxbp.check.noise import narrows
from jaxbp.check.problem import Problem
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
        if j.verdict == "fail" and not right and not found.narrow_rule:
            found.narrow_rule = _narrow_rule(tools.problem, leaves, seeds)
        if j.verdict == "fail" and found.narrow_rule and j.relative < 64 * float(jnp.finfo(found.narrow_rule).eps):
            text = (
                f"{tools.problem.paths[i]} loses digits: the rule rounds to {found.narrow_rule} on the way, the function does not"
            )
            found.hints.append(Hint("dtype", text))
        found.leaf(step, i, j, claimed, truth, leaves, seeds, category)
    if right:
        found.step(step, "pass")
    return right


def _narrow_rule(problem: Problem, leaves: tuple, seeds: list) -> str:
    """The narrowest dtype that the claim converts to in float64 and the truth does not; "" where there is none."""
    narrow = []
    for run in (problem.claim, problem.truth):
        program = jaxprs.trace(lambda *xs, run=run: run(xs[: len(leaves)], list(xs[len(leaves) :])), *leaves, *seeds).program
        narrow.append({eqn.outvars[0].aval.dtype for eqn, _ in jaxprs.equations(program) if narrows(eqn)})
    own = sorted(narrow[0] - narrow[1], key=lambda dtype: float(jnp.finfo(dtype).eps))
    return str(own[-1]) if own else ""


def own_eps(leaves: Any, diff: Any) -> float:
    return max(float(jnp.finfo(jnp.result_type(leaves[i])).eps) for i in diff)


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
