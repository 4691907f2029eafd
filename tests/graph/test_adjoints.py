"""adjoints: every value's adjoint is its derivative, through loops, branches and rules; the scalar graphs of the texts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxbp.graph import adjoints
from jaxbp.graph.reverse import CUSTOM, OWN, VJP


rng = np.random.default_rng(0)
X, W = rng.normal(size=(3, 4)), rng.normal(size=(4, 4))


def recurrent(x, w):
    def step(h, row):
        h = jnp.tanh(row + h @ w)
        return h, h * row

    h, ys = lax.scan(step, jnp.zeros(4), x, reverse=True)
    return jnp.sum(h) + jnp.sum(ys**2)


def branches(x, w):
    y = lax.cond(x[0, 0] > 100.0, lambda x: x * 2.0, lambda x: x @ w, x)
    y = lax.fori_loop(0, 3, lambda i, y: y * 0.5 + jnp.sin(y), y)
    return jnp.sum(jax.checkpoint(jnp.exp)(y))


def shapes(x, w):
    y = jnp.concatenate([x[::2], jnp.transpose(w)[1:3]]).reshape(2, 2, 4)
    z = jnp.einsum("bij,jk,bmk->mib", y, w, y)
    return jnp.sum(jnp.max(z, axis=0) * jnp.min(z, axis=1)) + jnp.sum(jnp.squeeze(y[:1], 0) - y[1])


def entries(x, w):
    y = jnp.sqrt(x**2 + 1.0) / (1.0 + jnp.square(jnp.cos(x))) - jnp.abs(x)
    y = y * jnp.log1p(jnp.exp(x)) + jnp.expm1(-jnp.abs(x)) * jax.nn.sigmoid(x) + lax.rsqrt(jnp.log(2.0 + x**2))
    y = jnp.maximum(y, x) + jnp.minimum(y, 0.3) + jnp.where(x > 0.0, y, -x) + jnp.floor(x) * x
    return jnp.sum(y[:, :, None] * w[None], axis=(0, 2)) @ jnp.cumsum(lax.erf(w[0]) * w[1] ** 3)


def rules(x, w):
    return jnp.sum(jax.nn.relu(x @ w) * jax.nn.softplus(x) + jax.nn.silu(x)) + jax.nn.logsumexp(w)


@jax.custom_vjp
def tripled(x, n):
    return x * 1.0


tripled.defvjp(lambda x, n: (x * 1.0, (x, n)), lambda kept, y_bar: (3.0 * y_bar * jnp.ones_like(kept[0]), None))


def claimed(x, w):
    return jnp.sum(tripled(x, 2) ** 2) + jnp.sum(tripled(w, 3))


@pytest.mark.parametrize("fun", [recurrent, branches, shapes, entries, rules, claimed])
def test_gradients_are_those_of_autodiff(fun):
    x, w = jnp.asarray(X), jnp.asarray(W)
    graph = adjoints(fun)(x, w)
    value, grads = jax.value_and_grad(fun, argnums=(0, 1))(x, w)
    np.testing.assert_allclose(graph.value, value, rtol=1e-13)
    for got, true in zip(graph.grads, grads, strict=True):
        np.testing.assert_allclose(got, true, rtol=1e-11, atol=1e-13)


def test_an_adjoint_is_the_derivative_by_a_zero_added_to_the_value():
    """Every intermediate of a loop: h of iteration i, by autodiff through a perturbation of that iteration."""
    x, w = jnp.asarray(X), jnp.asarray(W)

    def pushed(zeros):
        h, total = jnp.zeros(4), 0.0
        for i in (2, 1, 0):
            h = jnp.tanh(x[i] + h @ w) + zeros[i]
            total += jnp.sum((h * x[i]) ** 2)
        return jnp.sum(h) + total

    true = jax.grad(pushed)(jnp.zeros((3, 4)))
    nodes = adjoints(recurrent)(x, w).named("tanh")
    assert [node.turns for node in nodes] == [(2,), (1,), (0,)]
    for node in nodes:
        np.testing.assert_allclose(node.adjoint, true[node.turns[0]], rtol=1e-12)
        assert node.path[-1].startswith("scan body")


def test_how_an_adjoint_went_on_is_labelled():
    graph = adjoints(lambda x: jnp.sum(jnp.tanh(x) * lax.erf(x) * jax.nn.relu(x)))(jnp.asarray(X))
    assert graph.named("tanh")[0].how == OWN
    assert graph.named("erf")[0].how == VJP
    assert graph.named("relu")[0].how == CUSTOM
    assert any(node.opened for node in graph)


def test_a_node_knows_its_line_and_its_numbers():
    graph = adjoints(lambda x: jnp.sum(jnp.maximum(x, 0.0) * 2.0))(jnp.asarray([-1.0, 0.5, 2.0]))
    (node,) = graph.named("max")
    assert node.place.endswith(".py:" + node.place.rpartition(":")[2])
    assert node in graph.at("test_adjoints.py:" + node.place.rpartition(":")[2])
    assert node.value_statistics == (0.0, 2.0, pytest.approx(2.5 / 3), 1, 0)
    assert node.adjoint_statistics == (2.0, 2.0, 2.0, 0, 0)
    (argument,) = graph.named("x")
    assert argument.adjoint_statistics.zeros == 1
    assert "test_adjoints.py" in str(graph)
    assert "<table>" in graph.to_html()


def test_keys_travel_through_loops():
    def dropped(x, key):
        def step(c, key):
            return c * jnp.where(jax.random.bernoulli(key, 0.5, (3, 4)), x, 0.0 * x) + x, None

        return jnp.sum(lax.scan(step, x, jax.random.split(key, 2))[0])

    x, key = jnp.asarray(X), jax.random.key(0)
    graph = adjoints(dropped)(x, key)
    np.testing.assert_allclose(graph.grads[0], jax.grad(dropped)(x, key), rtol=1e-13)
    assert graph.grads[1] is None
    assert "key" in str(graph)


def test_adjoints_add_where_a_value_is_used_twice():
    assert adjoints(lambda a: a + a)(3.0).grads == (2.0,)


def test_hu_and_barak():
    def f(a):
        b1 = checkpoint_name(2 * a, "b1")
        b2 = checkpoint_name(3 * a + b1, "b2")
        return 4 * b1 + 5 * b2

    graph = adjoints(f)(1.0)
    assert [float(graph.named(name)[0].adjoint) for name in ("a", "b1", "b2")] == [33.0, 9.0, 5.0]


def test_micrograd_readme():
    def g(a, b):
        c = a + b
        d = a * b + b**3
        c = c + c + 1
        c = c + 1 + c + (-a)
        d = d + d * 2 + jax.nn.relu(b + a)
        d = d + 3 * d + jax.nn.relu(b - a)
        e = c - d
        f = e**2
        return f / 2.0 + 10.0 / f

    graph = adjoints(g)(-4.0, 2.0)
    np.testing.assert_allclose(graph.value, 24.70408163265306, rtol=1e-14)
    np.testing.assert_allclose(graph.grads, (138.83381924198252, 645.5772594752186), rtol=1e-14)


def test_the_matrix_form_is_the_scalar_graph():
    """One net, an entry at a time and as matrices."""
    w, x = [[0.3, -0.2], [0.5, 0.7]], [0.4, -1.1]

    def scalars(w, x):
        hidden = [jnp.tanh(sum(w[i][j] * x[i] for i in range(2))) for j in range(2)]
        return hidden[0] ** 2 + hidden[1] ** 2

    by_entry = adjoints(scalars)(w, x).grads
    by_matrix = adjoints(lambda w, x: jnp.sum(jnp.tanh(x @ w) ** 2))(jnp.asarray(w), jnp.asarray(x)).grads
    for a, b in zip(by_entry, by_matrix, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-14)


def test_a_while_loop_whose_turns_only_the_run_knows():
    def halved(x):
        return lax.while_loop(lambda x: x > 1.0, lambda x: x * 0.5, x)

    assert adjoints(halved)(12.0).grads == (0.0625,)
    lanes = adjoints(lambda x: jnp.sum(jax.vmap(halved)(x)))(jnp.asarray([12.0, 0.5]))
    np.testing.assert_array_equal(lanes.grads[0], [0.0625, 1.0])


def test_a_chosen_cotangent():
    x = jnp.asarray(X)
    graph = adjoints(lambda x: (jnp.sin(x), x[0]), cotangent=(2.0 * x, None))(x)
    np.testing.assert_allclose(graph.grads[0], 2.0 * X * np.cos(X), rtol=1e-13)
    np.testing.assert_array_equal(graph.nodes[graph.outputs[0]].adjoint, 2.0 * X)


def test_leaves_that_nothing_depends_on_and_integers():
    graph = adjoints(lambda p: p["x"] * p["n"])({"x": 2.0, "n": 3, "unused": jnp.ones(2)})
    assert graph.grads[0]["x"] == 3.0
    assert graph.grads[0]["n"] is None
    np.testing.assert_array_equal(graph.grads[0]["unused"], np.zeros(2))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_adjoints_have_the_dtype_of_their_values(dtype):
    graph = adjoints(lambda x: jnp.sum(jnp.tanh(x @ x) * 2))(jnp.asarray(W, dtype))
    for node in graph:
        assert node.adjoint is None or node.adjoint.dtype == node.value.dtype


def test_bad_input():
    with pytest.raises(TypeError, match="needs a floating-point argument"):
        adjoints(lambda n: n * 2)(3)
    with pytest.raises(ValueError, match=r"float64\[2\].* a scalar was expected; choose cotangent="):
        adjoints(lambda x: x * 2)(jnp.ones(2))
    with pytest.raises(ValueError, match="cotangent of shape"):
        adjoints(lambda x: x * 2, cotangent=jnp.ones(3))(jnp.ones(2))
    with pytest.raises(ValueError, match="cotangent has the structure"):
        adjoints(lambda x: x * 2, cotangent=(jnp.ones(2),))(jnp.ones(2))
    with pytest.raises(TypeError, match="has no derivative"):
        adjoints(lambda x: jnp.argmax(x))(jnp.ones(2))
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda x: adjoints(jnp.sum)(x).grads)(jnp.ones(2))
    with pytest.raises(KeyError, match="no node is named 'y'; there are a"):
        adjoints(jnp.sum)(jnp.ones(2)).named("y")
