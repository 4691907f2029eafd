"""Reports of the checker, made by hand: one that passes, a wrong one, an audit."""

import dataclasses

import numpy as np

from jaxbp.check.report import AuditReport, Hint, LeafReport, Report, RuleReport, Step


SIGN = Hint("sign", "the claimed cotangent is -1 times the true one")
TRUE = np.array([[0.5, -1.0, 0.25], [2.0, 0.0, -0.125]])


def leaf(path="w", verdict="pass", **changes):
    made = LeafReport(path, (2, 3), "float32", verdict, 1.1e-16, 9.3e-10, 2.0, (0, 1), -1.0, -1.0, 1.2e-14)
    return dataclasses.replace(made, **changes)


def report(**changes):
    made = Report(
        subject="my_rule",
        claim="cotangents by the custom rule of my_rule",
        reference="autodiff of the bare primal in float64, and central differences",
        verdict="pass",
        reason="all leaves agree at the given input and at 9 derived ones",
        leaves=(leaf("w"), leaf("b", resolution=3e-4)),
        steps=(Step("structure", "pass"), Step("primal", "pass"), Step("ladder", "pass", "estimate 1e-12")),
        hints=(),
        reproduction="import jax\nprint(my_rule)",
    )
    return dataclasses.replace(made, **changes)


def wrong():
    bad = leaf(
        verdict="fail",
        error=2.0,
        ulp=16777216.0,
        index=(1, 0),
        claimed=-2.0,
        true=2.0,
        hints=(SIGN,),
        claimed_array=-TRUE,
        true_array=TRUE,
    )
    steps = np.array([0.25 / 4**k for k in range(15)])
    ladder = {"w": {"step": steps, "value": 1 + steps**2 + 1e-16 / steps, "claimed": -1.0}}
    steps = (Step("structure", "pass"), Step("cotangent", "fail", "w differs by 2 of its scale"), Step("jit", "pass"))
    why = "the cotangent of w is wrong; two references agree against it"
    return report(verdict="fail", reason=why, leaves=(bad, leaf("b")), steps=steps, hints=(SIGN,), ladder=ladder)


def audited():
    rules = (
        RuleReport("fine", "custom_jvp", "pass", "a.py:3", "b.py:7", (), report()),
        RuleReport("bad", "custom_vjp", "fail", "a.py:9", "b.py:8", ("jit train", "scan, last step"), wrong(), "w is wrong"),
        RuleReport("far", "custom_vjp", "inconclusive", "a.py:20", "", (), None, "not reached"),
    )
    return AuditReport("loss", "fail", "1 of 3 rules is wrong: bad", rules)
