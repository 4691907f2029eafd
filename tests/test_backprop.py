"""The outer doors: values and gradients against jax.grad, weights, transformations, custom rules and their traps."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxbp as bp
from jaxbp import losses, penalties


KEY = jax.random.key(0)
NET = bp.mlp([4, 6, 3], hidden=bp.tanh())
LOSS = losses.softmax_cross_entropy()


@functools.cache
def problem(batch: int = 8, dtype=jnp.float64):
    params, _ = NET.init(KEY, jax.ShapeDtypeStruct((4,), dtype))
    x = jax.random.normal(jax.random.fold_in(KEY, 1), (batch, 4), dtype)
    labels = jax.random.randint(jax.random.fold_in(KEY, 2), (batch,), 0, 3)
    return params, x, labels


def both(net=NET, loss=LOSS, **options):
    return jax.jit(bp.value_and_grad(net, loss, **options)), jax.jit(jax.value_and_grad(bp.objective(net, loss, **options)))


def assert_close(got, want, rtol=1e-12):
    chex.assert_trees_all_close(got, want, rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("penalty", [None, penalties.l2(0.1), penalties.l1(0.01, biases=True)])
def test_hand_equals_autodiff(reduction, penalty):
    hand, auto = both(reduction=reduction, penalty=penalty)
    assert_close(hand(*problem()), auto(*problem()))


def test_mean_is_the_weighted_mean_and_sum_the_weighted_sum():
    params, x, labels = problem()
    weights = jnp.arange(8.0)
    per_example = LOSS(NET(params, x), labels)
    for reduction, value in (("mean", jnp.sum(weights * per_example) / 28), ("sum", jnp.sum(weights * per_example))):
        hand, auto = both(reduction=reduction)
        got = hand(params, x, labels, sample_weight=weights)
        assert_close(got[0], value)
        assert_close(got, auto(params, x, labels, sample_weight=weights))


def test_weight_zero_leaves_an_example_out_whatever_it_holds():
    params, x, labels = problem()
    weights = jnp.array([1.0] * 5 + [0.0] * 3)
    hand, _ = both()
    alone = hand(params, x[:5], labels[:5])
    assert_close(hand(params, x.at[5:].set(1e30), labels, sample_weight=weights), alone)


def test_weights_that_are_all_zero_give_zero():
    params, x, labels = problem()
    value, grads = both()[0](params, x, labels, sample_weight=jnp.zeros(8))
    assert float(value) == 0
    assert all(float(jnp.max(jnp.abs(g))) == 0 for g in jax.tree.leaves(grads))


def test_weights_over_time():
    net, loss = bp.dense(3), LOSS
    params, _ = net.init(KEY, jax.ShapeDtypeStruct((5, 4), jnp.float64))
    x, labels = jax.random.normal(KEY, (2, 5, 4)), jnp.array([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])
    hand, auto = both(net, loss)
    mask = jnp.array([[1.0, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    for weights in (mask, jnp.array([1.0, 3.0])):
        assert_close(hand(params, x, labels, sample_weight=weights), auto(params, x, labels, sample_weight=weights))
    value, _ = hand(params, x, labels, sample_weight=mask)
    assert_close(value, jnp.sum(mask * loss(net(params, x), labels)) / 5)


def test_has_aux_gives_outputs_and_losses():
    params, x, labels = problem()
    (value, aux), grads = bp.value_and_grad(NET, LOSS, has_aux=True)(params, x, labels)
    (auto_value, auto_aux), auto_grads = jax.value_and_grad(bp.objective(NET, LOSS, has_aux=True), has_aux=True)(
        params, x, labels
    )
    assert_close((value, aux.outputs, aux.losses, grads), (auto_value, auto_aux.outputs, auto_aux.losses, auto_grads))
    assert_close(aux.outputs, NET(params, x))


def test_population_statistics_leave_through_aux_by_either_route():
    net = bp.serial(bp.dense(3), bp.batch_norm())
    params, _ = net.init(KEY, jax.ShapeDtypeStruct((4,), jnp.float64))
    _, x, labels = problem()
    (_, by_hand), grads = bp.value_and_grad(net, LOSS, has_aux=True)(params, x, labels)
    (_, by_auto), _ = jax.value_and_grad(bp.objective(net, LOSS, has_aux=True), has_aux=True)(params, x, labels)
    assert_close(by_hand.statistics, by_auto.statistics)
    moved = bp.update_statistics(params, by_hand.statistics)
    assert not np.allclose(moved[1].population.mean, params[1].population.mean)
    assert_close(moved[0], params[0])
    assert float(jnp.max(jnp.abs(grads[1].population.mean))) == 0


def test_bf16_params_get_bf16_gradients():
    hand, _ = both()
    _, grads = jax.eval_shape(hand, *problem(dtype=jnp.bfloat16))
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype(jnp.bfloat16)}


def test_vmap_over_stacked_params():
    params, x, labels = problem()
    stacked = jax.tree.map(lambda p: jnp.stack([p, 0.5 * p, -p]), params)
    values, grads = jax.jit(jax.vmap(bp.value_and_grad(NET, LOSS), (0, None, None)))(stacked, x, labels)
    value, grad = both()[0](jax.tree.map(lambda p: p[1], stacked), x, labels)
    assert_close((values[1], jax.tree.map(lambda g: g[1], grads)), (value, grad))


def test_jvp_of_the_gradient_is_the_hessian_vector_product():
    params, x, labels = problem()
    v = jax.tree.map(lambda p: jax.random.normal(KEY, p.shape), params)
    product = lambda grad: jax.jit(lambda p: jax.jvp(grad, (p,), (v,))[1])(params)
    by_hand = product(lambda p: bp.value_and_grad(NET, LOSS)(p, x, labels)[1])
    by_auto = product(lambda p: jax.grad(bp.objective(NET, LOSS))(p, x, labels))
    assert_close(by_hand, by_auto, rtol=1e-11)


def test_any_optax_loop():
    params, x, labels = problem()
    optimizer = optax.adamw(1e-2)

    @jax.jit
    def step(params, state):
        value, grads = bp.value_and_grad(NET, LOSS)(params, x, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state, values = optimizer.init(params), []
    for _ in range(50):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < 0.6 * values[0]


def test_a_second_call_of_the_same_shapes_is_not_traced_again():
    hand = jax.jit(chex.assert_max_traces(bp.value_and_grad(NET, LOSS), n=1))
    params, x, labels = problem()
    hand(params, x, labels)
    hand(params, x + 1, labels)


# --- as_custom_vjp


def loss_through(apply, losses_of):
    return lambda params, x, labels: jnp.mean(losses_of(apply(params, x), labels))


def test_as_custom_vjp_hands_the_rule_to_jax_grad():
    params, x, labels = problem()
    ours = loss_through(bp.as_custom_vjp(NET), bp.as_custom_vjp(LOSS))
    plain = loss_through(NET, LOSS)
    assert_close(jax.jit(jax.grad(ours, (0, 1)))(params, x, labels), jax.jit(jax.grad(plain, (0, 1)))(params, x, labels))
    assert "custom_vjp" in str(jax.make_jaxpr(ours)(params, x, labels))
    assert "custom" not in str(jax.make_jaxpr(plain)(params, x, labels))


def test_as_custom_vjp_is_differentiable_again():
    params, x, labels = problem(3)
    hessian = lambda f: jax.jit(jax.hessian(lambda b: f((params[0]._replace(b=b), *params[1:]), x, labels)))(params[0].b)
    ours = jax.jacrev(
        jax.grad(lambda b: loss_through(bp.as_custom_vjp(NET), LOSS)((params[0]._replace(b=b), *params[1:]), x, labels))
    )
    assert_close(jax.jit(ours)(params[0].b), hessian(loss_through(NET, LOSS)), rtol=1e-10)


def test_as_custom_vjp_with_integer_inputs_and_keys():
    net = bp.serial(bp.embedding(5, 4, dtype="float64"), bp.dropout(0.5), bp.dense(3))
    ids = jnp.array([[0, 4], [2, 2]])
    params, _ = net.init(KEY, ids[0])
    ours, plain = (lambda p, f=f: jnp.sum(f(p, ids, train=True, key=KEY) ** 2) for f in (bp.as_custom_vjp(net), net))
    assert_close(jax.grad(ours)(params), jax.grad(plain)(params))


def test_as_custom_vjp_casts_cotangents_to_the_dtype_of_the_primal():
    """JAX checks the tree and the shape of what a rule returns but not the dtype."""
    params, x, _ = problem(dtype=jnp.bfloat16)
    grads = jax.grad(lambda p, x: jnp.sum(bp.as_custom_vjp(NET)(p, x).astype(jnp.float32)), (0, 1))(params, x)
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype(jnp.bfloat16)}


def test_as_custom_vjp_of_a_loss_refuses_a_gradient_in_its_targets():
    """A None cotangent would be a silent zero."""
    a, y = jnp.ones((2, 3)), jnp.zeros((2, 3))
    f = bp.as_custom_vjp(losses.quadratic())
    with pytest.raises(TypeError, match="no cotangent for its targets"):
        jax.grad(lambda y: jnp.sum(f(a, y)))(y)
    assert_close(jax.grad(lambda a: jnp.sum(f(a, y)))(a), a)


def test_as_custom_vjp_of_a_loss_with_unused_output_or_partial_use():
    f = bp.as_custom_vjp(losses.quadratic())
    a, y = jnp.ones((2, 3)), jnp.zeros((2, 3))
    assert_close(jax.grad(lambda a: jnp.sum(f(a, y)[:1]))(a), a.at[1].set(0))
    _, vjp = jax.vjp(lambda a: (f(a, y), jnp.sum(a)), a)
    assert_close(vjp((jnp.zeros(2), jnp.array(1.0)))[0], jnp.ones((2, 3)))


# --- bad input


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda p, x, t: bp.value_and_grad("net", LOSS), TypeError, "a Layer was expected"),
        (lambda p, x, t: bp.value_and_grad(NET, optax.l2_loss), TypeError, "loss_from"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS, reduction="none"), ValueError, "'mean' or 'sum', got 'none'"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x[:, :3], t), ValueError, r"params\[0\].w should be|sizes\[0\] is 4"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p[:2], x, t), ValueError, "another structure"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x, t[:5]), ValueError, "8 outputs but 5 targets"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x[:0], t[:0]), ValueError, "batch is empty"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x[0], t), (ValueError, TypeError), "expected|one example"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x.astype(int), t), TypeError, "floating-point inputs, got int"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x, t.astype(float)), (ValueError, TypeError), "integer|label"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x, t + 3), ValueError, "label"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x, t, sample_weight=jnp.ones(5)), ValueError, "sample_weight"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x, t, sample_weight=jnp.ones((8, 1))), ValueError, "sample_weight"),
        (lambda p, x, t: bp.value_and_grad(NET, LOSS)(p, x, t, key=3), TypeError, "PRNG key"),
        (lambda p, x, t: bp.as_custom_vjp(NET.forward), TypeError, "takes a Layer or a Loss"),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call(*problem())


def test_ids_outside_a_table_raise_at_the_door_and_are_nan_inside():
    net = bp.serial(bp.embedding(5, 4, dtype="float64"), bp.dense(3))
    params, _ = net.init(KEY, jax.ShapeDtypeStruct((2,), jnp.int32))
    ids = jnp.array([[0, 1], [2, 5]])
    with pytest.raises(ValueError, match=r"5 at index \[1, 1\]"):
        net(params, ids)
    y = np.asarray(jax.jit(net)(params, ids))
    assert np.isnan(y[1, 1]).all()
    assert np.isfinite(y[0]).all()


def test_a_net_that_draws_needs_a_key_in_training():
    net = bp.serial(bp.dense(3), bp.dropout(0.5))
    params, _ = net.init(KEY, jax.ShapeDtypeStruct((4,), jnp.float64))
    _, x, labels = problem()
    with pytest.raises(ValueError, match="pass key="):
        bp.value_and_grad(net, LOSS)(params, x, labels)
    bp.value_and_grad(net, LOSS)(params, x, labels, train=False)
