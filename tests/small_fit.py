"""A small training that the tests of `fit` share: data, nets, optimisers, and the plain loop that it is compared with."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxbp as bp
from jaxbp.training import fit, order


KEY = jax.random.key(7)
N = 23
X = np.random.default_rng(0).normal(size=(N, 4))
LABELS = np.random.default_rng(1).integers(0, 3, N)
NET = bp.serial(bp.dense(5), bp.tanh(), bp.dense(3))
SMALL = bp.dense(3)  # compiles faster, for what does not depend on depth
LOSS = bp.losses.softmax_cross_entropy()
MOMENTUM = optax.sgd(0.1, momentum=0.9)
ADAM = optax.adam(0.01)

run = functools.partial(fit, SMALL, LOSS, MOMENTUM, X, LABELS, key=KEY, epochs=4, batch_size=5)


def assert_close(got, want, tolerance=1e-12):
    """Each leaf within tolerance of its largest entry (1e-3 of the largest of all, where it is smaller)."""
    leaves = [
        (np.asarray(g, np.float64), np.asarray(w, np.float64)) for g, w in zip(*map(jax.tree.leaves, (got, want)), strict=True)
    ]
    whole = max((np.abs(w).max(initial=0) for _, w in leaves), default=0)
    for g, w in leaves:
        assert np.abs(g - w).max(initial=0) <= tolerance * max(np.abs(w).max(initial=0), 1e-3 * whole)


def initial(net=SMALL):
    return net.init(KEY, jax.ShapeDtypeStruct(X.shape[1:], X.dtype))[0]


def plain_loop(optimizer, batch_size, epochs, *, net=NET, shuffle=True):
    """The reference: a loop of optax steps on batches sliced with their own size, by automatic gradients."""
    params = initial(net)
    state, losses = optimizer.init(params), []
    gradient = jax.jit(jax.value_and_grad(lambda params, x, y: jnp.mean(LOSS.forward(net.forward(params, x)[0], y)[0])))
    n, words = N, order.key_words(KEY)
    for epoch in range(epochs):
        rows = order.permutation(words, epoch, n) if shuffle and batch_size < n else np.arange(n)
        of_epoch = 0.0
        for start in range(0, n, batch_size):
            batch = rows[start : start + batch_size]
            value, grads = gradient(params, X[batch], LABELS[batch])
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            of_epoch += float(value) * len(batch)
        losses.append(of_epoch / n)
    return params, state, losses
