"""The benchmark of wrong rules: counts, right forwards, really wrong backwards, the command, mutations of a user's tests."""

import collections
import json
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp.check.mutants import (
    CAUSES,
    CORRECT,
    HINTS,
    MUTANTS,
    contracts,
    embedding,
    functions,
    losses,
    numerics,
    penalties,
    recurrent,
    scans,
    structure,
    tools,
)
from jaxbp.check.mutants.__main__ import main
from jaxbp.check.mutants.mutate import matrix


AREAS = embedding, recurrent, losses, penalties, scans, structure, contracts, numerics, functions
MINE = [m for area in AREAS for m in area.MUTANTS]
UNSEEN = {"jit", "vmap", "primal"}  # the cotangents of one eager call may be right
by_name = lambda entry: entry.name


def test_counts():
    causes = collections.Counter(m.cause for m in MUTANTS)
    assert len(MUTANTS) >= 100
    assert len(causes) >= 45
    assert {cause: n for cause, n in causes.items() if n > 4} == {}
    assert causes.keys() <= CAUSES.keys()
    assert {m.hint for m in MUTANTS} <= set(HINTS)
    assert len(CORRECT) >= 40


def test_names_are_unique():
    names = [entry.name for entry in (*MUTANTS, *CORRECT)]
    assert [name for name, n in collections.Counter(names).items() if n > 1] == []


def pulled(fun, leaves, key):
    """Outputs and cotangents for a dense random seed."""
    out, vjp = jax.vjp(fun, *leaves)
    outs, tree = jax.tree.flatten(out)
    bars = [jax.random.normal(k, o.shape, o.dtype) for k, o in zip(jax.random.split(key, len(outs)), outs, strict=True)]
    return outs, vjp(jax.tree.unflatten(tree, bars))


def bare(check):
    """The primal without its rule."""
    if check.kind == "pair":
        return lambda *args: check.fun(*args)[0]
    return getattr(check.fun, "fun", check.fun)


def true_of(entry, check):
    """The function of the floating leaves without any rule."""
    if entry.name == "sign of a host function's slope":  # which has no autodiff
        return lambda x: jnp.logaddexp(x, -x)
    if check.kind == "gradient":
        tree = jax.tree.structure(check.args[0])
        return lambda *floats: check.fun(jax.tree.unflatten(tree, floats), *check.args[1:])
    return tools.of_floats(check._replace(fun=bare(check), kind="vjp"))[0]


@pytest.mark.slow
@pytest.mark.parametrize("entry", [m for m in MINE if m.hint != "structure"], ids=by_name)
def test_planted_bugs(entry):
    """The forward is the function; the cotangents are wrong by more than rounding, or only where the hint says."""
    check = entry.build(jax.random.key(0), jnp.float64)
    claim, floats = tools.of_floats(check)
    outs, claimed = pulled(claim, floats, jax.random.key(9))
    true_outs, true = pulled(true_of(entry, check), floats, jax.random.key(9))
    forward_right = all(np.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(outs, true_outs, strict=True))
    error = max(relative(a, b) for a, b in zip(claimed, true, strict=True))
    assert forward_right == (entry.hint != "primal")
    if entry.hint in ("input", "second-order"):
        assert error < 1e-12
    elif entry.hint not in UNSEEN:
        assert error > 1e-5


def relative(claimed, true):
    error = np.max(np.abs(np.asarray(claimed, np.float64) - np.asarray(true))) / (np.max(np.abs(true)) + 1e-300)
    return np.inf if np.isnan(error) else error


# Another convention at the kink, no digits left in the reference, no autodiff:
ELSEWHERE = ("rule: relu at zero", "rule: cross-entropy at margin 35", "rule: of a host function")
RULES = [c for c in CORRECT if c.name.startswith("rule") and c.name not in ELSEWHERE]


@pytest.mark.slow
@pytest.mark.parametrize("entry", RULES, ids=by_name)
def test_correct_rules(entry):
    """A correct rule against the autodiff of its primal."""
    check = entry.build(jax.random.key(0), jnp.float64)
    claim, floats = tools.of_floats(check)
    outs, claimed = pulled(claim, floats, jax.random.key(9))
    true_outs, true = pulled(tools.of_floats(check._replace(fun=bare(check)))[0], floats, jax.random.key(9))
    assert all(np.array_equal(a, b) for a, b in zip(outs, true_outs, strict=True))
    rough = 3e-2 if "bfloat16" in entry.name else 1e-12
    assert max(relative(a.astype(float), b.astype(float)) for a, b in zip(claimed, true, strict=True)) < rough


# --- the command


def test_command(capsys, tmp_path):
    options = ["--seeds", "1", "--dtype", "float64", "--only", "running product", "--tools", "check_grads"]
    status = main([*options, "--json", str(tmp_path / "r.json")])
    printed = capsys.readouterr().out
    assert status == 0
    assert "check_grads" in printed
    (record,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert record["entry"] == "running product at a zero"
    assert record["tool"] == "check_grads"
    assert record["seconds"] > 0


def test_command_lists_misses(capsys):
    main(["--seeds", "1", "--dtype", "float64", "--only", "partial block lost", "--tools", "check_grads"])
    assert "missed\n  partial block lost, whole blocks given (1 of 1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "no such entry"], "no entry"),
        (["--dtype", "float16"], "float32 and float64"),
        (["--tools", "nothing"], "not among"),
        (["--seeds", "0"], "at least 1"),
        (["--tests", "no_such_file.py"], "no file"),
    ],
)
def test_unusable_input(options, words, capsys):
    assert main(options) == 3
    assert words in capsys.readouterr().err


# --- mutations of a user's rules


USER = """
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
        grad = jax.grad(lambda w: dense(w, x).sum())(w)
        np.testing.assert_allclose(grad.sum(), 30, rtol=1e-2)
"""


@pytest.fixture
def user_tests(tmp_path, monkeypatch):
    path = tmp_path / "test_user.py"
    path.write_text(textwrap.dedent(USER), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return path


def test_mutations_of_user_tests(user_tests, monkeypatch):
    monkeypatch.setattr("jaxbp.check.mutants.mutate.MUTATIONS", ("sign", "transposed", "cotangent ignored"))
    found = matrix("test_user.py")
    dense, never = found
    assert dense.endswith("dense")
    assert dense.startswith("test_user.py:")
    assert found[dense] == {"sign": "killed", "transposed": "survived", "cotangent ignored": "survived"}
    assert set(found[never].values()) == {"not reached"}


def test_failing_tests_are_no_ground_for_mutations(user_tests):
    user_tests.write_text("def test_wrong():\n    assert False\n", encoding="utf-8")
    assert main(["--tests", str(user_tests)]) == 3
