"""fit against a plain Python loop, by either gradient, with weights, padding, chunks, statistics and divergence."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxbp as bp
from jaxbp import backprop
from jaxbp.training import engine, fit, mean_of, order, program, standardize
from jaxbp.training.updates import DRAWS


KEY = jax.random.key(7)
N = 23
X = np.random.default_rng(0).normal(size=(N, 4))
LABELS = np.random.default_rng(1).integers(0, 3, N)
NET = bp.serial(bp.dense(5), bp.tanh(), bp.dense(3))
SMALL = bp.dense(3)  # compiles faster, for what does not depend on depth
LOSS = bp.losses.softmax_cross_entropy()
MOMENTUM = optax.sgd(0.1, momentum=0.9)
ADAM = optax.adam(0.01)

run = functools.partial(fit, SMALL, LOSS, MOMENTUM, X, LABELS, key=KEY, epochs=4, batch_size=5)


def assert_close(got, want, tolerance=1e-12):
    """Each leaf within tolerance of its largest entry (1e-3 of the largest of all, where it is smaller)."""
    leaves = [
        (np.asarray(g, np.float64), np.asarray(w, np.float64)) for g, w in zip(*map(jax.tree.leaves, (got, want)), strict=True)
    ]
    whole = max((np.abs(w).max(initial=0) for _, w in leaves), default=0)
    for g, w in leaves:
        assert np.abs(g - w).max(initial=0) <= tolerance * max(np.abs(w).max(initial=0), 1e-3 * whole)


def initial(net=SMALL):
    return net.init(KEY, jax.ShapeDtypeStruct(X.shape[1:], X.dtype))[0]


def plain_loop(optimizer, batch_size, epochs, *, net=NET, shuffle=True):
    """The reference: a loop of optax steps on batches sliced with their own size, by automatic gradients."""
    params = initial(net)
    state, losses = optimizer.init(params), []
    gradient = jax.jit(jax.value_and_grad(lambda params, x, y: jnp.mean(LOSS.forward(net.forward(params, x)[0], y)[0])))
    n, words = N, order.key_words(KEY)
    for epoch in range(epochs):
        rows = order.permutation(words, epoch, n) if shuffle and batch_size < n else np.arange(n)
        of_epoch = 0.0
        for start in range(0, n, batch_size):
            batch = rows[start : start + batch_size]
            value, grads = gradient(params, X[batch], LABELS[batch])
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
            of_epoch += float(value) * len(batch)
        losses.append(of_epoch / n)
    return params, state, losses


@pytest.mark.parametrize(
    ("batch_size", "optimizer"),
    [(1, MOMENTUM), (5, MOMENTUM), (None, MOMENTUM), (12, ADAM)],
    ids=["case", "mini", "full", "adam"],
)
def test_fit_is_the_plain_loop(batch_size, optimizer):
    result = fit(NET, LOSS, optimizer, X, LABELS, key=KEY, epochs=3, batch_size=batch_size)
    params, state, losses = plain_loop(optimizer, batch_size or N, 3)
    assert_close(result.params, params)
    assert_close(result.opt_state, state)
    np.testing.assert_allclose(result.history["loss"], losses, rtol=1e-12)
    assert result.stop_reason == "ran all 3 epochs"
    assert result.epochs == 3


def test_the_full_batch_is_a_batch_of_all_rows():
    chex.assert_trees_all_equal(run(batch_size=N).params, run(batch_size=None).params)


def test_without_shuffle_rows_come_as_they_are():
    result = run(shuffle=False)
    assert_close(result.params, plain_loop(MOMENTUM, 5, 4, net=SMALL, shuffle=False)[0])


# --- both gradients


def equations(jaxpr):
    """Every equation of a jaxpr and of all jaxprs inside."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def program_of(**options):
    """The primitives of the training program of a run."""
    seen, jitted = [], program.train_chunk

    class Spy:
        def lower(self, plan, room, mesh, *args):
            jaxpr = jax.make_jaxpr(functools.partial(jitted.__wrapped__, plan, room, mesh))(*args)
            seen.append([equation.primitive.name for equation in equations(jaxpr.jaxpr)])
            raise InterruptedError  # nothing needs to be compiled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "train_chunk", Spy())
        with pytest.raises(InterruptedError):
            fit(NET, LOSS, MOMENTUM, X, LABELS, key=KEY, epochs=2, batch_size=5, **options)
    return seen[0]


def test_both_gradients_give_the_same_run():
    """50 steps in float64."""
    deep = functools.partial(fit, NET, LOSS, MOMENTUM, X, LABELS, key=KEY, epochs=10, batch_size=5, penalty=bp.penalties.l2(0.01))
    manual, auto = (deep(gradient=gradient) for gradient in ("manual", "autodiff"))
    assert_close(manual.params, auto.params, 1e-10)
    assert_close(manual.opt_state, auto.opt_state, 1e-10)
    np.testing.assert_allclose(manual.history["loss"], auto.history["loss"], rtol=1e-10)


def test_the_autodiff_program_holds_no_custom_rule():
    names = program_of(gradient="autodiff")
    assert {"scan", "while", "dot_general", "gather"} <= set(names)  # the walk went in
    assert not [name for name in names if name.startswith("custom_")]
    assert names != program_of(gradient="manual")


# --- weights


def test_weights_are_counts():
    """Weight 2 is a row twice, weight 0 a row left out."""
    weight = np.arange(N) % 3
    rows = np.repeat(np.arange(N), weight)
    weighted = run(batch_size=None, sample_weight=weight)
    repeated = fit(SMALL, LOSS, MOMENTUM, X[rows], LABELS[rows], key=KEY, epochs=4, batch_size=None)
    assert_close(weighted.params, repeated.params)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(weighted.history[name], repeated.history[name], rtol=1e-12)


def test_a_batch_of_weight_zero_moves_nothing():
    """Case updating with a momentum that would carry on: the optimiser does not see the rows of weight 0 at all."""
    weight = (np.arange(N) % 4 > 0).astype(float)
    rows = np.flatnonzero(weight)
    with_zeros = fit(SMALL, LOSS, ADAM, X, LABELS, key=KEY, epochs=2, batch_size=1, shuffle=False, sample_weight=weight)
    without = fit(SMALL, LOSS, ADAM, X[rows], LABELS[rows], key=KEY, epochs=2, batch_size=1, shuffle=False)
    assert_close(with_zeros.params, without.params)
    assert_close(with_zeros.opt_state, without.opt_state)  # adam counts its updates


def test_weights_for_every_time():
    net = SMALL
    x, y = X[:20].reshape(5, 4, 4), LABELS[:20].reshape(5, 4)
    weight = (np.arange(20).reshape(5, 4) % 3 > 0).astype(float)
    got = fit(net, LOSS, MOMENTUM, x, y, key=KEY, epochs=3, batch_size=2, shuffle=False, sample_weight=weight)
    params = net.init(KEY, jax.ShapeDtypeStruct((4, 4), x.dtype))[0]
    state, f = MOMENTUM.init(params), jax.jit(bp.value_and_grad(net, LOSS))
    for _ in range(3):
        for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
            _, grads = f(params, x[rows], y[rows], sample_weight=weight[rows])
            updates, state = MOMENTUM.update(grads, state, params)
            params = optax.apply_updates(params, updates)
    assert_close(got.params, params)


# --- chunks, keys, compilation


def traced_once(monkeypatch):
    """From here on the training program may be traced one time."""
    chex.clear_trace_counter()
    once = jax.jit(chex.assert_max_traces(program.train_chunk.__wrapped__, n=1), static_argnums=(0, 1, 2), donate_argnums=3)
    monkeypatch.setattr(program, "train_chunk", once)


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
def test_chunks_change_nothing(chunk, monkeypatch):
    whole = run()
    traced_once(monkeypatch)
    parts = run(chunk=chunk)
    chex.assert_trees_all_equal(parts.params, whole.params)
    chex.assert_trees_all_equal(parts.opt_state, whole.opt_state)
    chex.assert_trees_all_equal(parts.history, whole.history)


def test_progress_is_told_between_chunks():
    told = []
    result = run(epochs=5, chunk=2, progress=lambda epoch, info: told.append((epoch, info)))
    assert [epoch for epoch, _ in told] == [2, 4, 5]
    assert [info["loss"] for _, info in told] == [result.history["loss"][i] for i in (1, 3, 4)]
    often = []
    run(epochs=60, progress=lambda epoch, info: often.append(epoch))
    assert often == list(range(3, 61, 3))


def test_a_long_order_is_made_in_pieces(monkeypatch):
    whole = run()
    monkeypatch.setattr(engine, "ORDER_BYTES", 250)  # two epochs of 5 steps of 5 rows
    rooms = []
    chunk = order.Order.chunk
    monkeypatch.setattr(order.Order, "chunk", lambda self, *a: rooms.append(a[1:]) or chunk(self, *a))
    chex.assert_trees_all_equal(run().params, whole.params)
    assert rooms == [(0, 2, 2), (2, 4, 2)]


def test_one_key_one_result():
    first, again, other = run(), run(), run(key=jax.random.key(8))
    chex.assert_trees_all_equal(first.params, again.params)
    chex.assert_trees_all_equal(first.history, again.history)
    assert not np.array_equal(first.params.w, other.params.w)
    legacy = run(key=jax.random.PRNGKey(7))
    chex.assert_trees_all_equal(first.params, legacy.params)


def test_a_second_fit_does_not_trace_again(monkeypatch):
    traced_once(monkeypatch)
    first = run()
    again = run(key=jax.random.key(1))
    assert again.seconds_compile < 0.2 * first.seconds_compile
    with pytest.raises(AssertionError, match="traced"):
        run(batch_size=6)  # the assertion can fail


def test_plain_optimisers_are_wrapped_once(monkeypatch):
    """optax wraps a GradientTransformation without extra arguments anew each time; a new object would be traced anew."""
    traced_once(monkeypatch)
    plain = optax.GradientTransformation(
        lambda params: (), lambda grads, state, params: (jax.tree.map(lambda g: -0.1 * g, grads), ())
    )
    first, again = (fit(SMALL, LOSS, plain, X, LABELS, key=KEY, epochs=2, batch_size=5) for _ in range(2))
    chex.assert_trees_all_equal(first.params, again.params)


def test_the_callers_params_stay_alive():
    params = initial()
    before = jax.tree.map(np.array, params)
    first, again = run(params=params), run(params=params)
    chex.assert_trees_all_equal(params, before)
    chex.assert_trees_all_equal(first.params, again.params)
    assert_close(first.params, run().params)  # what net.init gives for the key is where None begins


def test_params_go_on():
    """Two epochs, then two more from there, are four, where optimiser and order have no memory."""
    plain = functools.partial(fit, SMALL, LOSS, optax.sgd(0.1), X, LABELS, key=KEY, batch_size=5, shuffle=False)
    assert_close(plain(epochs=2, params=plain(epochs=2).params).params, plain(epochs=4).params)


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
