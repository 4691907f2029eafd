"""Four ways to run the folds give the same numbers; the devices share them."""

import subprocess
import sys
import textwrap

import chex
import jax
import numpy as np
import optax
import pytest

import jaxbp as bp
from jaxbp.validation import cross_validate
from jaxbp.validation.execution import EXECUTIONS


KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(22, 3)), RNG.integers(0, 2, 22)
run = lambda **options: cross_validate(
    bp.dense(2), bp.losses.softmax_cross_entropy(), optax.adam(0.05), X, Y, folds=5, key=KEY, epochs=3, batch_size=17, **options
)


def test_every_execution_gives_the_same_numbers():
    plain = run(execution="vmap")
    for execution in set(EXECUTIONS) - {"vmap"}:
        other = run(execution=execution)
        for part in ("scores", "histories", "predictions", "params", "epochs"):
            chex.assert_trees_all_close(getattr(other, part), getattr(plain, part), rtol=1e-9, atol=1e-12)


def test_an_unknown_execution_is_refused():
    with pytest.raises(ValueError, match="execution is 'sharded' or 'vmap'"):
        run(execution="pmap")


TWO_DEVICES = """
    import jax
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_x64", True)
    import numpy as np
    import optax
    import jaxbp as bp

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 3)), rng.integers(0, 2, 23)
    net, loss, optimizer = bp.mlp([3, 4, 2], hidden=bp.tanh()), bp.losses.softmax_cross_entropy(), optax.adam(0.05)
    run = lambda execution: bp.cross_validate(
        net, loss, optimizer, x, y, folds=5, key=jax.random.key(1), epochs=7, batch_size=4, execution=execution, chunk=3,
        stop=bp.training.patience(2), stop_on="fold",
    )
    one, two, mapped = run("vmap"), run(None), run("map")
    assert len(jax.devices()) == 2
    for other in (two, mapped):
        assert other.predictions.shape == one.predictions.shape
        np.testing.assert_array_equal(other.epochs, one.epochs)
        np.testing.assert_allclose(other.predictions, one.predictions, rtol=1e-9)
        np.testing.assert_allclose(other.histories["loss"], one.histories["loss"], rtol=1e-9)
    print("the same", one.epochs.tolist())
"""


def test_two_devices_share_five_folds():
    """In a process of its own: the number of devices is fixed at the start. Five folds are padded to six."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(TWO_DEVICES)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("the same"), done.stderr[-2000:]
