"""Programs compiled briefly: the same values, on any jaxlib."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import compilation


def lowered():
    return jax.jit(lambda x: jnp.tanh(x @ x) + jax.nn.gelu(x)).lower(jnp.zeros((5, 5)))


def test_the_values_are_those_of_jit():
    x = np.random.default_rng(0).normal(size=(5, 5))
    chex.assert_trees_all_close(compilation.compile_briefly(lowered())(x), lowered().compile()(x), rtol=1e-14)


def test_the_options_are_known_to_this_jaxlib():
    if jax.default_backend() == "cpu":
        lowered().compile(compiler_options=compilation.CPU_OPTIONS)


def test_an_option_that_jaxlib_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compilation, "CPU_OPTIONS", {"xla_no_such_option": True})
    assert compilation.compile_briefly(lowered())(np.ones((5, 5))).shape == (5, 5)
