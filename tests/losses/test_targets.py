"""What losses refuse, and what they say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_rules import loss_and_grad

from jaxbp import inputs, losses


KEY = jax.random.key(0)


def no_number(output, target):
    return output - target


def an_integer(output, target):
    return jnp.argmax(output)


@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy(), losses.softmax_cross_entropy(0.1), losses.log_likelihood()])
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int8, jnp.uint8])
def test_a_label_outside_gives_nan_in_its_row_alone(loss, dtype):
    p = jnp.full((3, 2), 0.5)
    for bad in (2, 200 if dtype == jnp.uint8 else -1):
        found, grad = loss_and_grad(loss, p, jnp.array([0, bad, 1], dtype))
        np.testing.assert_array_equal(np.isnan(found), [False, True, False])
        np.testing.assert_array_equal(np.isnan(grad), [[False] * 2, [True] * 2, [False] * 2])


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
