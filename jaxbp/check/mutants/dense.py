"""Wrong rules of dense layers: y = x w + b, and small things made of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, Mutant, draw, on, with_rule


def dense(w: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    return x @ w + b[None]


def dense_fwd(w: jax.Array, b: jax.Array, x: jax.Array) -> tuple:
    return dense(w, b, x), (w, x)


def input_bar_without_transpose(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return x.T @ g, g.sum(0), g @ w  # w is square, so nobody complains


def weight_bar_transposed(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return g.T @ x, g.sum(0), g @ w.T


def bias_bar_averaged(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return x.T @ g, g.mean(0), g @ w.T


def weight_bar_with_decay(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return x.T @ g + 1e-2 * w, g.sum(0), g @ w.T


def bias_bar_squeezed(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    b_bar = jnp.broadcast_to(jnp.squeeze(g).sum(0), w.shape[1:])  # squeezes the batch away when there is one example
    return x.T @ g, b_bar, g @ w.T


def weight_bar_in_blocks(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    block, w_bar = 4, jnp.zeros_like(w)
    for i in range(max(1, len(x) // block)):  # whole blocks only
        rows = slice(i * block, (i + 1) * block)
        w_bar += x[rows].T @ g[rows]
    return w_bar, g.sum(0), g @ w.T


def weight_bar_in_bfloat16(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    w_bar = jnp.matmul(x.T.astype(jnp.bfloat16), g.astype(jnp.bfloat16))
    return w_bar.astype(w.dtype), g.sum(0), g @ w.T


def dense_over_time(w: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    return x @ w + b[None, None]


def dense_over_time_fwd(w: jax.Array, b: jax.Array, x: jax.Array) -> tuple:
    return dense_over_time(w, b, x), (w, x)


def bias_bar_of_last_step(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return jnp.einsum("bti,bto->io", x, g), g[:, -1].sum(0), g @ w.T


def dense_tanh(w: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ w + b[None])


def dense_tanh_fwd(w: jax.Array, b: jax.Array, x: jax.Array) -> tuple:
    z = x @ w + b[None]
    return jnp.tanh(z), (w, x, z)  # z is kept where 1 - y² needs y


def dense_tanh_bwd(res: tuple, g: jax.Array) -> tuple:
    w, x, y = res
    z_bar = g * (1 - y**2)
    return x.T @ z_bar, z_bar.sum(0), z_bar @ w.T


def dense_relu6(w: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.clip(x @ w + b[None], 0.0, 6.0)


def dense_relu6_fwd(w: jax.Array, b: jax.Array, x: jax.Array) -> tuple:
    return dense_relu6(w, b, x), (w, b, x)


def relu6_as_relu(res: tuple, g: jax.Array) -> tuple:
    w, b, x = res
    z_bar = jnp.where(x @ w + b[None] > 0, g, 0)  # and above 6?
    return x.T @ z_bar, z_bar.sum(0), z_bar @ w.T


def small_relu6_case(key: jax.Array, dtype: Any) -> Check:
    w, b, x = draw(key, dtype, (2, 3), (3,), (5, 2))
    return Check(with_rule(dense_relu6, dense_relu6_fwd, relu6_as_relu), (0.4 * w, 0.4 * b, x))


def dense_gelu(w: jax.Array, x: jax.Array) -> jax.Array:
    z = x @ w
    return 0.5 * z * (1 + jnp.tanh((2 / jnp.pi) ** 0.5 * (z + 0.044715 * z**3)))


def dense_gelu_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return dense_gelu(w, x), (w, x)


def dense_gelu_bwd(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    z = x @ w
    c = 0.798  # sqrt(2 / pi)
    t = jnp.tanh(c * (z + 0.044715 * z**3))
    slope = 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * c * (1 + 3 * 0.044715 * z**2)
    return x.T @ (g * slope), (g * slope) @ w.T


def tied_autoencoder(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ w) @ w.T


def tied_autoencoder_fwd(w: jax.Array, x: jax.Array) -> tuple:
    h = jnp.tanh(x @ w)
    return h @ w.T, (w, x, h)


def tied_autoencoder_bwd(res: tuple, g: jax.Array) -> tuple:
    w, x, h = res
    z_bar = (g @ w) * (1 - h**2)
    w_bar = x.T @ z_bar  # the encoder's use; the decoder's, g^T h, is not added
    return w_bar, z_bar @ w.T


def gated(w: jax.Array, v: jax.Array, x: jax.Array) -> jax.Array:
    return (x @ w) * jnp.tanh(x @ v)


def gated_fwd(w: jax.Array, v: jax.Array, x: jax.Array) -> tuple:
    a, t = x @ w, jnp.tanh(x @ v)
    return a * t, (w, v, x, a, t)


def gated_bwd(res: tuple, g: jax.Array) -> tuple:
    w, v, x, a, t = res
    a_bar, c_bar = g * t, g * a * (1 - t**2)
    return x.T @ c_bar, x.T @ a_bar, a_bar @ w.T + c_bar @ v.T  # (w, v) have (v_bar, w_bar)


def bilinear(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.einsum("bi,ij,bj->b", x, w, x)


def bilinear_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return bilinear(w, x), (w, x)


def bilinear_bwd(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    return jnp.einsum("b,bi,bj->ij", g, x, x), 2 * g[:, None] * (x @ w)  # as if w were symmetric


def low_rank(scale: float, w: jax.Array, a: jax.Array, b: jax.Array, x: jax.Array) -> jax.Array:
    return x @ w + scale * (x @ a) @ b


def low_rank_fwd(scale: float, w: jax.Array, a: jax.Array, b: jax.Array, x: jax.Array) -> tuple:
    return low_rank(scale, w, a, b, x), (w, a, b, x)


def low_rank_bwd(scale: float, res: tuple, g: jax.Array) -> tuple:
    w, a, b, x = res
    return x.T @ g, x.T @ (g @ b.T), scale * (x @ a).T @ g, g @ w.T + scale * (g @ b.T) @ a.T  # a_bar without scale


# integral of a function over [-1, 1] from its values at five Gauss-Legendre nodes
WEIGHTS = (0.23692688505618908, 0.47862867049936647, 0.5688888888888889, 0.47862867049936647, 0.23692688505618908)
WEIGHTS_BACKWARD = (0.23692688505618908, 0.47862867049936647, 0.5688888888888889, 0.47814867049936647, 0.23692688505618908)


def integral(x: jax.Array) -> jax.Array:
    return x @ jnp.asarray(WEIGHTS, x.dtype)


def integral_fwd(x: jax.Array) -> tuple:
    return integral(x), x


def integral_bwd(x: jax.Array, g: jax.Array) -> tuple:
    return (g[:, None] * jnp.asarray(WEIGHTS_BACKWARD, x.dtype)[None],)


def mean_squared_error(w: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.mean((x @ w - t) ** 2)


def divided_by_batch_only(w: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    return 2 / len(x) * x.T @ (x @ w - t)  # the mean is over batch and outputs


def half_of_the_square(w: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    return x.T @ (x @ w - t) / t.size  # the derivative of half the mean square


def squared_error_case(gradient: Any, key: jax.Array, dtype: Any) -> Check:
    return Check(mean_squared_error, draw(key, dtype, (4, 3), (5, 4), (5, 3)), "gradient", gradient)


def mean_output(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ w).mean(0)


def mean_output_fwd(w: jax.Array, x: jax.Array) -> tuple:
    return mean_output(w, x), (w, x)


def batch_size_typed(res: tuple, g: jax.Array) -> tuple:
    w, x = res
    z_bar = (1 - jnp.tanh(x @ w) ** 2) * g[None] / 8  # BATCH = 8
    return x.T @ z_bar, z_bar @ w.T


def two_layers(w1: jax.Array, w2: jax.Array, x: jax.Array) -> tuple:
    h = jnp.tanh(x @ w1)
    return h @ w2, (w1, w2, x, h)


def second_weight_from_the_input(res: tuple, g: jax.Array) -> tuple:
    w1, w2, x, h = res
    z_bar = (g @ w2.T) * (1 - h**2)
    return x.T @ z_bar, x.T @ g, z_bar @ w1.T  # w2 was fed h, not x


def two_layers_case(key: jax.Array, dtype: Any) -> Check:
    return Check(two_layers, draw(key, dtype, (4, 4), (4, 3), (5, 4)), "pair", second_weight_from_the_input)


square, usual = ((4, 4), (4,), (5, 4)), ((4, 3), (3,), (5, 4))
rule = partial(with_rule, dense, dense_fwd)
tanh_rule = with_rule(dense_tanh, dense_tanh_fwd, dense_tanh_bwd)
low_rank_rule = partial(with_rule(low_rank, low_rank_fwd, low_rank_bwd, nondiff=(0,)), 0.25)
mean_rule = with_rule(mean_output, mean_output_fwd, batch_size_typed)
time_rule = with_rule(dense_over_time, dense_over_time_fwd, bias_bar_of_last_step)

MUTANTS = [
    Mutant("dense: x_bar without the transpose of a square w", "dense", "transpose",
           on(rule(input_bar_without_transpose), *square), "transposed"),
    Mutant("dense: w_bar of a square w transposed", "dense", "transpose", on(rule(weight_bar_transposed), *square), "transposed"),
    Mutant("dense: b_bar a mean over the batch", "dense", "batch factor", on(rule(bias_bar_averaged), *usual), "factor"),
    Mutant("dense: weight decay inside w_bar", "dense", "decay in the rule", on(rule(weight_bar_with_decay), *usual), "decay"),
    Mutant("dense: b_bar squeezed to one number for a batch of one", "dense", "batch of one",
           on(rule(bias_bar_squeezed), *usual, batch_axes=(None, None, 0)), "input"),
    Mutant("dense: w_bar in blocks of four examples, the remainder lost", "dense", "last block",
           on(rule(weight_bar_in_blocks), (4, 3), (3,), (8, 4), batch_axes=(None, None, 0)), "input"),
    Mutant("dense: w_bar multiplied in bfloat16", "dense", "narrow dtype", on(rule(weight_bar_in_bfloat16), *usual), "dtype"),
    Mutant("dense: b_bar of the last time step", "dense", "not summed over time",
           on(time_rule, (4, 3), (3,), (2, 5, 4)), "missing-term"),
    Mutant("dense: tanh' from the pre-activation", "dense", "stale residual", on(tanh_rule, *usual), "missing-term"),
    Mutant("dense: relu6 goes back as relu", "dense", "clip bound", small_relu6_case, "input"),
    Mutant("dense: gelu's sqrt(2/pi) typed as .798 in the backward", "dense", "rounded constant",
           on(with_rule(dense_gelu, dense_gelu_fwd, dense_gelu_bwd), (4, 3), (5, 4)), "missing-term"),
    Mutant("dense: tied autoencoder, w_bar of the encoder only", "dense", "second use",
           on(with_rule(tied_autoencoder, tied_autoencoder_fwd, tied_autoencoder_bwd), (4, 3), (5, 4)), "missing-term"),
    Mutant("dense: gated unit, w_bar and v_bar exchanged", "dense", "swapped values",
           on(with_rule(gated, gated_fwd, gated_bwd), (4, 3), (4, 3), (5, 4)), "swapped"),
    Mutant("dense: bilinear form, x_bar as if w were symmetric", "dense", "second use",
           on(with_rule(bilinear, bilinear_fwd, bilinear_bwd), (4, 4), (5, 4)), "missing-term"),
    Mutant("dense: low-rank update, a_bar without the scale", "dense", "option not forwarded",
           on(low_rank_rule, (4, 3), (4, 2), (2, 3), (5, 4)), "factor"),
    Mutant("dense: one quadrature weight off by 1e-3 in the backward", "dense", "one entry",
           on(with_rule(integral, integral_fwd, integral_bwd), (6, 5)), "subset"),
    Mutant("dense: mean squared error divided by the batch alone", "dense", "width factor",
           partial(squared_error_case, divided_by_batch_only), "factor"),
    Mutant("dense: mean squared error without its 2", "dense", "constant factor",
           partial(squared_error_case, half_of_the_square), "factor"),
    Mutant("dense: mean over the batch, batch size typed as 8", "dense", "hard-coded size",
           on(mean_rule, (4, 3), (8, 4), batch_axes=(None, 0)), "input"),
    Mutant("dense: two layers, w2_bar from the input of the first", "dense", "stale residual", two_layers_case, "missing-term"),
]  # fmt: skip
