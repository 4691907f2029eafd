"""Planted bugs in embeddings: repeated, padded and out-of-range ids, bags, tied tables, positions."""

import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, planted, with_rule


VOCABULARY, WIDTH, PAD = 7, 4, 0


def at_ids(fun, ids):
    """`build`: `fun` at a random table and these ids."""
    return lambda key, dtype: Check(fun, (*draw(key, dtype, (VOCABULARY, WIDTH)), jnp.array(ids)))


# --- repeated ids


def lookup(table, ids):
    return table[ids]


def lookup_forward(table, ids):
    return table[ids], (table, ids)


def lookup_backward_set(residuals, rows_bar):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].set(rows_bar), None  # .add


lookup_overwritten = with_rule(lookup, lookup_forward, lookup_backward_set)


# --- padding and shards


def padded_lookup(table, ids):
    return jnp.where((ids == PAD)[:, None], 0, table[ids])


def padded_forward(table, ids):
    return padded_lookup(table, ids), (table, ids)


def padded_backward(residuals, rows_bar):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].add(rows_bar), None  # the pad row collects what its users never saw


padding_trained = with_rule(padded_lookup, padded_forward, padded_backward)


def clipped_lookup(table, ids):
    """Ids beyond the table mean its last row ("unknown")."""
    return jnp.take(table, ids, axis=0, mode="clip")


def clipped_forward(table, ids):
    return clipped_lookup(table, ids), (table, ids)


def clipped_backward(residuals, rows_bar):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].add(rows_bar, mode="drop"), None  # the unknown words are dropped


unknown_dropped = with_rule(clipped_lookup, clipped_forward, clipped_backward)

SHARD_START = 5


def shard_lookup(table, ids):
    """Rows of this shard of the vocabulary; other shards' ids give zeros."""
    local = ids - SHARD_START
    inside = (local >= 0) & (local < table.shape[0])
    return jnp.where(inside[:, None], table[jnp.clip(local, 0, table.shape[0] - 1)], 0)


def shard_forward(table, ids):
    return shard_lookup(table, ids), (table, ids)


def shard_backward(residuals, rows_bar):
    table, ids = residuals
    local = jnp.clip(ids - SHARD_START, 0, table.shape[0] - 1)
    return jnp.zeros_like(table).at[local].add(rows_bar), None  # other shards' rows land on the two edge rows


shard_edges = with_rule(shard_lookup, shard_forward, shard_backward)


# --- bags


def bag_mean(table, ids):
    """The mean row of each bag; bags are padded with -1."""
    valid = ids >= 0
    rows = jnp.where(valid[..., None], table[jnp.maximum(ids, 0)], 0)
    return jnp.sum(rows, axis=1) / jnp.sum(valid, axis=1)[:, None]


def bag_forward(table, ids):
    return bag_mean(table, ids), (table, ids)


def bag_backward(residuals, means_bar):
    table, ids = residuals
    valid = ids >= 0
    rows_bar = jnp.broadcast_to(means_bar[:, None, :] / ids.shape[1], (*ids.shape, table.shape[1]))  # the padded length
    return jnp.zeros_like(table).at[jnp.maximum(ids, 0)].add(jnp.where(valid[..., None], rows_bar, 0)), None


bag_padded_length = with_rule(bag_mean, bag_forward, bag_backward)


# --- scale, dtype, layout


def scaled_lookup(table, ids):
    return table[ids] * table.shape[1] ** 0.5


def scaled_forward(table, ids):
    return scaled_lookup(table, ids), (table, ids)


def scaled_backward(residuals, rows_bar):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].add(rows_bar), None  # * sqrt(width)


root_width_lost = with_rule(scaled_lookup, scaled_forward, scaled_backward)


def lookup_backward_narrow(residuals, rows_bar):
    table, ids = residuals
    sums = jnp.zeros(table.shape, jnp.bfloat16).at[ids].add(rows_bar.astype(jnp.bfloat16))  # half the memory
    return sums.astype(table.dtype), None


summed_in_bfloat16 = with_rule(lookup, lookup_forward, lookup_backward_narrow)


def sequence_backward(residuals, rows_bar):
    table, ids = residuals  # ids (batch, time), rows_bar (batch, time, width)
    flat = rows_bar.reshape(-1, rows_bar.shape[-1])
    return jnp.zeros_like(table).at[ids.T.reshape(-1)].add(flat), None  # time-major ids, batch-major rows


sequence_flattened = with_rule(lookup, lookup_forward, sequence_backward)


# --- tied tables, positions


def tied_logits(table, ids):
    """Next-word logits of a bag-of-one model: the table embeds and it scores."""
    return jnp.tanh(table[ids]) @ table.T


def tied_forward(table, ids):
    hidden = jnp.tanh(table[ids])
    return hidden @ table.T, (table, ids, hidden)


def tied_backward(residuals, logits_bar):
    table, ids, hidden = residuals
    hidden_bar = logits_bar @ table
    rows_bar = hidden_bar * (1 - hidden**2)
    table_bar = logits_bar.T @ hidden
    return table_bar.at[ids].set(rows_bar), None  # .add: the scoring part of the embedded words is lost


tied_overwritten = with_rule(tied_logits, tied_forward, tied_backward)


def with_positions(table, positions, ids):
    return table[ids] + positions[None, : ids.shape[1]]


def positions_forward(table, positions, ids):
    return with_positions(table, positions, ids), (table, positions, ids)


def positions_backward(residuals, rows_bar):
    table, positions, ids = residuals
    positions_bar = jnp.zeros_like(positions).at[: ids.shape[1]].set(rows_bar.mean(axis=0))  # sum
    return jnp.zeros_like(table).at[ids].add(rows_bar), positions_bar, None


position_mean = with_rule(with_positions, positions_forward, positions_backward)


def build_positions(key, dtype):
    ids = jnp.array([[2, 0, 5, 2], [6, 1, 1, 3], [4, 2, 0, 0]])
    return Check(position_mean, (*draw(key, dtype, (VOCABULARY, WIDTH), (5, WIDTH)), ids))


MUTANTS = planted(
    "embedding",
    ("repeated ids overwritten", "duplicates", at_ids(lookup_overwritten, [2, 5, 2, 1, 2]), "subset"),
    ("repeated ids overwritten, distinct ids given", "duplicates", at_ids(lookup_overwritten, [3, 5, 2, 1]), "input"),
    ("padding row trained", "padding id", at_ids(padding_trained, [2, PAD, 5, PAD, 1]), "subset"),
    ("unknown words dropped", "edge index", at_ids(unknown_dropped, [2, 9, 5, 1, 12, 6]), "subset"),
    ("other shards' ids on the edge rows", "edge index", at_ids(shard_edges, [2, 6, 9, 12, 7, 1]), "subset"),
    ("bag over the padded length", "padded length", at_ids(bag_padded_length, [[0, 1, 2], [3, -1, -1]]), "subset"),
    ("root of the width forgotten", "forward scale", at_ids(root_width_lost, [2, 5, 2, 1]), "factor"),
    ("summed in bfloat16", "narrow dtype", at_ids(summed_in_bfloat16, [2, 5, 2, 1, 2, 2]), "dtype"),
    ("ids flattened time-major", "reshape for transpose", at_ids(sequence_flattened, [[0, 3, 5], [1, 4, 6]]), "permuted"),
    ("tied table overwritten", "second use", at_ids(tied_overwritten, [2, 5, 1]), "subset"),
    ("mean of the position cotangents", "broadcast not undone", build_positions, "factor"),
)
