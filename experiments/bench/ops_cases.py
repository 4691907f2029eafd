"""What `experiments.bench.ops` sweeps: each function with its usual formula, the library's, the inputs and the true slopes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from jaxbp import ops


DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
LABEL = 0


class Case(NamedTuple):
    name: str
    usual: Callable
    library: Callable | None
    ours: Callable
    inputs: Callable  # dtype -> arrays in float64 that the dtype holds; one axis: scalars, two: rows
    truth: Callable  # the arrays -> derivatives in float64, one for each of argnums
    argnums: tuple[int, ...] = (0,)


# --- what is swept


def held(x: Any, dtype: Any) -> np.ndarray:
    """x as the dtype holds it, in float64; by NumPy, which keeps subnormal numbers."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(x, np.float64).astype(dtype).astype(np.float64)


@functools.cache
def reals(dtype: Any) -> np.ndarray:
    """Bit patterns at even steps (of narrow types, all) and evenly spaced numbers in [-100, 100]."""
    wide = dtype == jnp.float32
    bits = np.arange(0, 2**32, 2**13 - 1, dtype=np.uint64).astype(np.uint32) if wide else np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # NaN among them
        patterns = bits.view(np.dtype(dtype)).astype(np.float64)
    x = np.concatenate([patterns, held(np.linspace(-100, 100, 200_001), dtype), [-np.inf, -0.0, 0.0, np.inf]])
    return np.unique(x[~np.isnan(x)])


def scalars(dtype: Any) -> tuple:
    return (reals(dtype),)


def between(low: float, high: float, dtype: Any) -> tuple:
    x = np.concatenate([reals(dtype), held(np.linspace(low, min(high, 100), 100_001), dtype)])
    return (np.unique(x[(x >= low) & (x <= high)]),)


def with_targets(inputs: Callable, targets: tuple, dtype: Any) -> tuple:
    (x,) = inputs(dtype)
    t = held(targets, dtype)
    return np.tile(x, len(t)), np.repeat(t, len(x))


def xlogy_pairs(dtype: Any) -> tuple:
    (y,) = between(0.0, np.inf, dtype)
    y, x = with_targets(
        lambda dtype: (y,), (0.0, 1.0, -0.3, 3 * float(jnp.finfo(dtype).tiny), float(jnp.finfo(dtype).tiny) / 5), dtype
    )
    keep = (y > 0) & (y < np.inf) | (x == 0)
    return x[keep], y[keep]


@functools.cache
def rows(dtype: Any) -> np.ndarray:
    """Rows of 7 at every scale from subnormal to the largest, around every offset, some equal, zero, with a single entry."""
    rng = np.random.default_rng(0)
    info = jnp.finfo(dtype)
    scales = np.geomspace(float(info.smallest_subnormal) * 64, float(info.max) / 8, 500)
    noise = rng.standard_normal((len(scales), 7))
    spread = rng.choice([1e-6, 1e-4, 1e-2, 1.0], (len(scales), 1))
    offset = (1 + spread * noise) * scales[:, None]
    lone = np.where(np.arange(7) == 2, scales[:, None], 0.0)
    return held(np.concatenate([noise * scales[:, None], offset, lone, np.zeros((1, 7)), np.full((1, 7), 0.1)]), dtype)


def vectors(dtype: Any) -> tuple:
    return (rows(dtype),)


def pairs_of_vectors(dtype: Any) -> tuple:
    """Any two, and near parallel ones."""
    rng = np.random.default_rng(1)
    a = rows(dtype)
    angles = rng.choice([1e-3, 1e-2, 0.1], (len(a), 1))
    limit = float(jnp.finfo(dtype).max)
    near = np.clip(a * (1 + angles * rng.standard_normal(a.shape)) * rng.choice([1e-2, 1.0], (len(a), 1)), -limit, limit)
    # the derivative in a is of the size of 1 / |a|: rows where that is no number of the dtype are left out
    x, y = np.concatenate([a, a]), held(np.concatenate([rng.permutation(a), near]), dtype)
    good = np.abs(x).max(-1) > 4 / float(jnp.finfo(dtype).max)
    return x[good], y[good]


def logits(dtype: Any) -> tuple:
    """Rows of 7 with every margin of the label, any offset, masked classes, nothing but masked classes."""
    rng = np.random.default_rng(2)
    margins = np.linspace(-100, 100, 4001)
    z = rng.standard_normal((len(margins), 7)) + rng.choice([0.0, -300.0, 1000.0], (len(margins), 1))
    z[:, LABEL] += margins
    far = (
        rng.standard_normal((200, 7))
        * np.geomspace(float(jnp.finfo(dtype).smallest_subnormal), float(jnp.finfo(dtype).max) / 8, 200)[:, None]
    )
    masked = np.where(rng.random((200, 7)) < 0.3, -np.inf, z[::20][:200])
    masked[:, LABEL] = z[::20][:200, LABEL]
    return (held(np.concatenate([z, far, masked, np.full((1, 7), -np.inf)]), dtype),)


# --- the truth in float64


def split_softmax(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p, 1 - p at the label), rows of nothing but -inf 0."""
    m = z.max(-1, keepdims=True)
    e = np.exp(z - np.where(np.isinf(m), 0, m))
    s = np.where(m == -np.inf, np.inf, e.sum(-1, keepdims=True))
    return e / s, np.delete(e, LABEL, -1).sum(-1) / s[:, 0]


def label_slopes(z: np.ndarray) -> tuple:
    p, others = split_softmax(z)
    p[:, LABEL] = -others
    return (p,)


def directions(x: np.ndarray) -> np.ndarray:
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    return x / np.where(length == 0, np.inf, length)


def deviations(x: np.ndarray) -> np.ndarray:
    d = x - x.mean(-1, keepdims=True)
    return np.where(x.max(-1, keepdims=True) == x.min(-1, keepdims=True), 0, d - d.mean(-1, keepdims=True))


def cosine_slopes(a: np.ndarray, b: np.ndarray) -> tuple:
    """sum_j a_j (b_i a_j - a_i b_j) / (|a|^3 |b|): the products are exact, so parallel vectors give 0."""
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    wedge = b[:, :, None] * a[:, None, :] - a[:, :, None] * b[:, None, :]
    a_length, b_length = (np.sqrt((x * x).sum(-1, keepdims=True)) for x in (a, b))
    below = a_length**3 * b_length
    return (((wedge * a[:, None, :]).sum(-1) / np.where(below == 0, 1, below)).astype(np.float64),)


WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0, -1.0, 0.25, 2.0])  # of the entries of a layer norm, for one number to differentiate
EPSILON = 1e-5


def layer_norm_slopes(x: np.ndarray) -> tuple:
    d = deviations(x)
    inverse = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + EPSILON)
    x_hat, c = d * inverse, WEIGHTS - WEIGHTS.mean()
    return ((c - x_hat * (c * x_hat).mean(-1, keepdims=True)) * inverse,)


def sigmoid_slope(x: np.ndarray) -> np.ndarray:
    return special.expit(x) * special.expit(-x)


def arccos_slope(x: np.ndarray) -> np.ndarray:
    inside = np.where(abs(x) < 1, x, 0)
    return np.where(abs(x) < 1, -1 / np.sqrt((1 - inside) * (1 + inside)), 0)


def sqrt_slope(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, 0.5 / np.sqrt(np.where(x > 0, x, 1)), 0)


def xlogy_slopes(x: np.ndarray, y: np.ndarray) -> tuple:
    none = (x == 0) & ((y == 0) | (y == np.inf))
    inside = np.where(none, 1, y)
    return np.log(inside), x / inside


def bce_slope(p: np.ndarray, y: np.ndarray, tiny: float) -> np.ndarray:
    cancels = (y > 0) & (y < 1) & (p >= tiny) & (1 - p >= tiny)
    inside = np.where(cancels, p, 0.5)
    apart = (1 - y) / np.maximum(1 - p, tiny) - y / np.maximum(p, tiny)
    return np.where(cancels, (inside - y) / (inside * (1 - inside)), apart)


def crossing_slope(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (1 - y) * special.expit(z) - y * special.expit(-z)


def weighted(fun: Callable) -> Callable:
    """One number a row out of a function that gives a row."""
    return lambda x: jnp.sum(fun(x) * jnp.asarray(WEIGHTS, x.dtype))


def usual_layer_norm(x: jax.Array) -> jax.Array:
    return (x - jnp.mean(x)) / jnp.sqrt(jnp.var(x) + EPSILON)


def usual_cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b) / (jnp.sqrt(jnp.sum(a * a)) * jnp.sqrt(jnp.sum(b * b)))


one = lambda slope: lambda *x: (slope(*x),)
CASES = [
    Case("sigmoid", lambda x: 1 / (1 + jnp.exp(-x)), jax.nn.sigmoid, ops.sigmoid, scalars, one(sigmoid_slope)),
    Case(
        "tanh", lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x)), jnp.tanh, ops.tanh, scalars,
        one(lambda x: 4 * sigmoid_slope(2 * x)),
    ),
    Case("softplus", lambda x: jnp.log(1 + jnp.exp(x)), jax.nn.softplus, ops.softplus, scalars, one(special.expit)),
    Case(
        "log_sigmoid", lambda x: jnp.log(1 / (1 + jnp.exp(-x))), jax.nn.log_sigmoid, ops.log_sigmoid, scalars,
        one(lambda x: special.expit(-x)),
    ),
    Case("safe_sqrt", jnp.sqrt, None, ops.safe_sqrt, functools.partial(between, 0.0, np.inf), one(sqrt_slope)),
    Case("arccos", jnp.arccos, None, ops.arccos, functools.partial(between, -1.0, 1.0), one(arccos_slope)),
    Case("xlogy", lambda x, y: x * jnp.log(y), jax.scipy.special.xlogy, ops.xlogy, xlogy_pairs, xlogy_slopes, (0, 1)),
    Case(
        "bce", lambda p, y: -y * jnp.log(p) - (1 - y) * jnp.log(1 - p), None, ops.bce,
        functools.partial(with_targets, functools.partial(between, 0.0, 1.0), (0.0, 0.3, 1.0)), bce_slope,
    ),
    Case(
        "sigmoid_cross_entropy",
        lambda z, y: -y * jnp.log(jax.nn.sigmoid(z)) - (1 - y) * jnp.log(1 - jax.nn.sigmoid(z)),
        optax.sigmoid_binary_cross_entropy, ops.sigmoid_cross_entropy,
        functools.partial(with_targets, scalars, (0.0, 1.0)), one(crossing_slope),
    ),
    Case(
        "softmax_cross_entropy", lambda z: -jnp.log(jnp.exp(z[LABEL]) / jnp.sum(jnp.exp(z))),
        lambda z: optax.softmax_cross_entropy_with_integer_labels(z, jnp.asarray(LABEL)),
        lambda z: ops.softmax_cross_entropy(z, LABEL), logits, label_slopes,
    ),
    Case(
        "logsumexp", lambda z: jnp.log(jnp.sum(jnp.exp(z))), jax.nn.logsumexp, ops.logsumexp, logits,
        one(lambda z: split_softmax(z)[0]),
    ),
    Case("norm", lambda x: jnp.sqrt(jnp.sum(x * x)), lambda x: optax.safe_norm(x, 0.0), ops.norm, vectors, one(directions)),
    Case(
        "std", lambda x: jnp.sqrt(jnp.mean((x - jnp.mean(x)) ** 2)), jnp.std, ops.std, vectors,
        one(lambda x: directions(deviations(x)) / np.sqrt(x.shape[-1])),
    ),
    Case("cosine_similarity", usual_cosine, optax.cosine_similarity, ops.cosine_similarity, pairs_of_vectors, cosine_slopes),
    Case(
        "layer_norm", weighted(usual_layer_norm), weighted(lambda x: jax.nn.standardize(x, epsilon=EPSILON)),
        weighted(lambda x: ops.layer_norm(x, epsilon=EPSILON)), vectors, layer_norm_slopes,
    ),
]  # fmt: skip


def truths(case: Case, dtype: Any, x: tuple) -> tuple:
    """The true slopes, one array for each argument that is differentiated."""
    extra = {"tiny": float(jnp.finfo(dtype).tiny)} if case.truth is bce_slope else {}
    with np.errstate(all="ignore"):
        got = case.truth(*x, **extra)
    return got if isinstance(got, tuple) else (got,)
