"""The corrected paired t-test against SciPy, by hand, and against a published example."""

from __future__ import annotations

import json
import math

import jax
import numpy as np
import pytest
from cv_results import cv_result
from scipy import stats

from jaxbp.validation import Split, kfold
from jaxbp.validation.comparing import compare


DRAW = np.random.default_rng(4)
A, B = DRAW.normal(0.9, 0.02, 10), DRAW.normal(0.88, 0.02, 10)


def pair(a, b, **fields):
    return cv_result({"accuracy": a}, **fields), cv_result({"accuracy": b}, **fields)


def test_against_scipy():
    """SciPy's paired t-test, its standard error widened from sqrt(1 / k) s to sqrt(1 / k + 1 / (k - 1)) s."""
    got = compare(*pair(A, B))
    plain = stats.ttest_rel(A, B)
    widened = math.sqrt((1 / 10 + 1 / 9) / (1 / 10))
    assert got.t == pytest.approx(plain.statistic / widened, rel=1e-12)
    assert got.p == pytest.approx(2 * stats.t.sf(abs(plain.statistic) / widened, 9), rel=1e-12)
    assert got.difference == pytest.approx(np.mean(A - B), rel=1e-12)
    assert got.standard_error == pytest.approx(stats.sem(A - B) * widened, rel=1e-12)
    interval = stats.t.interval(0.95, 9, loc=np.mean(A - B), scale=got.standard_error)
    assert got.interval == pytest.approx(interval, rel=1e-12)
    assert compare(*pair(A, B), level=0.5).interval == pytest.approx(stats.t.interval(0.5, 9, np.mean(A - B), got.standard_error))
    assert (got.degrees, got.ratio, got.level) == (9, pytest.approx(1 / 9), 0.95)
    np.testing.assert_array_equal(got.differences, A - B)
    back = compare(*pair(B, A))
    assert (back.t, back.p, back.interval) == (-got.t, got.p, (-got.interval[1], -got.interval[0]))


def test_by_hand():
    """d = 1, 2, 3, 4, 5 (/ 100) in 5 folds: mean 3, s^2 = 2.5, standard error sqrt((1 / 5 + 1 / 4) 2.5) = 3 / (2 sqrt 2).

    So t = 2 sqrt 2, and for 4 degrees of freedom P(|T| > t) = 1 - (3 / 4) x (1 - x^2 / 12), x = t / sqrt(1 + t^2 / 4).
    """
    got = compare(*pair(np.array([1.0, 2, 3, 4, 5]) / 100, np.zeros(5)))
    assert got.t == pytest.approx(2 * math.sqrt(2), rel=1e-14)
    assert got.standard_error == pytest.approx(0.03 / (2 * math.sqrt(2)), rel=1e-14)
    x = math.sqrt(8 / 3)
    assert got.p == pytest.approx(1 - 0.75 * x * (1 - x**2 / 12), rel=1e-12)
    assert got.p == pytest.approx(0.047421, abs=1e-6)


def ten_times_ten_folds():
    return tuple(split for i in range(10) for split in kfold(100, 10, jax.random.key(i)))


def test_against_the_example_of_scikit_learn():
    """Its "Statistical comparison of models using grid search": areas under the curve of two SVMs on 100 points, 10 times
    10 folds, published as corrected t 0.750 and right-tailed p 0.227. The areas are multiples of 1 / 25; so often each
    difference came when the example was run."""
    counts = {-3: 1, -2: 2, -1: 10, 0: 53, 1: 29, 2: 4, 5: 1}
    differences = np.repeat(np.array(list(counts)) / 25, list(counts.values()))
    got = compare(*pair(differences, np.zeros(100), splits=ten_times_ten_folds()))
    assert f"{got.t:.3f}" == "0.750"
    assert f"{got.p / 2:.3f}" == "0.227"


def test_uneven_splits_count_by_their_mean():
    splits = (Split(np.arange(6), np.arange(6, 10)), Split(np.arange(4, 10), np.arange(2)), Split(np.arange(3), np.arange(3, 9)))
    got = compare(*pair([0.1, 0.4, 0.3], [0.0, 0.1, 0.25], splits=splits))
    assert got.ratio == (4 + 2 + 6) / (6 + 6 + 3)
    assert got.standard_error == pytest.approx(math.sqrt((1 / 3 + 12 / 15) * np.var([0.1, 0.3, 0.05], ddof=1)))


def test_equal_differences():
    same = compare(*pair(A, A))
    assert (same.t, same.p, same.standard_error, same.interval) == (0, 1, 0, (0, 0))
    better = compare(*pair(np.ones(4), np.full(4, 0.5)))
    assert (better.t, better.p, better.difference, better.interval) == (math.inf, 0, 0.5, (0.5, 0.5))
    assert compare(*pair(np.zeros(4), np.ones(4))).t == -math.inf
    assert json.loads(json.dumps(better.to_dict(), allow_nan=False))["t"] is None


def test_what_is_shown():
    got = compare(*pair(A, B))
    title, heading, _, row, *note = str(got).splitlines()
    assert title == "a against b on the same 10 splits"
    assert heading.split() == ["a", "b", "a", "-", "b", "standard", "error", "95", "%", "from", "to", "t", "p"]
    shown = [float(cell) for cell in row.split()[1:]]
    numbers = [A.mean(), B.mean(), got.difference, got.standard_error, *got.interval, got.t, got.p]
    np.testing.assert_allclose(shown, numbers, rtol=5e-3)
    assert row.startswith("accuracy")
    assert "Nadeau & Bengio 2003): 9 degrees of freedom, 0.111 held-out rows per training row" in " ".join(note)
    assert repr(got).startswith("<Comparison: accuracy differs by ")
    plain = json.loads(json.dumps(got.to_dict(), allow_nan=False))
    assert plain["differences"] == (A - B).tolist()
    assert plain["interval"] == list(got.interval)


def test_an_inner_split_is_taken_from_the_same_training_rows():
    a, b = pair(A, B)
    inner = tuple(Split(split.train[::2], split.validation) for split in b.splits)
    stopped = cv_result({"accuracy": B}, splits=inner, stopped_on="inner")
    for got in (compare(a, stopped), compare(cv_result({"accuracy": A}, splits=inner, stopped_on="inner"), b)):
        assert (got.t, got.ratio) == (compare(a, b).t, pytest.approx(1 / 9))
    with pytest.raises(ValueError, match="split 0 trains on other rows"):
        compare(a, cv_result({"accuracy": B}, splits=inner))
    with pytest.raises(ValueError, match="split 0 trains on other rows"):
        compare(a, cv_result({"accuracy": B}, splits=inner, stopped_on="fold"))


FIRST = cv_result({"accuracy": A, "loss": B, "recalls": np.ones((10, 3))})


@pytest.mark.parametrize(
    ("other", "score", "error", "words"),
    [
        (3, "accuracy", TypeError, "compare: b: what cross_validate gives"),
        (cv_result({"accuracy": A[:5]}), "accuracy", ValueError, "a has 10 splits, b 5; a paired test needs the same splits"),
        (
            cv_result({"accuracy": A}, splits=kfold(40, 10, jax.random.key(0))), "accuracy", ValueError,
            "split 0 holds out other rows in b than in a; .* folds=a.splits",
        ),
        (cv_result({"loss": A}), "accuracy", ValueError, "b has no score 'accuracy', it has 'loss'"),
        (cv_result({"accuracy": A}), "mse", ValueError, "a has no score 'mse'"),
        (FIRST, "recalls", ValueError, r"'recalls' is an array of shape \[3\] a fold"),
        (
            cv_result({"accuracy": [*A[:8], np.nan, np.nan]}, stop_reasons=("",) * 8 + ("non-finite after",) * 2), "accuracy",
            ValueError, r"folds 8, 9 of b: accuracy is not finite \(non-finite after\)",
        ),
    ],
)  # fmt: skip
def test_refused(other, score, error, words):
    with pytest.raises(error, match=words):
        compare(FIRST, other, score)


def test_refused_for_one_split_and_another_level():
    with pytest.raises(ValueError, match="two splits or more"):
        compare(*pair([0.5], [0.6], splits=kfold(8, 2, None)[:1]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        compare(*pair(A, B), level=95)
