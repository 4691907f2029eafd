"""cross_validate: each fold is the fold trained alone, in one program, and what the result holds."""

from __future__ import annotations

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_folds import ADAM, DRAW, DROPPED, KEY, LABELS, LOSS, MOMENTUM, NET, PARAMS, SMALL, WEIGHT, N, X, assert_close, run

import jaxbp as bp
from jaxbp.training import fit, min_max, program, standardize
from jaxbp.validation import cross_validate


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
