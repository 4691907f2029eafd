"""The data sets of the runner, above all its IDX reader: files made here, byte by byte."""

import gzip
import struct

import numpy as np
import pytest

from experiments import datasets
from experiments.config import UsageError


def idx(array: np.ndarray, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Five training and three test images of 28 x 28, as raw IDX files."""
    draw = np.random.default_rng(0)
    for stem, n in (("train", 5), ("t10k", 3)):
        images = draw.integers(0, 256, (n, 28, 28), np.uint8)
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(idx(np.arange(n, dtype=np.uint8)))
    return tmp_path


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
def test_idx_holds_every_type_and_shape(code, dtype):
    for shape in [(3,), (2, 3), (2, 1, 4), (0, 5)]:
        array = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
        read = datasets.parse_idx(idx(array, code))
        assert read.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read, array)


def test_mnist_reads_raw_and_gzip_alike(folder):
    raw = datasets.mnist(folder)
    for path in sorted(folder.iterdir()):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    zipped = datasets.mnist(folder)
    for one, other in zip(raw, zipped, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert raw.train.images.shape == (5, 784)
    assert raw.train.images.dtype == np.float32
    assert 0 <= raw.train.images.min() <= raw.train.images.max() <= 1
    assert raw.test.labels.tolist() == [0, 1, 2]
    assert raw.test.shape == (28, 28)


def test_a_gzip_file_without_its_suffix_is_read(folder):
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert datasets.mnist(folder).test.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], r"truncated: \[3, 28, 28\] values make 2368 bytes, the file has 2367"),
        (lambda content: content[:9], "truncated in its header: 3 axes need 16 bytes, the file has 9"),
        (lambda content: content + b"\0", "longer than its header says"),
        (lambda content: b"\x89PNG" + content[4:], "no IDX file: expected a magic number 00 00 TYPE AXES, got 89 50 4e 47"),
        (lambda content: b"\0\0\x07\x03" + content[4:], "no IDX file.*got 00 00 07 03"),
        (lambda content: b"", "no IDX file.*got nothing"),
        (lambda content: gzip.compress(content)[:-9], "damaged or truncated gzip file"),
        (lambda content: gzip.compress(content)[:30] + b"\xff" * 40, "damaged or truncated gzip file"),
    ],
)
def test_damaged_files_are_named(folder, damage, message):
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=message) as raised:
        datasets.mnist(folder)
    assert path.name in str(raised.value)


def test_a_missing_file_says_where_it_looked_and_how_to_get_it(folder):
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UsageError, match=r"no file train-labels-idx1-ubyte; looked for .*ubyte\.gz.*four IDX files.*--data-dir"):
        datasets.mnist(folder)


def test_images_and_labels_have_to_pair_up(folder):
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(UsageError, match="5 train images but 4 labels"):
        datasets.mnist(folder)
    labels.write_bytes(idx(np.full(5, 10, np.uint8)))
    with pytest.raises(UsageError, match="labels go from 0 to 9, found 10"):
        datasets.mnist(folder)
    labels.write_bytes((folder / "train-images-idx3-ubyte").read_bytes())
    with pytest.raises(UsageError, match="images have 3 axes and labels 3; expected 3 and 1"):
        datasets.mnist(folder)


def test_digits():
    data = datasets.digits()
    assert data.images.shape == (1797, 64)
    assert (data.images.dtype, data.labels.dtype) == (np.float32, np.int32)
    assert (data.images.min(), data.images.max()) == (0, 1)
    assert set(data.labels.tolist()) == set(range(10))
    assert len(data.first(100)) == 100
    assert data.first(None) is not None
    assert len(data.first(None)) == 1797


def test_the_real_mnist(data_dir):
    data = datasets.mnist(data_dir / "mnist")
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.isclose(data.train.images.mean(), 0.1307, atol=1e-4)
