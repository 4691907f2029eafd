"""What the processes of one run do together: place and fetch arrays, hand bytes on from the first, agree on when to end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def leads() -> bool:
    """Whether this is the process that writes and speaks."""
    return jax.process_index() == 0


def placed(tree: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    """Arrays, the same in every process, on the devices of the mesh; as they are where there is none.

    They go by way of the host: cutting an array of one device in shares for others compiles a program for every shape.
    """
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda a: _global(a, sharding), tree)


def _global(array: Any, sharding: NamedSharding) -> jax.Array:
    if hasattr(array, "dtype") and jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_global(jax.random.key_data(array), sharding), impl=jax.random.key_impl(array))
    local = np.asarray(array)
    return jax.make_array_from_callback(local.shape, sharding, lambda index: local[index])


def fetched(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays as NumPy's, whole in every process."""
    if mesh is None or not mesh.is_multi_process:
        return jax.tree.map(np.asarray, tree)
    return jax.tree.map(lambda a: np.asarray(a.addressable_data(0)), _everywhere(mesh)(tree))


@functools.cache
def _everywhere(mesh: Mesh) -> Callable:
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))


def from_first(data: bytes) -> bytes:
    """The bytes of process 0, to all; what the others give does not count."""
    if jax.process_count() == 1:
        return data
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    sent = np.frombuffer(data, np.uint8) if leads() else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(sent)).tobytes()


def largest(number: int) -> int:
    """The largest of the numbers that the processes give."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))
