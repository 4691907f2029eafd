"""Per-example quantities of one net: clipping, masks, draws, noise scale, a step of an embedding; what is refused."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brute import flat

import jaxbp as bp
from jaxbp import losses, penalties
from jaxbp import per_example as pe


KEY = jax.random.key(0)
LOSS = losses.quadratic()
NET = bp.serial(bp.dense(4), bp.tanh(), bp.skip(bp.serial(bp.dense(4), bp.tanh())), bp.dense(3))
CE = losses.softmax_cross_entropy()


def random_params(net, *spec):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: rng.normal(size=s.shape), jax.eval_shape(lambda: net.init(KEY, spec)[0]))


@functools.cache
def problem(batch=6):
    rng = np.random.default_rng(2)
    return random_params(NET, 5), rng.normal(size=(batch, 5)), rng.integers(0, 3, batch)


def test_grads_are_those_of_value_and_grad():
    data = problem()
    weights = jnp.arange(6.0)
    penalty = penalties.l2(0.1)
    run = jax.jit(lambda p, x, t, w: pe.value_grads_and_norms(NET, CE, penalty=penalty)(p, x, t, sample_weight=w))
    want = jax.jit(lambda p, x, t, w: bp.value_and_grad(NET, CE, penalty=penalty)(p, x, t, sample_weight=w))
    values, grads, norms = run(*data, weights)
    value, wanted = want(*data, weights)
    chex.assert_trees_all_equal(grads, wanted)
    np.testing.assert_allclose(jnp.sum(values) / 15 + penalty(data[0]), value, rtol=1e-13)
    assert values[0] == norms[0] == 0
    # what an example of weight 0 holds reaches nothing, and weights that are all 0 give 0
    spoiled = (data[0], np.where(np.arange(6)[:, None] == 0, np.nan, data[1]), np.where(np.arange(6) == 0, -1, data[2]))
    chex.assert_trees_all_equal(run(*spoiled, weights), (values, grads, norms))
    none = run(data[0], data[1], data[2], jnp.zeros(6))
    assert float(jnp.max(none[2])) == float(jnp.max(jnp.abs(none[0]))) == 0


def test_layers_are_counted_clipped_and_named():
    params, x, labels = problem()
    assert pe.layer_paths(NET, params) == ["params[0]", "params[2][0]", "params[3]"]
    limits = (0.1, 0.2, 5.0)
    run = jax.jit(pe.clipped_sum(NET, CE, list(limits), per_layer=True))
    _, clipped, norms = run(params, x, labels)
    g = jax.jit(pe.per_example_grads(NET, CE))(params, x, labels)[1]
    parts = [flat(g[0]), flat(g[2]), flat(g[3])]
    wanted = np.stack([np.linalg.norm(part, axis=1) for part in parts], axis=1)
    np.testing.assert_allclose(norms, wanted, rtol=1e-12)
    c = np.minimum(1, np.array(limits)[None] / wanted)
    for i, got in enumerate((clipped[0], clipped[2], clipped[3])):
        whole = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(got)])
        np.testing.assert_allclose(whole, c[:, i] @ np.asarray(parts[i]), rtol=1e-12, atol=1e-14)
    flat_norms = jax.jit(pe.value_grads_and_norms(NET, CE, per_layer=True))(params, x, labels)[2]
    np.testing.assert_allclose(flat_norms, wanted, rtol=1e-12)


def test_a_gradient_of_zero_is_clipped_to_zero():
    net = bp.dense(2)
    params, x = random_params(net, 3), np.ones((2, 3))
    _, clipped, norms = jax.jit(lambda p: pe.clipped_sum(net, LOSS, 1.0)(p, x, net(p, x)))(params)
    assert float(jnp.max(norms)) == float(jnp.max(jnp.abs(clipped.w))) == 0


def test_masks_over_time():
    net = bp.dense(3)
    rng = np.random.default_rng(0)
    params = random_params(net, 4, 2)
    x, labels, mask = rng.normal(size=(3, 4, 2)), rng.integers(0, 3, (3, 4)), rng.uniform(size=(3, 4)) < 0.6
    run = jax.jit(lambda p: pe.value_grads_and_norms(net, CE)(p, x, labels, sample_weight=mask))
    values, grads, norms = run(params)
    one = lambda p, x, t, w: jnp.sum(w * CE.forward(net.forward(p, x[None])[0], t[None])[0][0])
    wanted, g = jax.jit(jax.vmap(jax.value_and_grad(one), (None, 0, 0, 0)))(params, x, labels, mask)
    np.testing.assert_allclose(values, wanted, rtol=1e-12)
    np.testing.assert_allclose(norms, jnp.linalg.norm(flat(g), axis=1), rtol=1e-12)
    np.testing.assert_allclose(grads.w, jnp.sum(g.w, 0) / mask.sum(), rtol=1e-12)


def test_examples_keep_their_own_draws_of_dropout():
    net = bp.serial(bp.dense(8), bp.dropout(0.5), bp.dense(3))
    params, x, labels = random_params(net, 5), *problem()[1:]
    of_batch = lambda p, b: CE.forward(net.forward(p, x, train=True, key=KEY)[0], labels)[0][b]

    @jax.jit
    def run(params):
        _, grads, norms = pe.value_grads_and_norms(net, CE)(params, x, labels, key=KEY)
        wanted = bp.value_and_grad(net, CE)(params, x, labels, key=KEY)[1]
        each = [optax.tree.norm(jax.grad(of_batch)(params, b)) for b in (0, 5)]
        return grads, wanted, norms, each

    grads, wanted, norms, each = run(params)
    chex.assert_trees_all_equal(grads, wanted)
    np.testing.assert_allclose(norms[jnp.array([0, 5])], each, rtol=1e-12, atol=1e-14)


def test_input_grads():
    params, x, labels = problem()
    _, x_bar = jax.jit(pe.input_grads(NET, CE))(params, x, labels)
    wanted = jax.jit(jax.grad(lambda x: jnp.sum(CE.forward(NET.forward(params, x)[0], labels)[0])))(x)
    np.testing.assert_allclose(x_bar, wanted, rtol=1e-12, atol=1e-14)


def test_gram_tells_self_influence():
    params, x, labels = problem()
    k = jax.jit(pe.gram(NET, CE))(params, x, labels)
    _, _, norms = jax.jit(pe.value_grads_and_norms(NET, CE))(params, x, labels)
    np.testing.assert_allclose(jnp.diag(k), norms**2, rtol=1e-12)


def test_batch_norm_is_taken_in_evaluation_alone():
    net = bp.serial(bp.dense(3), bp.batch_norm(), bp.dense(3))
    params = random_params(net, 5)
    params[1].population.variance[:] = 2.0
    x, labels = problem()[1:]
    with pytest.raises(ValueError, match="examples of a batch meet"):
        pe.value_grads_and_norms(net, CE)(params, x, labels)

    @jax.jit
    def run(params):
        ask = lambda door: door(params, x, labels, train=False)
        added = pe.add_to(params, ask(pe.losses_and_factors(net, CE))[1], 1.0)
        return ask(pe.clipped_sum(net, CE, 0.1)), ask(pe.per_example_grads(net, CE)), ask(pe.second_moment(net, CE)), added

    (_, clipped, norms), (_, g), (_, _, moment), added = run(params)
    assert g[1].population.mean is None
    np.testing.assert_allclose(norms, jnp.linalg.norm(flat(g), axis=1), rtol=1e-12)
    np.testing.assert_allclose(clipped[0].b, jnp.minimum(1, 0.1 / norms) @ g[0].b, rtol=1e-12, atol=1e-15)
    assert not np.any(clipped[1].population.variance)
    assert not np.any(moment[1].population.mean)
    chex.assert_trees_all_equal(added[1].population, params[1].population)


# --- noise scale


def test_noise_scale_is_unbiased_and_ema_finds_it():
    """Gradients of known mean and variance: noise and signal averaged over many batches hit both; so does the EMA's quotient."""
    net, dim, n = bp.dense(1, bias=False), 3, 8
    params = bp.Dense(np.zeros((dim, 1)), None)
    x = np.random.default_rng(0).normal(size=(600, n, dim)) + np.array([0.5, 0, 0])  # at w = 0, y = -1 the gradient is x
    targets = -np.ones((n, 1))
    ask = jax.jit(jax.vmap(lambda x: pe.noise_scale(net, LOSS)(params, x, targets)))
    noise, signal, _ = ask(x)
    assert abs(noise.mean() - dim) < 5 * noise.std() / 600**0.5
    assert abs(signal.mean() - 0.25) < 5 * signal.std() / 600**0.5
    ema = pe.noise_scale_ema(0.995)

    @jax.jit
    def follow(state, x):
        _, grads, norms = pe.value_grads_and_norms(net, LOSS)(params, x, targets)
        updates, state = ema.update(grads, state, params, norms=norms)
        return state, jnp.array_equal(updates.w, grads.w)

    state, same = jax.lax.scan(follow, ema.init(params), x)
    assert bool(jnp.all(same))
    decays = 0.995 ** np.arange(600)[::-1]
    np.testing.assert_allclose(state.estimate.noise, decays @ noise / decays.sum(), rtol=1e-10)
    np.testing.assert_allclose(state.estimate.scale, (decays @ noise) / (decays @ signal), rtol=1e-9)
    chained = optax.chain(ema, optax.sgd(1.0))
    step, _ = jax.jit(lambda g, n: chained.update(g, chained.init(params), params, norms=n))(
        params._replace(w=x[0, :1].T), x[0, 0]
    )
    np.testing.assert_array_equal(step.w, -x[0, :1].T)


def test_no_signal_gives_an_infinite_scale():
    net = bp.dense(1, bias=False)
    params, x, targets = bp.Dense(np.zeros((1, 1)), None), np.array([[1.0], [-1.0]]), np.ones((2, 1))
    assert np.isinf(jax.jit(pe.noise_scale(net, LOSS))(params, x, targets).scale)
    alone = jax.jit(lambda *a: pe.variance(net, LOSS)(*a, sample_weight=np.array([1.0, 0])))(params, x, targets)
    assert np.isnan(alone[2].w).all()


# --- a step of an embedding


def test_a_step_of_an_embedding_forms_no_table():
    """The compiled step of a table of a million rows takes no memory near the table's."""
    net = bp.serial(bp.embedding(1_000_000, 4), bp.dense(3))
    spec = jax.ShapeDtypeStruct((3,), jnp.int32)
    params = jax.eval_shape(lambda: net.init(KEY, spec)[0])
    ids, labels = jax.ShapeDtypeStruct((8, 3), jnp.int32), jax.ShapeDtypeStruct((8, 3), jnp.int32)

    def step(params, ids, labels):
        return pe.add_to(params, pe.losses_and_factors(net, CE)(params, ids, labels)[1], -0.1)

    compiled = jax.jit(step, donate_argnums=0).lower(params, ids, labels).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 100_000


# --- bad input


def test_bad_input_is_refused_before_anything_compiles():
    params, x, labels = problem()
    for clip_norm in (0, -1.0, float("nan"), jnp.zeros(())):
        with pytest.raises(ValueError, match="clip_norm has to be positive"):
            pe.clipped_sum(NET, CE, clip_norm)
    with pytest.raises(TypeError, match="clip_norm is a number"):
        pe.clipped_sum(NET, CE, "1")
    with pytest.raises(ValueError, match="per_layer=True"):
        pe.clipped_sum(NET, CE, [1.0, 1.0])
    with pytest.raises(ValueError, match="2 clip norms for 3 layers"):
        pe.clipped_sum(NET, CE, [1.0, 1.0], per_layer=True)(params, x, labels)
    for make in (pe.value_grads_and_norms, pe.gram, pe.second_moment, pe.input_grads):
        with pytest.raises(ValueError, match="the batch is empty"):
            make(NET, CE)(params, x[:0], labels[:0])
        with pytest.raises(TypeError, match="a Layer was expected"):
            make("net", CE)
        with pytest.raises(TypeError, match="a Loss was expected"):
            make(NET, jnp.sum)
    with pytest.raises(ValueError, match="tree of params"):
        pe.dot(NET, CE)(params, x, labels, params[0])
    with pytest.raises(ValueError, match=r"v\[0\].b needs the shape \[4\]"):
        pe.dot(NET, CE)(params, x, labels, (params[0]._replace(b=np.ones(5)), *params[1:]))
    with pytest.raises(ValueError, match="sample_weight"):
        pe.gram(NET, CE)(params, x, labels, sample_weight=np.ones(5))
    for make in (pe.variance, pe.noise_scale):
        with pytest.raises(ValueError, match="two examples or more"):
            make(NET, CE)(params, x[:1], labels[:1])
    with pytest.raises(ValueError, match="chunk has to be positive"):
        pe.per_example_grads(NET, CE, chunk=0)
    with pytest.raises(ValueError, match="decay"):
        pe.noise_scale_ema(1.0)
    with pytest.raises(ValueError, match="needs norms"):
        pe.noise_scale_ema().update(params, pe.noise_scale_ema().init(params))
    with pytest.raises(ValueError, match="no trainable parameters"):
        pe.value_grads_and_norms(bp.tanh(), LOSS)((), x, x)
    with pytest.raises(TypeError, match="Factor was expected"):
        pe.add_to(params, params, 1.0)


def test_a_gram_matrix_too_large_says_its_size():
    million = jax.ShapeDtypeStruct((10_000_000, 5), jnp.float64)
    labels = jax.ShapeDtypeStruct((10_000_000,), jnp.int32)
    with pytest.raises(ValueError, match=r"10000000 x 10000000 float64 takes 745058.1 GiB"):
        jax.eval_shape(pe.gram(NET, CE), problem()[0], million, labels)


def test_a_lifted_net_is_sent_to_factors_of():
    net = bp.lift(lambda key, x: jnp.zeros((x.shape[-1], 3)), lambda w, x: x @ w)
    with pytest.raises(ValueError, match="factors_of"):
        pe.value_grads_and_norms(net, CE)(net.init(KEY, (5,))[0], problem()[1].astype(np.float32), problem()[2])


def test_a_traced_clip_norm():
    params, x, labels = problem()
    run = jax.jit(
        lambda c: (pe.clipped_sum(NET, CE, c)(params, x, labels)[1], pe.clipped_sum(NET, CE, 0.3)(params, x, labels)[1])
    )
    traced, constant = run(0.3)
    chex.assert_trees_all_close(traced, constant, rtol=1e-12)
