"""Named pytrees of arrays as the bytes of a safetensors file, and back. Needs the extra `checkpoint`."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs, tree


# What safetensors has a name for in every version; other dtypes (float8, int4, complex) are stored as their bytes.
NAMED = {"bool", "bfloat16", *(f"float{n}" for n in (16, 32, 64)), *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64))}


def pack(trees: dict[str, Any]) -> tuple[bytes, list[dict]]:
    """(a safetensors file of all leaves, records of what each one is)."""
    tensors, records = {}, []
    for prefix, of_name in trees.items():
        for name, leaf in zip(tree.paths(of_name, prefix), jax.tree.leaves(of_name), strict=True):
            if name in tensors:
                raise ValueError(f"two leaves are called {name}; name the trees apart")
            values, record = stored(name, leaf)
            tensors[name] = values if values.dtype.name in NAMED else np.frombuffer(values.tobytes(), np.uint8)
            records.append(record)
    return safetensors().numpy.save(tensors), records


def unpack(blob: bytes, records: list[dict], template: dict[str, Any]) -> dict[str, Any]:
    """The trees of a file in the form of the template; ValueError names the first leaf that does not fit."""
    tensors, there = dict(safetensors().deserialize(blob)), {record["name"]: record for record in records}
    trees = {}
    for prefix, of_name in template.items():
        leaves, treedef = jax.tree.flatten(of_name)
        named = zip(tree.paths(of_name, prefix), leaves, strict=True)
        values = [restored(name, tensors.pop(name, None), there.get(name), leaf) for name, leaf in named]
        trees[prefix] = jax.tree.unflatten(treedef, values)
    if tensors:
        raise ValueError(f"{next(name for name in there if name in tensors)} is there, but was not expected")
    return trees


def digest(trees: Any) -> str:
    """The SHA-256 of a pytree of arrays, by paths, dtypes, shapes and values: a fact about data."""
    sha = hashlib.sha256()
    for name, leaf in zip(tree.paths(trees), jax.tree.leaves(trees), strict=True):
        values, record = stored(name, leaf)
        sha.update(json_bytes(record))
        sha.update(values.tobytes())
    return sha.hexdigest()


def json_bytes(value: Any) -> bytes:
    """The one text of a JSON value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def stored(name: str, leaf: Any) -> tuple[np.ndarray, dict]:
    """A leaf as an array in C order (of a key its words), and the record of what it is."""
    record = {"name": name, "dtype": dtype_name(leaf), "shape": list(np.shape(leaf))}
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf), order="C"), record | {"impl": str(jax.random.key_impl(leaf))}
    values = np.asarray(leaf, order="C")
    if values.dtype.kind in "OSUMm" or values.dtype.fields:
        raise TypeError(f"{name}: an array of numbers was expected, got {inputs.describe(leaf)}")
    return values, record


def restored(name: str, tensor: Any, record: dict | None, like: Any) -> Any:
    """The leaf of a template with the values of a tensor."""
    dtype, shape = dtype_name(like), np.shape(like)
    if record is None:
        raise ValueError(f"{name} is absent, {dtype}{list(shape)} was expected")
    same_rank = len(shape) == len(record["shape"])
    if dtype != record["dtype"] or not same_rank or any(n not in (None, m) for n, m in zip(shape, record["shape"], strict=True)):
        raise ValueError(f"{name} is {record['dtype']}{record['shape']}, {dtype}{list(shape)} was expected")
    if "impl" in record:
        words = np.frombuffer(tensor["data"], np.uint32).reshape(tensor["shape"])
        value = jax.random.wrap_key_data(jax.device_put(words.copy()), impl=record["impl"])
    else:
        value = np.frombuffer(tensor["data"], np.dtype(dtype)).reshape(record["shape"]).copy()
        if isinstance(like, np.ndarray | np.generic):
            return value
    return jax.device_put(value, getattr(like, "sharding", None))


def dtype_name(leaf: Any) -> str:
    return (leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype).name


def safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("checkpoints need the package safetensors: pip install 'jaxbp[checkpoint]'") from error
    return safetensors
