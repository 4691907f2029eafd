"""What fit reports, and how it treats statistics, draws, divergence and dtypes."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_fit import ADAM, KEY, LABELS, LOSS, MOMENTUM, NET, SMALL, N, X, assert_close, initial, run

import jaxbp as bp
from jaxbp import backprop
from jaxbp.training import fit, mean_of, standardize
from jaxbp.training.updates import DRAWS


# --- what is reported


def test_history_is_of_the_sets():
    x, labels = X[:9] + 0.1, LABELS[:9]
    result = run(validation=(x, labels), evaluate_training=True, epochs=3)
    assert set(result.history) == {"loss", "accuracy", "validation_loss", "validation_accuracy"}
    for prefix, inputs, y in (("", X, LABELS), ("validation_", x, labels)):
        outputs = SMALL(result.params, jnp.asarray(inputs))
        np.testing.assert_allclose(result.history[prefix + "loss"][-1], jnp.mean(LOSS(outputs, jnp.asarray(y))), rtol=1e-12)
        np.testing.assert_allclose(
            result.history[prefix + "accuracy"][-1], np.mean(np.asarray(outputs).argmax(-1) == y), rtol=1e-12
        )
    assert all(values.shape == (3,) for values in result.history.values())


def test_running_metrics_are_those_of_the_batches_before_their_update():
    result = run(batch_size=None, epochs=2)
    outputs = SMALL(initial(), jnp.asarray(X))
    np.testing.assert_allclose(result.history["accuracy"][0], np.mean(np.asarray(outputs).argmax(-1) == LABELS), rtol=1e-12)
    np.testing.assert_allclose(result.history["loss"][0], jnp.mean(LOSS(outputs, jnp.asarray(LABELS))), rtol=1e-12)


def test_validation_weights_and_blocks(monkeypatch):
    weight = np.arange(N) % 2
    got = run(validation=(X, LABELS, weight)).history["validation_loss"]
    want = run(validation=(X[1::2], LABELS[1::2])).history["validation_loss"]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    monkeypatch.setattr("jaxbp.training.task.EVALUATION_BLOCK", 5)
    cut = run(validation=(X, LABELS, weight))
    np.testing.assert_allclose(cut.history["validation_loss"], want, rtol=1e-12)


def test_own_metrics():
    margin = mean_of("margin", lambda outputs, targets: jnp.max(outputs, -1) - jnp.min(outputs, -1))
    result = run(metrics=["accuracy", margin], evaluate_training=True)
    outputs = SMALL(result.params, jnp.asarray(X))
    np.testing.assert_allclose(result.history["margin"][-1], np.mean(np.ptp(outputs, axis=-1)), rtol=1e-12)
    assert set(run(metrics=()).history) == {"loss"}


def test_scale_is_fitted_on_the_rows_and_goes_with_the_result():
    weight = np.arange(N) % 2
    x = 100 + 5 * X
    by_hand = (x[1::2] - x[1::2].mean(0)) / x[1::2].std(0)
    result = fit(SMALL, LOSS, MOMENTUM, x, LABELS, key=KEY, epochs=3, batch_size=None, scale=standardize(), sample_weight=weight)
    other = fit(SMALL, LOSS, MOMENTUM, by_hand, LABELS[1::2], key=KEY, epochs=3, batch_size=None)
    assert_close(result.params, other.params, 1e-11)
    np.testing.assert_allclose(standardize().apply(result.scale, jnp.asarray(x))[1::2], by_hand, rtol=1e-11, atol=1e-12)


def test_integers_are_scaled_into_numbers():
    pixels = np.random.default_rng(3).integers(0, 255, (N, 4)).astype(np.uint8)
    result = fit(SMALL, LOSS, MOMENTUM, pixels, LABELS, key=KEY, epochs=2, batch_size=5, scale=standardize())
    wide = fit(SMALL, LOSS, MOMENTUM, pixels.astype(np.float32), LABELS, key=KEY, epochs=2, batch_size=5, scale=standardize())
    assert_close(result.params, wide.params, 1e-6)


# --- nets with statistics or draws


NORMED = bp.serial(bp.dense(3, bias=False), bp.batch_norm())


@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
def test_batch_norm_moves_its_statistics(gradient):
    x, y = X[:20], LABELS[:20]
    decay = optax.adamw(0.01, weight_decay=0.5)  # would shrink the statistics, were they parameters
    result = fit(NORMED, LOSS, decay, x, y, key=KEY, epochs=3, batch_size=5, shuffle=False, gradient=gradient)
    params = initial(NORMED)
    state, f = decay.init(params), jax.jit(bp.value_and_grad(NORMED, LOSS, has_aux=True))
    for _ in range(3):
        for start in range(0, 20, 5):
            (_, aux), grads = f(params, x[start : start + 5], y[start : start + 5])
            updates, state = decay.update(grads, state, params)
            moved = optax.apply_updates(params, updates)
            keep = jax.tree.map(lambda train, new, old: new if train else old, bp.tree.trainable(params), moved, params)
            params = backprop.update_statistics(keep, aux.statistics)
    assert_close(result.params, params, 1e-10)
    population = [
        leaf for leaf, train in zip(*map(jax.tree.leaves, (params, bp.tree.trainable(params))), strict=True) if not train
    ]
    assert len(population) == 2


def test_a_net_that_mixes_takes_no_padding():
    with pytest.raises(ValueError, match=r"mixes the rows.*divide 23: \[1, 23\].*remainder='drop'"):
        fit(NORMED, LOSS, ADAM, X, LABELS, key=KEY, epochs=1, batch_size=5)
    result = fit(NORMED, LOSS, ADAM, X, LABELS, key=KEY, epochs=1, batch_size=5, remainder="drop", shuffle=False)
    alone = fit(NORMED, LOSS, ADAM, X[:20], LABELS[:20], key=KEY, epochs=1, batch_size=5, shuffle=False)
    assert_close(result.params, alone.params)
    fit(NORMED, LOSS, ADAM, X, LABELS, key=KEY, epochs=1, batch_size=None)


def test_draws_are_of_the_update():
    net = bp.serial(bp.dropout(0.5), bp.dense(3))
    result = fit(net, LOSS, MOMENTUM, X, LABELS, key=KEY, epochs=2, batch_size=12, shuffle=False)
    params = initial(net)
    state, f = MOMENTUM.init(params), jax.jit(bp.value_and_grad(net, LOSS))
    draws = jax.random.fold_in(KEY, DRAWS)
    for update in range(4):
        rows = np.arange(12) if update % 2 == 0 else np.arange(12, 24).clip(max=N - 1)  # the last batch has 11 and padding
        weight = np.ones(12) if update % 2 == 0 else np.arange(12) < 11
        key = jax.random.fold_in(draws, update)
        _, grads = f(params, X[rows], LABELS[rows], sample_weight=weight.astype(float), key=key)
        updates, state = MOMENTUM.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    assert_close(result.params, params)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.clip_by_global_norm(0.1), optax.nadam(optax.cosine_decay_schedule(0.1, 20))),
        optax.polyak_sgd(0.5),
        optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau(patience=1)),
        optax.lbfgs(),
        optax.MultiSteps(optax.sgd(0.1), 2),
    ],
    ids=["clip and schedule", "polyak", "plateau", "lbfgs", "multi"],
)
def test_any_optax_optimiser_learns(optimizer):
    result = fit(SMALL, LOSS, optimizer, X, LABELS, key=KEY, epochs=12, batch_size=None)
    assert np.isfinite(result.history["loss"]).all()
    assert result.history["loss"][-1] < 0.95 * result.history["loss"][0]


# --- divergence


def test_a_run_that_turns_non_finite_stops_and_says_where():
    wild = optax.chain(optax.sgd(1.0), optax.scale_by_schedule(lambda t: jnp.where(t < 12, 0.1, 1e300)))
    loss, targets = bp.losses.quadratic(), np.eye(3)[LABELS]
    options = {"key": KEY, "batch_size": 5, "validation": (X, targets)}
    with pytest.warns(RuntimeWarning, match="fit: non-finite after epoch 3: "):
        result = fit(SMALL, loss, wild, X, targets, epochs=6, **options)  # 5 updates an epoch: the 13th is in epoch 3
    good = fit(SMALL, loss, wild, X, targets, epochs=2, **options)
    assert result.epochs == 2
    assert result.stop_reason.startswith("non-finite after epoch 3: ")
    assert "params.w is the first leaf" in result.stop_reason
    chex.assert_trees_all_equal(result.params, good.params)
    chex.assert_trees_all_equal(result.opt_state, good.opt_state)
    chex.assert_trees_all_equal(result.history, good.history)


def test_the_first_leaf_is_named():
    only_b = optax.stateless(lambda g, p: (g[0], g[1], g[2]._replace(b=g[2].b * jnp.inf)))
    with pytest.warns(RuntimeWarning, match=r"after epoch 1: params\[2\]\.b is the first leaf"):
        result = fit(NET, LOSS, only_b, X, LABELS, key=KEY, epochs=3, batch_size=None)
    assert result.epochs == 0
    assert all(values.shape == (0,) for values in result.history.values())
    assert_close(result.params, initial(NET))


def test_mazur_by_full_batches():
    """One example, no bias updates: the error before update k, to the printed digits."""
    w1, w2 = np.array([[0.15, 0.20], [0.25, 0.30]]).T, np.array([[0.40, 0.45], [0.50, 0.55]]).T
    net = bp.serial(bp.dense(2), bp.sigmoid(), bp.dense(2), bp.sigmoid())
    params = (bp.Dense(jnp.array(w1), jnp.full(2, 0.35)), (), bp.Dense(jnp.array(w2), jnp.full(2, 0.6)), ())
    only_weights = optax.chain(optax.sgd(0.5), optax.stateless(lambda g, p: jax.tree.map(lambda a: a * (a.ndim == 2), g)))
    x, y = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])
    result = fit(net, bp.losses.quadratic(), only_weights, x, y, key=KEY, epochs=1001, batch_size=1, params=params)
    error = result.history["loss"]
    np.testing.assert_allclose(error[[0, 1]], [0.29837110876, 0.291027773694], rtol=1e-11)
    np.testing.assert_allclose(error[[2, 10, 100, 1000]], [0.283547133, 0.220918592, 0.0200468282, 0.00111434945], rtol=1e-8)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_precision_of_the_data_is_kept(dtype):
    result = fit(
        SMALL, LOSS, ADAM, jnp.asarray(X, dtype), LABELS, key=KEY, epochs=8, batch_size=5, sample_weight=np.arange(N) % 3
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {np.dtype(dtype)}
    assert result.history["loss"].dtype == np.float32
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_x_may_be_a_tree():
    pair = bp.lift(lambda key, x: jnp.zeros((x["a"].shape[-1], 3)), lambda w, x: x["a"] @ w + x["b"])
    x = {"a": X, "b": X[:, :3]}
    result = fit(pair, LOSS, MOMENTUM, x, LABELS, key=KEY, epochs=5, batch_size=5)
    assert result.history["loss"][-1] < result.history["loss"][0]
    assert repr(result).startswith("<FitResult: ran all 5 epochs; ")
