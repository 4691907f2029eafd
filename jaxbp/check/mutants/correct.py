"""Correct functions that trouble today's tools: kinks hit exactly, far scales, cancellation, long loops, low precision.

Each is right where it is checked: its autodiff, or its hand-written rule, is the derivative, and at a kink it lies between the
one-sided slopes. A tool that calls one of them wrong gives a false alarm.
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, correct, draw, on


# --- kinks hit exactly: plain JAX


def kinked(values):
    return lambda fun: lambda key, dtype: Check(fun, (jnp.array(values, dtype),))


at_zeros = kinked([0, -1, 2, 0, 0.5, -3])


def relu(x):
    return jnp.maximum(x, 0)


def sum_of_sizes(x):
    return jnp.sum(jnp.abs(x))


def largest(x):
    return jnp.max(x, axis=-1)


def within_bounds(x):
    return jnp.clip(x, -1, 1)


def max_pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2), (1, 2), "VALID")


def ordered(x):
    return jnp.sort(x, axis=-1)


# --- scales


def square(x):
    return x * x


def identity(x):
    return x


def sum_of_squares(x):
    return jnp.sum(x * x)


def fast_sine(x):
    return jnp.sin(1e4 * x)


def shifted_by(scale, offset=0.0):
    return lambda fun, shape=(5,): lambda key, dtype: Check(fun, (offset + scale * (1 + draw(key, dtype, shape)[0] ** 2),))


def two_scales(big, small):
    return 1e3 * jnp.sum(jnp.sin(big)) + 1e-3 * jnp.sum(jnp.cos(small))


def cancelling(x):
    """(1 + x) - 1 far below one: the value keeps few digits, the slope is one."""
    return (1 + x) - 1


def difference_of_squares(x):
    return (x + 1000) ** 2 - x**2


# --- layers, plain JAX


def dense(x, w, b):
    return jnp.tanh(x @ w + b[None, :])


def layer_norm(x, gain, bias):
    centred = x - jnp.mean(x, axis=1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=1, keepdims=True) + 1e-5)
    return centred * scale * gain[None, :] + bias[None, :]


def build_far_norm(key, dtype):
    x, gain, bias = draw(key, dtype, (4, 8), (8,), (8,))
    return Check(layer_norm, (x + 30, gain, bias))


def batch_normed(x, w, b):
    """A bias before batch normalisation: its gradient is exactly zero."""
    y = x @ w + b[None, :]
    centred = y - jnp.mean(y, axis=0, keepdims=True)
    return jnp.tanh(centred / jnp.sqrt(jnp.mean(centred**2, axis=0, keepdims=True) + 1e-5))


def softmax(z):
    exps = jnp.exp(z - jax.lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True)))
    return exps / jnp.sum(exps, axis=-1, keepdims=True)


def attention(x, wq, wk, wv, key_bias, scale=1.0):
    q, k, v = x @ wq, x @ wk + key_bias[None, :], x @ wv
    return softmax(scale * q @ k.T / wq.shape[1] ** 0.5) @ v


def cross_entropy(logits, labels):
    log_probs = logits - jax.scipy.special.logsumexp(logits, axis=1, keepdims=True)
    return -jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]


def build_margin(fun, margin):
    def build(key, dtype):
        (z,) = draw(key, dtype, (3, 5))
        labels = jnp.array([1, 4, 0])
        return Check(fun, (z + margin * jax.nn.one_hot(labels, 5, dtype=dtype), labels))

    return build


def logistic(x):
    return 1 / (1 + jnp.exp(-x))


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def embed(table, ids):
    return table[ids]


def build_ids(fun):
    return lambda key, dtype: Check(fun, (*draw(key, dtype, (6, 3)), jnp.array([1, 4, 1, 0, 1, 5])))


def relu_mlp(params, x):
    for w, b in params:
        x = jnp.maximum(x @ w + b[None, :], 0)
    return x


def build_mlp(key, dtype):
    w1, b1, w2, b2, x = draw(key, dtype, (4, 8), (8,), (8, 3), (3,), (5, 4))
    return Check(relu_mlp, (((w1, b1), (w2, b2)), x))


# --- linear algebra


def factor(a):
    return jnp.linalg.cholesky((a + a.T) / 2)


def solve(a, b):
    return jnp.linalg.solve(a, b)


def eigenvalues(a):
    return jnp.linalg.eigh((a + a.T) / 2)[0]


def log_det(a):
    return jnp.linalg.slogdet(a)[1]


def build_matrix(fun, *more):
    def build(key, dtype):
        a, *rest = draw(key, dtype, (4, 4), *more)
        return Check(fun, (a @ a.T + jnp.diag(jnp.arange(1, 5).astype(dtype)), *rest))

    return build


# --- loops and branches


def rnn(w, u, xs):
    def step(h, x):
        h = jnp.tanh(x @ w + h @ u)
        return h, h

    return jax.lax.scan(step, jnp.zeros((xs.shape[1], u.shape[0]), xs.dtype), xs)[1]


def long_recurrence(a, x):
    def step(h, _):
        return jnp.sin(a * h + x), None

    return jax.lax.scan(step, jnp.zeros_like(x), None, length=300)[0]


def grown(x):
    """A while loop with a data-dependent number of trips, at most 30: forward mode alone."""
    small = lambda state: (state[0] < 30) & (jnp.sum(state[1] ** 2) < 100)
    return jax.lax.while_loop(small, lambda state: (state[0] + 1, 1.5 * state[1]), (0, x))[1]


def either(x, flag):
    return jax.lax.cond(flag, jnp.sin, jnp.square, x)


def moving_target(x):
    return jnp.sum((x - jax.lax.stop_gradient(jnp.mean(x)) * 2) ** 2)


def straight_line(x):
    """No path from x to the first output."""
    return {"constant": jnp.ones_like(x), "value": jnp.exp(x)}


# --- arguments that are not floats


def dropout(x, key, rate=0.5):
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


def masked_softmax(z, mask):
    return softmax(jnp.where(mask, z, -jnp.inf))


# --- low precision


def in_bfloat16(fun, *shapes):
    return lambda key, dtype: Check(fun, tuple(a.astype(jnp.bfloat16) for a in draw(key, jnp.float32, *shapes)))


DENSE = (5, 4), (4, 3), (3,)
NORM = (4, 8), (8,), (8,)
HEADS = (4, 6), (6, 4), (6, 4), (6, 4), (4,)

PLAIN = correct(
    "correct",
    ("relu at zero", at_zeros(relu)),
    ("sum of absolute values, zeros among them", at_zeros(sum_of_sizes)),
    ("maximum of ties", lambda key, dtype: Check(largest, (jnp.array([[1, 3, 3], [2, 2, 2], [0, -1, -2]], dtype),))),
    ("clip at its bounds", kinked([-1, 1, 0.5, -2, 3, 1])(within_bounds)),
    ("max-pool of ties", lambda key, dtype: Check(max_pool, (jnp.round(draw(key, dtype, (3, 8))[0]),))),
    ("max-pool", on(max_pool, (3, 8))),
    ("sort with ties", lambda key, dtype: Check(ordered, (jnp.round(draw(key, dtype, (2, 6))[0]),))),
    ("sort", on(ordered, (2, 6))),
    ("x² around 100", shifted_by(1, 100)(square)),
    ("identity around 1000", shifted_by(1, 1000)(identity)),
    ("log around 1e-3", shifted_by(1e-3)(jnp.log)),
    ("1/x around 1e-2", shifted_by(1e-2)(jnp.reciprocal)),
    ("sum of squares at 1e-15", shifted_by(1e-15)(sum_of_squares)),
    ("sum of squares at 1e15", shifted_by(1e15)(sum_of_squares)),
    ("sin(1e4 x)", on(fast_sine, (4,))),
    ("leaves six decades apart", on(two_scales, (3,), (3,))),
    ("(1 + x) - 1", shifted_by(1e-4)(cancelling)),
    ("difference of squares", on(difference_of_squares, (4,))),
    ("sigmoid at 30", shifted_by(1, 30)(logistic)),
    ("sigmoid at -30", shifted_by(-1, -30)(logistic)),
    ("square root near zero", shifted_by(1e-6)(jnp.sqrt)),
    ("dense tanh", on(dense, (24, 32), (32, 10), (10,))),
    ("layer norm, 8 x 64", on(layer_norm, (8, 64), (64,), (64,))),
    ("layer norm far from zero", build_far_norm),
    ("bias before batch norm", on(batch_normed, *DENSE)),
    ("softmax at margin 35", lambda key, dtype: Check(softmax, (35 * draw(key, dtype, (3, 5))[0],))),
    ("cross-entropy at margin 35", build_margin(cross_entropy, 35)),
    ("attention, key bias", on(attention, *HEADS)),
    ("attention x 30", on(partial(attention, scale=30.0), *HEADS)),
    ("convolution, stride 2", on(convolve, (2, 5, 4, 2), (3, 3, 2, 3))),
    ("embedding, repeated ids", build_ids(embed)),
    ("relu MLP", build_mlp),
    ("Cholesky", build_matrix(factor)),
    ("solve", build_matrix(solve, (4,))),
    ("eigenvalues", build_matrix(eigenvalues)),
    ("log-determinant", build_matrix(log_det)),
    ("scan RNN", on(rnn, (3, 4), (4, 4), (12, 2, 3))),
    ("scan of 300 steps", lambda key, dtype: Check(long_recurrence, tuple(0.4 * a for a in draw(key, dtype, (3,), (3,))))),
    ("while loop, forwards", lambda key, dtype: Check(grown, draw(key, dtype, (4,)), "jvp")),
    ("cond", lambda key, dtype: Check(either, (*draw(key, dtype, (4,)), jnp.array(False)))),
    ("stop_gradient", on(moving_target, (5,))),
    ("an output without a path", on(straight_line, (4,))),
    ("dropout with a key", lambda key, dtype: Check(dropout, (*draw(key, dtype, (6,)), jax.random.key(3)))),
    (
        "softmax of a boolean mask",
        lambda key, dtype: Check(masked_softmax, (*draw(key, dtype, (2, 4)), jnp.tri(2, 4, 1, dtype=bool))),
    ),
    ("dense in bfloat16", in_bfloat16(dense, *DENSE)),
    ("layer norm in bfloat16", in_bfloat16(layer_norm, *NORM)),
)
