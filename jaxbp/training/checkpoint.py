"""Checkpoints: named pytrees of arrays with JSON facts, each written whole or not at all.

    checkpoint-000003.safetensors   the arrays
    checkpoint-000003.json          facts, notes, the names and dtypes of the arrays, checksums

The pair is written beside its place, synced, then renamed, the JSON last: without it there is no checkpoint. The number
counts the checkpoints of the folder. Needs the extra `checkpoint`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import signal
import warnings
from typing import Any, NamedTuple

from jaxbp import inputs
from jaxbp.training.folder import FolderError
from jaxbp.training.packing import json_bytes, pack, unpack


FORMAT = 1  # of the pair of files; what is newer is refused
FILE = re.compile(r"checkpoint-(\d{6,})\.(safetensors|json)(\.tmp)?")


class CheckpointError(FolderError):
    """A checkpoint that cannot be written, or must not be used; the message names the file and says why."""


class Checkpoint(NamedTuple):
    """What was saved: trees by name, the notes, and the JSON file that it came from."""

    trees: dict[str, Any]
    notes: Any
    path: pathlib.Path


class _Damaged(Exception):
    """Why a file is not what was written."""


# --- saving


def save(
    folder: str | os.PathLike, trees: dict[str, Any], *, facts: Any = None, notes: Any = None, keep: int = 2
) -> pathlib.Path:
    """Write the next checkpoint of the folder, then remove all but the last `keep`. Returns the path of its JSON file.

    trees: pytrees by name, of arrays of numbers in any dtype, PRNG keys among them. facts: JSON that says which run this is
    (options, versions, a digest of the data); `load_last` compares it. notes: JSON that says how far the run is.

    Raises: CheckpointError where the files cannot be written; the checkpoints before stay, and nothing half-written does.
    """
    inputs.require_positive("save", "keep", keep)
    folder = pathlib.Path(folder)
    blob, leaves = pack(trees)
    content = _plain({"facts": facts, "notes": notes, "leaves": leaves, "bytes": len(blob), "sha256": _sha256(blob)})
    page = {"format": FORMAT, "sha256": _sha256(json_bytes(content)), "content": content}
    number = max(numbers(folder), default=0) + 1
    path = folder / f"checkpoint-{number:06d}.json"
    tensors = path.with_suffix(".safetensors")
    new, new_tensors = (p.with_name(f"{p.name}.tmp") for p in (path, tensors))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(new_tensors, blob)
        _write(new, json.dumps(page, indent=1).encode())
        _fault("rename", number)
        os.replace(new_tensors, tensors)
        _fault("commit", number)
        os.replace(new, path)
        _sync(folder)
    except BaseException as error:
        _remove([new_tensors, new])
        if isinstance(error, OSError):
            why = f"{path}: cannot be written: {error.strerror or error}; the checkpoints before it are kept"
            raise CheckpointError(why) from error
        raise
    _prune(folder, keep)
    return path


def numbers(folder: str | os.PathLike) -> list[int]:
    """The numbers of the checkpoints in a folder, good or not, in rising order."""
    try:
        found = [FILE.fullmatch(name) for name in os.listdir(folder)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read: {error.strerror or error}") from error
    return sorted(int(match[1]) for match in found if match and match[2] == "json" and not match[3])


def _write(path: pathlib.Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: pathlib.Path) -> None:
    """Make the renames last; Windows neither can nor needs to."""
    if os.name != "nt":
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _fault(point: str, number: int) -> None:
    # For tests: JAXBP_FAULT=checkpoint:rename:3 kills checkpoint 3 between write and renames, "checkpoint:commit:3" between those
    if os.environ.get("JAXBP_FAULT") == f"checkpoint:{point}:{number}":
        os.kill(os.getpid(), signal.SIGKILL)


def _prune(folder: pathlib.Path, keep: int) -> None:
    """Remove all but the last checkpoints, and what killed processes left half-written."""
    kept = numbers(folder)[-keep:]
    found = ((path, FILE.fullmatch(path.name)) for path in sorted(folder.iterdir()))  # the JSON of a pair goes first
    old = [path for path, match in found if match and (match[3] or int(match[1]) not in kept)]
    stay = _remove(old)
    if stay:
        warnings.warn(f"{stay[0]}: this old checkpoint cannot be removed", RuntimeWarning, stacklevel=3)


def _remove(paths: list[pathlib.Path]) -> list[pathlib.Path]:
    """Remove files that may be there; returns those that cannot be removed."""
    stay = []
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            stay.append(path)
    return stay


# --- loading


def load_last(folder: str | os.PathLike, template: dict[str, Any], *, facts: Any = None) -> Checkpoint | None:
    """The newest good checkpoint of the folder, None where there is none.

    A checkpoint that is cut short or altered is passed over with a RuntimeWarning that names it and says why.

    template: trees by name with the paths, shapes and dtypes that are wanted. Leaves are arrays or `jax.ShapeDtypeStruct`s;
    a length of None fits any. NumPy arrays come back where the template has NumPy arrays, elsewhere JAX arrays, placed as
    those of the template are.

    Raises: CheckpointError for a checkpoint of another run (its facts differ), for another template, of a newer format, or
    one that cannot be read.
    """
    for number in reversed(numbers(folder)):
        path = pathlib.Path(folder) / f"checkpoint-{number:06d}.json"
        try:
            content, blob = _read(path)
        except _Damaged as why:
            warnings.warn(f"{why}; this checkpoint is passed over", RuntimeWarning, stacklevel=2)
            continue
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
        difference = _first_difference(content["facts"], _plain(facts))
        if difference:
            raise CheckpointError(f"{path}: of another run: {difference}; use the options of that run, or another folder")
        try:
            trees = unpack(blob, content["leaves"], template)
        except ValueError as why:
            raise CheckpointError(f"{path}: {why}") from why
        return Checkpoint(trees, content["notes"], path)
    return None


def _read(path: pathlib.Path) -> tuple[dict, bytes]:
    """(the content of the JSON file, the tensor file), both as they were written."""
    try:
        page = json.loads(path.read_bytes())
        version, sha256, content = page["format"], page["sha256"], page["content"]
    except (ValueError, KeyError, TypeError) as error:
        raise _Damaged(f"{path}: cut short or altered: not the JSON that was written") from error
    if isinstance(version, int) and version > FORMAT:
        raise CheckpointError(
            f"{path}: format {version}, this jaxbp reads up to {FORMAT}; use the jaxbp that wrote it, or a newer one"
        )
    if version != FORMAT or _sha256(json_bytes(content)) != sha256:
        raise _Damaged(f"{path}: altered: its content does not have its SHA-256")
    tensors = path.with_suffix(".safetensors")
    try:
        blob = tensors.read_bytes()
    except FileNotFoundError as error:
        raise _Damaged(f"{tensors}: missing") from error
    if len(blob) != content["bytes"]:
        raise _Damaged(f"{tensors}: cut short or altered: {len(blob)} bytes, {content['bytes']} were written")
    if _sha256(blob) != content["sha256"]:
        raise _Damaged(f"{tensors}: altered: it does not have the SHA-256 in {path.name}")
    return content, blob


# --- facts


def _plain(value: Any) -> Any:
    """A value as JSON gives it back; TypeError for what JSON cannot hold."""
    return json.loads(json.dumps(value))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _first_difference(there: Any, here: Any) -> str | None:
    """The first fact that differs, in words."""
    a, b = _flat(there), _flat(here)
    for path in [*b, *a]:
        if a.get(path) != b.get(path):
            return f"{path or 'facts'}: {a.get(path, 'nothing')} there, {b.get(path, 'nothing')} now"
    return None


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """Each plain value of nested JSON by its path, as text, in which NaN equals NaN."""
    if isinstance(value, dict) and value:
        inside = {f"{path}.{key}".lstrip("."): v for key, v in value.items()}
    elif isinstance(value, list) and value:
        inside = {f"{path}[{i}]": v for i, v in enumerate(value)}
    else:
        return {path: json.dumps(value)}
    return {name: text for place, v in inside.items() for name, text in _flat(v, place).items()}
