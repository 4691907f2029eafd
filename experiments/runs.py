"""Run folders: what a run leaves behind, written so that no file is ever seen half-written."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.config import UsageError


class RunFolder:
    """config.json, metrics.jsonl, summary.json and report.html of one run."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._metrics: list[str] = []

    @classmethod
    def create(cls, name: str, out: pathlib.Path | None) -> RunFolder:
        """A fresh folder: `out`, which must be new or empty, else runs/<name>-<time>."""
        path = _unused(pathlib.Path("runs") / f"{name}-{_now():%Y%m%d-%H%M%S}") if out is None else out
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {path}: cannot make this folder: {error.strerror or error}") from error
        if any(path.iterdir()):
            raise UsageError(
                f"--out {path}: this folder is not empty, and a run overwrites nothing; name a new folder or empty it"
            )
        folder = cls(path)
        folder.log([])  # metrics.jsonl is there from the first moment
        return folder

    def write(self, name: str, text: str) -> pathlib.Path:
        """Write one file in one piece: whoever reads it sees all of it or none."""
        path = self.path / name
        draft = self.path / f".{name}.part"
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
        return path

    def write_json(self, name: str, value: Any) -> pathlib.Path:
        return self.write(name, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")

    def log(self, lines: Iterable[dict[str, Any]]) -> None:
        """Add lines to metrics.jsonl."""
        self._metrics += [json.dumps(plain(line), allow_nan=False) for line in lines]
        self.write("metrics.jsonl", "".join(line + "\n" for line in self._metrics))


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
    import jax

    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def environment() -> dict[str, str]:
    """The versions and the device that a result depends on."""
    import jax

    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "optax", "numpy")}
    device = jax.devices()[0]
    return {"python": platform.python_version(), **versions, "device": f"{device.platform} ({device.device_kind})"}


def _unused(path: pathlib.Path) -> pathlib.Path:
    """`path`, or path-2, path-3, ... where runs started in the same second."""
    candidates = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 1000))
    return next(candidate for candidate in candidates if not candidate.exists())


def _now() -> datetime.datetime:
    return datetime.datetime.now()
