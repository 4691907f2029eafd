"""cross_validate: the splits that it takes, and what it refuses."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import model_selection
from small_folds import ADAM, KEY, LABELS, LOSS, MOMENTUM, SMALL, N, X, assert_close, run

import jaxbp as bp
from jaxbp.training import Metric, class_weights, engine, fit
from jaxbp.training.task import Options, prepare
from jaxbp.validation import cross_validate, kfold, stratified_kfold
from jaxbp.validation.cross_validation import draw_splits


def drawn(loss, targets, folds=5, stratified=None):
    options = Options(KEY, 1, 5, None, None, None, "mean", "manual", None, None, True, "short", False, None, None, None, 1)
    net = bp.dense(1 if np.ndim(targets) == 2 and np.shape(targets)[1] == 1 else 3)
    return draw_splits(prepare("cross_validate", net, loss, MOMENTUM, X, targets, options), folds, stratified, None)


def test_folds_by_number():
    for stratified, want in (
        (None, stratified_kfold(LABELS, 5, KEY)),
        (True, stratified_kfold(LABELS, 5, KEY)),
        (False, kfold(N, 5, KEY)),
    ):
        splits, class_by_class = drawn(LOSS, LABELS, stratified=stratified)
        assert class_by_class == (stratified is not False)
        assert all((a.train == b.train).all() and (a.validation == b.validation).all() for a, b in zip(splits, want, strict=True))


@pytest.mark.parametrize(
    ("loss", "targets", "folds", "class_by_class"),
    [
        (bp.losses.quadratic(), np.eye(3)[LABELS], 5, True),
        (bp.losses.hinge(), np.where(LABELS > 0, 1.0, -1.0)[:, None], 5, True),
        (LOSS, LABELS, 8, False),  # a class has 7 members
        (bp.losses.mse(), X[:, :1], 5, False),
    ],
)
def test_folds_are_stratified_where_targets_are_classes(loss, targets, folds, class_by_class):
    assert drawn(loss, targets, folds)[1] is class_by_class


GROUPS = np.arange(N) // 4


class SplitsByX:
    def split(self, x):
        return kfold(len(x), 2, None)


@pytest.mark.parametrize(
    "splitter",
    [
        model_selection.StratifiedKFold(3, shuffle=True, random_state=0),
        model_selection.GroupKFold(3),
        model_selection.LeaveOneOut(),
        model_selection.TimeSeriesSplit(3),
        model_selection.RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
    ],
    ids=lambda splitter: type(splitter).__name__,
)
def test_splitters_of_scikit_learn(splitter):
    net = bp.dense(3)
    groups = GROUPS if isinstance(splitter, model_selection.GroupKFold) else None
    result = cross_validate(net, LOSS, MOMENTUM, X, LABELS, folds=splitter, groups=groups, key=KEY, epochs=2, batch_size=2)
    wanted = list(splitter.split(X, LABELS, groups))
    assert len(result.splits) == len(wanted) == len(result.scores["accuracy"])
    predicted = np.zeros((N, 3))
    for i, ((train, held_out), split) in enumerate(zip(wanted, result.splits, strict=True)):
        np.testing.assert_array_equal(split.train, train)
        np.testing.assert_array_equal(split.validation, held_out)
        outputs = np.asarray(net(jax.tree.map(lambda a, i=i: a[i], result.params), jnp.asarray(X[held_out])))
        np.testing.assert_allclose(result.scores["accuracy"][i], np.mean(outputs.argmax(1) == LABELS[held_out]))
        predicted[held_out] += outputs
    counts = np.bincount(np.concatenate([held_out for _, held_out in wanted]), minlength=N)
    np.testing.assert_array_equal(result.held_out, counts)
    np.testing.assert_array_equal(np.isnan(result.predictions[:, 0]), counts == 0)
    met = counts > 0
    np.testing.assert_allclose(result.predictions[met], predicted[met] / counts[met, None], rtol=1e-10)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"folds": 1}, ValueError, "at least 2 folds"),
        ({"folds": 23}, ValueError, "23 folds of 22 rows would leave some empty"),
        ({"folds": 0}, ValueError, "positive"),
        ({"folds": True}, TypeError, "folds: a number, a splitter"),
        ({"folds": 2.0}, TypeError, "folds: a number, a splitter"),
        ({"folds": 8, "stratified": True}, ValueError, "class 1 has 7 members, too few for 8 folds"),
        ({"folds": model_selection.KFold(3), "stratified": True}, ValueError, "stratified is for a number of folds"),
        ({"folds": [([0, 1], [1, 2])]}, ValueError, "split 0 trains on 1 of its validation rows"),
        ({"groups": GROUPS}, ValueError, "groups are for a splitter"),
        ({"batch_size": 19}, ValueError, "batch_size=19 is more than the 18 training rows of the largest split"),
        ({"batch_size": 18, "remainder": "drop"}, ValueError, "more than the 17 training rows of the smallest split"),
        ({"sample_weight": np.eye(N)[3]}, ValueError, "training rows have sample_weight 0"),
        (
            {"sample_weight": np.arange(N) > 10, "folds": [(range(8, 22), range(8))]},
            ValueError,
            "8 held-out rows have",
        ),
        ({"folds": "kfold"}, TypeError, "folds: a number, a splitter or pairs .* got 'kfold'"),
        ({"folds": SplitsByX()}, TypeError, r"split: is called as split\(x, labels, groups\)"),
        ({"folds": model_selection.GroupKFold(3)}, ValueError, "give cross_validate groups=, the group of each row"),
        ({"stratified": "no"}, TypeError, "stratified is True or False, got 'no'"),
        ({"key": 3}, TypeError, "cross_validate: key: needs a PRNG key"),
        ({"gradient": "hand"}, ValueError, "cross_validate: gradient is"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_refused_before_anything_is_compiled(change, error, words, monkeypatch):
    monkeypatch.setattr(engine, "run", lambda job: pytest.fail("compiled"))
    with pytest.raises(error, match=words):
        run(**change)


def test_metrics_of_several_numbers():
    def per_class(sums):
        return sums[0] / sums[1]

    def sums(outputs, targets, weight):
        members = jax.nn.one_hot(targets, 3) * (1 if weight is None else weight[:, None])
        right = (jnp.argmax(outputs, -1) == targets).astype(outputs.dtype)
        return jnp.sum(members * right[:, None], 0), jnp.sum(members, 0)

    result = run(metrics=[Metric("per_class", sums, per_class), "accuracy"], epochs=2)
    assert result.scores["per_class"].shape == (5, 3)
    assert result.histories["validation_per_class"].shape == (5, 2, 3)
    assert np.shape(result.mean["per_class"]) == (3,)
    assert "per_class" not in str(result)
    json.dumps(result.to_dict(), allow_nan=False)
    labels = LABELS[result.splits[0].validation]
    members = np.array([np.sum(labels == c) for c in range(3)])
    assert np.nansum(result.scores["per_class"][0] * members) / len(labels) == pytest.approx(result.scores["accuracy"][0])


def test_class_weight_weighs_the_training_and_rare_classes_are_named():
    result = run(folds=8, epochs=2, batch_size=10, class_weight={1: 3.0})
    assert result.table().title == "8 folds, not stratified: class 1 has 7 members"
    train, held_out = result.splits[0]
    weight = class_weights(LABELS, {1: 3.0})
    alone = fit(
        SMALL, LOSS, MOMENTUM, X[train], LABELS[train], key=jax.random.fold_in(KEY, 0), epochs=2, batch_size=10,
        sample_weight=weight[train],
    )  # fmt: skip
    assert_close(jax.tree.map(lambda a: a[0], result.params), alone.params)
    right = np.argmax(SMALL(alone.params, X[held_out]), -1) == LABELS[held_out]
    np.testing.assert_allclose(result.scores["accuracy"][0], right.mean())


def test_stratified_needs_classes():
    with pytest.raises(ValueError, match="stratified=True needs targets that are classes"):
        cross_validate(bp.dense(1), bp.losses.mse(), ADAM, X, X[:, :1], key=KEY, epochs=1, batch_size=5, stratified=True)
