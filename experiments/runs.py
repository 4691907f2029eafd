"""Run folders: what a run leaves behind, written so that no file is ever seen half-written."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from experiments.config import PLACES, Options, Study, UsageError, of_run
from experiments.stored import CONFIG, folder, with_folder
from jaxbp.training.folder import LOCK, FolderError, locked
from jaxbp.training.packing import digest


METRICS, CHECKPOINTS = "metrics.jsonl", "checkpoints"


class RunFolder:
    """config.json, metrics.jsonl, summary.json, report.html and checkpoints/ of one run."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def write(self, name: str, text: str) -> pathlib.Path:
        """Write one file in one piece: whoever reads it sees all of it or none."""
        path = self.path / name
        draft = self.path / f".{name}.part"
        with self._told(path):
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, path)
        return path

    def write_json(self, name: str, value: Any) -> pathlib.Path:
        return self.write(name, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")

    def log(self, lines: Iterable[dict[str, Any]]) -> None:
        """Add lines to metrics.jsonl, whole lines at once."""
        path = self.path / METRICS
        with self._told(path), open(path, "ab", buffering=0) as file:
            file.write(_json_lines(lines).encode())

    def log_anew(self, lines: Iterable[dict[str, Any]]) -> None:
        """Begin metrics.jsonl again, with these lines."""
        self.write(METRICS, _json_lines(lines))

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / CHECKPOINTS

    @contextlib.contextmanager
    def _told(self, path: pathlib.Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"{path}: cannot be written: {error.strerror or error}; the checkpoints stay, and --resume goes on with them"
            raise FolderError(why) from error


@contextlib.contextmanager
def opened(name: str, options: Options | Study) -> Iterator[RunFolder]:
    """The folder of the run, held for the length of the block: a fresh one, or with `resume` one that a run left.

    Raises: UsageError for a folder that holds something else, FolderError where another process is in it or it cannot be
    written to.
    """
    path, resume = folder(with_folder(name, options)), options.resume is not None
    _require_free(path, resume)
    with locked(path):
        _require_free(path, resume)  # another run may have been quicker
        found = RunFolder(path)
        if not (path / CONFIG).exists():
            found.write_json(CONFIG, {"experiment": name, **_absolute(of_run(options))})
        if not (path / METRICS).exists():
            found.log_anew([])  # there from the first moment
        yield found


def _absolute(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value.absolute() if isinstance(value, pathlib.Path) else value for name, value in values.items()}


def _require_free(path: pathlib.Path, resume: bool) -> None:
    there = {p.name for p in path.iterdir()} - {LOCK} if path.is_dir() else set()
    if there and not resume:
        raise UsageError(f"--out {path}: this folder is not empty, and a run overwrites nothing; name a new folder or empty it")
    if there and not there & {CONFIG, CHECKPOINTS}:
        raise UsageError(f"--resume {path}: this folder holds something, but no run; name the folder of a run")


def facts(options: Options, data: Any, **more: Any) -> dict[str, Any]:
    """What tells this run from others: options, data, versions, device. A checkpoint of other facts is refused."""
    chosen = {name: value for name, value in of_run(options).items() if name not in PLACES}
    return {"options": chosen, **more, "data": digest(data), "environment": environment()}


def _json_lines(lines: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(plain(line), allow_nan=False) + "\n" for line in lines)


def plain(value: Any) -> Any:
    """Nested dicts and lists of what JSON knows; NaN and infinity, which it does not, become None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist") and not isinstance(value, (int, float)):  # NumPy and JAX arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def sha256(params: Any) -> str:
    """The SHA-256 of a pytree of arrays: paths, dtypes, shapes and values."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def environment() -> dict[str, str]:
    """The versions and the device that a result depends on."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "optax", "numpy")}
    device = jax.devices()[0]
    return {"python": platform.python_version(), **versions, "device": f"{device.platform} ({device.device_kind})"}
