"""The published runs: the beginning of each file, what a comparison says, and what it refuses."""

import json

import numpy as np
import pytest

from experiments import cli
from experiments.config import UsageError
from experiments.config.nielsen import Nielsen
from experiments.nielsen import compare, data, recipe
from experiments.nielsen.program import HISTORY


def nielsen(*arguments):
    return cli.main(["nielsen", *map(str, arguments)])


SMALL = ("--samples", 1000, "--weight-decay", 0.1)


@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
def test_the_first_epochs_of_the_small_run(data_dir, tmp_path, gradient, capsys):
    """regularized.json, 20 of its 400 epochs: no accuracy differs, costs to 1e-9."""
    published = data_dir / "nielsen_fig" / "regularized.json"
    given = ("--data-dir", data_dir, "--epochs", 20, "--gradient", gradient, "--compare", published)
    assert nielsen(*SMALL, *given, "--out", tmp_path / "run") == 0
    assert "Beside regularized.json" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for name, values in zip(HISTORY, json.loads(published.read_text()), strict=True):
        np.testing.assert_allclose(summary[name], values[:20], rtol=0, atol=0 if name.endswith("accuracy") else 1e-9)
    assert summary["test_accuracy"][:5] == [5898, 6512, 6986, 7289, 7455]
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_the_first_difference_is_told(data_dir, tmp_path, capsys):
    curves = json.loads((data_dir / "nielsen_fig" / "regularized.json").read_text())
    curves[1][1] += 1
    altered = tmp_path / "altered.json"
    altered.write_text(json.dumps(curves))
    assert nielsen(*SMALL, "--data-dir", data_dir, "--epochs", 2, "--compare", altered, "--out", tmp_path / "run") == 1
    assert "test_accuracy: 6513.0 is published for epoch 1, 6512.0 came" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("regularized", (*SMALL, "--epochs", 400)), ("regularized_full", ("--weight-decay", 5, "--epochs", 30))],
)
def test_whole_files(data_dir, tmp_path, name, options, gradient):
    published = data_dir / "nielsen_fig" / f"{name}.json"
    given = ("--data-dir", data_dir, "--gradient", gradient, "--compare", published, "--out", tmp_path / "run")
    assert nielsen(*options, *given) == 0


def test_the_shuffle_of_python_2():
    """for i in n-1..1: j = int(random() (i + 1)); swap."""
    uniforms = np.random.RandomState([7]).random_sample(9)
    rows, wanted = list(range(10)), list(range(10))
    recipe.shuffle(rows, uniforms)
    for i, u in zip(range(9, 0, -1), uniforms, strict=True):
        j = int(u * (i + 1))
        wanted[i], wanted[j] = wanted[j], wanted[i]
    assert rows == wanted
    assert sorted(rows) == list(range(10))


def test_a_large_net_is_the_second_that_is_drawn():
    _, layers = recipe.began(3, 20, (4, 3, 2), large=True)
    normals = np.random.RandomState(3)
    normals.randn(3 + 2 + 12 + 6)  # the default one, thrown away
    np.testing.assert_array_equal(layers[0].b, normals.randn(3, 1)[:, 0])
    np.testing.assert_array_equal(layers[1].b, normals.randn(2, 1)[:, 0])
    np.testing.assert_array_equal(layers[0].w, normals.randn(3, 4))


def test_a_slice_leaves_the_list_as_it_was_and_the_list_goes_on():
    script = recipe.Script(1, 12)
    next(script.epochs(5))
    np.testing.assert_array_equal(script.order, np.arange(12))
    first = next(script.epochs(None))
    np.testing.assert_array_equal(script.order, first)


def test_without_data_it_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXBP_DATA", raising=False)
    with pytest.raises(UsageError, match=r"JAXBP_DATA is not set.*MNIST database"):
        data.load(None)
    with pytest.raises(UsageError, match=r"no MNIST there; looked in .*mnist and .*MNIST database"):
        data.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2", "cannot be read"),
        ("{}", "four lists"),
        ("[[1], [2], [3]]", "choose one of"),
        ('[[1], ["a"], [], []]', "choose one of"),
    ],
)
def test_files_that_are_no_published_ones(tmp_path, text, said):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        compare.read(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": (784,)}, "two sizes or more"),
        ({"epochs": 0}, "1 or more"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"weight_decay": -1.0}, "0 or a number above"),
        ({"earlier": ("thirty",)}, "EPOCHSxIMAGES"),
        ({"part": "3"}, "--compare"),
    ],
)
def test_options_that_cannot_be_used(options, said):
    with pytest.raises(UsageError, match=said):
        Nielsen(**options)
