"""The command `python -m jaxbp.check.mutants`."""

import json

import pytest

from jaxbp.check.mutants.__main__ import main


def test_command(capsys, tmp_path):
    options = ["--seeds", "1", "--dtype", "float64", "--only", "running product", "--tools", "check_grads"]
    assert main([*options, "--json", str(tmp_path / "r.json")]) == 0
    assert "check_grads" in capsys.readouterr().out
    (record,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert record["entry"] == "scans: running product at a zero"
    assert record["tool"] == "check_grads"
    assert record["verdict"] == "fail"
    assert record["seconds"] > 0


def test_ours(capsys):
    assert main(["--seeds", "1", "--dtype", "float64", "--only", "arctan2", "--tools", "ours,check_grads"]) == 0
    assert "first hint: expected 1/1 100.0%" in capsys.readouterr().out


def test_misses_are_listed(capsys):
    main(["--seeds", "1", "--dtype", "float64", "--only", "partial block lost, whole", "--tools", "check_grads"])
    assert "missed bugs\n  scans: partial block lost, whole blocks given\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "no such entry"], "no entry"),
        (["--dtype", "float16"], "float32, float64 were expected"),
        (["--tools", "nothing"], "ours, check_grads, chex were expected"),
        (["--seeds", "0"], "at least 1"),
        (["--json", "no_such_folder/r.json"], "no folder"),
        (["--tests", "no_such_file.py"], "no file"),
    ],
)
def test_unusable_input(options, words, capsys):
    assert main(options) == 3
    assert words in capsys.readouterr().err
