"""What a check must not get wrong: kinks and ties, autodiff that fails, chaos, bad input, and a reproduction that runs."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checking import as_users_see_it, quick, rule  # noqa: F401

from jaxbp.check import audit, check_gradient, check_pair, check_vjp, ladder


X = jnp.array([-1.3, 0.4, 0.9, 2.1], jnp.float32)


class Pair(NamedTuple):
    a: jax.Array
    b: jax.Array


def product(pair, x):
    return pair.a * pair.b * x


wrong_product = rule(product, lambda s, g: (Pair(g * s[0].b * s[1], g * s[0].a), g * s[0].a * s[0].b))


def sum_of_cubes(x):
    return jnp.sum(x**3)


def wrong_gradient(x):
    return 2 * x**2


# --- what is shown


def test_a_python_scalar_has_the_dtype_that_jax_gives_it():
    report = quick(lambda x, t: x * t, X, 0.7)
    assert [leaf.dtype for leaf in report.leaves] == ["float32", "float32"]


def test_every_wrong_leaf_is_named():
    def backward(s, g):
        return tuple(2 * g for _ in s)

    report = quick(rule(lambda *xs: sum(xs), backward), *[X * k for k in range(1, 7)])
    assert all(f"args[{k}]" in report.reason for k in range(4))
    assert report.reason.endswith("and 2 more")


@pytest.mark.parametrize(
    "find",
    [
        lambda: quick(wrong_product, Pair(X, X + 1), X, key=5),
        lambda: check_gradient(sum_of_cubes, wrong_gradient, X, battery=False),
        lambda: audit(wrong_product, Pair(X, X + 1), X).rules[0].report,
    ],
    ids=["check_vjp", "check_gradient", "audit"],
)
def test_the_reproduction_runs_and_finds_it_again(find, capsys):
    report = find()
    assert report.verdict == "fail"
    exec(compile(report.reproduction, "<reproduction>", "exec"), {})
    assert "FAIL" in capsys.readouterr().out


def test_a_reproduction_says_what_it_cannot_spell():
    def inner(x):
        return x

    report = quick(rule(inner, lambda s, g: (2 * g,)), jnp.ones(300))
    compile(report.reproduction, "<reproduction>", "exec")
    assert "x0 = ...  # ...: large" in report.reproduction
    assert "test_check_core.py:" in report.reproduction


# --- autodiff is not always the truth


def guarded(x):
    """Autodiff gives NaN where x < 0."""
    return jnp.where(x > 0, jnp.sqrt(x), 0.0)


@pytest.mark.parametrize(("below", "verdict"), [(0.0, "pass"), (0.3, "fail")])
def test_a_rule_that_knows_better_than_autodiff_is_held_against_central_differences(below, verdict):
    def backward(s, g):
        above = s[0] > 0
        return (g * jnp.where(above, 0.5 / jnp.sqrt(jnp.where(above, s[0], 1.0)), below),)

    assert quick(rule(guarded, backward), X).verdict == verdict


def test_a_rule_must_heed_stop_gradient():
    held = lambda x: x * jax.lax.stop_gradient(x)
    assert quick(rule(held, lambda s, g: (g * s[0],)), X).ok
    assert quick(rule(held, lambda s, g: (2 * g * s[0],)), X).verdict == "fail"


@pytest.mark.slow
def test_another_order_of_ties_is_a_convention_and_taking_all_is_not():
    descending = lambda x: -jnp.sort(-x)
    scatter = lambda order: lambda s, g: (jnp.zeros_like(g).at[order(s[0])].set(g),)
    ties = jnp.array([1.0, 0.0, 1.0, 1.0, 2.0])
    assert quick(rule(descending, scatter(lambda x: jnp.argsort(x)[::-1])), ties).ok
    every = rule(lambda x: jnp.max(x), lambda s, g: (g * (s[0] == jnp.max(s[0])),))
    assert quick(every, jnp.array([2.0, 2.0, 2.0])).verdict == "fail"


def test_overflow_in_the_own_dtype_alone_is_found():
    def backward(s, g):
        return (g * 4 / (jnp.exp(s[0]) + jnp.exp(-s[0])) ** 2,)

    lost = rule(jnp.tanh, lambda s, g: (backward(s, g)[0] * jnp.exp(s[0]) / jnp.exp(s[0]),))
    assert quick(rule(jnp.tanh, backward), X).ok
    at_hundred = quick(lost, 90 + X)
    assert at_hundred.verdict == "fail"
    assert at_hundred.hints[0].category == "nan"
    assert "in its own dtype" in at_hundred.hints[0].text


def test_complex_arguments_are_two_real_ones():
    right = quick(rule(lambda z: z * z, lambda s, g: (2 * g * s[0],)), X + 1j)
    assert right.ok
    assert [leaf.path for leaf in right.leaves] == ["args[0].real", "args[0].imag"]
    assert quick(rule(lambda z: z * z, lambda s, g: (2 * g * jnp.conj(s[0]),)), X + 1j).verdict == "fail"


def test_rows_that_meet_under_vmap_are_found_where_the_primal_is_linear():
    centre = jax.custom_batching.custom_vmap(lambda g: g)
    centre.def_vmap(lambda n, batched, g: (g - jnp.mean(g, 0), True))
    report = quick(rule(lambda x: x, lambda s, g: (centre(g),)), X)
    assert report.hints[0].category == "vmap"


@pytest.mark.slow
def test_a_mask_without_any_true_is_tried():
    def mean(x, mask):
        return jnp.sum(jnp.where(mask, x, 0)) / jnp.maximum(jnp.sum(mask), 1)

    report = check_vjp(rule(mean, lambda s, g: (g * s[1] / jnp.sum(s[1]), None)), X, jnp.array([True, False, True, True]))
    assert report.hints[0].category == "input"
    assert "mask of False" in report.reason


# --- central differences


def slope_of(phi, noise=0.0):
    return ladder.slope(np.array([phi(t) for t in ladder.POINTS]), noise)


def test_chaos_has_no_slope():
    def orbit(t):
        y = 0.3 + t / 4
        for _ in range(100):
            y = 3.99 * y * (1 - y)
        return y

    assert np.isnan(slope_of(orbit).value)


def test_a_constant_has_slope_zero():
    assert slope_of(lambda t: 3.0, 1e-12).value == 0.0


def test_the_slope_is_the_one_at_zero_where_a_line_breaks_nearby():
    """Beyond the break at 1e-5 every estimate is as steady as before it."""
    slope = slope_of(lambda t: 2 * np.clip(t, -1e-5, 1e-5) + 5 * t)
    np.testing.assert_allclose(slope.value, 7.0, rtol=1e-6)


def test_positions_computed_from_numbers_are_not_moved_by_the_noise():
    report = quick(jnp.median, jnp.array([0.3, -1.0, 2.0, 0.7, 0.1]))
    assert report.ok
    assert report.leaves[0].resolution < 1e-12


# --- bad input


def test_a_function_with_fresh_randomness_or_a_state_is_told():
    calls = []

    def counting(x):
        calls.append(1)
        return x * len(calls)

    report = check_vjp(counting, X)
    assert [hint.category for hint in report.hints] == ["nondeterministic"]
    assert "repeat" in report.reason


def test_nan_in_the_value_is_inconclusive_with_its_index():
    report = quick(jnp.log, X)
    assert report.verdict == "inconclusive"
    assert "output 0 is NaN at [0]" in report.reason


@pytest.mark.parametrize(("value", "verdict"), [(0.0, "pass"), (1.0, "fail")])
def test_a_float_cotangent_of_an_index_is_refused_where_it_is_not_zero(value, verdict):
    forward = lambda t, i: (t[i], (t, i))
    backward = lambda s, g: (jnp.zeros_like(s[0]).at[s[1]].add(g), jnp.full(2, value))
    assert check_pair(forward, backward, X, jnp.array([0, 3]), battery=False).verdict == verdict
