"""Each use from the command line to its report, on few digits; and what cannot be asked for."""

import json
import re

import pytest

from experiments.cli import main
from experiments.uses import batch_sizes, clipping_time


SMALL = ("--train-size", 120, "--hidden", 8, "--seeds", 1)


def use(out, name, *arguments):
    """(summary, page) of a run that ends well."""
    assert main([name, *map(str, (*SMALL, *arguments)), "--out", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert ">nan" not in page
    assert json.loads((out / "config.json").read_text())["experiment"] == name
    return json.loads((out / "summary.json").read_text()), page


def test_hard_examples(tmp_path, capsys):
    summary, page = use(tmp_path / "run", "hard-examples", "--epochs", 3, "--shown", 4)
    norms = summary["norms"]
    assert len(norms) == 120
    assert [norms[i] for i in summary["hardest"]] == sorted(norms, reverse=True)[:100]
    assert (
        len(re.findall(r">norm \d", page)) == 4 + 4 + 8 + 8
    )  # under the hardest, the easiest, and those that norm and loss place apart
    assert "The ten hardest images" in capsys.readouterr().out
    assert "Trained on a part of the images" in page


def test_label_noise(tmp_path, capsys):
    summary, page = use(tmp_path / "run", "label-noise", "--epochs", 10, "--checkpoints", 2, "--flipped", 0.1)
    assert summary["flipped"] == [12]
    assert summary["chance"] == pytest.approx(0.1)
    for when in ("average_precision_along", "average_precision_last"):
        assert min(score[0] for score in summary[when].values()) > 1.5 * summary["chance"]
    assert "12 of 120 digits have a wrong label" in page
    assert "Average precision" in capsys.readouterr().out


def test_noise_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_sizes, "RATES", (0.2, 0.4))
    given = ("--steps", 40, "--batch-sizes", 16, 64, "--target", 1.5, "--batch-size", 16, "--learning-rate", 0.4)
    summary, page = use(tmp_path / "run", "noise-scale", *given)
    assert summary["rates"] == [0.4, 0.1]
    assert set(summary["steps"]) == {"16", "64"}
    assert summary["critical_batch_size"] is not None
    assert "Steps to loss 1.5" in page


def test_a_target_that_no_batch_size_reaches(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch_sizes, "RATES", (0.2, 0.4))
    given = ("--steps", 40, "--batch-sizes", 16, 64, "--target", 1e-5, "--batch-size", 16, "--most-steps", 100)
    assert main(["noise-scale", *map(str, (*SMALL, *given)), "--out", str(tmp_path / "run")]) == 1
    assert "fewer than two batch sizes reached it within --most-steps 100" in capsys.readouterr().err
    assert (tmp_path / "run" / "report.html").exists()


def test_dp_sgd(tmp_path, monkeypatch):
    monkeypatch.setattr(clipping_time, "HIDDEN", (6,))
    given = ("--epochs", 1, "--batch-size", 40, "--clip-norms", 1, "--noise-multipliers", 0, 1, "--pairs", 1)
    summary, page = use(tmp_path / "run", "dp-sgd", *given)
    assert summary["steps"] == 3
    assert {"one gradient", "jaxbp clipped_sum", "vmap(grad)"} <= set(summary["times"])
    assert "gaussian_privatizer(stddev=noise_multiplier * query.sensitivity(), prng_key=key)" in page
    assert "pyright" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("hard-examples", "--epochs", "1"), "--epochs: expected 2 or more"),
        (("hard-examples", "--shown", "0"), "--shown: expected 1 to 100"),
        (("label-noise", "--flipped", "0.7"), "--flipped: expected a share above 0 and below 0.5"),
        (("label-noise", "--epochs", "5", "--checkpoints", "6"), "--checkpoints: expected 1 to 5"),
        (("noise-scale", "--batch-sizes", "8"), "--batch-sizes: expected two different ones"),
        (("noise-scale", "--decay", "1"), "--decay: expected a number from 0 to below 1"),
        (("dp-sgd", "--clip-norms", "0"), "--clip-norms: expected one number or more, above 0"),
        (("dp-sgd", "--delta", "0"), "--delta: expected a number above 0 and below 1"),
        (("dp-sgd", "--train-size", "5"), "--train-size: expected 20 or more"),
        (("dp-sgd", "--seeds", "0"), "--seeds: expected 1 to 100"),
    ],
)
def test_options_that_cannot_be_used(arguments, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert "".join(said.split()) in "".join((shown.out + shown.err).replace("│", "").split())


def test_no_run_folder_where_there_is_no_data(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["label-noise", "--data-dir", str(tmp_path), "--out", str(out)]) == 2
    assert "put them into one folder and name it by --data-dir" in capsys.readouterr().err
    assert not out.exists()
