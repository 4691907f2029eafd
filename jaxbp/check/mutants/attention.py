"""Planted bugs in attention: q, k, v (time, width), or (heads, time, width)."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule
from jaxbp.check.mutants.softmax import softmax


def softmax_bar(p, p_bar):
    return p * (p_bar - jnp.sum(p * p_bar, -1, keepdims=True))


def attention(q, k, v):
    return softmax(q @ k.T / q.shape[-1] ** 0.5) @ v


def attention_forward(q, k, v):
    p = softmax(q @ k.T / q.shape[-1] ** 0.5)
    return p @ v, (q, k, v, p)


def scale_forgotten_for_keys(residuals, y_bar):
    q, k, v, p = residuals
    s_bar = softmax_bar(p, y_bar @ v.T)
    return s_bar @ k / q.shape[-1] ** 0.5, s_bar.T @ q, p.T @ y_bar


def queries_and_keys_exchanged(residuals, y_bar):
    q, k, v, p = residuals
    s_bar = softmax_bar(p, y_bar @ v.T) / q.shape[-1] ** 0.5
    return s_bar.T @ q, s_bar @ k, p.T @ y_bar


def summed_over_queries(residuals, y_bar):
    q, k, v, p = residuals
    p_bar = y_bar @ v.T
    s_bar = p * (p_bar - jnp.sum(p * p_bar, 0, keepdims=True)) / q.shape[-1] ** 0.5
    return s_bar @ k, s_bar.T @ q, p.T @ y_bar


def probabilities_not_transposed(residuals, y_bar):
    q, k, v, p = residuals
    s_bar = softmax_bar(p, y_bar @ v.T) / q.shape[-1] ** 0.5
    return s_bar @ k, s_bar.T @ q, p @ y_bar


def last_keys_lost(residuals, y_bar):
    q, k, v, p = residuals
    s_bar = softmax_bar(p, y_bar @ v.T) / q.shape[-1] ** 0.5
    block, k_bar = 4, jnp.zeros_like(k)
    for i in range(len(k) // block):  # six keys in tiles of four
        tile = slice(i * block, (i + 1) * block)
        k_bar = k_bar.at[tile].set(s_bar[:, tile].T @ q)
    return s_bar @ k, k_bar, p.T @ y_bar


def causal_probs(q, k):
    s = q @ k.T / q.shape[-1] ** 0.5
    return softmax(jnp.where(jnp.tri(len(q), len(k), dtype=bool), s, -jnp.inf))


def causal(q, k, v):
    return causal_probs(q, k) @ v


def causal_forward(q, k, v):
    p = causal_probs(q, k)
    return p @ v, (q, k, v, p)


def mask_forgotten_for_queries(residuals, y_bar):
    q, k, v, p = residuals
    scale, p_bar = q.shape[-1] ** -0.5, y_bar @ v.T
    for_queries = softmax_bar(softmax(q @ k.T * scale), p_bar)  # another kernel, that recomputes the probabilities
    return scale * for_queries @ k, scale * softmax_bar(p, p_bar).T @ q, p.T @ y_bar


def diagonal_tiles_unmasked(residuals, y_bar):
    q, k, v, p = residuals
    scale, p_bar, tile = q.shape[-1] ** -0.5, y_bar @ v.T, jnp.arange(len(q)) // 2
    s = jnp.where(tile[None] <= tile[:, None], q @ k.T * scale, -jnp.inf)  # tiles above the diagonal are skipped
    return scale * softmax_bar(softmax(s), p_bar) @ k, scale * softmax_bar(p, p_bar).T @ q, p.T @ y_bar


def padded_probs(q, k, count):
    return softmax(jnp.where(jnp.arange(len(k))[None] < count, q @ k.T / q.shape[-1] ** 0.5, -jnp.inf))


def padded(q, k, v, count):
    """Attention to the first `count` keys."""
    return padded_probs(q, k, count) @ v


def padded_forward(q, k, v, count):
    return padded(q, k, v, count), (q, k, v, count)


def one_key_too_many(residuals, y_bar):
    q, k, v, count = residuals
    p = padded_probs(q, k, count + 1)  # <= in the backward kernel
    s_bar = softmax_bar(p, y_bar @ v.T) / q.shape[-1] ** 0.5
    return s_bar @ k, s_bar.T @ q, p.T @ y_bar, None


def build_padded(key, dtype):
    rule = with_rule(padded, padded_forward, one_key_too_many)
    return Check(rule, (*draw(key, dtype, (4, 3), (6, 3), (6, 2)), jnp.array(4)))


def two_heads(x):
    return x.reshape(len(x), 2, -1).swapaxes(0, 1)


def one_row(x):
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)


def of_heads(q, k, v):
    q, k, v = two_heads(q), two_heads(k), two_heads(v)
    return one_row(softmax(q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5) @ v)


def of_heads_forward(q, k, v):
    return of_heads(q, k, v), (two_heads(q), two_heads(k), two_heads(v))


def heads_not_transposed(residuals, y_bar):
    q, k, v = residuals
    scale, y_bar = q.shape[-1] ** -0.5, two_heads(y_bar)
    p = softmax(scale * q @ k.swapaxes(1, 2))
    s_bar = scale * softmax_bar(p, y_bar @ v.swapaxes(1, 2))
    q_bar = (s_bar @ k).reshape(q.shape[1], -1)  # (heads, time, width) read as (time, heads, width)
    return q_bar, one_row(s_bar.swapaxes(1, 2) @ q), one_row(p.swapaxes(1, 2) @ y_bar)


heads_not_transposed_rule = with_rule(of_heads, of_heads_forward, heads_not_transposed)


def shared_values(q, k, v):
    """Four query heads, two heads of keys and values: each serves two."""
    k, v = jnp.repeat(k, 2, axis=0), jnp.repeat(v, 2, axis=0)
    return softmax(q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5) @ v


def shared_values_forward(q, k, v):
    return shared_values(q, k, v), (q, k, v)


def first_of_each_group(residuals, y_bar):
    q, k, v = residuals
    keys, values = jnp.repeat(k, 2, axis=0), jnp.repeat(v, 2, axis=0)
    scale = q.shape[-1] ** -0.5
    p = softmax(scale * q @ keys.swapaxes(1, 2))
    s_bar = scale * softmax_bar(p, y_bar @ values.swapaxes(1, 2))
    k_bar = (s_bar.swapaxes(1, 2) @ q).reshape(2, 2, *k.shape[1:]).sum(1)
    return s_bar @ keys, k_bar, (p.swapaxes(1, 2) @ y_bar)[::2]  # v_bar: repeat undone by a slice


first_of_each_group_rule = with_rule(shared_values, shared_values_forward, first_of_each_group)


def dropped(key, q, k, v):
    p = softmax(q @ k.T / q.shape[-1] ** 0.5)
    return jnp.where(jax.random.bernoulli(key, 0.75, p.shape), p / 0.75, 0) @ v


def dropped_forward(key, q, k, v):
    return dropped(key, q, k, v), (key, q, k, v)


def mask_drawn_again(residuals, y_bar):
    key, q, k, v = residuals
    scale = q.shape[-1] ** -0.5
    p = softmax(scale * q @ k.T)
    key, _ = jax.random.split(key)  # a fresh key
    mask = jax.random.bernoulli(key, 0.75, p.shape)
    s_bar = scale * softmax_bar(p, jnp.where(mask, y_bar @ v.T / 0.75, 0))
    return None, s_bar @ k, s_bar.T @ q, jnp.where(mask, p / 0.75, 0).T @ y_bar


def build_dropped(key, dtype):
    rule = with_rule(dropped, dropped_forward, mask_drawn_again)
    return Check(rule, (jax.random.fold_in(key, 1), *draw(key, dtype, (4, 3), (4, 3), (4, 2))))


def distances(n):
    return jnp.arange(n)[:, None] - jnp.arange(n)[None] + n - 1


def with_position_bias(bias, q, v):
    """Queries are keys; one learned number for each distance, (2 time - 1,)."""
    return softmax(q @ q.T + bias[distances(len(q))]) @ v


def with_position_bias_forward(bias, q, v):
    return with_position_bias(bias, q, v), (bias, q, v)


def distances_overwritten(residuals, y_bar):
    bias, q, v = residuals
    p = softmax(q @ q.T + bias[distances(len(q))])
    s_bar = softmax_bar(p, y_bar @ v.T)
    bias_bar = jnp.zeros_like(bias).at[distances(len(q))].set(s_bar)  # .add
    return bias_bar, s_bar @ q + s_bar.T @ q, p.T @ y_bar


def queries_alone(residuals, y_bar):
    bias, q, v = residuals
    p = softmax(q @ q.T + bias[distances(len(q))])
    s_bar = softmax_bar(p, y_bar @ v.T)
    return jnp.zeros_like(bias).at[distances(len(q))].add(s_bar), s_bar @ q, p.T @ y_bar  # q is the keys too


def soft_capped(q, k, v):
    return softmax(2 * jnp.tanh(q @ k.T / 2)) @ v


def soft_capped_forward(q, k, v):
    p = softmax(2 * jnp.tanh(q @ k.T / 2))
    return p @ v, (q, k, v, p)


def cap_forgotten(residuals, y_bar):
    q, k, v, p = residuals
    s_bar = softmax_bar(p, y_bar @ v.T)  # times 1 - tanh²
    return s_bar @ k, s_bar.T @ q, p.T @ y_bar


cap_forgotten_rule = with_rule(soft_capped, soft_capped_forward, cap_forgotten)


def rotated(x):
    """Pairs (x_i, x_{i + d/2}) turned by angles that grow with the position, which starts at 3."""
    half = x.shape[-1] // 2
    angle = (3 + jnp.arange(len(x), dtype=x.dtype))[:, None] * 0.5 ** jnp.arange(half, dtype=x.dtype)[None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = x[:, :half], x[:, half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def rotated_forward(x):
    return rotated(x), None


def turned_further(_, y_bar):
    return (rotated(y_bar),)  # back is the other way


turned_further_rule = with_rule(rotated, rotated_forward, turned_further)


def linear_attention(q, k, v):
    q, k = jnp.exp(q), jnp.exp(k)
    return q @ (k.T @ v) / (q @ k.sum(0))[:, None]


def linear_attention_forward(q, k, v):
    return linear_attention(q, k, v), (jnp.exp(q), jnp.exp(k), v)


def normalizer_held_fixed(residuals, y_bar):
    q, k, v = residuals
    y_bar = y_bar / (q @ k.sum(0))[:, None]
    return q * (y_bar @ (k.T @ v).T), k * (v @ (q.T @ y_bar).T), k @ (q.T @ y_bar)


normalizer_held_fixed_rule = with_rule(linear_attention, linear_attention_forward, normalizer_held_fixed)


usual, six = ((4, 3), (4, 3), (4, 2)), ((6, 3), (6, 3), (6, 2))
rule = partial(with_rule, attention, attention_forward)
causal_rule = partial(with_rule, causal, causal_forward)
bias_rule, biased = partial(with_rule, with_position_bias, with_position_bias_forward), ((7,), (4, 3), (4, 2))
of_groups = (4, 3, 2), (2, 3, 2), (2, 3, 2)

MUTANTS = planted(
    "attention",
    ("k_bar without 1/sqrt(d)", "width factor", on(rule(scale_forgotten_for_keys), *usual), "factor"),
    ("q_bar and k_bar exchanged", "swapped values", on(rule(queries_and_keys_exchanged), *usual), "swapped"),
    ("softmax backward summed over queries", "wrong axis", on(rule(summed_over_queries), *usual), "missing-term"),
    ("probabilities not transposed for v_bar", "transpose", on(rule(probabilities_not_transposed), *usual), "missing-term"),
    ("keys in tiles, the last tile lost", "last block", on(rule(last_keys_lost), (4, 3), (6, 3), (6, 2)), "subset"),
    ("no causal mask for q_bar", "causal mask forgotten", on(causal_rule(mask_forgotten_for_queries), *six), "subset"),
    ("diagonal tiles unmasked for q_bar", "causal mask forgotten", on(causal_rule(diagonal_tiles_unmasked), *six), "subset"),
    ("one padded key attended in the backward", "mask ignored", build_padded, "missing-term"),
    ("heads of q_bar reshaped", "reshape for transpose", on(heads_not_transposed_rule, (4, 6), (4, 6), (4, 4)), "permuted"),
    ("v_bar of the first of each group", "broadcast not undone", on(first_of_each_group_rule, *of_groups), "missing-term"),
    ("dropout mask drawn again", "fresh dropout mask", build_dropped, "missing-term"),
    ("bias of equal distances overwritten", "duplicates", on(bias_rule(distances_overwritten), *biased), "subset"),
    ("queries are keys too, one use", "second use", on(bias_rule(queries_alone), *biased), "missing-term"),
    ("soft cap in the forward alone", "option not forwarded", on(cap_forgotten_rule, *usual), "missing-term"),
    ("rotary embedding turned the same way again", "sign", on(turned_further_rule, (5, 4)), "missing-term"),
    ("normalizer of linear attention held fixed", "missing mean term", on(normalizer_held_fixed_rule, *usual), "missing-term"),
)
