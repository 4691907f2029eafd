"""Rows: what a look-up leaves behind, with indices that repeat, that lie outside, and against other factors of the table."""

from __future__ import annotations

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbp.factors import Outer, Rows


SIZE, BATCH, STEPS, WIDTH = 4, 9, 5, 3

places = st.lists(st.integers(-3, SIZE + 2), min_size=BATCH * STEPS, max_size=BATCH * STEPS)


def rows_of(indices: list[int], key: int = 0) -> Rows:
    shape = (BATCH, STEPS)
    return Rows(jnp.asarray(np.reshape(indices, shape)), jnp.asarray(brute.random(key, *shape, WIDTH)), SIZE)


def truth(f: Rows) -> np.ndarray:
    return brute.rows(np.asarray(f.indices), np.asarray(f.rows), f.size)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(places)
def test_every_answer_whatever_repeats_or_lies_outside(indices):
    f = rows_of(indices)
    brute.check(f, truth(f))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(places, places)
def test_two_of_one_table(indices, others):
    f, g = rows_of(indices), rows_of(others, key=1)
    brute.check_pair(f, truth(f), g, truth(g))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(places)
def test_against_the_outer_of_an_output_layer(indices):
    """Tied embeddings: the table is read by index at the input and multiplies at the output."""
    f, g = rows_of(indices), Outer(jnp.asarray(brute.random(2, BATCH, 2, SIZE)), jnp.asarray(brute.random(3, BATCH, 2, WIDTH)))
    brute.check_pair(f, truth(f), g, brute.outer(g.x, g.y_bar))


@pytest.mark.parametrize("time", [(), (1,), (2, 3)], ids=str)
@pytest.mark.parametrize("batch", [1, 17])
def test_time_axes_and_batch_sizes(time, batch):
    indices = np.random.default_rng(0).integers(-1, 8, size=(batch, *time))
    f = Rows(jnp.asarray(indices), jnp.asarray(brute.random(1, batch, *time, 2)), 7)
    brute.check(f, truth(f))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(places)
def test_merged_holds_each_index_once(indices):
    f = rows_of(indices)
    merged = jax.jit(Rows.merged)(f)
    np.testing.assert_allclose(truth(merged), truth(f), atol=1e-13)
    for places in np.asarray(merged.indices):
        inside = [i for i in places if i < SIZE]
        assert len(inside) == len(set(inside))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(places)
def test_add_to_scatters_the_total(indices):
    f = rows_of(indices)
    table = jnp.asarray(brute.random(5, SIZE, WIDTH))
    np.testing.assert_allclose(f.add_to(table), table + f.total(), rtol=1e-13, atol=1e-13)


def test_unsigned_indices_and_an_empty_step_of_the_table():
    f = Rows(jnp.asarray([[0, 3], [3, 3]], jnp.uint8), jnp.asarray(brute.random(0, 2, 2, 1)), 4)
    brute.check(f, truth(f))


def test_reductions_never_make_the_table():
    size = 100_000
    f = Rows(jnp.zeros((8, 3), jnp.int32), jnp.ones((8, 3, 4), jnp.float32), size)
    for reduce in (Rows.sq_norms, Rows.gram, Rows.merged):
        memory = jax.jit(reduce).lower(f).compile().memory_analysis()
        assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 4 * size


def test_bfloat16_is_summed_in_float32():
    ones = jnp.ones((7, 143, 2), jnp.bfloat16)  # bfloat16 counts to 256
    f = Rows(jnp.zeros((7, 143), jnp.int32), ones, 3)
    assert f.total(jnp.float32).tolist() == [[1001.0] * 2, [0.0] * 2, [0.0] * 2]
    assert f.total().dtype == jnp.bfloat16
    assert f.sq_norms().tolist() == f.inner(f).tolist() == [2 * 143.0**2] * 7
    assert f.dot(jnp.ones((3, 2), jnp.bfloat16)).tolist() == [286.0] * 7


def test_made_under_vmap_and_reduced_inside():
    indices = jnp.asarray(np.random.default_rng(0).integers(-1, 6, size=(3, 9, 4)))
    values = jnp.asarray(brute.random(1, 3, 9, 4, 2))
    reduce = lambda i, r: (lambda f: (f.total(), f.sq_norms(), f.second_moment(), f.gram()))(Rows(i, r, 5))
    lanes = jax.jit(jax.vmap(reduce))(indices, values)
    for lane in range(3):
        for got, wanted in zip(lanes, jax.jit(reduce)(indices[lane], values[lane]), strict=True):
            np.testing.assert_allclose(got[lane], wanted, rtol=1e-12, atol=1e-12)
