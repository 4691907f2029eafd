"""Wrong rules of attention: q, k, v (time, width), or (heads, time, width)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, Mutant, draw, on, with_rule
from jaxbp.check.mutants.softmax import softmax


def softmax_bar(p: jax.Array, p_bar: jax.Array) -> jax.Array:
    return p * (p_bar - jnp.sum(p * p_bar, -1, keepdims=True))


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return softmax(q @ k.T / q.shape[-1] ** 0.5) @ v


def attention_fwd(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple:
    p = softmax(q @ k.T / q.shape[-1] ** 0.5)
    return p @ v, (q, k, v, p)


def scale_forgotten_for_keys(res: tuple, g: jax.Array) -> tuple:
    q, k, v, p = res
    s_bar = softmax_bar(p, g @ v.T)
    return s_bar @ k / q.shape[-1] ** 0.5, s_bar.T @ q, p.T @ g


def queries_and_keys_exchanged(res: tuple, g: jax.Array) -> tuple:
    q, k, v, p = res
    s_bar = softmax_bar(p, g @ v.T) / q.shape[-1] ** 0.5
    return s_bar.T @ q, s_bar @ k, p.T @ g


def summed_over_queries(res: tuple, g: jax.Array) -> tuple:
    q, k, v, p = res
    p_bar = g @ v.T
    s_bar = p * (p_bar - jnp.sum(p * p_bar, 0, keepdims=True)) / q.shape[-1] ** 0.5
    return s_bar @ k, s_bar.T @ q, p.T @ g


def probabilities_not_transposed(res: tuple, g: jax.Array) -> tuple:
    q, k, v, p = res
    s_bar = softmax_bar(p, g @ v.T) / q.shape[-1] ** 0.5
    return s_bar @ k, s_bar.T @ q, p @ g


def last_keys_lost(res: tuple, g: jax.Array) -> tuple:
    q, k, v, p = res
    s_bar = softmax_bar(p, g @ v.T) / q.shape[-1] ** 0.5
    block, k_bar = 4, jnp.zeros_like(k)
    for i in range(len(k) // block):  # six keys in tiles of four
        tile = slice(i * block, (i + 1) * block)
        k_bar = k_bar.at[tile].set(s_bar[:, tile].T @ q)
    return s_bar @ k, k_bar, p.T @ g


def causal_probs(q: jax.Array, k: jax.Array) -> jax.Array:
    s = q @ k.T / q.shape[-1] ** 0.5
    return softmax(jnp.where(jnp.tri(len(q), len(k), dtype=bool), s, -jnp.inf))


def causal(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return causal_probs(q, k) @ v


def causal_fwd(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple:
    p = causal_probs(q, k)
    return p @ v, (q, k, v, p)


def mask_forgotten_for_queries(res: tuple, g: jax.Array) -> tuple:
    q, k, v, p = res
    scale, p_bar = q.shape[-1] ** -0.5, g @ v.T
    for_queries = softmax_bar(softmax(q @ k.T * scale), p_bar)  # another kernel, that recomputes the probabilities
    return scale * for_queries @ k, scale * softmax_bar(p, p_bar).T @ q, p.T @ g


def diagonal_tiles_unmasked(res: tuple, g: jax.Array) -> tuple:
    q, k, v, p = res
    scale, p_bar, tile = q.shape[-1] ** -0.5, g @ v.T, jnp.arange(len(q)) // 2
    s = jnp.where(tile[None] <= tile[:, None], q @ k.T * scale, -jnp.inf)  # tiles above the diagonal are skipped
    return scale * softmax_bar(softmax(s), p_bar) @ k, scale * softmax_bar(p, p_bar).T @ q, p.T @ g


def padded_probs(q: jax.Array, k: jax.Array, count: jax.Array) -> jax.Array:
    return softmax(jnp.where(jnp.arange(len(k))[None] < count, q @ k.T / q.shape[-1] ** 0.5, -jnp.inf))


def padded(q: jax.Array, k: jax.Array, v: jax.Array, count: jax.Array) -> jax.Array:
    """Attention to the first `count` keys."""
    return padded_probs(q, k, count) @ v


def padded_fwd(q: jax.Array, k: jax.Array, v: jax.Array, count: jax.Array) -> tuple:
    return padded(q, k, v, count), (q, k, v, count)


def one_key_too_many(res: tuple, g: jax.Array) -> tuple:
    q, k, v, count = res
    p = padded_probs(q, k, count + 1)  # <= in the backward kernel
    s_bar = softmax_bar(p, g @ v.T) / q.shape[-1] ** 0.5
    return s_bar @ k, s_bar.T @ q, p.T @ g, None


def padded_case(key: jax.Array, dtype: Any) -> Check:
    rule = with_rule(padded, padded_fwd, one_key_too_many)
    return Check(rule, (*draw(key, dtype, (4, 3), (6, 3), (6, 2)), jnp.array(4)))


def two_heads(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), 2, -1).swapaxes(0, 1)


def one_row(x: jax.Array) -> jax.Array:
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)


def of_heads(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    q, k, v = two_heads(q), two_heads(k), two_heads(v)
    return one_row(softmax(q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5) @ v)


def of_heads_fwd(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple:
    return of_heads(q, k, v), (two_heads(q), two_heads(k), two_heads(v))


def heads_reshaped_without_transpose(res: tuple, g: jax.Array) -> tuple:
    q, k, v = res
    scale, g = q.shape[-1] ** -0.5, two_heads(g)
    p = softmax(scale * q @ k.swapaxes(1, 2))
    s_bar = scale * softmax_bar(p, g @ v.swapaxes(1, 2))
    q_bar = (s_bar @ k).reshape(q.shape[1], -1)  # (heads, time, width) read as (time, heads, width)
    return q_bar, one_row(s_bar.swapaxes(1, 2) @ q), one_row(p.swapaxes(1, 2) @ g)


def shared_values(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Four query heads, two heads of keys and values: each serves two."""
    k, v = jnp.repeat(k, 2, axis=0), jnp.repeat(v, 2, axis=0)
    return softmax(q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5) @ v


def shared_values_fwd(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple:
    return shared_values(q, k, v), (q, k, v)


def first_of_each_group(res: tuple, g: jax.Array) -> tuple:
    q, k, v = res
    keys, values = jnp.repeat(k, 2, axis=0), jnp.repeat(v, 2, axis=0)
    scale = q.shape[-1] ** -0.5
    p = softmax(scale * q @ keys.swapaxes(1, 2))
    s_bar = scale * softmax_bar(p, g @ values.swapaxes(1, 2))
    k_bar = (s_bar.swapaxes(1, 2) @ q).reshape(2, 2, *k.shape[1:]).sum(1)
    return s_bar @ keys, k_bar, (p.swapaxes(1, 2) @ g)[::2]  # v_bar: repeat undone by a slice


def dropped(key: jax.Array, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    p = softmax(q @ k.T / q.shape[-1] ** 0.5)
    return jnp.where(jax.random.bernoulli(key, 0.75, p.shape), p / 0.75, 0) @ v


def dropped_fwd(key: jax.Array, q: jax.Array, k: jax.Array, v: jax.Array) -> tuple:
    return dropped(key, q, k, v), (key, q, k, v)


def mask_drawn_again(res: tuple, g: jax.Array) -> tuple:
    key, q, k, v = res
    scale = q.shape[-1] ** -0.5
    p = softmax(scale * q @ k.T)
    key, _ = jax.random.split(key)  # a fresh key
    mask = jax.random.bernoulli(key, 0.75, p.shape)
    s_bar = scale * softmax_bar(p, jnp.where(mask, g @ v.T / 0.75, 0))
    return None, s_bar @ k, s_bar.T @ q, jnp.where(mask, p / 0.75, 0).T @ g


def dropped_case(key: jax.Array, dtype: Any) -> Check:
    rule = with_rule(dropped, dropped_fwd, mask_drawn_again)
    return Check(rule, (jax.random.fold_in(key, 1), *draw(key, dtype, (4, 3), (4, 3), (4, 2))))


def distances(n: int) -> jax.Array:
    return jnp.arange(n)[:, None] - jnp.arange(n)[None] + n - 1


def with_position_bias(bias: jax.Array, q: jax.Array, v: jax.Array) -> jax.Array:
    """Queries are keys; one learned number for each distance, (2 time - 1,)."""
    return softmax(q @ q.T + bias[distances(len(q))]) @ v


def with_position_bias_fwd(bias: jax.Array, q: jax.Array, v: jax.Array) -> tuple:
    return with_position_bias(bias, q, v), (bias, q, v)


def distances_overwritten(res: tuple, g: jax.Array) -> tuple:
    bias, q, v = res
    p = softmax(q @ q.T + bias[distances(len(q))])
    s_bar = softmax_bar(p, g @ v.T)
    bias_bar = jnp.zeros_like(bias).at[distances(len(q))].set(s_bar)  # .add
    return bias_bar, s_bar @ q + s_bar.T @ q, p.T @ g


def self_attention_of_one_use(res: tuple, g: jax.Array) -> tuple:
    bias, q, v = res
    p = softmax(q @ q.T + bias[distances(len(q))])
    s_bar = softmax_bar(p, g @ v.T)
    return jnp.zeros_like(bias).at[distances(len(q))].add(s_bar), s_bar @ q, p.T @ g  # q is the keys too


def soft_capped(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return softmax(2 * jnp.tanh(q @ k.T / 2)) @ v


def soft_capped_fwd(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple:
    p = softmax(2 * jnp.tanh(q @ k.T / 2))
    return p @ v, (q, k, v, p)


def cap_forgotten(res: tuple, g: jax.Array) -> tuple:
    q, k, v, p = res
    s_bar = softmax_bar(p, g @ v.T)  # times 1 - tanh²
    return s_bar @ k, s_bar.T @ q, p.T @ g


def rotated(x: jax.Array) -> jax.Array:
    """Pairs (x_i, x_{i + d/2}) turned by angles that grow with the position, which starts at 3."""
    half = x.shape[-1] // 2
    angle = (3 + jnp.arange(len(x), dtype=x.dtype))[:, None] * 0.5 ** jnp.arange(half, dtype=x.dtype)[None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = x[:, :half], x[:, half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def rotated_fwd(x: jax.Array) -> tuple:
    return rotated(x), None


def turned_further(_: None, g: jax.Array) -> tuple:
    return (rotated(g),)  # back is the other way


def linear_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    q, k = jnp.exp(q), jnp.exp(k)
    return q @ (k.T @ v) / (q @ k.sum(0))[:, None]


def linear_attention_fwd(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple:
    return linear_attention(q, k, v), (jnp.exp(q), jnp.exp(k), v)


def normalizer_held_fixed(res: tuple, g: jax.Array) -> tuple:
    q, k, v = res
    g = g / (q @ k.sum(0))[:, None]
    return q * (g @ (k.T @ v).T), k * (v @ (q.T @ g).T), k @ (q.T @ g)


usual = ((4, 3), (4, 3), (4, 2))
rule = partial(with_rule, attention, attention_fwd)
causal_rule = partial(with_rule, causal, causal_fwd)
bias_rule = partial(with_rule, with_position_bias, with_position_bias_fwd)

MUTANTS = [
    Mutant("attention: k_bar without 1/sqrt(d)", "attention", "width factor",
           on(rule(scale_forgotten_for_keys), *usual), "factor"),
    Mutant("attention: q_bar and k_bar exchanged", "attention", "swapped values",
           on(rule(queries_and_keys_exchanged), *usual), "swapped"),
    Mutant("attention: softmax backward summed over queries", "attention", "wrong axis",
           on(rule(summed_over_queries), *usual), "missing-term"),
    Mutant("attention: probabilities not transposed for v_bar", "attention", "transpose",
           on(rule(probabilities_not_transposed), *usual), "missing-term"),
    Mutant("attention: keys in tiles, the last tile lost", "attention", "last block",
           on(rule(last_keys_lost), (4, 3), (6, 3), (6, 2)), "subset"),
    Mutant("attention: causal mask forgotten for q_bar", "attention", "causal mask forgotten",
           on(causal_rule(mask_forgotten_for_queries), (5, 3), (5, 3), (5, 2)), "subset"),
    Mutant("attention: diagonal tiles unmasked for q_bar", "attention", "causal mask forgotten",
           on(causal_rule(diagonal_tiles_unmasked), (6, 3), (6, 3), (6, 2)), "subset"),
    Mutant("attention: one padded key attended in the backward", "attention", "mask ignored", padded_case, "missing-term"),
    Mutant("attention: heads of q_bar reshaped without a transpose", "attention", "heads mixed",
           on(with_rule(of_heads, of_heads_fwd, heads_reshaped_without_transpose), (4, 6), (4, 6), (4, 4)), "permuted"),
    Mutant("attention: v_bar of shared heads from the first of each group", "attention", "broadcast not undone",
           on(with_rule(shared_values, shared_values_fwd, first_of_each_group), (4, 3, 2), (2, 3, 2), (2, 3, 2)), "missing-term"),
    Mutant("attention: dropout mask drawn again", "attention", "fresh dropout mask", dropped_case, "missing-term"),
    Mutant("attention: bias of equal distances overwritten", "attention", "duplicates",
           on(bias_rule(distances_overwritten), (7,), (4, 3), (4, 2)), "subset"),
    Mutant("attention: queries that are keys too, one use", "attention", "second use",
           on(bias_rule(self_attention_of_one_use), (7,), (4, 3), (4, 2)), "missing-term"),
    Mutant("attention: soft cap in the forward alone", "attention", "option not forwarded",
           on(with_rule(soft_capped, soft_capped_fwd, cap_forgotten), *usual), "missing-term"),
    Mutant("attention: rotary embedding turned the same way again", "attention", "sign",
           on(with_rule(rotated, rotated_fwd, turned_further), (5, 4)), "missing-term"),
    Mutant("attention: normalizer of linear attention held fixed", "attention", "missing mean term",
           on(with_rule(linear_attention, linear_attention_fwd, normalizer_held_fixed), *usual), "missing-term"),
]  # fmt: skip
