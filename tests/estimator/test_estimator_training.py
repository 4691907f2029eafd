"""The estimators train as `jaxbp.fit` does, one program serves all folds, and copies keep everything."""

import copy
import functools
import pickle

import jax
import numpy as np
import optax
import pytest
from estimating import CLASSIFIER, LABELS, NAMES, REGRESSOR, SMALL, TARGETS, X, equal, net_of, traced_at_most
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_val_score
from sklearn.utils import check_random_state

import jaxbp
from jaxbp.estimator import BackpropClassifier, programs


# --- the training is that of `fit`


def test_a_classifier_is_fit_on_labels():
    """29 rows are filled up to 32 and leave a short batch; the params are those of `fit` on the 29."""
    model = clone(CLASSIFIER).fit(X, NAMES)
    key = jax.random.key(check_random_state(0).randint(2**31 - 1))
    net, loss = jaxbp.mlp([3, 3], hidden=jaxbp.relu()), jaxbp.losses.softmax_cross_entropy()
    assert (model.net_, model.loss_) == (net, loss)
    by_fit = jaxbp.fit(net, loss, optax.adam(1e-3), X, LABELS, key=key, epochs=2, batch_size=8, scale=jaxbp.standardize())
    equal(model.params_, by_fit.params, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.loss_curve_, by_fit.history["loss"], rtol=1e-5)
    scaled = jaxbp.standardize().apply(by_fit.scale, X)
    logits = np.asarray(net(by_fit.params, scaled))
    np.testing.assert_allclose(model.decision_function(X), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(X), jax.nn.softmax(logits), rtol=1e-4)
    assert model.predict(X).tolist() == model.classes_[logits.argmax(1)].tolist()
    assert model.n_iter_ == 2
    assert model.stop_reason_ == "ran all 2 epochs"
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(model.params_))


def test_epochs_of_partial_fit_are_the_epochs_of_fit():
    whole = clone(CLASSIFIER).fit(X, NAMES)
    parts = clone(CLASSIFIER).partial_fit(X, NAMES, classes=["top", "low", "mid"])
    parts = pickle.loads(pickle.dumps(parts)).partial_fit(X, NAMES)  # the optimiser's state comes along
    equal(parts.params_, whole.params_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-6)
    before = whole.params_
    assert whole.partial_fit(X[:9], NAMES[:9]).n_iter_ == 3  # fit goes on, on other rows
    assert not np.array_equal(before[0].w, whole.params_[0].w)


def test_rows_of_weight_0_are_absent():
    weight = np.where(np.arange(29) % 10 == 0, 0, np.arange(29))
    kept = clone(REGRESSOR).fit(X[weight > 0], TARGETS[weight > 0], weight[weight > 0])
    equal(clone(REGRESSOR).fit(X, TARGETS, weight).params_, kept.params_)


def test_class_weights_multiply_sample_weights():
    by_class = clone(CLASSIFIER).set_params(class_weight={"low": 2, "mid": 0.5, "top": 1}).fit(X, NAMES, np.arange(1, 30))
    equal(by_class.params_, clone(CLASSIFIER).fit(X, NAMES, np.array([2, 0.5, 1])[LABELS] * np.arange(1, 30)).params_)


def test_units_of_targets_do_not_matter():
    model = clone(REGRESSOR).fit(X, TARGETS)
    other = clone(REGRESSOR).fit(X, TARGETS * [1000, 1e-3] + [1e4, 0])
    assert model.predict(X).shape == (29, 2)
    np.testing.assert_allclose(other.predict(X), model.predict(X) * [1000, 1e-3] + [1e4, 0], rtol=1e-4)
    as_it_is = clone(REGRESSOR).set_params(scale_targets=False).fit(X, TARGETS)
    assert (as_it_is.targets_mean_.tolist(), as_it_is.targets_std_.tolist()) == ([0, 0], [1, 1])
    assert clone(REGRESSOR).fit(X, TARGETS[:, 0]).predict(X).shape == (29,)


def test_early_stopping_gives_back_the_best_epoch():
    options = {"early_stopping": True, "validation_fraction": 0.3, "patience": 2, "epochs": 40, "learning_rate": 0.3}
    model = clone(CLASSIFIER).set_params(**options).fit(X, NAMES)
    assert model.best_epoch_ == np.argmin(model.validation_curve_) + 1
    assert model.n_iter_ == model.best_epoch_ + 2 < 40
    assert model.stop_reason_ == f"epoch {model.n_iter_}: no better validation_loss in 2 epochs"
    with pytest.raises(ValueError, match="early_stopping needs all rows at once"):
        model.partial_fit(X, NAMES)


def test_labels_that_are_yes_or_no_each():
    y = np.stack([LABELS > 0, LABELS > 1, LABELS == 0], axis=1).astype(int)
    model = clone(CLASSIFIER).set_params(epochs=60, learning_rate=0.1).fit(X, y)
    assert model.loss_ == jaxbp.losses.sigmoid_cross_entropy()
    assert model.predict(X).shape == model.predict_proba(X).shape == y.shape
    assert (model.predict(X) == y).mean() > 0.8
    assert np.array_equal(model.predict(X), model.predict_proba(X) > 0.5)


def test_a_net_that_mixes_rows_is_not_padded():
    net = jaxbp.serial(jaxbp.batch_norm(), jaxbp.dense(3))
    model = clone(CLASSIFIER).set_params(net=net).fit(X, NAMES)
    assert model.predict(X[:5]).tolist() == model.predict(X)[:5].tolist()


def test_what_turns_nonfinite_is_told():
    with pytest.warns(RuntimeWarning, match="BackpropRegressor: non-finite after epoch 1.*a smaller learning_rate may help"):
        model = clone(REGRESSOR).set_params(optimizer="sgd", learning_rate=1e30).fit(X, TARGETS)
    assert model.n_iter_ == 0
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize(("dtype", "got"), [(None, "float32"), ("float64", "float64"), ("bfloat16", "float32")])
def test_dtypes(dtype, got):
    model = clone(REGRESSOR).set_params(dtype=dtype).fit(X, TARGETS)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.params_)} == {dtype or got}
    assert model.predict(X).dtype == got


# --- compiled once


def test_folds_share_one_program(monkeypatch):
    """Training sets of 19 and of 20 rows, then of 24, and clones: all fill three batches of 8. One row more is a fourth batch."""
    traced_at_most(1, monkeypatch)
    model = BackpropClassifier(**SMALL, optimizer=functools.partial(optax.sgd, momentum=0.9))
    assert len(cross_val_score(model, X, NAMES, cv=KFold(3))) == 3
    assert len(cross_val_score(clone(model), X, NAMES, cv=KFold(3, shuffle=True))) == 3
    clone(model).fit(X[:24], NAMES[:24])
    with pytest.raises(AssertionError, match="traced"):
        clone(model).fit(X[:25], NAMES[:25])


def test_full_batches_share_one_program(monkeypatch):
    traced_at_most(1, monkeypatch)
    model = clone(REGRESSOR).set_params(batch_size=None)
    full = model.fit(X, TARGETS).params_
    clone(model).fit(X[:9], TARGETS[:9])
    key = jax.random.key(check_random_state(0).randint(2**31 - 1))
    scaled = ((TARGETS - TARGETS.mean(0)) / TARGETS.std(0)).astype(np.float32)
    monkeypatch.undo()
    by_fit = jaxbp.fit(
        model.net_, model.loss_, optax.adam(1e-3), X, scaled, key=key, epochs=2, batch_size=None, scale=jaxbp.standardize()
    )
    equal(full, by_fit.params, rtol=1e-4, atol=1e-6)


def test_equal_optimizers_are_one_object():
    build = functools.partial(programs.optimizer_of, "name")
    assert build("adam", 0.1) is build("adam", 0.1)
    assert build(functools.partial(optax.sgd, momentum=0.9), 0.1) is build(functools.partial(optax.sgd, momentum=0.9), 0.1)
    assert build("momentum", 0.1) is build(functools.partial(optax.sgd, momentum=0.9), 0.1)
    assert build(optax.lion, 0.1) is not build(optax.lion, 0.2)
    ready = optax.sgd(0.5)
    assert build(ready, 0.1) is ready


def test_predictions_of_many_rows_are_those_of_few():
    model = clone(REGRESSOR).fit(X, TARGETS)
    many = np.tile(X, (40, 1))
    assert len(many) > programs.BLOCK
    np.testing.assert_allclose(model.predict(many), np.tile(model.predict(X), (40, 1)), rtol=1e-5, atol=1e-6)


# --- copies


def test_clone_keeps_everything_and_copies_predict_alike():
    model = BackpropClassifier(
        net_of, loss=jaxbp.losses.hinge(), optimizer=functools.partial(optax.sgd, momentum=0.5), learning_rate=0.02, epochs=2,
        batch_size=None, penalty=jaxbp.penalties.l2(0.01), scale=jaxbp.min_max(), class_weight="balanced",
        random_state=7, dtype="float32", early_stopping=False, validation_fraction=0.2, patience=3,
    )  # fmt: skip
    kept, params = clone(model).get_params(), model.get_params()
    partial, other = params.pop("optimizer"), kept.pop("optimizer")
    assert kept == params
    assert (partial.func, partial.keywords) == (other.func, other.keywords)
    model.fit(X, NAMES)
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert copied.net_ is model.net_
        np.testing.assert_array_equal(copied.decision_function(X), model.decision_function(X))
    assert not hasattr(clone(model), "params_")


def test_pandas_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = clone(CLASSIFIER).fit(frame, pd.Series(NAMES), sample_weight=pd.Series(np.ones(29)))
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(model.predict(frame), clone(CLASSIFIER).fit(X.astype(float), NAMES).predict(X.astype(float)))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c"]])
