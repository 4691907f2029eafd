"""Each claim is refuted by what was measured, and would not be by other measurements."""

import json
import math

import numpy as np
import pytest

from experiments.classics import batches, decay, hours_score, mazur, misconceptions, xor
from experiments.cli import main


# --- weight decay


def plane_of(f):
    x, y = decay.middles().T.reshape(2, decay.CELLS, decay.CELLS)
    return f(x, y)


def test_the_length_of_a_boundary():
    circle = plane_of(lambda x, y: np.hypot(x - 0.5, y - 0.25) - 1.1)
    assert decay.boundary_length(circle) == pytest.approx(2 * math.pi * 1.1, rel=1e-3)
    assert decay.boundary_length(5 * circle) == pytest.approx(2 * math.pi * 1.1, rel=1e-3)  # of the line, not of the slope
    assert decay.boundary_length(plane_of(lambda x, y: 1 + 0 * x)) == 0


def test_roughness_is_the_laplacian_squared():
    assert decay.roughness(plane_of(lambda x, y: 3 * x - y)) == pytest.approx(0, abs=1e-12)
    assert decay.roughness(plane_of(lambda x, y: x**2 + 2 * y**2)) == pytest.approx(36, rel=1e-6)


def test_decay_makes_a_small_net_simpler(monkeypatch):
    monkeypatch.setattr(decay, "STEPS", 400)
    monkeypatch.setattr(decay, "STARTS", 2)
    found = decay.measure(0)
    assert found.length.shape == found.roughness.shape == found.train.shape == found.test.shape == (4, 2)
    assert found.length.mean(1)[-1] < found.length.mean(1)[0]
    assert found.roughness.mean(1)[-1] < 0.5 * found.roughness.mean(1)[0]
    assert found.surfaces.min() >= 0
    assert found.surfaces.max() <= 1
    assert found.train[0].mean() > 85


def measured(length, roughness):
    ones = np.ones((len(length), 1))
    return decay.Measured(np.array(length)[:, None], np.array(roughness)[:, None], ones, ones, np.zeros((4, 2, 2)))


@pytest.mark.parametrize(
    ("length", "roughness", "refuted"),
    [([9, 8, 7, 6], [9, 8, 7, 6], True), ([9, 8, 7, 8], [9, 8, 7, 6], False), ([9, 8, 7, 6], [1, 2, 3, 4], False)],
)
def test_a_surface_that_gets_rougher_would_refute_nothing(length, roughness, refuted):
    claim = misconceptions.of_decay(measured(length, roughness))
    assert claim.refuted == refuted
    assert f"from {length[0]:.1f} to {length[-1]:.1f}" in claim.measured


# --- batches


def test_the_matrix_form_is_the_loop():
    found = batches.matrix_or_loop(0)
    assert found.error < 1e-13
    assert len(found.seconds) == 3
    assert len(found.ratios) == 2
    assert min(found.seconds) > 0
    assert misconceptions.of_batches(found).refuted
    assert not misconceptions.of_batches(found._replace(error=1e-3)).refuted


def raised(*accuracy):
    return batches.Raised("digits", 300, 10.0, np.array(accuracy))


@pytest.mark.parametrize(
    ("accuracy", "refuted"),
    [
        (([80.0, 95.0], [9.8, 10.1]), True),
        (([80.0, 95.0], [9.8, 60.0]), False),  # it got more accurate
        (([9.8, 9.8], [9.8, 9.8]), False),  # the net cannot learn anyway
    ],
)
def test_a_learning_rate_of_100_has_to_leave_the_net_near_chance(accuracy, refuted):
    assert misconceptions.of_rates(raised(*accuracy)).refuted == refuted


# --- minima, misprints, arithmetic


def test_a_start_that_is_not_stuck_refutes_nothing():
    right = xor.Trained((), np.zeros((1, 4, 2)), xor.TARGETS.T, np.full((1, 2), 0.04))
    assert not misconceptions.of_minima(right).refuted


def test_mazurs_numbers_have_to_come_from_his_other_rule():
    run = mazur.trained()
    assert misconceptions.of_mazur(run).refuted
    same = run._replace(errors=run.errors[[0, 1, 0]])  # were both rules the same, his numbers would be unexplained
    assert not misconceptions.of_mazur(same).refuted


def test_the_sum_is_3_9(monkeypatch):
    assert misconceptions.of_sums().refuted
    text = hours_score.Worked(np.array(hours_score.SUMS_IN_TEXT), np.ones(3), 1.8, 0.8579263250)
    monkeypatch.setattr(hours_score, "worked", lambda: text)
    assert not misconceptions.of_sums().refuted


def test_rows_a_fold():
    assert misconceptions.of_folds(210).refuted
    assert not misconceptions.of_folds(201).refuted


# --- the page


@pytest.mark.slow
@pytest.mark.parametrize("with_data", [False, True])
def test_every_sentence_is_refuted(tmp_path, with_data, request):
    args = ["--data-dir", str(request.getfixturevalue("data_dir"))] if with_data else []
    assert main(["misconceptions", "--out", str(tmp_path), *args]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [claim["refuted"] for claim in summary["claims"]] == [True] * 7
    page = (tmp_path / "report.html").read_text()
    assert all(claim["sentence"] in page for claim in summary["claims"])
    assert ("MNIST, the first 50,000 images" in page) == with_data


def test_a_folder_without_mnist(tmp_path, capsys):
    assert main(["misconceptions", "--data-dir", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: MNIST: no file train-images-idx3-ubyte; looked for ")
    assert str(tmp_path / "train-images-idx3-ubyte.gz") in told
    assert "name it by --data-dir" in told
    assert not (tmp_path / "run").exists()
