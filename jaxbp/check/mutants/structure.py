"""Planted bugs in what a rule returns: trees, shapes, dtypes, missing and exchanged cotangents, another forward value."""

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, planted, with_rule


# --- a dense layer of a params dictionary, and its wrong answers


def affine(params, x):
    return x @ params["w"] + params["b"][None, :]


def affine_forward(params, x):
    return affine(params, x), (params, x)


def tuple_for_a_dictionary(residuals, y_bar):
    params, x = residuals
    return (x.T @ y_bar, jnp.sum(y_bar, axis=0)), y_bar @ params["w"].T


def bias_not_summed(residuals, y_bar):
    params, x = residuals
    return {"w": x.T @ y_bar, "b": y_bar}, y_bar @ params["w"].T


def bias_none(residuals, y_bar):
    params, x = residuals
    return {"w": x.T @ y_bar, "b": None}, y_bar @ params["w"].T


def cotangent_in_bfloat16(residuals, y_bar):
    """Mixed precision: the parameters' cotangents leave in the compute dtype."""
    params, x = (jax.tree.map(lambda a: a.astype(jnp.bfloat16), part) for part in residuals)
    y_bar = y_bar.astype(jnp.bfloat16)
    return {"w": x.T @ y_bar, "b": jnp.sum(y_bar, axis=0)}, y_bar @ params["w"].T


def computed_in_float16(residuals, y_bar):
    params, x = residuals
    half = jnp.float16
    w_bar = (x.astype(half).T @ y_bar.astype(half)).astype(x.dtype)
    return {"w": w_bar, "b": jnp.sum(y_bar, axis=0)}, y_bar @ params["w"].T


def build_affine(backward):
    fun = with_rule(affine, affine_forward, backward)

    def build(key, dtype):
        w, b, x = draw(key, dtype, (3, 4), (4,), (5, 3))
        return Check(fun, ({"w": w, "b": b}, x))

    return build


def picked(x, index):
    return x[index]


def picked_forward(x, index):
    return picked(x, index), (x, index)


def picked_backward(residuals, y_bar):
    x, index = residuals
    return jnp.zeros_like(x).at[index].add(y_bar), jnp.sum(y_bar, axis=1)  # a float cotangent for an integer


def build_picked(key, dtype):
    return Check(picked_forward, (*draw(key, dtype, (4, 3)), jnp.array([2, 0, 2])), "pair", picked_backward)


def list_gradient(params, x):
    """Documented as the gradient for params; what comes is a flat list of its leaves."""
    return jax.tree.leaves(jax.grad(lambda params: jnp.sum(jnp.tanh(affine(params, x))))(params))


def affine_loss(params, x):
    return jnp.sum(jnp.tanh(affine(params, x)))


def build_list_gradient(key, dtype):
    w, b, x = draw(key, dtype, (3, 4), (4,), (5, 3))
    return Check(affine_loss, ({"w": w, "b": b}, x), "gradient", list_gradient)


# --- pairs


def gate_forward(a, b):
    return a * jnp.exp(b), (a, b)


def gate_backward(residuals, y_bar):
    a, b = residuals
    grown = y_bar * jnp.exp(b)
    return a * grown, grown  # in the order of the code above, not of the arguments


def build_pair(key, dtype):
    return Check(gate_forward, draw(key, dtype, (3, 2), (3, 2)), "pair", gate_backward)


def bilinear_forward(x, a, y):
    return x @ a @ y, (x, a, y)


def bilinear_backward(residuals, bar):
    x, a, y = residuals
    return bar * (a @ y), bar * jnp.outer(x, y)  # nothing for y


def build_short_pair(key, dtype):
    return Check(bilinear_forward, draw(key, dtype, (3,), (3, 4), (4,)), "pair", bilinear_backward)


# --- the rule's own forward


def affine_forward_without_bias(params, x):
    return x @ params["w"], (params, x)


def affine_backward(residuals, y_bar):
    params, x = residuals
    return {"w": x.T @ y_bar, "b": jnp.sum(y_bar, axis=0)}, y_bar @ params["w"].T


bias_only_outside = with_rule(affine, affine_forward_without_bias, affine_backward)


def build_no_bias(key, dtype):
    w, b, x = draw(key, dtype, (3, 4), (4,), (5, 3))
    return Check(bias_only_outside, ({"w": w, "b": b}, x))


MUTANTS = planted(
    "structure",
    ("a tuple for a dictionary", "structure", build_affine(tuple_for_a_dictionary), "structure"),
    ("bias cotangent not summed", "structure", build_affine(bias_not_summed), "structure"),
    ("a list of leaves for a dictionary", "structure", build_list_gradient, "structure"),
    ("None for the bias", "argument dropped", build_affine(bias_none), "zero"),
    ("pair without the last cotangent", "structure", build_short_pair, "structure"),
    ("cotangents in bfloat16", "cotangent dtype", build_affine(cotangent_in_bfloat16), "dtype"),
    ("float cotangent of an index", "cotangent dtype", build_picked, "structure"),
    ("product in float16", "narrow dtype", build_affine(computed_in_float16), "dtype"),
    ("pair in the wrong order", "argument order", build_pair, "swapped"),
    ("bias missing in the rule's forward", "wrong primal", build_no_bias, "primal"),
)
