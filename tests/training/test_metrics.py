"""Metrics against direct formulas, their sums over parts, and the automatic choice."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp
from jaxbp.training import accuracy, binary_accuracy, mean_of, metrics, mse, sign_accuracy


DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(0, 3, 12)
OUTPUTS = DRAW.normal(size=(12, 3))
WEIGHT = np.arange(12) % 4
SINGLE = DRAW.normal(size=(12, 1))
SIGNS = np.where(DRAW.normal(size=(12, 1)) > 0, 1.0, -1.0)


CASES = [
    (accuracy(), OUTPUTS, LABELS, (OUTPUTS.argmax(1) == LABELS).astype(float)),
    (accuracy(), OUTPUTS, np.eye(3)[LABELS], (OUTPUTS.argmax(1) == LABELS).astype(float)),
    (sign_accuracy(), SINGLE, SIGNS, (np.sign(SINGLE) == SIGNS)[:, 0].astype(float)),
    (sign_accuracy(), SINGLE, SIGNS[:, 0], (np.sign(SINGLE) == SIGNS)[:, 0].astype(float)),
    (binary_accuracy(0.0), SINGLE, SIGNS > 0, (np.sign(SINGLE) == SIGNS)[:, 0].astype(float)),
    (binary_accuracy(), 1 / (1 + np.exp(-SINGLE)), SIGNS > 0, (np.sign(SINGLE) == SIGNS)[:, 0].astype(float)),
    (mse(), OUTPUTS, OUTPUTS[::-1], ((OUTPUTS - OUTPUTS[::-1]) ** 2).mean(1)),
    (mse(), SINGLE, SIGNS[:, 0], ((SINGLE - SIGNS) ** 2).mean(1)),
]


@pytest.mark.parametrize(("metric", "outputs", "targets", "values"), CASES, ids=lambda case: getattr(case, "name", ""))
def test_weighted_mean_and_sums_over_parts(metric, outputs, targets, values):
    outputs, targets = jnp.asarray(outputs), jnp.asarray(targets)
    np.testing.assert_allclose(metric(outputs, targets), values.mean(), rtol=1e-14)
    np.testing.assert_allclose(metric(outputs, targets, WEIGHT), np.average(values, weights=WEIGHT), rtol=1e-14)
    parts = [metric.sums(outputs[i : i + 5], targets[i : i + 5], WEIGHT[i : i + 5]) for i in range(0, 12, 5)]
    added = jax.tree.map(lambda *a: sum(a[1:], a[0]), *parts)
    np.testing.assert_allclose(metric.value(added), np.average(values, weights=WEIGHT), rtol=1e-14)
    assert np.isnan(metric(outputs, targets, np.zeros(12)))


def test_time_axis():
    outputs, labels = OUTPUTS.reshape(4, 3, 3), LABELS.reshape(4, 3)
    hits = outputs.argmax(-1) == labels
    weight = np.array([1.0, 0.0, 2.0, 1.0])
    np.testing.assert_allclose(
        accuracy()(jnp.asarray(outputs), jnp.asarray(labels), weight), np.average(hits.mean(1), weights=weight)
    )
    each = WEIGHT.reshape(4, 3)
    np.testing.assert_allclose(accuracy()(jnp.asarray(outputs), jnp.asarray(labels), each), np.average(hits, weights=each))


def test_a_row_of_weight_zero_may_hold_anything():
    outputs = jnp.asarray(OUTPUTS).at[0].set(jnp.nan)
    weight = np.ones(12)
    weight[0] = 0
    np.testing.assert_allclose(mse()(outputs, outputs[::1] * 0, weight), (OUTPUTS[1:] ** 2).mean(), rtol=1e-14)


def test_half_precision_counts_in_float32():
    outputs = jnp.ones((3000, 2), jnp.bfloat16) * jnp.array([1, 0], jnp.bfloat16)[None]
    value = accuracy()(outputs, jnp.zeros(3000, jnp.int32))
    assert (value, value.dtype) == (1.0, jnp.float32)


def chosen(loss, outputs, targets):
    spec = jax.ShapeDtypeStruct(np.shape(outputs), np.float64)
    found = metrics.resolve(None, loss, spec, np.asarray(targets))
    return list(found), metrics.class_labels(spec, np.asarray(targets))


SOFT = np.full((12, 3), 1 / 3)
L = bp.losses


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "metric", "classes"),
    [
        (L.softmax_cross_entropy(), OUTPUTS, LABELS, accuracy(), LABELS),
        (L.quadratic(), OUTPUTS, np.eye(3)[LABELS], accuracy(), LABELS),
        (L.softmax_cross_entropy(), OUTPUTS, SOFT, accuracy(), None),
        (L.softmax_cross_entropy(), OUTPUTS.reshape(4, 3, 3), LABELS.reshape(4, 3), accuracy(), None),
        (L.sigmoid_cross_entropy(), OUTPUTS, np.ones((12, 3)), mse(), None),
        (L.hinge(), SINGLE, SIGNS, sign_accuracy(), SIGNS[:, 0] > 0),
        (L.hinge(), SINGLE, SIGNS[:, 0].astype(int), sign_accuracy(), SIGNS[:, 0] > 0),
        (L.sigmoid_cross_entropy(), SINGLE, SIGNS > 0, binary_accuracy(0.0), SIGNS[:, 0] > 0),
        (L.binary_cross_entropy(), SINGLE, SIGNS > 0, binary_accuracy(0.5), SIGNS[:, 0] > 0),
        (L.quadratic(), SINGLE, SINGLE, mse(), None),
        (L.quadratic(), OUTPUTS, OUTPUTS, mse(), None),
    ],
)
def test_the_automatic_choice(loss, outputs, targets, metric, classes):
    targets = targets.astype(float) if targets.dtype == bool else targets
    found, labels = chosen(loss, outputs, targets)
    assert found == [metric]
    if classes is None:
        assert labels is None
    else:
        np.testing.assert_array_equal(labels, classes.astype(int))


def test_names():
    spec = jax.ShapeDtypeStruct((12, 3), np.float64)
    other = mean_of("other", lambda outputs, targets: outputs[:, 0])
    assert [m.name for m in metrics.resolve(["accuracy", other], L.mse(), spec, LABELS)] == ["accuracy", "other"]
    assert metrics.resolve("mse", L.mse(), spec, OUTPUTS) == (mse(),)
    assert metrics.resolve((), L.mse(), spec, OUTPUTS) == ()
    single = jax.ShapeDtypeStruct((12, 1), np.float64)
    assert metrics.resolve("accuracy", L.hinge(), single, SIGNS) == (sign_accuracy(),)
    with pytest.raises(ValueError, match=r"one of \['accuracy', .*got 'acuracy'"):
        metrics.resolve("acuracy", L.mse(), spec, LABELS)
    with pytest.raises(ValueError, match="a name of its own"):
        metrics.resolve(["accuracy", accuracy()], L.mse(), spec, LABELS)
    with pytest.raises(ValueError, match="'loss' is taken"):
        metrics.resolve(mean_of("loss", lambda outputs, targets: outputs[:, 0]), L.mse(), spec, LABELS)
