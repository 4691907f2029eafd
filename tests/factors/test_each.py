"""Each: a small parameter with one cotangent an example."""

from __future__ import annotations

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp.factors import Each, Outer


def truth(f: Each) -> np.ndarray:
    shape = f.value.shape[f.value.ndim - f.ndim :]
    return np.asarray(f.value).reshape(f.batch, -1, *shape).sum(1)


@pytest.mark.parametrize("batch", [1, 17])
@pytest.mark.parametrize(
    ("time", "shape"), [((), (3,)), ((4,), (3,)), ((2, 3), (1,)), ((2,), (3, 2)), ((), ()), ((5,), ())], ids=str
)
def test_every_answer(batch, time, shape):
    f = Each(jnp.asarray(brute.random(0, batch, *time, *shape)), len(shape))
    g = Each(jnp.asarray(brute.random(1, batch, *shape)), len(shape))
    brute.check(f, truth(f), g, truth(g))


def test_against_an_outer_of_the_same_parameter():
    f = Each(jnp.asarray(brute.random(0, 9, 4, 3)), 2)
    g = Outer(jnp.asarray(brute.random(1, 9, 2, 4)), jnp.asarray(brute.random(2, 9, 2, 3)))
    brute.check_pair(f, truth(f), g, brute.outer(g.x, g.y_bar))


def test_bfloat16_is_summed_in_float32():
    f = Each(jnp.ones((7, 143, 2), jnp.bfloat16))  # bfloat16 counts to 256
    assert f.total(jnp.float32).tolist() == [1001.0] * 2
    assert f.total().dtype == jnp.bfloat16
    assert f.examples().tolist() == [[143.0] * 2] * 7
    assert f.dot(jnp.ones(2, jnp.bfloat16)).tolist() == [286.0] * 7


def test_made_under_vmap_and_reduced_inside():
    values = jnp.asarray(brute.random(0, 3, 9, 4, 2))
    reduce = lambda v: (lambda f: (f.total(), f.sq_norms(), f.second_moment(), f.gram()))(Each(v))
    lanes = jax.vmap(reduce)(values)
    for lane in range(3):
        for got, wanted in zip(lanes, reduce(values[lane]), strict=True):
            np.testing.assert_allclose(got[lane], wanted, rtol=1e-12, atol=1e-12)
