"""explain: one weight factor by factor, partial against total derivatives; explicit enumeration is backpropagation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxbp.graph import adjoints, explain


rng = np.random.default_rng(0)
MAZUR = {
    "w1": [[0.15, 0.2], [0.25, 0.3]],
    "b1": [0.35, 0.35],
    "w2": [[0.4, 0.45], [0.5, 0.55]],
    "b2": [0.6, 0.6],
    "x": [0.05, 0.1],
    "t": [0.01, 0.99],
}


def mazur(w1, b1, w2, b2, x, t):
    h = jax.nn.sigmoid(w1 @ x + b1)
    z = w2 @ h + b2
    o = jax.nn.sigmoid(z)
    return 0.5 * jnp.sum((o - t) ** 2)


def mazur_args():
    return [jnp.asarray(value) for value in MAZUR.values()]


def test_one_weight_factor_by_factor():
    told = explain(mazur, "w2", (0, 0))(*mazur_args())
    (route,) = told.paths
    np.testing.assert_allclose([f for _, f in route.by_line()], [0.74136507, 0.186815602, 0.593269992], rtol=1e-8)
    assert told.total == pytest.approx(0.08216704056423077, rel=1e-14)
    assert "0.74136507 · 0.186815602 · 0.593269992 = 0.0821670406" in str(told)


def test_the_sum_over_all_paths_is_the_gradient():
    args = mazur_args()
    grads = adjoints(mazur)(*args).grads
    np.testing.assert_allclose(
        grads[0], [[0.000438567734474, 0.000877135468949], [0.000497712735260, 0.000995425470522]], rtol=1e-9
    )
    np.testing.assert_allclose(grads[2], [[0.082167040564, 0.082667627848], [-0.022602540477, -0.022740242216]], rtol=1e-9)
    for index in np.ndindex(2, 2):
        told = explain(mazur, "w1", index)(*args)
        assert told.count == 2
        np.testing.assert_allclose(sum(route.product for route in told.paths), grads[0][index], rtol=1e-13)


def net(weights, x):
    for w in weights:
        x = jax.nn.sigmoid(x @ w)
    return 0.5 * jnp.sum(x**2)


@pytest.mark.parametrize(("sizes", "count"), [((784, 30, 10), 10), ((784, 30, 30, 10), 300), ((784, 30, 30, 30, 10), 9000)])
def test_path_counts(sizes, count):
    weights = [jnp.asarray(rng.normal(size=(n, m)) / n**0.5) for n, m in itertools.pairwise(sizes)]
    x = jnp.asarray(rng.uniform(0.1, 1.0, size=784))
    told = explain(net, "weights[0]", (5, 7))(weights, x)
    assert told.count == count
    np.testing.assert_allclose(told.total, jax.grad(net)(weights, x)[0][5, 7], rtol=1e-10)
    if count > 64:
        assert f"over {count:,} paths" in str(told)
        with pytest.raises(ValueError, match=f"{count:,} paths lead from"):
            _ = told.paths
    else:
        np.testing.assert_allclose(sum(route.product for route in told.paths), told.total, rtol=1e-13)


def test_partial_is_not_total():
    def f(a):
        b1 = checkpoint_name(2 * a, "b1")
        b2 = checkpoint_name(3 * a + b1, "b2")
        return 4 * b1 + 5 * b2

    told = explain(f, "a")(1.0)
    found = {(d.of, d.by): (d.partial, d.total) for d in told.derivatives}
    assert found["b2", "a"] == (3.0, 5.0)
    assert found["output", "b1"] == (4.0, 9.0)
    assert found["output", "b2"] == (5.0, 5.0)
    assert found["output", "a"] == (0.0, 33.0)
    assert sorted(route.product for route in told.paths) == [8.0, 10.0, 15.0]
    assert "d b2 / d a" in str(told)


def test_a_value_used_twice_by_one_equation_has_one_edge():
    told = explain(lambda a: a * a)(3.0)
    assert (told.total, told.count) == (6.0, 1)


@jax.custom_vjp
def doubled(x):
    return x * 1.0


doubled.defvjp(lambda x: (x * 1.0, None), lambda _, y_bar: (2.0 * y_bar,))


def test_through_loops_branches_and_rules():
    def loss(x):
        carry, ys = lax.scan(lambda c, row: (c * row[0] + row[1], c * row[1]), 1.0, x)
        picked = lax.cond(carry > 0.0, jnp.sin, jnp.cos, carry)
        return picked + jnp.sum(doubled(ys)) + jnp.sum(jax.nn.relu(x - 0.5)) + (x[0, 0] > 0.0).astype(x.dtype)

    x = jnp.asarray(rng.uniform(0.4, 1.0, size=(3, 2)))
    true = jax.grad(loss)(x)
    for index in ((0, 0), (1, 1)):
        told = explain(loss, 0, index, most=100)(x)
        np.testing.assert_allclose(told.total, true[index], rtol=1e-12)
        np.testing.assert_allclose(sum(route.product for route in told.paths), told.total, rtol=1e-12)
        assert told.count == len(told.paths) > 1


def test_an_entry_without_a_path():
    told = explain(lambda x: x[0] * 2.0, "x", (1,))(jnp.ones(2))
    assert (told.total, told.count, told.paths) == (0.0, 0, ())


def test_bad_input():
    with pytest.raises(TypeError, match=r"test_paths.py:\d+ is complex"):
        explain(lambda x: jnp.real(jnp.exp(1j * x)))(1.0)
    with pytest.raises(KeyError, match="no argument 'w'; the leaves are x"):
        explain(jnp.cos, "w")(1.0)
    with pytest.raises(IndexError, match="index \\(2,\\) for a of shape \\(2,\\)"):
        explain(jnp.sum, 0, (2,))(jnp.ones(2))
    with pytest.raises(KeyError, match="argument 0 is no array; the leaves are p\\['u'\\], p\\['v'\\]"):
        explain(lambda p: p["u"] * p["v"], 0)({"u": 1.0, "v": 2.0})
    with pytest.raises(ValueError, match="a scalar was expected"):
        explain(jnp.sin)(jnp.ones(2))
    with pytest.raises(TypeError, match="needs a floating-point argument"):
        explain(lambda n: n)(3)
