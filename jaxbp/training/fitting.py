"""fit: one net trained on one set of data."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxbp import inputs
from jaxbp.contracts import Layer, Loss
from jaxbp.training import doors, engine
from jaxbp.training.diagnosis import LOOKS, Diagnosis, as_diagnosis
from jaxbp.training.state import NONFINITE, Data
from jaxbp.training.task import Options, Task, make_data, make_job, prepare


class FitResult(NamedTuple):
    """What a run gave.

    params: after the last epoch that was finite, or of the best epoch where a stopping rule keeps it. opt_state: the
    optimiser's after the last epoch. history: one array an epoch by name, "loss" and the metrics of the training set,
    "validation_loss" ... of the validation set. stop_reason: why training ended, in words. epochs: epochs done. best_epoch:
    the epoch that params belong to. scale: the fitted statistics of `scale`, () without: predict by
    `net(params, apply(scale, x))`. seconds_compile, seconds_run: apart. diagnosis: what `diagnose` saw.
    """

    params: Any
    opt_state: Any
    history: dict[str, np.ndarray]
    stop_reason: str
    epochs: int
    best_epoch: int
    scale: Any
    seconds_compile: float
    seconds_run: float
    diagnosis: Diagnosis | None = None

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items() if values.ndim == 1 and len(values))
        return f"<FitResult: {self.stop_reason}; {last or 'no epoch done'}>"


def fit(
    net: Layer,
    loss: Loss,
    optimizer: Any,
    x: Any,
    targets: Any,
    *,
    key: jax.Array,
    epochs: int,
    batch_size: int | None,
    params: Any = None,
    validation: tuple | None = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    penalty: Any = None,
    reduction: str = "mean",
    gradient: str = "manual",
    metrics: Any = None,
    scale: Any = None,
    shuffle: bool = True,
    remainder: str = "short",
    evaluate_training: bool = False,
    stop: Any = None,
    accumulate: int = 1,
    chunk: int | None = None,
    progress: Callable | None = None,
    keeping: Any = None,
    diagnose: bool | int = False,
    mask: Any = None,
    precision: Any = None,
) -> FitResult:
    """params <- params + update(gradient of the loss of a batch), batch by batch, `epochs` times through the data.

    One compiled program: a scan over the batches inside a loop over the epochs. Calling again with the same net, loss
    and optimiser objects and the same shapes compiles nothing.

    Arguments:
      net, loss, optimizer: a Layer, a Loss, any optax optimiser (also one with a line search, which is given the value and
        `value_fn` of the batch).
      x, targets: with a leading axis of n examples; pytrees too.
      key: of the initial params, the shuffles and the draws of the net. One key, one result, bit for bit.
      batch_size: 1 for case updating, None (or n) for the full batch. A short last batch is divided by its own size, or left
        out with remainder="drop". A net that mixes rows (batch norm) takes no short batch: it would be padded.
      params: to begin from; None draws them by `net.init`.
      validation: (x, targets) or (x, targets, sample_weight), evaluated after every epoch.
      sample_weight: (n,) or (n, time). The loss of a batch is sum w l / sum w; a row of weight 0 is as if absent.
      class_weight: "balanced", or a mapping {class: weight}, as of `jaxbp.training.class_weights`: multiplies the weights in
        training (so in the fit of `scale` and in what batches report on the way too), not those of any evaluation.
      penalty: on the params, added to the loss that is minimised; the losses reported are without it.
      gradient: "manual", the hand-written backward pass, or "autodiff", `jax.value_and_grad` of the same mathematics.
      metrics: names or Metric objects; None takes accuracy for classes and mse for real targets, () takes none.
      scale: a pair (fit, apply) such as `standardize()`, fitted on x with the weights and applied to every batch, to the
        validation set too.
      shuffle: a new order every epoch; False takes the rows as they come.
      evaluate_training: False reports of the training set what its batches gave on the way, each before its own update,
        which is cheap; True evaluates the whole set after every epoch in prediction form.
      stop: a stopping rule or several (`jaxbp.training.patience(10)`, `halve_on_plateau`, `reach`, `misclassified`,
        `settle`), looked at after every epoch inside the compiled loop.
      accumulate: cut each batch into so many parts, one after another: the memory of one part, the gradient of the whole.
      chunk: epochs to a compiled call; progress(epochs done, info of the last) is called after each. Without chunk a run is
        one call, or about 20 where there is somebody to tell or it is kept.
      keeping: `jaxbp.training.Keeping(folder, facts)`: a checkpoint after every call, and with resume=True the run goes on with
        the last one, to the same bits.
      diagnose: True looks inside the net, layer by layer, at the first batch of an epoch: errors, gradients, update ratios,
        input activations, saturated and dead units (`jaxbp.training.diagnosis`), in so many epochs as cost less than a tenth of
        the time; a number k in every k-th epoch. The result has it as `diagnosis`.
      precision: `jaxbp.training.mixed_precision("bfloat16")` or "float16": the training passes in that dtype, the params that it
        updates and gives, their gradient and the optimiser in float32; evaluations in float32. With a loss scale that is found
        on the way the history has "loss_scale" and "skipped_steps". Without it params of a narrow dtype stay in it, and only
        their gradient and the optimiser are in float32.
      mask: a tree like params of booleans, or one for a leaf: what is False is 0 from the start and stays exactly 0, also under
        weight decay and momentum (`jaxbp.training.pruning` makes such masks). Another mask compiles nothing.

    A run that turns non-finite stops: a RuntimeWarning is issued, `stop_reason` names the epoch and the first leaf, params
    and history are those of the epochs before.

    Raises: ValueError or TypeError for data, sizes and options that do not fit, before anything is compiled.
    """
    options = Options(
        key, epochs, batch_size, params, sample_weight, penalty, reduction, gradient, metrics, scale, shuffle, remainder,
        evaluate_training, chunk, progress, stop, accumulate, keeping, class_weight, diagnose, mask, precision,
    )  # fmt: skip
    task = prepare("fit", net, loss, optimizer, x, targets, options)
    sets, set_rows = {}, {}
    if validation is not None:
        sets["validation_"] = validation_set(task, validation)
        set_rows["validation_"] = (np.arange(inputs.batch_size(sets["validation_"].x)),)
    job = make_job(task, None, (np.arange(task.n),), sets, set_rows)
    ran = engine.run(job)
    state, (reason,) = ran.state, engine.stop_reasons(job.plan, ran.state, epochs)
    if int(state.stop) == NONFINITE:
        warnings.warn(f"fit: {reason}", RuntimeWarning, stacklevel=2)
    looks = ran.history.pop(LOOKS, None)
    return FitResult(
        state.chosen, state.opt_state, ran.history, reason, int(state.epoch), int(state.best_epoch), state.scale,
        ran.seconds_compile, ran.seconds_run, as_diagnosis(net, state.params, looks),
    )  # fmt: skip


def validation_set(task: Task, validation: Any) -> Data:
    if not isinstance(validation, tuple) or len(validation) not in (2, 3):
        got = type(validation).__name__ if not isinstance(validation, tuple) else f"a tuple of {len(validation)}"
        raise TypeError(f"fit: validation: (x, targets) or (x, targets, sample_weight) was expected, got {got}")
    x, targets, weight = doors.examples(
        "fit",
        *validation,
        *(None,) * (3 - len(validation)),
        prefix="validation ",
        takes_nan=task.plan.scale is not None and task.plan.scale.takes_nan,
    )
    doors.require_same_examples("fit: validation x", inputs.spec_of(x), inputs.spec_of(task.x))
    try:
        doors.require_fit(task.plan, x, targets, task.options.params)
    except (ValueError, TypeError) as error:
        error.add_note("in the validation set")
        raise
    return make_data(x, targets, weight, True)
