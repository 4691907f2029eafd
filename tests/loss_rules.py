"""A loss run by hand and by autodiff, and softmax cross-entropy in extended precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def by_hand(loss, outputs, targets, losses_bar):
    found, residuals = loss.forward(outputs, targets)
    return found, loss.backward(residuals, losses_bar)


def autodiff(loss, outputs, targets, losses_bar):
    found, vjp = jax.vjp(lambda outputs: loss.forward(outputs, targets)[0], outputs)
    return found, vjp(losses_bar)[0]


def assert_close(got, truth, tolerance=1e-12):
    got, truth = np.asarray(got), np.asarray(truth)
    assert got.shape == truth.shape
    assert np.all(np.isfinite(truth))
    assert np.max(np.abs(got - truth)) <= tolerance * max(np.max(np.abs(truth)), 1e-3)


def plain_loss_and_grad(loss, z, targets):
    return by_hand(loss, z, targets, jnp.ones(z.shape[:-1]))


loss_and_grad = jax.jit(plain_loss_and_grad, static_argnums=0)


def plain_cross_entropy(z, labels):
    """ln sum e^z - z_y, as it is usually written."""
    return jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, labels[:, None], axis=-1)[:, 0]


def true_cross_entropy(z, t):
    """Losses and gradient in extended precision, each minus one summed from the others."""
    d = np.asarray(z).astype(np.longdouble)
    d, t = d - d.max(-1, keepdims=True), np.asarray(t).astype(np.longdouble)
    e = np.exp(d)
    others = 1 - np.eye(d.shape[-1], dtype=np.longdouble)
    top = np.eye(d.shape[-1])[d.argmax(-1)] > 0
    log_s = np.log1p(np.where(top, 0, e).sum(-1))
    found = t.sum(-1) * log_s - np.where(t == 0, 0, t * d).sum(-1)
    grad = (e * (t @ others) - t * (e @ others)) / e.sum(-1, keepdims=True)
    return found.astype(np.float64), grad.astype(np.float64)


def ahead(margin: float, classes: int, offset: float = 0.0, rows: int = 64):
    """float32 logits and labels, the label's logit `margin` above all others."""
    rng = np.random.default_rng(round(margin) + classes)
    z, labels = rng.normal(size=(rows, classes)) + offset, rng.integers(0, classes, rows)
    z[np.arange(rows), labels] = z.max(-1) + margin
    return jnp.asarray(z, jnp.float32), jnp.asarray(labels)
