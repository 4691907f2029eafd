"""The report of a run: any part of it may be missing, stand alone or be broken."""

import datetime

import numpy as np
import pytest
from pictures import assert_readable
from report_parts import comparison, figures, headings

from jaxbp.page.diagram import Units
from jaxbp.page.frame import Mark
from jaxbp.report import run_report


FOLDS, EPOCHS = 10, 50


@pytest.fixture
def run():
    draw = np.random.default_rng(0)
    epochs = np.arange(1, EPOCHS + 1)
    decay = np.exp(-epochs / 6)
    validation = 2.2 * decay + 0.08 + 0.02 * draw.random((FOLDS, 1)) + 0.005 * draw.random((FOLDS, EPOCHS))
    return {
        "lead": "10-fold validation <of> digits.",
        "figures": [("Time", "3.1 s", "2.0 s of it compiling")],
        "history": {
            "train_loss": 2.3 * decay + 0.01 * draw.random((FOLDS, EPOCHS)) + 1e-3,
            "validation_loss": validation,
            "train_accuracy": 1 - 0.85 * decay * np.ones((FOLDS, 1)),
            "validation_accuracy": 0.97 - 0.85 * decay + 0.01 * draw.random((FOLDS, 1)),
        },
        "marks": [Mark(31, "least loss")],
        "scores": {"accuracy": np.linspace(0.9611, 0.9889, FOLDS), "loss": validation[:, -1]},
        "fold_sizes": [180] * 7 + [179] * 3,
        "confusion": np.eye(10, dtype=int) * 170 + (np.arange(100).reshape(10, 10) % 17 == 3),
        "comparison": comparison(),
        "columns": [Units(64, "input"), Units(32, ("dense 64 → 32", "sigmoid")), Units(10, "dense 32 → 10")],
        "net": "mlp([64, 32, 10])",
        "config": {"epochs": 50, "optimizer": {"name": "adam", "learning_rate": 0.003}},
        "environment": {"jax": "0.10.2", "device": "cpu"},
        "when": datetime.datetime(2025, 7, 9, 14, 2),
    }


def test_a_whole_report(run):
    page = run_report("Digits", **run)
    assert headings(page) == [
        "Result", "Learning curves", "Scores", "Errors", "Gradient", "Net", "Configuration", "Environment"
    ]  # fmt: skip
    for said in ("0.9750", "± 0.0094 over 10 folds", "3.4e-16", "1.4e-07", "1.01×", "0.76×", "fold 9", "optimizer.learning_rate"):
        assert said in page
    assert "Compile time" not in page
    assert "10-fold validation &lt;of&gt; digits." in page
    assert "Run on 2025-07-09 at 14:02." in page
    drawn = figures(page)
    assert len(drawn) == 7
    for svg in drawn:
        assert_readable(svg[: svg.rindex("</svg>") + 6])
    assert page.count('class="faint"') == 4 * FOLDS
    assert len(page) < 400_000


PARTS = [
    "lead",
    "figures",
    "history",
    "marks",
    "scores",
    "fold_sizes",
    "confusion",
    "comparison",
    "columns",
    "net",
    "config",
    "when",
]


@pytest.mark.parametrize("part", PARTS)
def test_each_part_may_be_missing(run, part):
    del run[part]
    assert "<h1>Digits</h1>" in run_report("Digits", **run)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_may_stand_alone(run, part):
    if part != "fold_sizes":
        assert "<h1>Digits</h1>" in run_report("Digits", **{part: run[part]})


def test_nothing_at_all():
    assert headings(run_report("Empty")) == []


def test_folds_that_broke_show_as_gaps_and_nan(run):
    run["history"]["validation_loss"][3, 10:] = np.nan
    run["history"]["train_loss"][:] = np.nan
    run["scores"]["accuracy"][3] = np.nan
    page = run_report("Digits", **run)
    assert "<dd>nan</dd>" in page
    assert "Accuracy of each fold" in page
    run["scores"]["accuracy"][:] = np.nan
    run["history"] = {"train_loss": np.full((FOLDS, EPOCHS), np.nan)}
    page = run_report("Digits", **run)
    assert "Accuracy of each fold" not in page
    assert "Learning curves" not in headings(page)


def test_a_single_fit_has_no_folds(run):
    history = {name: values[0] for name, values in run["history"].items()}
    page = run_report("Fit", history=history, scores={"accuracy": [0.98]}, confusion=run["confusion"])
    assert headings(page) == ["Result", "Learning curves", "Errors"]
    assert "fold" not in page
    assert 'class="faint"' not in page
    assert ">0.9800<" in page
