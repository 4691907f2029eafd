"""Square roots of the Hessian of a loss in the outputs: H_b = S_b S_b^T for every example.

A rule gives u -> S u. Its columns, S e_k, are the output cotangents of the exact generalized Gauss-Newton matrix; S u for
random signs u is a sample of it, because E[u u^T] = I. The losses of this library have closed forms, which keep their digits;
any other loss has its Hessian formed example by example.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp import inputs, losses
from jaxbp.contracts import Loss
from jaxbp.factors import at_least_float32
from jaxbp.layers.softmax import anchor, exp_difference, split
from jaxbp.losses.cross_entropy import sigmoid_parts
from jaxbp.losses.entrywise import widened
from jaxbp.losses.targets import are_labels, as_distributions


class Root(NamedTuple):
    """times: u -> S u in the tree, shapes and dtypes of the outputs; u has `shape`, (batch, ...), and `dtype`."""

    times: Callable
    shape: tuple[int, ...]
    dtype: Any

    @property
    def columns(self) -> int:
        return math.prod(self.shape[1:])

    def column(self, k: Any) -> Any:
        """S e_k of every example, 0 for a k beyond the last."""
        e = jax.nn.one_hot(k, self.columns, dtype=self.dtype)
        return self.times(jnp.broadcast_to(e.reshape(1, *self.shape[1:]), self.shape))

    def sample(self, key: jax.Array) -> Any:
        """S u for independent signs u of every example and output."""
        return self.times(jax.random.rademacher(key, self.shape, self.dtype))


def root_of(loss: Loss, outputs: Any, targets: Any, weights: jax.Array | None) -> Root:
    """The root of the Hessian of sum_t w_bt C_bt in the outputs of example b; weights in the shape of the losses."""
    rule = RULES.get(loss.call.constructor) if loss.call else None
    if rule is None:
        return formed(loss, outputs, targets, weights)
    times = rule(loss, widened(outputs), targets)
    share = None if weights is None else jnp.sqrt(weights)[..., None]

    def weighed(u: jax.Array) -> jax.Array:
        found = times(u)
        return (found if share is None else found * jnp.broadcast_to(share, found.shape)).astype(outputs.dtype)

    return Root(weighed, outputs.shape, at_least_float32(outputs))


# --- closed forms: rule(loss, outputs, targets) -> (u -> S u), outputs in float32 or wider


def quadratic_root(loss: Loss, a: jax.Array, targets: Any) -> Callable:
    """H = I."""
    return lambda u: u


def mse_root(loss: Loss, a: jax.Array, targets: Any) -> Callable:
    """H = 2/n I."""
    return lambda u: u * (2 / a.shape[-1]) ** 0.5


def softmax_cross_entropy_root(loss: Loss, z: jax.Array, targets: Any) -> Callable:
    """H = T (diag p - p p^T), T = sum t: columns sqrt(T p_k) (e_k - p).

    (S u)_i = sqrt(T) (v_i (1 - p_i) - p_i sum_{k != i} v_k), v = sqrt(p) u. For a class with more than half of all probability
    1 - p_i and the sum are taken over the others, so that nothing cancels where the net is certain. Smoothed labels have T = 1.
    """
    z, m, empty = anchor(z)
    e = exp_difference(z, m)
    s, rest, dominant = split(e)
    p, others = e / s, jnp.where(dominant, rest, s - e) / s
    size = jnp.where(empty, 0, jnp.sqrt(_weight_of_classes(loss, z, targets)))

    def times(u: jax.Array) -> jax.Array:
        v = jnp.sqrt(p) * u
        without = jnp.sum(jnp.where(dominant, 0, v), axis=-1, keepdims=True)
        rest_of_v = jnp.where(dominant, without, jnp.sum(v, axis=-1, keepdims=True) - v)
        return size * (v * others - p * rest_of_v)

    return times


def _weight_of_classes(loss: Loss, z: jax.Array, targets: Any) -> jax.Array:
    """T = sum_k t_k of every row, kept as an axis."""
    if are_labels(loss.name, z, targets):
        return jnp.ones((*z.shape[:-1], 1), z.dtype)
    t_sum = jnp.sum(jnp.asarray(targets, z.dtype), axis=-1, keepdims=True)
    (smoothing,) = loss.call.args  # type: ignore[union-attr]
    return (1 - smoothing) * t_sum + smoothing


def sigmoid_root(loss: Loss, z: jax.Array, targets: Any) -> Callable:
    """H = diag s(z) s(-z), for labels 0 and 1 and for labels -1 and +1."""
    _, _, yes, no = sigmoid_parts(z)
    return functools.partial(jnp.multiply, jnp.sqrt(yes) * jnp.sqrt(no))


def binary_cross_entropy_root(loss: Loss, a: jax.Array, targets: Any) -> Callable:
    """H = diag(y / a^2 + (1 - y) / (1 - a)^2), 0 / 0 = 0; nothing below tiny, where the loss goes on along its tangent."""
    y = jnp.reshape(targets, a.shape).astype(a.dtype)
    return functools.partial(jnp.multiply, jnp.hypot(jnp.sqrt(y) * _reciprocal(a), jnp.sqrt(1 - y) * _reciprocal(1 - a)))


def log_likelihood_root(loss: Loss, p: jax.Array, targets: Any) -> Callable:
    """H = diag t / p^2, likewise."""
    t = as_distributions(loss.name, p, targets, p.dtype)
    return functools.partial(jnp.multiply, jnp.sqrt(t) * _reciprocal(p))


def _reciprocal(a: jax.Array) -> jax.Array:
    tiny = float(jnp.finfo(a.dtype).tiny)
    return jnp.where(a < tiny, 0, 1 / jnp.maximum(a, tiny))


def hinge_root(loss: Loss, s: jax.Array, targets: Any) -> Callable:
    """H = 0: straight pieces."""
    return jnp.zeros_like


RULES: dict[Callable, Callable] = {
    losses.quadratic: quadratic_root,
    losses.mse: mse_root,
    losses.softmax_cross_entropy: softmax_cross_entropy_root,
    losses.sigmoid_cross_entropy: sigmoid_root,
    losses.logistic: sigmoid_root,
    losses.binary_cross_entropy: binary_cross_entropy_root,
    losses.log_likelihood: log_likelihood_root,
    losses.hinge: hinge_root,
}


# --- any other loss: its Hessian, formed


def formed(loss: Loss, outputs: Any, targets: Any, weights: jax.Array | None) -> Root:
    """S = Q sqrt(lambda) of H = Q lambda Q^T, H by `jax.jacfwd` of the loss's backward, one (outputs, outputs) matrix an example.

    Raises: ValueError where an eigenvalue that can be seen is negative; under jit such an example has NaN.
    """
    for leaf in jax.tree.leaves(outputs):
        inputs.require_floating("curvature: the outputs of the net", leaf)
    dtype = at_least_float32(*jax.tree.leaves(outputs))
    flatten = lambda one: jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(one)])
    restore = _restorer(inputs.spec_of(outputs))

    def slope(z: jax.Array, target: Any, weight: Any) -> jax.Array:
        one, target = jax.tree.map(lambda leaf: leaf[None], (restore(z, dtype), target))
        found, residuals = loss.forward(one, target)
        seeds = jnp.ones(found.shape, found.dtype) if weight is None else weight[None]
        return flatten(loss.backward(residuals, seeds))

    z = jax.vmap(flatten)(outputs)
    hessians = jax.vmap(jax.jacfwd(slope), (0, 0, None if weights is None else 0))(z, targets, weights)
    sizes, directions = jnp.linalg.eigh((hessians + hessians.swapaxes(1, 2)) / 2)
    root = directions * jnp.sqrt(_convex(loss, sizes))[:, None, :]

    def times(u: jax.Array) -> Any:
        return jax.vmap(restore)(jnp.einsum("bij,bj->bi", root, u))

    return Root(times, z.shape, dtype)


def _restorer(spec: Any) -> Callable:
    """The function from flat outputs of one example to their tree, in their own dtypes or in `dtype`."""
    leaves, structure = jax.tree.flatten(spec)
    ends = [0]
    for leaf in leaves:
        ends.append(ends[-1] + math.prod(leaf.shape))

    def restore(z: jax.Array, dtype: Any = None) -> Any:
        parts = [z[i:j].reshape(s.shape).astype(dtype or s.dtype) for s, i, j in zip(leaves, ends, ends[1:], strict=False)]
        return jax.tree.unflatten(structure, parts)

    return restore


def _convex(loss: Loss, sizes: jax.Array) -> jax.Array:
    """Eigenvalues (batch, n) with the rounding below 0 cut off; NaN for an example that is not convex."""
    n = sizes.shape[-1]
    limit = -64 * n * float(jnp.finfo(sizes.dtype).eps) * jnp.max(jnp.abs(sizes), axis=-1, keepdims=True, initial=0)
    bad = jnp.any(sizes < limit, axis=-1, keepdims=True)
    if inputs.is_concrete(bad) and bool(jnp.any(bad)):
        example = int(jnp.argmax(bad[:, 0]))
        raise ValueError(
            f"{loss!r} is not convex in the outputs: its Hessian for example {example} has the eigenvalue "
            f"{float(jnp.min(sizes[example])):.3g}, so there is no square root to make columns of; "
            "use ggn_vector_product, hessian_vector_product or the empirical Fisher"
        )
    return jnp.where(bad, jnp.nan, jnp.maximum(sizes, 0))
