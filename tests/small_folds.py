"""A small cross-validation that its tests share: data, nets, optimisers, and the call."""

from __future__ import annotations

import functools

import jax
import numpy as np
import optax

import jaxbp as bp
from jaxbp.validation import cross_validate


KEY = jax.random.key(5)
N = 22  # in 5 folds: trains on 17 or 18
DRAW = np.random.default_rng(0)
X = DRAW.normal(2, 3, (N, 4))
LABELS = DRAW.permutation(np.arange(N) % 3)
WEIGHT = DRAW.integers(0, 3, N).astype(float)
NET = bp.serial(bp.dense(5), bp.tanh(), bp.dense(3))
LOSS = bp.losses.softmax_cross_entropy()
MOMENTUM = optax.sgd(0.05, momentum=0.9)
ADAM = optax.adam(0.01)

run = functools.partial(cross_validate, bp.dense(3), LOSS, MOMENTUM, X, LABELS, folds=5, key=KEY, epochs=4, batch_size=5)


def assert_close(got, want, tolerance=1e-12):
    """Each leaf within tolerance of its largest entry (1e-3 of the largest of all, where it is smaller)."""
    leaves = [
        (np.asarray(g, np.float64), np.asarray(w, np.float64)) for g, w in zip(*map(jax.tree.leaves, (got, want)), strict=True)
    ]
    whole = max((np.abs(w).max(initial=0) for _, w in leaves), default=0)
    for g, w in leaves:
        assert g.shape == w.shape
        assert np.abs(g - w).max(initial=0) <= tolerance * max(np.abs(w).max(initial=0), 1e-3 * whole)


DROPPED = bp.serial(bp.dropout(0.3), bp.dense(3))
SMALL = bp.dense(3)  # compiles faster, for what does not depend on depth
PARAMS = SMALL.init(jax.random.key(9), jax.ShapeDtypeStruct((4,), X.dtype))[0]
