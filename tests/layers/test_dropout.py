"""dropout: expectation, the mask and what it depends on, evaluation, bad rates."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp


KEY = jax.random.key(0)


def train(layer, x, key=KEY):
    return layer.forward((), x, train=True, key=key)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_expectation(rate):
    """Each entry is 0 or x / (1 - rate); over 200,000 draws the share of zeros is the rate and the mean is x, within 5 sigma."""
    x = jnp.full((400, 500), 3.0, jnp.float32)
    y, _ = train(bp.dropout(rate), x)
    assert set(np.unique(y)) == {np.float32(0), np.float32(3) / np.float32(1 - rate)}
    sigma = np.sqrt(rate * (1 - rate) / x.size)
    assert abs(np.mean(np.asarray(y) == 0) - rate) < 5 * sigma
    assert abs(np.mean(y, dtype=np.float64) - 3) < 5 * sigma * 3 / (1 - rate)
    # each row and each column on its own: no axis shares its draws
    assert len({row.tobytes() for row in np.asarray(y)}) == 400
    assert len({column.tobytes() for column in np.asarray(y).T}) == 500


def test_bfloat16_has_no_bias():
    """x / (1 - rate) is divided in float32: 0.9 rounded to bfloat16 would put every entry off by the same 0.17 %."""
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, 100_000), jnp.bfloat16)[:, None]
    y, kept = train(bp.dropout(0.1), x)
    exact = np.asarray(x, np.float64) / 0.9
    by_hand = np.mean((np.asarray(y, np.float64) / exact)[np.asarray(kept)]) - 1
    rounded_rate = np.mean(np.asarray(x / jnp.bfloat16(0.9), np.float64) / exact) - 1
    assert abs(by_hand) < 1e-4
    assert abs(rounded_rate) > 1e-3


def test_the_mask_depends_on_key_and_shape_alone():
    """float64 against float32, and float64 switched on or off, compare like with like."""
    layer = bp.dropout(0.4)
    masks = [train(layer, jnp.ones((6, 7), dtype))[1] for dtype in (jnp.float64, jnp.float32, jnp.bfloat16)]
    with jax.enable_x64(False):
        masks.append(train(layer, jnp.ones((6, 7)))[1])
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])
    assert not np.array_equal(train(layer, jnp.ones((6, 7)), jax.random.key(1))[1], masks[0])


def test_what_was_dropped_is_gone_whatever_it_was():
    layer = bp.dropout(0.5)
    x = jnp.full((8, 8), jnp.nan)
    y, kept = train(layer, x)
    np.testing.assert_array_equal(np.isnan(y), kept)
    _, x_bar = layer.backward((), kept, jnp.full((8, 8), jnp.inf))
    np.testing.assert_array_equal(x_bar, np.where(kept, np.inf, 0))


def test_residual_is_one_byte_an_entry_and_none_in_evaluation():
    layer, x = bp.dropout(0.5), jnp.ones((4, 5))
    _, kept = jax.eval_shape(lambda: train(layer, x))
    assert (kept.shape, kept.dtype) == ((4, 5), jnp.bool_)
    y, residual = layer.forward((), x)
    assert residual is None
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(layer.backward((), residual, x)[1], x)


def test_remat_draws_the_same_mask_again():
    layer, x = bp.dropout(0.5), jnp.ones((4, 5))
    plain, again = (net.backward((), train(net, x)[1], x)[1] for net in (layer, bp.remat(layer)))
    np.testing.assert_array_equal(plain, again)
    assert {0.0, 2.0} == set(np.unique(plain))


def test_layers_of_one_net_draw_apart():
    net = bp.serial(bp.dropout(0.5), bp.dropout(0.5))
    _, (first, second) = net.forward(((), ()), jnp.ones((8, 8)), train=True, key=KEY)
    assert not np.array_equal(first, second)


def test_rate_zero_draws_nothing():
    layer, x = bp.dropout(0.0), jnp.ones((2, 3))
    assert layer.traits == frozenset()
    np.testing.assert_array_equal(layer((), x, train=True), x)


@pytest.mark.parametrize("rate", [1e-12, 1 - 1e-12])
def test_rates_beyond_the_bits(rate):
    y, kept = train(bp.dropout(rate), jnp.ones((4, 4)))
    assert bool(jnp.all(kept)) == (rate < 0.5)
    assert np.isfinite(y).all()


@pytest.mark.parametrize(
    ("rate", "error"),
    [(-0.1, ValueError), (1, ValueError), (1.5, ValueError), (float("nan"), ValueError), ("half", TypeError), (True, TypeError)],
)
def test_bad_rates(rate, error):
    with pytest.raises(error, match="dropout: rate"):
        bp.dropout(rate)


def test_bad_input():
    with pytest.raises(TypeError, match="floating"):
        bp.dropout(0.5).init(KEY, jax.ShapeDtypeStruct((3,), jnp.int32))
    with pytest.raises(TypeError, match="PRNG key"):
        bp.dropout(0.5)((), jnp.ones((2, 3)), train=True, key=7)
