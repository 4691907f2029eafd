"""Conv: the kernel's cotangent over one, two and three axes, with strides, dilation, padding and groups, against loops."""

from __future__ import annotations

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp.factors import Conv, Each, Outer, Sum
from jaxbp.windows import Window


def conv_of(batch: int, image: tuple, channels: int, window: Window, features: int, groups: int = 1, key: int = 0) -> Conv:
    x = brute.random(key, batch, *image, channels)
    y_bar = brute.random(key + 1, batch, *window.positions(image), features)
    return Conv(jnp.asarray(x), jnp.asarray(y_bar), window, groups)


def truth(f: Conv) -> np.ndarray:
    return brute.conv(f.x, f.y_bar, f.window, f.groups)


SQUARE = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
CONVS = {
    "two axes": conv_of(9, (4, 5), 2, SQUARE, 3),
    "one axis, dilated": conv_of(9, (8,), 2, Window((3,), (1,), ((2, 0),), (2,)), 2),
    "three axes": conv_of(3, (3, 2, 4), 1, Window((2, 1, 2), (1, 1, 2), ((0, 1), (0, 0), (1, 0)), (1, 1, 1)), 2),
    "strides that leave entries unread": conv_of(9, (8, 9), 2, Window((2, 3), (3, 4), ((0, 0), (0, 0)), (1, 1)), 2),
    "strides beyond the window": conv_of(3, (7, 7), 1, Window((1, 2), (3, 4), ((1, 0), (0, 2)), (1, 1)), 2),
    "groups": conv_of(9, (4, 4), 4, Window((2, 3), (2, 1), ((0, 0), (1, 2)), (1, 2)), 6, groups=2),
    "a group a channel": conv_of(3, (3, 3), 3, SQUARE, 6, groups=3),
    "one position": conv_of(10, (2, 3), 3, Window((2, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)), 4),
    "few positions, grouped": conv_of(17, (3, 4), 4, Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)), 8, groups=2),
    "axes of one": conv_of(1, (1, 1), 1, SQUARE, 1),
}


@pytest.mark.parametrize("name", CONVS)
def test_every_answer(name):
    f = CONVS[name]
    brute.check(f, truth(f))


def test_two_of_one_kernel_that_ran_over_different_images():
    f, g = CONVS["two axes"], conv_of(9, (7, 6), 2, SQUARE._replace(strides=(2, 3)), 3, key=5)
    brute.check_pair(f, truth(f), g, truth(g))
    h = Each(jnp.asarray(brute.random(8, 9, 3, 3, 2, 3)), 4)
    brute.check_pair(f, truth(f), h, np.asarray(h.value))
    brute.check(Sum((f, g, h)), truth(f) + truth(g) + np.asarray(h.value))


def test_two_of_one_kernel_in_different_groupings():
    """Three channels in one group and six in two make kernels of one shape whose blocks do not match."""
    f, g = conv_of(9, (3, 3), 3, SQUARE, 4), conv_of(9, (3, 3), 6, SQUARE, 4, groups=2, key=3)
    brute.check_pair(f, truth(f), g, truth(g))


def test_a_kernel_of_one_tap_is_a_weight_over_positions():
    f = conv_of(9, (3, 4), 5, Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)), 4)
    dense = Outer(f.x, f.y_bar)
    for ask in ("total", "examples", "second_moment"):
        got = getattr(f, ask)()
        np.testing.assert_allclose(got.reshape(getattr(dense, ask)().shape), getattr(dense, ask)(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(f.sq_norms(), dense.sq_norms(), rtol=1e-11)


@pytest.mark.parametrize("features", [8, 64])
def test_norms_keep_to_some_examples_at_a_time(features):
    """Neither the patches of a batch nor its kernels are ever there at once."""
    batch = 64
    f = jax.tree.map(lambda a: a.astype(jnp.float32), conv_of(batch, (14, 14), 8, SQUARE, features))
    patches, kernels = 4 * 14 * 14 * 9 * 8, 4 * 9 * 8 * features
    memory = jax.jit(Conv.sq_norms).lower(f).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * (patches + kernels) < batch * patches / 10


@pytest.mark.parametrize("groups", [1, 2])
def test_bfloat16_is_summed_in_float32(groups):
    ones = jnp.ones((7, 11, 13, 2), jnp.bfloat16)
    f = Conv(ones, ones, Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)), groups)
    assert f.total(jnp.float32).tolist() == [[[[1001.0] * 2] * (2 // groups)]]  # bfloat16 counts to 256
    assert f.total().dtype == jnp.bfloat16
    assert f.sq_norms().tolist() == [4 // groups * 143.0**2] * 7
    assert f.dot(jnp.ones((1, 1, 2 // groups, 2), jnp.bfloat16)).tolist() == [4 // groups * 143.0] * 7


def test_made_under_vmap_and_reduced_inside():
    x, y_bar = jnp.asarray(brute.random(0, 2, 9, 4, 4, 4)), jnp.asarray(brute.random(1, 2, 9, 4, 4, 2))
    for groups in (1, 2):
        reduce = lambda x, y_bar, groups=groups: (
            lambda f: (f.total(), f.sq_norms(), f.second_moment(), f.gram(), f.dot(f.total()))
        )(Conv(x, y_bar, SQUARE, groups))
        lanes = jax.jit(jax.vmap(reduce))(x, y_bar)
        for lane in range(2):
            for got, wanted in zip(lanes, jax.jit(reduce)(x[lane], y_bar[lane]), strict=True):
                np.testing.assert_allclose(got[lane], wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["two axes", "groups"])
def test_outers_are_patches_and_cotangents_by_group(name):
    f = CONVS[name]
    outers = f.outers()
    g = np.stack([brute.outer(x, y_bar) for x, y_bar in zip(outers.x, outers.y_bar, strict=True)], axis=2)
    np.testing.assert_allclose(g.reshape(truth(f).shape), truth(f), rtol=1e-12, atol=1e-12)
