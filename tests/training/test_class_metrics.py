"""Class metrics and class weights against scikit-learn, in both precisions, weighted and not, in parts and as a whole."""

from __future__ import annotations

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from jaxbp.training.class_metrics import (
    LINKS,
    accuracy,
    balanced_accuracy,
    calibration_error,
    class_weights,
    per_class_accuracy,
)


DRAW = np.random.default_rng(3)
N, CLASSES = 60, 4
LOGITS = DRAW.normal(size=(N, CLASSES)) * 2
LABELS = DRAW.choice(3, N, p=[0.6, 0.3, 0.1])  # class 3 has no member, but is predicted
WEIGHT = DRAW.integers(0, 4, N).astype(float)
SINGLE = DRAW.normal(size=(N, 1)) * 2
BINARY = (DRAW.random(N) < 0.3).astype(int)
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-6)], ids=["f64", "f32"])
WEIGHTS = (np.ones(N), WEIGHT)


def softmax(z):
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


@functools.partial(jax.jit, static_argnums=(0,))
def twice(metric, outputs, targets, weight):
    """The value of all rows at once, and of the added sums of three parts, as a run gathers it."""
    parts = [a.reshape(3, -1, *a.shape[1:]) for a in (outputs, targets, weight)]
    sums = jax.lax.map(lambda part: metric.sums(*part), parts)
    return metric(outputs, targets, weight), metric.value(jax.tree.map(lambda a: jnp.sum(a, axis=0), sums))


def assert_metric(metric, outputs, targets, weight, want, tolerance):
    for got in twice(metric, outputs, targets, weight.astype(outputs.dtype)):
        assert got.dtype == outputs.dtype
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@PRECISIONS
def test_recalls(dtype, tolerance):
    outputs, predicted = LOGITS.astype(dtype), LOGITS.argmax(1)
    for weight in WEIGHTS:
        recalls = recall_score(LABELS, predicted, labels=range(CLASSES), average=None, sample_weight=weight, zero_division=np.nan)
        assert np.isnan(recalls).tolist() == [False, False, False, True]
        with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
            balanced = balanced_accuracy_score(LABELS, predicted, sample_weight=weight)
        for targets in (LABELS, np.eye(CLASSES)[LABELS]):
            assert_metric(per_class_accuracy(CLASSES), outputs, targets, weight, recalls, tolerance)
            assert_metric(balanced_accuracy(CLASSES), outputs, targets, weight, balanced, tolerance)
    np.testing.assert_array_equal(
        jax.jit(per_class_accuracy(CLASSES))(outputs, LABELS), twice(per_class_accuracy(CLASSES), outputs, LABELS, np.ones(N))[0]
    )


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_recalls_of_one_output(threshold):
    for weight in WEIGHTS:
        balanced = balanced_accuracy_score(BINARY, SINGLE[:, 0] > threshold, sample_weight=weight)
        recalls = recall_score(BINARY, SINGLE[:, 0] > threshold, labels=[0, 1], average=None, sample_weight=weight)
        for targets in (BINARY, 2.0 * BINARY[:, None] - 1):
            assert_metric(balanced_accuracy(2, threshold), SINGLE, targets, weight, balanced, 1e-14)
        assert_metric(per_class_accuracy(2, threshold), SINGLE, BINARY, weight, recalls, 1e-14)


def test_recalls_along_time():
    outputs, labels = jnp.asarray(LOGITS.reshape(20, 3, CLASSES)), jnp.asarray(LABELS.reshape(20, 3))
    want = recall_score(LABELS, LOGITS.argmax(1), labels=range(CLASSES), average=None, zero_division=np.nan)
    np.testing.assert_allclose(per_class_accuracy(CLASSES)(outputs, labels), want)
    rows = np.arange(20) % 3
    want = recall_score(
        LABELS, LOGITS.argmax(1), labels=range(CLASSES), average=None, zero_division=np.nan, sample_weight=rows.repeat(3)
    )
    np.testing.assert_allclose(per_class_accuracy(CLASSES)(outputs, labels, rows), want)
    with pytest.raises(ValueError, match=r"\[20, 2\] weights do not fit a metric of \[20, 3\]"):
        per_class_accuracy(CLASSES)(outputs, labels, np.ones((20, 2)))


def test_nothing_to_report():
    for metric in (per_class_accuracy(CLASSES), balanced_accuracy(CLASSES), calibration_error()):
        assert np.isnan(twice(metric, LOGITS, LABELS, np.zeros(N))).all()
    outside, weight = LABELS.copy(), np.ones(N)
    outside[:2], weight[:2] = (CLASSES, -1), 0
    for labels, rows in ((outside, np.ones(N)), (LABELS, weight)):  # of no class, or of no weight
        np.testing.assert_array_equal(
            twice(per_class_accuracy(CLASSES), LOGITS, labels, rows)[0],
            recall_score(LABELS[2:], LOGITS[2:].argmax(1), labels=range(CLASSES), average=None, zero_division=np.nan),
        )


def expected_calibration_error(confidence, hits, weight, bins):
    """From scikit-learn's reliability curve of rows repeated as often as they weigh."""
    repeats = weight.astype(int)
    confidence, hits = np.repeat(confidence, repeats), np.repeat(hits, repeats)
    accuracies, confidences = calibration_curve(hits, confidence, n_bins=bins)
    counts = np.bincount(np.ceil(confidence * bins).astype(int), minlength=bins + 1)
    return np.sum(counts[counts > 0] * np.abs(accuracies - confidences)) / len(hits)


@PRECISIONS
@pytest.mark.parametrize("bins", [1, 15])
def test_calibration_of_classes(dtype, tolerance, bins):
    probs = softmax(LOGITS)
    for weight in WEIGHTS:
        want = expected_calibration_error(probs.max(1), probs.argmax(1) == LABELS, weight, bins)
        for outputs, link in ((LOGITS, "softmax"), (LOGITS + 300, "softmax"), (probs, "class_probs")):
            loose = tolerance * (100 if outputs[0, 0] > 200 else 3)  # what the logits lost when 300 was added
            assert_metric(calibration_error(bins, link), outputs.astype(dtype), LABELS, weight, want, loose)


def test_calibration_of_single_probabilities():
    probs = 1 / (1 + np.exp(-SINGLE[:, 0]))
    two = np.stack([np.zeros(N), SINGLE[:, 0]], axis=1)  # sigmoid is softmax beside 0
    labels = np.stack([BINARY, 1 - BINARY], axis=1)  # two labels a row, each an example with the weight of its row
    both = np.stack([SINGLE[:, 0], -SINGLE[:, 0]], axis=1)
    cases = [
        ("sigmoid", SINGLE, BINARY),
        ("sigmoid", SINGLE, 2.0 * BINARY[:, None] - 1),
        ("probs", probs, BINARY),
        ("softmax", two, BINARY),
        ("softmax", two, np.eye(2)[BINARY]),
        ("sigmoid", both, labels),
    ]
    for weight in WEIGHTS:
        want = expected_calibration_error(np.maximum(probs, 1 - probs), (probs > 0.5) == (BINARY == 1), weight, 15)
        for link, outputs, targets in cases:
            assert_metric(calibration_error(link=link), outputs, targets, weight, want, 1e-14)


def test_calibration_at_edges_and_with_garbage():
    edge = calibration_error(2, "class_probs").sums(np.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]]), np.array([1, 1, 0]))
    np.testing.assert_allclose(edge[0], [-0.5, 0.25 - 1.0])  # 1/2 belongs to the lower bin, 1 to the last
    broken, weight = LOGITS.copy(), np.ones(N)
    broken[0], weight[0] = np.nan, 0
    assert np.isnan(twice(calibration_error(), broken, LABELS, np.ones(N))).all()
    np.testing.assert_array_equal(
        twice(calibration_error(), broken, LABELS, weight), twice(calibration_error(), LOGITS, LABELS, weight)
    )


def test_half_precision_counts_in_float32():
    outputs = jnp.ones((3000, 2), jnp.bfloat16) * jnp.array([1, 0], jnp.bfloat16)[None]
    labels = (jnp.arange(3000) == 0).astype(jnp.int32)
    recalls = per_class_accuracy(2)(outputs, labels)
    assert (recalls.tolist(), recalls.dtype) == ([1.0, 0.0], jnp.float32)
    error = calibration_error()(outputs, labels)
    assert error == pytest.approx(2999 / 3000 - 1 / (1 + np.exp(-1)), rel=1e-5)


def test_equal_calls_are_one_object_and_pickle():
    for build in (per_class_accuracy, balanced_accuracy):
        assert build(3) is build(classes=3)
    assert calibration_error() is calibration_error(bins=15, link="softmax")
    for metric in (per_class_accuracy(CLASSES), balanced_accuracy(CLASSES), calibration_error()):
        again = pickle.loads(pickle.dumps(metric))
        assert (again.name, again.value, again.sums.keywords) == (metric.name, metric.value, metric.sums.keywords)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: balanced_accuracy(1), "2 or more, got 1"),
        (lambda: per_class_accuracy(3, 0.5), "2, which a threshold divides, got 3"),
        (lambda: calibration_error(0), "positive"),
        (lambda: calibration_error(link="probit"), "link is one of"),
        (lambda: balanced_accuracy(3)(LOGITS, LABELS), r"outputs \(batch, ..., 3\) were expected, got \[60, 4\]"),
        (lambda: balanced_accuracy(2)(SINGLE, BINARY), "needs threshold="),
        (lambda: balanced_accuracy(2, 0.5)(LOGITS, LABELS), "one output and one target an example"),
        (lambda: accuracy()(LOGITS, LABELS[:, None]), r"got targets \[60, 1\]"),
        (lambda: calibration_error(link="sigmoid")(LOGITS, LABELS), "a target for every output"),
    ],
)
def test_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
    assert "softmax" in LINKS


TEXTS = np.array(["cat", "dog", "emu"])[LABELS]


@pytest.mark.parametrize("labels", [LABELS, TEXTS, LABELS.tolist()], ids=["integers", "texts", "list"])
def test_class_weights(labels):
    weights = class_weights(labels)
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", labels), rtol=1e-15)
    np.testing.assert_allclose(
        [weights[c == LABELS][0] for c in range(3)],
        compute_class_weight("balanced", classes=np.unique(labels), y=labels),
        rtol=1e-15,
    )
    np.testing.assert_allclose([weights[c == LABELS].sum() for c in range(3)], N / 3)
    named = {np.unique(labels)[1].item(): 2.5}
    np.testing.assert_array_equal(class_weights(labels, named), compute_sample_weight(named, labels))


def test_accuracy_under_balanced_weights_is_balanced_accuracy():
    weighted = accuracy()(jnp.asarray(LOGITS), jnp.asarray(LABELS), class_weights(LABELS))
    np.testing.assert_allclose(weighted, balanced_accuracy(CLASSES)(jnp.asarray(LOGITS), jnp.asarray(LABELS)), rtol=1e-14)


@pytest.mark.parametrize(
    ("labels", "weights", "error", "words"),
    [
        (LOGITS, "balanced", ValueError, r"labels of shape \[n\]"),
        ([], "balanced", ValueError, r"labels of shape \[n\]"),
        (LABELS, "even", ValueError, "'balanced' or a mapping"),
        (LABELS, [1, 2, 3], TypeError, "'balanced' or a mapping"),
        (TEXTS, {"dgo": 2.0}, ValueError, r"\['dgo'\] are no classes"),
        (LABELS, {1: -1.0}, ValueError, "0 or more"),
        (LABELS, {1: np.inf}, ValueError, "finite"),
    ],
)
def test_class_weights_refused(labels, weights, error, words):
    with pytest.raises(error, match=words):
        class_weights(labels, weights)
