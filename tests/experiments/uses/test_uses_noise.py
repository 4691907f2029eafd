"""Noise scale and DP-SGD: estimates against brute force, laws that are recovered, sampling, and sums handed over."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxbp as bp
from experiments.config.uses import DpSgd, NoiseScale
from experiments.uses import batch_sizes, clipping_time, dp_sgd, hand_over, noise_scale, private, shared
from jaxbp import per_example


NET = bp.mlp([6, 8, 10], hidden=bp.tanh())


def drawn(n=24):
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: rng.normal(size=p.shape), jax.eval_shape(lambda: NET.init(jax.random.key(0), (6,))[0]))
    return params, rng.normal(size=(n, 6)), rng.integers(0, 10, n)


# --- noise scale


def test_moving_averages_have_no_bias_at_the_start():
    np.testing.assert_allclose(batch_sizes.averaged(np.full((2, 4), 3.0), 0.9), 3.0)
    np.testing.assert_allclose(batch_sizes.averaged(np.array([[1.0, 3.0]]), 0.5), [[1.0, (0.5 * 1 + 3) / 1.5]])


def test_the_whole_set_has_the_scale_that_its_gradients_have():
    params, x, labels = drawn()
    order = np.zeros((2, 1, 4), np.int32)
    scale, noise, signal, loss = batch_sizes.watched(params, x, labels, order, 0.1, of=NET, decay=0.9)
    losses, grads = jax.jit(per_example.per_example_grads(NET, shared.LOSS))(params, x, labels)
    flat = np.concatenate([np.asarray(g).reshape(len(x), -1) for g in jax.tree.leaves(grads)], 1)
    assert scale.shape == (2, 1)
    assert noise[0] == pytest.approx(flat.var(0).sum(), rel=1e-9)
    assert signal[0] == pytest.approx((flat.mean(0) ** 2).sum(), rel=1e-9)
    assert loss[0] == pytest.approx(float(np.mean(losses)), rel=1e-9)
    assert loss[1] != loss[0]  # a step lies between


def test_the_crossing_lies_between_two_looks():
    losses = np.array([[1.0, 0.6, 0.2], [0.3, 0.2, 0.1], [1.0, np.nan, np.nan], [1.0, 0.9, 0.8]])
    np.testing.assert_allclose(batch_sizes.crossing(losses, 0.4, 10), [25, 10, np.inf, np.inf])


def test_the_law_is_recovered_from_its_own_steps():
    reached = [batch_sizes.Reached(size, 0.1, np.full(3, 40 * (1 + 25 / size))) for size in (8, 64, 512)]
    assert batch_sizes.fitted(reached) == pytest.approx((40, 25))
    lost = batch_sizes.Reached(1, 0.1, np.full(3, np.nan))
    assert batch_sizes.fitted([*reached, lost]) == pytest.approx((40, 25))
    assert batch_sizes.fitted([reached[0], lost]) is None


def test_larger_batches_take_fewer_steps_and_the_estimate_grows():
    options = NoiseScale(train_size=200, hidden=(8,), batch_size=16, steps=160, target=1.0, seeds=2, batch_sizes=(4, 64))
    data = shared.data(options, 0)
    net = shared.net(options, data.train)
    few, many = (batch_sizes.steps_to_target(options, net, data, size) for size in (4, 64))
    assert few.median > many.median > 1
    followed = batch_sizes.follow(options, net, data, 0.2)
    assert (followed.scale.shape, followed.exact.shape) == ((2, 160), (2, 80))
    assert followed.loss[:, -1].max() < followed.loss[:, 0].min()
    at = followed.reaches(1.0)
    assert followed.loss.mean(0)[at] <= 1.0 < followed.loss.mean(0)[at - 1]
    assert 1 < followed.advice(1.0).mean() < 200
    fit = batch_sizes.fitted([few, many])
    shown = noise_scale.steps_table([few, many], followed.advice(1.0), fit, options)
    assert [row[0] for row in shown.rows] == [4, 64]


# --- DP-SGD


def test_poisson_batches_have_their_size_in_the_mean():
    rows, there = private.poisson(np.random.default_rng(0), 500, 50, 400)
    sizes = there.sum(1)
    assert sizes.mean() == pytest.approx(50, abs=1)
    assert sizes.var() == pytest.approx(50 * 0.9, rel=0.2)
    assert there.shape[1] < 100
    for row, present in zip(rows, there, strict=True):
        kept = row[present == 1]
        assert len(set(kept)) == len(kept)
    counts = np.bincount(rows[there == 1], minlength=500)
    assert counts.std() < 2 * np.sqrt(400 * 0.1 * 0.9)  # every example as often as every other
    full, all_there = private.poisson(np.random.default_rng(0), 6, 6, 2)
    assert full.shape == (2, 6)
    assert all_there.min() == 1


def test_nothing_clipped_and_no_noise_is_plain_descent():
    params, x, labels = drawn()
    rows, there = private.poisson(np.random.default_rng(0), len(x), 6, 5)
    there = there.astype(np.float64)
    pairs = np.array([[1e3, 0.0], [1e-9, 0.0], [1e3, 1e-3]])
    ends, cut = private.private(params, x, labels, rows, there, pairs, 10.0, jax.random.key(0), of=NET)
    plain = private.unclipped(params, x, labels, rows, there, 0.01, of=NET)
    for a, b in zip(jax.tree.leaves(shared.one_of(ends, 0)), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    np.testing.assert_allclose(cut, [0, 1, 0])
    moved = np.sqrt(sum(np.sum((a[1] - b) ** 2) for a, b in zip(jax.tree.leaves(ends), jax.tree.leaves(params), strict=True)))
    assert 0 < moved <= 10 * there.sum()  # every image moves by the rate at most
    assert any(np.abs(a[2] - a[0]).max() > 1e-4 for a in jax.tree.leaves(ends))


CLIP = 0.7


@jax.jit
def ours(params, x, labels):
    return per_example.clipped_sum(NET, shared.LOSS, CLIP)(params, x, labels)[1]


def noise_in(noisy, clean):
    return np.concatenate([np.ravel(a - b) for a, b in zip(jax.tree.leaves(noisy), jax.tree.leaves(clean), strict=True)])


def handed_over(recipe):
    """The recipe without noise gives our sum; with it, noise of the standard deviation that was asked for."""
    batch, key = drawn(), jax.random.key(3)
    noisy = jax.jit(lambda *batch, noise: recipe(NET, shared.LOSS, *batch, clip_norm=CLIP, noise_multiplier=noise, key=key))
    clean = ours(*batch)
    assert np.abs(noise_in(noisy(*batch, noise=0.0), clean)).max() < 1e-12
    noise = noise_in(noisy(*batch, noise=2.0), clean)
    n = len(noise)
    assert noise.std() == pytest.approx(2 * CLIP, rel=4 / np.sqrt(2 * n))  # four standard errors
    assert abs(noise.mean()) < 4 * 2 * CLIP / np.sqrt(n)


def test_the_sum_is_handed_over_to_optax():
    handed_over(hand_over.to_optax)


def test_the_sum_is_that_of_optax_aggregate():
    """Which takes gradients one by one, and divides by their number."""
    params, x, labels = drawn()
    _, grads = jax.jit(per_example.per_example_grads(NET, shared.LOSS))(params, x, labels)
    aggregate = optax.contrib.differentially_private_aggregate(CLIP, 0.0, key=jax.random.key(0))
    mean, _ = jax.jit(aggregate.update)(grads, aggregate.init(params))
    for a, b in zip(jax.tree.leaves(ours(params, x, labels)), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(a, len(x) * np.asarray(b), rtol=1e-9, atol=1e-12)


def jax_privacy():
    return pytest.importorskip("jax_privacy", reason="hand-over to jax-privacy: it is not installed (pip install jax-privacy)")


def test_the_sum_is_handed_over_to_jax_privacy():
    jax_privacy()
    handed_over(hand_over.to_jax_privacy)


@pytest.mark.filterwarnings("ignore:optax:DeprecationWarning")
def test_the_sum_is_that_of_jax_privacy():
    clipping = jax_privacy().clipping
    params, x, labels = drawn()
    loss_of_one = lambda params, x, label: clipping_time._loss_of_one(NET, params, x, label)
    theirs = clipping.clipped_grad(loss_of_one, l2_clip_norm=CLIP, batch_argnums=(1, 2), keep_batch_dim=False)
    assert clipping_time.apart(theirs(params, jnp.asarray(x), jnp.asarray(labels)), ours(params, x, labels)) < 1e-6


def test_every_way_gives_the_same_sum(monkeypatch):
    monkeypatch.setattr(clipping_time, "HIDDEN", (6,))
    data = shared.data(DpSgd(train_size=40, batch_size=8), 0)
    times = clipping_time.measure(data, 8, 0.5, 2, 0)
    assert [t.name for t in times[:4]] == ["one gradient", "jaxbp clipped_sum", "vmap(grad)", "vmap(grad), transposed"]
    assert all(t.apart < 1e-5 for t in times[2:])
    assert all(len(t.seconds) == len(t.gradient) == 2 and t.ratio > 0 for t in times)
    assert clipping_time.quickest(times, "nobody") is None
    assert clipping_time.quickest(times, "vmap(grad)").ratio == min(t.ratio for t in times[2:4])


def test_noise_lowers_accuracy_and_the_best_clip_norm_is_told():
    options = DpSgd(
        train_size=300, hidden=(), epochs=4, batch_size=30, seeds=1, clip_norms=(0.3, 1.0), noise_multipliers=(0.0, 20.0)
    )
    found = private.train(options, shared.data(options, 0))
    assert found.accuracy.shape == found.clipped.shape == (2, 2, 1)
    assert found.steps == 40
    assert found.accuracy[:, 0].min() > found.accuracy[:, 1].max() + 0.2
    assert found.plain[0] > 0.8
    (_, _, clean), (noise, clip_norm, _) = dp_sgd.best(options, found)
    assert noise == 20
    assert clip_norm in options.clip_norms
    assert clean.mean() == found.accuracy[:, 0].max()


def test_epsilon_falls_with_the_noise():
    pytest.importorskip("dp_accounting", reason="accounting is a DP library's: dp-accounting is not installed")
    options = DpSgd(noise_multipliers=(0.0, 2.0, 4.0))
    none, some, much = private.epsilons(options, 1437, 100)
    assert none == np.inf
    assert 0 < much < some
