"""The audit finds every rule wherever it hides, with the values that reach it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from ruled import W, X, broken, forward_rule, sound, static_power

from jaxbp.check.audit import audit
from jaxbp.check.rules import find_rules


def in_shard_map(f, x, w):
    mesh, spec = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,)), PartitionSpec("i")
    return jax.shard_map(lambda x, w: f(x, w), mesh=mesh, in_specs=(spec, spec), out_specs=spec)(x, w)


@jax.custom_vjp
def sparse(x, w):
    return x * w


sparse.defvjp(lambda x, w: (x.value * w.value, (x.value, w.value)), lambda r, bar: (bar * r[1], bar * r[0]), symbolic_zeros=True)


# name: (function of x and w, its first and last operands, calls)
PLACES = {
    "plain": (sound, [(X, W)], 1),
    "jit": (lambda x, w: jax.jit(sound)(x, w), [(X, W)], 1),
    "scan": (
        lambda x, w: lax.scan(lambda c, k: (c * 2, sound(c, w) * k), x, jnp.arange(3, dtype=jnp.float32)),
        [(X, W), (4 * X, W)],
        3,
    ),
    "reversed scan": (
        lambda x, w: lax.scan(lambda c, k: (c, sound(k, w)), 0, jnp.stack([x, 2 * x, 3 * x]), reverse=True),
        [(3 * X, W), (X, W)],
        3,
    ),
    "while": (
        lambda x, w: lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] + 1, sound(c[1], w)), (0, x, x)),
        [(X, W), (X + 3, W)],
        4,
    ),
    "fori": (lambda x, w: lax.fori_loop(0, 2, lambda i, c: sound(c * 0 + i, w), x), [(0 * X, W), (0 * X + 1, W)], 2),
    "cond": (lambda x, w: lax.cond(x[0] > 0, sound, lambda x, w: x, x, w), [(X, W)], 1),
    "untaken branch": (lambda x, w: lax.cond(x[0] > 9, sound, lambda x, w: x, x, w), [], 0),
    "remat": (lambda x, w: jax.checkpoint(sound)(x, w), [(X, W)], 1),
    "vmap": (lambda x, w: jax.vmap(sound, (0, None))(x, w[1]), [(X, W[1])], 1),
    "vmap of scan": (lambda x, w: jax.vmap(lambda a, b: lax.map(lambda k: sound(k, b), a[None]))(x, w), [(X, W)], 1),
    "shard_map": (functools.partial(in_shard_map, sound), [(X, W)], 1),
    "nondiff_argnums": (lambda x, w: static_power(3, x, w), [(X, W)], 1),
    "symbolic_zeros": (sparse, [(X, W)], 1),
    "custom_jvp": (lambda x, w: forward_rule(x) * w, [(X,)], 1),
    "literal operand": (lambda x, w: sound(x[0], 2.0) * w, [(X[0],)], 1),
}


@pytest.mark.parametrize("name", PLACES)
def test_rules_are_found_with_the_values_that_reach_them(name):
    fun, calls, count = PLACES[name]
    (rule,) = find_rules(fun, X, W)
    assert rule.count == count
    assert len(rule.calls) == len(calls)
    for n, operands in enumerate(calls):
        got = rule.arguments(n)
        assert len(got) == len(operands)
        for a, b in zip(got, operands, strict=True):
            np.testing.assert_allclose(np.squeeze(a), np.squeeze(b), rtol=1e-6)
    for n in range(len(calls)):  # apart, the rule is what autodiff of its primal is, in both dtypes
        for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.float64, 1e-13)):
            at = [a.astype(dtype) for a in rule.arguments(n)]
            (out,), vjp = jax.vjp(rule.as_function(n), *at)
            (same,), true = jax.vjp(rule.primal(n), *at)
            assert out.dtype == dtype
            np.testing.assert_allclose(out, same, rtol=tolerance, atol=tolerance)
            for a, b in zip(vjp([out]), true([out]), strict=True):
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_rules_inside_rules_are_rules_of_their_own():
    @jax.custom_vjp
    def outer(x, w):
        return broken(x, w) + x

    outer.defvjp(lambda x, w: (outer(x, w), (x, w)), lambda r, bar: (bar * (1 + jnp.cos(r[0]) * r[1]), bar * jnp.sin(r[0])))
    found = audit(outer, X, W)
    assert {rule.name.split(".")[-1]: rule.verdict for rule in found.rules} == {"outer": "pass", "broken": "fail"}


def test_a_mistake_that_only_the_last_step_meets():
    @jax.custom_vjp
    def late(x):
        return x * x

    late.defvjp(lambda x: (late(x), x), lambda x, bar: (bar * jnp.where(x > 20, x, 2 * x),))
    steps = lambda n: lambda x: lax.scan(lambda c, _: (c * 2, late(c)), x, None, length=n)[1]
    assert audit(steps(3), jnp.float32(1.3)).verdict == "pass"
    found = audit(steps(6), jnp.float32(1.3))
    assert found.verdict == "fail"
    assert "call 6 of 6" in found.rules[0].reason


def test_not_reached():
    found = audit(PLACES["untaken branch"][0], X, W)
    assert found.verdict == "inconclusive"
    assert "not reached" in found.rules[0].reason
    assert not found.ok
