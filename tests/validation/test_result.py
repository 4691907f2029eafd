"""What a cross-validation gave: its numbers, its interval, its table, and the ways to hand it on."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import types

import numpy as np
import pytest
from cv_results import cv_result
from scipy import stats

from jaxbp.validation.result import student_quantile


ACCURACY = np.array([0.91, 0.95, 0.93, 0.97], np.float32)
LOSS = np.array([0.4, 0.1, 0.3, 0.2])
RECALLS = np.arange(12.0).reshape(4, 3) / 12
SCORES = {"loss": LOSS, "accuracy": ACCURACY, "recalls": RECALLS}
NONFINITE = "non-finite after epoch 2: params[0].w is the first leaf with NaN or infinity; params are those of epoch 1"
STOPPED = ("epoch 7: no better validation_loss for 3", NONFINITE, "epoch 9: no better validation_loss for 3", "ran all 9 epochs")


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_the_interval_is_scipys_of_student(level):
    interval = cv_result(SCORES).interval(level)
    for name, values in SCORES.items():
        values = values.astype(np.float64)
        want = stats.t.interval(level, 3, loc=values.mean(0), scale=stats.sem(values, axis=0))
        np.testing.assert_allclose(interval[name], want, rtol=1e-12)
    assert all(isinstance(end, float) for end in interval["accuracy"])
    assert student_quantile(level, 3) == pytest.approx(stats.t.ppf((1 + level) / 2, 3), rel=1e-13)


def test_the_interval_by_hand():
    """1, 2, 3: mean 2, s = 1. For 2 degrees of freedom P(|T| < t) = q at t = q sqrt(2 / (1 - q^2)), 4.3027 for q = 0.95."""
    t = 0.95 * math.sqrt(2 / (1 - 0.95**2))
    assert f"{t:.4f}" == "4.3027"
    low, high = cv_result({"loss": [1.0, 2.0, 3.0]}).interval()["loss"]
    assert (low, high) == pytest.approx((2 - t / math.sqrt(3), 2 + t / math.sqrt(3)), rel=1e-13)


def test_there_is_no_interval_of_one_split_or_of_a_broken_fold():
    assert np.isnan(cv_result({"loss": [1.0]}).interval()["loss"]).all()
    broken = cv_result({"loss": [1.0, np.nan, 2.0], "accuracy": [0.5, 0.7, 0.9]})
    assert np.isnan(broken.interval()["loss"]).all()
    assert np.isfinite(broken.interval()["accuracy"]).all()
    assert "t-interval" not in str(cv_result({"loss": [1.0]}))
    assert "accuracy 0.2032 to 1.197" in " ".join(str(broken).split())
    for level in (0, 1, 95, True, "0.95"):
        with pytest.raises(ValueError, match="between 0 and 1"):
            broken.interval(level)


def test_means_are_taken_in_float64():
    single = np.array([16777216.0, 1.0, 1.0, 2.0], np.float32)  # in float32 the ones would be lost
    result = cv_result({"loss": single})
    assert result.mean["loss"] == (16777216 + 4) / 4
    assert result.std["loss"] == np.std(single.astype(np.float64), ddof=1)
    assert isinstance(result.mean["loss"], float)


def test_the_table():
    text = str(cv_result(SCORES))
    lines = text.splitlines()
    assert lines[0] == "4 folds"
    assert lines[1].split() == ["fold", "trained", "on", "held", "out", "epochs", "accuracy", "loss"]
    assert "0.9400" in next(line for line in lines if line.startswith("mean"))
    note = " ".join(text.split())
    low, high = stats.t.interval(0.95, 3, loc=LOSS.mean(), scale=stats.sem(LOSS))
    assert (
        f"95 % t-interval over folds, too narrow since they share training rows: accuracy 0.8989 to 0.9811, loss {low:.5f}"
        in note
    )
    assert f"to {high:.4f}" in note
    assert "ran all" not in text
    assert "held-out rows" not in text


def test_the_table_tells_each_reason_once():
    result = cv_result(SCORES, stop_reasons=STOPPED, stopped_on="fold", epochs=np.array([7, 1, 9, 9]))
    note = " ".join(str(result).split())
    assert (
        "; folds 0, 2: no better validation_loss for 3; fold 1: non-finite; the epochs were chosen on the held-out rows" in note
    )
    assert "leaf" not in note
    many = cv_result({"loss": np.full(50, np.nan)}, stop_reasons=(NONFINITE, *[NONFINITE.replace("2", "3")] * 49))
    assert str(many).endswith("; 50 folds, the first 0: non-finite")


def test_json(tmp_path):
    result = cv_result({"loss": [0.1, np.nan, np.inf]}, predictions={"a": np.array([[0.1], [np.nan]])})
    path = tmp_path / "result.json"
    text = result.to_json(path)
    assert path.read_text(encoding="utf-8") == text + "\n"
    assert result.to_json() == text
    plain = json.loads(text)
    assert plain == result.to_dict()
    assert plain["scores"] == {"loss": [0.1, None, None]}
    assert plain["predictions"] == {"a": [[0.1], [None]]}
    assert plain["interval_95"] == {"loss": [None, None]}
    assert plain["validation"] == [split.validation.tolist() for split in result.splits]
    low, high = cv_result(SCORES).interval()["accuracy"]
    assert json.loads(cv_result(SCORES).to_json())["interval_95"]["accuracy"] == [low, high]
    with pytest.raises(FileNotFoundError):
        result.to_json(tmp_path / "nowhere" / "result.json")


COLUMNS = {
    "trained_on": [12] * 4,
    "held_out": [4] * 4,
    "epochs": [3] * 4,
    "best_epoch": [3] * 4,
    "stop_reason": list(STOPPED),
    "loss": LOSS.tolist(),
    "accuracy": ACCURACY.tolist(),
    **{f"recalls[{j}]": RECALLS[:, j].tolist() for j in range(3)},
}


class Recorder:
    """Stands in for pandas: what a DataFrame was asked for."""

    def __init__(self, columns, index):
        self.columns = {name: np.asarray(values).tolist() for name, values in columns.items()}
        self.index = index


def test_what_a_frame_is_made_of(monkeypatch):
    stand_in = types.SimpleNamespace(DataFrame=Recorder, RangeIndex=lambda n, name: (n, name))
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    frame = cv_result(SCORES, stop_reasons=STOPPED).to_frame()
    assert frame.columns == COLUMNS
    assert frame.index == (4, "fold")
    clash = cv_result({"loss": LOSS, "epochs": ACCURACY}).to_frame()
    assert clash.columns["epochs"] == [3] * 4
    assert clash.columns["epochs (score)"] == ACCURACY.tolist()


def test_a_frame_of_pandas():
    pandas = pytest.importorskip("pandas")
    frame = cv_result(SCORES, stop_reasons=STOPPED).to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("list") == COLUMNS
    assert frame.index.name == "fold"
    assert (frame.dtypes[["loss", "accuracy", "recalls[0]"]] == np.float64).all()
    assert frame["accuracy"].mean() == pytest.approx(cv_result(SCORES).mean["accuracy"])


@pytest.mark.skipif(importlib.util.find_spec("pandas") is not None, reason="pandas is there")
def test_without_pandas():
    with pytest.raises(ImportError, match="needs pandas, which is not installed: pip install pandas"):
        cv_result(SCORES).to_frame()
