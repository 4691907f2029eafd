"""The gradient checker, for anyone's JAX function.

    check_vjp(fun, *args)                      what jax.vjp gives for a function, its custom rules included
    check_gradient(fun, gradient_fun, *args)   a hand-derived gradient
    check_jvp(fun, primals, tangents)          a forward rule
    check_pair(forward, backward, *args)       a forward and its hand-written backward
    audit(fun, *args)                          every custom rule inside a function, each at the values that reach it
    assert_vjp, assert_gradient, assert_no_wrong_rules   the same in a test

It knows no layer of this library. The truth is never the rule itself: it is the autodiff, in float64, of the program with
every rule opened to its primal, and central differences, which know nothing of autodiff.
"""

from jaxbp.check.audit import audit
from jaxbp.check.checks import check_gradient, check_jvp, check_pair, check_vjp
from jaxbp.check.report import AuditReport, Hint, LeafReport, Report, RuleReport, Step, WrongGradientError
from jaxbp.check.testing import assert_gradient, assert_no_wrong_rules, assert_vjp


__all__ = [
    "AuditReport",
    "Hint",
    "LeafReport",
    "Report",
    "RuleReport",
    "Step",
    "WrongGradientError",
    "assert_gradient",
    "assert_no_wrong_rules",
    "assert_vjp",
    "audit",
    "check_gradient",
    "check_jvp",
    "check_pair",
    "check_vjp",
]
