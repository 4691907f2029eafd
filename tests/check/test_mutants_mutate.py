"""Mutations of a user's rules: what each changes, where it does not apply, and the verdicts of child runs."""

import json
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp.check.mutants import mutate
from jaxbp.check.mutants.__main__ import main
from jaxbp.check.mutants.mutate import Run, head, matrix, row, verdict
from jaxbp.check.mutants.plugin import jaxbp_mutation
from jaxbp.check.mutants.plugin.jaxbp_mutation import MUTATIONS, OF_BARS


SQUARE, LINE = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([1.0, -8.0, 2.0], np.float32)
Y_BAR = np.ones((4, 2), np.float32)


@pytest.mark.parametrize(
    ("mutation", "square", "line"),
    [
        ("sign", -SQUARE, -LINE),
        ("x 2", 2 * SQUARE, 2 * LINE),
        ("leaf zeroed", SQUARE, 0 * LINE),
        ("entry x 1.001", SQUARE * np.array([[1, 1], [1, 1.001]]), LINE),
        ("transposed", SQUARE.T, LINE),
        ("batch mean", SQUARE / 4, LINE / 4),
    ],
)
def test_mutations(mutation, square, line):
    changed = OF_BARS[mutation]((jnp.asarray(SQUARE), jnp.asarray(LINE), None), Y_BAR)
    np.testing.assert_allclose(changed[0], square, rtol=1e-6)
    np.testing.assert_allclose(changed[1], line, rtol=1e-6)
    assert changed[2] is None


def test_bfloat16():
    assert OF_BARS["bf16 output"]((jnp.asarray(LINE),), Y_BAR)[0].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("mutation", "bars"),
    [
        ("transposed", (jnp.ones((2, 3)), jnp.ones((1, 1)), jnp.ones(4))),
        ("batch mean", (jnp.ones((4, 3)),)),
        ("bf16 output", (jnp.ones(2, jnp.bfloat16),)),
        ("leaf zeroed", (None, np.zeros(2, jax.dtypes.float0))),
    ],
)
def test_mutations_that_do_not_apply(mutation, bars):
    assert OF_BARS[mutation](bars, Y_BAR) is None


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """`installed(rule, mutation)` wraps the rules made from now on; it returns what was noted."""
    monkeypatch.setattr(jax.custom_vjp, "defvjp", jax.custom_vjp.defvjp)
    monkeypatch.setattr(jax.custom_jvp, "defjvp", jax.custom_jvp.defjvp)

    def install(rule, mutation):
        jaxbp_mutation.install({"rule": rule, "mutation": mutation, "folder": str(tmp_path)})
        return lambda: json.loads(next(tmp_path.glob("*.json")).read_text(encoding="utf-8"))

    return install


def name_of(fun):
    return jaxbp_mutation.name_of(fun, fun)


def product(x, y):
    return x * y


def with_rule():
    rule = jax.custom_vjp(product)
    rule.defvjp(lambda x, y: (x * y, (x, y)), lambda residuals, bar: (bar * residuals[1], bar * residuals[0]))
    return rule


def test_a_rule_is_mutated_where_it_is_made(installed):
    noted = installed(name_of(product), "sign")
    rule = with_rule()
    assert noted() == {"rules": {name_of(product): False}, "applied": False}
    assert jax.grad(rule)(2.0, 3.0) == -3.0
    assert noted() == {"rules": {name_of(product): True}, "applied": True}


def test_other_rules_are_watched_alone(installed):
    noted = installed("elsewhere.py:1 other", "sign")
    assert jax.grad(with_rule())(2.0, 3.0) == 3.0
    assert noted() == {"rules": {name_of(product): True}, "applied": False}


def test_a_mutation_that_does_not_apply_leaves_the_rule(installed):
    noted = installed(name_of(product), "transposed")
    assert jax.grad(with_rule())(2.0, 3.0) == 3.0
    assert noted() == {"rules": {name_of(product): True}, "applied": False}


def test_the_cotangent_is_ignored(installed):
    installed(name_of(product), "cotangent ignored")
    rule = with_rule()
    assert jax.grad(lambda x: 5 * rule(x, 3.0))(2.0) == 3.0


def test_forward_rules(installed):
    installed(name_of(product), "x 2")
    rule = jax.custom_jvp(product)
    rule.defjvps(lambda x_dot, out, x, y: x_dot * y, lambda y_dot, out, x, y: x * y_dot)
    assert jax.grad(rule)(2.0, 3.0) == 6.0


def test_symbolic_zeros(installed):
    noted = installed(name_of(product), "cotangent ignored")
    rule = jax.custom_jvp(product)

    def tangents(primals, dots):
        (x, y), (x_dot, y_dot) = primals, dots
        assert isinstance(y_dot, jax.custom_derivatives.SymbolicZero)
        return x * y, x_dot * y

    rule.defjvp(tangents, symbolic_zeros=True)
    assert jax.jvp(lambda x: rule(x, 3.0), (2.0,), (7.0,))[1] == 3.0
    assert noted()["applied"]


@pytest.mark.parametrize(
    ("status", "applied", "word"),
    [
        (0, True, "survived"),
        (1, True, "killed"),
        (2, True, "killed"),
        (3, True, "pytest 3"),
        (0, False, "not applicable"),
        (1, False, "unstable"),
        (None, True, "timed out"),
    ],
)
def test_verdicts(status, applied, word):
    assert verdict(Run(status, {}, applied, "")) == word


def test_table_fits():
    cells = dict.fromkeys(MUTATIONS, "survived")
    printed = [head(), row("t.py:1 f", cells), row("a_long_file.py:100 a_long_name", cells)]
    assert max(len(line) for text in printed for line in text.splitlines()) <= 100
    assert "n/a" in row("t.py:1 f", {**cells, "transposed": "not applicable"})
    assert "not reached" in row("t.py:1 f", dict.fromkeys(MUTATIONS, "not reached"))


# --- child runs

USER = """
    import time

    import jax
    import jax.numpy as jnp
    import numpy as np

    @jax.custom_vjp
    def dense(w, x):
        return x @ w

    def dense_backward(residuals, y_bar):
        w, x = residuals
        return x.T @ y_bar, y_bar @ w.T

    dense.defvjp(lambda w, x: (x @ w, (w, x)), dense_backward)

    @jax.custom_jvp
    def never(x):
        return x

    @never.defjvp
    def never_jvp(primals, tangents):
        return primals[0], tangents[0]

    def test_sum_of_the_gradient():
        w, x = jnp.arange(4.0).reshape(2, 2), jnp.arange(6.0).reshape(3, 2)
        total = jax.grad(lambda w: dense(w, x).sum())(w).sum()
        if total > 50:
            time.sleep(3600)
        np.testing.assert_allclose(total, 30, rtol=1e-2)
"""


@pytest.fixture
def user_tests(tmp_path, monkeypatch):
    path = tmp_path / "test_user.py"
    path.write_text(textwrap.dedent(USER), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.slow  # five children that import JAX
def test_mutations_of_user_tests(user_tests):
    found = dict(matrix("test_user.py", 60.0, ("sign", "transposed", "cotangent ignored", "batch mean")))
    dense, never = found
    assert dense == "test_user.py:8 dense"
    assert list(found[dense].values()) == ["killed", "survived", "survived", "killed"]
    assert set(found[never].values()) == {"not reached"}


@pytest.mark.slow
def test_time_limit(user_tests):
    run = mutate.child("test_user.py", "test_user.py:8 dense", "x 2", 15.0)
    assert verdict(run) == "timed out"
    assert run.applied


@pytest.mark.slow
def test_failing_tests_are_no_ground_for_mutations(user_tests, capsys):
    user_tests.write_text("def test_wrong():\n    assert False\n", encoding="utf-8")
    assert main(["--tests", str(user_tests)]) == 3
    assert "without any mutation" in capsys.readouterr().err
