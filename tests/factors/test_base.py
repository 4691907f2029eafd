"""What the base class derives from `total` and `scaled`, slices, and the functions over trees of factors."""

from __future__ import annotations

from typing import NamedTuple

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp import factors
from jaxbp.factors import Conv, Each, Factor, Outer, Rows, Sum, factor
from jaxbp.factors.base import columns
from jaxbp.windows import Window


@factor
class Plain(Factor):
    """A type that knows nothing but the two primitives: g_b = a_b b_b^T."""

    a: jax.Array
    b: jax.Array

    def total(self, dtype=None):
        return (self.a.T @ self.b).astype(dtype or self.b.dtype)

    def scaled(self, c):
        return Plain(self.a, columns(c, self.b))


def plain(batch: int, key: int = 0) -> tuple[Plain, np.ndarray]:
    a, b = brute.random(key, batch, 3), brute.random(key + 1, batch, 4)
    return Plain(jnp.asarray(a), jnp.asarray(b)), brute.outer(a, b)


@pytest.mark.parametrize("batch", [1, 8, 9, 16, 27])  # around the chunks of 8
def test_all_follows_from_two_primitives(batch):
    brute.check(*plain(batch), *plain(batch, key=2))


def test_a_type_of_one_s_own_meets_the_others():
    f, g = plain(9)
    h = Outer(f.a, f.b)
    brute.check(f, g, h, g)
    brute.check(Sum((f, h)), 2 * g)


def every_type(batch: int) -> list[Factor]:
    a = lambda key, *shape: jnp.asarray(brute.random(key, batch, *shape))
    window = Window((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
    rows = Rows(jnp.asarray(np.random.default_rng(0).integers(-1, 5, size=(batch, 3))), a(0, 3, 2), 4)
    outer = Outer(a(1, 2, 4), a(2, 2, 2))
    return [
        outer,
        Outer(a(1, 4), a(2, 2)),
        Each(a(3, 5, 2)),
        rows,
        Sum((rows, outer)),
        Conv(a(4, 3, 3, 2), a(5, 2, 2, 3), window),
    ]


@jax.jit
def _asked(f: Factor, part: Factor) -> tuple:
    return f.examples(), f.sq_norms(), f.gram(), part.examples(), part.sq_norms(), part.total(), f.gram(part)


@pytest.mark.parametrize("f", every_type(10), ids=lambda f: type(f).__name__)
def test_a_factor_is_a_batch(f):
    """Leaves lead with the batch axis, so that slices and permutations of it are factors of those examples."""
    chosen = np.asarray([7, 0, 3])
    part = jax.tree.map(lambda a: a[chosen], f)
    assert part.batch == 3
    close = lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    examples, norms, gram, *of_part = _asked(f, part)
    for got, wanted in zip(of_part, (examples[chosen], norms[chosen], examples[chosen].sum(0), gram[:, chosen]), strict=True):
        close(got, wanted)


@pytest.mark.parametrize("f", every_type(3), ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32], ids=lambda dtype: dtype.__name__)
def test_reductions_are_in_float32_and_totals_in_the_dtype_of_the_cotangent(f, dtype):
    f = jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, f)
    assert f.total().dtype == f.dtype == dtype
    assert f.total(jnp.float64).dtype == jnp.float64
    v = jnp.ones(f.total().shape, dtype)
    asked = (f.examples(), f.sq_norms(), f.inner(f), f.dot(v), f.second_moment(), f.gram())
    assert {a.dtype for a in asked} == {jnp.dtype(jnp.float32)}
    assert f.scaled(jnp.ones(3, dtype)).total().dtype == dtype
    assert f.scaled(jnp.ones(3, jnp.float32)).dtype == jnp.float32


def moved(f: Factor, h: float) -> Factor:
    return jax.tree.map(lambda a: a + h if jnp.issubdtype(a.dtype, jnp.floating) else a, f)


@pytest.mark.parametrize("f", every_type(9), ids=lambda f: type(f).__name__)
def test_every_reducer_has_a_tangent(f):
    """As Hessian-vector products and penalties on gradients need it; against central differences."""
    ask = lambda h: (lambda f: (f.total(), f.sq_norms(), f.second_moment(), f.gram()))(moved(f, h))
    tangents = jax.jit(lambda: jax.jvp(ask, (0.0,), (1.0,))[1])()
    for tangent, up, down in zip(tangents, *(jax.jit(ask)(h) for h in (1e-4, -1e-4)), strict=True):
        difference = (up - down) / 2e-4
        np.testing.assert_allclose(tangent, difference, rtol=1e-5, atol=1e-5 * float(jnp.max(jnp.abs(difference))))


# --- trees of factors


class Params(NamedTuple):
    w: jax.Array
    b: jax.Array


PARAMS = Params(jnp.ones((2, 3), jnp.bfloat16), jnp.ones(3, jnp.bfloat16))
FOUND = Params(Outer(jnp.ones((4, 2)), jnp.ones((4, 3))), Each(jnp.ones((4, 3))))  # type: ignore[arg-type]


def test_total_is_in_the_dtype_of_the_params_or_the_one_asked_for():
    assert [leaf.dtype for leaf in factors.total(PARAMS, FOUND)] == [jnp.bfloat16] * 2
    assert [leaf.dtype for leaf in factors.total(PARAMS, FOUND, jnp.float32)] == [jnp.float32] * 2
    assert factors.total(PARAMS, FOUND).w.tolist() == [[4.0] * 3] * 2


def test_total_refuses_what_is_no_gradient_of_the_params():
    with pytest.raises(TypeError, match=r"backward returned .* for params\.b, expected a Factor"):
        factors.total(PARAMS, FOUND._replace(b=jnp.ones(3)))
    with pytest.raises(ValueError, match=r"Outer for params\.w has total \[3, 2\], the parameter \[2, 3\]"):
        factors.total(PARAMS, FOUND._replace(w=FOUND.w.T))
    with pytest.raises(ValueError):
        factors.total(PARAMS, (FOUND.w,))


def test_per_leaf():
    norms = factors.per_leaf(Factor.sq_norms, FOUND)
    assert isinstance(norms, Params)
    assert norms.w.tolist() == [6.0] * 4
    assert norms.b.tolist() == [3.0] * 4


def test_factors_are_trees_that_keep_their_configuration():
    f = Rows(jnp.zeros((2, 1), int), jnp.ones((2, 1, 3)), size=5)
    leaves, tree = jax.tree.flatten(f)
    assert len(leaves) == 2
    assert jax.tree.unflatten(tree, leaves).size == 5
    with pytest.raises((AttributeError, TypeError)):
        f.size = 6
