"""Trees of arrays through a file: what is saved comes back to the last bit, or not at all where it does not fit."""

from __future__ import annotations

import sys
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np
import pytest

from jaxbp.training.checkpoint import CheckpointError, load_last, save
from jaxbp.training.packing import NAMED, digest


class Pair(NamedTuple):
    w: object
    b: object


DTYPES = [*sorted(NAMED), "complex64", "complex128", "float8_e4m3fn", "int4"]


def array(dtype: str, *shape: int) -> np.ndarray:
    assert ml_dtypes  # which gives NumPy the names of bfloat16 and others
    return (np.arange(np.prod(shape, dtype=int)) % 5 - 2).reshape(shape).astype(dtype)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 0, 3)], ids=str)
def test_every_dtype_and_shape(tmp_path, shape):
    trees = {"state": {dtype: array(dtype, *shape) for dtype in DTYPES}}
    path = save(tmp_path, trees, notes={"epochs": 3})
    back = load_last(tmp_path, trees)
    assert back.path == path
    assert back.notes == {"epochs": 3}
    for dtype, values in trees["state"].items():
        got = back.trees["state"][dtype]
        assert type(got) is np.ndarray
        assert (got.dtype, got.shape, got.tobytes()) == (values.dtype, values.shape, values.tobytes())
        got[...] = 0  # its own memory


def test_special_values_and_strides(tmp_path):
    special = np.array([np.nan, -np.nan, np.inf, -0.0, 5e-324]).view(np.uint64) + np.arange(5, dtype=np.uint64)
    trees = {"a": Pair(special.view(np.float64), np.arange(24).reshape(4, 6)[::2, ::-3].T), "b": None, "c": ()}
    save(tmp_path, trees)
    back = load_last(tmp_path, trees)
    assert isinstance(back.trees["a"], Pair)
    assert back.trees["b"] is None
    assert back.trees["c"] == ()
    assert back.trees["a"].w.tobytes() == trees["a"].w.tobytes()
    np.testing.assert_array_equal(back.trees["a"].b, trees["a"].b)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_go_on_as_before(tmp_path, impl):
    key = jax.random.key(7, impl=impl)
    legacy = jax.random.key_data(key)
    trees = {"state": {"one": key, "many": jax.random.split(key, 3), "none": jax.random.split(key, 3)[:0], "legacy": legacy}}
    save(tmp_path, trees)
    back = load_last(tmp_path, jax.eval_shape(lambda: trees)).trees["state"]
    for name, value in trees["state"].items():
        assert isinstance(back[name], jax.Array)
        assert (back[name].dtype, back[name].shape) == (value.dtype, value.shape)
    words = [jax.random.key_data(tree["many"][2]) for tree in (trees["state"], back)]
    np.testing.assert_array_equal(*words)
    np.testing.assert_array_equal(*(jax.random.bits(tree["one"], 4) for tree in (trees["state"], back)))


def test_jax_arrays_are_placed_as_in_the_template_and_may_be_donated(tmp_path):
    values = array("float32", 1024)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), "trials")
    template = {"w": jax.device_put(values, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("trials")))}
    save(tmp_path, template)
    w = load_last(tmp_path, template).trees["w"]
    assert w.sharding == template["w"].sharding
    assert not w.weak_type
    double = jax.jit(lambda w: 2 * w, donate_argnums=0)
    np.testing.assert_array_equal(double(w), 2 * values)
    np.testing.assert_array_equal(load_last(tmp_path, template).trees["w"], values)


def test_a_free_length(tmp_path):
    save(tmp_path, {"history": {"loss": array("float32", 7, 3)}})
    spec = lambda *shape: {"history": {"loss": jax.ShapeDtypeStruct(shape, np.float32)}}
    assert load_last(tmp_path, spec(None, 3)).trees["history"]["loss"].shape == (7, 3)
    with pytest.raises(CheckpointError, match=r"history\['loss'\] is float32\[7, 3\], float32\[None, 4\] was expected"):
        load_last(tmp_path, spec(None, 4))


# --- what does not fit

THERE = {"state": Pair(array("float32", 3, 4), array("int32"))}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"state": Pair(array("float32", 3, 5), THERE["state"].b)}, r"state\.w is float32\[3, 4\], float32\[3, 5\] was expected"),
        ({"state": Pair(array("float32", 12), THERE["state"].b)}, r"state\.w is float32\[3, 4\], float32\[12\] was expected"),
        ({"state": Pair(THERE["state"].w, array("int64"))}, r"state\.b is int32\[\], int64\[\] was expected"),
        ({"state": Pair(THERE["state"].w, jax.random.key(0))}, r"state\.b is int32\[\], key<fry>\[\] was expected"),
        ({"state": [array("float32", 3, 4)]}, r"state\[0\] is absent, float32\[3, 4\] was expected"),
        ({"state": Pair(THERE["state"].w, None)}, r"state\.b is there, but was not expected"),
        ({"other": THERE["state"]}, r"other\.w is absent"),
    ],
)
def test_another_template_is_refused(tmp_path, template, message):
    path = save(tmp_path, THERE)
    with pytest.raises(CheckpointError, match=message) as refused:
        load_last(tmp_path, template)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("leaf", ["text", np.array([None]), np.zeros(1, "f4,i4"), np.zeros(1, "M8[s]")], ids=str)
def test_only_numbers_are_arrays(tmp_path, leaf):
    with pytest.raises(TypeError, match=r"state\[1\]: an array of numbers was expected"):
        save(tmp_path, {"state": (1.0, leaf)})
    assert not list(tmp_path.iterdir())


def test_names_that_meet(tmp_path):
    with pytest.raises(ValueError, match=r"two leaves are called a\.w"):
        save(tmp_path, {"a": Pair(1.0, None), "a.w": 2.0})


def test_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxbp\[checkpoint\]'"):
        save(tmp_path, THERE)


def test_digest_tells_data_apart():
    data = (array("float32", 4, 2), array("int32", 4))
    others = [
        (data[0] + 1, data[1]),
        (data[0].reshape(2, 4), data[1]),
        (data[0], data[1].astype("int64")),
        (data[0], data[1][:3]),
        [*data, data[1]],
    ]
    assert digest(data) == digest(tuple(map(jax.device_put, data)))
    assert len({digest(tree) for tree in [data, *others]}) == 6
