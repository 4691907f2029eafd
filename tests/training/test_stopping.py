"""Stopping rules on given curves, and inside a run: when, why, and with which params it ends."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxbp as bp
from jaxbp.training import engine, fit, halve_on_plateau, misclassified, patience, program, reach, settle
from jaxbp.training.stopping import Epoch, as_rules
from jaxbp.validation import cross_validate


KEY = jax.random.key(2)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
LABELS = (X[:, 0] + 0.5 * RNG.normal(size=40) > 0).astype(int)
NET, LOSS = bp.mlp([4, 8, 2], hidden=bp.tanh()), bp.losses.softmax_cross_entropy()
PARAMS, _ = NET.init(jax.random.key(1), jax.ShapeDtypeStruct((4,), X.dtype))
SGD = optax.sgd(0.5)
HELD_OUT = (RNG.normal(size=(20, 4)), RNG.integers(0, 2, 20))
run = lambda **options: fit(
    NET, LOSS, SGD, X, LABELS, **{"key": KEY, "epochs": 40, "batch_size": 8, "params": PARAMS, "validation": HELD_OUT} | options
)


def follow(rule, values, monitor="validation_loss", change=1.0):
    """(the epoch at which it stops or None, the best epoch, the rate) on a curve."""
    memory, best_epoch, rate = rule.init(), 0, 1.0
    for number, value in enumerate(values, 1):
        memory, decision = rule.update(memory, Epoch(jnp.int32(number), {monitor: jnp.float32(value)}, jnp.float32(change)))
        best_epoch = number if decision.best else best_epoch
        rate *= float(decision.rate)
        if decision.stop:
            return number, best_epoch, rate
    return None, best_epoch, rate


@pytest.mark.parametrize(
    ("rule", "values", "stops", "best"),
    [
        (patience(2), [5, 4, 3, 3, 3, 0], 5, 3),
        (patience(2), [5, 4, 3, 2, 1], None, 5),
        (patience(2, warm_up=4), [1, 2, 3, 4, 5, 6, 7], 6, 1),  # the wait begins at 4
        (patience(2, min_delta=0.5), [5, 4.8, 4.4, 4.3, 4.2], 5, 3),
        (patience(2), [np.nan, 3, np.nan, np.nan], 4, 2),
        (patience(2, mode="max"), [1, 2, 1, 1], 4, 2),
        (patience(1), [1, 1], 2, 1),
    ],
)
def test_patience(rule, values, stops, best):
    assert follow(rule, values)[:2] == (stops, best)


def test_more_is_better_for_anything_but_losses_and_errors():
    assert follow(patience(2, "validation_accuracy"), [0.5, 0.6, 0.6, 0.6], "validation_accuracy")[:2] == (4, 2)


def test_the_rate_is_halved_on_a_plateau_and_ends_the_run():
    stops, _, rate = follow(halve_on_plateau(1, "validation_accuracy", least=1 / 8), [0.5] * 20, "validation_accuracy")
    assert (stops, rate) == (4, 1 / 8)


def test_targets():
    assert follow(reach(0.1), [0.3, 0.2, 0.1, 0.0], "loss")[0] == 3
    assert follow(reach(0.9, "accuracy"), [0.3, 0.95], "accuracy")[0] == 2
    assert follow(misclassified(0.1), [0.5, 0.9, 0.95], "accuracy")[0] == 3
    assert follow(settle(0.1), [1, 1], change=0.2)[0] is None
    assert follow(settle(0.1), [1, 1], change=0.05)[0] == 1


def test_a_run_stops_by_patience_and_gives_the_best_params():
    result = run(stop=patience(3))
    curve = result.history["validation_loss"]
    stops, best, _ = follow(patience(3), curve)
    assert (result.epochs, result.best_epoch) == (stops, best)
    assert result.stop_reason == f"epoch {stops}: no better validation_loss in 3 epochs"
    again = run(epochs=result.best_epoch)
    chex.assert_trees_all_equal(result.params, again.params)


def test_chunks_stop_at_the_same_epoch():
    whole, pieces = run(stop=patience(3)), run(stop=patience(3), chunk=2)
    assert (whole.epochs, whole.stop_reason) == (pieces.epochs, pieces.stop_reason)
    chex.assert_trees_all_equal(whole.params, pieces.params)
    np.testing.assert_array_equal(whole.history["loss"], pieces.history["loss"])


def test_the_first_of_several_rules_is_the_reason():
    result = run(stop=(reach(10.0), patience(1)))
    assert (result.epochs, result.stop_reason) == (1, "epoch 1: loss reached 10")


def test_the_largest_change_of_a_parameter_is_measured():
    result = run(stop=settle(0.0701))
    before, after = (run(epochs=n).params for n in (result.epochs - 1, result.epochs))
    change = lambda a, b: max(float(jnp.abs(p - q).max()) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    assert change(before, after) < 0.0701
    assert change(run(epochs=result.epochs - 2).params, before) >= 0.0701


def test_a_cut_of_the_rate_is_a_smaller_learning_rate():
    rule = halve_on_plateau(1, "validation_loss", factor=0.25, least=0.1)
    result = run(stop=rule)
    stops = follow(rule, result.history["validation_loss"])[0]
    first = next(n for n in range(1, 40) if follow(rule, result.history["validation_loss"][:n])[2] == 0.25)
    assert result.epochs == stops > first
    schedule = optax.piecewise_constant_schedule(0.5, {first * 5: 0.25})
    plain = fit(NET, LOSS, optax.sgd(schedule), X, LABELS, key=KEY, epochs=stops, batch_size=8, params=PARAMS)
    chex.assert_trees_all_close(result.params, plain.params, rtol=1e-9, atol=1e-12)


def test_each_fold_stops_by_itself_as_it_does_alone():
    options = {"folds": 4, "key": KEY, "epochs": 30, "batch_size": 8, "params": PARAMS, "stratified": False}
    result = cross_validate(NET, LOSS, SGD, X, LABELS, stop=patience(2), stop_on="fold", **options)
    assert len(set(result.epochs)) > 1
    assert result.stopped_on == "fold"
    for i, (train, held_out) in enumerate(result.splits[:2]):
        alone = fit(
            NET, LOSS, SGD, X[train], LABELS[train], key=jax.random.fold_in(KEY, i), epochs=30, batch_size=8, params=PARAMS,
            validation=(X[held_out], LABELS[held_out]), stop=patience(2),
        )  # fmt: skip
        assert (alone.epochs, alone.best_epoch) == (result.epochs[i], result.best_epochs[i])
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=i: a[i], result.params), alone.params, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(result.scores["loss"][i], alone.history["validation_loss"][alone.best_epoch - 1], rtol=1e-9)


def test_an_inner_split_is_watched_by_default():
    result = cross_validate(NET, LOSS, SGD, X, LABELS, folds=4, key=KEY, epochs=30, batch_size=8, stop=patience(2), inner=0.25)
    assert result.stopped_on == "inner"
    for i, (train, held_out) in enumerate(result.splits):
        assert not set(train) & set(held_out)
        assert 7 <= 40 - len(train) - len(held_out) <= 8  # the inner split is in neither
        assert follow(patience(2), result.histories["inner_loss"][i])[:2] == (result.epochs[i], result.best_epochs[i])


def test_it_is_one_trace(monkeypatch):
    once = jax.jit(chex.assert_max_traces(program.train_chunk.__wrapped__, n=1), static_argnums=(0, 1, 2), donate_argnums=3)
    monkeypatch.setattr(program, "train_chunk", once)
    run(stop=(patience(5), reach(0.001)))
    run(stop=(patience(5), reach(0.001)), key=jax.random.key(9))
    assert engine is not None


def test_rules_are_code_and_one_object_for_equal_configurations():
    assert patience(3) is patience(3)
    assert repr(patience(3, warm_up=2)) == "training.patience(epochs=3, warm_up=2)"


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (patience, "call it first"),
        ("patience", "stopping rules"),
        ((patience(1), patience(2)), "one rule can keep"),
    ],
)
def test_unusable_rules(stop, words):
    with pytest.raises((TypeError, ValueError), match=words):
        as_rules(stop)


def test_a_rule_that_watches_nothing_is_refused_before_compiling():
    with pytest.raises(ValueError, match=r"watches 'validation_loss'.*give validation="):
        run(stop=patience(2), validation=None)
    with pytest.raises(ValueError, match=r"there is .*accuracy, loss"):
        run(stop=reach(0.5, "acuracy"))
    with pytest.raises(ValueError, match="mode"):
        patience(2, mode="best")
    with pytest.raises(ValueError, match="positive"):
        patience(0)
