"""Whole keeps only the sum and says so; Statistic has no gradient."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from jaxbp.factors import Each, Outer, Rows, Statistic, Whole


VALUE = jnp.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_total():
    assert Whole(VALUE).total().tolist() == VALUE.tolist()
    assert Whole(VALUE).total(jnp.bfloat16).dtype == jnp.bfloat16
    assert Statistic(VALUE).total().tolist() == [[0.0] * 3] * 2
    assert Statistic(VALUE).total(jnp.float32).dtype == jnp.float32
    assert Statistic(VALUE).value is VALUE


@pytest.mark.parametrize("kind", [Whole, Statistic])
@pytest.mark.parametrize(
    ("ask", "arguments"),
    [
        ("scaled", 1),
        ("examples", 0),
        ("sq_norms", 0),
        ("inner", 1),
        ("dot", 1),
        ("second_moment", 0),
        ("gram", 0),
        ("map_examples", 1),
    ],
)
def test_nothing_but_the_sum(kind, ask, arguments):
    with pytest.raises(ValueError, match="only the sum"):
        getattr(kind(VALUE), ask)(*[jnp.ones(2)] * arguments)


@pytest.mark.parametrize("kind", [Whole, Statistic])
@pytest.mark.parametrize("ask", ["inner", "gram"])
@pytest.mark.parametrize(
    "other",
    [
        Outer(jnp.ones((2, 2)), jnp.ones((2, 3))),
        Outer(jnp.ones((2, 9, 2)), jnp.ones((2, 9, 3))),
        Each(jnp.ones((2, 2, 3)), 2),
        Rows(jnp.zeros(2, int), jnp.ones((2, 3)), 2),
    ],
    ids=lambda factor: type(factor).__name__,
)
def test_it_has_no_inner_product_from_the_other_side_either(kind, ask, other):
    with pytest.raises(ValueError, match="only the sum"):
        getattr(other, ask)(kind(VALUE))
