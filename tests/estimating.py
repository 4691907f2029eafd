"""What the tests of the estimators share: small data, short trainings, a limit on traces."""

import functools

import chex
import jax
import numpy as np

import jaxbp
from jaxbp.estimator import BackpropClassifier, BackpropRegressor
from jaxbp.training import program


DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(29, 3)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
NAMES = np.array(["low", "mid", "top"])[LABELS]
TARGETS = X @ np.array([[1.0, 2.0], [0.5, 0.0], [0.0, -1.0]])
SMALL = {"hidden": (), "epochs": 2, "batch_size": 8, "random_state": 0}
CLASSIFIER, REGRESSOR = BackpropClassifier(**SMALL), BackpropRegressor(**SMALL)


def equal(a, b, **close):
    compare = functools.partial(np.testing.assert_allclose, **close) if close else np.testing.assert_array_equal
    jax.tree.map(compare, a, b)


def traced_at_most(times, monkeypatch):
    """From here on the training program may be traced so many times."""
    chex.clear_trace_counter()
    counted = jax.jit(
        chex.assert_max_traces(program.train_chunk.__wrapped__, n=times), static_argnums=(0, 1, 2), donate_argnums=3
    )
    monkeypatch.setattr(program, "train_chunk", counted)


def net_of(features, outputs):
    return jaxbp.mlp([features, 5, outputs], hidden=jaxbp.tanh())
