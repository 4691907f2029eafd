"""The Nielsen experiments from the command line, on a small MNIST of noise; the studies that need no data."""

import json
import struct

import numpy as np
import pytest

from experiments.cli import main
from experiments.nielsen import data, depth, learning, neuron, recipe
from jaxbp.training import halve_on_plateau, patience


def idx(path, values):
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """60 training and 30 test images, of which the last 20 training images validate."""
    monkeypatch.setattr(data, "HELD_OUT", 20)
    rng = np.random.default_rng(0)
    place = tmp_path / "data" / "mnist"
    place.mkdir(parents=True)
    for stem, n in (("train", 60), ("t10k", 30)):
        idx(place / f"{stem}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28)).astype(np.uint8))
        idx(place / f"{stem}-labels-idx1-ubyte", rng.integers(0, 10, n).astype(np.uint8))
    return place.parent


def nielsen(folder, out, *more):
    common = ["--data-dir", folder, "--out", out, "--sizes", 784, 5, 10, "--epochs", 4, "--weight-decay", 0.1]
    return main(["nielsen", *map(str, (*common, *more))])


def test_a_run_from_its_options_to_its_page(folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert nielsen(folder, out, "--monitor", "validation", "--samples", 30) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["monitored"], summary["images_trained"], summary["images_evaluated"]) == ("validation", 30, 20)
    names = ("test_cost", "test_accuracy", "training_cost", "training_accuracy")
    assert [len(summary[name]) for name in names] == [4] * 4
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    assert [line["training_cost"] for line in lines] == summary["training_cost"]

    same, other = tmp_path / "same.json", tmp_path / "other.json"
    same.write_text(json.dumps([summary[name] for name in names]))
    other.write_text(json.dumps([summary["test_cost"], [a + (i == 2) for i, a in enumerate(summary["test_accuracy"])], [], []]))
    common = ("--monitor", "validation", "--samples", 30)
    assert nielsen(folder, tmp_path / "again", *common, "--compare", same) == 0
    assert nielsen(folder, tmp_path / "differs", *common, "--compare", other) == 1
    assert "test_accuracy: " in (said := capsys.readouterr().out)
    assert "is published for epoch 2" in said
    page = (tmp_path / "differs" / "report.html").read_text()
    assert "first difference, epoch 2" in page or "First difference. test_accuracy" in page
    assert nielsen(folder, tmp_path / "seldom", *common, "--every", 2, "--compare", same) == 0
    # the same program later: other nets, another order
    assert nielsen(folder, tmp_path / "later", *common, "--earlier", "1xall", "--compare", same) == 1


def test_data_and_options_that_do_not_fit(folder, tmp_path, capsys):
    for more, said in (
        (("--sizes", 784, 5), "784 pixels first and 10 digits last"),
        (("--samples", 41), "at most the 40 training images, got 41"),
        (("--earlier", "1x50"), "at most the 40 training images, got 50"),
        (("--compare", tmp_path / "none.json"), "cannot be read"),
        (("--data-dir", tmp_path / "none"), "looked in"),
    ):
        assert nielsen(folder, tmp_path / "run", *more) == 2
        assert said in capsys.readouterr().err


# --- the studies


def test_the_neuron_learns_as_published():
    found = neuron.study()
    assert len(found.numbers) == 4
    assert all(number.holds for number in found.numbers)
    slow, _ = (found.summary["outputs"][f"quadratic, {start}"] for start in ("w = 2, b = 2", "w = 0.6, b = 0.9"))
    assert slow[0] - slow[150] < 0.05 < slow[0] - slow[300]


def test_studies_without_data(tmp_path, capsys):
    assert main(["nielsen-studies", "--epochs", "3", "--out", str(tmp_path / "studies")]) == 0
    summary = json.loads((tmp_path / "studies" / "summary.json").read_text())
    assert [len(rows) for rows in summary["depth"]["learning"].values()] == [4, 4, 4]
    assert all(number["holds"] for number in summary["numbers"])
    assert "1,000 digits of 8 × 8 pixels" in (tmp_path / "studies" / "report.html").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["nielsen-studies", "--only", "sizes"])
    assert "needs MNIST" in capsys.readouterr().err


def test_errors_by_depth_are_the_gradients_of_the_biases():
    plan = depth.Plan((6, 5, 5, 10))
    rng = np.random.RandomState(0)
    images = depth.as_data(data.Set(rng.rand(20, 6), np.eye(10)[rng.randint(0, 10, 20)], np.zeros(20, np.int32)))
    layers = recipe.Script(3, 1).net(plan.sizes, large=False)
    a = [np.asarray(images.x)]
    for layer in layers:
        a.append(1 / (1 + np.exp(-(a[-1] @ layer.w.T + layer.b))))
    last = a[3] - np.asarray(images.y)
    second = last @ layers[2].w * a[2] * (1 - a[2])
    first = second @ layers[1].w * a[1] * (1 - a[1])
    expected = [np.linalg.norm(delta.mean(axis=0)) for delta in (first, second)]
    np.testing.assert_allclose(depth.drawn(plan, (3,), images)[0], expected, rtol=1e-12)
    np.testing.assert_allclose(depth.norms(plan, depth.as_params(plan, layers), images, 1)[0], expected, rtol=1e-12)


def test_rules_replayed_on_a_curve():
    curve = [1, 5, 3, 4, 6, 2, 2, 2, 9]
    assert learning.replay(patience(3, "test_accuracy"), curve, "test_accuracy") == (6, 4, 7)
    assert learning.replay(patience(9, "test_accuracy"), curve, "test_accuracy") == (9, 8, None)


def test_the_rate_is_halved_where_the_curve_stands(folder, monkeypatch):
    monkeypatch.setattr(learning, "BASE", learning.Nielsen(sizes=(784, 5, 10), samples=30, weight_decay=0.1))
    sets = data.load(folder)
    found = learning.scheduled(sets, halve_on_plateau(2, "validation_accuracy", least=1 / 4), 50)
    assert len(found.cuts) == 2
    assert found.cuts[-1] == len(found.accuracy) - 1
    assert found.eta[0] == 0.5
    assert found.eta[found.cuts[0] + 1] == 0.25


def test_the_curve_and_its_early_stops_are_published(data_dir):
    curve = json.loads((data_dir / "nielsen_fig" / "regularized.json").read_text())[1]
    for n, stopped in learning.PATIENCE.items():
        assert learning.replay(patience(n, "test_accuracy"), curve, "test_accuracy") == stopped
