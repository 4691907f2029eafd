"""One gradient by every way: they agree, take the passes that they say, and refuse what they cannot do."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxbp
from jaxbp import routes


LOSS = jaxbp.losses.softmax_cross_entropy()
NET = jaxbp.mlp([3, 4, 3, 2], hidden=jaxbp.tanh())
EXACT = {"manual": 1e-13, "autodiff": 1e-13, "forward": 1e-13, "complex": 1e-13, "per-example": 1e-13, "paths": 1e-13}
ROUGH = {"central": 1e-8, "one-sided": 3e-6}


def batch(rows=5, features=3, classes=2):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(rows, features))), jnp.asarray(rng.integers(0, classes, rows))


def drawn(net, features=3):
    params, _ = net.init(jax.random.key(1), jax.ShapeDtypeStruct((features,), jnp.float64))
    return jax.tree.map(lambda p: p + 0.1, params)  # biases too


def quadratic(params, x):
    return jnp.mean(jnp.tanh(x @ params["w"] + params["b"]) ** 2)


PLAIN = {"w": jnp.array([0.5, -1.0]), "b": jnp.array(0.1)}, jnp.array([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]])


@pytest.fixture(scope="module")
def found():
    return routes.compare(routes.of_net(NET, LOSS))(drawn(NET), *batch())


@pytest.mark.parametrize("by", routes.WAYS)
def test_all_ways_agree_on_a_net(found, by):
    assert found[by].error <= (EXACT | ROUGH)[by], found[by].why_not


def test_the_passes_are_those_of_the_texts(found):
    parameters, rows = found.parameters, 5
    assert parameters == 39
    expected = {
        "manual": routes.Passes(forwards=1, vjps=1),
        "autodiff": routes.Passes(forwards=1, vjps=1),
        "forward": routes.Passes(jvps=parameters),
        "one-sided": routes.Passes(forwards=parameters + 1),
        "central": routes.Passes(forwards=2 * parameters),
        "complex": routes.Passes(forwards=parameters),
        "per-example": routes.Passes(forwards=rows, vjps=rows),
        "paths": routes.Passes(forwards=1, paths=6 * 16 + 2 * 15 + 8),
    }
    assert {route.by: route.passes for route in found.routes} == expected
    assert "per-example" in str(found)
    assert "<table" in found._repr_html_()


COUNTED = {"forwards": 0, "jvps": 0, "vjps": 0}


def tick(name, _):
    COUNTED[name] += 1


@jax.custom_vjp
def counted(x):
    jax.debug.callback(functools.partial(tick, "forwards"), x)
    return x


def counted_backward(_, bar):
    jax.debug.callback(functools.partial(tick, "vjps"), bar)
    return (bar,)


counted.defvjp(lambda x: (counted(x), None), counted_backward)


@jax.custom_jvp
def counted_forward(x):
    return x


@counted_forward.defjvp
def counted_forward_jvp(primals, tangents):
    jax.debug.callback(functools.partial(tick, "jvps"), tangents[0])
    return primals[0], tangents[0]


@pytest.mark.parametrize("by", ["forward", "one-sided", "central", "autodiff", "per-example"])
def test_the_passes_are_counted_where_they_happen(by):
    """A function that counts its own evaluations, tangents and cotangents, one by one."""
    COUNTED.update(dict.fromkeys(COUNTED, 0))
    count = counted_forward if by == "forward" else counted
    _, passes = jax.jit(routes.gradient(lambda params, x: count(quadratic(params, x)), by))(*PLAIN)
    jax.effects_barrier()
    assert {name: getattr(passes, name) for name in COUNTED} == COUNTED


def test_any_function_by_every_way_that_it_permits():
    told = routes.compare(quadratic)(*PLAIN)
    assert "of_net" in told["manual"].why_not
    for by in ("forward", "complex", "per-example", "paths"):
        assert told[by].error <= 1e-13
    assert told["central"].error <= 1e-8


def test_weights_penalty_and_sum_reach_every_way():
    fun = routes.of_net(NET, LOSS, penalty=jaxbp.penalties.l2(0.3), reduction="sum")
    weight = jnp.array([1.0, 0.0, 2.0, 0.5, 1.0])
    params = drawn(NET)
    truth = jax.grad(fun)(params, *batch(), sample_weight=weight)
    for by in ("manual", "per-example", "paths"):
        go = routes.gradient(fun, by)
        grads = (go if by == "paths" else jax.jit(go))(params, *batch(), sample_weight=weight).grads
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), grads, truth)


def test_a_wrong_backward_pass_is_seen():
    wrong = jaxbp.elementwise("wrong", lambda z: (jnp.tanh(z), z), lambda z, bar: bar * (1 - jnp.tanh(z)))
    net = jaxbp.serial(jaxbp.dense(4), wrong, jaxbp.dense(2))
    told = routes.compare(routes.of_net(net, LOSS), by=("manual", "forward", "central", "paths"))(drawn(net), *batch())
    assert told["manual"].error > 0.1
    assert told["paths"].error > 0.1
    assert told["forward"].error < 1e-12


def test_population_statistics_are_no_parameters():
    net = jaxbp.serial(jaxbp.dense(3), jaxbp.batch_norm(), jaxbp.dense(2))
    fun, params = routes.of_net(net, LOSS), drawn(net)
    go, grad = routes.gradient(fun, "complex"), jax.grad(fun)
    for train in (True, False):
        grads = jax.jit(functools.partial(go, train=train))(params, *batch()).grads
        truth = jax.jit(functools.partial(grad, train=train))(params, *batch())
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), grads, truth)


@pytest.mark.parametrize(("by", "best"), [("one-sided", 1e-8), ("central", 1e-5)])
def test_the_error_of_differences_is_a_valley(by, best):
    params, truth = jnp.array([0.7]), jnp.cos(0.7)
    error = lambda step: abs(float(routes.gradient(lambda p: jnp.sin(p[0]), by, step=step)(params).grads[0] - truth))
    large, at_best, small = error(best * 1e4), error(best), error(best * 1e-4)
    assert at_best < 1e-2 * large
    assert at_best < 1e-1 * small


# --- the complex step

X = jnp.array([0.3, 1.2, -0.5, 0.7, -2.0])
PROGRAMS = {
    "exponentials": lambda p: jnp.sum(jnp.expm1(p) + jnp.log1p(p**2) + jnp.tanh(p) + jax.nn.sigmoid(p)),
    "pieces": lambda p: jnp.sum(jnp.abs(p) + jnp.clip(p, -1, 1) * jax.nn.relu(p)) * jnp.max(p),
    "softmax and stop_gradient": lambda p: jax.nn.log_softmax(p)[0] + jax.nn.logsumexp(lax.stop_gradient(p) * p),
    "scan": lambda p: lax.scan(lambda c, v: (jnp.tanh(c + v), c * v), 0.5, p)[1].sum(),
    "loop": lambda p: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + i, p).sum(),
    "branch": lambda p: lax.cond(p[0] > 0, lambda q: jnp.sum(q**2), lambda q: jnp.sum(q), p),
    "convolution": lambda p: jnp.sum(jnp.convolve(p, p) ** 2),
    "gather and scatter": lambda p: jnp.sum(jnp.zeros(3).at[jnp.array([0, 1, 1, 2, 2])].add(p * p[jnp.array([0, 0, 1, 2, 3])])),
    "casts": lambda p: jnp.sum(p.astype(jnp.float32) ** 2).astype(jnp.float64),
    "a rule is opened": lambda p: jnp.sum(jax.nn.relu(p) * jax.checkpoint(jnp.sin)(p)),
    "real where p is not": lambda p: jnp.sum(p * jax.scipy.special.erf(jnp.arange(5.0))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_complex_step_is_exact_to_rounding(name):
    fun = PROGRAMS[name]
    grads, passes = jax.jit(routes.gradient(fun, "complex"))(X)
    tolerance = 1e-6 if name == "casts" else 1e-14
    np.testing.assert_allclose(grads, jax.grad(fun)(X), rtol=tolerance, atol=tolerance)
    assert passes == routes.Passes(forwards=5)


REFUSED = {
    "erf": lambda p: jnp.sum(jax.scipy.special.erf(p)),
    "cholesky": lambda p: jnp.sum(jnp.linalg.cholesky(jnp.eye(5) + jnp.outer(p, p))),
    "bfloat16": lambda p: jnp.sum(p.astype(jnp.bfloat16)).astype(jnp.float64),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_complex_step_says_where_it_does_not_apply(name):
    with pytest.raises(TypeError, match=rf"{name}.* has no complex form"):
        routes.gradient(REFUSED[name], "complex")(X)


# --- paths


@pytest.mark.parametrize(("hidden", "paths"), [([30], 10), ([30, 30], 300), ([30, 30, 30], 9000)])
def test_path_counts_of_the_book(hidden, paths):
    net = jaxbp.mlp([7, *hidden, 10])  # how many inputs there are makes no difference to a weight
    fun = routes.of_net(net, LOSS)
    counts = routes.path_counts(fun)(drawn(net, 7), *batch(1, 7, 10))
    assert np.all(counts[0].w == paths)
    assert np.all(counts[-1].w == 1)
    assert counts[0].w.shape == (7, 30)


def test_too_many_paths_are_counted_not_walked():
    net = jaxbp.mlp([784, 30, 10])
    with pytest.raises(ValueError, match=r"235,810 paths lead .* \(at most 1,000\).*most=235810"):
        # 784 * 30 weights and 30 biases of 10 paths each, 300 weights and 10 biases of one
        routes.gradient(routes.of_net(net, LOSS), "paths", most=1000)(drawn(net, 784), *batch(1, 784, 10))
    with pytest.raises(ValueError, match="paths lead from the parameters"):
        routes.gradient(quadratic, "paths", most=3)(*PLAIN)


# --- the door


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: routes.gradient(quadratic, "backwards"), ValueError, "by is one of 'manual'"),
        (lambda: routes.gradient(quadratic, "manual"), TypeError, "of_net"),
        (lambda: routes.gradient(NET), TypeError, "of_net"),
        (lambda: routes.gradient(quadratic, "forward", step=1e-3), ValueError, "takes no step"),
        (lambda: routes.gradient(quadratic, "central", step=-1.0), ValueError, "step"),
        (lambda: routes.gradient(quadratic, "autodiff", chunk=3), ValueError, "takes no chunk"),
        (lambda: routes.gradient(quadratic, "paths", most=0), ValueError, "most"),
        (lambda: routes.gradient(lambda p: p * 2)(X), TypeError, "one floating number"),
        (lambda: routes.gradient(lambda p: jnp.sum(p))(jnp.arange(3)), TypeError, "floating array"),
        (lambda: routes.gradient(lambda p: jnp.zeros(()))(()), ValueError, "no entry"),
        (
            lambda: routes.gradient(lambda p: jnp.sum(p) * 1.0, "complex")(X.astype(jnp.bfloat16)),
            TypeError,
            "float32 and float64",
        ),
        (lambda: routes.gradient(lambda p, x: jnp.sum(x) * p[0], "per-example")(X[:3], PLAIN[1]), ValueError, "not the mean"),
        (lambda: routes.gradient(lambda p: jnp.sum(p), "per-example")(X), TypeError, "leading axis"),
        (lambda: jax.jit(routes.gradient(quadratic, "paths"))(*PLAIN), TypeError, "outside jit"),
        (lambda: routes.of_net(NET, LOSS, reduction="median"), ValueError, "reduction"),
        (lambda: routes.path_counts(quadratic), TypeError, "of_net"),
        (lambda: routes.compare(quadratic, by=("sideways",)), ValueError, "by is one of"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_nets_whose_examples_cannot_be_told_apart_are_refused():
    net = jaxbp.serial(jaxbp.dense(3), jaxbp.batch_norm(), jaxbp.dense(2))
    for by in ("per-example", "paths"):
        with pytest.raises(ValueError, match="train=False"):
            routes.gradient(routes.of_net(net, LOSS), by)(drawn(net), *batch())
    flat = jaxbp.serial(jaxbp.conv2d(2, (2, 2)), jaxbp.flatten(), jaxbp.dense(2))
    params, _ = flat.init(jax.random.key(0), jax.ShapeDtypeStruct((3, 3, 1), jnp.float64))
    with pytest.raises(ValueError, match="vectors"):
        routes.gradient(routes.of_net(flat, LOSS), "paths")(params, jnp.ones((2, 3, 3, 1)), jnp.array([0, 1]))


def test_one_trace_serves_many_calls():
    go = jax.jit(chex.assert_max_traces(routes.gradient(quadratic, "forward", chunk=2), 1))
    for _ in range(2):
        assert go(*PLAIN).passes == routes.Passes(jvps=3)
