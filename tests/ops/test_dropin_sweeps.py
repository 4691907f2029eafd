"""The derivatives of the drop-in functions over the sweeps of the bench, and second orders, modes and transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import ops as bench
from jaxbp import ops


EVERY = pytest.mark.parametrize("case", bench.CASES, ids=[case.name for case in bench.CASES])


@EVERY
@pytest.mark.parametrize("dtype", bench.DTYPES, ids=["f32", "bf16", "f16"])
def test_no_digit_is_lost_over_the_whole_range(case, dtype):
    measured = bench.measure(case, case.ours, dtype)
    assert measured.worst <= (16 if dtype == jnp.float32 else 0.51), measured
    assert not measured.not_finite, measured
    assert not measured.flushed, measured


@EVERY
def test_the_usual_formula_fails_the_same_sweep(case):
    measured = bench.measure(case, case.usual, jnp.float32)
    assert measured.worst > 16 or measured.not_finite


# --- the rule is the derivative of the function, to the second order, in float64

RNG = np.random.default_rng(0)
ROWS, UNIT = RNG.standard_normal((3, 4)), RNG.uniform(0.05, 0.95, (5,))
LINE = np.array([-30.0, -2.5, -0.3, 0.0, 0.4, 3.0, 40.0])
LABELS = np.array([0, 3, 1])
by_rows = lambda fun, **options: lambda x: fun(x, -1, **options)

PLAIN = {  # the function, the same by plain primitives, arguments
    "sigmoid": (ops.sigmoid, ops.sigmoid_value, LINE),
    "tanh": (ops.tanh, ops.tanh_value, LINE),
    "softplus": (ops.softplus, ops.softplus_value, LINE),
    "log_sigmoid": (ops.log_sigmoid, lambda x: -ops.softplus_value(-x), LINE),
    "safe_sqrt": (ops.safe_sqrt, jnp.sqrt, UNIT),
    "arccos": (ops.arccos, lambda x: jnp.arctan2(jnp.sqrt(1 - x * x), x), UNIT - 0.5),
    "xlogy": (ops.xlogy, lambda x, y: x * jnp.log(y), UNIT, UNIT[::-1].copy()),
    "bce": (ops.bce, lambda p, y: -y * jnp.log(p) - (1 - y) * jnp.log(1 - p), UNIT, UNIT[::-1].copy()),
    "sigmoid_cross_entropy": (
        ops.sigmoid_cross_entropy,
        lambda z, y: y * ops.softplus_value(-z) + (1 - y) * ops.softplus_value(z),
        LINE[1:-1],
        UNIT,
    ),
    "softmax_cross_entropy of labels": (
        lambda z: ops.softmax_cross_entropy(z, LABELS),
        lambda z: jnp.log(jnp.sum(jnp.exp(z), -1)) - z[np.arange(3), LABELS],
        ROWS,
    ),
    "softmax_cross_entropy of distributions": (
        ops.softmax_cross_entropy,
        lambda z, t: jnp.sum(t * (jnp.log(jnp.sum(jnp.exp(z), -1, keepdims=True)) - z), -1),
        ROWS,
        RNG.dirichlet(np.ones(4), 3),
    ),
    "logsumexp": (by_rows(ops.logsumexp), lambda x: jnp.log(jnp.sum(jnp.exp(x), -1)), ROWS),
    "norm": (by_rows(ops.norm), lambda x: jnp.sqrt(jnp.sum(x * x, -1)), ROWS),
    "std": (by_rows(ops.std, ddof=1), lambda x: jnp.std(x, -1, ddof=1), ROWS),
    "cosine_similarity": (
        ops.cosine_similarity,
        lambda a, b: jnp.sum(a * b, -1) / jnp.sqrt(jnp.sum(a * a, -1) * jnp.sum(b * b, -1)),
        ROWS,
        ROWS[::-1].copy(),
    ),
    "layer_norm": (
        lambda x, g, b: ops.layer_norm(x, g, b, epsilon=0.1),
        lambda x, g, b: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 0.1) * g[None] + b[None],
        ROWS,
        ROWS[0],
        ROWS[1],
    ),
}


def derivatives(fun, args):
    """Value, Jacobians and Hessians, by reverse, forward over reverse and, of the value along a direction, forward mode."""
    numbers = tuple(range(len(args)))
    weights = lambda y: jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    scalar = lambda *a: jnp.sum(weights(y := fun(*a)) * y)
    return (
        fun(*args),
        jax.grad(scalar, numbers)(*args),
        jax.hessian(scalar, numbers)(*args),
        jax.jacrev(jax.grad(scalar, numbers), numbers)(*args),
        jax.jvp(fun, args, tuple(jnp.cos(a) for a in args))[1],
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_values_and_derivatives_to_the_second_order_in_every_mode(name):
    ours, plain, *args = PLAIN[name]
    args = tuple(map(jnp.asarray, args))
    got, wanted = (jax.jit(derivatives, static_argnums=0)(fun, args) for fun in (ours, plain))
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-11), got, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["norm", "std", "cosine_similarity", "layer_norm", "logsumexp", "sigmoid"])
def test_vmap_of_the_second_derivative_where_rows_go_different_ways(name):
    """Under vmap both branches of lax.cond run: the one not taken must not leave NaN behind."""
    one = jnp.asarray([3.0, -4.0, 1.0, 0.5], jnp.float32)
    small = 1e-30 if name in ("norm", "std") else 1e-12  # others have second derivatives of the size of 1 / x^2
    rows = jnp.stack([one, 0 * one, one * small, one * 1e30, one * 0 + 2])
    fun = {
        "cosine_similarity": lambda x: ops.cosine_similarity(x, one),
        "layer_norm": lambda x: ops.layer_norm(x, epsilon=0.0)[0],
    }
    fun = fun.get(name, lambda x: jnp.sum(getattr(ops, name)(x)))
    for second in (jax.hessian(fun), jax.jacrev(jax.grad(fun))):
        got = jax.jit(jax.vmap(second))(rows)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got[0], jax.hessian(fun)(one), rtol=1e-5, atol=1e-6)
