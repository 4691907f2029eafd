"""`norms_of` on models of Equinox, Flax and Haiku, where they are installed: which factors are read, and equality."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp import factors as F
from jaxbp import per_example as pe


KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(6, 12)).astype("float32"), RNG.integers(0, 3, 6)
TOKENS = RNG.integers(0, 11, (6, 5)), VECTORS[1]


def cross_entropy(logits, label):
    return -jax.nn.log_softmax(logits)[label]


def equinox():
    eqx = pytest.importorskip("equinox")
    params, static = eqx.partition(eqx.nn.MLP(12, 3, 16, 2, key=KEY), eqx.is_inexact_array)
    return lambda p, e: cross_entropy(eqx.combine(p, static)(e[0]), e[1]), params, VECTORS, [F.Outer, F.Each] * 3


def haiku():
    hk = pytest.importorskip("haiku")
    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([16, 3])(x)))
    return lambda p, e: cross_entropy(model.apply(p, e[0]), e[1]), model.init(KEY, VECTORS[0][0]), VECTORS, [F.Each, F.Outer] * 2


def linen():
    nn = pytest.importorskip("flax.linen")
    model = nn.Sequential([nn.Embed(11, 16), nn.LayerNorm(), nn.SelfAttention(num_heads=2), nn.Dense(3)])
    params = model.init(KEY, TOKENS[0][0])
    read = {F.Rows: 1, pe.View: 4, F.Each: 8}  # 5 biases, gain and bias of the norm, and the small last weight
    return lambda p, e: cross_entropy(jnp.mean(model.apply(p, e[0]), 0), e[1]), params, TOKENS, read


def nnx():
    flax = pytest.importorskip("flax.nnx")
    model = flax.Sequential(flax.Linear(12, 16, rngs=flax.Rngs(0)), jax.nn.relu, flax.Linear(16, 3, rngs=flax.Rngs(1)))
    graph, params, rest = flax.split(model, flax.Param, ...)
    loss = lambda p, e: cross_entropy(flax.merge(graph, p, rest)(e[0]), e[1])
    return loss, params, VECTORS, [F.Each, F.Outer] * 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("framework", [equinox, haiku, linen, nnx], ids=lambda f: f.__name__)
def test_norms_of(framework):
    loss, params, batch, read = framework()

    @jax.jit
    def both(params, batch):
        return (
            pe.factors_of(loss)(params, batch)[1],
            pe.norms_of(loss)(params, batch),
            jax.vmap(jax.grad(loss), (None, 0))(params, batch),
        )

    factors, (_, grads, norms), g = both(params, batch)
    types = [type(leaf) for leaf in jax.tree.leaves(factors, is_leaf=F.is_factor)]
    assert (types if isinstance(read, list) else {kind: types.count(kind) for kind in types}) == read
    flat = np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(g)], axis=1)
    np.testing.assert_allclose(norms, np.linalg.norm(flat, axis=1), rtol=1e-5)
    largest = np.abs(flat).max()  # of all leaves: the gradient of a key's bias is rounding, the softmax does not see it
    for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(g), strict=True):
        np.testing.assert_allclose(got, np.mean(want, 0), atol=1e-5 * largest)
