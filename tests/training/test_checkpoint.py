"""Checkpoints: what is not whole or not of this run is refused by name, and nothing that goes wrong loses the last good one."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbp.training import checkpoint
from jaxbp.training.checkpoint import CheckpointError, load_last, numbers, save


THERE = {"state": {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.int32(5)}}
FACTS = {"options": {"rate": 0.1, "sizes": [3, 4]}, "data": "abc", "seed": None}


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pair(*numbers: int) -> list[str]:
    return sorted(f"checkpoint-{n:06d}.{end}" for n in numbers for end in ("json", "safetensors"))


# --- what is refused


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({**FACTS, "options": {"rate": 0.2, "sizes": [3, 4]}}, r"options\.rate: 0\.1 there, 0\.2 now"),
        ({**FACTS, "options": {"rate": 0.1, "sizes": [3, 4, 5]}}, r"options\.sizes\[2\]: nothing there, 5 now"),
        ({k: v for k, v in FACTS.items() if k != "seed"}, "seed: null there, nothing now"),
        ({**FACTS, "data": "abd"}, 'data: "abc" there, "abd" now'),
        (None, "of another run"),
    ],
)
def test_another_run_is_refused(tmp_path, facts, message):
    path = save(tmp_path, THERE, facts=FACTS)
    assert load_last(tmp_path, THERE, facts=json.loads(json.dumps(FACTS))) is not None
    with pytest.raises(CheckpointError, match=message) as refused:
        load_last(tmp_path, THERE, facts=facts)
    assert str(path) in str(refused.value)


def test_facts_compare_as_json(tmp_path):
    facts = {"sizes": (3, 4), 5: float("nan"), "rate": 1e-400}
    save(tmp_path, THERE, facts=facts)
    assert load_last(tmp_path, THERE, facts=facts) is not None
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(tmp_path, THERE, facts={"key": object()})
    assert files(tmp_path) == pair(1)


def test_a_newer_format_is_refused(tmp_path):
    path = save(tmp_path, THERE)
    page = json.loads(path.read_text())
    path.write_text(json.dumps({**page, "format": checkpoint.FORMAT + 1, "content": "of another kind"}))
    with pytest.raises(CheckpointError, match=r"checkpoint-000001\.json: format 2, this jaxbp reads up to 1"):
        load_last(tmp_path, THERE)


def test_none_is_none(tmp_path):
    assert load_last(tmp_path, THERE) is None
    assert load_last(tmp_path / "missing", THERE) is None
    (tmp_path / "checkpoint-000004.safetensors").write_bytes(b"without its JSON")
    (tmp_path / "checkpoint-000005.json.tmp").write_bytes(b"")
    assert load_last(tmp_path, THERE) is None
    with pytest.raises(CheckpointError, match="cannot be read: Not a directory"):
        load_last(tmp_path / "checkpoint-000005.json.tmp", THERE)


# --- damage


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder of two checkpoints, and the files of the second."""
    folder = tmp_path_factory.mktemp("two")
    save(folder, THERE, facts=FACTS, notes=1)
    path = save(folder, THERE, facts=FACTS, notes=2)
    return folder, [path, path.with_suffix(".safetensors")]


@contextlib.contextmanager
def written(path, data: bytes | None):
    whole = path.read_bytes()
    path.unlink() if data is None else path.write_bytes(data)
    yield
    path.write_bytes(whole)


def version_in(data: bytes) -> int:
    try:
        version = json.loads(data)["format"]
    except (ValueError, KeyError):
        return 0
    return version if isinstance(version, int) else 0


@given(st.integers(0, 1), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_changed_byte_is_refused(two, which, where, change):
    folder, paths = two
    data = bytearray(paths[which].read_bytes())
    place = int(where * len(data))
    data[place] ^= change
    with written(paths[which], bytes(data)), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        version = version_in(bytes(data)) if which == 0 else 1
        if version > 1:  # its one digit changed to a greater one
            with pytest.raises(CheckpointError, match=f"format {version}, this jaxbp reads up to 1"):
                load_last(folder, THERE, facts=FACTS)
            return
        back = load_last(folder, THERE, facts=FACTS)
    if back.notes == 2:  # white space, which means nothing
        assert which == 0
        assert json.loads(data) == json.loads(paths[0].read_bytes())
        assert not seen
    else:
        assert paths[which].name in str(seen[0].message) or paths[0].name in str(seen[0].message)
        assert "altered" in str(seen[0].message)
    np.testing.assert_array_equal(back.trees["state"]["w"], THERE["state"]["w"])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("share", "why"), [(None, "missing"), (0.0, "cut short"), (0.5, "cut short"), (0.99, "cut short")])
def test_a_truncated_or_missing_file_is_passed_over(two, which, share, why):
    folder, paths = two
    data = paths[which].read_bytes()
    with written(paths[which], None if share is None else data[: int(share * len(data))]):
        if which == 0 and share is None:  # without its JSON there is no checkpoint
            assert load_last(folder, THERE, facts=FACTS).notes == 1
            return
        with pytest.warns(RuntimeWarning, match=rf"{paths[which].name}: {why}.*; this checkpoint is passed over"):
            assert load_last(folder, THERE, facts=FACTS).notes == 1


def test_after_damage_the_next_save_is_the_newest(two, tmp_path):
    shutil.copytree(two[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / two[1][1].name).write_bytes(b"damaged")
    save(tmp_path, THERE, facts=FACTS, notes=3)
    assert load_last(tmp_path, THERE, facts=FACTS).notes == 3


# --- keeping, and what goes wrong while writing


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_last_ones_are_kept(tmp_path, keep):
    (tmp_path / "results.json").write_text("ours")
    for i in range(1, 5):
        for number in range(i + 2):  # what killed processes may leave
            (tmp_path / f"checkpoint-{number:06d}.json.tmp").write_text("")
        save(tmp_path, THERE, notes=i, keep=keep)
        assert numbers(tmp_path) == list(range(max(1, i - keep + 1), i + 1))
    assert files(tmp_path) == [*pair(*numbers(tmp_path)), "results.json"]
    with pytest.raises(ValueError, match="keep has to be positive"):
        save(tmp_path, THERE, keep=0)


def test_old_ones_go_after_the_new_one_is_synced(tmp_path, monkeypatch):
    save(tmp_path, THERE, keep=1)
    log = []
    real = {name: getattr(os, name) for name in ("replace", "fsync")}
    monkeypatch.setattr(os, "replace", lambda a, b: (real["replace"](a, b), log.append(("replace", os.path.basename(b)))))
    monkeypatch.setattr(os, "fsync", lambda file: (real["fsync"](file), log.append(("fsync", files(tmp_path)))))
    save(tmp_path, THERE, keep=1)
    new = pair(2)
    assert [what for what, _ in log] == ["fsync", "fsync", "replace", "replace", "fsync"]
    assert [name for what, name in log if what == "replace"] == new[::-1]
    assert log[-1][1] == pair(1, 2)
    assert files(tmp_path) == new


@contextlib.contextmanager
def no_room(size: int):
    """No file can grow beyond `size` bytes: the kernel refuses the rest of a write, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("large", ["arrays", "facts"])
def test_a_full_disk(tmp_path, large):
    save(tmp_path, THERE, notes=1)
    trees = {"state": np.zeros(5000)} if large == "arrays" else THERE
    facts = {"text": "x" * 20000} if large == "facts" else None
    with no_room(10000), pytest.raises(CheckpointError, match=r"checkpoint-000002\.json: cannot be written: File too large; "):
        save(tmp_path, trees, facts=facts)
    assert files(tmp_path) == pair(1)
    assert load_last(tmp_path, THERE).notes == 1


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails(tmp_path, monkeypatch, failing):
    save(tmp_path, THERE, notes=1, keep=1)
    real, calls = os.replace, []

    def replace(a, b):
        calls.append(b)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        real(a, b)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(CheckpointError, match="No space left on device; the checkpoints before it are kept"):
        save(tmp_path, THERE, keep=1)
    assert not [name for name in files(tmp_path) if name.endswith("tmp")]
    assert load_last(tmp_path, THERE).notes == 1
    save(tmp_path, THERE, keep=1)
    assert files(tmp_path) == pair(2)


def test_a_read_only_folder():
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:  # a folder that every user may enter
        folder = checkpoint.pathlib.Path(name) / "run"
        save(folder, THERE, notes=1)
        os.chmod(name, 0o755)
        os.chmod(folder, 0o555)
        stack.callback(os.chmod, folder, 0o755)
        if os.geteuid() == 0:  # whom no mode stops
            os.seteuid(65534)
            stack.callback(os.seteuid, 0)
        with pytest.raises(CheckpointError, match=r"checkpoint-000002\.json: cannot be written: Permission denied"):
            save(folder, THERE)
        assert files(folder) == pair(1)
        assert load_last(folder, THERE).notes == 1


KILLED = """
import os, pathlib, sys, warnings
import numpy as np
from jaxbp.training.checkpoint import load_last, numbers, save

warnings.simplefilter("ignore")  # JAX's, of forks: none of its threads run here
tree, root = {"w": np.arange(6.0)}, pathlib.Path(sys.argv[1])
for point in ("rename", "commit"):
    folder = root / point
    child = os.fork()
    if child == 0:
        os.environ["JAXBP_FAULT"] = f"checkpoint:{point}:3"
        for i in range(1, 9):
            save(folder, tree, notes=i)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    left = sorted(path.name for path in folder.iterdir())
    assert "checkpoint-000003.json.tmp" in left, left
    assert ("checkpoint-000003.safetensors" in left) == (point == "commit"), left
    assert load_last(folder, tree).notes == 2
    save(folder, tree, notes=3)
    assert load_last(folder, tree).notes == 3
    ends = ("json", "safetensors")
    assert sorted(os.listdir(folder)) == [f"checkpoint-00000{n}.{end}" for n in (2, 3) for end in ends]
print("done")
"""


def test_a_process_killed_while_it_saves(tmp_path):
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "done"), ran.stderr
