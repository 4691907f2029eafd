"""The scikit-learn face: the training is that of `jaxbp.fit`, one program serves all folds, scikit-learn's own checks pass."""

import copy
import functools
import os
import pickle
import subprocess
import sys

import chex
import jax
import numpy as np
import optax
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold, cross_val_score
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import check_estimator

import jaxbp
from jaxbp.estimator import BackpropClassifier, BackpropRegressor, programs
from jaxbp.estimator.encoding import Encoding, Form, form_of
from jaxbp.training import program


DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(29, 3)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
NAMES = np.array(["low", "mid", "top"])[LABELS]
TARGETS = X @ np.array([[1.0, 2.0], [0.5, 0.0], [0.0, -1.0]])
SMALL = {"hidden": (), "epochs": 2, "batch_size": 8, "random_state": 0}
CLASSIFIER, REGRESSOR = BackpropClassifier(**SMALL), BackpropRegressor(**SMALL)


def equal(a, b, **close):
    compare = functools.partial(np.testing.assert_allclose, **close) if close else np.testing.assert_array_equal
    jax.tree.map(compare, a, b)


def traced_at_most(times, monkeypatch):
    """From here on the training program may be traced so many times."""
    chex.clear_trace_counter()
    counted = jax.jit(
        chex.assert_max_traces(program.train_chunk.__wrapped__, n=times), static_argnums=(0, 1, 2), donate_argnums=3
    )
    monkeypatch.setattr(program, "train_chunk", counted)


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


def net_of(features, outputs):
    return jaxbp.mlp([features, 5, outputs], hidden=jaxbp.tanh())


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


# --- classes and outputs


@pytest.mark.parametrize(
    ("loss", "form", "binary"),
    [
        (jaxbp.losses.softmax_cross_entropy(label_smoothing=0.1), Form("labels", "softmax"), 2),
        (jaxbp.losses.log_likelihood(), Form("labels", "none"), 2),
        (jaxbp.losses.sigmoid_cross_entropy(), Form("unit", "sigmoid"), 1),
        (jaxbp.losses.binary_cross_entropy(), Form("unit", "none"), 1),
        (jaxbp.losses.logistic(), Form("signs", "sigmoid"), 1),
        (jaxbp.losses.hinge(), Form("signs", None), 1),
        (jaxbp.losses.mse(), Form("one_hot", None), 2),
    ],
)
def test_each_loss_is_given_classes_in_its_form(loss, form, binary):
    """And outputs that meet their targets exactly are read back as the classes that they came from."""
    assert form_of(loss) == form
    assert Encoding(form, 2, False).outputs == binary
    for encoding, y in [
        (Encoding(form, 2, False), np.array([0, 1, 1])),
        (Encoding(form, 3, False), np.array([2, 0, 1])),
        (Encoding(form, 3, True), np.array([[1, 0, 1], [0, 0, 0]])),
    ]:
        if encoding.multilabel and form.targets == "labels":
            with pytest.raises(ValueError, match="one yes or no each"):
                encoding.encode(y, np.float32)
            continue
        targets = encoding.encode(y, np.float32)
        outputs = np.eye(encoding.outputs)[targets] if form.targets == "labels" else targets.astype(np.float64)
        if form.link == "sigmoid" and form.targets == "unit":
            outputs = 2 * outputs - 1  # logits
        loss.check(outputs, targets)  # the loss takes the targets
        np.testing.assert_array_equal(encoding.decide(outputs), y)
        if form.link is not None:
            p = encoding.probabilities(outputs)
            np.testing.assert_allclose(p.sum(1) if not encoding.multilabel else 1, 1, rtol=1e-12)
            found = p > 0.5 if encoding.multilabel else p.argmax(1)
            np.testing.assert_array_equal(found, y)


def test_probabilities_at_the_ends():
    outputs = np.array([[1000.0], [-1000.0], [0.0]])
    p = Encoding(Form("unit", "sigmoid"), 2, False).probabilities(outputs)
    np.testing.assert_array_equal(p, [[0, 1], [1, 0], [0.5, 0.5]])
    p = Encoding(Form("labels", "softmax"), 2, False).probabilities(np.array([[1000.0, -1000.0]]))
    np.testing.assert_array_equal(p, [[1, 0]])
    p = Encoding(Form("unit", "sigmoid"), 3, False).probabilities(np.full((1, 3), -1000.0))
    np.testing.assert_allclose(p, 1 / 3)


def test_what_a_loss_cannot_give_is_not_there():
    assert not hasattr(BackpropClassifier(loss=jaxbp.losses.hinge()), "predict_proba")
    assert hasattr(BackpropClassifier(loss=jaxbp.losses.hinge()), "decision_function")
    assert not hasattr(BackpropClassifier(loss=jaxbp.losses.log_likelihood()), "decision_function")
    assert hasattr(BackpropClassifier(), "predict_proba")


def test_a_net_of_two_logits_has_the_softmax_for_two_classes():
    model = clone(CLASSIFIER).set_params(net=jaxbp.mlp([3, 2])).fit(X, LABELS > 0)
    assert model.loss_ == jaxbp.losses.softmax_cross_entropy()
    assert model.decision_function(X).shape == (29,)
    assert model.predict(X).tolist() == (model.decision_function(X) > 0).tolist()
    assert model.predict_proba(X).shape == (29, 2)


# --- what is refused


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"net": 3}, TypeError, "net: None, a Layer or a function"),
        ({"net": net_of(3, 2)}, ValueError, "net: 3 outputs were expected for these targets and this loss, mlp"),
        ({"loss": "mse"}, TypeError, "loss: None or a Loss such as"),
        ({"optimizer": "adamm"}, ValueError, "optimizer: one of .*'adam'.* got 'adamm'"),
        ({"optimizer": 3}, TypeError, "BackpropClassifier: optimizer: an optax optimiser"),
        ({"activation": "dense"}, ValueError, "activation: a name such as 'relu' or a Layer was expected, got 'dense'"),
        ({"scale": "standart"}, ValueError, "scale: one of .*'standard'.* got 'standart'"),
        ({"epochs": 0}, ValueError, "epochs has to be positive"),
        ({"batch_size": 0}, ValueError, "batch_size has to be positive"),
        ({"dtype": "int32"}, TypeError, "dtype: None or a floating type"),
        ({"early_stopping": True, "validation_fraction": 1.5}, ValueError, "between 0 and 1"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_compiled(options, error, words, monkeypatch):
    monkeypatch.setattr("jaxbp.training.engine.run", lambda job: pytest.fail("compiled"))
    with pytest.raises(error, match=words):
        clone(CLASSIFIER).set_params(**options).fit(X, NAMES)


def test_bad_calls():
    with pytest.raises(NotFittedError):
        CLASSIFIER.predict(X)
    with pytest.raises(ValueError, match="two classes or more were expected, got one class"):
        clone(CLASSIFIER).fit(X, np.ones(29))
    with pytest.raises(ValueError, match="the first call of partial_fit needs all classes"):
        clone(CLASSIFIER).partial_fit(X, NAMES)
    with pytest.raises(ValueError, match=r"classes are .* found also"):
        clone(CLASSIFIER).partial_fit(X, NAMES, classes=["low", "mid"])
    with pytest.raises(ValueError, match="'balanced' needs all rows at once"):
        clone(CLASSIFIER).set_params(class_weight="balanced").partial_fit(X, NAMES, classes=np.unique(NAMES))
    with pytest.raises(ValueError, match="weights of 0 or more"):
        clone(REGRESSOR).fit(X, TARGETS, np.full(29, -1.0))
    with pytest.raises(ValueError, match=r"(?i)zero"):
        clone(REGRESSOR).fit(X, TARGETS, np.zeros(29))


def test_scikit_learn_is_imported_where_it_is_needed_and_its_absence_is_told():
    code = (
        "import sys, jaxbp; assert 'sklearn' not in sys.modules; sys.modules['sklearn'] = None\n"
        "try: import jaxbp.estimator\nexcept ImportError as error: print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert "need scikit-learn 1.6 or newer" in shown.stdout
    assert "pip install 'jaxbp[sklearn]'" in shown.stdout


@pytest.mark.slow
@pytest.mark.parametrize("model", [BackpropClassifier(), BackpropRegressor()], ids=["classifier", "regressor"])
@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn(model):
    """All of them, none expected to fail."""
    results = check_estimator(model, on_skip=None, on_fail=None)
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] not in ("passed", "skipped")] == []
    assert sum(r["status"] == "passed" for r in results) > 50
