"""Metrics against direct formulas, their sums over parts, and the automatic choice."""

from __future__ import annotations

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import r2_score

import jaxbp as bp
from jaxbp.training import accuracy, binary_accuracy, mae, mean_of, metrics, mse, sign_accuracy
from jaxbp.training.class_metrics import balanced_accuracy, calibration_error, per_class_accuracy
from jaxbp.training.metrics import r2


L = bp.losses
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


REAL = DRAW.normal(size=(4000, 3)) * np.array([1.0, 0.1, 30.0])
NEAR = REAL + DRAW.normal(size=(4000, 3)) * np.array([0.2, 0.1, 10.0])
REAL_WEIGHT = DRAW.integers(0, 3, 4000).astype(float)


@functools.partial(jax.jit, static_argnums=(0, 4))
def in_blocks(metric, outputs, targets, weight, block):
    """The value of the added sums of blocks of rows, as a run gathers it."""
    parts = [a.reshape(-1, block, *a.shape[1:]) for a in (outputs, targets, weight)]
    return metric.value(jax.tree.map(lambda a: jnp.sum(a, axis=0), jax.lax.map(lambda part: metric.sums(*part), parts)))


@pytest.mark.parametrize("mean", [0.0, 2000.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_r2(dtype, tolerance, mean):
    """Of 3 entries whose deviations are 0.1, 1 and 30. The truth is of the numbers as they were rounded to the dtype."""
    outputs, targets = ((a + mean).astype(dtype) for a in (NEAR, REAL))
    by_name = metrics.resolve("r2", L.mse(), jax.ShapeDtypeStruct(outputs.shape, dtype), targets)[0]
    assert (by_name == r2()) == (mean == 0)
    for weight in (np.ones(4000), REAL_WEIGHT):
        want = r2_score(targets.astype(np.float64), outputs.astype(np.float64), sample_weight=weight)
        for metric, block in ((by_name, 40), (r2(), 4000)):
            got = in_blocks(metric, outputs, targets, weight.astype(dtype), block)
            assert got.dtype == dtype
            np.testing.assert_allclose(got, want, rtol=tolerance)


def test_r2_without_a_shift_loses_at_most_what_lies_between_batches():
    outputs, targets = ((a + 2000).astype(np.float32) for a in (NEAR, REAL))
    want = r2_score(targets.astype(np.float64), outputs.astype(np.float64))
    got = in_blocks(r2(), outputs, targets, np.ones(4000, np.float32), 40)
    assert 1e-5 < abs(got - want) < 3 / 40 * (1 - want)  # the batches' means differ by 1/40 of the variance


def test_r2_with_batches_of_padding_alone():
    weight = (np.arange(12) < 6).astype(float)
    want = r2_score(SINGLE[:6], SINGLE[::-1][:6])
    np.testing.assert_allclose(in_blocks(r2(), SINGLE[::-1], SINGLE, weight, 3), want, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_r2_of_constant_targets(dtype):
    y, weight = np.full((6, 1), 0.1, dtype), np.ones(6, dtype)
    for metric, block in ((r2(), 6), (r2(), 2), (r2(0.1), 2)):
        assert in_blocks(metric, y, y, weight, block) == 1
        assert in_blocks(metric, y + 1, y, weight, block) == 0
    assert r2_score(y * 0, y * 0) == 1
    assert r2_score(y * 0, y) == 0


def test_r2_at_its_edges():
    two = np.array([[0.5, 1.0], [0.5, 2.0], [0.5, 4.0]])
    value = jax.jit(r2())
    np.testing.assert_allclose(value(two * 1.1, two), r2_score(two, two * 1.1), rtol=1e-13)
    assert np.isnan(value(SINGLE, SINGLE, np.zeros(12)))
    assert np.isnan(value(SINGLE, SINGLE, np.eye(12)[3]))  # of one row, as scikit-learn, with a warning, has it
    broken, weight = SINGLE.copy(), 1.0 - np.eye(12)[3]
    broken[3] = np.nan
    assert np.isnan(value(broken, SINGLE, np.ones(12)))
    assert np.isnan(value(broken, np.ones((12, 1)), np.ones(12)))  # nor is it 0 beside constant targets
    np.testing.assert_allclose(
        value(broken, SINGLE[::-1], weight), r2_score(SINGLE[::-1], SINGLE, sample_weight=weight), rtol=1e-12
    )
    np.testing.assert_allclose(
        value(SINGLE, SINGLE[::-1, 0]), r2_score(SINGLE[::-1], SINGLE), rtol=1e-12
    )  # no last axis, no weights
    assert pickle.loads(pickle.dumps(r2())).sums.keywords == {"shift": 0.0}


def test_targets_of_another_shape_are_refused():
    for metric in (r2(), mse()):
        with pytest.raises(ValueError, match=r"targets of the shape \[12, 3\] .* got \[12\]"):
            metric(OUTPUTS, LABELS)
    with pytest.raises(ValueError, match="weights do not fit"):
        r2()(OUTPUTS, OUTPUTS, np.ones((12, 3)))


def chosen(loss, outputs, targets):
    spec = jax.ShapeDtypeStruct(np.shape(outputs), np.float64)
    found = metrics.resolve(None, loss, spec, np.asarray(targets))
    return list(found), metrics.class_labels(spec, np.asarray(targets))


SOFT = np.full((12, 3), 1 / 3)


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


@pytest.mark.parametrize(
    ("name", "loss", "outputs", "targets", "metric"),
    [
        ("balanced_accuracy", L.softmax_cross_entropy(), OUTPUTS, LABELS, balanced_accuracy(3)),
        ("per_class_accuracy", L.quadratic(), OUTPUTS, np.eye(3)[LABELS], per_class_accuracy(3)),
        ("balanced_accuracy", L.softmax_cross_entropy(), OUTPUTS.reshape(4, 3, 3), LABELS.reshape(4, 3), balanced_accuracy(3)),
        ("balanced_accuracy", L.hinge(), SINGLE, SIGNS, balanced_accuracy(2, 0.0)),
        ("per_class_accuracy", L.sigmoid_cross_entropy(), SINGLE, SIGNS > 0, per_class_accuracy(2, 0.0)),
        ("balanced_accuracy", L.binary_cross_entropy(), SINGLE, SIGNS > 0, balanced_accuracy(2, 0.5)),
        ("binary_accuracy", L.sigmoid_cross_entropy(), SINGLE, SIGNS > 0, binary_accuracy(0.0)),
        ("binary_accuracy", L.binary_cross_entropy(), SINGLE, SIGNS > 0, binary_accuracy(0.5)),
        ("calibration_error", L.softmax_cross_entropy(), OUTPUTS, LABELS, calibration_error(15, "softmax")),
        ("calibration_error", L.log_likelihood(), OUTPUTS, LABELS, calibration_error(15, "class_probs")),
        ("calibration_error", L.sigmoid_cross_entropy(), SINGLE, SIGNS > 0, calibration_error(15, "sigmoid")),
        ("calibration_error", L.logistic(), SINGLE, SIGNS, calibration_error(15, "sigmoid")),
        ("calibration_error", L.binary_cross_entropy(), SINGLE, SIGNS > 0, calibration_error(15, "probs")),
        ("r2", L.mse(), OUTPUTS, OUTPUTS, r2()),
        ("r2", L.mse(), SINGLE, SINGLE + 100, r2((101.0,))),
        ("r2", L.mse(), SINGLE, SINGLE * 0 + 0.1, r2((0.1,))),
        ("sign_accuracy", L.hinge(), SINGLE, SIGNS, sign_accuracy()),
    ],
)
def test_names_take_their_form_from_the_run(name, loss, outputs, targets, metric):
    targets = targets.astype(float) if targets.dtype == bool else targets
    spec = jax.ShapeDtypeStruct(outputs.shape, np.float64)
    assert metrics.resolve(name, loss, spec, targets) == (metric,)


def test_names_that_a_run_cannot_tell():
    spec = jax.ShapeDtypeStruct((12, 3), np.float64)
    with pytest.raises(ValueError, match=r"targets that are clearly classes.*balanced_accuracy\(classes\)"):
        metrics.resolve("balanced_accuracy", L.mse(), spec, OUTPUTS)
    with pytest.raises(ValueError, match=r"for the losses .*got losses.quadratic\(\); .*link="):
        metrics.resolve("calibration_error", L.quadratic(), spec, np.eye(3)[LABELS])
    with pytest.raises(ValueError, match="a Metric or one of"):
        metrics.resolve([3], L.mse(), spec, OUTPUTS)


def test_own_metrics_cannot_broadcast_examples_against_each_other():
    distance = mean_of("distance", lambda outputs, targets: jnp.abs(outputs - targets))
    one, y = OUTPUTS[:, :1], OUTPUTS[:, 1]
    np.testing.assert_allclose(distance(one, y[:, None]), np.abs(one[:, 0] - y).mean(), rtol=1e-6)
    with pytest.raises(ValueError, match="one value an example"):
        mean_of("sum", lambda outputs, targets: jnp.sum(outputs))(one, y)
    jax.config.update("jax_numpy_rank_promotion", "allow")  # as a user has it
    try:
        with pytest.raises(ValueError, match=r"'distance': one value an example .* got \['batch', 'batch'\] from"):
            distance(one, y)
        with pytest.raises((TypeError, ValueError)) as caught:
            distance(OUTPUTS[:3], LABELS[:3])  # as many examples as classes
    finally:
        jax.config.update("jax_numpy_rank_promotion", "raise")
    assert any("in the metric 'distance'" in note for note in caught.value.__notes__)


def test_mae_takes_targets_as_the_losses_do():
    one, y = OUTPUTS[:, :1], OUTPUTS[:, 1]
    for targets in (y, y[:, None]):
        np.testing.assert_allclose(mae()(one, targets), np.abs(one[:, 0] - y).mean(), rtol=1e-6)
    assert metrics.resolve("mae", bp.losses.mse(), one, y) == (mae(),)
