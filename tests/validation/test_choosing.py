"""Mitchell's method, and Optuna's proposals in batches."""

import jax
import numpy as np
import optax
import optuna
import pytest

import jaxbp as bp
from jaxbp.validation import choose_epochs, cross_validate, search


RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
Y = (X[:, 0] + RNG.normal(size=30) > 0).astype(int)
LOSS = bp.losses.softmax_cross_entropy()
OPTIONS = {"folds": 3, "key": jax.random.key(1), "epochs": 12, "batch_size": 8}


def setup(rate):
    return bp.Setup(bp.dense(2), LOSS, optax.sgd(rate))


def test_the_mean_of_the_best_epochs():
    result = cross_validate(bp.dense(2), LOSS, optax.sgd(1.0), X, Y, **OPTIONS)
    curves = result.histories["validation_loss"]
    choice = choose_epochs(result)
    assert choice.best_epochs.tolist() == [1 + row.tolist().index(min(row)) for row in curves]
    assert choice.epochs == round(np.mean(choice.best_epochs))
    accuracies = result.histories["validation_accuracy"]
    assert choose_epochs(result, "accuracy").best_epochs.tolist() == [1 + row.tolist().index(max(row)) for row in accuracies]
    with pytest.raises(ValueError, match="there is accuracy, loss"):
        choose_epochs(result, "mse")


def test_optuna_asks_in_batches_and_goes_on_where_it_was(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    suggest = lambda trial: {"rate": trial.suggest_float("rate", 1e-2, 1.0, log=True)}
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log")))

    def go(trials):
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True, sampler=sampler)
        return search(study, suggest, setup, X, Y, trials=trials, batch=2, **OPTIONS)

    go(3)
    study = go(5)
    assert len(study.trials) == 5
    one = cross_validate(bp.dense(2), LOSS, optax.sgd(study.trials[4].params["rate"]), X, Y, **OPTIONS)
    assert study.trials[4].value == pytest.approx(one.mean["loss"], rel=1e-9)
    with pytest.raises(ValueError, match="positive"):
        search(study, suggest, setup, X, Y, trials=5, batch=0, **OPTIONS)
