"""What `fit` and `cross_validate` check before anything is compiled."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs
from jaxbp.contracts import Layer, Loss
from jaxbp.training import updates
from jaxbp.training.keeping import Keeping
from jaxbp.training.masking import require_mask
from jaxbp.training.order import Order
from jaxbp.training.precision import require_float32, require_precision
from jaxbp.training.state import Data, Plan


def require_parts(name: str, net: Any, loss: Any, optimizer: Any, penalty: Any) -> None:
    if not isinstance(net, Layer):
        raise TypeError(f"{name}: net: a Layer was expected, got {net!r}; wrap another JAX model by jaxbp.lift(init, apply)")
    if not isinstance(loss, Loss):
        raise TypeError(f"{name}: loss: a Loss such as jaxbp.losses.mse() was expected, got {loss!r}")
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        hint = "; call it first, e.g. optax.sgd(0.1)" if callable(optimizer) else ""
        raise TypeError(f"{name}: optimizer: an optax optimiser with init and update was expected, got {optimizer!r}{hint}")
    if not (penalty is None or (callable(getattr(penalty, "forward", None)) and callable(getattr(penalty, "backward", None)))):
        raise TypeError(f"{name}: penalty: a Penalty such as jaxbp.penalties.l2(1e-3) was expected, got {penalty!r}")
    warn_of_squashing(name, net, loss)


SQUASHED = {"softmax_cross_entropy": "softmax", "sigmoid_cross_entropy": "sigmoid", "logistic": "sigmoid"}  # by the loss itself
ON_PROBABILITIES = {  # what makes probabilities, the same loss on logits
    "binary_cross_entropy": ("sigmoid", "sigmoid_cross_entropy"),
    "log_likelihood": ("softmax", "softmax_cross_entropy"),
}
ANY_NUMBER = ("dense", "conv2d", "layer_norm", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus")


def warn_of_squashing(name: str, net: Layer, loss: Loss) -> None:
    """Warn where the last layer and the loss both squash, or neither does."""
    last = net
    while last.parts and last.name in ("serial", "mlp", "remat"):
        last = last.parts[-1]
    if last.name == SQUASHED.get(loss.name):
        fix = f"it takes logits and has a {last.name} inside; leave {last!r} out"
    elif loss.name in ON_PROBABILITIES and last.name in ANY_NUMBER:
        end, on_logits = ON_PROBABILITIES[loss.name]
        fix = f"it takes probabilities; use losses.{on_logits}() for logits, or end the net with {end}()"
    else:
        return
    warnings.warn(f"{name}: {loss!r} on a net that ends with {last!r}: {fix}", UserWarning, stacklevel=5)


def require_options(name: str, options: Any) -> None:
    inputs.require_key(f"{name}: key", options.key)
    if jnp.ndim(options.key) > (0 if jnp.issubdtype(options.key.dtype, jax.dtypes.prng_key) else 1):
        raise TypeError(f"{name}: key: one key was expected, got {inputs.describe(options.key)}")
    inputs.require_positive(name, "epochs", options.epochs)
    inputs.require_positive(name, "accumulate", options.accumulate)
    for what in ("batch_size", "chunk"):
        if getattr(options, what) is not None:
            inputs.require_positive(name, what, getattr(options, what))
    for what in ("shuffle", "evaluate_training"):
        inputs.require_flag(name, what, getattr(options, what))
    if not isinstance(options.diagnose, bool):
        inputs.require_positive(name, "diagnose", options.diagnose)
    if options.progress is not None and not callable(options.progress):
        raise TypeError(f"{name}: progress: a function of (epoch, info) was expected, got {options.progress!r}")
    if options.keeping is not None and not isinstance(options.keeping, Keeping):
        raise TypeError(f"{name}: keeping: a jaxbp.training.Keeping(folder, facts) was expected, got {options.keeping!r}")
    require_precision(name, options.precision)
    require_one_of(name, "remainder", options.remainder, ("short", "drop"))
    require_one_of(name, "gradient", options.gradient, ("manual", "autodiff"))
    require_one_of(name, "reduction", options.reduction, ("mean", "sum"))


def require_one_of(name: str, what: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: {what} is {' or '.join(map(repr, choices))}, got {value!r}")


def examples(
    name: str, x: Any, targets: Any, sample_weight: Any, prefix: str = "", takes_nan: bool = False
) -> tuple[Any, Any, np.ndarray | None]:
    """x and targets as arrays of JAX's dtypes and the weights as NumPy's, of one length, finite; x may hold NaN if takes_nan."""
    x, targets = _arrays(f"{name}: {prefix}x", x), _arrays(f"{name}: {prefix}targets", targets)
    n, m = inputs.batch_size(x, f"{name}: {prefix}x"), inputs.batch_size(targets, f"{name}: {prefix}targets")
    if n != m:
        raise ValueError(f"{name}: {prefix}x has {n} rows, {prefix}targets {m}; they have to be of one length")
    for what, tree in (("x", x), ("targets", targets)):
        gaps = takes_nan and what == "x"
        _check_finite(f"{name}: {prefix}{what}", jax.tree.map(_without_gaps, tree) if gaps else tree)
    return x, targets, None if sample_weight is None else _weights(name, f"{prefix}sample_weight", sample_weight, n)


def _arrays(what: str, tree: Any) -> Any:
    if isinstance(tree, (list, tuple)) and all(isinstance(leaf, (bool, int, float)) for leaf in jax.tree.leaves(tree)):
        tree = np.asarray(tree)  # plain nested lists are one array, not a tree of scalars
    return jax.tree.map(lambda leaf: _array(what, leaf), tree)


def _without_gaps(leaf: Any) -> Any:
    """The values with 0 for NaN, so that infinity is still found."""
    return np.nan_to_num(np.asarray(leaf), nan=0.0, posinf=np.inf, neginf=-np.inf) if inputs.is_floating(leaf) else leaf


def _check_finite(what: str, tree: Any) -> None:
    """`inputs.check_finite`, behind a sum that shows in one pass that nothing is amiss."""
    with np.errstate(all="ignore"):
        sums = [np.sum(np.asarray(leaf), dtype=np.float32) for leaf in jax.tree.leaves(tree) if inputs.is_floating(leaf)]
    if not np.all(np.isfinite(sums)):  # NaN or infinity, or so large that the sum overflows
        inputs.check_finite(what, tree)


def _array(what: str, leaf: Any) -> jax.Array:
    if not inputs.is_concrete(leaf):
        raise TypeError(
            f"{what}: values were expected, got a tracer; training compiles itself, call it outside jit, vmap and grad"
        )
    if isinstance(leaf, jax.Array):
        return leaf
    values = np.asarray(leaf)
    if values.dtype.kind in "OSUMm":
        raise TypeError(f"{what}: numbers were expected, got dtype {values.dtype}; encode texts and dates as numbers first")
    return jax.device_put(values)  # `jnp.asarray` would compile a copy


def _weights(name: str, what: str, sample_weight: Any, n: int) -> np.ndarray:
    values = np.asarray(sample_weight, np.float64)
    if values.ndim not in (1, 2) or values.shape[0] != n:
        raise ValueError(f"{name}: {what}: shape [{n}] or [{n}, time] was expected, got {list(values.shape)}")
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ValueError(f"{name}: {what}: finite weights of 0 or more were expected; weight 0 leaves a row out")
    if not np.any(values > 0):
        raise ValueError(f"{name}: {what}: all weights are 0, so nothing is left")
    return values


def require_fit(plan: Plan, x: Any, targets: Any, params: Any = None, mask: Any = None) -> Any:
    """Raise unless net, params, loss and data fit each other; returns the specs of the outputs for all rows."""
    n = inputs.batch_size(x)
    scale = () if plan.scale is None else jax.eval_shape(plan.scale.fit, x, jnp.ones(n))
    leaves, treedef = jax.tree.flatten(updates.example_spec(plan, Data(x, targets, None), scale))
    expected, out_spec = inputs.abstract_init(plan.net, tuple(leaves), treedef)
    batch = lambda spec: jax.tree.map(lambda s: jax.ShapeDtypeStruct((n, *s.shape), s.dtype), spec)
    if params is None:  # checks of values, such as ids within a table, look at the shapes of params alone
        params = jax.tree.map(lambda s: np.broadcast_to(np.zeros((), s.dtype), s.shape), expected)
    inputs.check_batch(plan.net, params, x if plan.scale is None else batch(jax.tree.unflatten(treedef, leaves)))
    require_float32("fit", plan.precision, params)
    if mask is not None:
        require_mask("fit", mask, params)
    outputs = batch(out_spec)
    inputs.check_targets(plan.loss, outputs, targets, x)
    return outputs


def require_same_examples(what: str, got: Any, wanted: Any) -> None:
    """Raise unless two specs of one example have the same tree and shapes."""
    if jax.tree.map(lambda s: s.shape, got) != jax.tree.map(lambda s: s.shape, wanted):
        shown, expected = jax.tree.map(inputs.describe, (got, wanted))
        raise ValueError(f"{what}: an example is {shown}, in training it is {expected}")


def require_batches(name: str, order: Order, net: Layer) -> None:
    """Raise where a batch is larger than the rows, or would take padding through a net whose rows meet."""
    sizes = sorted({len(rows) for rows in order.rows})
    most = sizes[0] if order.remainder == "drop" else sizes[-1]  # a smaller split is one short batch, unless that is dropped
    if order.batch_size > most:
        where = "" if len(sizes) == 1 else f" of the {'smallest' if order.remainder == 'drop' else 'largest'} split"
        raise ValueError(
            f"{name}: batch_size={order.batch_size} is more than the {most} training rows{where}; "
            "batch_size=None is the full batch"
        )
    if "mixes" in net.traits and order.short:
        divisors = [b for b in range(1, sizes[0] + 1) if all(n % b == 0 for n in sizes)]
        raise ValueError(
            f"{name}: {net!r} mixes the rows of a batch, so a short batch cannot be filled up with padding. Batch sizes that "
            f"divide {' and '.join(map(str, sizes))}: {divisors}; or leave out the rest of every epoch by remainder='drop'"
        )


def require_parts_of_batches(name: str, batch_size: int, plan: Plan) -> None:
    if batch_size % plan.accumulate:
        raise ValueError(f"{name}: accumulate={plan.accumulate} does not divide the batch of {batch_size}")
    if plan.accumulate > 1 and "mixes" in plan.net.traits:
        raise ValueError(f"{name}: {plan.net!r} mixes the rows of a batch, so a batch cannot be cut into parts; use accumulate=1")


def require_monitors(name: str, plan: Plan, sets: dict) -> None:
    """Raise where a stopping rule watches a number that no epoch has."""
    metrics = ["loss", *(metric.name for metric in plan.metrics)]
    known = metrics + [prefix.replace("inner_", "validation_") + m for prefix in sets if prefix for m in metrics]
    for rule in plan.stop:
        if rule.monitor is not None and rule.monitor not in known:
            more = "; give validation=(x, targets)" if rule.monitor.startswith("validation_") and name == "fit" else ""
            raise ValueError(f"{name}: stop: {rule!r} watches {rule.monitor!r}, there is {', '.join(sorted(set(known)))}{more}")
