"""jaxbp: backpropagation written by hand as pure JAX functions, proven right, and worth using."""

from jaxbp import curvature, factors, initializers, losses, penalties, per_example, routes, tree
from jaxbp.backprop import Aux, as_custom_vjp, objective, update_statistics, value_and_grad
from jaxbp.blocks.mlp import mlp
from jaxbp.comparison import GradientComparison, LeafComparison, compare_gradients
from jaxbp.compose import parallel, remat, repeat, serial, skip
from jaxbp.contracts import Layer, Loss, constructor, deterministic, elementwise
from jaxbp.layers.activations import (
    elu,
    gelu,
    hard_tanh,
    identity,
    leaky_relu,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
)
from jaxbp.layers.convolution import conv2d
from jaxbp.layers.dropout import dropout
from jaxbp.layers.embedding import embedding, tied_embedding
from jaxbp.layers.linear import Dense, dense
from jaxbp.layers.normalization import batch_norm, layer_norm
from jaxbp.layers.pooling import avg_pool, max_pool
from jaxbp.layers.shape import flatten, reshape
from jaxbp.layers.softmax import log_softmax, softmax
from jaxbp.lift import lift
from jaxbp.training import FitResult, Setup, fit, min_max, standardize
from jaxbp.validation import (
    CVResult,
    SweepResult,
    choose_epochs,
    compare,
    cross_validate,
    grid,
    kfold,
    random_settings,
    search,
    stratified_kfold,
    sweep,
)


__all__ = [
    "Aux",
    "CVResult",
    "Dense",
    "FitResult",
    "GradientComparison",
    "Layer",
    "LeafComparison",
    "Loss",
    "Setup",
    "SweepResult",
    "as_custom_vjp",
    "avg_pool",
    "batch_norm",
    "choose_epochs",
    "compare",
    "compare_gradients",
    "constructor",
    "conv2d",
    "cross_validate",
    "curvature",
    "dense",
    "deterministic",
    "dropout",
    "elementwise",
    "elu",
    "embedding",
    "factors",
    "fit",
    "flatten",
    "gelu",
    "grid",
    "hard_tanh",
    "identity",
    "initializers",
    "kfold",
    "layer_norm",
    "leaky_relu",
    "lift",
    "log_softmax",
    "losses",
    "max_pool",
    "min_max",
    "mlp",
    "objective",
    "parallel",
    "penalties",
    "per_example",
    "random_settings",
    "relu",
    "remat",
    "repeat",
    "reshape",
    "routes",
    "search",
    "selu",
    "serial",
    "sigmoid",
    "silu",
    "skip",
    "softmax",
    "softplus",
    "softsign",
    "standardize",
    "stratified_kfold",
    "sweep",
    "tanh",
    "tied_embedding",
    "tree",
    "update_statistics",
    "value_and_grad",
]


def __getattr__(name: str):
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("jaxbp")
        except metadata.PackageNotFoundError:  # run from its sources
            return "0+unknown"
    if name in ("BackpropClassifier", "BackpropRegressor"):  # scikit-learn is loaded only where it is used
        from jaxbp import estimator

        return getattr(estimator, name)
    raise AttributeError(f"module 'jaxbp' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), "BackpropClassifier", "BackpropRegressor", "__version__"})
