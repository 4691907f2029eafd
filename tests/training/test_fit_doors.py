"""What fit refuses, with what words, before anything is compiled."""

from __future__ import annotations

import functools

import jax
import numpy as np
import optax
import pytest

import jaxbp as bp
from jaxbp.training import class_weights, engine, fit, mae, standardize


KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(12, 4))
Y = np.arange(12) % 3
NET = bp.serial(bp.dense(5), bp.tanh(), bp.dense(3))
LOSS = bp.losses.softmax_cross_entropy()
SGD = optax.sgd(0.1)
GOOD = {"net": NET, "loss": LOSS, "optimizer": SGD, "x": X, "targets": Y, "key": KEY, "epochs": 2, "batch_size": 4}


def bad(array, index, value):
    array = np.array(array, float)
    array[index] = value
    return array


REFUSED = [
    ({"net": bp.dense}, TypeError, "net: a Layer was expected"),
    ({"loss": optax.l2_loss}, TypeError, "loss: a Loss"),
    ({"optimizer": optax.sgd}, TypeError, r"with init and update.*call it first"),
    ({"optimizer": 0.1}, TypeError, "an optax optimiser"),
    ({"penalty": 0.1}, TypeError, r"penalty: a Penalty such as jaxbp.penalties.l2\(1e-3\)"),
    ({"key": 0}, TypeError, r"needs a PRNG key such as jax.random.key\(0\), got 0"),
    ({"key": jax.random.split(KEY, 3)}, TypeError, "one key was expected"),
    ({"epochs": 0}, ValueError, "epochs has to be positive"),
    ({"epochs": 2.0}, TypeError, "epochs is a whole number"),
    ({"batch_size": 0}, ValueError, "batch_size has to be positive"),
    ({"batch_size": -1}, ValueError, "batch_size has to be positive"),
    ({"batch_size": True}, TypeError, "batch_size is a whole number"),
    ({"batch_size": 13}, ValueError, "batch_size=13 is more than the 12 training rows; batch_size=None is the full batch"),
    ({"chunk": 0}, ValueError, "chunk has to be positive"),
    ({"progress": 3}, TypeError, r"progress: a function of \(epoch, info\)"),
    ({"gradient": "auto"}, ValueError, "gradient is 'manual' or 'autodiff', got 'auto'"),
    ({"reduction": "max"}, ValueError, "reduction is 'mean' or 'sum'"),
    ({"remainder": "keep"}, ValueError, "remainder is 'short' or 'drop'"),
    ({"metrics": ["acc"]}, ValueError, r"metrics: a Metric or one of .*'mae'.* by jaxbp.training.mean_of\(name, fun\)"),
    ({"metrics": mae}, ValueError, "metrics: a Metric or one of"),
    ({"shuffle": "no"}, TypeError, "shuffle is True or False, got 'no'"),
    ({"evaluate_training": 1}, TypeError, "evaluate_training is True or False, got 1"),
    ({"x": X[:, None]}, ValueError, r"the outputs are \[12, 1, 3\] because x has shape \[12, 1, 4\]"),
    ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "class_weight: all weights are 0"),
    ({"class_weight": {5: 1.0}}, ValueError, "class_weights"),
    ({"class_weight": "balanced", "targets": X[:, :3], "loss": bp.losses.mse()}, ValueError, "targets that are classes"),
    ({"net": bp.serial(bp.dense(3), bp.softmax())}, UserWarning, r"has a softmax inside; leave softmax\(\) out"),
    (
        {"net": bp.mlp([4, 3]), "loss": bp.losses.log_likelihood()},
        UserWarning,
        r"use losses.softmax_cross_entropy\(\)",
    ),
    ({"scale": standardize}, TypeError, r"scale: a pair of functions.*call it first"),
    ({"targets": Y[:-1]}, ValueError, "x has 12 rows, targets 11"),
    ({"x": X[:0]}, ValueError, "the batch is empty"),
    ({"x": bad(X, (3, 1), np.nan)}, ValueError, r"x: 1 values are NaN or infinite, the first at index \[3, 1\]"),
    ({"x": bad(X, (3, 1), np.inf)}, ValueError, "NaN or infinite"),
    ({"x": X.astype(str)}, TypeError, "numbers were expected"),
    ({"x": np.arange(48).reshape(12, 4)}, TypeError, "takes floating-point inputs"),
    ({"targets": Y + 1}, ValueError, "3"),
    ({"targets": Y - 1}, ValueError, "-1"),
    ({"targets": Y.astype(float)}, (ValueError, TypeError), "softmax_cross_entropy"),
    ({"sample_weight": np.ones(11)}, ValueError, r"sample_weight: shape \[12\]"),
    ({"sample_weight": -np.ones(12)}, ValueError, "finite weights of 0 or more"),
    ({"sample_weight": bad(np.ones(12), 2, np.nan)}, ValueError, "finite weights of 0 or more"),
    ({"sample_weight": np.zeros(12)}, ValueError, "all weights are 0"),
    ({"params": ()}, ValueError, "params have another structure"),
    ({"params": NET.init(KEY, (5,))[0]}, ValueError, r"params\[0\]\.w should be"),
    ({"validation": X}, TypeError, r"validation: \(x, targets\)"),
    ({"validation": (X, Y[:5])}, ValueError, "validation x has 12 rows, validation targets 5"),
    ({"validation": (X[:, :3], Y)}, ValueError, r"validation x: an example is float64\[3\], in training it is float64\[4\]"),
    ({"validation": (bad(X, (0, 0), np.nan), Y)}, ValueError, "validation x: 1 values are NaN"),
    ({"validation": (X, Y + 5)}, ValueError, "labels"),
    ({"net": bp.embedding(10, 3), "x": np.full((12, 1), 10)}, ValueError, "10"),
]


@pytest.mark.parametrize(
    ("change", "error", "words"), REFUSED, ids=lambda value: "+".join(value) if isinstance(value, dict) else ""
)
def test_refused_before_anything_is_compiled(change, error, words, monkeypatch):
    monkeypatch.setattr(engine, "run", lambda job: pytest.fail("compiled"))
    options = GOOD | change
    call = functools.partial(fit, *(options.pop(name) for name in ("net", "loss", "optimizer", "x", "targets")), **options)
    with pytest.raises(error, match=words):
        call()


def test_lists_are_arrays():
    x, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0]
    result = fit(bp.dense(2), LOSS, SGD, x, y, key=KEY, epochs=1, batch_size=None)
    again = fit(bp.dense(2), LOSS, SGD, np.array(x), np.array(y), key=KEY, epochs=1, batch_size=None)
    np.testing.assert_array_equal(result.params.w, again.params.w)


def test_tracers_are_refused():
    with pytest.raises(TypeError, match="call it outside jit"):
        jax.jit(lambda x: fit(NET, LOSS, SGD, x, Y, key=KEY, epochs=1, batch_size=4).params)(X)


def test_large_numbers_are_finite():
    """The quick check sums in float32 and may overflow; the slow one then has the word."""
    x = np.zeros((12, 4))
    x[:, 0] = 1e38
    fit(bp.dense(3), LOSS, optax.sgd(1e-80), x * 1e38, Y, key=KEY, epochs=1, batch_size=None, gradient="manual")


def test_class_weight_multiplies_the_weights_in_training_alone():
    rare, own = np.r_[np.zeros(9, int), [1, 2, 2]], np.arange(1.0, 13.0)
    run = functools.partial(fit, NET, LOSS, SGD, X, rare, key=KEY, epochs=2, batch_size=4, evaluate_training=True)
    plain, by_class = run(sample_weight=own * class_weights(rare)), run(sample_weight=own, class_weight="balanced")
    jax.tree.map(np.testing.assert_array_equal, by_class.params, plain.params)
    outputs = NET(by_class.params, X)
    expected = np.average(outputs.argmax(-1) == rare, weights=own)
    np.testing.assert_allclose(by_class.history["accuracy"][-1], expected, rtol=1e-6)
