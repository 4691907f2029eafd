"""Assertions for tests: a wrong gradient raises `WrongGradientError` whose message is the report's table.

`strict` says what "inconclusive" means to a test. A gradient that could not be judged has not been shown to be right, so
`assert_vjp` and `assert_gradient` raise for it unless `strict=False`. `assert_no_wrong_rules` speaks of wrong rules only and
lets an inconclusive rule pass unless `strict=True`; but it raises where it found no rule at all, since then it looked at nothing.
"""

from __future__ import annotations

from typing import Any

from jaxbp.check.report import AuditReport, Report, announce


def assert_vjp(*args: Any, strict: bool = True, **options: Any) -> Report:
    """`check_vjp(*args, **options)`, raising for a wrong gradient; returns the report.

    Raises: WrongGradientError where the verdict is "fail", with `strict` (the default) also where it is "inconclusive".
    """
    __tracebackhide__ = True
    from jaxbp.check.checks import check_vjp

    report = announce(check_vjp(*args, **options))
    report.raise_if_wrong(strict=strict)
    return report


def assert_gradient(*args: Any, strict: bool = True, **options: Any) -> Report:
    """`check_gradient(*args, **options)`, raising for a wrong gradient; returns the report. Raises as `assert_vjp`."""
    __tracebackhide__ = True
    from jaxbp.check.checks import check_gradient

    report = announce(check_gradient(*args, **options))
    report.raise_if_wrong(strict=strict)
    return report


def assert_no_wrong_rules(*args: Any, strict: bool = False, **options: Any) -> AuditReport:
    """`audit(*args, **options)`, raising for a wrong rule or where there is none; returns the report.

    Raises: WrongGradientError where a rule is wrong, where no rule was found, and with `strict` where one is inconclusive.
    """
    __tracebackhide__ = True
    from jaxbp.check.audit import audit

    report = announce(audit(*args, **options))
    report.raise_if_wrong(strict=strict or not report.rules)
    return report
