"""Mixed precision in fit and cross_validate: params in float32, passes in bfloat16 or float16, the loss scale on its way."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_fit import ADAM, KEY, LABELS, LOSS, MOMENTUM, NET, SMALL, X

import jaxbp as bp
from jaxbp import penalties, tree
from jaxbp.training import Keeping, dynamic, fit, mixed_precision, patience, program
from jaxbp.training.precision import LEAST, MOST, DynamicScale, ScaleState, next_scale
from jaxbp.validation import cross_validate, sweep


BF16, F16 = mixed_precision("bfloat16"), mixed_precision("float16")
X32 = X.astype(np.float32)
PARAMS, _ = SMALL.init(KEY, (4,))
OVERFLOWING = mixed_precision("float16", loss_scale=dynamic(MOST))  # the seeds alone are beyond 65504

run = functools.partial(fit, SMALL, LOSS, MOMENTUM, X32, LABELS, key=KEY, epochs=2, batch_size=5, params=PARAMS)
plain, in_bfloat16 = (functools.cache(functools.partial(run, precision=precision)) for precision in (None, BF16))


def dtypes(a) -> set[str]:
    return {leaf.dtype.name for leaf in jax.tree.leaves(a) if jnp.issubdtype(leaf.dtype, jnp.floating)}


def distance(a, b) -> float:
    return max(float(np.max(np.abs(np.asarray(x, np.float64) - y))) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


# --- one step


@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
def test_a_step_is_the_float32_gradient_of_the_params_as_the_passes_see_them(gradient):
    penalty, low = penalties.l2(0.3), tree.cast(PARAMS, jnp.bfloat16)
    x = X32.astype(jnp.bfloat16)
    if gradient == "manual":
        _, grads = jax.jit(bp.value_and_grad(SMALL, LOSS, grad_dtype="float32"))(low, x, LABELS)
    else:
        grads = tree.cast(jax.jit(jax.grad(bp.objective(SMALL, LOSS)))(low, x, LABELS), jnp.float32)
    grads = tree.add(grads, penalty.backward(PARAMS))  # of the params as they are kept
    result = run(precision=BF16, gradient=gradient, penalty=penalty, batch_size=None, epochs=1)
    want = tree.subtract(PARAMS, tree.scale(jnp.float32(0.1), grads))
    chex.assert_trees_all_close(result.params, want, rtol=1e-6, atol=1e-7)
    assert dtypes((result.params, result.opt_state)) == {"float32"}


def test_steps_far_below_an_ulp_of_bfloat16_add_up():
    """w = 1, 32 steps of 2^-12 each, of which bfloat16, with an ulp of 2^-7 there, would lose every one."""
    net, loss = bp.dense(1, bias=False), bp.losses.loss_from(lambda output, target: jnp.sum(output))
    params, x = bp.Dense(jnp.ones((1, 1), jnp.bfloat16), None), np.ones((32, 1), np.float32)
    args = (net, loss, optax.sgd(2.0**-12), x, np.zeros((32, 1), np.float32))
    options = {"key": KEY, "epochs": 1, "batch_size": 1, "metrics": (), "params": params}
    kept = fit(*args, precision=BF16, **options).params.w
    assert (kept.dtype.name, kept.item()) == ("float32", 1 - 2.0**-7)
    assert fit(*args, **options).params.w.item() == 1


def test_population_statistics_stay_in_float32_whatever_the_data():
    net = bp.serial(bp.batch_norm(), bp.dense(3))
    result = fit(net, LOSS, MOMENTUM, X, LABELS, key=KEY, epochs=1, batch_size=None, precision=BF16)
    mean = X32.astype(jnp.bfloat16).astype(np.float64).mean(0)
    np.testing.assert_allclose(result.params[0].population.mean, 0.1 * mean, rtol=1e-6)
    assert dtypes((result.params, result.opt_state)) == {"float32"}  # the data are in float64


# --- whole runs


@pytest.mark.parametrize(
    ("precision", "gradient"),
    [
        (BF16, "manual"),
        (F16, "autodiff"),
        pytest.param(mixed_precision("float16", loss_scale=2.0**10), "manual", marks=pytest.mark.slow),
    ],
)
def test_runs_stay_near_those_in_float32(precision, gradient):
    narrow = run(precision=precision, gradient=gradient, validation=(X32, LABELS))
    assert 0 < distance(narrow.params, plain().params) < 0.01
    np.testing.assert_allclose(narrow.history["loss"], plain().history["loss"], atol=0.01)
    losses, _ = LOSS.forward(SMALL(narrow.params, X32), LABELS)
    np.testing.assert_allclose(narrow.history["validation_loss"][-1], jnp.mean(losses), rtol=1e-6)  # evaluated in float32


def test_parts_make_the_whole_at_the_same_loss_scale():
    options = {"precision": OVERFLOWING, "batch_size": 4, "remainder": "drop", "penalty": penalties.l2(0.1)}
    whole, parts = (run(accumulate=n, **options) for n in (1, 2))
    assert distance(parts.params, whole.params) < 1e-3
    for name in ("loss_scale", "skipped_steps"):
        np.testing.assert_array_equal(parts.history[name], whole.history[name])


@pytest.mark.slow
def test_a_static_scale_that_is_a_power_of_two_changes_no_bit_in_bfloat16():
    chex.assert_trees_all_equal(in_bfloat16().params, run(precision=mixed_precision(loss_scale=2.0**8)).params)


def test_masks_rules_and_diagnosis_hold_with_it():
    mask = jax.tree.map(lambda p: np.arange(p.size).reshape(p.shape) % 2 == 0, PARAMS)
    result = run(precision=F16, mask=mask, stop=patience(3, "loss"), diagnose=1)
    assert not np.any(np.asarray(result.params.w)[~mask.w])
    assert dtypes(result.params) == {"float32"}
    assert np.isfinite(result.diagnosis.grad).all()


@pytest.mark.slow
def test_a_line_search_looks_along_the_passes_in_bfloat16():
    result = fit(SMALL, LOSS, optax.lbfgs(), X32, LABELS, key=KEY, epochs=3, batch_size=None, precision=BF16, metrics=())
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_narrow_params_without_it_have_their_gradient_and_optimiser_in_float32():
    result = run(params=tree.cast(PARAMS, jnp.bfloat16), batch_size=4, remainder="drop", accumulate=2)
    assert (dtypes(result.params), dtypes(result.opt_state)) == ({"bfloat16"}, {"float32"})


# --- the loss scale on its way


def after(rule: DynamicScale, state: ScaleState, *gradients: float) -> tuple[list[float], list[bool]]:
    scales, made = [], []
    for g in gradients:
        state, update = next_scale(rule, state, {"w": jnp.array([1.0, g])})
        scales.append(float(state.scale))
        made.append(bool(update))
    return scales, made


def scale_state(scale: float) -> ScaleState:
    return ScaleState(jnp.float32(scale), jnp.int32(0), jnp.int32(0))


def test_the_scale_grows_after_finite_updates_and_backs_off_at_others():
    rule, inf, nan = dynamic(8, every=2, growth=4, backoff=0.25), np.inf, np.nan
    scales, made = after(rule, scale_state(8), 1, 1, 1, inf, 1, nan, 1, 1)
    assert scales == [8, 32, 32, 8, 8, 2, 2, 8]
    assert made == [True, True, True, False, True, False, True, True]
    assert after(rule, scale_state(MOST), 1, 1)[0] == [MOST, MOST]
    # at 1 no smaller scale would help: the update is made, and shows
    assert after(rule, scale_state(2), inf, inf) == ([LEAST, LEAST], [False, True])


def test_an_overflowing_update_is_left_out():
    result = run(precision=OVERFLOWING, batch_size=None, epochs=1)
    chex.assert_trees_all_equal(result.params, PARAMS)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(result.opt_state))
    assert (result.history["loss_scale"].tolist(), result.history["skipped_steps"].tolist()) == ([MOST / 2], [1])


def test_a_scale_that_is_too_large_comes_down_and_grows_again():
    history = run(precision=mixed_precision("float16", loss_scale=dynamic(MOST, every=10)), epochs=10).history
    assert history["skipped_steps"][0] >= 4
    assert history["skipped_steps"].sum() < 20
    assert (np.diff(history["loss_scale"]) > 0).any()
    assert history["loss"][-1] < history["loss"][0]


def test_a_forward_pass_beyond_float16_ends_the_run():
    with pytest.warns(RuntimeWarning, match="non-finite after epoch 1: loss"):
        result = fit(SMALL, LOSS, MOMENTUM, 1e6 * X32, LABELS, key=KEY, epochs=2, batch_size=None, params=PARAMS, precision=F16)
    chex.assert_trees_all_equal(result.params, PARAMS)


def test_a_resumed_run_ends_the_same(tmp_path):
    class Stop(Exception):
        pass

    def stop(done, info):
        if done == 2:
            raise Stop

    options = {"precision": mixed_precision("float16", loss_scale=dynamic(MOST, every=7)), "epochs": 5, "chunk": 2}
    whole = run(**options)
    with pytest.raises(Stop):
        run(keeping=Keeping(tmp_path), progress=stop, **options)
    again = run(keeping=Keeping(tmp_path, resume=True, log=lambda _: None), **options)
    for part in ("params", "opt_state", "history"):
        chex.assert_trees_all_equal(getattr(again, part), getattr(whole, part))


@pytest.mark.parametrize("mode", ["map", pytest.param("loop", marks=pytest.mark.slow)])
def test_folds_have_each_a_scale_of_their_own_in_every_execution_mode(mode):
    vmap, other = of_folds("vmap"), of_folds(mode)
    assert vmap.histories["loss_scale"].shape == (2, 2)
    assert dtypes(vmap.params) == {"float32"}
    np.testing.assert_array_equal(other.histories["loss_scale"], vmap.histories["loss_scale"])
    assert distance(other.params, vmap.params) < 1e-3


@functools.cache
def of_folds(mode: str):
    options = {"folds": 2, "key": KEY, "epochs": 2, "batch_size": 4, "precision": OVERFLOWING}
    return cross_validate(SMALL, LOSS, MOMENTUM, X32, LABELS, execution=mode, **options)


def setup(rate):
    return bp.Setup(SMALL, LOSS, optax.sgd(rate))


@pytest.mark.slow
def test_a_sweep_takes_it():
    result = sweep(setup, X32, LABELS, [{"rate": 0.1}, {"rate": 1.0}], folds=2, key=KEY, epochs=1, batch_size=8, precision=F16)
    assert result.scores["loss"].shape == (2, 1, 2)
    assert np.isfinite(result.scores["loss"]).all()


def test_a_precision_made_again_traces_nothing(monkeypatch):
    chex.clear_trace_counter()
    once = jax.jit(chex.assert_max_traces(program.train_chunk.__wrapped__, n=1), static_argnums=(0, 1, 2), donate_argnums=3)
    monkeypatch.setattr(program, "train_chunk", once)
    first, second = (run(precision=mixed_precision(dtype)) for dtype in ("bfloat16", jnp.bfloat16))
    chex.assert_trees_all_equal(first.params, second.params)


# --- bad input


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: mixed_precision("bfloat17"), TypeError, "compute is a floating dtype .* got 'bfloat17'"),
        (lambda: mixed_precision("int8"), TypeError, "compute is a floating dtype"),
        (lambda: mixed_precision("float32"), ValueError, "'bfloat16' or 'float16', got 'float32'; leave out precision="),
        (lambda: mixed_precision("float16", loss_scale=0), ValueError, "loss_scale has to be positive"),
        (lambda: mixed_precision("float16", loss_scale=-2.0), ValueError, "loss_scale has to be positive"),
        (lambda: mixed_precision("float16", loss_scale=np.inf), ValueError, "loss_scale has to be finite"),
        (lambda: mixed_precision("float16", loss_scale="big"), TypeError, "loss_scale is a number"),
        (lambda: dynamic(0), ValueError, "initial has to be positive"),
        (lambda: dynamic(2.0**25), ValueError, r"within|lies in \[1, 2\^24\]"),
        (lambda: dynamic(growth=1), ValueError, "growth is above 1"),
        (lambda: dynamic(backoff=1.0), ValueError, "backoff below"),
        (lambda: dynamic(every=0), ValueError, "every has to be positive"),
        (lambda: run(precision="bfloat16"), TypeError, r"fit: precision: jaxbp.training.mixed_precision\(...\) or None"),
        (
            lambda: cross_validate(NET, LOSS, ADAM, X, LABELS, key=KEY, epochs=1, batch_size=5, precision=True),
            TypeError,
            "cross_validate: precision",
        ),
        (lambda: run(params=tree.cast(PARAMS, jnp.float64), precision=BF16), ValueError, r"but params.w is float64"),
        (
            lambda: fit(
                bp.embedding(5, 3, dtype="float64"), bp.losses.mse(), ADAM, LABELS[:, None], np.zeros((23, 1, 3)),
                key=KEY, epochs=1, batch_size=5, precision=BF16,
            ),
            ValueError,
            "kept in float32 .* is float64",
        ),
    ],
)  # fmt: skip
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()
