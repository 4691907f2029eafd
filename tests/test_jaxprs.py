"""The walker: opened programs equal their functions wherever a rule hides, and a visitor sees every equation."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from jaxbp import jaxprs


@jax.custom_vjp
def lying(x, w):
    """sin(x) w, with a wrong rule: what is differentiated tells whether the rule was opened."""
    return jnp.sin(x) * w


lying.defvjp(lambda x, w: (lying(x, w), (x, w)), lambda r, bar: (100.0 * bar, 100.0 * bar))


@jax.custom_jvp
def lying_forward(x):
    return jnp.cos(x)


lying_forward.defjvp(lambda primals, tangents: (lying_forward(*primals), 100.0 * tangents[0]))


@jax.custom_vjp
def outer(x, w):
    return lying_forward(lying(x, w)) + w


outer.defvjp(lambda x, w: (outer(x, w), None), lambda r, bar: (7.0 * bar, 7.0 * bar))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def powered(function, k, x):
    return function(x) ** k


powered.defvjp(lambda function, k, x: (function(x) ** k, None), lambda function, k, _, bar: (9.0 * bar,))


@jax.custom_vjp
def sparse(x, w):
    return x * w


sparse.defvjp(lambda x, w: (x.value * w.value, None), lambda _, bar: (5.0 * bar, 5.0 * bar), symbolic_zeros=True)


@jax.custom_batching.custom_vmap
def batched(x):
    return lying_forward(x) * x


batched.def_vmap(lambda size, in_batched, x: (lying_forward(x) * x, in_batched[0]))


def straight(x, w):
    return jnp.sin(x) * w


def forward(x):
    return jnp.cos(x)


def in_while(f, x, w):
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, f(c[1], w)), (0, x))[1]


def in_scan(f, x, w):
    step = lambda carry, item: (f(carry, w) + item, f(item * carry, w))
    carry, ys = lax.scan(step, x, jnp.arange(3.0, dtype=x.dtype)[:, None], reverse=True, unroll=2)
    return carry + jnp.sum(ys, axis=0)


def in_shard_map(f, x, w):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("i")
    return jax.shard_map(
        lambda x, w: lax.psum(f(x, w), "i") + f(x, x), mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec
    )(x, w)


# name: (a function of f, x and w, whether it has a reverse mode). `f` is the rule or the plain formula.
PLACES = {
    "jit": (lambda f, x, w: jax.jit(f)(x, w), True),
    "remat": (lambda f, x, w: jax.checkpoint(f)(x, w) ** 2, True),
    "cond": (lambda f, x, w: lax.cond(jnp.sum(x) > 0, f, lambda x, w: x - w, x, w), True),
    "switch": (lambda f, x, w: lax.switch(1, [lambda x, w: x, f, lambda x, w: w + x], x, w), True),
    "while": (in_while, False),
    "while condition": (
        lambda f, x, w: lax.while_loop(lambda c: jnp.sum(f(c, w)) < 2, lambda c: c + 0.5 * w, x),
        False,
    ),
    "fori": (lambda f, x, w: lax.fori_loop(0, 3, lambda i, c: f(c, w) + i, x), True),
    "scan": (in_scan, True),
    "vmap": (lambda f, x, w: jax.vmap(f, in_axes=(0, None))(x, w[0]), True),
    "shard_map": (in_shard_map, True),
    "nested": (lambda f, x, w: jax.jit(lambda y: lax.map(lambda a: jax.checkpoint(f)(a, w[0]), y))(x), True),
    "vmap of while": (
        lambda f, x, w: jax.vmap(lambda a: lax.while_loop(lambda c: c < 1.5, lambda c: c + 0.5 + f(c, w[0]) ** 2, a))(x),
        False,
    ),
    "closed call": (lambda f, x, w: jax.named_call(f, name="named")(x, w), True),
}


def opened(fun, *args):
    program = jaxprs.trace(fun, *args).program
    return lambda *leaves: jaxprs.evaluate(program, *leaves)[0]


def close(got, wanted, tolerance=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, wanted)


X, W = jnp.array([0.3, 1.2, -0.5, 0.7]), jnp.array([1.1, 0.4, -0.6, 0.9])


@pytest.mark.parametrize("place", PLACES)
def test_opened_programs_equal_the_function_and_have_the_primals_derivative(place):
    build, reverse = PLACES[place]
    run = opened(functools.partial(build, lying), X, W)
    plain = functools.partial(build, straight)
    close(run(X, W), plain(X, W))
    close(jax.jit(run)(X, W), plain(X, W))
    close(jax.jvp(run, (X, W), (W, X)), jax.jvp(plain, (X, W), (W, X)))
    if reverse:
        pull = lambda f: jax.grad(lambda x, w: jnp.sum(f(x, w) ** 2), (0, 1))(X, W)
        close(pull(run), pull(plain))
    if place != "shard_map":
        batch = (jnp.stack([X, -X]), jnp.stack([W, W * 2]))
        close(jax.vmap(run)(*batch), jax.vmap(plain)(*batch))


OTHERS = {
    "custom_jvp": (lambda x, w: lying_forward(x) * w, lambda x, w: forward(x) * w),
    "nested rules": (outer, lambda x, w: forward(straight(x, w)) + w),
    "nondiff_argnums": (lambda x, w: powered(jnp.sin, 3, x) * w, lambda x, w: jnp.sin(x) ** 3 * w),
    "symbolic_zeros": (sparse, lambda x, w: x * w),
    "custom_vmap": (lambda x, w: batched(x) + w, lambda x, w: forward(x) * x + w),
    "inner jits of jnp": (lambda x, w: jax.nn.relu(x) + jnp.var(w) + jnp.where(x > 0, x, w), None),
    "hoisted constants": (lambda x, w: lying(x, jnp.array([1.0, 2.0, 3.0, 4.0])) + w, None),
    "several outputs": (lambda x, w: jnp.stack(jnp.linalg.slogdet(jnp.outer(x, w) + jnp.eye(4))), None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_rules(name):
    fun, plain = OTHERS[name]
    run = opened(fun, X, W)
    close(run(X, W), fun(X, W))
    close(jax.jit(jax.vmap(run))(X[None], W[None])[0], fun(X, W))
    if plain:
        pull = lambda f: jax.grad(lambda x, w: jnp.sum(f(x, w) ** 2), (0, 1))(X, W)
        close(pull(run), pull(plain))


def test_functions_that_are_no_programs_stay_equations():
    double = lambda x: jax.pure_callback(lambda v: np.asarray(v) * 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    close(opened(double, X)(X), 2 * X)

    def solve(x):
        return jnp.linalg.solve(jnp.outer(x, x) + jnp.eye(4, dtype=x.dtype), x)

    run = opened(solve, X)
    close(run(X), solve(X))
    close(jax.grad(lambda x: jnp.sum(run(x)))(X), jax.grad(lambda x: jnp.sum(solve(x)))(X))

    def root(a):  # y with y^2 = a
        newton = lambda f, y: lax.fori_loop(0, 20, lambda _, y: 0.5 * (y + a / y), y)
        return lax.custom_root(lambda y: y * y - a, jnp.ones_like(a), newton, lambda g, y: y / g(1.0))

    run = opened(root, jnp.asarray(2.0))
    close(run(2.0), 2.0**0.5)
    close(jax.grad(run)(2.0), 0.5 / 2.0**0.5)
    inside = [eqn for eqn, _ in jaxprs.equations(jaxprs.trace(root, 2.0).program) if jaxprs.closed_in(eqn)]
    assert [eqn.primitive.name for eqn in inside] == ["custom_jvp_call"]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("check_vma", [True, False])
def test_a_state_goes_through_a_mesh(kind, check_vma):
    mesh, spec = jax.make_mesh((1,), ("i",), axis_types=(kind,)), PartitionSpec("i")
    x = jax.device_put(X, jax.sharding.NamedSharding(mesh, spec))
    step = lambda c, _: (lying(c, c), None)
    local = lambda x: lax.psum(lax.scan(step, x, None, length=3)[0], "i")
    fun = jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=PartitionSpec(), check_vma=check_vma)
    program = jaxprs.trace(fun, x).program
    (out,), state = jax.jit(lambda x: Count().run(program, [x], jnp.asarray(0)))(x)
    close(out, fun(x))
    assert state == 3


class Count(jaxprs.Visitor):
    """Count the calls of custom rules."""

    def equation(self, eqn, args, state, path):
        outs, state = self.enter(eqn, args, state, path)
        return outs, state + (eqn.primitive.name in jaxprs.CUSTOM_RULES)


@pytest.mark.parametrize(
    ("place", "calls"),
    {"scan": 6, "while": 3, "while condition": None, "fori": 3, "cond": 1, "switch": 1, "nested": 4, "shard_map": 2}.items(),
)
def test_a_state_counts_what_really_runs(place, calls):
    fun = functools.partial(PLACES[place][0], lying)
    program = jaxprs.trace(fun, X, W).program
    (out,), state = jax.jit(lambda *args: Count().run(program, args, jnp.asarray(0)))(X, W)
    close(out, fun(X, W))
    if calls is None:  # the condition runs once more than the body
        turns = lax.while_loop(
            lambda c: jnp.sum(straight(c[0], W)) < 2, lambda c: (c[0] + 0.5 * W, c[1] + 1), (X, jnp.asarray(0))
        )[1]
        assert turns > 0
        calls = turns + 1
    assert state == calls


def test_untaken_branches_do_not_count():
    fun = lambda x: lax.cond(jnp.sum(x) > 1e9, lambda x: lying(x, x), jnp.sin, x)
    assert jax.jit(lambda x: Count().run(jaxprs.trace(fun, X).program, [x], jnp.asarray(0)))(X)[1] == 0


def test_equations_name_the_path_and_the_line():
    program = jaxprs.trace(functools.partial(in_scan, lying), X, W).program
    rules = [(eqn, path) for eqn, path in jaxprs.equations(program) if eqn.primitive.name in jaxprs.CUSTOM_RULES]
    assert len(rules) == 2
    for eqn, path in rules:
        assert "test_jaxprs.py" in jaxprs.source(eqn)
        assert [label.split(" at ")[0] for label in path] == ["scan body"]
        assert "test_jaxprs.py:" in path[0]


def test_a_rule_inside_a_rule_is_seen():
    program = jaxprs.trace(outer, X, W).program
    rules = [(eqn, path) for eqn, path in jaxprs.equations(program) if eqn.primitive.name in jaxprs.CUSTOM_RULES]
    assert [jaxprs.definition(eqn)[0] for eqn, _ in rules] == ["outer", "lying", "lying_forward"]
    assert [len(path) for _, path in rules] == [0, 1, 1]
    line = inspect.getsourcelines(outer.__wrapped__)[1]
    assert jaxprs.definition(rules[0][0])[1].endswith(f"test_jaxprs.py:{line}")


def test_traces_in_float64_and_in_low_precision():
    with jax.enable_x64(False):
        single = jaxprs.trace(lying, jnp.float32(1), jnp.float32(2)).program
        assert [a.dtype for a in single.in_avals] == [jnp.float32] * 2
        with jax.enable_x64(True):
            x, w = jnp.asarray(X, jnp.float64), jnp.asarray(W, jnp.float64)
            run = opened(functools.partial(in_scan, lying), x, w)
            out = run(x, w)
            assert out.dtype == jnp.float64
            close(out, in_scan(straight, x, w), 1e-15)
        half = jnp.asarray(X, jnp.bfloat16)
        assert opened(lambda x: lying(x, x), half)(half).dtype == jnp.bfloat16


def test_random_keys_pass_through():
    fun = lambda key: jax.random.normal(jax.random.fold_in(key, 3), (5,))
    close(opened(fun, jax.random.key(1))(jax.random.key(1)), fun(jax.random.key(1)))


def test_a_visitor_may_change_what_an_equation_gives():
    class Doubled(jaxprs.Visitor):
        def equation(self, eqn, args, state, path):
            outs, state = self.enter(eqn, args, state, path)
            return [2 * out for out in outs] if eqn.primitive.name == "sin" else outs, state

    program = jaxprs.trace(functools.partial(PLACES["scan"][0], straight), X, W).program
    twice = functools.partial(PLACES["scan"][0], lambda x, w: 2 * jnp.sin(x) * w)
    close(jaxprs.evaluate(program, X, W, visitor=Doubled())[0], twice(X, W))
