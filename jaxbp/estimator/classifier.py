"""BackpropClassifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxbp.contracts import Layer, Loss
from jaxbp.estimator.base import Backprop
from jaxbp.estimator.encoding import Encoding, form_of
from jaxbp.estimator.needs import (
    ClassifierMixin,
    available_if,
    check_classification_targets,
    column_or_1d,
    compute_sample_weight,
    type_of_target,
)
from jaxbp.losses.cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy


def _gives_probabilities(self: Any) -> bool:
    return not isinstance(self.loss, Loss) or form_of(self.loss).link is not None


def _gives_scores(self: Any) -> bool:
    return not isinstance(self.loss, Loss) or form_of(self.loss).link != "none"


class BackpropClassifier(ClassifierMixin, Backprop):
    """A net that is trained by hand-written backpropagation, as a scikit-learn classifier.

    params <- params + update(gradient of the loss of a batch), as `jaxbp.fit` does it. Two classes are told apart by one
    logit and the sigmoid cross-entropy, more by one logit each and the softmax cross-entropy. y may be an indicator
    matrix (rows, labels) of 0 and 1: then each label is a yes or no of its own.

    Parameters:
      net: None for an MLP of `hidden` and `activation`; a Layer; or a function (features, outputs) -> Layer, at the top level
        of a module if the estimator is to pickle.
      hidden, activation: sizes of the hidden layers and the name of their activation, or an activation Layer.
      loss: None chooses as above; or any jaxbp loss. Cross-entropies, `hinge` and `logistic` are given classes in the form
        that they take, other losses one-hot rows.
      optimizer: "adam", "adamw", "momentum", "nesterov", "rmsprop" or "sgd"; a constructor of optax (`optax.lion`), which is
        given the learning rate; or an optax optimiser, which pickles only by cloudpickle and has its own learning rate.
      learning_rate: a number, or a schedule of optax.
      epochs, batch_size: passes over the rows; rows in one update, None for all of them. Fewer rows than a batch are one.
      penalty: on the params, such as `jaxbp.penalties.l2(1e-3)`.
      scale: "standard", "min_max", None, or a pair (fit, apply); fitted on the rows that are trained on.
      early_stopping: hold out the share `validation_fraction` of the rows (class by class in a classification), stop when their
        loss has not become better for `patience` epochs, and keep the params of the best epoch.
      class_weight: None, "balanced" or {class: weight}; multiplied with sample_weight. In a batch the loss is
        sum w l / sum w.
      random_state: of the initial params, the shuffles and the draws of the net. An int makes `fit` repeatable bit by bit.
      dtype: of the params and of what is computed. None takes that of X, float32 for float32 and float64 for all else, as
        scikit-learn does; float64 needs no setting of JAX.

    After fit: `classes_`, `n_features_in_`, `feature_names_in_`, `loss_curve_` (the mean loss of each epoch on the way),
    `validation_curve_` (the loss of the rows held out), `n_iter_` (epochs done), `best_epoch_`, `stop_reason_`, `net_`, `loss_`,
    `params_` and `scale_`: the outputs are `net_(params_, scale.apply(scale_, x))`.

    Training sets whose sizes fill the same number of batches share one compiled program, so that the folds of
    `cross_val_score` are compiled once.

    >>> import numpy as np
    >>> from jaxbp.estimator import BackpropClassifier
    >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> model = BackpropClassifier(hidden=(8,), learning_rate=0.05, random_state=0).fit(x, ["no", "yes", "yes", "no"])
    >>> model.predict(x).tolist()
    ['no', 'yes', 'yes', 'no']
    """

    classes_: np.ndarray

    def __init__(
        self,
        net: Any = None,
        *,
        hidden: Any = (32,),
        activation: Any = "relu",
        loss: Any = None,
        optimizer: Any = "adam",
        learning_rate: Any = 1e-3,
        epochs: int = 100,
        batch_size: int | None = 32,
        penalty: Any = None,
        scale: Any = "standard",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        class_weight: Any = None,
        random_state: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            net, hidden, activation, loss, optimizer, learning_rate, epochs, batch_size, penalty, scale, early_stopping,
            validation_fraction, patience, random_state, dtype,
        )  # fmt: skip
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BackpropClassifier:
        """Train from new params for all epochs. A row of weight 0 is as if absent."""
        x, y = self._inputs(X, y, reset=True)
        y = self._one_column(y)
        self.classes_ = _labels_of(y)
        self._choose(y.ndim == 2)
        self._train(x, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> BackpropClassifier:
        """One more epoch, of these rows alone, with the params and the optimiser's state as they are.

        The first call needs all `classes`; scaling is fitted on its rows and kept. It goes on after `fit` too.
        """
        first = not hasattr(self, "params_")
        x, y = self._inputs(X, y, reset=first)
        y = self._one_column(y)
        if first:
            if classes is None and y.ndim == 1:
                raise ValueError("classes: the first call of partial_fit needs all classes that will come")
            self.classes_ = _labels_of(y) if classes is None else np.unique(classes)
            self._choose(y.ndim == 2)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes: {self.classes_} were expected, as in the first call, got {classes}")
        if self.class_weight == "balanced":
            raise ValueError("class_weight: 'balanced' needs all rows at once; give partial_fit a dict or sample_weight")
        self._train_on(x, y, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(n,) classes, or (n, labels) of 0 and 1."""
        outputs = self._outputs(X)
        decided = self._encoding.decide(outputs)
        return decided if self._encoding.multilabel else self.classes_[decided]

    @available_if(_gives_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, classes), rows with the sum 1; for labels that are yes or no, the probability of each yes."""
        outputs = self._outputs(X)
        return self._encoding.probabilities(outputs)

    @available_if(_gives_scores)
    def decision_function(self, X: Any) -> np.ndarray:
        """The logits: (n,) for two classes, above 0 for the second, else (n, classes)."""
        outputs = self._outputs(X)
        return self._encoding.scores(outputs)

    def _one_column(self, y: np.ndarray) -> np.ndarray:
        """y as (n,) classes or (n, labels) of 0 and 1."""
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if y.ndim == 2 and type_of_target(y) != "multilabel-indicator":
            raise ValueError(f"{self._name}: y: one column of classes, or columns of 0 and 1, got {type_of_target(y)}")
        return y

    def _choose(self, multilabel: bool) -> None:
        """The loss and the net for these classes."""
        count = len(self.classes_)
        if count < 2 and not multilabel:
            raise ValueError(f"{self._name}: y: two classes or more were expected, got one class, {self.classes_[0]!r}")
        several = count > 2 or (isinstance(self.net, Layer) and self._outputs_of(self.net, self.n_features_in_) == (2,))
        default = softmax_cross_entropy() if several and not multilabel else sigmoid_cross_entropy()
        self.loss_ = self._loss(default)
        self._encoding = Encoding(form_of(self.loss_), count, multilabel)
        self.net_ = self._net(self.n_features_in_, self._encoding.outputs)

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        if self._encoding.multilabel:
            if y.ndim != 2 or y.shape[1] != self._encoding.classes:
                raise ValueError(f"{self._name}: y: {self._encoding.classes} columns of 0 and 1, got shape {list(y.shape)}")
            return self._encoding.encode(y, self._dtype)
        if y.ndim != 1:
            raise ValueError(f"{self._name}: y: one class a row was expected, as before, got shape {list(y.shape)}")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"{self._name}: y: classes are {self.classes_}, found also {unknown}")
        return self._encoding.encode(np.searchsorted(self.classes_, y), self._dtype)

    def _classes_of(self, y: np.ndarray) -> np.ndarray | None:
        return None if y.ndim == 2 else np.searchsorted(self.classes_, y)

    def _weights(self, weight: np.ndarray, y: np.ndarray) -> np.ndarray:
        return weight if self.class_weight is None else weight * compute_sample_weight(self.class_weight, y)


def _labels_of(y: np.ndarray) -> np.ndarray:
    """The classes in rising order, or the numbers of the columns."""
    return np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
