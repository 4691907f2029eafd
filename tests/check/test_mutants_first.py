"""The first half of the benchmark: every rule computes its function, and every cotangent is really wrong."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp import jaxprs
from jaxbp.check.mutants.cases import CAUSES, HINTS


pytestmark = pytest.mark.slow  # every one compiles two programs; together several minutes

AREAS = ("dense", "convolution", "softmax", "cross_entropy", "norms", "attention", "pooling")
MUTANTS = [m for area in AREAS for m in importlib.import_module(f"jaxbp.check.mutants.{area}").MUTANTS]

# bugs that the given input does not show: what the battery derives from it
DERIVED = {
    "dense: b_bar squeezed to one number for a batch of one": lambda w, b, x: (w, b, x[:1]),
    "dense: w_bar in blocks of four examples, the remainder lost": lambda w, b, x: (w, b, x[:7]),
    "dense: relu6 goes back as relu": lambda w, b, x: (w, b, 30 * x),
    "dense: mean over the batch, batch size typed as 8": lambda w, x: (w, x[:3]),
    "softmax: recomputed without the shift by the maximum": lambda z: (1e3 * z,),
    "binary cross-entropy: inf/inf for large logits": lambda z, t: (1e3 * z, t),
    "cross-entropy: soft targets assumed to sum to one": lambda z, t: (z, 30 * t),
    "cosine: vectors assumed of unit length": lambda a, b: (30 * a, b),
    "max-pool: ties, at an input without any": lambda x: (jnp.zeros_like(x),),
}
SECOND_ORDER = {m.name for m in MUTANTS if m.hint == "second-order"}


def is_float(leaf) -> bool:
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)


def bare(fun, args):
    """`fun` of its float arguments with every custom rule opened to its primal, and those arguments."""
    at = [i for i, a in enumerate(args) if is_float(a)]
    program = jaxprs.trace(fun, *args).program

    def opened(*floats):
        full = list(args)
        for i, value in zip(at, floats, strict=True):
            full[i] = value
        (out,) = jaxprs.evaluate(program, *full)
        return out

    return opened, [args[i] for i in at], at


def claimed_and_true(check, args, key):
    """(value of the rule, value, claimed cotangents, true ones)."""
    fun = (lambda *xs: check.fun(*xs)[0]) if check.kind == "pair" else check.fun
    opened, floats, at = bare(fun, args)
    value, back = jax.vjp(opened, *floats)
    g = jax.random.normal(key, value.shape, value.dtype)
    if check.kind == "gradient":
        out = check.other(*args)
        ruled, claim = out if isinstance(out, tuple) else (value, out)
        return ruled, value, [claim], [jax.grad(fun)(*args)]
    if check.kind == "jvp":
        dots = [jax.random.normal(key, a.shape, a.dtype) for a in floats]
        ruled, claim = jax.jvp(fun, tuple(args), tuple(dots))
        return ruled, value, [claim], [jax.jvp(opened, tuple(floats), tuple(dots))[1]]
    if check.kind == "pair":
        ruled, residuals = check.fun(*args)
        claims = check.other(residuals, g)
        return ruled, value, [claims[i] for i in at], list(back(g))
    ruled, rule_back = jax.vjp(fun, *args)
    claims = rule_back(g)
    return ruled, value, [claims[i] for i in at], list(back(g))


def second(fun, floats, key):
    """The gradient of a random projection of the gradient."""
    v = jax.random.normal(key, floats[0].shape, floats[0].dtype)
    first = lambda x: jnp.vdot(v, jax.grad(lambda y: jnp.sum(fun(y) ** 2))(x))
    return jax.grad(first)(floats[0])


def differs(claims, truths) -> bool:
    for claim, truth in zip(claims, truths, strict=True):
        error = np.abs(np.asarray(claim, float) - np.asarray(truth, float))
        if not np.all(error <= 1e-6 * max(np.abs(np.asarray(truth)).max(), 1e-30)):
            return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_only_the_derivative_is_wrong(mutant):
    key = jax.random.key(3)
    check = mutant.build(key, jnp.float64)
    ruled, value, claims, truths = claimed_and_true(check, check.args, key)
    np.testing.assert_allclose(ruled, value, rtol=1e-12, atol=1e-14)
    if mutant.name in SECOND_ORDER:
        assert not differs(claims, truths)
        opened, floats, _ = bare(check.fun, check.args)
        assert differs([second(check.fun, floats, key)], [second(opened, floats, key)])
    elif mutant.name in DERIVED:
        assert mutant.hint == "input"
        assert not differs(claims, truths)
        args = DERIVED[mutant.name](*check.args)
        ruled, value, claims, truths = claimed_and_true(check, args, key)
        np.testing.assert_allclose(ruled, value, rtol=1e-12, atol=1e-14)
        assert differs(claims, truths)
    else:
        assert mutant.hint != "input"
        assert differs(claims, truths)


def test_ten_keys_draw_ten_cases():
    for mutant in MUTANTS:
        first, other = (mutant.build(jax.random.key(i), jnp.float32).args for i in range(2))
        assert any(is_float(a) and a.dtype == jnp.float32 and not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_list_is_in_order():
    names = [m.name for m in MUTANTS]
    assert len(set(names)) == len(names) >= 55
    assert {m.area for m in MUTANTS} == set(AREAS)
    assert all(m.cause in CAUSES and m.hint in HINTS for m in MUTANTS)
    assert max([m.cause for m in MUTANTS].count(c) for c in CAUSES) <= 4
