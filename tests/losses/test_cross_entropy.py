"""Cross-entropies on logits: digits at any margin, values, conventions."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_rules import ahead, loss_and_grad, plain_cross_entropy, plain_loss_and_grad, true_cross_entropy
from ulps import ulp_errors

from jaxbp import losses
from jaxbp.layers.softmax import log_softmax


KEY = jax.random.key(0)


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


def test_labels_may_be_of_a_type_too_narrow_for_the_number_of_classes():
    z = jnp.zeros((2, 300)).at[:, 7].set(1.0)
    wide, narrow = (losses.softmax_cross_entropy()(z, jnp.array([7, 99], dtype)) for dtype in (jnp.int32, jnp.int8))
    np.testing.assert_array_equal(wide, narrow)


def test_softmax_cross_entropy_keeps_one_array_of_the_size_of_the_logits():
    spec = jax.ShapeDtypeStruct((8, 10), jnp.float32), jax.ShapeDtypeStruct((8,), jnp.int32)
    residuals = jax.eval_shape(lambda z, y: losses.softmax_cross_entropy().forward(z, y)[1], *spec)
    assert sum(leaf.size for leaf in jax.tree.leaves(residuals)) == 8 * 10 + 8


def test_log_softmax_with_the_chosen_entry_is_as_good_as_the_fused_loss():
    z, labels = ahead(20.0, 10)
    hot = jax.nn.one_hot(labels, 10, dtype=jnp.float32)
    y, residuals = log_softmax().forward((), z)
    true_loss, true_grad = true_cross_entropy(z, hot)
    assert ulp_errors(-jnp.sum(y * hot, axis=-1), true_loss, jnp.float32).max() <= 6
    grad = log_softmax().backward((), residuals, -hot)[1]
    assert ulp_errors(grad, true_grad, jnp.float32).max() <= 6


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
