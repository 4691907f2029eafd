"""The uses of per-example quantities, from end to end on few digits: what they find, and what they refuse."""

import json

import jax
import pytest

from experiments import cli


SMALL = ("--train-size", 300, "--hidden", 16, "--seeds", 1)


def use(name, out, *arguments):
    assert cli.main([name, *map(str, (*SMALL, *arguments)), "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "nan" not in page.lower().replace("finance", "").split("<style>")[0]
    return json.loads((out / "summary.json").read_text()), page


def test_hard_examples(tmp_path, capsys):
    _, page = use("hard-examples", tmp_path / "run", "--epochs", 3, "--shown", 4)
    assert page.count(">norm ") >= 8  # under each of four hardest and four easiest images
    assert "hardest" in capsys.readouterr().out


def test_label_noise_finds_more_than_chance(tmp_path, capsys):
    use("label-noise", tmp_path / "run", "--epochs", 12, "--checkpoints", 3)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = {row[0]: float(row[1]) for row in rows if row[:1] in (["loss"], ["self-influence"], ["Gram"]) and row[1][:2] == "0."}
    assert set(found) == {"loss", "self-influence", "Gram"}
    assert min(found.values()) > 0.15  # chance is 0.05


def test_noise_scale(tmp_path, capsys):
    use("noise-scale", tmp_path / "run", "--steps", 20, "--batch-sizes", 16, 64, "--most-steps", 100, "--target", 1.5)
    assert "Steps to loss 1.5" in capsys.readouterr().out


def test_dp_sgd(tmp_path, capsys):
    with jax.enable_x64(False):  # as users have it
        use("dp-sgd", tmp_path / "run", "--epochs", 2, "--clip-norms", 1, "--noise-multipliers", 0, 1, "--pairs", 1)
    shown = capsys.readouterr().out
    assert "jaxbp clipped_sum" in shown
    assert "vmap(grad)" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("hard-examples", "--epochs", "1"), "--epochs: expected 2 or more"),
        (("label-noise", "--flipped", "0.7"), "--flipped: expected a share above 0 and below 0.5"),
        (("noise-scale", "--batch-sizes", "8"), "--batch-sizes: expected two different ones"),
        (("dp-sgd", "--clip-norms", "0"), "--clip-norms: expected one number or more, above 0"),
        (("dp-sgd", "--train-size", "5"), "--train-size: expected 20 or more"),
    ],
)
def test_options_that_cannot_be_used(arguments, said, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert "".join(said.split()) in "".join((shown.out + shown.err).replace("│", "").split())
