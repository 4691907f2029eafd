"""The assertions: they raise with the table, return the report, say what inconclusive means, and tell the listeners."""

import sys
import types

import jax
import jax.numpy as jnp
import pytest

from jaxbp.check import report as reports
from jaxbp.check.report import AuditReport, RuleReport, WrongGradientError
from jaxbp.check.testing import assert_gradient, assert_no_wrong_rules, assert_vjp


@jax.custom_vjp
def wrong_square(x):
    return x * x


wrong_square.defvjp(lambda x: (x * x, x), lambda x, y_bar: (-2 * x * y_bar,))
X = jnp.array([0.5, -2.0, 3.0], jnp.float32)


@pytest.fixture
def heard():
    made = []
    reports.listeners.append(made.append)
    yield made
    reports.listeners.remove(made.append)


def test_a_wrong_rule_raises_with_its_table(heard):
    with pytest.raises(WrongGradientError) as caught:
        assert_vjp(wrong_square, X, battery=False)
    assert str(caught.value).startswith("FAIL  wrong_square: ")
    assert "args[0]" in str(caught.value)
    assert "claimed (yours):" in str(caught.value)
    assert caught.value.report.hints[0].category == "sign"
    assert any(made is caught.value.report for made in heard)


def test_a_right_function_returns_its_report(heard):
    found = assert_vjp(jnp.sin, X, battery=False, key=3)
    assert found.ok
    assert any(made is found for made in heard)


def test_a_gradient_function_is_judged():
    loss = lambda x: jnp.sum(x**3)
    assert assert_gradient(loss, lambda x: 3 * x**2, X, battery=False).ok
    with pytest.raises(WrongGradientError, match="FAIL"):
        assert_gradient(loss, lambda x: 2 * x**2, X, battery=False)


def test_inconclusive_is_not_right_unless_told_so():
    unknown = X.at[1].set(jnp.nan)
    with pytest.raises(WrongGradientError, match="INCONCLUSIVE"):
        assert_vjp(jnp.sin, unknown)
    assert assert_vjp(jnp.sin, unknown, strict=False).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("verdicts", "strict", "raises"),
    [
        (["pass", "pass"], True, False),
        (["pass", "fail"], False, True),
        (["pass", "inconclusive"], False, False),
        (["pass", "inconclusive"], True, True),
        ([], False, True),  # no rule: nothing was looked at
    ],
)
def test_of_the_rules_only_wrong_ones_raise(monkeypatch, heard, verdicts, strict, raises):
    """The audit itself has tests of its own; here it is one that finds rules with these verdicts."""
    rules = tuple(RuleReport(f"r{i}", "custom_vjp", v, "", "", (), None) for i, v in enumerate(verdicts))
    verdict = next((v for v in ("fail", "inconclusive") if v in verdicts or not verdicts), "pass")
    found = AuditReport("loss", verdict if verdicts else "inconclusive", "made up", rules)
    monkeypatch.setitem(sys.modules, "jaxbp.check.audit", types.SimpleNamespace(audit=lambda *args: found))
    if raises:
        with pytest.raises(WrongGradientError, match="loss: made up"):
            assert_no_wrong_rules(len, X, strict=strict)
    else:
        assert assert_no_wrong_rules(len, X, strict=strict) is found
    assert heard == [found]


def test_a_listener_may_leave_while_it_is_told(heard):
    once = []

    def listener(made):
        once.append(made)
        reports.listeners.remove(listener)

    reports.listeners.insert(0, listener)
    assert reports.announce("a") == "a"
    reports.announce("b")
    assert (once, heard) == (["a"], ["a", "b"])
