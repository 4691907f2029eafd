"""find_nonfinite: the right line for every planted fault, and what it costs."""

import inspect
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graph import faults

from jaxbp.graph import find_nonfinite


def marked(fault):
    """'faults.py:12' of the line that ends in `# fault`."""
    source, first = inspect.getsourcelines(faults.SOURCES.get(fault.fun, fault.fun))
    (line,) = (first + i for i, text in enumerate(source) if text.rstrip().endswith("# fault"))
    return f"faults.py:{line}"


@pytest.mark.parametrize("name", faults.TABLE)
def test_the_line_of_every_planted_fault(name):
    planted = faults.TABLE[name]
    x = jnp.asarray(planted.x, jnp.float32)
    found = find_nonfinite(planted.fun)(x)
    if planted.forward is None:
        assert found.forward is None
    for fault, primitive in ((found.forward, planted.forward), (found.backward, planted.backward)):
        if primitive is None:
            continue
        assert fault.primitive == primitive
        assert pathlib.Path(fault.place).name == marked(planted)
        assert fault.turns == planted.turns
        labels = [label.partition(" at ")[0] for label in fault.path]
        assert all(any(label.startswith(part) for label in labels) for part in planted.within), fault.path
        assert not np.isfinite(fault.value)
        assert fault.operands
        assert pathlib.Path(fault.place).name in str(fault)


def test_a_pass_without_a_fault():
    found = find_nonfinite(lambda x: jnp.sum(jnp.sin(x)))(jnp.ones(3))
    assert not found
    assert found.forward is None
    assert found.backward is None
    assert "every value is finite" in str(found)


def test_what_is_masked_does_not_reach_the_output():
    found = find_nonfinite(faults.where_branch)(jnp.asarray(faults.ZERO, jnp.float32))
    assert not found.forward.reaches
    assert found.backward.reaches
    assert found.backward.index == (1,)
    assert [operand.entry for operand in found.backward.operands] == [0.0, 0.0]  # 0 / 0: the cotangent, log's operand
    assert found.forward.value == -np.inf


def test_a_mask_of_minus_infinity_is_meant():
    def masked(x):
        z = jnp.where(x > 1.0, x, jnp.full_like(x, -jnp.inf))
        e = jnp.exp(z - jnp.max(z))
        return jnp.sum(e / jnp.sum(e) * x)

    assert not find_nonfinite(masked)(jnp.asarray(faults.ZERO))


def test_sums_of_adjoints_overflow():
    def twice(x):
        y = x * 1e-30
        return jnp.sum(y * 1e38 + y * 3e38)

    fault = find_nonfinite(twice)(jnp.ones(2, jnp.float32)).backward
    assert fault.value == np.inf
    assert [operand.name for operand in fault.operands] == ["adjoint so far", "adjoint sent to operand 0"]


def test_an_argument_that_is_not_finite():
    fault = find_nonfinite(lambda params: jnp.sum(params["w"]))({"w": jnp.asarray([1.0, jnp.nan])}).forward
    assert fault.primitive == "argument params['w']"
    assert fault.index == (1,)


def test_inside_a_function_of_jax_the_line_that_called_it():
    def loss(x):
        y = jnp.std(x[:1])
        return y * 2.0

    source, first = inspect.getsourcelines(loss)
    (line,) = (first + i for i, text in enumerate(source) if "jnp.std" in text)
    fault = find_nonfinite(loss)(jnp.ones(3)).backward
    assert fault.primitive == "sqrt"
    assert pathlib.Path(fault.place).name == f"test_nonfinite.py:{line}"


def thousand(x):
    for _ in range(250):
        x = jnp.tanh(x * 1.01) + jnp.sin(x)
    return jnp.sum(x)


@pytest.mark.slow
def test_cost_on_a_thousand_equations():
    """At most 20 eager gradients; measured at 0.3 to 0.6."""
    x = jnp.linspace(0.0, 1.0, 32)
    assert len(jax.make_jaxpr(thousand)(x).eqns) >= 1000
    gradient, found = jax.grad(thousand), find_nonfinite(thousand)
    jax.block_until_ready(gradient(x))
    found(x)
    ratios = []
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(gradient(x))
        middle = time.perf_counter()
        found(x)
        ratios.append((time.perf_counter() - middle) / (middle - start))
    assert min(ratios) <= 20
