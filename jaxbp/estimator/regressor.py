"""BackpropRegressor."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxbp.estimator.base import Backprop, weights_of
from jaxbp.estimator.needs import RegressorMixin
from jaxbp.losses.regression import quadratic


class BackpropRegressor(RegressorMixin, Backprop):
    """A net that is trained by hand-written backpropagation, as a scikit-learn regressor of one or more targets.

    params <- params + update(gradient of the loss of a batch), as `jaxbp.fit` does it, by half the squared distance.

    Parameters: as `BackpropClassifier`, and
      loss: None for `jaxbp.losses.quadratic()`; or any loss of real targets.
      scale_targets: train on (y - mean) / standard deviation of the rows that are trained on, and undo it in `predict`, so that
        the units of y do not matter. The losses of `loss_curve_` are those of the scaled targets. False for a loss that wants
        y as it is.

    After fit: `n_features_in_`, `feature_names_in_`, `loss_curve_`, `validation_curve_`, `n_iter_`, `best_epoch_`,
    `stop_reason_`, `net_`, `loss_`, `params_`, `scale_`, `targets_mean_` and `targets_std_`.

    >>> import numpy as np
    >>> from jaxbp.estimator import BackpropRegressor
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> model = BackpropRegressor(learning_rate=0.01, random_state=0).fit(x, 1000 * abs(x[:, 0]))
    >>> model.score(x, 1000 * abs(x[:, 0])) > 0.95
    True
    """

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
        scale_targets: bool = True,
        random_state: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            net, hidden, activation, loss, optimizer, learning_rate, epochs, batch_size, penalty, scale, early_stopping,
            validation_fraction, patience, random_state, dtype,
        )  # fmt: skip
        self.scale_targets = scale_targets

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BackpropRegressor:
        """Train from new params for all epochs. A row of weight 0 is as if absent."""
        x, y = self._inputs(X, y, reset=True, y_numeric=True)
        self._choose(y, weights_of(sample_weight, x))
        self._train(x, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> BackpropRegressor:
        """One more epoch, of these rows alone, with the params and the optimiser's state as they are.

        The first call fits the scaling of x and of y on its rows; it is kept. It goes on after `fit` too.
        """
        first = not hasattr(self, "params_")
        x, y = self._inputs(X, y, reset=first, y_numeric=True)
        if first:
            self._choose(y, weights_of(sample_weight, x))
        elif y.shape[1:] != self._targets:
            raise ValueError(f"{self._name}: y: a row had the shape {list(self._targets)}, now it has {list(y.shape[1:])}")
        self._train_on(x, y, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """In the shape and the units of y. In the dtype of the net, so that no digit is shown that it does not have."""
        outputs = self._outputs(X)
        y = outputs * self.targets_std_ + self.targets_mean_
        return y.astype(outputs.dtype).reshape(len(y), *self._targets)

    def _choose(self, y: np.ndarray, weight: np.ndarray) -> None:
        """The loss, the net and the units of these targets."""
        columns = y.reshape(len(y), -1).astype(np.float64)
        self._targets = y.shape[1:]
        self.targets_mean_, self.targets_std_ = np.zeros(columns.shape[1]), np.ones(columns.shape[1])
        if self.scale_targets:
            self.targets_mean_ = np.average(columns, axis=0, weights=weight)
            spread = np.sqrt(np.average((columns - self.targets_mean_) ** 2, axis=0, weights=weight))
            tiny = 8 * np.finfo(np.float64).eps * np.abs(self.targets_mean_)  # what rounding leaves of a constant
            self.targets_std_ = np.where(spread > tiny, spread, 1.0)
        self.loss_ = self._loss(quadratic())
        self.net_ = self._net(self.n_features_in_, columns.shape[1])

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        return ((y.reshape(len(y), -1) - self.targets_mean_) / self.targets_std_).astype(self._dtype)
