"""The entries of the benchmark: counts; every bug is in the derivative alone and really there; correct rules are correct."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp import jaxprs
from jaxbp.check.mutants import AREAS, CAUSES, CORRECT, HINTS, MUTANTS
from jaxbp.check.mutants.tools import of_floats


KEY = jax.random.key(3)
WRONG = 1e-6  # of the largest entry: less is not planted, it is rounding

# Bugs that the given input does not show, and what the checker derives from it that does.
DERIVED = {
    "dense: b_bar squeezed for a batch of one": lambda w, b, x: (w, b, x[:1]),
    "dense: w_bar in blocks, the remainder lost": lambda w, b, x: (w, b, x[:7]),
    "dense: relu6 goes back as relu": lambda w, b, x: (w, b, 30 * x),
    "dense: batch size typed as 8": lambda w, x: (w, x[:3]),
    "softmax: recomputed without the shift by the maximum": lambda z: (1e3 * z,),
    "cross_entropy: binary: inf/inf for large logits": lambda z, t: (1e3 * z, t),
    "cross_entropy: targets assumed to sum to one": lambda z, t: (z, 30 * t),
    "norms: cosine: vectors assumed of unit length": lambda a, b: (30 * a, b),
    "pooling: max-pool: ties, at an input without any": lambda x: (jnp.zeros_like(x),),
    "embedding: repeated ids overwritten, distinct ids given": lambda table, ids: (table, jnp.zeros_like(ids)),
    "scans: partial block lost, whole blocks given": lambda x: (x[:7],),
    "functions: softplus overflows, moderate inputs given": lambda x: (1e3 * x,),
    "functions: sign lost, positive inputs given": lambda x: (-x,),
    "functions: empty mask": lambda x, mask: (x, jnp.zeros_like(mask)),
    "functions: series near zero, larger inputs given": lambda x: (1e-3 * x,),
}
ELSEWHERE = {"jit", "vmap"}  # hints of bugs that one eager call does not show


def title(entry) -> str:
    return f"{entry.area}: {entry.name}"


def opened(fun, floats):
    """`fun` with every custom rule opened to its primal."""
    program = jaxprs.trace(fun, *floats).program
    return lambda *values: jaxprs.evaluate(program, *values)


def cotangents(fun, floats):
    """Outputs, and cotangents of the floating arguments for a dense random seed, some of it beyond one."""
    outs, vjp = jax.vjp(lambda *values: jax.tree.leaves(fun(*values)), *floats)
    keys = jax.random.split(KEY, len(outs))
    return outs, vjp([3 * jax.random.normal(k, o.shape, o.dtype) for k, o in zip(keys, outs, strict=True)])


def error(claims, truths) -> float:
    """The largest error of any leaf, in units of its largest true entry; infinite for NaN."""
    worst = 0.0
    for claim, truth in zip(claims, truths, strict=True):
        off = np.abs(np.asarray(claim, np.float64) - np.asarray(truth, np.float64))
        worst = max(worst, np.nan_to_num(np.max(off), nan=np.inf) / max(np.max(np.abs(np.asarray(truth, np.float64))), 1e-30))
    return worst


def errors(check):
    """(of the outputs, of the cotangents) against autodiff without any rule."""
    claim, floats = of_floats(check)
    outs, bars = cotangents(claim, floats)
    true_outs, true_bars = cotangents(opened(claim, floats), floats)
    return error(outs, true_outs), error(bars, true_bars)


def second(fun, floats):
    """The gradient of a random projection of a gradient."""
    value = lambda x: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(fun(x, *floats[1:])))
    v = jax.random.normal(KEY, floats[0].shape, floats[0].dtype)
    return jax.grad(lambda x: jnp.vdot(v, jax.grad(value)(x)))(floats[0])


def test_counts():
    causes = collections.Counter(m.cause for m in MUTANTS)
    assert len(MUTANTS) >= 100
    assert len(causes) >= 45
    assert max(causes.values()) <= 4
    assert causes.keys() == CAUSES.keys()
    assert {m.hint for m in MUTANTS} <= set(HINTS) - {"localised"}
    assert len(CORRECT) >= 40


def test_names_are_unique():
    titles = [title(entry) for entry in (*MUTANTS, *CORRECT)]
    assert len(set(titles)) == len(titles)


def test_areas_are_named_after_their_modules():
    for area in AREAS:
        assert {m.area for m in area.MUTANTS} == {area.__name__.rpartition(".")[2]}
        assert f"{area.__name__.rpartition('.')[2]}" in {m.area for m in MUTANTS}


def test_bugs_that_only_derived_inputs_show():
    assert {title(m) for m in MUTANTS if m.hint == "input"} == DERIVED.keys()


@pytest.mark.slow  # a program or two for each entry: some minutes
@pytest.mark.parametrize("entry", [m for m in MUTANTS if m.hint != "structure"], ids=title)
def test_planted_bugs(entry):
    """The forward is the function; the cotangents are wrong by more than rounding, or only where the hint says."""
    check = entry.build(KEY, jnp.dtype("float64"))
    if entry.name == "sign of a host function's slope":  # no autodiff to compare with
        claim, floats = of_floats(check)
        assert error(cotangents(claim, floats)[1], cotangents(lambda x: jnp.logaddexp(x, -x), floats)[1]) > WRONG
        return
    of_outputs, of_bars = errors(check)
    assert (of_outputs < 1e-12) == (entry.hint != "primal")
    if entry.hint == "second-order":
        claim, floats = of_floats(check)
        assert of_bars < 1e-12
        assert error([second(claim, floats)], [second(opened(claim, floats), floats)]) > WRONG
    elif entry.hint == "input":
        assert of_bars < 1e-12
        of_outputs, of_bars = errors(check._replace(args=DERIVED[title(entry)](*check.args)))
        assert of_outputs < 1e-12
        assert of_bars > WRONG
    elif entry.hint not in {"primal", *ELSEWHERE}:
        assert of_bars > WRONG


# Another convention at the kink, no digits left in the reference, no autodiff.
NOT_COMPARED = ("relu at zero", "cross-entropy at margin 35", "of a host function")
RULES = [c for c in CORRECT if c.area == "correct rules" and c.name not in NOT_COMPARED]


@pytest.mark.slow
@pytest.mark.parametrize("entry", RULES, ids=title)
def test_correct_rules(entry):
    of_outputs, of_bars = errors(entry.build(KEY, jnp.dtype("float64")))
    rounding = 3e-2 if "bfloat16" in entry.name else 1e-12
    assert of_outputs < rounding
    assert of_bars < rounding


@pytest.mark.slow
def test_another_key_is_another_case():
    for entry in MUTANTS:
        first, other = (jax.tree.leaves(entry.build(jax.random.key(i), jnp.dtype("float32")).args) for i in range(2))
        assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True) if a.dtype == np.float32), title(entry)
