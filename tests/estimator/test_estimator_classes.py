"""The estimators: classes and outputs, what is refused, and scikit-learn's own checks."""

import os
import subprocess
import sys

import numpy as np
import pytest
from estimating import CLASSIFIER, LABELS, NAMES, REGRESSOR, TARGETS, X, net_of
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

import jaxbp
from jaxbp.estimator import BackpropClassifier, BackpropRegressor
from jaxbp.estimator.encoding import Encoding, Form, form_of


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
