"""Accurate scalar and row functions. Two kinds, kept apart by name and by file:

    sigmoid_value, sigmoid_slope, ...   plain primitives, for the forwards and backwards of layers   (plain.py, gates.py)
    sigmoid, norm, logsumexp, ...       drop-in functions for any JAX code, with an accurate derivative as their rule
                                        (entries.py: elementwise; rows.py: over an axis)

The drop-in functions carry `jax.custom_jvp`: forward, reverse, higher order, vmap and jit all work. Each states what it is and
what its derivative is at singular points. Narrow inputs (bfloat16, float16) are worked on in float32, values and derivatives
rounded once, to the dtype of the input.

    >>> import jax, jax.numpy as jnp
    >>> from jaxbp import ops
    >>> print(f"{jax.grad(ops.tanh)(12.0):.3e}")  # jax.grad(jnp.tanh)(12.0) is 0.0
    1.510e-10
    >>> jax.grad(ops.norm)(jnp.zeros(2)), jax.grad(jnp.linalg.norm)(jnp.zeros(2))
    (Array([0., 0.], dtype=float32), Array([nan, nan], dtype=float32))
"""

from jaxbp.ops.entries import (
    arccos,
    bce,
    log_sigmoid,
    safe_sqrt,
    sigmoid,
    sigmoid_cross_entropy,
    softplus,
    tanh,
    xlogy,
)
from jaxbp.ops.exponentials import logsumexp, softmax_cross_entropy
from jaxbp.ops.gates import gelu_slope, gelu_tanh_slope, gelu_tanh_value, gelu_value, silu_slope, silu_value
from jaxbp.ops.lengths import norm, std
from jaxbp.ops.plain import (
    SELU_ALPHA,
    SELU_SCALE,
    elu_slope,
    elu_value,
    hard_tanh_slope,
    hard_tanh_value,
    leaky_relu_slope,
    leaky_relu_value,
    relu_slope,
    relu_value,
    selu_slope,
    selu_value,
    sigmoid_slope,
    sigmoid_value,
    softplus_slope,
    softplus_slope_of_value,
    softplus_value,
    softsign_slope,
    softsign_value,
    tanh_slope,
    tanh_value,
)
from jaxbp.ops.projections import cosine_similarity, layer_norm


__all__ = [
    "SELU_ALPHA",
    "SELU_SCALE",
    "arccos",
    "bce",
    "cosine_similarity",
    "elu_slope",
    "elu_value",
    "gelu_slope",
    "gelu_tanh_slope",
    "gelu_tanh_value",
    "gelu_value",
    "hard_tanh_slope",
    "hard_tanh_value",
    "layer_norm",
    "leaky_relu_slope",
    "leaky_relu_value",
    "log_sigmoid",
    "logsumexp",
    "norm",
    "relu_slope",
    "relu_value",
    "safe_sqrt",
    "selu_slope",
    "selu_value",
    "sigmoid",
    "sigmoid_cross_entropy",
    "sigmoid_slope",
    "sigmoid_value",
    "silu_slope",
    "silu_value",
    "softmax_cross_entropy",
    "softplus",
    "softplus_slope",
    "softplus_slope_of_value",
    "softplus_value",
    "softsign_slope",
    "softsign_value",
    "std",
    "tanh",
    "tanh_slope",
    "tanh_value",
    "xlogy",
]
