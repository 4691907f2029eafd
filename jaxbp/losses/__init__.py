"""Losses, one value an example: forward(outputs, targets) -> losses, residuals; backward(residuals, losses_bar) -> outputs_bar.

Each reduces the last axis of its outputs, so outputs (batch, classes) give losses (batch,) and outputs (batch, time, classes)
losses (batch, time); weights, means and sums over the batch belong to `jaxbp.backprop`. Losses are float32, or wider where the
outputs are; outputs_bar has the dtype of the outputs. Targets have no cotangent.

| loss | outputs | targets |
|---|---|---|
| `quadratic`, `mse` | real | real, of the shape of the outputs |
| `softmax_cross_entropy` | logits | integer labels, or distributions of the shape of the outputs |
| `log_likelihood` | probabilities of classes (softmax) | the same |
| `sigmoid_cross_entropy` | logits | in [0, 1], of the shape of the outputs |
| `binary_cross_entropy` | probabilities (sigmoid) | the same |
| `hinge`, `logistic` | scores | -1 and +1, of the shape of the outputs |
| `loss_from(fun)` | any | any |

Targets "of the shape of the outputs" may leave out a last axis of 1: scores (batch, 1) take labels (batch,).
"""

from jaxbp.losses.cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy
from jaxbp.losses.custom import loss_from
from jaxbp.losses.margins import hinge, logistic
from jaxbp.losses.probabilities import binary_cross_entropy, log_likelihood
from jaxbp.losses.regression import mse, quadratic


__all__ = [
    "binary_cross_entropy",
    "hinge",
    "log_likelihood",
    "logistic",
    "loss_from",
    "mse",
    "quadratic",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]
