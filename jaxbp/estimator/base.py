"""What both estimators share: parameters, training, the state that `partial_fit` goes on from, prediction."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs
from jaxbp.blocks.mlp import mlp
from jaxbp.contracts import Layer, Loss
from jaxbp.estimator import programs
from jaxbp.estimator.needs import BaseEstimator, _check_sample_weight, check_is_fitted, check_random_state, validate_data
from jaxbp.layers import activations
from jaxbp.training import engine
from jaxbp.training.scaling import as_scale, min_max, standardize
from jaxbp.training.state import NONFINITE
from jaxbp.training.stopping import patience


SCALES = {"standard": standardize, "min_max": min_max}


class Backprop(BaseEstimator):
    """The common part of `BackpropClassifier` and `BackpropRegressor`. `_encoded` of these makes targets of y."""

    net_: Layer
    loss_: Loss
    n_features_in_: int

    def __init__(
        self, net: Any, hidden: Any, activation: Any, loss: Any, optimizer: Any, learning_rate: Any, epochs: Any,
        batch_size: Any, penalty: Any, scale: Any, early_stopping: Any, validation_fraction: Any, patience: Any,
        random_state: Any, dtype: Any,
    ):  # fmt: skip
        self.net = net
        self.hidden = hidden
        self.activation = activation
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.penalty = penalty
        self.scale = scale
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.dtype = dtype

    # --- what the arguments mean

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _dtype_for(self, x: Any) -> np.dtype:
        """The dtype to compute in: `dtype`, or float32 where x has it, else float64."""
        if self.dtype is None:
            return np.dtype(np.float32 if getattr(x, "dtype", None) == np.float32 else np.float64)
        dtype = jnp.dtype(self.dtype)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{self._name}: dtype: None or a floating type was expected, got {self.dtype!r}")
        return dtype

    def _scale(self) -> Any:
        if not isinstance(self.scale, str):
            return as_scale(self.scale)
        if self.scale not in SCALES:
            raise ValueError(f"{self._name}: scale: one of {sorted(SCALES)}, None or a pair was expected, got {self.scale!r}")
        return SCALES[self.scale]()

    def _loss(self, default: Loss) -> Loss:
        if self.loss is None:
            return default
        if not isinstance(self.loss, Loss):
            raise TypeError(f"{self._name}: loss: None or a Loss such as jaxbp.losses.mse() was expected, got {self.loss!r}")
        return self.loss

    def _net(self, features: int, outputs: int) -> Layer:
        if self.net is None:
            net = mlp([features, *np.atleast_1d(self.hidden).tolist(), outputs], hidden=self._activation())
        else:
            net = self.net if isinstance(self.net, Layer) or not callable(self.net) else self.net(features, outputs)
        if not isinstance(net, Layer):
            raise TypeError(
                f"{self._name}: net: None, a Layer or a function (features, outputs) -> Layer was expected, got {net!r}"
            )
        found = self._outputs_of(net, features)
        if found != (outputs,):
            raise ValueError(
                f"{self._name}: net: {outputs} outputs were expected for these targets and this loss, "
                f"{net!r} gives an example the shape {list(found)}"
            )
        return net

    def _outputs_of(self, net: Layer, features: int) -> tuple[int, ...]:
        """The shape of the outputs for one example."""
        leaves, treedef = jax.tree.flatten(jax.ShapeDtypeStruct((features,), self._dtype))
        with programs.precision(self._dtype):
            return inputs.abstract_init(net, tuple(leaves), treedef)[1].shape

    def _activation(self) -> Layer:
        if isinstance(self.activation, Layer):
            return self.activation
        build = getattr(activations, self.activation, None) if isinstance(self.activation, str) else None
        if not hasattr(build, "__wrapped__"):  # no constructor
            raise ValueError(f"{self._name}: activation: a name such as 'relu' or a Layer was expected, got {self.activation!r}")
        return build()  # type: ignore[misc]

    # --- training

    def _inputs(self, x: Any, y: Any, *, reset: bool, **check: Any) -> tuple[np.ndarray, np.ndarray]:
        """x and y, checked. reset: this is what later calls have to look like."""
        dtype = self._dtype_for(x) if reset else self._dtype
        x, y = validate_data(self, x, y, reset=reset, dtype=_checked_in(dtype), multi_output=True, **check)
        self._dtype = dtype
        return x.astype(dtype, copy=False), y

    def _asked(self, *, watched: bool) -> programs.Asked:
        optimizer = programs.optimizer_of(self._name, self.optimizer, self.learning_rate)
        asked = programs.Asked(
            self._name, self.net_, self.loss_, optimizer, self.penalty, self._scale(), self.epochs, self.batch_size
        )
        return asked._replace(stop=patience(self.patience), held_out=self.validation_fraction) if watched else asked

    def _job(self, x: np.ndarray, y: np.ndarray, sample_weight: Any, *, new: bool, watched: bool = False) -> engine.Job:
        """Of the rows that count: those of weight 0 are left out. new: params are drawn."""
        weight = self._weights(weights_of(sample_weight, x), y)
        kept = weight > 0
        seed = check_random_state(self.random_state).randint(2**31 - 1) if new else 0
        labels = self._classes_of(y[kept]) if watched else None
        return programs.job_of(
            self._asked(watched=watched), jax.random.key(seed), x[kept], self._encoded(y[kept]), weight[kept], labels
        )

    def _weights(self, weight: np.ndarray, y: np.ndarray) -> np.ndarray:
        return weight

    def _classes_of(self, y: np.ndarray) -> np.ndarray | None:
        """What rows are held out evenly by."""
        return None

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _train(self, x: np.ndarray, y: np.ndarray, sample_weight: Any) -> None:
        """All epochs, from new params."""
        with programs.precision(self._dtype):
            job = self._job(x, y, sample_weight, new=True, watched=bool(self.early_stopping))
            ran = engine.run(job)
        (self.stop_reason_,) = engine.stop_reasons(job.plan, ran.state, self.epochs)
        self.loss_curve_ = [float(loss) for loss in ran.history["loss"]]
        self.best_epoch_ = int(ran.state.best_epoch)
        if self.early_stopping:
            self.validation_curve_ = [float(loss) for loss in ran.history["validation_loss"]]
        self._keep(ran.state)

    def _train_on(self, x: np.ndarray, y: np.ndarray, sample_weight: Any) -> None:
        """One more epoch, of these rows."""
        if self.early_stopping:
            raise ValueError(f"{self._name}: partial_fit: early_stopping needs all rows at once; set it to False")
        before = getattr(self, "_state", None)
        with programs.precision(self._dtype):
            job = self._job(x, y, sample_weight, new=before is None)
            state, loss = programs.advance(job, None if before is None else programs.restored(before))
        curve = [] if before is None else self.loss_curve_
        self.loss_curve_ = [*curve, loss] if np.isfinite(loss) else curve
        (reason,) = engine.stop_reasons(job.plan, state, int(state.epoch))
        self.stop_reason_, self.best_epoch_ = reason, int(state.epoch)
        self._keep(state)

    def _keep(self, state: Any) -> None:
        if int(state.stop) == NONFINITE:
            message = f"{self._name}: {self.stop_reason_}; a smaller learning_rate may help"
            warnings.warn(message, RuntimeWarning, stacklevel=4)
        self._state = programs.stored(state)
        self.params_, self.scale_, self.n_iter_ = self._state.params, self._state.scale, int(state.epoch)

    # --- prediction

    def _outputs(self, x: Any) -> np.ndarray:
        check_is_fitted(self, "params_")
        x = np.asarray(validate_data(self, x, reset=False, dtype=_checked_in(self._dtype))).astype(self._dtype, copy=False)
        with programs.precision(self._dtype):
            return programs.outputs_of(self.net_, self._scale(), self.params_, self.scale_, x)


def weights_of(sample_weight: Any, x: np.ndarray) -> np.ndarray:
    """(n,) float64, finite and not negative, ones for None."""
    weights = _check_sample_weight(sample_weight, x, dtype=np.float64)
    if np.any(weights < 0):
        raise ValueError("sample_weight: weights of 0 or more were expected, got negative weights; weight 0 leaves a row out")
    if not np.any(weights > 0):
        raise ValueError("sample_weight: all weights are zero, so nothing is left to train on")
    return weights


def _checked_in(dtype: np.dtype) -> np.dtype:
    """The dtype in which scikit-learn, which knows none below, looks at x."""
    return np.promote_types(dtype, np.float32)
