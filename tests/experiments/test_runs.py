"""Run folders: nothing overwritten, nothing half-written, JSON that any reader takes."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import runs, stored
from experiments.config import Digits, UsageError
from jaxbp.training.folder import FolderError


def test_a_named_folder_is_made_or_taken_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "a" / "b", tmp_path / "empty"):
        with runs.opened("digits", Digits(out=path)) as folder:
            assert sorted(p.name for p in folder.path.iterdir()) == [".lock", "config.json", "metrics.jsonl"]


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UsageError, match="not empty, and a run overwrites nothing"), runs.opened("digits", Digits(out=tmp_path)):
        pass
    with pytest.raises(UsageError, match="holds something, but no run"), runs.opened("digits", Digits(resume=tmp_path)):
        pass
    with pytest.raises(FolderError, match="cannot be written to"), runs.opened("digits", Digits(out=tmp_path / "notes.txt")):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_runs_of_the_same_second_get_their_own_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    second = stored.now()
    monkeypatch.setattr(stored, "now", lambda: second)
    paths = []
    for _ in range(2):
        with runs.opened("digits", Digits()) as folder:
            paths.append(folder.path)
    assert len(set(paths)) == 2
    assert {path.parent for path in paths} == {pathlib.Path("runs")}
    assert paths[0].name.startswith("digits-")


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
