"""Run folders: nothing overwritten, nothing half-written, JSON that any reader takes."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runs
from experiments.config import UsageError


def test_a_named_folder_is_made_or_taken_empty(tmp_path):
    assert runs.RunFolder.create("digits", tmp_path / "a" / "b").path.is_dir()
    (tmp_path / "empty").mkdir()
    assert runs.RunFolder.create("digits", tmp_path / "empty").path == tmp_path / "empty"


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UsageError, match="not empty, and a run overwrites nothing"):
        runs.RunFolder.create("digits", tmp_path)
    with pytest.raises(UsageError, match="cannot make this folder"):
        runs.RunFolder.create("digits", tmp_path / "summary.json")


def test_runs_of_the_same_second_get_their_own_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    second = runs._now()
    monkeypatch.setattr(runs, "_now", lambda: second)
    first, other = (runs.RunFolder.create("digits", None).path for _ in range(2))
    assert first != other
    assert {first.parent, other.parent} == {pathlib.Path("runs")}
    assert first.name.startswith("digits-")


def test_files_are_replaced_in_one_piece(tmp_path):
    folder = runs.RunFolder(tmp_path)
    folder.log([{"epoch": 1, "loss": 0.5}])
    folder.log([{"epoch": 2, "loss": np.float32(0.25)}])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_json_holds_arrays_paths_and_what_is_not_finite(tmp_path):
    value = {"a": jnp.ones(2), "b": np.float64("nan"), "c": (float("inf"), 2), "d": pathlib.Path("x"), "e": None, "f": True}
    runs.RunFolder(tmp_path).write_json("summary.json", value)
    expected = {"a": [1.0, 1.0], "b": None, "c": [None, 2], "d": "x", "e": None, "f": True}
    assert json.loads((tmp_path / "summary.json").read_text()) == expected


def test_sha256_tells_params_apart():
    params = {"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}
    same = {"b": np.zeros(2, params["b"].dtype), "w": np.ones((2, 2), params["w"].dtype)}
    assert runs.sha256(params) == runs.sha256(same)
    others = [
        {**params, "w": params["w"].at[0, 0].add(1e-7)},
        {**params, "w": params["w"].reshape(4)},
        {**params, "w": params["w"].astype(jnp.bfloat16)},
        {"v": params["w"], "b": params["b"]},
    ]
    assert len({runs.sha256(tree) for tree in [params, *others]}) == 5
