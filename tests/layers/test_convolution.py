"""conv2d: its backward against autodiff over the whole geometry, by hand on small numbers, and what it refuses."""

from __future__ import annotations

import itertools

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import jaxbp as bp
from jaxbp import factors, inputs
from jaxbp.layers.convolution import Convolution


KEY = jax.random.key(0)


def made(layer: bp.Layer, shape: tuple, batch: int = 2, dtype=jnp.float64) -> tuple:
    """params, x and a y_bar, all drawn in float64 and rounded to dtype."""
    spec = jax.ShapeDtypeStruct(shape, jnp.float64)
    params, out = layer.init(KEY, spec)
    x, y_bar = brute.random(0, batch, *shape), brute.random(1, batch, *out.shape)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, x, y_bar))


def by_hand(layer, params, x, y_bar):
    found, x_bar = layer.backward(params, layer.forward(params, x)[1], y_bar)
    return factors.total(params, found), x_bar


def by_autodiff(layer, params, x, y_bar):
    return jax.vjp(lambda p, x: layer.forward(p, x)[0], params, x)[1](y_bar)


def assert_close(got, wanted, tolerance=1e-12):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1e-3, float(jnp.max(jnp.abs(b), initial=0))))


paddings = st.sampled_from(["SAME", "VALID", ((0, 2), (1, 0)), ((3, 0), (0, 0))])
two = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(two(1, 7), two(1, 3), two(1, 3), two(1, 2), paddings, st.sampled_from([(1, 2, 3), (2, 4, 2), (3, 3, 3), (2, 2, 4)]))
def test_backward_is_the_vjp_over_the_whole_geometry(image, size, strides, dilation, padding, channels):
    """Strides that leave rows unread, windows past the edge, odd sizes, axes of one, groups of one and of several channels."""
    groups, ins, outs = channels
    layer = bp.conv2d(outs, size, strides=strides, padding=padding, dilation=dilation, groups=groups)
    try:
        params, x, y_bar = made(layer, (*image, ins))
    except ValueError as error:
        assert "does not fit" in str(error)  # noqa: PT017  # the geometry was drawn blindly
        assume(False)
    hand, auto = jax.jit(lambda *a: (by_hand(layer, *a), by_autodiff(layer, *a)))(params, x, y_bar)
    assert_close(hand, auto)


def test_by_hand_on_small_numbers():
    """A kernel of 2 x 2 over an image of 3 x 3, each product written out."""
    x = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    w = np.asarray([[1.0, -1.0], [2.0, 0.5]]).reshape(2, 2, 1, 1)
    params = Convolution(jnp.asarray(w), jnp.asarray([10.0]))
    layer = bp.conv2d(1, 2, padding="VALID")
    y, residuals = layer.forward(params, jnp.asarray(x))
    assert y[0, ..., 0].tolist() == [[1 - 2 + 8 + 2.5 + 10, 2 - 3 + 10 + 3 + 10], [4 - 5 + 14 + 4 + 10, 5 - 6 + 16 + 4.5 + 10]]
    y_bar = jnp.asarray([[1.0, 0.0], [3.0, 0.0]]).reshape(1, 2, 2, 1)
    found, x_bar = layer.backward(params, residuals, y_bar)
    assert found.w.total()[..., 0, 0].tolist() == [[1 + 3 * 4, 2 + 3 * 5], [4 + 3 * 7, 5 + 3 * 8]]
    assert found.b.total().tolist() == [4.0]
    assert x_bar[0, ..., 0].tolist() == [[1, -1, 0], [2 + 3, 0.5 - 3, 0], [6, 1.5, 0]]


def test_entries_that_no_window_reads_get_nothing():
    layer = bp.conv2d(2, 2, strides=3, padding="VALID")
    params, x, y_bar = made(layer, (7, 6, 1))
    (params_bar, x_bar) = by_hand(layer, params, x, y_bar)
    unread = [n for n in range(7) if n % 3 == 2 or n >= 5]
    assert unread == [2, 5, 6]
    assert not x_bar[:, unread].any()
    assert not x_bar[:, :, [2, 5]].any()
    assert x_bar[:, 0, 0].all()
    changed = x.at[:, unread].set(jnp.nan).at[:, :, [2, 5]].set(jnp.nan)
    assert_close(by_hand(layer, params, changed, y_bar)[0], params_bar)


def test_a_kernel_as_large_as_the_image_is_a_dense_layer():
    layer, dense = bp.conv2d(3, (4, 5), padding="VALID"), bp.serial(bp.flatten(), bp.dense(3))
    params, x, y_bar = made(layer, (4, 5, 2))
    w = params.w.reshape(-1, 3)
    params_bar, x_bar = by_hand(layer, params, x, y_bar)
    dense_bar, flat_bar = by_hand(dense, ((), bp.Dense(w, params.b)), x, y_bar[:, 0, 0])
    assert_close((params_bar.w.reshape(-1, 3), params_bar.b, x_bar), (dense_bar[1].w, dense_bar[1].b, flat_bar))


def convolutions(jaxpr):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            yield eqn.params
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from convolutions(inner)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_every_convolution_has_the_one_layout_that_is_fast_inside_loops(groups):
    """XLA's CPU compiler brings others into this form only outside of `scan`; inside, autodiff's take 17 to 45 times as long."""
    layer = bp.conv2d(4, 3, strides=2, groups=groups)
    params, x, y_bar = made(layer, (6, 6, 4))
    found = list(convolutions(jax.make_jaxpr(lambda *a: by_hand(layer, *a))(params, x, y_bar).jaxpr))
    assert len(found) == 3  # y, w_bar, x_bar
    for options in found:
        assert options["dimension_numbers"] == ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
        assert options["batch_group_count"] == 1
    auto = list(convolutions(jax.make_jaxpr(lambda *a: by_autodiff(layer, *a))(params, x, y_bar).jaxpr))
    assert any(options["dimension_numbers"] != found[0]["dimension_numbers"] for options in auto)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("groups", [1, 2])
def test_each_dtype_is_kept_and_summed_in_float32(dtype, groups):
    layer = bp.conv2d(4, 3, groups=groups)
    params, x, y_bar = made(layer, (9, 9, 4), batch=4, dtype=dtype)
    exact = jax.tree.map(lambda a: a.astype(jnp.float64), (params, x, y_bar))
    got, wanted = jax.jit(lambda *a: by_hand(layer, *a))(params, x, y_bar), by_autodiff(layer, *exact)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
    rounding = 1.01 * float(jnp.finfo(dtype).eps) / 2 + 2e-6  # one rounding at the end, and float32 before it
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a.astype(jnp.float64), b, rtol=rounding, atol=2e-6 * float(jnp.max(jnp.abs(b))))


def test_params_wider_than_x():
    layer = bp.conv2d(2, 3)
    params, x, y_bar = made(layer, (4, 4, 2), dtype=jnp.float32)
    y, _ = layer.forward(params, x.astype(jnp.bfloat16))
    assert y.dtype == jnp.float32
    params_bar, x_bar = by_hand(layer, params, x.astype(jnp.bfloat16), y_bar)
    assert (params_bar.w.dtype, x_bar.dtype) == (jnp.float32, jnp.bfloat16)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("groups", [1, 2])
def test_the_backward_can_be_differentiated(dtype, groups):
    """Forward over it for Hessian-vector products, and in reverse for penalties on gradients."""
    layer = bp.conv2d(4, 3, strides=2, groups=groups)
    params, x, y_bar = made(layer, (5, 5, 4), dtype=dtype)
    square = lambda rule: (
        lambda p, x: sum(jnp.sum(leaf.astype(jnp.float64) ** 2) for leaf in jax.tree.leaves(rule(layer, p, x, y_bar)))
    )
    tangent = jax.jit(lambda: jax.jvp(lambda x: by_hand(layer, params, x, y_bar), (x,), (x,))[1])()
    assert_close(tangent[0].w, by_hand(layer, params, x, y_bar)[0].w, 1e-12 if dtype == jnp.float64 else 1e-2)
    hand = jax.jit(jax.grad(square(by_hand), (0, 1)))(params, x)
    if dtype == jnp.float64:
        assert_close(hand, jax.jit(jax.grad(square(by_autodiff), (0, 1)))(params, x), 1e-11)


def test_lanes_with_kernels_of_their_own():
    """As in k-fold training of all folds at once."""
    layer = bp.conv2d(4, 3, strides=2, groups=2)
    params, x, y_bar = made(layer, (5, 4, 2))
    stack = lambda tree: jax.tree.map(lambda a: jnp.stack([a, a[::-1]]), tree)
    lanes = jax.jit(jax.vmap(lambda *a: by_hand(layer, *a)))(*stack((params, x, y_bar)))
    for lane in range(2):
        of = lambda tree, lane=lane: jax.tree.map(lambda a: a[lane], tree)
        assert_close(of(lanes), by_hand(layer, *of(stack((params, x, y_bar)))))


def test_shapes_are_known_before_anything_runs():
    for padding, strides, groups in itertools.product(("SAME", "VALID", [(1, 2), (0, 1)]), (1, (2, 3)), (1, 2)):
        layer = bp.conv2d(6, (3, 2), strides=strides, padding=padding, groups=groups)
        params, out = layer.init(KEY, (7, 8, 4))
        assert params.w.shape == (3, 2, 4 // groups, 6)
        assert inputs.check_batch(layer, params, jnp.zeros((1, 7, 8, 4), jnp.float32)) == out
        assert jax.eval_shape(layer.forward, params, jnp.zeros((5, 7, 8, 4), jnp.float32))[0].shape == (5, *out.shape)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"features": 0}, ValueError, "features has to be positive"),
        ({"features": 2.5}, TypeError, "features is a whole number"),
        ({"kernel_size": 0}, ValueError, "kernel_size has to be positive"),
        ({"kernel_size": (3, -1)}, ValueError, "kernel_size has to be positive, got -1"),
        ({"strides": 0}, ValueError, "strides has to be positive"),
        ({"dilation": (1, 0)}, ValueError, "dilation has to be positive"),
        ({"groups": 0}, ValueError, "groups has to be positive"),
        ({"features": 4, "groups": 3}, ValueError, "4 features do not divide into 3 equal groups"),
        ({"padding": "REFLECT"}, ValueError, "'SAME', 'VALID' or a .* pair .* got 'REFLECT'"),
        ({"padding": 1}, TypeError, "pair for every spatial axis, got 1"),
        ({"padding": ((1, -1), (0, 0))}, ValueError, "at least 0"),
        (
            {"kernel_size": (3, 3, 3)},
            ValueError,
            r"kernel_size is one number or one for each of the 2 spatial axes, got \[3, 3, 3\]",
        ),
        ({"strides": (1, 1, 1)}, ValueError, r"strides is one number or one for each of the 2 spatial axes, got \[1, 1, 1\]"),
    ],
)
def test_options_it_refuses(options, error, says):
    with pytest.raises(error, match=f"conv2d: .*{says}"):
        bp.conv2d(**{"features": 4, "kernel_size": 3, **options})


@pytest.mark.parametrize(
    ("options", "spec", "error", "says"),
    [
        ({"padding": "VALID"}, (2, 5, 1), ValueError, r"over \[3, 3\] entries .* an image of \[2, 5\]"),
        ({"groups": 2}, (5, 5, 3), ValueError, r"the 3 channels of an example of shape \[5, 5, 3\] do not divide into 2"),
        ({}, (5, 5, 0), ValueError, "0 channels"),
        ({}, (0, 5, 1), ValueError, r"does not fit into an image of \[0, 5\]"),
        ({}, (28, 28), ValueError, r"\(height, width, channels\), got \[28, 28\]"),
        ({}, (1, 5, 5, 1), ValueError, r"\(height, width, channels\), got \[1, 5, 5, 1\]"),
        ({}, jax.ShapeDtypeStruct((5, 5, 1), jnp.uint8), TypeError, r"floating-point inputs, got uint8\[5, 5, 1\]"),
    ],
)
def test_examples_it_refuses(options, spec, error, says):
    with pytest.raises(error, match=f"conv2d: .*{says}"):
        bp.conv2d(4, 3, **options).init(KEY, spec)
