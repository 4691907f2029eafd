"""Sum: one parameter used several times; the cross terms between its uses count."""

from __future__ import annotations

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbp.factors import Each, Factor, Outer, Rows, Sum, Whole


BATCH, SIZE, WIDTH = 9, 5, 3


def outer_use(key: int, time: tuple[int, ...] = ()) -> tuple[Factor, np.ndarray]:
    f = Outer(*(jnp.asarray(brute.random(key + i, BATCH, *time, n)) for i, n in enumerate((SIZE, WIDTH))))
    return f, brute.outer(f.x, f.y_bar)


def turned_use(key: int) -> tuple[Factor, np.ndarray]:
    """The use of the transposed parameter, as in an output layer tied to an embedding."""
    f = Outer(*(jnp.asarray(brute.random(key + i, BATCH, 2, n)) for i, n in enumerate((WIDTH, SIZE))))
    return f.T, brute.outer(f.x, f.y_bar).swapaxes(1, 2)


def rows_use(key: int) -> tuple[Factor, np.ndarray]:
    indices, values = np.random.default_rng(key).integers(-1, SIZE + 1, size=(BATCH, 4)), brute.random(key, BATCH, 4, WIDTH)
    return Rows(jnp.asarray(indices), jnp.asarray(values), SIZE), brute.rows(indices, values, SIZE)


def each_use(key: int) -> tuple[Factor, np.ndarray]:
    values = brute.random(key, BATCH, SIZE, WIDTH)
    return Each(jnp.asarray(values), 2), values


USES = {
    "outer": outer_use(0),
    "outer over time": outer_use(2, (2,)),
    "outer over a long time": outer_use(4, (11,)),
    "outer turned": turned_use(6),
    "rows": rows_use(8),
    "rows again": rows_use(9),
    "each": each_use(10),
}


def sum_of(names: list[str]) -> tuple[Sum, np.ndarray]:
    parts, truths = zip(*(USES[name] for name in names), strict=True)
    return Sum(parts), sum(truths)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(USES)), min_size=1, max_size=3))
def test_every_answer_whatever_the_parts(names):
    brute.check(*sum_of(names))


@pytest.mark.parametrize("other", sorted(USES))
def test_all_types_meet_with_either_on_the_left(other):
    """`inner` and `gram` find the one of two that knows the other."""
    f, g = USES[other]
    for name in ("outer over time", "rows", "each"):
        brute.check_pair(f, g, *USES[name])
    brute.check_pair(f, g, *sum_of(["outer turned", "rows", "each"]))


def test_sums_of_sums():
    f, g = sum_of(["outer", "rows"])
    h, truth = sum_of(["each", "outer over time", "rows again"])
    brute.check_pair(f, g, h, truth)
    brute.check_pair(Sum((f, h)), g + truth, f, g)


def test_cross_terms_are_there():
    f, g = USES["outer"]
    np.testing.assert_allclose(Sum((f, f)).sq_norms(), 4 * (g**2).sum((1, 2)), rtol=1e-12)
    opposite = f.scaled(-jnp.ones(BATCH))
    np.testing.assert_allclose(Sum((f, opposite)).sq_norms(), np.zeros(BATCH), atol=1e-12)
    assert (Sum((f, opposite)).sq_norms() >= 0).all()


def test_bfloat16_is_summed_in_float32():
    ones = jnp.ones((300, 1), jnp.bfloat16)
    f = Sum((Outer(ones, ones), Rows(jnp.zeros(300, jnp.int32), ones, 1)))
    assert f.total(jnp.float32).tolist() == [[600.0]]
    assert f.total().dtype == jnp.bfloat16
    assert f.sq_norms().tolist() == [4.0] * 300


@pytest.mark.parametrize("ask", ["examples", "sq_norms", "second_moment", "gram", "batch"])
def test_a_part_that_is_only_a_sum_makes_all_only_a_sum(ask):
    f, g = USES["outer"]
    both = Sum((f, Whole(jnp.ones((SIZE, WIDTH)))))
    np.testing.assert_allclose(both.total(), g.sum(0) + 1, rtol=1e-12)
    with pytest.raises(ValueError, match="only the sum"):
        (lambda asked: asked() if callable(asked) else asked)(getattr(both, ask))


def test_made_under_vmap_and_reduced_inside():
    f, _ = sum_of(["outer over time", "rows"])
    stacked = jax.tree.map(lambda a: jnp.stack([a, a[::-1]]), f)
    reduce = lambda f: (f.total(), f.sq_norms(), f.second_moment(), f.gram())
    lanes = jax.jit(jax.vmap(reduce))(stacked)
    for lane in range(2):
        alone = jax.jit(reduce)(jax.tree.map(lambda a, lane=lane: a[lane], stacked))
        for got, wanted in zip(lanes, alone, strict=True):
            np.testing.assert_allclose(got[lane], wanted, rtol=1e-12, atol=1e-12)
