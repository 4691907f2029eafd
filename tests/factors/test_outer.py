"""Outer: x_b (outer) y_bar_b, with and without time; its norms never make room for (batch, in, out)."""

from __future__ import annotations

import math

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbp.factors import CHUNK, Outer
from jaxbp.factors.outer import pairs_are_cheaper


def outer_of(batch: int, time: tuple[int, ...], fan_in: int, fan_out: int, key: int = 0) -> Outer:
    shapes = (batch, *time, fan_in), (batch, *time, fan_out)
    return Outer(*(jnp.asarray(brute.random(key + i, *shape)) for i, shape in enumerate(shapes)))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    batch=st.sampled_from([1, 2, 9, 17]),
    time=st.sampled_from([(), (1,), (2,), (5,), (2, 3)]),
    fan_in=st.sampled_from([1, 3, 8]),
    fan_out=st.sampled_from([1, 2, 7]),
)
def test_every_answer(batch, time, fan_in, fan_out):
    f = outer_of(batch, time, fan_in, fan_out)
    brute.check(f, brute.outer(f.x, f.y_bar))


@pytest.mark.parametrize("time", [(), (3,), (20,)])
def test_two_of_one_parameter_that_ran_over_different_times(time):
    f, g = outer_of(9, time, 4, 3), outer_of(9, (6,), 4, 3, key=7)
    brute.check(f, brute.outer(f.x, f.y_bar), g, brute.outer(g.x, g.y_bar))


def test_transposed():
    f = outer_of(3, (2,), 4, 5)
    np.testing.assert_allclose(f.T.total(), f.total().T, rtol=1e-14)


def test_norms_of_cancelling_steps_are_not_negative():
    x = np.ones((1, 2, 9))
    y_bar = np.stack([brute.random(0, 1, 9), -brute.random(0, 1, 9)], axis=1) * (1 + 1e-9 * brute.random(1, 1, 2, 1))
    norms = Outer(jnp.asarray(x, jnp.float32), jnp.asarray(y_bar, jnp.float32)).sq_norms()
    assert (norms >= 0).all()


def intermediates(jaxpr):
    """The number of entries of every array that a jaxpr makes, in the programs inside it too."""
    for eqn in jaxpr.eqns:
        yield from (math.prod(var.aval.shape) for var in eqn.outvars)
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from intermediates(inner)


@pytest.mark.parametrize("time", [(), (1,), (16,), (80,)], ids=str)
def test_norms_never_allocate_batch_in_out(time):
    """Neither as an array of the program as traced nor in the memory of the program as compiled."""
    batch, fan_in, fan_out = 128, 100, 96
    steps, whole = math.prod(time), batch * fan_in * fan_out
    f = jax.tree.map(lambda a: a.astype(jnp.float32), outer_of(batch, time, fan_in, fan_out))
    # at most: what x takes, and all pairs of steps or CHUNK examples
    allowed = max(
        batch * steps * fan_in, batch * steps**2 if pairs_are_cheaper(steps, fan_in, fan_out) else CHUNK * fan_in * fan_out
    )
    found = list(intermediates(jax.make_jaxpr(Outer.sq_norms)(f).jaxpr))
    assert len(found) > 2
    assert max(found) <= allowed < whole
    memory = jax.jit(Outer.sq_norms).lower(f).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * min(2 * CHUNK * fan_in * fan_out, whole if time else whole // 100)


def test_the_walk_sees_what_is_inside_loops():
    f = outer_of(64, (3,), 30, 20)
    naive = lambda f: jax.lax.map(lambda one: jnp.sum(f.examples() ** 2), f.x)
    assert max(intermediates(jax.make_jaxpr(naive)(f).jaxpr)) == 64 * 30 * 20


def test_gram_over_time_keeps_to_blocks():
    f = jax.tree.map(lambda a: a.astype(jnp.float32), outer_of(64, (12,), 48, 40))
    assert max(intermediates(jax.make_jaxpr(Outer.gram)(f).jaxpr)) <= max(CHUNK * 48 * 40, 64 * 12 * 48)


def test_bfloat16_is_summed_in_float32():
    ones = lambda *shape: jnp.ones(shape, jnp.bfloat16)
    for f in (Outer(ones(1001, 2), ones(1001, 3)), Outer(ones(7, 143, 2), ones(7, 143, 3))):  # bfloat16 counts to 256
        assert f.total(jnp.float32).tolist() == [[1001.0] * 3] * 2
        assert f.total().dtype == jnp.bfloat16
        assert f.sq_norms().dtype == f.dot(ones(2, 3)).dtype == f.second_moment().dtype == jnp.float32
        assert float(jnp.sum(f.dot(ones(2, 3)))) == 6006
    assert Outer(ones(7, 143, 2), ones(7, 143, 3)).sq_norms().tolist() == [6 * 143.0**2] * 7


def test_made_under_vmap_and_reduced_inside():
    x, y_bar = jnp.asarray(brute.random(0, 4, 9, 5, 3)), jnp.asarray(brute.random(1, 4, 9, 5, 2))
    reduce = lambda x, y_bar: (lambda f: (f.total(), f.sq_norms(), f.second_moment(), f.gram()))(Outer(x, y_bar))
    lanes = jax.jit(jax.vmap(reduce))(x, y_bar)
    for i in range(4):
        for got, wanted in zip(lanes, jax.jit(reduce)(x[i], y_bar[i]), strict=True):
            np.testing.assert_allclose(got[i], wanted, rtol=1e-12, atol=1e-12)
