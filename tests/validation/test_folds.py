"""Folds: every row held out exactly once for all (n, k); classes spread evenly; splitters and their mistakes."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbp.validation import Split, kfold, stratified_kfold
from jaxbp.validation.folds import from_splitter


KEY = jax.random.key(0)


def assert_partition(splits, n, k):
    assert len(splits) == k
    np.testing.assert_array_equal(np.sort(np.concatenate([split.validation for split in splits])), np.arange(n))
    sizes = [len(split.validation) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    for train, validation in splits:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(n))
        assert (np.diff(train) > 0).all()
        assert (np.diff(validation) > 0).all()


@given(st.data())
def test_kfold_is_a_partition(data):
    n = data.draw(st.integers(2, 200))
    k = data.draw(st.integers(2, n))
    key = data.draw(st.one_of(st.none(), st.integers(0, 2**31 - 1)))
    assert_partition(kfold(n, k, None if key is None else jax.random.key(key)), n, k)


@given(st.data())
def test_stratified_kfold_spreads_every_class(data):
    k = data.draw(st.integers(2, 8))
    counts = data.draw(st.lists(st.integers(k, 30), min_size=1, max_size=5))
    labels = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(np.repeat(np.arange(len(counts)), counts))
    key = data.draw(st.one_of(st.none(), st.integers(0, 2**31 - 1)))
    splits = stratified_kfold(labels, k, None if key is None else jax.random.key(key))
    assert_partition(splits, len(labels), k)
    for of_class in range(len(counts)):
        held = [np.sum(labels[split.validation] == of_class) for split in splits]
        assert max(held) - min(held) <= 1


def test_folds_follow_the_key():
    for draw in (lambda key: kfold(50, 5, key), lambda key: stratified_kfold(np.arange(50) % 3, 5, key)):
        first, again, other, plain = draw(KEY), draw(KEY), draw(jax.random.key(1)), draw(None)
        assert all((a.validation == b.validation).all() for a, b in zip(first, again, strict=True))
        assert any((a.validation != b.validation).any() for a, b in zip(first, other, strict=True))
        assert any((a.validation != b.validation).any() for a, b in zip(first, plain, strict=True))
    assert kfold(5, 2, None)[0].validation.tolist() == [0, 1, 2]


def test_labels_may_be_anything_that_sorts():
    splits = stratified_kfold(np.array(["no", "yes"] * 6), 3, KEY)
    assert_partition(splits, 12, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: kfold(5, 1, KEY), ValueError, "at least 2 folds"),
        (lambda: kfold(5, 6, KEY), ValueError, "6 folds of 5 rows would leave some empty; use at most 5"),
        (lambda: kfold(5, 0, KEY), ValueError, "positive"),
        (lambda: kfold(5, 2.5, KEY), TypeError, "whole number"),
        (lambda: kfold(0, 2, KEY), ValueError, "positive"),
        (lambda: kfold(5, 2, 0), TypeError, r"kfold: needs a PRNG key such as jax.random.key\(0\), got 0"),
        (lambda: stratified_kfold(np.arange(6) % 2, 2, 3), TypeError, "stratified_kfold: needs a PRNG key"),
        (
            lambda: stratified_kfold([0, 0, 0, 1, 1], 3, KEY),
            ValueError,
            "class 1 has 2 members, too few for 3 folds; use at most 2",
        ),
        (lambda: stratified_kfold(np.eye(3), 2, KEY), ValueError, "one label a row was expected"),
    ],
)
def test_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def pairs(*splits):
    return from_splitter(splits, None, None, None, 6)


def test_pairs_of_rows_or_masks():
    mask = np.arange(6) < 2
    (split,) = pairs((~mask, mask))
    assert (split.train.tolist(), split.validation.tolist()) == ([2, 3, 4, 5], [0, 1])
    assert pairs(([0, 1], [2]), Split(np.array([5]), np.array([0])))[1].validation.tolist() == [0]


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ([], "gave no splits"),
        ([([0, 1], [])], "split 0 has no validation rows"),
        ([([0], [1]), ([], [1])], "split 1 has no train rows"),
        ([([0, 1, 2], [2, 3])], "split 0 trains on 1 of its validation rows, the first is row 2"),
        ([([0, 1], [6])], "validation rows run from 6 to 6, the data from 0 to 5"),
        ([([-1, 1], [2])], "train rows run from -1"),
        ([([0, 1], [2, 2])], "holds a validation row more than once"),
        ([([0.5, 1], [2])], "a pair .* was expected"),
        ([(np.ones(5, bool), [2])], r"a mask has to have shape \[6\]"),
        ([[0, 1, 2]], "a pair .* was expected"),
    ],
)
def test_bad_splits(splits, words):
    with pytest.raises(ValueError, match=words):
        pairs(*splits)


def test_what_is_no_splitter():
    with pytest.raises(TypeError, match=r"a number, a splitter with \.split, or pairs"):
        from_splitter(2.5, None, None, None, 6)
