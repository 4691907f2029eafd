"""sweep: every trial is the cross-validation of its setting; buckets; seeds; what is refused."""

import chex
import jax
import numpy as np
import optax
import pytest

import jaxbp as bp
from jaxbp.training import patience, program
from jaxbp.validation import cross_validate, grid, random_settings, sweep


KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3))
Y = (X[:, 0] > 0).astype(int)
LOSS = bp.losses.softmax_cross_entropy()
OPTIONS = {"folds": 3, "key": KEY, "epochs": 3, "batch_size": 8}


def setup(rate, momentum=0.5, decay=0.0, width=4, drop=0.0, spread=1.0):
    hidden = bp.dense(width, w_init=bp.initializers.normal(spread))
    net = bp.serial(hidden, bp.tanh(), bp.dropout(drop), bp.dense(2))
    return bp.Setup(net, LOSS, optax.sgd(rate, momentum), bp.penalties.l2(decay))


def alone(setting, **options):
    made = setup(**setting)
    return cross_validate(made.net, made.loss, made.optimizer, X, Y, penalty=made.penalty, **OPTIONS | options)


def test_every_trial_is_the_cross_validation_of_its_setting():
    """Learning rate, momentum, decay, dropout rate and the spread of the initial weights are traced, the width is not."""
    settings = [
        {"rate": 0.1, "momentum": 0.9, "decay": 0.0, "width": 4, "drop": 0.25, "spread": 1.0},
        {"rate": 0.3, "momentum": 0.0, "decay": 0.01, "width": 4, "drop": 0.5, "spread": 0.5},
        {"rate": 0.3, "momentum": 0.0, "decay": 0.01, "width": 5, "drop": 0.5, "spread": 0.5},
    ]
    result = sweep(setup, X, Y, settings, **OPTIONS)
    assert result.programs == 2
    for i, setting in enumerate(settings):
        one = alone(setting)
        for name in ("loss", "accuracy"):
            np.testing.assert_allclose(result.scores[name][i, 0], one.scores[name], rtol=1e-9)


def test_seeds_differ_and_the_first_is_the_key():
    result = sweep(setup, X, Y, grid(rate=[0.1]), seeds=2, **OPTIONS)
    np.testing.assert_allclose(result.scores["loss"][0, 0], alone({"rate": 0.1}).scores["loss"], rtol=1e-9)
    assert np.all(result.scores["loss"][0, 0] != result.scores["loss"][0, 1])


def test_batch_sizes_are_buckets_and_stopping_is_each_trials_own():
    result = sweep(setup, X, Y, grid(rate=[0.1, 2.0], batch_size=[4, 8]), stop=patience(1), stop_on="fold", **OPTIONS)
    assert (result.programs, result.stopped_on) == (2, "fold")
    i = result.settings.index({"rate": 2.0, "batch_size": 4})
    one = alone({"rate": 2.0}, batch_size=4, stop=patience(1), stop_on="fold")
    np.testing.assert_array_equal(result.epochs[i, 0], one.epochs)
    np.testing.assert_allclose(result.scores["loss"][i, 0], one.scores["loss"], rtol=1e-9)
    assert result.stop_reasons[i][0] == list(one.stop_reasons)


def test_one_trace_for_any_number_of_traced_settings(monkeypatch):
    once = jax.jit(chex.assert_max_traces(program.train_chunk.__wrapped__, n=1), static_argnums=(0, 1, 2), donate_argnums=3)
    monkeypatch.setattr(program, "train_chunk", once)
    first = sweep(setup, X, Y, grid(rate=[0.1, 0.2]), **OPTIONS)
    again = sweep(setup, X, Y, grid(rate=[0.3, 0.2]), **OPTIONS)
    np.testing.assert_array_equal(first.scores["loss"][1], again.scores["loss"][1])


def test_a_trial_that_diverges_comes_last_and_says_so():
    with pytest.warns(RuntimeWarning, match="sweep: .* of .* trials turned non-finite"):
        result = sweep(setup, X, Y, grid(rate=[1e308, 0.1]), **OPTIONS)
    assert result.best() == {"rate": 0.1}
    assert any("non-finite" in reason for reason in result.stop_reasons[0][0])
    text = str(result)
    assert text.index("0.100") < text.index("1.0e+308")


def test_settings():
    assert grid(a=[1, 2], b=["x"]) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
    drawn = random_settings(50, KEY, rate=(1e-4, 1.0, "log"), drop=(0.1, 0.2), width=[2, 3])
    assert drawn == random_settings(50, KEY, rate=(1e-4, 1.0, "log"), drop=(0.1, 0.2), width=[2, 3])
    assert all(1e-4 <= s["rate"] <= 1 and 0.1 <= s["drop"] <= 0.2 and s["width"] in (2, 3) for s in drawn)
    assert 10 < sum(s["rate"] < 1e-2 for s in drawn) < 40


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sweep(setup, X, Y, [], **OPTIONS), "at least one setting"),
        (lambda: sweep(setup, X, Y, [{"rate": 0.1}, {"rte": 0.1}], **OPTIONS), "setting 1 has"),
        (lambda: sweep(setup, X, Y, grid(rate=[0.1]), static=("width",), **OPTIONS), "in no setting"),
        (lambda: sweep(setup, X, Y, grid(rate=[0.1]), seeds=0, **OPTIONS), "positive"),
        (lambda: sweep(lambda rate: bp.dense(2), X, Y, grid(rate=[0.1]), **OPTIONS), "a jaxbp.Setup"),
        (lambda: random_settings(2, KEY, rate=(0.0, 1.0, "log")), "0 < low"),
    ],
)
def test_unusable_settings(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
