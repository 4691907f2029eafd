"""Every custom rule inside a function, each checked apart at the values that really reach it.

    audit(fun, *args)   a loss, or any function; finds the rules, names the wrong one

A rule is run as a function of its own operands, against its primal with all rules inside opened, so that a wrong rule
shows at its own place and nowhere else. Rules that are equal in all that matters (the same traced derivative with the
same constants and shapes) are one rule called at several places; it is checked at its first and its last call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence, Set
from typing import Any

import numpy as np

from jaxbp.check import asked
from jaxbp.check.checks import check_jvp, check_vjp
from jaxbp.check.identity import fingerprint, transposes
from jaxbp.check.problem import is_float, is_key, name_of
from jaxbp.check.report import AuditReport, Report, RuleReport
from jaxbp.check.reproduce import imported, snippet
from jaxbp.check.rules import UNKNOWN, Rule, active_operands, find_rules, hidden_rules, wide_operands


NONE_FOUND = "no custom rule here; pass the loss, not its gradient or a training step"
NOT_REACHED = "not reached: the branch or loop that holds it does not run at these arguments"
NO_FLOATS = "none of its operands is real and floating, so there is nothing to differentiate"
TIED = "cannot run apart (it closes over traced values or a mesh axis), so the whole function was compared with and without rules"
CLOSED = "it closes over a value that depends on the arguments, and JAX differentiates no rule in such a value"
CLOSED_ERRORS = (
    "raises CustomVJPException: Detected differentiation of a custom_vjp function with respect to a closed-over value",
    "raises UnexpectedTracerError",
)
CONSTANTS = 1e-5  # an error below may come from constants that were rounded to float32
BY_DIFFERENCES = {"ladder", "linearity"}  # steps that need float64 where the primal has no autodiff
RANK = {"pass": 0, "inconclusive": 1, "fail": 2}


@dataclasses.dataclass(frozen=True)
class _Finding:
    verdict: str
    reason: str
    report: Report | None = None


def audit(fun: Callable, *args: Any, key: Any = None, argnums: int | Sequence[int] | None = None) -> AuditReport:
    """Is every custom_vjp and custom_jvp rule inside `fun` the derivative of what it replaces?

    `fun` is traced at `args` and run once, so that each rule is checked at the values that really reach it: in loops at the
    first and the last pass. Leaves of `args` that are no arrays or floats (modules, strings, functions) are held static.

    Arguments:
      key: a PRNG key or number that seeds the random cotangents.
      argnums: the arguments that are ever differentiated, by default all. A rule may give a zero cotangent to an operand that
        does not depend on them (targets, a mask).

    Rules in branches that are not taken, and rules that cannot run apart, say so. Rules inside gradients that `fun` takes
    itself are gone by then: pass the loss, not its gradient. `lax.custom_root` and `custom_linear_solve` are no custom rules.

    Raises: ValueError where `fun` itself raises.
    """
    asked.call("audit", (fun,), fun=fun)
    argnums = argnums if argnums is None else asked.numbers("audit", argnums, len(args))
    number, subject = asked.seed(key), name_of(fun)
    try:
        rules = find_rules(fun, *args)
    except asked.UNTRACED as error:
        raise ValueError(f"audit: {subject} cannot be traced by JAX: {'; '.join(asked.untraced(error))}") from error
    except Exception as error:
        raise ValueError(f"audit: {subject} itself raises {type(error).__name__}: {asked.first_line(error)}") from error
    context = _Context(fun, args, rules, number, argnums)
    findings = [_finding(rule, context) for rule in rules]
    findings = _settle(findings, context)
    reports = [_report(rule, found) for rule, found in zip(rules, findings, strict=True)]
    reports += [RuleReport(**fields, verdict="inconclusive", report=None) for fields in hidden_rules(fun, *args)]
    return AuditReport(subject, *_verdict(reports, context), tuple(reports))


class _Context:
    """What the checks of one audit share; every rule that is equal to another is checked once."""

    def __init__(self, fun: Callable, args: tuple, rules: list[Rule], number: int, argnums: Any):
        self.fun, self.args, self.rules, self.seed, self.argnums = fun, args, rules, number, argnums
        self.groups: dict[Any, list[Rule]] = {}
        self.checked: dict[Any, _Finding] = {}
        self.identities = {id(rule): self._identity(rule) for rule in rules}
        for rule in rules:
            self.groups.setdefault(self.identities[id(rule)], []).append(rule)
        self._active: list | None = None
        self._wide: dict | None = None

    def _identity(self, rule: Rule) -> Any:
        if not rule.calls or not any(is_float(a) for a in rule.arguments()):
            return id(rule)
        return fingerprint(rule)

    def number(self, rule: Rule) -> int:
        return next(i for i, other in enumerate(self.rules) if other.eqn is rule.eqn and other.path == rule.path)

    def held(self, rule: Rule, idle: Set[int]) -> Rule:
        """`rule` with operands held, in float64 as the float64 program has them."""
        if self._wide is None:
            self._wide = wide_operands(self.fun, *self.args)
        return dataclasses.replace(rule, idle=frozenset(idle), wide_calls=self._wide[self.number(rule)])

    def active(self, rule: Rule) -> frozenset[int]:
        """Operands through which something differentiable flows (found only when a verdict hangs on it)."""
        if self._active is None:
            self._active = active_operands(self.fun, self.args, self.argnums)
        return self._active[self.number(rule)]

    def whole(self) -> Report:
        """The whole function with and without rules, in the arguments that are differentiated."""
        name = name_of(self.fun)
        if self.argnums is None:
            return check_vjp(self.fun, *self.args, key=self.seed, battery=False)

        def fun(*some: Any) -> Any:
            args = list(self.args)
            for n, arg in zip(self.argnums, some, strict=True):
                args[n] = arg
            return self.fun(*args)

        return check_vjp(fun, *(self.args[n] for n in self.argnums), key=self.seed, battery=False, name=name)


def _finding(rule: Rule, context: _Context) -> _Finding:
    """The verdict on a rule, from the check of all rules that are equal to it."""
    if not rule.calls:
        return _Finding("inconclusive", NOT_REACHED)
    if not any(is_float(a) for a in rule.arguments()):
        return _Finding("inconclusive", NO_FLOATS)
    identity = context.identities[id(rule)]
    if isinstance(identity, tuple) and identity[0] == "tied":
        return _Finding("tied", TIED)
    if identity not in context.checked:
        context.checked[identity] = _check_group(context.groups[identity], context)
    found = context.checked[identity]
    first = context.groups[identity][0]
    if rule is not first:
        return dataclasses.replace(found, reason=f"the same rule at the same shapes as at {first.called_at}; {found.reason}")
    return found


def _check_group(group: list[Rule], context: _Context) -> _Finding:
    """The first call of the first of equal rules and the last call of the last; the worse of the two."""
    first, last = group[0], group[-1]
    found = _check(first, 0, context)
    other = len(last.calls) - 1
    if found.verdict != "fail" and not _same(first.arguments(), last.arguments(other)):
        found = max(found, _check(last, other, context), key=lambda f: RANK[f.verdict])
    return found


def _same(a: tuple, b: tuple) -> bool:
    if any(is_key(x) for x in (*a, *b)):
        return False
    return len(a) == len(b) and all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in zip(a, b, strict=True))


def _check(rule: Rule, call: int, context: _Context) -> _Finding:
    """One rule at one recorded call. A zero cotangent of an operand that nothing differentiates is no mistake."""
    found = _judge(rule, call, context)
    if found.verdict != "fail" or found.report is None:
        return found
    diff = [i for i, argument in zip(rule.free, rule.arguments(call), strict=True) if is_float(argument)]
    if len(diff) != len(found.report.leaves):  # complex operands, two leaves each
        return found
    idle = {i for i, leaf in zip(diff, found.report.leaves, strict=True) if _is_zero(leaf)}
    idle = idle - context.active(rule) if idle else idle
    if not idle or len(idle) == len(diff):
        return found
    again = _judge(context.held(rule, idle), call, context)
    if again.verdict == "fail":
        return found
    names = ", ".join(f"operand {i}" for i in sorted(idle))
    text = f"the cotangent of {names} is zero, and nothing here differentiates it: held as a constant"
    return dataclasses.replace(again, reason=f"{again.reason}; {text}")


def _judge(rule: Rule, call: int, context: _Context) -> _Finding:
    """In float64; what is wrong there by less than float32 tells, beside constants, must be wrong in the given dtype too.

    JAX gives a NumPy constant one dtype for as long as any program that holds it lives, so that after use in float32 it may
    have only those digits in a float64 program, on one side of the comparison or on both.
    """
    found = _run(rule, call, context)
    if found.verdict != "fail" or found.report is None or rule.wide is None or rule.wide is rule.eqn or not rule.constants:
        return found
    if any(leaf.verdict == "fail" and not leaf.error < CONSTANTS for leaf in found.report.leaves):
        return found
    note = "checked in the given dtype, since JAX may hold constants of the rule with the digits of float32"
    return _run(dataclasses.replace(rule, wide=None, note=note), call, context)


def _is_zero(leaf: Any) -> bool:
    return leaf.claimed_array is not None and not np.any(leaf.claimed_array)


def _run(rule: Rule, call: int, context: _Context) -> _Finding:
    fun, primal, arguments = rule.as_function(call), rule.primal(call), rule.arguments(call)
    forward = rule.kind == "custom_jvp" and not transposes(rule)
    try:
        if forward:
            report = check_jvp(fun, arguments, key=context.seed, battery=False, primal=primal, name=rule.name)
        else:
            report = check_vjp(fun, *arguments, key=context.seed, battery=False, primal=primal, name=rule.name)
    except Exception as error:  # the core raises where there is nothing to check, or where the rule has a dtype of its own
        return _Finding("inconclusive", f"{type(error).__name__}: {asked.first_line(error)}")
    report = dataclasses.replace(report, reproduction=_reproduction(rule, context))
    where = "" if len(rule.calls) < 2 else f"at call {1 if call == 0 else rule.count} of {rule.count}: "
    verdict, reason = report.verdict, report.reason
    if (
        verdict == "fail"
        and rule.wide is None
        and {step.name for step in report.steps if step.verdict == "fail"} <= BY_DIFFERENCES
    ):
        verdict, reason = "inconclusive", f"central differences in the given dtype cannot tell ({reason})"
        report = dataclasses.replace(report, verdict=verdict, reason=reason)
    return _Finding(verdict, f"{where}{reason}{'; ' + rule.note if rule.note else ''}", report)


def _settle(findings: list[_Finding], context: _Context) -> list[_Finding]:
    """Rules that cannot run apart are judged by the whole function: all right, or one of them wrong."""
    tied = [i for i, found in enumerate(findings) if found.verdict == "tied"]
    if not tied:
        return findings
    try:
        report = context.whole()
        verdict, reason = report.verdict, f"{TIED}: {report.reason}"
    except Exception as error:
        report, verdict = None, "inconclusive"
        reason = f"{TIED}: {type(error).__name__}: {asked.first_line(error)}"
    if report is not None and any(words in step.detail for step in report.steps for words in CLOSED_ERRORS):
        report, verdict, reason = None, "inconclusive", f"{CLOSED}: name the arguments that are differentiated by argnums"
    elif verdict == "fail" and any(found.verdict == "fail" for found in findings):
        verdict, reason = "inconclusive", f"{TIED}, and other rules are wrong; put those right first"
    elif verdict == "fail" and len({context.rules[i].defined_at for i in tied}) > 1:
        verdict, reason = "suspect", f"one of {len(tied)} rules that cannot run apart is wrong: {report.reason if report else ''}"
    settled = list(findings)
    for i in tied:
        settled[i] = _Finding(verdict, reason, report)
    return settled


def _report(rule: Rule, found: _Finding) -> RuleReport:
    written = f"; its derivative is {rule.written_at}" if rule.written_at != UNKNOWN and found.verdict == "fail" else ""
    return RuleReport(
        name=rule.name,
        kind=rule.kind,
        verdict="inconclusive" if found.verdict == "suspect" else found.verdict,
        defined_at=rule.defined_at,
        called_at=rule.called_at,
        path=rule.path,
        report=found.report,
        reason=f"{found.reason}{written}",
    )


def _verdict(reports: list[RuleReport], context: _Context) -> tuple[str, str]:
    if not reports:
        return "inconclusive", NONE_FOUND
    total = f"{len(reports)} rule{'s' if len(reports) > 1 else ''}"
    different = f" ({len(context.groups)} different)" if 1 < len(context.groups) < len(reports) else ""
    wrong = [rule for rule in reports if rule.verdict == "fail"]
    if wrong:
        names = dict.fromkeys(f"{rule.name} ({rule.defined_at})" for rule in wrong)
        return "fail", f"{len(wrong)} of {total}{different} {'is' if len(wrong) == 1 else 'are'} wrong: {', '.join(names)}"
    if any("is wrong:" in rule.reason for rule in reports):
        return "fail", next(rule.reason for rule in reports if "is wrong:" in rule.reason)
    unknown = [rule for rule in reports if rule.verdict != "pass"]
    if unknown:
        return "inconclusive", f"{len(unknown)} of {total}{different} could not be judged: {unknown[0].name}: {unknown[0].reason}"
    return "pass", f"{total}{different}, each right at the values that reach it"


def _reproduction(rule: Rule, context: _Context) -> str:
    """The audit again, and the report of this rule."""
    line, name = imported(context.fun)
    argnums = "" if context.argnums is None else f", argnums={context.argnums!r}"
    calls = [
        f"for rule in audit({name}, *args, key={context.seed}{argnums}).rules:",
        f"    if rule.called_at == {rule.called_at!r} and rule.name == {rule.name!r}:",
        "        print(rule.report)",
    ]
    return snippet("audit", [line], context.args, calls)
