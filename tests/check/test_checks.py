"""The checks on hand-made rules: right ones pass, each kind of mistake fails in its step, and nothing global changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp.check import check_gradient, check_jvp, check_pair, check_vjp


X = jnp.linspace(-2.0, 1.7, 12, dtype=jnp.float32).reshape(3, 4)
Y = jnp.linspace(0.3, 1.4, 12, dtype=jnp.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def as_users_see_it():
    """Users run in float32; the checker switches float64 on by itself."""
    with jax.enable_x64(False):
        yield
        assert not jax.config.jax_enable_x64


def rule(forward, backward, value=None):
    """A custom rule of `forward(x, y)` from backward(x, y, g)."""

    @jax.custom_vjp
    def fun(x, y):
        return forward(x, y)

    fun.defvjp(lambda x, y: ((value or forward)(x, y), (x, y)), lambda r, g: backward(*r, g))
    return fun


def sine(x, y):
    return jnp.sin(x) * y


def right(x, y, g):
    return g * jnp.cos(x) * y, g * jnp.sin(x)


@pytest.mark.parametrize(
    "wrap", [lambda f: f, jax.jit, jax.checkpoint, lambda f: lambda x, y: jax.lax.cond(x[0, 0] < 9, f, f, x, y)]
)
def test_a_right_rule_passes_wherever_it_hides(wrap):
    report = check_vjp(wrap(rule(sine, right)), X, Y, name="sine")
    assert report.ok, str(report)
    assert all(leaf.resolution < 1e-12 for leaf in report.leaves)
    assert {"structure", "primal", "cotangent", "linearity", "jit", "vmap", "ladder", "battery: zeros"} <= {
        s.name for s in report.steps
    }


MISTAKES = {
    "sign": ("cotangent", lambda x, y, g: (g * jnp.cos(x) * y, -g * jnp.sin(x))),
    "zero": ("cotangent", lambda x, y, g: (g * jnp.cos(x) * y, 0 * y)),
    "factor": ("cotangent", lambda x, y, g: (2 * g * jnp.cos(x) * y, g * jnp.sin(x))),
    "swapped": ("cotangent", lambda x, y, g: right(x, y, g)[::-1]),
    "subset": ("cotangent", lambda x, y, g: (g * jnp.cos(x) * y, (g * jnp.sin(x)).at[1, 2].multiply(1.0001))),
    "nonlinear": ("linearity", lambda x, y, g: (jnp.abs(g) * jnp.cos(x) * y, g * jnp.sin(x))),
    "dtype": ("dtype", lambda x, y, g: (g * jnp.cos(x) * y, (g * jnp.sin(x)).astype(jnp.bfloat16))),
    "structure": ("structure", lambda x, y, g: ((g * jnp.cos(x) * y)[0], g * jnp.sin(x))),
    "nan": ("cotangent", lambda x, y, g: (g * jnp.cos(x) * y, (g * jnp.sin(x)).at[0, 0].set(jnp.nan))),
}


@pytest.mark.parametrize("category", MISTAKES)
def test_a_mistake_fails_in_its_step_with_its_hint(category):
    step, backward = MISTAKES[category]
    report = check_vjp(rule(sine, backward), X, Y, name="sine")
    assert report.verdict == "fail"
    assert step in [s.name for s in report.steps if s.verdict == "fail"]
    assert report.hints[0].category == category, str(report)


def test_a_forward_of_its_own_that_differs_fails():
    report = check_vjp(rule(sine, right, value=lambda x, y: jnp.sin(x) * y * 1.001), X, Y)
    assert report.verdict == "fail"
    assert report.hints[0].category == "primal"


def test_a_rule_is_never_compared_with_itself():
    """jax.grad of the function agrees with its wrong rule, of course."""
    wrong = rule(sine, MISTAKES["factor"][1])
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(wrong(x, Y)))(X), 2 * jnp.cos(X) * Y)
    assert check_vjp(lambda x, y: wrong(x, y) + 1, X, Y).verdict == "fail"


def test_a_mistake_at_other_inputs_only():
    backward = lambda x, y, g: (g * jnp.cos(x) * y * jnp.where(x == 0, 2, 1), g * jnp.sin(x))
    report = check_vjp(rule(sine, backward), X, Y)
    assert report.verdict == "fail"
    assert report.hints[0].category == "input"
    assert check_vjp(rule(sine, backward), X, Y, battery=False).ok


def test_a_mistake_at_another_batch_size_only():
    backward = lambda x, y, g: (g * jnp.cos(x) * y * (2 if x.shape[0] == 1 else 1), g * jnp.sin(x))
    assert check_vjp(rule(sine, backward), X, Y, battery=False).ok
    report = check_vjp(rule(sine, backward), X, Y, battery=False, batch_axes=0)
    assert report.verdict == "fail"
    assert "batch of 1" in str(report)


def test_second_order():
    backward = lambda x, y, g: (g * jax.lax.stop_gradient(jnp.cos(x)) * y, g * jnp.sin(x))
    assert check_vjp(rule(sine, backward), X, Y, battery=False).ok
    assert check_vjp(rule(sine, right), X, Y, battery=False, order=2).ok
    report = check_vjp(rule(sine, backward), X, Y, battery=False, order=2)
    assert report.verdict == "fail"
    assert report.hints[0].category == "second-order"


def test_two_calls_that_differ():
    noise = np.random.default_rng(0)
    report = check_vjp(rule(sine, lambda x, y, g: (g * jnp.cos(x) * y * noise.uniform(), g * jnp.sin(x))), X, Y)
    assert report.verdict == "fail"
    assert "nondeterministic" in [h.category for h in report.hints]


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_any_slope_between_the_one_sided_ones_is_a_convention(slope):
    @jax.custom_vjp
    def relu(x):
        return jnp.maximum(x, 0)

    relu.defvjp(lambda x: (relu(x), x), lambda x, g: (g * jnp.where(x == 0, slope, x > 0),))
    report = check_vjp(relu, jnp.array([0.0, 1.0, -1.0, 0.0]))
    assert report.ok, str(report)


def test_a_slope_outside_the_one_sided_ones_fails():
    @jax.custom_vjp
    def top(x):
        return jnp.max(x)

    top.defvjp(lambda x: (top(x), x), lambda x, g: (g * (x == jnp.max(x)),))  # every tied entry takes all
    assert check_vjp(top, jnp.array([2.0, 2.0, 1.0])).verdict == "fail"
    assert check_vjp(jnp.max, jnp.array([2.0, 2.0, 1.0])).ok


def callback_sine(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="broadcast_all")


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.001, "fail")])
def test_a_primal_without_autodiff_is_held_against_central_differences_alone(factor, verdict):
    @jax.custom_vjp
    def fun(x):
        return callback_sine(x)

    fun.defvjp(lambda x: (callback_sine(x), x), lambda x, g: (factor * g * jnp.cos(x),))
    report = check_vjp(fun, X)
    assert report.verdict == verdict, str(report)
    assert "central differences in float64 alone" in report.reference


def test_one_wrong_entry_is_located_by_bisection():
    x = jax.random.normal(jax.random.key(0), (40, 50))

    @jax.custom_vjp
    def fun(x):
        return callback_sine(x)

    fun.defvjp(lambda x: (callback_sine(x), x), lambda x, g: ((g * jnp.cos(x)).at[17, 31].multiply(1.0001),))
    report = check_vjp(fun, x)
    assert report.verdict == "fail"
    assert report.leaves[0].index == (17, 31)


def test_integer_boolean_and_key_arguments_and_static_ones():
    def fun(x, ids, mask, key, power, name):
        assert name == "cube"
        noise = jax.random.uniform(key, x.shape, x.dtype)
        return jnp.sum(jnp.where(mask, x[ids] ** power, 0)) + jnp.sum(noise * x)

    report = check_vjp(fun, X[0], jnp.array([1, 1, 3]), jnp.array([True, False, True]), jax.random.key(3), 3, "cube")
    assert report.ok, str(report)


def test_narrow_dtypes_are_judged_in_float64_and_in_their_own():
    x = X.astype(jnp.bfloat16)
    assert check_vjp(lambda x: jnp.tanh(x @ x.T), x).ok


def test_gradient_functions_of_every_layout():
    loss = lambda w, x: jnp.sum(jnp.tanh(x @ w) ** 2)
    w = X.T
    for by_hand in (jax.grad(loss), jax.value_and_grad(loss)):
        assert check_gradient(loss, by_hand, w, Y).ok
    assert check_gradient(loss, jax.grad(loss, argnums=(0, 1)), w, Y, argnums=(0, 1)).ok
    with_aux = lambda w, x: (loss(w, x), w)
    assert check_gradient(with_aux, jax.value_and_grad(with_aux, has_aux=True), w, Y, has_aux=True).ok
    report = check_gradient(loss, lambda w, x: 1.01 * jax.grad(loss)(w, x), w, Y)
    assert report.verdict == "fail"
    assert report.hints[0].category == "factor"


def test_pairs():
    forward = lambda x, y: (sine(x, y), (x, y))
    assert check_pair(forward, lambda r, g: right(*r, g), X, Y).ok
    missing = check_pair(forward, lambda r, g: (right(*r, g)[0], None), X, Y)
    assert missing.hints[0].category == "structure"
    assert "None" in missing.hints[0].text


def test_forward_rules():
    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda p, t: (cube(*p), 3 * p[0] ** 2 * t[0]))
    assert check_jvp(cube, (X,), (Y,)).ok

    @jax.custom_jvp
    def wrong(x):
        return x**3

    wrong.defjvp(lambda p, t: (wrong(*p), 2 * p[0] ** 2 * t[0]))
    assert check_jvp(wrong, (X,)).verdict == "fail"
    assert check_vjp(wrong, X).verdict == "fail"


def test_nan_in_the_input_is_inconclusive_with_its_index():
    report = check_vjp(sine, X.at[1, 2].set(jnp.nan), Y)
    assert report.verdict == "inconclusive"
    assert "[1, 2]" in report.reason
    assert not report.ok


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: check_vjp(lambda x: x > 0, X), "no floating-point output"),
        (lambda: check_vjp(lambda i: i * 2.0, jnp.arange(3)), "no floating-point argument"),
        (lambda: check_vjp(lambda x: x @ x, X), "itself raises TypeError"),
        (lambda: check_vjp(sine, X, Y, batch_axes=(0,)), "one entry for each of the 2 arguments"),
    ],
)
def test_what_cannot_be_checked_says_why(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_nothing_global_changes_also_after_an_exception():
    before = {name: getattr(jax.config, name) for name in ("jax_enable_x64", "jax_default_prng_impl", "jax_numpy_rank_promotion")}

    @jax.custom_vjp
    def raises(x):
        return jnp.sin(x)

    def backward(x, g):
        raise RuntimeError("no")

    raises.defvjp(lambda x: (jnp.sin(x), x), backward)
    report = check_vjp(raises, X)
    assert report.verdict == "fail"
    assert "RuntimeError: no" in report.reason
    assert before == {name: getattr(jax.config, name) for name in before}
