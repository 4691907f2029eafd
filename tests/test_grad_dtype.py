"""Gradients in float32 for bfloat16 and float16 params, in one pass and in parts, and the loss scale; truth: float64 of the same
values."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CONVOLUTION, LAYERS, LINEAR
from test_layers import draw

import jaxbp as bp
from jaxbp import inputs, losses, penalties, tree
from jaxbp.training import value_and_grad_in_parts


KEY = jax.random.key(3)
NET, LOSS = bp.mlp([20, 16, 5], hidden=bp.tanh()), losses.softmax_cross_entropy()


def product(output, target):
    """A loss whose outputs_bar is the target."""
    return jnp.sum((output * target).astype(jnp.promote_types(output.dtype, jnp.float32)))


PRODUCT = losses.loss_from(product)


def worst(got, truth) -> float:
    """The largest error of a leaf in units of its largest entry, or of 1e-3 of the largest of all."""
    arrays = [[np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(a)] for a in (got, truth)]
    whole = max(np.max(np.abs(t)) for t in arrays[1])
    return max(np.max(np.abs(g - t)) / max(np.max(np.abs(t)), 1e-3 * whole) for g, t in zip(*arrays, strict=True))


def problem(dtype, batch: int = 4096, x_dtype=None):
    rng = np.random.default_rng(0)
    params, _ = NET.init(KEY, jax.ShapeDtypeStruct((20,), dtype))
    return params, jnp.asarray(rng.normal(size=(batch, 20)), x_dtype or dtype), rng.integers(0, 5, batch)


EXACT = jax.jit(bp.value_and_grad(NET, LOSS))
IN_FLOAT32 = jax.jit(bp.value_and_grad(NET, LOSS, grad_dtype="float32"))


def exact(params, x, labels, **options):
    """The float64 gradient of these very numbers."""
    return EXACT(*tree.cast((params, x), jnp.float64), labels, **options)[1]


# --- every layer


def has_params(case) -> bool:
    return bool(jax.tree.leaves(jax.eval_shape(lambda: case.at(jnp.bfloat16).init(KEY, inputs.as_spec(case.spec))[0])))


WITH_PARAMS = [case for case in LAYERS if has_params(case)]
HALVES = [
    *[pytest.param(case, jnp.bfloat16, id=f"{case.id}, bfloat16") for case in WITH_PARAMS],
    *[pytest.param(case, jnp.float16, id=f"{case.id}, float16") for case in (LINEAR[2], CONVOLUTION[2])],
]


def tolerance(case, x) -> float:
    if "norm" in case.id:  # their backward rounds each example's share of gain_bar and bias_bar to the dtype of the params
        return 2.0**-7
    # what a table hands on is in its own dtype: the passes behind it round to 8 bits, layer by layer
    return 1e-6 if inputs.is_floating(x) or case.layer.name == "embedding" else 2.0**-7


@pytest.mark.parametrize(("case", "dtype"), HALVES)
def test_float32_gradients_of_narrow_params_on_float32_inputs(case, dtype):
    """Activations are in float32 then, and so the whole gradient has its digits; rounded to bfloat16 it is off by 4e-3."""
    params, x, y_bar = draw(case, 17, dtype)
    if inputs.is_floating(x):
        x, y_bar = tree.cast((x, y_bar), jnp.float32)
    find = bp.value_and_grad(case.at(dtype), PRODUCT, reduction="sum", grad_dtype="float32")
    find_exact = bp.value_and_grad(case.at(jnp.float64), PRODUCT, reduction="sum")

    @jax.jit
    def both(params, x, y_bar):
        return find(params, x, y_bar, key=KEY)[1], find_exact(*tree.cast((params, x, y_bar), jnp.float64), key=KEY)[1]

    grads, truth = both(params, x, y_bar)
    chex.assert_trees_all_equal_structs(grads, params)
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}
    assert worst(grads, truth) <= tolerance(case, x)


# --- a batch of 4096, at once and in 32 parts


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_a_large_batch_keeps_its_digits(dtype):
    args = problem(dtype, x_dtype=jnp.float32)
    truth = exact(*args)
    assert worst(IN_FLOAT32(*args)[1], truth) <= 1e-6
    (value, grads) = jax.jit(value_and_grad_in_parts(NET, LOSS, 32))(*args)
    assert worst(grads, truth) <= 1e-6
    np.testing.assert_allclose(value, EXACT(*tree.cast(args[:2], jnp.float64), args[2])[0], rtol=1e-6)
    rounded = jax.jit(jax.grad(bp.objective(NET, LOSS)))(*args)
    assert worst(rounded, truth) >= 1e-4


def test_narrow_activations_cost_their_own_roundings_and_no_more():
    args = problem(jnp.bfloat16)
    grads = IN_FLOAT32(*args)[1]
    assert worst(grads, exact(*args)) <= 2.0**-7


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_parts_make_the_whole(reduction):
    params, x, labels = problem(jnp.float64, 24)
    weight = np.arange(24.0)
    options = {"penalty": penalties.l2(0.1), "reduction": reduction, "has_aux": True}
    whole, parts = bp.value_and_grad(NET, LOSS, **options), value_and_grad_in_parts(NET, LOSS, 4, **options)
    (value, aux), grads = jax.jit(whole)(params, x, labels, sample_weight=weight)
    (in_parts, parts_aux), parts_grads = jax.jit(parts)(params, x, labels, sample_weight=weight, loss_scale=8.0)
    chex.assert_trees_all_close((in_parts, parts_grads), (value, grads), rtol=1e-12)
    chex.assert_trees_all_close(parts_aux[:2], aux[:2], rtol=1e-12)


def test_parts_draw_each_from_a_key_of_its_own():
    net = bp.serial(bp.dense(8), bp.dropout(0.5))
    params, _ = net.init(KEY, jax.ShapeDtypeStruct((20,), jnp.float64))
    x = jnp.ones((4, 20))
    (_, aux), _ = value_and_grad_in_parts(net, losses.mse(), 2, has_aux=True)(params, x, jnp.ones((4, 8)), key=KEY)
    assert not np.array_equal(aux.outputs[:2] == 0, aux.outputs[2:] == 0)


# --- what a gradient is made of beside factors


def test_a_penalty_is_added_in_float32():
    penalty = penalties.l2(1.3, biases=True)
    args = problem(jnp.bfloat16, 64, jnp.float32)
    value, grads = jax.jit(bp.value_and_grad(NET, LOSS, penalty=penalty, grad_dtype="float32"))(*args)
    want, truth = jax.jit(bp.value_and_grad(NET, LOSS, penalty=penalty))(*tree.cast(args[:2], jnp.float64), args[2])
    assert worst(grads, truth) <= 1e-6
    np.testing.assert_allclose(value, want, rtol=1e-6)


def test_statistics_have_their_place():
    net = bp.serial(bp.dense(3), bp.batch_norm())
    params, _ = net.init(KEY, jax.ShapeDtypeStruct((20,), jnp.bfloat16))
    _, x, labels = problem(jnp.bfloat16, 8)
    find = jax.jit(bp.value_and_grad(net, LOSS, has_aux=True, grad_dtype="float32"))
    (_, aux), grads = find(params, x, labels % 3)
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}
    assert float(jnp.max(jnp.abs(grads[1].population.mean))) == 0
    assert aux.statistics[1].population.mean.dtype == jnp.float32


@pytest.mark.slow
def test_integers_stay_integers():
    _, x, labels = problem(jnp.bfloat16, 8)
    counted = bp.lift(lambda key, x: {"w": jnp.ones((20, 3), jnp.bfloat16), "n": jnp.array(2)}, lambda p, x: p["n"] * x @ p["w"])
    params, _ = counted.init(KEY, jax.ShapeDtypeStruct((20,), jnp.bfloat16))
    find = bp.value_and_grad(counted, LOSS, grad_dtype="float32", reduction="sum")
    _, grads = find(params, x, labels % 3, loss_scale=2.0)
    assert {name: g.dtype.name for name, g in grads.items()} == {"w": "float32", "n": params["n"].dtype.name}


def test_float64_gradients_of_float32_params():
    args = problem(jnp.float32, 64, jnp.float64)
    grads = jax.jit(bp.value_and_grad(NET, LOSS, grad_dtype="float64"))(*args)[1]
    assert worst(grads, exact(*args)) <= 1e-12


# --- the loss scale


def test_a_loss_scale_leaves_value_and_gradient_as_they_are():
    args = problem(jnp.float64, 24)
    weight = np.arange(24.0)
    plain = EXACT(*args, sample_weight=weight)
    for scale in (2.0**12, 3.0):
        chex.assert_trees_all_close(EXACT(*args, sample_weight=weight, loss_scale=scale), plain, rtol=1e-12)


def test_a_loss_scale_saves_what_float16_would_flush():
    """The mean over 4096 hands each example a cotangent below 2.4e-4, of which the hidden layer's are subnormal in float16."""
    params, x, labels = problem(jnp.float16)
    params = (*params[:-1], params[-1]._replace(w=(params[-1].w * 1e-3).astype(jnp.float16)))
    truth = exact(params, x, labels)
    first = lambda grads: grads[0].w
    flushed, kept = (IN_FLOAT32(params, x, labels, loss_scale=scale)[1] for scale in (1.0, 2.0**15))
    assert worst(first(flushed), first(truth)) >= 0.1
    assert worst(first(kept), first(truth)) <= 2e-3


def test_narrow_gradients_are_unscaled_before_they_are_rounded():
    """1e3 times a scale of 2^10 is beyond float16's 65504."""
    net, loss = bp.dense(1, bias=False), PRODUCT
    params, x = bp.Dense(jnp.ones((1, 1), jnp.float16), None), jnp.full((1000, 1), 1.0, jnp.float16)
    _, grads = bp.value_and_grad(net, loss, reduction="sum")(params, x, jnp.ones((1000, 1), jnp.float16), loss_scale=2.0**10)
    assert grads.w.dtype == jnp.float16
    assert grads.w.item() == 1000


def test_a_second_call_is_not_traced_again():
    find = jax.jit(chex.assert_max_traces(bp.value_and_grad(NET, LOSS, grad_dtype="float32"), n=1))
    args = problem(jnp.bfloat16, 8)
    for scale in (2.0, 4.0):
        find(*args, loss_scale=scale)


# --- bad input


def at(dtype, **options):
    return lambda **call: bp.value_and_grad(NET, LOSS, **options)(*problem(dtype, 8), **call)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (at(jnp.bfloat16, grad_dtype="float16"), ValueError, r"narrower than params\[0\].w, which is bfloat16; use 'float32'"),
        (at(jnp.float32, grad_dtype="bfloat16"), ValueError, "narrower than"),
        (lambda: bp.value_and_grad(NET, LOSS, grad_dtype="float23"), TypeError, "a floating dtype such .* got 'float23'"),
        (lambda: bp.value_and_grad(NET, LOSS, grad_dtype=jnp.int32), TypeError, "a floating dtype"),
        (lambda: at(jnp.float16)(loss_scale=0.0), ValueError, "one number, positive and finite"),
        (lambda: at(jnp.float16)(loss_scale=-2), ValueError, "one number, positive and finite"),
        (lambda: at(jnp.float16)(loss_scale=float("inf")), ValueError, "one number, positive and finite"),
        (lambda: at(jnp.float16)(loss_scale=jnp.ones(8)), ValueError, r"one number.* got float64\[8\]"),
        (lambda: value_and_grad_in_parts(NET, LOSS, 0), ValueError, "parts has to be positive"),
        (lambda: value_and_grad_in_parts(NET, LOSS, 3)(*problem(jnp.float32, 8)), ValueError, "parts=3 does not divide .* 8"),
        (lambda: value_and_grad_in_parts(bp.batch_norm(), LOSS, 2), ValueError, "mixes the rows .* use parts=1"),
        (lambda: value_and_grad_in_parts(NET, LOSS, 2, reduction="none"), ValueError, "'mean' or 'sum'"),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_float64_that_is_switched_off_is_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match="switched off"):
        bp.value_and_grad(NET, LOSS, grad_dtype="float64")
