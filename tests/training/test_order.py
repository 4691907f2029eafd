"""The order of rows: every row once an epoch, whatever the chunks; padding only where rows are missing."""

from __future__ import annotations

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxbp.training.order import EPOCHS, FOLDS, Order, blocks, generator, key_words, padded_rows, permutation


WORDS = np.array([[1, 2], [3, 4], [5, 6]], np.uint64)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    batch=st.integers(1, 12),
    shuffle=st.booleans(),
    remainder=st.sampled_from(["short", "drop"]),
    epochs=st.integers(1, 3),
)
def test_every_row_once_an_epoch(sizes, batch, shuffle, remainder, epochs):
    batch = min(batch, *sizes)
    rows = tuple(10 * (i + 1) * np.arange(1, n + 1) for i, n in enumerate(sizes))
    order = Order(rows, batch, 999, shuffle, remainder)
    table = order.chunk(WORDS[: len(sizes)], 0, epochs, epochs)
    assert table.shape == (epochs if any(order.shuffled) else 1, max(order.steps), len(sizes), batch)
    for of_epoch in table:
        for trial, mine in enumerate(rows):
            met = of_epoch[:, trial].ravel()
            used = order.steps[trial] * batch if remainder == "drop" else len(mine)
            assert (met[used:] == 999).all()
            assert len(set(met[:used])) == used
            assert set(met[:used]) <= set(mine.tolist())
            if not shuffle:
                assert met[:used].tolist() == mine[:used].tolist()
    assert order.short == bool((table == 999).any() and any(n % batch for n in sizes) and remainder == "short")


@given(st.integers(1, 6), st.integers(1, 5))
def test_chunks_make_the_same_order(epochs, size):
    rows = (np.arange(7), np.arange(5))
    order = Order(rows, 2, 7, True, "short")
    whole = order.chunk(WORDS[:2], 0, epochs, epochs)
    parts = [order.chunk(WORDS[:2], i, min(i + size, epochs), size)[: min(size, epochs - i)] for i in range(0, epochs, size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_permutations_differ_by_key_epoch_and_use():
    seen = {tuple(permutation(words, epoch, 20)) for words in WORDS for epoch in range(5)}
    assert len(seen) == 15
    a, b = (generator(WORDS[0], use, 0).permutation(20) for use in (EPOCHS, FOLDS))
    assert tuple(a) != tuple(b)


def test_permutations_are_uniform():
    """Each row is in each place about equally often: 6,000 draws over 6 places, chi-square of 25 degrees below its 1e-6 tail."""
    counts = np.zeros((6, 6))
    for epoch in range(6000):
        counts[np.arange(6), permutation(WORDS[0], epoch, 6)] += 1
    assert ((counts - 1000) ** 2 / 1000).sum() < 78


def test_words_of_keys():
    keys = jax.random.split(jax.random.key(3), 4)
    words = key_words(keys)
    assert words.shape == (4, 2)
    assert len({tuple(w) for w in words.tolist()}) == 4
    np.testing.assert_array_equal(key_words(keys[1]), words[1])
    assert key_words(jax.random.key(3, impl="rbg")).shape == (2,)


@given(st.integers(1, 40), st.integers(1, 15))
def test_blocks_hold_all_rows_in_order(n, size):
    cut = blocks(np.arange(n), n, size)
    assert cut.shape[1] <= size
    assert cut.size - n < cut.shape[0]
    assert cut.ravel()[:n].tolist() == list(range(n))
    assert (cut.ravel()[n:] == n).all()


def test_padded_rows():
    np.testing.assert_array_equal(padded_rows((np.array([3, 1]), np.array([2])), 9), [[3, 1], [2, 9]])
