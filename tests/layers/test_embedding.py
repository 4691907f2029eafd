"""embedding and tied_embedding: ids outside, cotangents of repeated ids, no dense table on the way, bad input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp
from jaxbp import factors
from jaxbp.layers.embedding import Embedding


KEY = jax.random.key(0)
SPEC = jax.ShapeDtypeStruct((4,), jnp.int32)
TABLE = jnp.arange(10.0).reshape(5, 2)


def shapes(jaxpr):
    """The shapes of all intermediates of a jaxpr, those inside jit, scan and the like too."""
    for eqn in jaxpr.eqns:
        yield from (v.aval.shape for v in eqn.outvars)
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from shapes(inner)


def test_rows_of_the_table_and_nan_outside_it():
    """JAX reads -1 as the last row and a number too large as the last row too; both are an error here."""
    layer, ids = bp.embedding(5, 2), jnp.array([[0, 4, 2], [-1, 5, 1]])
    y, _ = layer.forward(Embedding(TABLE), ids)
    np.testing.assert_array_equal(y[0], TABLE[jnp.array([0, 4, 2])])
    assert np.isnan(y).all(-1).tolist() == [[False, False, False], [True, True, False]]
    assert not np.isnan(TABLE[ids]).any()


@pytest.mark.parametrize(
    ("dtype", "vocabulary", "outside"),
    [
        (jnp.int8, 1000, [-1, -128]),
        (jnp.uint8, 200, [200, 255]),
        (jnp.uint8, 256, []),
        (jnp.int16, 40_000, [-5]),
        (jnp.uint32, 7, [7]),
    ],
)
def test_narrow_ids(dtype, vocabulary, outside):
    """The number of rows need not fit the dtype of the ids."""
    layer = bp.embedding(vocabulary, 3)
    params, _ = layer.init(KEY, jax.ShapeDtypeStruct((), dtype))
    ids = jnp.array([0, 5, *outside], dtype)

    @jax.jit
    def run(params, ids):
        y, residuals = layer.forward(params, ids)
        table = layer.backward(params, residuals, jnp.ones_like(y))[0].table
        return y, residuals, jnp.sum(table.total()), table.sq_norms()

    y, residuals, entries, sq_norms = run(params, ids)
    assert residuals.dtype == dtype
    np.testing.assert_array_equal(y[:2], np.asarray(params.table)[[0, 5]])
    assert np.isnan(y[2:]).all()
    assert float(entries) == 6  # 2 ids of 3 features: what lies outside adds nothing
    assert sq_norms.tolist() == [3, 3] + [0] * len(outside)


def test_cotangent_of_repeated_ids():
    layer, ids = bp.embedding(5, 2), jnp.array([[1, 1, 3], [3, -1, 7]])
    y_bar = jnp.arange(12.0).reshape(2, 3, 2)
    _, residuals = layer.forward(Embedding(TABLE), ids)
    found, x_bar = layer.backward(Embedding(TABLE), residuals, y_bar)
    by_hand = np.zeros((5, 2))
    for i, row in zip([1, 1, 3, 3], [[0, 1], [2, 3], [4, 5], [6, 7]], strict=True):
        by_hand[i] += row
    np.testing.assert_array_equal(found.table.total(), by_hand)
    np.testing.assert_array_equal(found.table.add_to(TABLE), TABLE + by_hand)
    assert x_bar is None


def test_no_dense_table_before_a_total():
    layer = bp.embedding(1009, 3)
    params, _ = layer.init(KEY, SPEC)
    ids, y_bar = jnp.zeros((2, 4), jnp.int32), jnp.ones((2, 4, 3), jnp.float32)

    def backward(params, ids, y_bar):
        _, residuals = layer.forward(params, ids)
        return layer.backward(params, residuals, y_bar)[0].table

    dense = lambda fun: (1009, 3) in set(shapes(jax.make_jaxpr(fun)(params, ids, y_bar).jaxpr))
    assert not dense(backward)
    assert not dense(lambda *a: backward(*a).sq_norms())
    assert not dense(lambda *a: backward(*a).dot(a[0].table))
    assert dense(lambda *a: backward(*a).total())
    assert dense(lambda p, ids, y_bar: jax.vjp(lambda p: layer.forward(p, ids)[0], p)[1](y_bar))


def test_ids_outside_are_named_at_the_outer_door():
    params, net = Embedding(TABLE), bp.serial(bp.embedding(5, 2), bp.dense(1))
    net_params, _ = net.init(KEY, SPEC)
    for ids, says in (
        ([[0, 1, 2, -3]], r"got -3 at index \[0, 3\], the first of 1;"),
        ([[0] * 4, [4, 5, 9, 1]], r"got 5 at index \[1, 1\], the first of 2;"),
    ):
        with pytest.raises(ValueError, match=says):
            bp.embedding(5, 2)(params, jnp.array(ids))
        with pytest.raises(ValueError, match=r"embedding: ids lie in \[0, 5\)"):
            net(net_params, jnp.array(ids))
    # inside a trace values cannot be seen: there the row is NaN
    assert np.isnan(jax.jit(bp.embedding(5, 2))(params, jnp.array([[5]]))).all()


def test_ids_are_integers():
    layer = bp.embedding(5, 2)
    with pytest.raises(TypeError, match=r"integer ids, got float32\[4\].*jax.ShapeDtypeStruct\(\(4,\), jnp.int32\)"):
        layer.init(KEY, (4,))
    with pytest.raises(TypeError, match="integer ids"):
        bp.serial(layer, bp.dense(1)).init(KEY, (4,))
    with pytest.raises(TypeError, match="integer ids, got bool"):
        layer(Embedding(TABLE), jnp.ones((2, 3), bool))
    with pytest.raises(TypeError, match=r"ids.astype\(jnp.int32\)"):
        layer(Embedding(TABLE), jnp.ones((2, 3)))
    example = jnp.array([[1, 2, 3]])[0]  # an example of the data is a spec
    assert layer.init(KEY, example)[1].shape == (3, 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", jnp.float16, jnp.dtype("float64")])
def test_dtype_is_that_of_the_table(dtype):
    for net in (bp.embedding(5, 2, dtype=dtype), bp.tied_embedding(5, 2, bp.dense(2), dtype=dtype)):
        params, spec = net.init(KEY, SPEC)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)} == {spec.dtype}
        assert net(params, jnp.zeros((1, 4), jnp.int32)).dtype == jnp.dtype(dtype)


def test_default_tables():
    """N(0, 1) rows; tied N(0, 1/features), so that logits of a unit-variance h have unit variance."""
    plain, _ = bp.embedding(400, 64).init(KEY, SPEC)
    tied, _ = bp.tied_embedding(400, 64, bp.dense(64)).init(KEY, SPEC)
    assert float(jnp.std(plain.table)) == pytest.approx(1, rel=0.02)
    assert float(jnp.std(tied.table)) == pytest.approx(1 / 8, rel=0.02)


def test_numpy_params_and_ids():
    layer = bp.embedding(5, 2)
    y = layer(Embedding(np.asarray(TABLE)), np.array([[4, 0]]))
    np.testing.assert_array_equal(y, TABLE[jnp.array([[4, 0]])])


# --- tied_embedding


def test_tied_logits_and_the_two_uses_of_the_table():
    """The table's cotangent is that of the look-up plus that of the logits, each by autodiff on its own."""
    net = bp.tied_embedding(5, 2, bp.dense(2))
    params, spec = net.init(KEY, SPEC)
    assert spec.shape == (4, 5)
    ids = jnp.array([[0, 1, 1, 4], [2, 2, 0, 3]])

    def logits(read, write):
        rows, _ = bp.embedding(5, 2).forward(Embedding(read), ids)
        return bp.dense(2).forward(params.body, rows)[0] @ write.T

    @jax.jit
    def both():
        y, residuals = net.forward(params, ids)
        table = net.backward(params, residuals, jnp.sin(5 * y))[0].table
        auto, vjp = jax.vjp(logits, params.table, params.table)
        parts = [(part.total(), part.sq_norms()) for part in table.parts]
        return (y, auto), (table.total(), table.sq_norms()), parts, vjp(jnp.sin(5 * auto))

    (y, auto), (total, sq_norms), ((by_outer, outer_norms), (by_rows, rows_norms)), (read, write) = both()
    for got, want in ((y, auto), (by_outer, write), (by_rows, read), (total, read + write)):
        np.testing.assert_allclose(got, want, atol=1e-6)
    assert np.abs(sq_norms - outer_norms - rows_norms).min() > 1e-3  # cross terms: the norms alone do not add up


def test_tied_embedding_takes_its_traits_and_key_from_the_body():
    net = bp.tied_embedding(5, 4, bp.dropout(0.5))
    params, _ = net.init(KEY, SPEC)
    assert net.traits == {"key"}
    ids = jnp.zeros((3, 4), jnp.int32)
    one, other = (net(params, ids, train=True, key=jax.random.key(i)) for i in (1, 2))
    assert not np.array_equal(one, other)
    with pytest.raises(ValueError, match="pass key="):
        net(params, ids, train=True)


def test_hessian_vector_product_of_tied_weights():
    net = bp.tied_embedding(5, 3, bp.dense(3))
    params, _ = bp.tied_embedding(5, 3, bp.dense(3), dtype="float64").init(KEY, SPEC)
    ids, v = (
        jnp.array([[0, 1, 1, 4]]),
        jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params),
    )

    def grad(params):
        y, residuals = net.forward(params, ids)
        return factors.total(params, net.backward(params, residuals, jnp.sin(y))[0])

    value = lambda params: -jnp.sum(jnp.cos(net.forward(params, ids)[0]))
    hand, auto = (jax.jit(lambda p, v, f=f: jax.jvp(f, (p,), (v,))[1])(params, v) for f in (grad, jax.grad(value)))
    for got, want in zip(jax.tree.leaves(hand), jax.tree.leaves(auto), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12 * np.abs(want).max())


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: bp.embedding(0, 2), ValueError, "vocabulary has to be positive"),
        (lambda: bp.embedding(5, -1), ValueError, "features has to be positive"),
        (lambda: bp.embedding(5.5, 2), TypeError, "whole number"),
        (lambda: bp.embedding(5, 2, dtype="int32"), TypeError, "floating"),
        (lambda: bp.embedding(5, 2, dtype="floaty"), TypeError, "floaty"),
        (lambda: bp.tied_embedding(5, 2, "body"), TypeError, "body is a layer, got 'body'$"),
        (lambda: bp.tied_embedding(5, 2, bp.flatten), TypeError, "call its constructor first"),
        (lambda: bp.tied_embedding(5, 2, bp.dense(3)).init(KEY, SPEC), ValueError, "has to end with 2 features"),
        (lambda: bp.tied_embedding(5, 2, bp.dense(2)).init(KEY, (4,)), TypeError, "tied_embedding: takes integer ids"),
        (lambda: bp.tied_embedding(5, 2, bp.dense(2)).init(3, SPEC), TypeError, "PRNG key"),
        (lambda: bp.embedding(5, 2)(Embedding(TABLE[:4]), jnp.zeros((1, 2), jnp.int32)), ValueError, "should be"),
    ],
)
def test_bad_input(build, error, says):
    with pytest.raises(error, match=says):
        build()
