"""Correct hand-written rules, gradients and pairs: what a checker must not call wrong."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check.mutants.cases import Check, correct, draw, on, with_rule
from jaxbp.check.mutants.correct import (
    DENSE,
    NORM,
    at_zeros,
    build_ids,
    build_margin,
    cross_entropy,
    embed,
    in_bfloat16,
    layer_norm,
    logistic,
    ordered,
    relu,
    softmax,
)


def dense_primal(x, w, b):
    return x @ w + b[None, :]


def dense_backward(residuals, y_bar):
    x, w = residuals
    return y_bar @ w.T, x.T @ y_bar, jnp.sum(y_bar, axis=0)


dense_rule = with_rule(dense_primal, lambda x, w, b: (dense_primal(x, w, b), (x, w)), dense_backward)


def layer_norm_forward(x, gain, bias):
    centred = x - jnp.mean(x, axis=1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(centred**2, axis=1, keepdims=True) + 1e-5)
    return centred * inverse * gain[None, :] + bias[None, :], (centred * inverse, inverse, gain)


def layer_norm_backward(residuals, y_bar):
    normed, inverse, gain = residuals
    bar = y_bar * gain[None, :]
    mean = lambda a: jnp.mean(a, axis=1, keepdims=True)
    x_bar = inverse * (bar - mean(bar) - normed * mean(bar * normed))
    return x_bar, jnp.sum(y_bar * normed, axis=0), jnp.sum(y_bar, axis=0)


layer_norm_rule = with_rule(layer_norm, layer_norm_forward, layer_norm_backward)


def cross_entropy_backward(residuals, losses_bar):
    logits, labels = residuals
    probs = softmax(logits)
    return losses_bar[:, None] * probs.at[jnp.arange(labels.size), labels].add(-1), None


cross_entropy_rule = with_rule(cross_entropy, lambda z, y: (cross_entropy(z, y), (z, y)), cross_entropy_backward)


def filtered(x, kernel):
    """A valid correlation of a line with a kernel."""
    return jnp.convolve(x, kernel[::-1], mode="valid")


def filtered_backward(residuals, y_bar):
    x, kernel = residuals
    return jnp.convolve(y_bar, kernel), jnp.convolve(x, y_bar[::-1], mode="valid")


filtered_rule = with_rule(filtered, lambda x, kernel: (filtered(x, kernel), (x, kernel)), filtered_backward)

relu_rule = with_rule(relu, lambda x: (relu(x), x > 0), lambda on, y_bar: (jnp.where(on, y_bar, 0),))

embed_rule = with_rule(
    embed,
    lambda table, ids: (embed(table, ids), (table, ids)),
    lambda residuals, bar: (jnp.zeros_like(residuals[0]).at[residuals[1]].add(bar), None),
)

sort_rule = with_rule(
    ordered,
    lambda x: (ordered(x), jnp.argsort(x, axis=-1)),
    lambda order, bar: (jnp.take_along_axis(bar, jnp.argsort(order, axis=-1), axis=-1),),
)


def host_spline(x):
    return jax.pure_callback(lambda x: np.logaddexp(x, -x), jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")


host_rule = with_rule(host_spline, lambda x: (host_spline(x), x), lambda x, bar: (bar * jnp.tanh(x),))


def powered(n, x):
    return x**n


powered_rule = with_rule(powered, lambda n, x: (x**n, x), lambda n, x, bar: (n * x ** (n - 1) * bar,), nondiff=(0,))
fifth = partial(powered_rule, 5)

SCALES = np.array([0.5, 2.0, -1.0])


def closing_over(constants):
    """A rule made inside a function, closing over constants."""

    def scaled(x):
        return jnp.sin(x) * constants.astype(x.dtype)

    return with_rule(scaled, lambda x: (scaled(x), x), lambda x, bar: (bar * jnp.cos(x) * constants.astype(x.dtype),))


closed_rule = closing_over(SCALES)


def product(x, y):
    return x * y


@jax.custom_vjp
def frozen_product(x, y):
    return product(x, y)


def frozen_forward(x, y):
    """`symbolic_zeros=True`: what is not differentiated is told apart."""
    return product(x.value, y.value), (x.value, y.value)


def frozen_backward(residuals, bar):
    x, y = residuals
    zero = isinstance(bar, jax.custom_derivatives.SymbolicZero)
    return (None, None) if zero else (bar * y, bar * x)


frozen_product.defvjp(frozen_forward, frozen_backward, symbolic_zeros=True)


@jax.custom_jvp
def log_one_plus_exp(x):
    return jnp.logaddexp(x, 0)


@log_one_plus_exp.defjvp
def log_one_plus_exp_jvp(primals, tangents):
    (x,), (x_dot,) = primals, tangents
    return log_one_plus_exp(x), logistic(x) * x_dot


class Line(NamedTuple):
    slope: jax.Array
    offset: jax.Array


def line(params, x):
    return params.slope * x + params.offset


line_rule = with_rule(
    line,
    lambda params, x: (line(params, x), (params.slope, x)),
    lambda residuals, bar: (Line(jnp.sum(bar * residuals[1]), jnp.sum(bar)), bar * residuals[0]),
)


def line_gradient(params, x):
    """By hand, of the sum of squares of a line."""
    y = line(params, x)
    return Line(jnp.sum(2 * y * x), jnp.sum(2 * y))


def line_squares(params, x):
    return jnp.sum(line(params, x) ** 2)


def build_line(fun, *rest):
    def build(key, dtype):
        slope, offset, x = draw(key, dtype, (), (), (6,))
        return Check(fun, (Line(slope, offset), x), *rest)

    return build


def sine_forward(x):
    return jnp.sin(x), x


def sine_backward(x, y_bar):
    return (y_bar * jnp.cos(x),)


def rules_in_a_scan(x):
    return jax.lax.scan(lambda h, _: (log_one_plus_exp(h) - 1, None), x, None, length=20)[0]


def compiled_and_remat(x, w, b):
    return jax.jit(jax.checkpoint(dense_rule))(x, w, b)


RULES = correct(
    "correct rules",
    ("dense", on(dense_rule, *DENSE)),
    ("layer norm", on(layer_norm_rule, *NORM)),
    ("cross-entropy", build_margin(cross_entropy_rule, 2)),
    ("cross-entropy at margin 35", build_margin(cross_entropy_rule, 35)),
    ("convolution", on(filtered_rule, (8,), (3,))),
    ("relu at zero", at_zeros(relu_rule)),
    ("embedding, repeated ids", build_ids(embed_rule)),
    ("sort", on(sort_rule, (2, 6))),
    ("of a host function", on(host_rule, (5,))),
    ("nondiff_argnums", on(fifth, (4,))),
    ("closing over constants", on(closed_rule, (3,))),
    ("symbolic zeros", on(frozen_product, (4,), (4,))),
    ("custom_jvp", on(log_one_plus_exp, (5,))),
    ("a NamedTuple of scalars", build_line(line_rule)),
    ("inside a scan", on(rules_in_a_scan, (3,))),
    ("inside jit and checkpoint", on(compiled_and_remat, *DENSE)),
    ("gradient by hand", build_line(line_squares, "gradient", line_gradient)),
    ("forward and backward pair", lambda key, dtype: Check(sine_forward, draw(key, dtype, (5,)), "pair", sine_backward)),
    ("dense in bfloat16", in_bfloat16(dense_rule, *DENSE)),
    ("layer norm in bfloat16", in_bfloat16(layer_norm_rule, *NORM)),
)
