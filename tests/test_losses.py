"""Every loss of cases.py: contract, agreement with autodiff of its own forward. Then what each loss promises for itself."""

from __future__ import annotations

import pickle

import cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LOSSES, LossCase
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ulps import ulp_errors

import jaxbp as bp
from jaxbp import inputs, losses
from jaxbp.layers.softmax import log_softmax, softmax


KEY = jax.random.key(0)
every_loss = pytest.mark.parametrize("case", LOSSES, ids=[case.id for case in LOSSES])


def draw(case: LossCase, batch: int = 3, dtype=jnp.float64):
    """outputs, targets and a random losses_bar."""
    outputs = case.outputs(jax.random.fold_in(KEY, 1), batch, dtype)
    targets = case.targets(jax.random.fold_in(KEY, 2), batch, dtype)
    shape = jax.eval_shape(lambda *a: case.loss.forward(*a)[0], outputs, targets)
    return outputs, targets, jnp.asarray(np.random.default_rng(3).normal(size=shape.shape), shape.dtype)


@pytest.fixture
def quick_compiles():
    """XLA without most of its optimisations: half the compile time. Agreement at 1e-12 in float64 does not hang on them."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def by_hand(loss, outputs, targets, losses_bar):
    found, residuals = loss.forward(outputs, targets)
    return found, loss.backward(residuals, losses_bar)


def autodiff(loss, outputs, targets, losses_bar):
    found, vjp = jax.vjp(lambda outputs: loss.forward(outputs, targets)[0], outputs)
    return found, vjp(losses_bar)[0]


def assert_close(got, truth, tolerance=1e-12):
    got, truth = np.asarray(got), np.asarray(truth)
    assert got.shape == truth.shape
    assert np.all(np.isfinite(truth))
    assert np.max(np.abs(got - truth)) <= tolerance * max(np.max(np.abs(truth)), 1e-3)


# --- every loss


@every_loss
@pytest.mark.parametrize("batch", [1, 3, 17])
def test_backward_is_the_vjp_of_forward_in_float64(case, batch, quick_compiles):
    hand, auto = jax.jit(lambda *a: (by_hand(case.loss, *a), autodiff(case.loss, *a)))(*draw(case, batch))
    assert_close(hand[0], auto[0])
    assert_close(hand[1], auto[1])


@every_loss
def test_hessian_vector_product_is_that_of_forward(case, quick_compiles):
    outputs, targets, losses_bar = draw(case, 4)
    direction = jnp.asarray(np.random.default_rng(0).normal(size=outputs.shape))
    along = lambda rule: jax.jvp(lambda outputs: rule(case.loss, outputs, targets, losses_bar)[1], (outputs,), (direction,))[1]
    assert_close(*jax.jit(lambda: (along(by_hand), along(autodiff)))(), tolerance=1e-10)


@every_loss
def test_contract(case):
    """Losses (batch, *axes) in at least float32, outputs_bar like the outputs, residuals of arrays, checks that let good input pass."""
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        outputs, targets, losses_bar = draw(case, dtype=dtype)
        found, outputs_bar = jax.eval_shape(lambda *a: by_hand(case.loss, *a), outputs, targets, losses_bar)
        assert found.shape == ((3,) if case.loss.name == "loss_from" else outputs.shape[:-1])
        assert found.dtype == jnp.float32
        assert (outputs_bar.shape, outputs_bar.dtype) == (outputs.shape, dtype)
        inputs.check_targets(case.loss, outputs, targets)
        inputs.check_targets(case.loss, jax.ShapeDtypeStruct(outputs.shape, dtype), targets)
        _, outputs_bar = jax.eval_shape(lambda *a: by_hand(case.loss, *a), outputs, targets, losses_bar.astype(jnp.bfloat16))
        assert outputs_bar.dtype == dtype
    residuals = jax.eval_shape(lambda *a: case.loss.forward(*a)[1], outputs, targets)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(residuals))


@every_loss
def test_jit_equals_plain_and_every_example_stands_alone(case, quick_compiles):
    arrays = draw(case, 5)
    run = lambda *a: by_hand(case.loss, *a)
    plain = run(*arrays)
    np.testing.assert_array_equal(case.loss(*arrays[:2]), plain[0])
    chex.assert_trees_all_close(jax.jit(run)(*arrays), plain, rtol=1e-12, atol=1e-14)
    as_batches_of_one = jax.jit(jax.vmap(run))(*(a[:, None] for a in arrays))
    chex.assert_trees_all_close(jax.tree.map(lambda a: a[:, 0], as_batches_of_one), plain, rtol=1e-12, atol=1e-14)


@every_loss
def test_construction_is_cached_repr_is_code_and_pickle_is_the_call(case):
    assert eval(repr(case.loss), {**vars(bp), "cases": cases}) is case.loss
    assert pickle.loads(pickle.dumps(case.loss)) is case.loss
    assert repr(case.loss).startswith("losses.")


def test_every_public_loss_is_in_the_table():
    assert {repr(case.loss).split("(")[0] for case in LOSSES} == {f"losses.{name}" for name in losses.__all__}


# --- softmax cross-entropy: digits


def plain_cross_entropy(z, labels):
    """ln sum e^z - z_y, as it is usually written."""
    return jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, labels[:, None], axis=-1)[:, 0]


def true_cross_entropy(z, t):
    """Losses and gradient in extended precision, each minus one summed from the others."""
    d = np.asarray(z).astype(np.longdouble)
    d, t = d - d.max(-1, keepdims=True), np.asarray(t).astype(np.longdouble)
    e = np.exp(d)
    others = 1 - np.eye(d.shape[-1], dtype=np.longdouble)
    top = np.eye(d.shape[-1])[d.argmax(-1)] > 0
    log_s = np.log1p(np.where(top, 0, e).sum(-1))
    found = t.sum(-1) * log_s - np.where(t == 0, 0, t * d).sum(-1)
    grad = (e * (t @ others) - t * (e @ others)) / e.sum(-1, keepdims=True)
    return found.astype(np.float64), grad.astype(np.float64)


def ahead(margin: float, classes: int, offset: float = 0.0, rows: int = 64):
    """float32 logits and labels, the label's logit `margin` above all others."""
    rng = np.random.default_rng(round(margin) + classes)
    z, labels = rng.normal(size=(rows, classes)) + offset, rng.integers(0, classes, rows)
    z[np.arange(rows), labels] = z.max(-1) + margin
    return jnp.asarray(z, jnp.float32), jnp.asarray(labels)


def plain_loss_and_grad(loss, z, targets):
    return by_hand(loss, z, targets, jnp.ones(z.shape[:-1]))


loss_and_grad = jax.jit(plain_loss_and_grad, static_argnums=0)


def cross_entropy_errors(z, labels, targets=None, run=loss_and_grad):
    """The largest errors in ulps of the losses, the entries at labels and the other entries."""
    targets, hot = labels if targets is None else targets, np.eye(z.shape[-1])[labels]
    found, grad = run(losses.softmax_cross_entropy(), z, targets)
    true_loss, true_grad = true_cross_entropy(z, hot)
    grad_errors = ulp_errors(grad, true_grad, jnp.float32)
    at_others = grad_errors[hot == 0].max() if z.shape[-1] > 1 else 0
    return ulp_errors(found, true_loss, jnp.float32).max(), grad_errors[hot == 1].max(), at_others


MARGINS = [0.0, 0.5, 5.0, 10.0, 15.0, 20.0, 40.0, 80.0]


@pytest.mark.parametrize("classes", [2, 10, 300])
def test_softmax_cross_entropy_is_right_to_the_last_digits_at_any_margin(classes):
    for margin in MARGINS:
        for offset in (0.0, 70.0, -3000.0):
            assert max(cross_entropy_errors(*ahead(margin, classes, offset))) <= 6, (margin, offset)


def test_softmax_cross_entropy_keeps_its_digits_without_jit_and_on_one_hot_targets():
    for margin in (10.0, 80.0):
        z, labels = ahead(margin, 10)
        assert max(cross_entropy_errors(z, labels, run=plain_loss_and_grad)) <= 6
        assert max(cross_entropy_errors(z, labels, jax.nn.one_hot(labels, 10, dtype=jnp.float32))) <= 6


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float32, (4, 5), elements=st.floats(-60, 60, width=32)), st.lists(st.integers(0, 4), min_size=4, max_size=4))
def test_softmax_cross_entropy_is_right_to_the_last_digits_wherever_the_label_stands(z, labels):
    assert max(cross_entropy_errors(jnp.asarray(z), np.array(labels))) <= 6


def test_autodiff_of_the_plain_form_loses_what_the_hand_written_rule_keeps():
    """Labels ahead by 15 lose five digits, by 20 all; far classes lose two at a margin of 80, where z - max z is rounded."""
    grad_of_plain = jax.jit(jax.grad(lambda z, labels: jnp.sum(plain_cross_entropy(z, labels))))
    for margin, least in ((15.0, 1e5), (20.0, 1e6), (80.0, 10.0)):
        z, labels = ahead(margin, 10)
        hot = np.eye(10)[labels] == 1
        errors = ulp_errors(grad_of_plain(z, labels), true_cross_entropy(z, hot)[1], jnp.float32)
        assert errors[hot if margin < 80 else ~hot].max() >= least


def test_bfloat16_labels_ten_ahead_still_learn():
    z, labels = ahead(10.0, 10, rows=500)
    z = z.astype(jnp.bfloat16)
    hot = np.eye(10)[labels] == 1
    _, grad = loss_and_grad(losses.softmax_cross_entropy(), z, labels)
    assert grad.dtype == jnp.bfloat16
    assert ulp_errors(grad, true_cross_entropy(z, hot)[1], jnp.bfloat16).max() <= 0.6
    of_plain = jax.jit(jax.grad(lambda z: jnp.sum(plain_cross_entropy(z, labels))))(z)
    assert np.mean(np.asarray(of_plain)[hot] == 0) > 0.9


def test_targets_between_are_right_where_they_do_not_cancel():
    """p_k sum_{j != k} t_j - t_k sum_{j != k} p_j: errors are of the size of the two products, not of p and t."""
    z, labels = ahead(20.0, 6)
    t = jax.nn.softmax(jax.random.normal(KEY, (64, 6), jnp.float32))
    t = t.at[:32].set(jnp.where(np.eye(6)[labels[:32]] == 1, 1 - 5e-6, 1e-6))  # nearly one-hot at the label
    _, grad = loss_and_grad(losses.softmax_cross_entropy(), z, t)
    p = np.exp(np.asarray(z, np.float64) - np.asarray(z, np.float64).max(-1, keepdims=True))
    p, t_wide, others = p / p.sum(-1, keepdims=True), np.asarray(t, np.float64), 1 - np.eye(6)
    size = p * (t_wide @ others) + t_wide * (p @ others)
    assert np.max(np.abs(grad - true_cross_entropy(z, t)[1]) / size) < 16 * 2.0**-24


# --- softmax cross-entropy: values, conventions


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_softmax_cross_entropy_at_800(dtype):
    z = jnp.array([[800.0, -800.0], [800.0, 800.0], [-800.0, -800.0]], dtype)
    found, grad = loss_and_grad(losses.softmax_cross_entropy(), z, jnp.array([1, 0, 1]))
    np.testing.assert_allclose(found, [1600.0, np.log(2), np.log(2)], rtol=1e-6)
    np.testing.assert_array_equal(grad.astype(jnp.float32), [[1, -1], [-0.5, 0.5], [0.5, -0.5]])


@pytest.mark.parametrize("targets", [jnp.array([0, 1, 2]), jnp.eye(3)], ids=["labels", "distributions"])
def test_masked_classes_take_no_part(targets):
    z = jnp.array([[1.0, 2.0, -jnp.inf], [1.0, -jnp.inf, 2.0], [-jnp.inf, -jnp.inf, -jnp.inf]])
    found, grad = loss_and_grad(losses.softmax_cross_entropy(), z, targets)
    p = 1 / (1 + np.e)  # of the logit 1 beside the logit 2
    np.testing.assert_allclose(found, [-np.log(p), np.inf, np.log(3)], rtol=1e-12)
    np.testing.assert_allclose(grad, [[p - 1, 1 - p, 0], [p, -1, 1 - p], [0, 0, 0]], rtol=1e-12)


def test_label_smoothing_spreads_over_the_classes_that_are_not_masked():
    z, labels = jnp.array([[1.0, 2.0, 0.0, -jnp.inf]]), jnp.array([1])
    smoothed = losses.softmax_cross_entropy(label_smoothing=0.3)
    by_rule = jnp.array([[0.1, 0.8, 0.1, 0.0]])
    for got, want in zip(
        loss_and_grad(smoothed, z, labels), loss_and_grad(losses.softmax_cross_entropy(), z, by_rule), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-16)
    chex.assert_trees_all_close(
        loss_and_grad(smoothed, z, labels), loss_and_grad(smoothed, z, jnp.eye(4)[labels]), rtol=1e-12, atol=1e-16
    )


@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy(), losses.softmax_cross_entropy(0.1), losses.log_likelihood()])
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int8, jnp.uint8])
def test_a_label_outside_gives_nan_in_its_row_alone(loss, dtype):
    p = jnp.full((3, 2), 0.5)
    for bad in (2, 200 if dtype == jnp.uint8 else -1):
        found, grad = loss_and_grad(loss, p, jnp.array([0, bad, 1], dtype))
        np.testing.assert_array_equal(np.isnan(found), [False, True, False])
        np.testing.assert_array_equal(np.isnan(grad), [[False] * 2, [True] * 2, [False] * 2])


def test_labels_may_be_of_a_type_too_narrow_for_the_number_of_classes():
    z = jnp.zeros((2, 300)).at[:, 7].set(1.0)
    wide, narrow = (losses.softmax_cross_entropy()(z, jnp.array([7, 99], dtype)) for dtype in (jnp.int32, jnp.int8))
    np.testing.assert_array_equal(wide, narrow)


def test_softmax_cross_entropy_keeps_one_array_of_the_size_of_the_logits():
    spec = jax.ShapeDtypeStruct((8, 10), jnp.float32), jax.ShapeDtypeStruct((8,), jnp.int32)
    residuals = jax.eval_shape(lambda z, y: losses.softmax_cross_entropy().forward(z, y)[1], *spec)
    assert sum(leaf.size for leaf in jax.tree.leaves(residuals)) == 8 * 10 + 8


# --- fused pairs


def unfused(layer, loss, z, targets, losses_bar):
    p, layer_residuals = layer.forward((), z)
    found, residuals = loss.forward(p, targets)
    return found, layer.backward((), layer_residuals, loss.backward(residuals, losses_bar))[1]


SOFTMAX_PAIR = (softmax(), losses.log_likelihood(), losses.softmax_cross_entropy())
SIGMOID_PAIR = (bp.sigmoid(), losses.binary_cross_entropy(), losses.sigmoid_cross_entropy())


@pytest.mark.parametrize(
    ("pair", "targets"),
    [
        (SOFTMAX_PAIR, cases.integers(0, 5)),
        (SOFTMAX_PAIR, cases.distributions(5)),
        (SIGMOID_PAIR, cases.integers(0, 2, 5)),
        (SIGMOID_PAIR, cases.shares(5)),
    ],
)
def test_fused_equals_unfused_in_float64(pair, targets):
    layer, apart, fused = pair
    z, t = 4 * cases.real(5)(KEY, 17, jnp.float64), targets(jax.random.fold_in(KEY, 1), 17, jnp.float64)
    bar = jax.random.normal(jax.random.fold_in(KEY, 2), (17,))
    for one, other in zip(unfused(layer, apart, z, t, bar), by_hand(fused, z, t, bar), strict=True):
        assert_close(one, other)


def test_delta_is_a_less_y():
    """The classics' output error: a - y for both cross-entropies and for a linear output with the quadratic loss."""
    z, labels = cases.real(4)(KEY, 6, jnp.float64), jnp.array([0, 1, 2, 3, 0, 1])
    y = jnp.eye(4)[labels]
    assert_close(loss_and_grad(losses.softmax_cross_entropy(), z, labels)[1], jax.nn.softmax(z) - y)
    assert_close(loss_and_grad(losses.sigmoid_cross_entropy(), z, y)[1], jax.nn.sigmoid(z) - y)
    assert_close(loss_and_grad(losses.quadratic(), z, y)[1], z - y)


@pytest.mark.parametrize("pair", [SOFTMAX_PAIR, SIGMOID_PAIR], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_both_ways_are_finite_at_800(pair, dtype):
    layer, apart, fused = pair
    z = jnp.array([[800.0, -800.0], [-800.0, 800.0]], dtype)
    for t in (jnp.eye(2, dtype=dtype), 1 - jnp.eye(2, dtype=dtype), jnp.full((2, 2), 0.5, dtype)):
        for bar in (jnp.ones(2, dtype), jnp.full(2, 1e6, dtype)):
            chex.assert_tree_all_finite((unfused(layer, apart, z, t, bar), by_hand(fused, z, t, bar)))


# --- sigmoid cross-entropy and logistic


def test_sigmoid_cross_entropy_is_right_to_the_last_digits():
    z = np.asarray(np.linspace(-80, 80, 4001), np.float32)
    wide = z.astype(np.float64)
    for label in (0, 1):
        found, grad = loss_and_grad(losses.sigmoid_cross_entropy(), jnp.asarray(z[:, None]), jnp.full(4001, label))
        toward = wide if label == 0 else -wide  # the logit of the wrong answer
        e = np.exp(-np.abs(toward))
        wrong = np.where(toward >= 0, 1 / (1 + e), e / (1 + e))
        assert ulp_errors(grad[:, 0], wrong if label == 0 else -wrong, jnp.float32).max() <= 4
        assert ulp_errors(found, np.maximum(toward, 0) + np.log1p(e), jnp.float32).max() <= 4


def test_autodiff_of_the_plain_sigmoid_form_flushes_what_the_hand_written_rule_keeps():
    plain = lambda z: -jnp.log(1 / (1 + jnp.exp(-z)))
    z = jnp.array([18.0], jnp.float32)
    assert jax.grad(lambda z: jnp.sum(jnp.maximum(z, 0) - z + jnp.log1p(jnp.exp(-jnp.abs(z)))))(z)[0] == 0
    assert plain(z)[0] == 0
    found, grad = loss_and_grad(losses.sigmoid_cross_entropy(), z[:, None], jnp.array([1]))
    np.testing.assert_allclose([found[0], -grad[0, 0]], np.exp(-18.0), rtol=1e-6)


def test_logistic_is_sigmoid_cross_entropy_with_other_labels():
    s, y = cases.logits(3)(KEY, 30, jnp.float32), cases.signs(3)(jax.random.fold_in(KEY, 1), 30, jnp.float32)
    chex.assert_trees_all_close(
        loss_and_grad(losses.logistic(), s, y), loss_and_grad(losses.sigmoid_cross_entropy(), s, (y + 1) / 2), rtol=1e-7
    )


def test_hinge_has_slope_zero_at_its_kink():
    s = jnp.array([[1.0], [1 - 1e-6], [-1.0], [-1 + 1e-6], [3.0], [-3.0]])
    found, grad = loss_and_grad(losses.hinge(), s, jnp.array([1, 1, -1, -1, 1, 1]))
    np.testing.assert_allclose(found, [0, 1e-6, 0, 1e-6, 0, 4], atol=1e-12)
    np.testing.assert_array_equal(grad[:, 0], [0, -1, 0, 1, 0, -1])


@pytest.mark.parametrize("loss", [losses.hinge(), losses.logistic()])
def test_labels_other_than_signs_give_nan_under_jit(loss):
    found, grad = loss_and_grad(loss, jnp.full((3, 1), 2.0), jnp.array([1, 0, -1]))
    np.testing.assert_array_equal(np.isnan(found), [False, True, False])
    assert not np.any(np.isnan(grad[::2]))


# --- losses on probabilities at 0 and 1


@pytest.mark.parametrize(("dtype", "cost"), [(jnp.float32, 88.33655), (jnp.float64, 709.396418532264), (jnp.bfloat16, 88.33655)])
def test_certain_outputs_have_finite_costs_and_slopes(dtype, cost):
    a = jnp.array([[0.0], [1.0], [0.0], [1.0]], dtype)
    found, grad = loss_and_grad(losses.binary_cross_entropy(), a, jnp.array([0, 1, 1, 0]))
    np.testing.assert_allclose(found, [0, 0, cost, cost], rtol=1e-6)
    steep = 1 / float(jnp.finfo(dtype).tiny)
    np.testing.assert_allclose(grad[:, 0].astype(jnp.float64), [1, -1, -steep, steep], rtol=1e-6)
    p = jnp.array([[0.0, 1.0], [0.0, 1.0]], dtype)
    found, grad = loss_and_grad(losses.log_likelihood(), p, jnp.array([0, 1]))
    np.testing.assert_allclose(found, [cost, 0], rtol=1e-6)
    np.testing.assert_allclose(grad.astype(jnp.float64), [[-steep, 0], [0, -1]], rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy(), losses.log_likelihood()])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_cotangents_of_certain_outputs_stay_finite_under_large_weights(loss, dtype):
    p = jnp.array([[0.0, 1.0], [1.0, 0.0]], dtype)
    found, residuals = loss.forward(p, 1 - p)
    bar = loss.backward(residuals, jnp.full_like(found, 1e4))
    assert np.all(np.isfinite(bar))
    # and the slope 0 of a saturated sigmoid makes them 0
    layer_residuals = bp.sigmoid().forward((), jnp.where(p > 0, 1, -1) * jnp.asarray(1e4, dtype))[1]
    np.testing.assert_array_equal(bp.sigmoid().backward((), layer_residuals, bar)[1], np.zeros((2, 2)))


def test_the_continuation_of_the_logarithm_agrees_with_autodiff_on_both_sides_of_its_seam():
    tiny = float(jnp.finfo(jnp.float64).tiny)
    a = jnp.array([[0.0], [tiny / 2], [tiny], [2 * tiny], [1e-300]])
    ones = jnp.ones(5), jnp.ones(5)
    loss = losses.binary_cross_entropy()
    for hand, auto in zip(by_hand(loss, a, *ones), autodiff(loss, a, *ones), strict=True):
        np.testing.assert_allclose(hand, auto, rtol=1e-12)


# --- the losses of real outputs


def test_quadratic_and_mse_by_hand():
    a, y = jnp.array([[1.0, 2.0, 4.0]]), jnp.array([[0.0, 4.0, 4.0]])
    for loss, value, grad in ((losses.quadratic(), 2.5, [[1, -2, 0]]), (losses.mse(), 5 / 3, [[2 / 3, -4 / 3, 0]])):
        found, bar = loss_and_grad(loss, a, y)
        np.testing.assert_allclose(found, [value], rtol=1e-15)
        np.testing.assert_allclose(bar, grad, rtol=1e-15)


def test_narrow_outputs_are_subtracted_and_summed_in_float32():
    a, y = jnp.full((1, 1000), 1.0, jnp.bfloat16), jnp.full((1, 1000), 1 + 2.0**-12, jnp.float32)
    found, grad = loss_and_grad(losses.quadratic(), a, y)
    np.testing.assert_allclose(found, [500 * 2.0**-24], rtol=1e-6)
    np.testing.assert_array_equal(grad.astype(jnp.float32), np.full((1, 1000), -(2.0**-12)))


# --- any function as a loss


def half_square(output, target):
    return jnp.sum((output - target) ** 2) / 2


def test_loss_from_gives_what_the_hand_written_losses_give():
    z, y = cases.real(2, 3)(KEY, 5, jnp.float64), cases.real(2, 3)(jax.random.fold_in(KEY, 1), 5, jnp.float64)
    bar = jnp.arange(5.0)
    found, grad = by_hand(losses.loss_from(half_square), z, y, bar)
    want, want_grad = by_hand(losses.quadratic(), z, y, jnp.broadcast_to(bar[:, None], (5, 2)))
    chex.assert_trees_all_close((found, grad), (want.sum(1), want_grad), rtol=1e-12)


def weighted_distance(output, target):
    return jnp.sum(jnp.where(jnp.arange(3) < output["length"], output["y"] - target[0], 0) ** 2) * target[1]


def test_loss_from_takes_trees_and_gives_integer_leaves_no_cotangent():
    outputs = {"y": jnp.ones((2, 3), jnp.bfloat16), "length": jnp.array([2, 3])}
    targets = (jnp.zeros((2, 3)), jnp.array([1.0, 0.5]))
    loss = losses.loss_from(weighted_distance)
    np.testing.assert_array_equal(loss(outputs, targets), [2.0, 1.5])
    bar = by_hand(loss, outputs, targets, jnp.ones(2))[1]
    assert bar["length"] is None
    assert bar["y"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(bar["y"].astype(jnp.float32), [[2, 2, 0], [1, 1, 1]])


def no_number(output, target):
    return output - target


def an_integer(output, target):
    return jnp.argmax(output)


# --- bad input

X32, Z5 = jnp.ones((3, 2), jnp.float32), jnp.ones((3, 5), jnp.float32)
ENTRYWISE = [losses.quadratic(), losses.mse(), losses.sigmoid_cross_entropy(), losses.hinge(), losses.logistic()]


@pytest.mark.parametrize("loss", [*ENTRYWISE, losses.binary_cross_entropy()])
def test_targets_never_broadcast(loss):
    """Not even where no check comes first: the forward itself compares the shapes."""
    for outputs, targets in (
        (Z5[:, :3], jnp.ones(3)),
        (X32, jnp.ones((1, 2))),
        (X32, jnp.ones((3, 1))),
        (X32[:, :1], jnp.ones((1, 3))),
    ):
        with pytest.raises(ValueError, match="targets of shape"):
            jax.eval_shape(loss.forward, outputs, targets)
    one, flat = X32[:, :1], jnp.ones(3)
    np.testing.assert_array_equal(loss.forward(one, flat)[0], loss.forward(one, flat[:, None])[0])
    assert loss.forward(one, flat)[0].shape == (3,)


BAD = [
    (losses.quadratic(), jnp.ones(3), jnp.ones(3), ValueError, r"last axis of 1, outputs\[:, None\]"),
    (losses.quadratic(), jnp.ones((3, 2), int), X32, TypeError, "floating-point inputs"),
    (losses.quadratic(), (X32, X32), X32, TypeError, "one array"),
    (losses.quadratic(), jnp.ones((3, 0)), jnp.ones((3, 0)), ValueError, "at least one entry"),
    (losses.quadratic(), X32, jnp.ones((2, 2)), ValueError, "3 outputs but 2 targets"),
    (losses.quadratic(), X32[:0], X32[:0], ValueError, "empty"),
    (losses.quadratic(), X32, X32 * 1j, TypeError, "real numbers"),
    (losses.quadratic(), X32, X32.at[1, 0].set(jnp.nan), ValueError, r"finite, got nan at index \[1, 0\] \(1 such of 6\)"),
    (losses.mse(), X32, X32.at[2, 1].set(jnp.inf), ValueError, r"finite, got inf at index \[2, 1\]"),
    (losses.softmax_cross_entropy(), Z5, jnp.array([0, 5, 1]), ValueError, r"\[0, 5\), got 5 at index \[1\]"),
    (losses.softmax_cross_entropy(), Z5, jnp.array([0, -1, 1]), ValueError, r"\[0, 5\), got -1 at index \[1\]"),
    (losses.softmax_cross_entropy(), Z5, jnp.array([0.0, 1.0, 2.0]), TypeError, "astype"),
    (losses.softmax_cross_entropy(), Z5, jnp.array([True, False, True]), TypeError, "integer labels"),
    (losses.softmax_cross_entropy(), Z5, jnp.array([[0], [1], [2]]), ValueError, r"targets\[\.\.\., 0\]"),
    (losses.softmax_cross_entropy(), Z5, jnp.eye(3, 4), ValueError, "4 classes for 5 outputs"),
    (losses.softmax_cross_entropy(), Z5, jnp.eye(3, 5) * 2 - 1, ValueError, "in \\[0, 1\\]"),
    (losses.softmax_cross_entropy(), Z5, jnp.eye(3, 5) * 0.9, ValueError, "sum to 1"),
    (losses.softmax_cross_entropy(), Z5, jnp.ones((3, 5), int), ValueError, "sum to 1"),
    (losses.softmax_cross_entropy(), Z5, jnp.eye(3, 5) * jnp.nan, ValueError, "got nan"),
    (losses.softmax_cross_entropy(), jnp.ones((3, 5, 4)), jnp.array([0, 1, 2]), ValueError, r"integer labels \[3, 5\]"),
    (losses.sigmoid_cross_entropy(), X32, X32 * 2, ValueError, "in \\[0, 1\\]"),
    (losses.sigmoid_cross_entropy(), X32, -X32, ValueError, "logistic"),
    (losses.binary_cross_entropy(), X32 * 1.5, X32, ValueError, "for logits use sigmoid_cross_entropy"),
    (losses.binary_cross_entropy(), X32, X32 * 1.5, ValueError, "targets have to lie"),
    (losses.log_likelihood(), -X32, jnp.array([0, 1, 1]), ValueError, "for logits use softmax_cross_entropy"),
    (losses.log_likelihood(), X32, jnp.array([0, 2, 1]), ValueError, r"\[0, 2\), got 2"),
    (losses.hinge(), X32[:, :1], jnp.array([0, 1, 1]), ValueError, r"2 \* labels - 1"),
    (losses.logistic(), X32[:, :1], jnp.array([jnp.nan, 1, 1]), ValueError, "-1 or \\+1"),
    (losses.loss_from(no_number), X32, X32, ValueError, "one floating-point number"),
    (losses.loss_from(an_integer), X32, X32, ValueError, "one floating-point number"),
]


@pytest.mark.parametrize(("loss", "outputs", "targets", "error", "message"), BAD)
def test_bad_input_says_what_was_expected(loss, outputs, targets, error, message):
    with pytest.raises(error, match=message):
        loss(outputs, targets)


def test_targets_are_looked_at_where_only_the_outputs_are_abstract():
    """The doors know the outputs' shapes before they are computed; the targets they have."""
    with pytest.raises(ValueError, match="got 9 at index"):
        inputs.check_targets(losses.softmax_cross_entropy(), jax.ShapeDtypeStruct((2, 3), jnp.float32), jnp.array([9, 0]))
    seen = jax.jit(lambda z, y: losses.softmax_cross_entropy()(z, y))(jnp.zeros((2, 3)), jnp.array([9, 0]))
    np.testing.assert_array_equal(np.isnan(seen), [True, False])


def test_outputs_that_are_nan_are_the_nets_and_show_in_the_loss():
    assert np.isnan(losses.binary_cross_entropy()(jnp.array([[jnp.nan]]), jnp.array([1]))[0])


def test_distributions_may_be_rounded():
    p = jax.nn.softmax(jax.random.normal(KEY, (50, 20))).astype(jnp.bfloat16)
    assert losses.softmax_cross_entropy()(jnp.zeros((50, 20)), p).shape == (50,)
    assert losses.softmax_cross_entropy()(jnp.zeros((3, 5)), np.eye(3, 5, dtype=bool)).shape == (3,)


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: losses.softmax_cross_entropy(1.0), ValueError),
        (lambda: losses.softmax_cross_entropy(-0.1), ValueError),
        (lambda: losses.softmax_cross_entropy("0.1"), TypeError),
        (lambda: losses.softmax_cross_entropy(True), TypeError),
        (lambda: losses.softmax_cross_entropy(smoothing=0.1), TypeError),
        (lambda: losses.loss_from(3), TypeError),
    ],
)
def test_bad_configuration(build, error):
    with pytest.raises(error):
        build()


def test_log_softmax_with_the_chosen_entry_is_as_good_as_the_fused_loss():
    z, labels = ahead(20.0, 10)
    hot = jax.nn.one_hot(labels, 10, dtype=jnp.float32)
    y, residuals = log_softmax().forward((), z)
    true_loss, true_grad = true_cross_entropy(z, hot)
    assert ulp_errors(-jnp.sum(y * hot, axis=-1), true_loss, jnp.float32).max() <= 6
    grad = log_softmax().backward((), residuals, -hot)[1]
    assert ulp_errors(grad, true_grad, jnp.float32).max() <= 6
