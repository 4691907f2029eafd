"""What each example of a batch does to the parameters, at about the price of one gradient.

The loss of example b is l_b = w_b times the loss of the net on it (for a loss with a time axis l_b = sum_t w_bt loss_bt: the
sum over time), w = 1 without `sample_weight`; its gradient is g_b = dl_b/dparams. So an example of weight 2 has twice the
gradient, and one of weight 0, which may hold anything, has none. All results are about these l_b and g_b. The
functions of our nets are called f(params, x, targets, *, sample_weight=None, key=None, train=True).

    losses_and_factors     l_b and the factors of g_b        value_grads_and_norms  l_b, mean gradient, |g_b|
    clipped_sum            sum_b min(1, C/|g_b|) g_b         per_example_grads      every g_b
    gram                   <g_b, g_c>, also of two batches   dot                    <g_b, v>
    second_moment          mean of g_b^2                     variance               over examples
    noise_scale            McCandlish's batch size           noise_scale_ema        the same along a run, for optax
    input_grads            dl_b/dx_b                         add_to                 params + scale sum_b g_b, rows scattered

Any other JAX model, by loss_of_one(params, example) -> scalar, read from its program; called f(params, batch, *,
sample_weight=None):

    factors_of             l_b and the factors of g_b        norms_of               l_b, mean gradient, |g_b|
    clipped_sum_of         sum_b min(1, C/|g_b|) g_b         gram_of                <g_b, g_c>
    second_moment_of       mean of g_b^2

Nets in whose training examples meet (batch norm) are refused: there is no g_b. With train=False they are taken.
"""

from jaxbp.per_example.doors import (
    add_to,
    clipped_sum,
    dot,
    gram,
    input_grads,
    losses_and_factors,
    per_example_grads,
    second_moment,
    value_grads_and_norms,
    variance,
)
from jaxbp.per_example.models import clipped_sum_of, factors_of, gram_of, norms_of, second_moment_of
from jaxbp.per_example.noise import NoiseScale, NoiseScaleState, noise_scale, noise_scale_ema
from jaxbp.per_example.passing import layer_paths
from jaxbp.per_example.views import View


__all__ = [
    "NoiseScale",
    "NoiseScaleState",
    "View",
    "add_to",
    "clipped_sum",
    "clipped_sum_of",
    "dot",
    "factors_of",
    "gram",
    "gram_of",
    "input_grads",
    "layer_paths",
    "losses_and_factors",
    "noise_scale",
    "noise_scale_ema",
    "norms_of",
    "per_example_grads",
    "second_moment",
    "second_moment_of",
    "value_grads_and_norms",
    "variance",
]
