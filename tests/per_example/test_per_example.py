"""Per-example quantities of our nets against `vmap(grad)` of the same mathematics, for every layer."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute import flat
from cases import LAYERS

from jaxbp import inputs, losses
from jaxbp import per_example as pe
from jaxbp.per_example import reducing


KEY = jax.random.key(0)
LOSS = losses.quadratic()
WEIGHTS = np.array([1.0, 2.0, 0.0, 0.5, 1.0])


def draw(case, dtype=jnp.float64, batch=5):
    rng = np.random.default_rng(0)
    spec = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype) if inputs.is_floating(s) else s, inputs.as_spec(case.spec))
    params, out = jax.eval_shape(lambda: _init(case.at(dtype), spec))
    # NumPy draws: it compiles nothing. An embedding gives NaN for ids that are no row: none here
    x = jax.tree.map(
        lambda s: (rng.normal(size=(batch, *s.shape)) if inputs.is_floating(s) else rng.integers(0, 5, (batch, *s.shape))).astype(
            s.dtype
        ),
        spec,
    )
    param = lambda p: (rng.normal(size=p.shape) if len(p.shape) > 1 else rng.uniform(0.5, 1.5, p.shape)).astype(p.dtype)
    targets = rng.normal(size=(batch, *out.shape)).astype(out.dtype)
    return jax.tree.map(param, params), x, targets


def _init(layer, spec):
    params, out = layer.init(KEY, spec)
    return params, jnp.zeros(out.shape, out.dtype)


def has_examples(case):
    spec = inputs.as_spec(case.spec)
    return not case.layer.traits & {"mixes", "key"} and bool(
        jax.tree.leaves(jax.eval_shape(lambda: case.layer.init(KEY, spec)[0]))
    )


CASES = [case for case in LAYERS if has_examples(case)]


def loss_of_one(net, loss, params, x, target, weight):
    """w_b l_b of one example, summed over time, by the forward alone."""
    one = lambda a: jax.tree.map(lambda leaf: leaf[None], a)
    return weight * jnp.sum(loss.forward(net.forward(params, one(x), train=True)[0], one(target))[0])


def by_reducers(net, loss, params, x, targets, weights, v):
    """What the doors put together, from one pass."""
    losses, factors = pe.losses_and_factors(net, loss)(params, x, targets, sample_weight=weights)
    norms = jnp.sqrt(reducing.sq_norms(factors))
    steps = per_example_steps(net, loss, params, x, targets)
    scaled = lambda c: reducing.scaled_total(params, factors, c)
    even = jnp.full(len(weights), 1 / np.sum(WEIGHTS != 0), weights.dtype)
    moment = jax.tree.map(lambda q: q * even[0], reducing.second_moment(factors))
    return {
        "value, grads, norms": (losses, scaled(jnp.full(len(weights), 1 / (WEIGHTS.sum() * steps), weights.dtype)), norms),
        "clipped": scaled(reducing.clip_coefficients(norms, 0.7)),
        "examples": reducing.examples(params, factors),
        "gram": reducing.gram(factors),
        "dot": reducing.dot(factors, v),
        "second moment": (scaled(even), moment),
        "added": pe.add_to(params, factors, -0.1),
    }


def by_doors(net, loss, params, x, targets, weights, v):
    ask = lambda make, *args, **options: make(net, loss, *args, **options)(params, x, targets, sample_weight=weights)
    part = jax.tree.map(lambda a: a[:2], (x, targets))
    return {
        "value, grads, norms": ask(pe.value_grads_and_norms),
        "clipped": ask(pe.clipped_sum, 0.7)[1],
        "examples": ask(pe.per_example_grads)[1],
        "examples in chunks": ask(pe.per_example_grads, chunk=2)[1],
        "gram": ask(pe.gram),
        "gram of two": pe.gram(net, loss)(params, x, targets, others=part, sample_weight=weights),
        "dot": pe.dot(net, loss)(params, x, targets, v, sample_weight=weights),
        "second moment": ask(pe.second_moment)[1:],
        "variance": ask(pe.variance)[2],
        "noise scale": ask(pe.noise_scale)[:2],
    }


def by_brute_force(net, loss, params, x, targets, weights, v):
    one = functools.partial(loss_of_one, net, loss)
    grad = jax.vmap(jax.value_and_grad(one), (None, 0, 0, 0))
    per_example, g = grad(params, x, targets, weights)
    _, h = grad(params, *jax.tree.map(lambda a: a[:2], (x, targets)), jnp.ones(2))
    a, present, n = flat(g), weights != 0, jnp.sum(weights != 0)
    norms = jnp.linalg.norm(a, axis=1)
    c = jnp.minimum(1, 0.7 / jnp.where(norms == 0, 1, norms))
    steps = per_example_steps(net, loss, params, x, targets)
    each = lambda fun: jax.tree.map(fun, g)
    mean = each(lambda g: jnp.sum(g, 0) / n)
    spread = jax.tree.map(lambda g, m: jnp.tensordot(present.astype(g.dtype), (g - m[None]) ** 2, 1) / (n - 1), g, mean)
    noise = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(spread))
    return {
        "value, grads, norms": (per_example, each(lambda g: jnp.sum(g, 0) / (jnp.sum(weights) * steps)), norms),
        "clipped": each(lambda g: jnp.tensordot(c, g, 1)),
        "examples": g,
        "examples in chunks": g,
        "gram": a @ a.T,
        "gram of two": a @ flat(h).T,
        "dot": a @ jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(v)]),
        "second moment": (mean, each(lambda g: jnp.sum(g**2, 0) / n)),
        "variance": spread,
        "noise scale": (noise, sum(jnp.sum(m**2) for m in jax.tree.leaves(mean)) - noise / n),
        "added": jax.tree.map(lambda p, g: p - 0.1 * jnp.sum(g, 0), params, g),
    }


def per_example_steps(net, loss, params, x, targets):
    """How many losses one example has."""
    shape = jax.eval_shape(lambda p, x, t: loss.forward(net.forward(p, x, train=True)[0], t)[0], params, x, targets).shape
    return int(np.prod(shape[1:]))


def assert_each_close(got, want, tolerance):
    for name in got:
        leaves = zip(jax.tree.leaves(got[name]), jax.tree.leaves(want[name]), strict=True)
        scale = max(float(np.max(np.abs(w))) for w in jax.tree.leaves(want[name]))
        for i, (g, w) in enumerate(leaves):
            assert g.shape == w.shape, (name, i)
            error = float(np.max(np.abs(np.asarray(g, np.float64) - np.asarray(w))))
            assert error <= tolerance * max(scale, 1e-30), f"{name}, leaf {i}: {error:.1e} at scale {scale:.1e}"


def compare(by, case, dtype, tolerance):
    data = draw(case, dtype)
    v = jax.tree.map(lambda p: np.cos(np.arange(p.size)).reshape(p.shape).astype(p.dtype), data[0])
    wide = jax.tree.map(lambda a: a.astype(np.float64) if a.dtype == np.float32 else a, (*data, v))
    ask = lambda by, data, v: by(case.layer, LOSS, *data, jnp.asarray(WEIGHTS, data[2].dtype), v)
    run = jax.jit(lambda data, v, wide: (ask(by, data, v), ask(by_brute_force, wide[:3], wide[3])))
    got, want = run(data, v, wide)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
    assert_each_close(got, want, tolerance)


@pytest.mark.slow  # the factors of every layer are held to brute force in tests/test_layers.py too
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_every_layer_equals_brute_force(case):
    compare(by_reducers, case, jnp.float64, 1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-10), (jnp.float32, 1e-5)], ids=["float64", "float32"])
@pytest.mark.parametrize("case", [CASES[2], CASES[-1]], ids=lambda case: case.id)
def test_every_door_equals_brute_force(case, dtype, tolerance):
    compare(by_doors, case, dtype, tolerance)
