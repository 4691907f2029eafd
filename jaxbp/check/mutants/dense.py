"""Planted bugs in dense layers: y = x w + b, and small things made of it."""

from functools import partial

import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


def dense(w, b, x):
    return x @ w + b[None]


def dense_forward(w, b, x):
    return dense(w, b, x), (w, x)


def input_bar_without_transpose(residuals, y_bar):
    w, x = residuals
    return x.T @ y_bar, y_bar.sum(0), y_bar @ w  # w is square, so nobody complains


def weight_bar_transposed(residuals, y_bar):
    w, x = residuals
    return y_bar.T @ x, y_bar.sum(0), y_bar @ w.T


def bias_bar_averaged(residuals, y_bar):
    w, x = residuals
    return x.T @ y_bar, y_bar.mean(0), y_bar @ w.T


def weight_bar_with_decay(residuals, y_bar):
    w, x = residuals
    return x.T @ y_bar + 1e-2 * w, y_bar.sum(0), y_bar @ w.T


def bias_bar_squeezed(residuals, y_bar):
    w, x = residuals
    b_bar = jnp.broadcast_to(jnp.squeeze(y_bar).sum(0), w.shape[1:])  # squeezes the batch away when there is one example
    return x.T @ y_bar, b_bar, y_bar @ w.T


def weight_bar_in_blocks(residuals, y_bar):
    w, x = residuals
    block, w_bar = 4, jnp.zeros_like(w)
    for i in range(max(1, len(x) // block)):  # whole blocks only
        rows = slice(i * block, (i + 1) * block)
        w_bar += x[rows].T @ y_bar[rows]
    return w_bar, y_bar.sum(0), y_bar @ w.T


def weight_bar_in_bfloat16(residuals, y_bar):
    w, x = residuals
    w_bar = jnp.matmul(x.T.astype(jnp.bfloat16), y_bar.astype(jnp.bfloat16))
    return w_bar.astype(w.dtype), y_bar.sum(0), y_bar @ w.T


def dense_over_time(w, b, x):
    return x @ w + b[None, None]


def dense_over_time_forward(w, b, x):
    return dense_over_time(w, b, x), (w, x)


def bias_bar_of_last_step(residuals, y_bar):
    w, x = residuals
    return jnp.einsum("bti,bto->io", x, y_bar), y_bar[:, -1].sum(0), y_bar @ w.T


def dense_tanh(w, b, x):
    return jnp.tanh(x @ w + b[None])


def dense_tanh_forward(w, b, x):
    z = x @ w + b[None]
    return jnp.tanh(z), (w, x, z)  # z is kept where 1 - y² needs y


def dense_tanh_backward(residuals, y_bar):
    w, x, y = residuals
    z_bar = y_bar * (1 - y**2)
    return x.T @ z_bar, z_bar.sum(0), z_bar @ w.T


def dense_relu6(w, b, x):
    return jnp.clip(x @ w + b[None], 0.0, 6.0)


def dense_relu6_forward(w, b, x):
    return dense_relu6(w, b, x), (w, b, x)


def relu6_as_relu(residuals, y_bar):
    w, b, x = residuals
    z_bar = jnp.where(x @ w + b[None] > 0, y_bar, 0)  # and above 6?
    return x.T @ z_bar, z_bar.sum(0), z_bar @ w.T


def build_relu6(key, dtype):
    w, b, x = draw(key, dtype, (2, 3), (3,), (5, 2))
    return Check(with_rule(dense_relu6, dense_relu6_forward, relu6_as_relu), (0.4 * w, 0.4 * b, x))


def dense_gelu(w, x):
    z = x @ w
    return 0.5 * z * (1 + jnp.tanh((2 / jnp.pi) ** 0.5 * (z + 0.044715 * z**3)))


def dense_gelu_forward(w, x):
    return dense_gelu(w, x), (w, x)


def dense_gelu_backward(residuals, y_bar):
    w, x = residuals
    z = x @ w
    c = 0.798  # sqrt(2 / pi)
    t = jnp.tanh(c * (z + 0.044715 * z**3))
    slope = 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * c * (1 + 3 * 0.044715 * z**2)
    return x.T @ (y_bar * slope), (y_bar * slope) @ w.T


dense_gelu_rule = with_rule(dense_gelu, dense_gelu_forward, dense_gelu_backward)


def tied_autoencoder(w, x):
    return jnp.tanh(x @ w) @ w.T


def tied_autoencoder_forward(w, x):
    h = jnp.tanh(x @ w)
    return h @ w.T, (w, x, h)


def tied_autoencoder_backward(residuals, y_bar):
    w, x, h = residuals
    z_bar = (y_bar @ w) * (1 - h**2)
    w_bar = x.T @ z_bar  # the encoder's use; the decoder's, g^T h, is not added
    return w_bar, z_bar @ w.T


tied_autoencoder_rule = with_rule(tied_autoencoder, tied_autoencoder_forward, tied_autoencoder_backward)


def gated(w, v, x):
    return (x @ w) * jnp.tanh(x @ v)


def gated_forward(w, v, x):
    a, t = x @ w, jnp.tanh(x @ v)
    return a * t, (w, v, x, a, t)


def gated_backward(residuals, y_bar):
    w, v, x, a, t = residuals
    a_bar, c_bar = y_bar * t, y_bar * a * (1 - t**2)
    return x.T @ c_bar, x.T @ a_bar, a_bar @ w.T + c_bar @ v.T  # (w, v) have (v_bar, w_bar)


gated_rule = with_rule(gated, gated_forward, gated_backward)


def bilinear(w, x):
    return jnp.einsum("bi,ij,bj->b", x, w, x)


def bilinear_forward(w, x):
    return bilinear(w, x), (w, x)


def bilinear_backward(residuals, y_bar):
    w, x = residuals
    return jnp.einsum("b,bi,bj->ij", y_bar, x, x), 2 * y_bar[:, None] * (x @ w)  # as if w were symmetric


bilinear_rule = with_rule(bilinear, bilinear_forward, bilinear_backward)


def low_rank(scale, w, a, b, x):
    return x @ w + scale * (x @ a) @ b


def low_rank_forward(scale, w, a, b, x):
    return low_rank(scale, w, a, b, x), (w, a, b, x)


def low_rank_backward(scale, residuals, y_bar):
    w, a, b, x = residuals
    return (
        x.T @ y_bar,
        x.T @ (y_bar @ b.T),
        scale * (x @ a).T @ y_bar,
        y_bar @ w.T + scale * (y_bar @ b.T) @ a.T,
    )  # a_bar without scale


def mean_squared_error(w, x, t):
    return jnp.mean((x @ w - t) ** 2)


def divided_by_batch_only(w, x, t):
    return 2 / len(x) * x.T @ (x @ w - t)  # the mean is over batch and outputs


def half_of_the_square(w, x, t):
    return x.T @ (x @ w - t) / t.size  # the derivative of half the mean square


def build_square(gradient, key, dtype):
    return Check(mean_squared_error, draw(key, dtype, (4, 3), (5, 4), (5, 3)), "gradient", gradient)


def mean_output(w, x):
    return jnp.tanh(x @ w).mean(0)


def mean_output_forward(w, x):
    return mean_output(w, x), (w, x)


def batch_size_typed(residuals, y_bar):
    w, x = residuals
    z_bar = (1 - jnp.tanh(x @ w) ** 2) * y_bar[None] / 8  # BATCH = 8
    return x.T @ z_bar, z_bar @ w.T


def two_layers(w1, w2, x):
    h = jnp.tanh(x @ w1)
    return h @ w2, (w1, w2, x, h)


def second_weight_from_the_input(residuals, y_bar):
    w1, w2, x, h = residuals
    z_bar = (y_bar @ w2.T) * (1 - h**2)
    return x.T @ z_bar, x.T @ y_bar, z_bar @ w1.T  # w2 was fed h, not x


def build_two_layers(key, dtype):
    return Check(two_layers, draw(key, dtype, (4, 4), (4, 3), (5, 4)), "pair", second_weight_from_the_input)


square, usual = ((4, 4), (4,), (5, 4)), ((4, 3), (3,), (5, 4))
of_batch = {"batch_axes": (None, None, 0)}
rule = partial(with_rule, dense, dense_forward)
tanh_rule = with_rule(dense_tanh, dense_tanh_forward, dense_tanh_backward)
low_rank_rule = partial(with_rule(low_rank, low_rank_forward, low_rank_backward, nondiff=(0,)), 0.25)
mean_rule = with_rule(mean_output, mean_output_forward, batch_size_typed)
time_rule = with_rule(dense_over_time, dense_over_time_forward, bias_bar_of_last_step)

MUTANTS = planted(
    "dense",
    ("x_bar without the transpose of a square w", "transpose", on(rule(input_bar_without_transpose), *square), "transposed"),
    ("w_bar of a square w transposed", "transpose", on(rule(weight_bar_transposed), *square), "transposed"),
    ("b_bar a mean over the batch", "batch factor", on(rule(bias_bar_averaged), *usual), "factor"),
    ("weight decay inside w_bar", "decay in the rule", on(rule(weight_bar_with_decay), *usual), "decay"),
    ("b_bar squeezed for a batch of one", "batch of one", on(rule(bias_bar_squeezed), *usual, **of_batch), "input"),
    (
        "w_bar in blocks, the remainder lost",
        "last block",
        on(rule(weight_bar_in_blocks), (4, 3), (3,), (8, 4), **of_batch),
        "input",
    ),
    ("w_bar multiplied in bfloat16", "narrow dtype", on(rule(weight_bar_in_bfloat16), *usual), "dtype"),
    ("b_bar of the last time step", "not summed over time", on(time_rule, (4, 3), (3,), (2, 5, 4)), "missing-term"),
    ("tanh' from the pre-activation", "stale residual", on(tanh_rule, *usual), "missing-term"),
    ("relu6 goes back as relu", "clip bound", build_relu6, "input"),
    ("gelu's sqrt(2/pi) typed as .798 in the backward", "rounded constant", on(dense_gelu_rule, (4, 3), (5, 4)), "missing-term"),
    ("tied autoencoder, w_bar of the encoder only", "second use", on(tied_autoencoder_rule, (4, 3), (5, 4)), "missing-term"),
    ("gated unit, w_bar and v_bar exchanged", "swapped values", on(gated_rule, (4, 3), (4, 3), (5, 4)), "swapped"),
    ("bilinear form, x_bar as if w were symmetric", "second use", on(bilinear_rule, (4, 4), (5, 4)), "missing-term"),
    ("low rank, a_bar without the scale", "option not forwarded", on(low_rank_rule, (4, 3), (4, 2), (2, 3), (5, 4)), "factor"),
    ("mean square over the batch alone", "width factor", partial(build_square, divided_by_batch_only), "factor"),
    ("mean square without its 2", "constant factor", partial(build_square, half_of_the_square), "factor"),
    ("batch size typed as 8", "hard-coded size", on(mean_rule, (4, 3), (8, 4), batch_axes=(None, 0)), "input"),
    ("two layers, w2_bar from the input of the first", "stale residual", build_two_layers, "missing-term"),
)
