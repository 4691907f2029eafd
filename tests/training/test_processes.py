"""What processes do together: two of them, and one alone, which asks nobody."""

import socket
import subprocess
import sys

import chex
import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxbp.training import processes


# sys.argv: address, number. Prints what each saw, to be compared.
TWO = """
import sys
import jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]), coordinator_bind_address=sys.argv[1])
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxbp.training import processes

mesh = Mesh(np.array(jax.devices()), ("trials",))
keys = jax.random.split(jax.random.key(0), 4)
tree = {"a": np.arange(8.0).reshape(4, 2), "keys": keys, "minus": -np.zeros(4, np.float32)}
split = processes.placed(tree, mesh, PartitionSpec("trials"))
assert len(split["a"].addressable_shards) == 1 and split["a"].addressable_data(0).shape == (2, 2)
back = processes.fetched({name: split[name] for name in ("a", "minus")}, mesh)
np.testing.assert_array_equal(back["a"], tree["a"])
assert np.signbit(back["minus"]).all()
drawn = processes.fetched(jax.jit(jax.vmap(jax.random.bits))(split["keys"]), mesh)
np.testing.assert_array_equal(drawn, jax.vmap(jax.random.bits)(keys))
sent = processes.from_first(bytes(range(256)) if processes.leads() else b"what others give does not count")
assert sent == bytes(range(256))
assert processes.from_first(b"") == b""
assert processes.largest([3, 15][jax.process_index()]) == 15
print("led" if processes.leads() else "followed", "to the end")
"""


def test_two_processes():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, address, str(i)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for i in (0, 1)
    ]
    for said, run in zip(("led to the end", "followed to the end"), runs, strict=True):
        printed = run.communicate(timeout=120)[0]
        assert run.returncode == 0, printed
        assert said in printed


def test_one_process_alone():
    tree = {"a": np.arange(4.0)}
    assert processes.leads()
    assert processes.placed(tree, None, PartitionSpec()) is tree
    mesh = Mesh(np.array(jax.devices()[:1]), ("trials",))
    chex.assert_trees_all_equal(processes.fetched(processes.placed(tree, mesh, PartitionSpec("trials")), mesh), tree)
    assert processes.from_first(b"mine") == b"mine"
    assert processes.largest(7) == 7
