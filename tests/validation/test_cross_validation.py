"""cross_validate: each fold is the same fold trained alone; one program; splitters; divergence; the result."""

from __future__ import annotations

import functools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import model_selection

import jaxbp as bp
from jaxbp.training import Metric, class_weights, engine, fit, min_max, program, standardize
from jaxbp.training.task import Options, prepare
from jaxbp.validation import cross_validate, kfold, stratified_kfold
from jaxbp.validation.cross_validation import draw_splits


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

ALIKE = {
    "a deep net, its params from the key, chunks": {"net": NET, "chunk": 3, "params": None},
    "a whole batch of padding, adam counts": {"batch_size": 17, "optimizer": ADAM},  # one step for 17 rows, two for 18
    "full batch, scaled, weighted, not stratified": {
        "batch_size": None, "scale": standardize(), "sample_weight": WEIGHT, "stratified": False,
    },
    "case updating, weights with zeros, no shuffle": {
        "batch_size": 1, "optimizer": ADAM, "sample_weight": WEIGHT, "shuffle": False, "scale": min_max(),
    },
    "dropout and padding": {"net": DROPPED, "batch_size": 17, "params": None},
    "dropout of the full batch": {"net": DROPPED, "batch_size": None, "params": None},
    "autodiff, penalty, training set": {"gradient": "autodiff", "penalty": bp.penalties.l2(0.1), "evaluate_training": True},
    "rest dropped": {"remainder": "drop", "batch_size": 9, "optimizer": ADAM},  # one update for 17 rows, two for 18
}  # fmt: skip


@pytest.mark.parametrize("change", ALIKE.values(), ids=ALIKE)
def test_each_fold_is_the_fold_trained_alone(change):
    options = {"net": SMALL, "optimizer": MOMENTUM, "epochs": 4, "batch_size": 5, "params": PARAMS} | change
    net, optimizer, weight = options.pop("net"), options.pop("optimizer"), options.pop("sample_weight", None)
    result = cross_validate(net, LOSS, optimizer, X, LABELS, folds=5, key=KEY, sample_weight=weight, **options)
    options.pop("stratified", None)
    assert {len(split.train) for split in result.splits} == {17, 18}
    for i, (train, held_out) in list(enumerate(result.splits))[:: len(result.splits) - 1]:  # one of 17 rows, one of 18
        of = lambda rows: None if weight is None else weight[rows]
        alone = fit(
            net, LOSS, optimizer, X[train], LABELS[train], key=jax.random.fold_in(KEY, i), sample_weight=of(train),
            validation=(X[held_out], LABELS[held_out], of(held_out)), **options,
        )  # fmt: skip
        assert_close(jax.tree.map(lambda a, i=i: a[i], result.params), alone.params)
        assert_close(jax.tree.map(lambda a, i=i: a[i], result.scale), alone.scale)
        assert set(alone.history) == set(result.histories)
        for name, values in result.histories.items():
            np.testing.assert_allclose(values[i], alone.history[name], rtol=1e-12, atol=1e-14, err_msg=name)
        for name, scores in result.scores.items():
            assert scores[i] == result.histories["validation_" + name][i, -1]
        x = X[held_out] if "scale" not in change else change["scale"].apply(alone.scale, jnp.asarray(X[held_out]))
        assert_close(result.predictions[held_out], net(alone.params, jnp.asarray(x)))


def test_one_program_for_all_folds(monkeypatch):
    chex.clear_trace_counter()
    once = jax.jit(chex.assert_max_traces(program.train_chunk.__wrapped__, n=1), static_argnums=(0, 1, 2), donate_argnums=3)
    monkeypatch.setattr(program, "train_chunk", once)
    first, again = run(), run()
    chex.assert_trees_all_equal(first.params, again.params)
    chex.assert_trees_all_equal(first.predictions, again.predictions)
    assert again.seconds_compile < 0.2 * first.seconds_compile
    assert first.seconds_run > 0


def test_the_data_are_not_copied_for_each_fold():
    """10 folds of 9/10 of the rows each would take nine times the data."""
    x = DRAW.normal(size=(400, 100))
    made, jitted = [], program.train_chunk

    class Spy:
        def lower(self, *args):
            lowered = jitted.lower(*args)
            made.append(lowered.compile().memory_analysis().temp_size_in_bytes)
            return lowered

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "train_chunk", Spy())
        cross_validate(bp.dense(3), LOSS, MOMENTUM, x, np.arange(400) % 3, key=KEY, epochs=2, batch_size=10, scale=standardize())
    assert made[0] < 3 * x.nbytes  # each row is held out once


def test_one_key_one_result():
    first, other = run(), run(key=jax.random.key(6))
    assert any(
        (a.train.shape != b.train.shape) or (a.train != b.train).any() for a, b in zip(first.splits, other.splits, strict=True)
    )
    assert not np.array_equal(first.params.w, other.params.w)
    for name, values in run().histories.items():
        np.testing.assert_array_equal(values, first.histories[name])


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


def test_a_fold_that_turns_non_finite_stops_alone():
    x = X.copy()
    x[3] = 1e200  # overflows where it is trained on: in every fold but its own
    targets = X[:, :1]
    with pytest.warns(RuntimeWarning, match=r"cross_validate: fold \d: non-finite after epoch 1: ") as caught:
        result = cross_validate(bp.dense(1), bp.losses.mse(), MOMENTUM, x, targets, folds=4, key=KEY, epochs=3, batch_size=6)
    (own,) = (i for i, split in enumerate(result.splits) if 3 in split.validation)
    assert len([w for w in caught if w.category is RuntimeWarning]) == 3
    assert result.epochs.tolist() == [3 if i == own else 0 for i in range(4)]
    for i, reason in enumerate(result.stop_reasons):
        assert reason == "ran all 3 epochs" if i == own else "is the first leaf" in reason
        assert np.isfinite(result.histories["loss"][i]).all() == (i == own)
        assert np.isnan(result.scores["loss"][i]) == (i != own)
        assert all(np.isfinite(leaf[i]).all() for leaf in jax.tree.leaves(result.params))
    assert "fold" in str(result)
    json.dumps(result.to_dict(), allow_nan=False)


def test_all_folds_broken_end_the_loop():
    hot = optax.sgd(1e300)
    told = []
    with pytest.warns(RuntimeWarning, match="fold"):
        result = cross_validate(
            bp.dense(3), bp.losses.quadratic(), hot, X, np.eye(3)[LABELS], folds=3, key=KEY, epochs=50, batch_size=5, chunk=1,
            progress=lambda epoch, info: told.append(epoch),
        )  # fmt: skip
    assert len(told) == 1
    assert result.histories["loss"].shape == (3, 0)
    assert np.isnan(result.mean["loss"])


def test_batch_norm_in_folds():
    net = bp.serial(bp.dense(3, bias=False), bp.batch_norm())
    with pytest.raises(ValueError, match=r"mixes the rows.*divide 17 and 18: \[1\]"):
        cross_validate(net, LOSS, MOMENTUM, X, LABELS, folds=5, key=KEY, epochs=2, batch_size=6)
    with pytest.raises(ValueError, match="mixes the rows"):
        cross_validate(net, LOSS, MOMENTUM, X, LABELS, folds=5, key=KEY, epochs=2, batch_size=None)
    result = cross_validate(net, LOSS, MOMENTUM, X, LABELS, folds=5, key=KEY, epochs=2, batch_size=9, remainder="drop")
    train, _ = result.splits[0]
    alone = fit(net, LOSS, MOMENTUM, X[train], LABELS[train], key=result.keys[0], epochs=2, batch_size=9, remainder="drop")
    assert_close(jax.tree.map(lambda a: a[0], result.params), alone.params)


def test_the_result():
    result = run(progress=lambda epoch, info: chex.assert_shape(info["loss"], (5,)), chunk=2)
    assert result.sizes.tolist() == [[17, 5], [17, 5], [18, 4], [18, 4], [18, 4]]
    accuracy = result.scores["accuracy"]
    assert result.mean["accuracy"] == pytest.approx(accuracy.mean())
    assert result.std["accuracy"] == pytest.approx(np.std(accuracy, ddof=1))
    text = str(result)
    assert "5 stratified folds" in text
    assert "accuracy" in text.splitlines()[1]
    assert len([line for line in text.splitlines() if line.split()[:1] in ([str(i)] for i in range(5))]) == 5
    assert repr(result).startswith("<CVResult of 5 folds: ")
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["scores"]["accuracy"] == pytest.approx(accuracy.tolist())
    assert np.shape(plain["histories"]["validation_loss"]) == (5, 4)
    assert plain["validation"][2] == result.splits[2].validation.tolist()
    assert np.shape(plain["predictions"]) == (N, 3)


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
