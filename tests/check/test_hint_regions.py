"""Hints: errors of some entries are named by what these entries have in common."""

import numpy as np
import pytest
from hinting import MANY, draw, first, hints


def test_subset_by_value():
    true, value = draw((6, 5)), draw((6, 5), 1)
    category, text = first(np.where(value < 0, 1.3 * true, true), true, value=value)
    assert category == "subset"
    assert "where 'x' < 0" in text
    assert "k = 1.3" in text
    value[::2, 1] = 0
    category, text = first(np.where(value == 0, 0, true), true, value=value)
    assert category == "subset"
    assert "is 0" in text or "ties" in text
    assert "the claimed is 0" in text
    category, text = first(np.where(np.abs(value) > 1, 0, true), true, value=value)
    assert category == "subset"
    assert "or more" in text


def test_subset_beyond_a_bound():
    """Huber: the slope is clipped beyond delta, which depends on prediction and target."""
    x, target = 2 * draw((30,), 1), draw((30,), 2)
    r = x - target
    category, text = first(r, np.clip(r, -1, 1), value=x, values={"target": target})
    assert (category, "where |'x' − 'target'| is" in text) == ("subset", True)
    category, text = first(np.sign(r) * 0.3, np.where(r > 0, 0.3, -0.7), value=x, values={"target": target})
    assert (category, "where 'x' − 'target' < 0" in text) == ("subset", True)


def test_subset_at_ties():
    value = np.array([1.0, 3.0, 3.0, -1.0, 2.0, 0.5])
    true = draw((6,))
    category, text = first(np.where(value == 3, true / 2, true), true, value=value)
    assert (category, "at ties" in text, "k = 1/2" in text) == ("subset", True, True)
    a, b = draw((9,), 1), draw((9,), 2)
    b[[2, 5]] = a[[2, 5]]
    true = np.where(a >= b, draw((9,)), 0)
    true[[2, 5]] = [0.3, 0.7]
    category, text = first(np.where(a == b, 2 * true, true), true, value=a, values={"y": b})
    assert (category, "'x' and 'y' are equal" in text, "k = 2" in text) == ("subset", True, True)


def test_share_moved_between_ties_is_no_permutation():
    value = np.array([[5.0, 5.0, 1.0, 2.0], [0.1, 0.2, 0.3, 0.7], [4.0, 0.0, 4.0, 1.5], [1.1, 2.2, 9.0, 8.0]])
    bars = draw((4, 1))
    true = np.where(np.arange(4) == np.argmax(value, 1)[:, None], bars, 0)
    last = np.where(np.arange(4) == 3 - np.argmax(value[:, ::-1], 1)[:, None], bars, 0)
    category, text = first(last, true, value=value)
    assert category == "subset"
    assert "at ties" in text


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 2, 1)])
def test_subset_of_repeated_indices(shape):
    tokens = np.array([[1, 4, 1], [0, 4, 4]])
    true = draw(shape)
    true[[2, 3, 5]] = 0
    claimed = true.copy()
    claimed[[1, 4]] = draw(shape, 4)[[1, 4]]
    category, text = first(claimed, true, values={"tokens": tokens})
    assert category == "subset"
    assert "occur more than once in 'tokens'" in text


def test_subset_of_labels_masks_and_lengths():
    logits = draw((6, 4))
    labels = np.array([0, 3, 1, 1, 2, 0])
    named = labels[:, None] == np.arange(4)
    category, text = first(logits + named, logits, values={"labels": labels})
    assert (category, "that 'labels' names" in text) == ("subset", True)
    mask = np.array([True, True, False, True, False, True])
    category, text = first(logits, np.where(mask[:, None], logits, 0), values={"mask": mask})
    assert (category, "'mask' is False" in text, "the truth is 0" in text) == ("subset", True, True)
    lengths = np.array([2, 4, 3, 1, 4, 2])
    padding = np.arange(4) >= lengths[:, None]
    category, text = first(logits, np.where(padding, 0, logits), values={"lengths": lengths})
    assert (category, "padding beyond the lengths" in text) == ("subset", True)


def test_subset_where_one_takes_the_share_of_two():
    true = np.zeros((4, 6))
    true[[0, 0, 1, 1, 2, 2, 3, 3], [1, 4, 0, 2, 5, 3, 2, 4]] = np.repeat(draw((4,)), 2)
    claimed = true.copy()
    claimed[[0, 1, 2, 3], [1, 2, 3, 4]] = 0
    claimed[[0, 1, 2, 3], [4, 0, 5, 2]] *= 2
    category, text = first(claimed, true)
    assert (category, "claimed is 0 at 4 entries and 2 · true at 4" in text) == ("subset", True)


def test_subset_of_most():
    """Where most entries are wrong, the region must be more than a list of them."""
    true, claimed = draw((5, 3)), draw((5, 3), 1)
    claimed[4] = true[4]
    category, text = first(claimed, true)
    assert (category, "only axis 0 at 0..3, the first 4 of 5" in text) == ("subset", True)
    claimed = draw((5, 3), 1)
    claimed[[0, 3], [1, 2]] = true[[0, 3], [1, 2]]
    category, text = first(claimed, true)
    assert (category, "right only at [0, 1], [3, 2]" in text) == ("missing-term", True)


def test_subset_of_places():
    true = draw((8, 5))
    places = [(slice(6, 8), "6..7, the last 2 of 8"), (slice(0, 3), "0..2, the first 3"), (slice(1, None, 2), "every 2.")]
    for rows, words in places:
        claimed = true.copy()
        claimed[rows] = draw((8, 5), 3)[rows]
        category, text = first(claimed, true)
        assert category == "subset"
        assert f"axis 0 at {words}" in text or words in text
    square = draw((5, 5))
    category, text = first(square * (1 + np.eye(5)), square)
    assert (category, "on the diagonal" in text, "k = 2" in text) == ("subset", True, True)
    category, text = first(np.triu(square), square)
    assert (category, "below the diagonal" in text) == ("subset", True)


@pytest.mark.parametrize("shape", [s for s in MANY if np.prod(s) > 1])
@pytest.mark.parametrize("k", [1.001, 1.0001, 0.0, 2.0])
def test_one_entry(shape, k):
    true = np.where(np.abs(draw(shape)) < 0.1, 0.5, draw(shape))
    claimed = true.copy()
    claimed.reshape(-1)[1] *= k
    found = hints(claimed, true)
    assert found[0].category == "subset"
    assert f"1 of {true.size} entries" in found[0].text
    index = np.unravel_index(1, shape)
    assert f"[{', '.join(map(str, map(int, index)))}]" in found[-1].text
