"""What a user meets first: calls that cannot be checked, what is said once and in words, and what may be declared."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checking import as_users_see_it, quick, rule  # noqa: F401

from jaxbp.check import audit, check_gradient, check_jvp, check_pair, check_vjp


X = jnp.array([-1.3, 0.4, 0.9, 2.1], jnp.float32)


def sine(x):
    return jnp.sin(x)


def branch(x):
    return x if x[0] > 0 else 2 * x


def square(x):
    return jnp.sum(x**2)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: check_vjp(branch, X), ValueError, "branch cannot be traced by JAX.*in Python.*use jnp.where"),
        (lambda: check_vjp(np.sin, X), ValueError, "sin cannot be traced by JAX.*NumPy.*use jax.numpy"),
        (lambda: check_gradient(lambda x: np.sum(np.sin(x)), jnp.cos, X), ValueError, "<lambda> cannot be traced by JAX"),
        (lambda: check_vjp(lambda x: x * float(x[0]), X), ValueError, "as a Python number"),
        (lambda: audit(branch, X), ValueError, "audit: branch cannot be traced by JAX"),
        (
            lambda: check_vjp(X, jnp.sin),
            TypeError,
            r"fun should be a function, got an array float32\[4\]; .*check_vjp\(fun, \*args",
        ),
        (lambda: check_gradient(square, X), TypeError, r"gradient_fun should be a function.*check_gradient\(fun, gradient_fun"),
        (lambda: check_pair(sine, X), TypeError, "backward should be a function"),
        (lambda: audit(X, sine), TypeError, "audit: fun should be a function"),
        (lambda: check_vjp(jnp.sin), TypeError, "there are no arguments"),
        (lambda: check_vjp(jnp.sin, X, order=3), ValueError, "order: 1 or 2"),
        (lambda: check_vjp(jnp.sin, X, order=0), ValueError, "order: 1 or 2"),
        (lambda: check_vjp(jnp.sin, X, key="a"), TypeError, "key: a PRNG key or a number"),
        (lambda: check_vjp(jnp.sin, X, batch_axes=7), ValueError, r"args\[0\] of shape \(4,\) has no axis 7"),
        (lambda: check_vjp(jnp.sin, X, batch_axes="a"), TypeError, "batch_axes: an axis"),
        (lambda: check_vjp(jnp.sin, X, primal=sine, derivative_of=sine), ValueError, "exclude each other"),
        (lambda: check_gradient(jnp.sin, jnp.cos, X), ValueError, r"one scalar; sin returns shapes \(4,\)"),
        (lambda: check_gradient(square, jnp.sign, X, argnums=3), ValueError, "argnums: there are 1 arguments"),
        (lambda: check_gradient(square, jnp.sign, X, argnums="w"), TypeError, "argnums"),
        (lambda: audit(sine, X, argnums=5), ValueError, "audit: argnums"),
        (lambda: check_pair(sine, lambda r, g: g, X), TypeError, r"forward should return \(out, residuals\), got an array"),
        (lambda: check_jvp(jnp.sin, X), TypeError, "must be tuples"),
        (lambda: check_jvp(jnp.sin, (X,), (X[:2],)), ValueError, "tangents"),
        (lambda: check_jvp(lambda x: x @ x.T @ 3, (X,)), ValueError, "itself raises"),
    ],
)
def test_what_cannot_be_checked_says_why(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_where_all_is_empty_nothing_was_looked_at():
    wrong = rule(sine, lambda s, g: (2 * g,))
    report = quick(wrong, jnp.zeros((0,)))
    assert report.verdict == "inconclusive"
    assert "nothing was looked at" in report.reason
    beside = quick(lambda x, y: jnp.sum(x) + y, jnp.zeros((0,)), X)
    assert beside.ok, str(beside)
    assert "any entry of args[1] would have been seen." in str(beside).replace("\n", " ")


def test_a_tangent_is_measured_in_the_dtype_of_its_output():
    assert check_jvp(sine, (X,), battery=False).leaves[0].dtype == "float32"


@pytest.mark.parametrize(("factor", "verdict"), [(2, "pass"), (3, "fail")])
def test_a_gradient_in_numpy_is_checked_without_jit(factor, verdict):
    report = check_gradient(square, lambda x: factor * np.asarray(x), X, battery=False)
    assert report.verdict == verdict, str(report)
    assert all("cannot be traced by JAX" in step.detail for step in report.steps if step.name in ("jit", "vmap"))
    assert "jit and vmap not run" in report.reason or verdict == "fail"


def test_a_forgotten_tuple_is_told_once_and_to_the_end():
    text = " ".join(str(quick(rule(sine, lambda s, g: g * jnp.cos(s[0])), X)).split())
    assert text.count("must produce a tuple of length equal to the number of arguments") == 1
    assert "for primal input structure PyTreeDef((*,))." in text


def test_a_kink_is_told_once_and_the_leaf_shows_no_error():
    report = check_vjp(jax.nn.relu, jnp.array([0.0, 1.0, -1.0]))
    assert report.ok
    assert report.reason.count("at a kink") == 1
    assert "derived inputs)" in report.reason
    assert report.leaves[0].error <= report.leaves[0].resolution
    half = rule(lambda x: jnp.maximum(x, 0), lambda s, g: (g * jnp.where(s[0] == 0, 0.25, s[0] > 0),))
    pardoned = quick(half, jnp.array([0.0, 1.0, -1.0]))
    assert pardoned.leaves[0].error <= pardoned.leaves[0].resolution


def test_a_slope_is_told_from_an_entry_and_the_hint_says_what_is_known():
    wrong = rule(sine, lambda s, g: (g * (1.01 * jnp.cos(s[0]) + jnp.array([0, 0.1, 0.2, 0])),))
    report = quick(wrong, X)
    assert "along that error central differences measure a slope of" in report.reason
    assert "4 of 4 entries are wrong, most of all [2]" in report.hints[0].text
    assert "the error is no multiple of the value of 'args[0]', the output or the output's cotangent" in report.hints[0].text


def test_a_zero_has_no_sign():
    assert "-0 " not in str(quick(lambda x: x * jnp.array([0.0, 1.0, 1.0, 1.0]), X))


def rounded(x):
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def identity(x):
    return x


def test_a_straight_through_estimator_is_declared_by_derivative_of():
    through = rule(lambda x: jnp.round(x), lambda s, g: (g,))
    undeclared = quick(through, X)
    assert "straight-through estimator (see derivative_of)" in undeclared.hints[0].text
    assert "name it by derivative_of" in quick(through, X, primal=identity).reason
    for fun in (through, rounded):
        assert quick(fun, X, derivative_of=identity).ok
    assert check_jvp(rounded, (X,), battery=False, derivative_of=identity).ok
    wrong = quick(through, X, derivative_of=jnp.sin)
    assert wrong.verdict == "fail"
    assert "from jax.numpy import sin" in wrong.reproduction
    assert "derivative_of=sin)" in wrong.reproduction


def test_functions_without_a_name_are_told_apart_in_a_reproduction():
    report = check_pair(lambda x: (jnp.sin(x), x), lambda r, g: 2 * g, {"a": X}["a"], battery=False)
    assert "check_pair(fun, fun1, *args" in report.reproduction
    assert report.reproduction.count("<lambda>, ") == 2


def test_what_is_not_finite_leaks_no_warning():
    for fun in (jnp.sqrt, jnp.linalg.norm):
        assert quick(fun, jnp.zeros(3)).verdict == "inconclusive"
