"""Whole published runs, each by its command line. The programs are those that users run: with XLA's own optimisations."""

import json
import os
import subprocess
import sys

import pytest


pytestmark = pytest.mark.slow

ETA = ("--weight-decay", "5", "--init", "default", "--monitor", "validation")
RUNS = {
    "regularized.json": ("--samples", "1000", "--epochs", "400", "--weight-decay", "0.1"),
    "regularized_full.json": ("--weight-decay", "5"),
    "multiple_eta.json 0": ("--learning-rate", "0.025", *ETA),
    "multiple_eta.json 1": ("--learning-rate", "0.25", *ETA, "--earlier", "30xall"),
    "more_data.json 1": (
        *("--samples", "200", "--epochs", "7500", "--every", "7500", "--weight-decay", "0.02"),
        *("--monitor", "validation", "--earlier", "15000x100"),
    ),
}
WEIGHTS = (  # validation accuracy by epoch from large weights, eta 0.1, published as weight_initialization_30.json
    8643, 9044, 9141, 9231, 9299, 9327, 9385, 9416, 9433, 9449, 9476, 9489, 9500, 9535, 9521,
    9548, 9564, 9573, 9585, 9592, 9596, 9615, 9607, 9605, 9606, 9622, 9637, 9648, 9635, 9637,
)  # fmt: skip


def nielsen(data_dir, out, *options):
    words = [sys.executable, "-m", "experiments", "nielsen", "--data-dir", str(data_dir), "--out", str(out), *options]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(words, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
@pytest.mark.parametrize("name", RUNS)
def test_a_published_run_comes_back(name, gradient, data_dir, tmp_path):
    file, _, part = name.partition(" ")
    compared = ("--compare", str(data_dir / "nielsen_fig" / file), *(("--part", part) if part else ()))
    done = nielsen(data_dir, tmp_path / "run", *RUNS[name], "--gradient", gradient, *compared)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    compared = json.loads((tmp_path / "run" / "summary.json").read_text())["compared"]
    assert compared
    assert all(one["missed"] == 0 for one in compared)


def test_a_second_training_of_the_same_program(data_dir, tmp_path):
    """The net is the constructor's draw thrown away and one more; the list is as thirty epochs of the first training left it."""
    options = ("--learning-rate", "0.1", "--weight-decay", "5", "--monitor", "validation", "--earlier", "30xall", "--draws", "1")
    done = nielsen(data_dir, tmp_path / "run", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert tuple(json.loads((tmp_path / "run" / "summary.json").read_text())["test_accuracy"]) == WEIGHTS
