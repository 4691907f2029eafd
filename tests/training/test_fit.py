"""fit against a plain Python loop, by either gradient, with weights, padding and chunks."""

from __future__ import annotations

import functools

import chex
import jax
import numpy as np
import optax
import pytest
from small_fit import ADAM, KEY, LABELS, LOSS, MOMENTUM, NET, SMALL, N, X, assert_close, initial, plain_loop, run

import jaxbp as bp
from jaxbp.training import engine, fit, order, program


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
