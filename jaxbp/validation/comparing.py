"""Whether two cross-validated nets differ, by a test that knows that folds share training rows."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from jaxbp.page.tables import Column, Table
from jaxbp.validation.result import CVResult, numbered, student_quantile


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The corrected paired t-test of a against b; see `compare`. `str` is a table.

    Fields:
      score: the name of what is compared. mean_a, mean_b: its means over the folds.
      differences: (folds,), a's score less b's.
      difference: their mean. standard_error: the corrected one. t = difference / standard_error.
      degrees: of freedom, folds - 1. p: two-sided, the probability of a |t| as large if the nets were equally good.
      interval: (low, high) of the difference at `level`. ratio: held-out rows per training row.
    """

    score: str
    mean_a: float
    mean_b: float
    differences: np.ndarray
    difference: float
    standard_error: float
    t: float
    degrees: int
    p: float
    level: float
    interval: tuple[float, float]
    ratio: float

    def table(self) -> Table:
        low, high = self.interval
        level = f"{100 * self.level:g} %"
        columns = [
            "", *(Column(name, digits=4) for name in ("a", "b", "a - b", "standard error", f"{level} from", "to")),
            Column("t"), Column("p"),
        ]  # fmt: skip
        row = (self.score, self.mean_a, self.mean_b, self.difference, self.standard_error, low, high, self.t, self.p)
        note = (
            f"paired t-test with the variance corrected for shared training rows (Nadeau & Bengio 2003): {self.degrees} degrees "
            f"of freedom, {self.ratio:.3g} held-out rows per training row; p is two-sided"
        )
        return Table(columns, [row], f"a against b on the same {len(self.differences)} splits", note)

    def __str__(self) -> str:
        return str(self.table())

    def __repr__(self) -> str:
        return f"<Comparison: {self.score} differs by {self.difference:.4g}, t({self.degrees}) = {self.t:.3g}, p = {self.p:.3g}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values; an infinite t (see `compare`) is None, which JSON can hold."""
        plain = {**dataclasses.asdict(self), "differences": self.differences.tolist(), "interval": list(self.interval)}
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in plain.items()}


def compare(a: CVResult, b: CVResult, score: str = "accuracy", level: float = 0.95) -> Comparison:
    """t = mean(d) / sqrt((1 / k + n_test / n_train) s^2),  d_i = a's score on split i less b's,  k - 1 degrees of freedom.

    s^2 = sum_i (d_i - mean(d))^2 / (k - 1) over all k splits. A plain paired t-test divides by s^2 / k, as if the d_i were
    independent; but the nets of different splits share training rows, and so it finds differences that are none. The term
    n_test / n_train makes up for that. It was derived for splits drawn at random; for k folds, where it is 1 / (k - 1), it
    is an approximation that is in common use, and for r times repeated k-fold too, with k r splits (Bouckaert & Frank 2004).

    Arguments: a, b: results on the same splits, in the same order, such as two runs with one key and one number of folds, or
    the second with folds=a.splits. score: a name in the scores of both that is one number a fold. level: of the interval
    mean(d) -+ t_{(1 + level) / 2} * standard error.

    Conventions: n_test and n_train are means over the splits. Training rows that one side kept back, to stop by
    (`stopped_on == "inner"`), count as training rows: its method uses them. Where all d_i are the same number, t is infinite
    and p is 0, or t is 0 and p is 1 if that number is 0. Nothing is corrected for the number of comparisons that you make.

    Raises: TypeError for what is no CVResult; ValueError for other splits, fewer than two, a score that one of them lacks or
    that is an array, folds without a finite score (their training broke), and a level that is not between 0 and 1.
    Source: Nadeau & Bengio, Inference for the Generalization Error, Machine Learning 52, 2003, the corrected resampled
    t-test; Bouckaert & Frank, Evaluating the Replicability of Significance Tests, PAKDD 2004.
    """
    for name, result in (("a", a), ("b", b)):
        if not isinstance(result, CVResult):
            raise TypeError(f"compare: {name}: what cross_validate gives was expected, got {result!r}")
    _require_same_splits(a, b)
    of_a, of_b = (_scores_of(name, result, score) for name, result in (("a", a), ("b", b)))
    differences, k = of_a - of_b, len(of_a)
    train, test = np.maximum(a.sizes, b.sizes).mean(axis=0)
    mean, variance = float(np.mean(differences)), float(np.var(differences, ddof=1))
    error = math.sqrt((1 / k + test / train) * variance)
    t = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
    half = student_quantile(level, k - 1) * error
    return Comparison(
        score, float(np.mean(of_a)), float(np.mean(of_b)), differences, mean, error, t, k - 1, two_sided(t, k - 1), float(level),
        (mean - half, mean + half), float(test / train),
    )  # fmt: skip


def two_sided(t: float, degrees: int) -> float:
    """P(|T| >= |t|) for Student's T."""
    from scipy import special  # a dependency of JAX

    return float(2 * special.stdtr(degrees, -abs(t)))


def _scores_of(name: str, result: CVResult, score: str) -> np.ndarray:
    if score not in result.scores:
        raise ValueError(f"compare: {name} has no score {score!r}, it has {', '.join(map(repr, result.scores))}")
    values = np.asarray(result.scores[score], np.float64)
    if values.ndim != 1:
        raise ValueError(
            f"compare: {score!r} is an array of shape {list(values.shape[1:])} a fold; one number a fold was expected"
        )
    broken = np.flatnonzero(~np.isfinite(values)).tolist()
    if broken:
        raise ValueError(f"compare: {numbered(broken)} of {name}: {score} is not finite ({result.stop_reasons[broken[0]]})")
    return values


def _require_same_splits(a: CVResult, b: CVResult) -> None:
    if len(a.splits) != len(b.splits):
        raise ValueError(f"compare: a has {len(a.splits)} splits, b {len(b.splits)}; {SAME}")
    if len(a.splits) < 2:
        raise ValueError("compare: two splits or more are needed to estimate a variance, got 1")
    for i, (one, other) in enumerate(zip(a.splits, b.splits, strict=True)):
        if not np.array_equal(one.validation, other.validation):
            raise ValueError(f"compare: split {i} holds out other rows in b than in a; {SAME}")
        if not _same_training(one.train, a.stopped_on, other.train, b.stopped_on):
            raise ValueError(f"compare: split {i} trains on other rows in b than in a; {SAME}")


SAME = "a paired test needs the same splits: give both runs one key and one number of folds, or the second folds=a.splits"


def _same_training(one: np.ndarray, one_on: str | None, other: np.ndarray, other_on: str | None) -> bool:
    """The same rows, but for an inner split that a stopping rule of one side took out of them."""
    if np.array_equal(one, other):
        return True
    inside = lambda small, large: len(small) < len(large) and bool(np.isin(small, large).all())
    return (one_on == "inner" and inside(one, other)) or (other_on == "inner" and inside(other, one))
