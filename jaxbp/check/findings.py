"""What the steps of one check find, gathered into a Report."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbp import jaxprs
from jaxbp.check.judge import EPS, Judged
from jaxbp.check.problem import Problem, dtype_of
from jaxbp.check.report import Hint, LeafReport, Report, Step
from jaxbp.check.reproduce import reproduction


RANK = {"fail": 2, "inconclusive": 1, "pass": 0}
TOLD = 4  # leaves that a step names
HELD = {"stop_gradient", "random_gamma"}  # central differences move what these hold, or draw in another way
BLIND = 0.1  # a leaf that rounding moves by more than this share of its scale has not been checked
# which hint comes first where several steps failed
ORDER = [
    *("structure", "dtype", "primal", "nan", "nondeterministic", "jit", "vmap", "nonlinear", "zero", "sign", "factor"),
    *("transposed", "swapped", "permuted", "decay", "constant", "subset", "missing-term", "input", "second-order", "localised"),
]


class Findings:
    """Collects steps, leaves and hints; the only mutable thing in a check, and it lives as long as the check."""

    def __init__(self, problem: Problem, seed: int):
        self.problem, self.seed = problem, seed
        self.steps: dict[str, Step] = {}
        self.details: dict[str, list[str]] = {}
        self.leaves: dict[int, LeafReport] = {}
        self.hints: list[Hint] = []
        self.notes: dict[str, list[str]] = {}  # what a pass has to say, and the steps that it is said of
        self.ladder: dict = {}
        self.finest: dict[int, float] = {}  # the best resolution of each leaf at any input
        self.narrow_rule = ""  # the narrower dtype that the rule rounds to where the function does not
        self.opaque = ""  # why the primal has no autodiff
        self.narrowed = ""  # why the claim runs in its own dtype only
        self.amplitude, self.floor = 1.0, 8 * EPS
        self.rules, self.held = self._look_inside()

    def _look_inside(self) -> tuple[bool, bool]:
        """Whether the program holds custom rules, and whether values that no derivative is taken of."""
        problem = self.problem

        def names(fun: Any) -> set[str]:
            traced = jaxprs.trace(lambda *xs: fun(xs), *problem.leaves)
            return {eqn.primitive.name for eqn, _ in jaxprs.equations(traced.program)}

        try:
            there = names(problem.plain)
            rules = bool(there & {*jaxprs.CUSTOM_VJP, *jaxprs.CUSTOM_JVP}) or problem.handwritten
            return rules, bool((names(problem.primal) if problem.surrogate else there) & HELD)
        except Exception:
            return True, False  # the check itself will say why

    def bad_inputs(self) -> bool:
        for i in self.problem.diff:
            bad = np.argwhere(~np.isfinite(np.asarray(self.problem.leaves[i], np.float64)))
            if len(bad):
                path = self.problem.arg_paths[i]
                self.step("input", "inconclusive", f"{path} holds NaN or infinity, first at index {bad[0].tolist()}")
                return True
        return False

    def narrow(self, why: str) -> None:
        eps = max(float(jnp.finfo(dtype_of(self.problem.leaves[i])).eps) for i in self.problem.diff)
        self.narrowed, self.amplitude, self.floor = why, eps / EPS, 64 * eps

    def step(self, name: str, verdict: str, detail: str = "") -> None:
        """Keep the worst verdict of a step, with all that is said of it."""
        old = self.steps.get(name)
        if old is None or RANK[verdict] > RANK[old.verdict]:
            self.details[name] = []
        if old is None or RANK[verdict] >= RANK[old.verdict]:
            said = self.details[name]
            said += [detail] if detail and detail not in said else []
            more = f"; and {len(said) - TOLD} more" if len(said) > TOLD else ""
            self.steps[name] = Step(name, verdict, "; ".join(said[:TOLD]) + more)

    def fail(self, name: str, category: str, text: str) -> None:
        self.step(name, "fail", text)
        self.hints.append(Hint(category, text))

    def failed(self, *names: str) -> bool:
        return any(name in self.steps and self.steps[name].verdict == "fail" for name in names)

    def not_run(self, names: tuple[str, ...], why: str) -> None:
        for name in names:
            self.step(name, "pass", f"not tried: {why}")
        self.notes[f"{' and '.join(names)} not run, {why}"] = []

    def convention(self, step: str, i: int, note: str) -> None:
        self.notes.setdefault(f"{self.problem.paths[i]} is {note}", []).append(step)

    def leaf(
        self, step: str, i: int, judged: Judged, claimed: Any, truth: Any, leaves: tuple, seeds: list, category: str = ""
    ) -> None:
        """Keep the worst finding of leaf i; explain a failure."""
        if judged.scale:
            self.finest[i] = min(self.finest.get(i, np.inf), judged.tolerance / judged.scale)
        if category and judged.verdict != "fail":
            return  # derived inputs speak only where something is wrong
        made = self._leaf_report(i, judged, claimed.results[i], truth.results[i])
        if judged.verdict == "fail":
            hints = self._explain(i, claimed.results, truth.results, leaves, seeds, judged, truth.outs)
            if category:
                describe = f"{step}: {hints[0].text}" if hints else step
                lead = (
                    "right at the given input, wrong at a derived one"
                    if category == "input"
                    else "the derivative of the rule is wrong"
                )
                if not self.failed("cotangent", "tangent") or category == "second-order":
                    hints = (Hint(category, f"{lead} ({describe})"), *hints)
            made = self._replace_hints(made, hints)
            self.step(step, "fail", f"{made.path}: off by {made.error:.3g} of the leaf's scale; {judged.note}".strip("; "))
            self.hints += hints[:1] if category else hints
        elif judged.verdict == "inconclusive":
            self.step(step, "inconclusive", f"{made.path}: {judged.note}")
        old = self.leaves.get(i)
        if (
            old is None
            or RANK[made.verdict] > RANK[old.verdict]
            or (made.verdict == old.verdict == "pass" and made.error > old.error)
        ):
            self.leaves[i] = made

    def numeric(self, i: int, measured: Any, claimed: np.ndarray, leaves: tuple, seeds: list) -> None:
        """A leaf judged by central differences alone."""
        true = np.where(np.isnan(measured.true), claimed, measured.true)
        scale = float(np.max(np.abs(true), initial=0.0))
        blind = not measured.tolerance <= BLIND * scale and bool(np.any(claimed))
        verdict = "fail" if measured.wrong else "inconclusive" if blind else "pass"
        gap = np.abs(true - claimed)
        index = tuple(int(k) for k in np.unravel_index(int(np.argmax(gap)), gap.shape)) if gap.size else None
        judged = Judged(verdict, measured.error, measured.tolerance, scale, index, "")
        made = self._leaf_report(i, judged, claimed, true)
        if verdict == "fail":
            hints = self._explain(i, {i: claimed}, {i: true}, leaves, seeds, judged)
            made = self._replace_hints(made, hints)
            self.hints += hints
            self.step("ladder", "fail", f"{made.path}: off by {made.error:.3g} of the leaf's scale")
        else:
            self.step("ladder", verdict, f"{made.path}: central differences are too noisy to tell" if blind else "")
        self.leaves[i] = made

    def _leaf_report(self, i: int, judged: Judged, claimed: np.ndarray, true: np.ndarray) -> LeafReport:
        dtype = self.problem.result_dtype(i)
        at = judged.place if judged.place is not None else ()
        there = judged.place is not None
        return LeafReport(
            path=self.problem.paths[i], shape=claimed.shape, dtype=str(dtype), verdict=judged.verdict, error=judged.relative,
            ulp=judged.relative / float(jnp.finfo(dtype).eps), scale=judged.scale, index=judged.place,
            claimed=float(claimed[at]) if there else None, true=float(true[at]) if there else None,
            resolution=judged.tolerance / judged.scale if judged.scale else judged.tolerance,
            claimed_array=claimed, true_array=true,
        )  # fmt: skip

    def _replace_hints(self, made: LeafReport, hints: tuple[Hint, ...]) -> LeafReport:
        return dataclasses.replace(made, hints=tuple(hints))

    def _explain(
        self, i: int, claimed: Any, true: Any, leaves: tuple, seeds: list, judged: Judged, outputs: Any = ()
    ) -> tuple[Hint, ...]:
        from jaxbp.check import hints

        problem = self.problem
        names = dict(enumerate(problem.paths))
        pick = lambda results: {names[k]: results[k] for k in (results if isinstance(results, dict) else range(len(results)))}
        values = {
            p: np.asarray(leaves[k]) for p, k in zip(problem.arg_paths, range(len(leaves)), strict=True) if _numeric(leaves[k])
        }
        context = hints.Context(
            values=values, claimed=pick(claimed), true=pick(true), out_bar=[np.asarray(s) for s in seeds],
            tolerance=max(1e-9, 3 * judged.tolerance / judged.scale if judged.scale else 0.0),
            batch=self._batch(leaves), outputs=outputs,
        )  # fmt: skip
        told = tuple(hints.explain(problem.paths[i], claimed[i], true[i], context))
        return tuple(h for h in told if h.category != "localised") or told  # where it is says nothing that a cause does not

    def _batch(self, leaves: tuple) -> int | None:
        """The batch size, where the caller named the axis."""
        axes = self.problem.axes or ()
        return next((np.shape(leaf)[axis] for leaf, axis in zip(leaves, axes, strict=False) if axis is not None), None)

    def report(self) -> Report:
        for i, leaf in self.leaves.items():
            if leaf.verdict == "pass" and self.finest.get(i, 0.0) > BLIND:
                self.step(
                    "resolution", "inconclusive", f"{leaf.path}: rounding alone moves it by {leaf.resolution:.1e} of its scale"
                )
        steps = tuple(self.steps.values())
        verdict = max((s.verdict for s in steps), key=RANK.__getitem__, default="inconclusive")
        told = sorted(dict.fromkeys(self.hints), key=lambda h: ORDER.index(h.category) if h.category in ORDER else len(ORDER))
        told = [h for h in told if h.category != "localised"] + [h for h in told if h.category == "localised"]
        return Report(
            subject=self.problem.subject, claim=self.problem.says, reference=self._reference(), verdict=verdict,
            reason=self._reason(verdict, steps), leaves=tuple(self.leaves[i] for i in sorted(self.leaves)), steps=steps,
            hints=tuple(told), reproduction=reproduction(self.problem, self.seed), ladder=self.ladder or None,
        )  # fmt: skip

    def _reference(self) -> str:
        if self.opaque:
            return f"central differences in float64 alone: the primal has no autodiff ({self.opaque})"
        autodiff = "autodiff of the opened primal in float64, and central differences"
        return f"{autodiff}; {self.narrowed}, so it is judged in its own dtype" if self.narrowed else autodiff

    def _reason(self, verdict: str, steps: tuple[Step, ...]) -> str:
        first = next((s for s in steps if s.verdict == verdict), None)
        if verdict == "pass":
            return "; ".join(["every step agrees", *(_noted(note, steps) for note, steps in self.notes.items())])
        return f"{first.name}: {first.detail}" if first else "nothing was checked"


def _noted(note: str, steps: list[str]) -> str:
    """A note with the steps that it is of; derived inputs are only counted."""
    named = [s for s in dict.fromkeys(steps) if not s.startswith("battery: ")]
    more = len(dict.fromkeys(steps)) - len(named)
    told = ", ".join([*named, *([f"{more} derived input{'s' if more > 1 else ''}"] if more else [])])
    return f"{note} ({told})" if told else note


def _numeric(leaf: Any) -> bool:
    return any(jnp.issubdtype(jnp.result_type(leaf), kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))
