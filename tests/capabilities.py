"""What the classic texts describe, row by row: the test that shows it, where it is seen, and one mistake the test must notice.

The rows are those of the classics: Nielsen; Mazur; Hu, "Backpropagation is not the chain rule"; micrograd; Kostadinov;
Shamdasani; Brownlee; Mitchell, chapter 4; Han & Kamber 9.2; Rumelhart, Hinton & Williams 1986.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sabotage import Sabotage


class Capability(NamedTuple):
    """A row.

    what: the capability. test: "file::function" below tests. seen: the experiment that shows it. mistake: what the test must
    notice. arguments: of the test; made from its module, where they are a function.
    """

    what: str
    test: str
    seen: str
    mistake: Sabotage
    arguments: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] = types.MappingProxyType({})


LINEAR = "jaxbp/layers/linear.py"
LOSSES = "jaxbp/losses/regression.py"
PATHS = "jaxbp/graph/paths.py"
UPHILL = Sabotage(LINEAR, "Dense(w=Outer(x, y_bar), b=b)", "Dense(w=Outer(x, -y_bar), b=b)")

CAPABILITIES: dict[int, Capability] = {
    1: Capability(
        "matrix forward pass",
        "test_equations.py::test_a_matrix_forward_pass_is_the_sums_of_single_neurons",
        "worked",
        Sabotage(LINEAR, "y = y + jnp.broadcast_to(params.b, y.shape)", "y = y - jnp.broadcast_to(params.b, y.shape)"),
    ),
    2: Capability(
        "BP1: the error of the output",
        "losses/test_probabilities.py::test_delta_is_a_less_y",
        "worked",
        Sabotage(LOSSES, "return d * d / 2, d", "return d * d / 2, 2 * d"),
    ),
    3: Capability(
        "BP2: the error of a layer from the next",
        "test_equations.py::test_bp2_bp3_bp4_at_any_depth",
        "worked",
        Sabotage(LINEAR, "y_bar @ params.w.T  # type", "y_bar @ (params.w * 1.000001).T  # type"),
        {"sizes": (3, 4, 2)},
    ),
    4: Capability(
        "BP3, BP4: the gradient from the errors",
        "test_equations.py::test_bp2_bp3_bp4_at_any_depth",
        "worked",
        Sabotage(LINEAR, "Dense(w=Outer(x, y_bar), b=b)", "Dense(w=Outer(x * x, y_bar), b=b)"),
        {"sizes": (3, 2)},
    ),
    5: Capability(
        "the gradient is the mean over the examples",
        "test_equations.py::test_the_gradient_is_the_mean_over_the_examples",
        "routes",
        Sabotage("jaxbp/factors/each.py", "jnp.sum(wide(self.value), axis=summed)", "jnp.max(wide(self.value), axis=summed)"),
    ),
    6: Capability(
        "matrix mini-batch against a loop over examples",
        "test_routes.py::test_weights_penalty_and_sum_reach_every_way",
        "routes",
        Sabotage(
            "jaxbp/factors/outer.py",
            "shared = tuple(range(self.x.ndim - 1))\n        x, y_bar = same_dtype(self.x, self.y_bar)",
            "shared = tuple(range(self.x.ndim - 1))\n        x, y_bar = same_dtype(self.x, self.y_bar * 1.01)",
        ),
    ),
    7: Capability(
        "losses, any user's included",
        "losses/test_regression.py::test_quadratic_and_mse_by_hand",
        "digits",
        Sabotage(LOSSES, "return d * d / 2, d", "return d * d, d"),
    ),
    8: Capability(
        "fused pairs: softmax + cross-entropy, sigmoid + cross-entropy, linear + quadratic",
        "losses/test_probabilities.py::test_delta_is_a_less_y",
        "worked",
        Sabotage(LOSSES, "return d * d / 2, d", "return d * d / 2, -d"),
    ),
    9: Capability(
        "activations with hand-written slopes, conventions at kinks",
        "layers/test_activations.py::test_slopes_at_kinks",
        "worked",
        Sabotage("jaxbp/layers/activations.py", "return jnp.where(y <= 0, 0, y_bar)", "return jnp.where(y < 0, 0, y_bar)"),
        {"name": "relu", "at_kinks": [0, 0, 0, 1]},
    ),
    10: Capability(
        "any number of hidden layers",
        "test_equations.py::test_bp2_bp3_bp4_at_any_depth",
        "worked",
        Sabotage(
            "jaxbp/compose.py",
            "        factors.append(layer_factors)\n    return tuple(reversed(factors)), y_bar",
            "        factors.append(layer_factors)\n        y_bar = y_bar * 2\n    return tuple(reversed(factors)), y_bar",
        ),
        {"sizes": (3, 2, 2, 2, 2, 2, 2)},
    ),
    11: Capability(
        "the sum over all paths",
        "graph/test_paths.py::test_the_sum_over_all_paths_is_the_gradient",
        "routes",
        Sabotage(PATHS, "counts[key] = sum(counts", "counts[key] = max(counts"),
    ),
    12: Capability(
        "reverse mode, forward mode, differences: passes counted",
        "test_routes.py::test_the_passes_are_counted_where_they_happen",
        "routes",
        Sabotage("jaxbp/routes/ways.py", "Passes(forwards=2 * count)", "Passes(forwards=count)"),
        {"by": "central"},
    ),
    13: Capability(
        "a graph of scalars: adjoints add where a value is used twice",
        "graph/test_adjoints.py::test_adjoints_add_where_a_value_is_used_twice",
        "micrograd",
        Sabotage(
            "jaxbp/graph/reverse.py",
            "                value.bar = bar if value.bar is None else value.bar + bar",
            "                value.bar = bar",
        ),
    ),
    14: Capability(
        "partial against total derivatives",
        "graph/test_paths.py::test_partial_is_not_total",
        "micrograd",
        Sabotage(PATHS, "total.get(target, 0.0) + total[key] * factor", "total[key] * factor"),
    ),
    15: Capability(
        "one weight, factor by factor",
        "graph/test_paths.py::test_one_weight_factor_by_factor",
        "worked",
        Sabotage(PATHS, "append((to, float(block[row, at])))", "append((to, 1.001 * float(block[row, at])))"),
    ),
    16: Capability(
        "the gradient apart from its use: any optax optimiser",
        "test_backprop.py::test_any_optax_loop",
        "digits",
        UPHILL,
    ),
    17: Capability(
        "mini-batches: shuffled, cut, the short last one divided by its own size",
        "training/test_fit.py::test_without_shuffle_rows_come_as_they_are",
        "nielsen",
        Sabotage(
            "jaxbp/training/order.py",
            "steps * self.batch_size)\n            for",
            "steps * self.batch_size) - 1\n            for",
        ),
    ),
    18: Capability(
        "case updating and epoch updating",
        "test_classics.py::test_brownlee_twenty_epochs_of_case_updating",
        "brownlee",
        Sabotage("jaxbp/training/updates.py", "rows, key = batch\n", "rows, key = batch[0][::-1] * 0, batch[1]\n"),
    ),
    19: Capability(
        "all deltas from the weights as they were before the update",
        "test_classics.py::test_mazurs_printed_error_is_that_of_a_sequential_update",
        "mazur",
        Sabotage(LINEAR, "y_bar @ params.w.T  # type", "y_bar @ (params.w * 0.99).T  # type"),
    ),
    20: Capability(
        "termination: largest change, misclassified, error, epochs",
        "training/test_stopping.py::test_targets",
        "nielsen",
        Sabotage("jaxbp/training/stopping.py", "epoch.change < tolerance", "epoch.change > tolerance"),
    ),
    21: Capability(
        "weight decay of weights, not of biases",
        "test_penalties.py::test_gradients_by_hand",
        "nielsen",
        Sabotage("jaxbp/penalties.py", "slope.dtype) * slope)", "slope.dtype) * slope / 2)"),
    ),
    22: Capability(
        "initialisation: unit variance saturates, 1/n_in does not",
        "test_equations.py::test_initial_weights_of_unit_variance_saturate_and_scaled_ones_do_not",
        "inside",
        Sabotage("jaxbp/initializers.py", "return math.sqrt(gain / n)", "return (gain / n)"),
    ),
    23: Capability(
        "early stopping gives the best params, not the last",
        "training/test_stopping.py::test_a_run_stops_by_patience_and_gives_the_best_params",
        "nielsen",
        Sabotage("jaxbp/training/program.py", "where(decision.best, (new.params", "where(True, (new.params"),
    ),
    24: Capability(
        "k-fold: a partition, each row held out once",
        "validation/test_folds.py::test_kfold_is_a_partition",
        "digits",
        Sabotage(
            "jaxbp/validation/folds.py",
            "np.repeat(np.arange(k), [n // k + (i < n % k) for i in range(k)])",
            "np.arange(n) * k // (n + 1)",
        ),
    ),
    25: Capability(
        "k-fold chooses the number of epochs; the last run takes all rows",
        "validation/test_choosing.py::test_the_mean_of_the_best_epochs",
        "digits",
        Sabotage("jaxbp/validation/choosing.py", "round(float(best.mean()))", "int(best.max())"),
    ),
    26: Capability(
        "pruning: masks stay through later training",
        "training/test_pruning.py::test_what_is_gone_stays_exactly_0",
        "pruning",
        Sabotage("jaxbp/training/masking.py", "return cut(updates), MaskedState", "return updates, MaskedState"),
        {"name": "momentum and noise"},
    ),
    27: Capability(
        "sensitivity: how the outputs move with one input",
        "training/test_pruning.py::test_sensitivity_is_the_jacobian",
        "inside",
        Sabotage("jaxbp/training/sensitivity.py", "units = jnp.eye(size", "units = 1 - jnp.eye(size"),
    ),
    28: Capability(
        "slow learning: inputs, slopes and errors of each layer, saturated units",
        "training/test_diagnosis.py::test_no_input_no_gradient",
        "inside",
        Sabotage("jaxbp/factors/outer.py", "w_bar = lax.dot_general(x, y_bar,", "w_bar = lax.dot_general(x + 1, y_bar,"),
    ),
    29: Capability(
        "errors by depth at the start",
        "experiments/test_study.py::test_the_laws_hold",
        "inside",
        Sabotage("jaxbp/training/diagnosis.py", "y_bars.insert(0, y_bar)", "y_bars.append(y_bar)"),
    ),
    30: Capability(
        "drawing the net and the graph",
        "graph/test_drawing.py::test_a_constant_stands_on_its_side_of_the_operation",
        "worked",
        Sabotage("jaxbp/graph/drawing.py", "scalars == [0] and", "scalars == [1] and"),
    ),
    31: Capability(
        "labels -1 and +1, right where the signs agree",
        "losses/test_margins.py::test_logistic_is_sigmoid_cross_entropy_with_other_labels",
        "micrograd",
        Sabotage("jaxbp/losses/margins.py", "0, size), -y * wrong", "0, size), y * wrong"),
    ),
    32: Capability(
        "image classification: the largest of ten outputs",
        "training/test_metrics.py::test_time_axis",
        "digits",
        Sabotage("jaxbp/training/class_metrics.py", "argmax(outputs, axis=-1) == _labels", "argmin(outputs, axis=-1) == _labels"),
    ),
    33: Capability(
        "a tiny regression: hours studied and slept to a score",
        "experiments/classics/test_classics_texts.py::test_a_text_holds_and_can_be_read",
        "hours-score",
        UPHILL,
        lambda tests: dict(zip(("module", "options", "numbers", "figures"), tests.TEXTS[2], strict=True)),
    ),
    34: Capability(
        "hidden-unit tasks: XOR, mirror symmetry, the 8-3-8 encoder, parity",
        "experiments/classics/test_classics_tasks.py::test_encoder_finds_a_code",
        "encoder",
        UPHILL,
    ),
    35: Capability(
        "manual against automatic: planted mistakes are seen",
        "test_comparison.py::test_a_planted_mistake_is_seen_in_its_leaf",
        "digits",
        Sabotage("jaxbp/comparison.py", "return all(leaf.hand_f64", "return any(leaf.hand_f64"),
    ),
    36: Capability(
        "learning rates: too small, too large, halved on a plateau",
        "training/test_stopping.py::test_the_rate_is_halved_on_a_plateau_and_ends_the_run",
        "nielsen",
        Sabotage("jaxbp/training/stopping.py", "where(waited, memory[1] * factor", "where(waited, memory[1] - factor / 8"),
    ),
}
