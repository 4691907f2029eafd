"""Factors: the cotangent of a parameter before its contraction over the batch.

`backward` returns, for every parameter, a `Factor` that stands for the per-example cotangents g_1, ..., g_B without
forming them. Two primitives define a type:

    total(dtype)  sum_b g_b                       the gradient
    scaled(c)     the factor of c_1 g_1, ..., c_B g_B

Everything else follows from them, and a type overrides what it knows a shorter way for:

    examples()        (batch, *shape)  g_b
    sq_norms()        (batch,)         |g_b|^2
    dot(v)            (batch,)         <g_b, v>
    inner(other)      (batch,)         <g_b, h_b>
    gram(other)       (batch, batch')  <g_b, h_c>
    second_moment()   shape            sum_b g_b^2, elementwise

The types, by what a parameter does:

    Outer      multiplies: weights of dense layers and projections, with or without a time axis
    Each       is added or scales: biases, gains, anything with one small cotangent an example
    Rows       is read by index: embedding tables, never as a dense table
    Conv       is slid over images: kernels, in any geometry and grouping
    Sum        is used several times: tied weights, with the cross terms between its uses
    Whole      belongs to a layer in which examples meet: only the sum is kept
    Statistic  is a population statistic: a new value, no gradient

Every array field leads with the batch axis, so a factor is itself a batch: slicing it (`jax.tree.map`) or mapping over it
(`jax.vmap`) gives factors of fewer examples. A factor made under `vmap` is reduced inside that `vmap`. Reductions work
in float32 or wider whatever the dtype of the fields. All results are sums over the batch; a mean is the caller's.
"""

from jaxbp.factors.base import CHUNK, Factor, at_least_float32, factor, is_factor, per_leaf, static, total
from jaxbp.factors.conv import Conv
from jaxbp.factors.each import Each
from jaxbp.factors.outer import Outer
from jaxbp.factors.rows import Rows
from jaxbp.factors.sum import Sum
from jaxbp.factors.whole import Statistic, Whole


__all__ = [
    "CHUNK",
    "Conv",
    "Each",
    "Factor",
    "Outer",
    "Rows",
    "Statistic",
    "Sum",
    "Whole",
    "at_least_float32",
    "factor",
    "is_factor",
    "per_leaf",
    "static",
    "total",
]
