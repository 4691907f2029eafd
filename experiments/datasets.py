"""Data sets as NumPy arrays. `images` are rows of pixels in [0, 1], float32; `labels` are int32."""

from __future__ import annotations

import gzip
import math
import pathlib
import struct
import zlib
from typing import NamedTuple

import numpy as np

from experiments.config import UsageError


class Images(NamedTuple):
    images: np.ndarray  # (n, height * width) float32 in [0, 1]
    labels: np.ndarray  # (n,) int32
    shape: tuple[int, int]  # height and width of one image

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, rows: np.ndarray | slice) -> Images:
        return Images(self.images[rows], self.labels[rows], self.shape)

    def first(self, n: int | None) -> Images:
        """The first n images, all of them for None."""
        return self.rows(slice(n))


class Mnist(NamedTuple):
    train: Images
    test: Images


def digits() -> Images:
    """1,797 handwritten digits of 8 x 8 pixels (UCI), shipped with scikit-learn. Pixels are 0..16 there, [0, 1] here."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels, labels = np.asarray(bunch.data), np.asarray(bunch.target)  # type: ignore[union-attr]
    return Images((pixels / 16).astype(np.float32), labels.astype(np.int32), (8, 8))


def mnist(folder: pathlib.Path) -> Mnist:
    """MNIST from the four standard IDX files in `folder`, or in mnist/ there, each gzip or raw.

    Raises: UsageError for a missing, truncated or foreign file, or where images and labels do not pair up.
    """
    folder = folder / "mnist" if (folder / "mnist").is_dir() else folder
    return Mnist(train=_pair(folder, "train"), test=_pair(folder, "t10k"))


def _pair(folder: pathlib.Path, stem: str) -> Images:
    paths = [_find(folder, f"{stem}-{what}") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    images, labels = (read_idx(path) for path in paths)
    if images.ndim != 3 or labels.ndim != 1:
        raise UsageError(f"{folder}: {stem} images have {images.ndim} axes and labels {labels.ndim}; expected 3 and 1")
    if len(images) != len(labels) or len(images) == 0:
        raise UsageError(f"{folder}: {len(images)} {stem} images but {len(labels)} labels; expected as many, at least one")
    if labels.max() > 9:
        raise UsageError(f"{paths[1]}: labels go from 0 to 9, found {labels.max()}")
    pixels = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return Images(pixels, labels.astype(np.int32), images.shape[1:])


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
    looked = [folder / f"{name}.gz", folder / name, folder / name.replace("-idx", ".idx")]
    for path in looked:
        if path.is_file():
            return path
    raise UsageError(
        f"MNIST: no file {name}; looked for {', '.join(map(str, looked))}. The data is the four IDX files of the MNIST database "
        "(train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k- ones), gzip or raw; put them into one folder "
        "and name it by --data-dir"
    )


# --- the IDX format: two zero bytes, a type code, the number of axes, the axes as big-endian uint32, then the values

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: pathlib.Path) -> np.ndarray:
    """The array of one IDX file, gzip or raw (told apart by content, not by name).

    Raises: UsageError for a file that is no IDX file, is truncated, or goes on after its values.
    """
    return parse_idx(_content(path), str(path))


def parse_idx(content: bytes, name: str = "IDX data") -> np.ndarray:
    """The array that the bytes of an IDX file hold; `name` stands in messages."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise UsageError(f"{name}: no IDX file: expected a magic number 00 00 TYPE AXES, got {content[:4].hex(' ') or 'nothing'}")
    dtype, axes = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise UsageError(f"{name}: truncated in its header: {axes} axes need {start} bytes, the file has {len(content)}")
    shape = struct.unpack(f">{axes}I", content[4:start])
    size = start + dtype.itemsize * math.prod(shape)
    if len(content) != size:
        problem = "truncated" if len(content) < size else "longer than its header says"
        raise UsageError(f"{name}: {problem}: {list(shape)} values make {size} bytes, the file has {len(content)}")
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def _content(path: pathlib.Path) -> bytes:
    raw = path.read_bytes()
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: damaged or truncated gzip file ({error}); fetch it again") from error
