"""Classes and what a loss compares outputs with: the forms that targets take, and how outputs are read back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxbp.contracts import Loss


class Form(NamedTuple):
    """targets: "labels" integers, "unit" 0 and 1, "signs" -1 and +1, "one_hot" one column a class, also for two classes.

    link: what makes probabilities of outputs: "softmax", "sigmoid", "none" where they are probabilities, None where they
    never are.
    """

    targets: str
    link: str | None


FORMS = {
    "softmax_cross_entropy": Form("labels", "softmax"),
    "log_likelihood": Form("labels", "none"),
    "sigmoid_cross_entropy": Form("unit", "sigmoid"),
    "binary_cross_entropy": Form("unit", "none"),
    "logistic": Form("signs", "sigmoid"),
    "hinge": Form("signs", None),
}


def form_of(loss: Loss) -> Form:
    """Of a loss that is not listed: distances to one-hot rows."""
    return FORMS.get(loss.name, Form("one_hot", None))


class Encoding(NamedTuple):
    """How classes meet outputs. classes: their number, or that of the labels of a multilabel problem."""

    form: Form
    classes: int
    multilabel: bool

    @property
    def single(self) -> bool:
        """Whether one output tells two classes apart."""
        return self.classes == 2 and not self.multilabel and self.form.targets in ("unit", "signs")

    @property
    def outputs(self) -> int:
        return 1 if self.single else self.classes

    @property
    def threshold(self) -> float:
        """The output from which on yes is said."""
        return 0.5 if self.form.targets == "one_hot" or self.form.link == "none" else 0.0

    def encode(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """y: (n,) numbers of classes, or (n, labels) of 0 and 1."""
        if self.multilabel and self.form.targets == "labels":
            raise ValueError("loss: rows with several labels need one yes or no each, such as losses.sigmoid_cross_entropy()")
        if self.form.targets == "labels":
            return y.astype(np.int32)
        if self.multilabel:
            unit = y
        else:
            unit = y[:, None] if self.single else y[:, None] == np.arange(self.classes)
        unit = unit.astype(dtype)
        return 2 * unit - 1 if self.form.targets == "signs" else unit

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """(n,) for two classes, above 0 for the second; (n, classes) else, the largest for the class, or above 0 for yes."""
        if self.single:
            return outputs[:, 0] - self.threshold
        if self.multilabel:
            return outputs - self.threshold
        return outputs[:, 1] - outputs[:, 0] if self.classes == 2 else outputs

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """The inverse of `encode`: numbers of classes (n,), or 0 and 1 (n, labels)."""
        scores = self.scores(outputs)
        return (scores > 0).astype(np.int64) if self.multilabel or scores.ndim == 1 else scores.argmax(axis=1)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """(n, classes) in the dtype of the outputs, rows with the sum 1; or the probability of each of several labels."""
        return self._probabilities(outputs.astype(np.float64)).astype(outputs.dtype)

    def _probabilities(self, z: np.ndarray) -> np.ndarray:
        if self.form.link == "softmax":
            e = np.exp(z - z.max(axis=1, keepdims=True))
            return e / e.sum(axis=1, keepdims=True)
        p = sigmoid(z) if self.form.link == "sigmoid" else z
        if self.multilabel:
            return p
        if self.single:
            return np.concatenate([sigmoid(-z) if self.form.link == "sigmoid" else 1 - p, p], axis=1)
        return _shared_out(p)


def sigmoid(z: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _shared_out(p: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; evenly where all of it is 0."""
    total = p.sum(axis=1, keepdims=True)
    return np.where(total > 0, p / np.where(total > 0, total, 1), 1 / p.shape[1])
