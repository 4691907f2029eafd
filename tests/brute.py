"""Factors against brute force: per-example cotangents by NumPy loops, every answer of a factor compared with them."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.factors import Factor
from jaxbp.windows import Window


def outer(x: Any, y_bar: Any) -> np.ndarray:
    """g_b = sum_t x_bt (outer) y_bar_bt."""
    x, y_bar = (np.asarray(a).reshape(len(a), -1, a.shape[-1]) for a in (x, y_bar))
    return np.stack([sum(np.outer(x[b, t], y_bar[b, t]) for t in range(x.shape[1])) for b in range(len(x))])


def rows(indices: Any, values: Any, size: int) -> np.ndarray:
    """g_b[i] = the sum of the rows t with indices[b, t] = i."""
    g = np.zeros((len(indices), size, values.shape[-1]))
    for place in np.ndindex(indices.shape):
        if 0 <= indices[place] < size:
            g[place[0], indices[place]] += values[place]
    return g


def conv(x: Any, y_bar: Any, window: Window, groups: int) -> np.ndarray:
    """g_b[j] = sum_p x_b[strides p + dilation j - before] (outer) y_bar_b[p], group by group."""
    x, y_bar = np.asarray(x), np.asarray(y_bar)
    ins, outs = x.shape[-1] // groups, y_bar.shape[-1] // groups
    g = np.zeros((len(x), *window.size, ins, y_bar.shape[-1]))
    for p, j, q in itertools.product(np.ndindex(y_bar.shape[1:-1]), np.ndindex(*window.size), range(groups)):
        n = [
            s * a + d * b - before
            for s, a, d, b, (before, _) in zip(window.strides, p, window.dilation, j, window.padding, strict=True)
        ]
        if all(0 <= i < length for i, length in zip(n, x.shape[1:-1], strict=True)):
            out = slice(q * outs, (q + 1) * outs)
            read, seen = x[(slice(None), *n, slice(q * ins, (q + 1) * ins))], y_bar[(slice(None), *p, out)]
            g[(slice(None), *j, slice(None), out)] += read[:, :, None] * seen[:, None, :]
    return g


@functools.partial(jax.jit, static_argnames="n")
def answers(factor: Factor, other: Factor, c: jax.Array, v: jax.Array, n: int) -> dict:
    """All that a factor is asked, with itself, with another and with its first n examples."""
    part = jax.tree.map(lambda a: a[:n], other)
    return {
        "total": factor.total(),
        "scaled": factor.scaled(c).total(),
        "examples": factor.examples(),
        "sq_norms": factor.sq_norms(),
        "dot": factor.dot(v),
        "inner": factor.inner(other),
        "second_moment": factor.second_moment(),
        "gram": factor.gram(),
        "gram with part": factor.gram(part),
    }


def truth(g: np.ndarray, h: np.ndarray, c: np.ndarray, v: np.ndarray, n: int) -> dict:
    flat, flat_h = g.reshape(len(g), -1), h.reshape(len(h), -1)
    return {
        "total": g.sum(0),
        "scaled": np.tensordot(c, g, 1),
        "examples": g,
        "sq_norms": (flat**2).sum(1),
        "dot": flat @ v.ravel(),
        "inner": (flat * flat_h).sum(1),
        "second_moment": (g**2).sum(0),
        "gram": flat @ flat.T,
        "gram with part": flat @ flat_h[:n].T,
    }


def check(factor: Factor, g: np.ndarray, other: Factor | None = None, h: np.ndarray | None = None) -> None:
    """Every answer of `factor`, whose examples are g, alone and with `other`, whose examples are h; float64."""
    random = np.random.default_rng(len(g))
    c, v = random.normal(size=len(g)), random.normal(size=g.shape[1:])
    h = g if h is None else h
    n = (len(g) + 1) // 2
    got = answers(factor, factor if other is None else other, jnp.asarray(c), jnp.asarray(v), n)
    for name, wanted in truth(g, h, c, v, n).items():
        scale = max(1e-300, np.abs(wanted).max(initial=0), np.abs(g).max(initial=0) * np.abs(h).max(initial=0))
        assert got[name].shape == wanted.shape, f"{name}: {got[name].shape}, wanted {wanted.shape}"
        error = np.abs(got[name] - wanted).max(initial=0)
        assert error <= 1e-12 * scale, f"{name}: {error:.1e} at scale {scale:.1e}"
    assert (got["sq_norms"] >= 0).all()


@jax.jit
def _pair(f: Factor, g: Factor) -> tuple:
    return f.inner(g), g.inner(f), f.gram(g), g.gram(f)


def check_pair(f: Factor, g: np.ndarray, other: Factor, h: np.ndarray) -> None:
    """What two factors of one parameter are asked together, either on the left; g and h are their examples."""
    flat, flat_h = g.reshape(len(g), -1), h.reshape(len(h), -1)
    inner, gram = (flat * flat_h).sum(1), flat @ flat_h.T
    for got, wanted in zip(_pair(f, other), (inner, inner, gram, gram.T), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * np.abs(gram).max())


def random(key: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(key).normal(size=shape)


def flat(tree: Any) -> jax.Array:
    """(batch, all entries): per-example gradients of all leaves side by side."""
    return jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(tree)], axis=1)
