"""Scaling against NumPy, with weights, constant features and narrow dtypes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp.training import min_max, scaling, standardize


X = np.random.default_rng(0).normal(3, 2, (40, 5))
WEIGHT = np.arange(40) % 3


def scaled(scale, x, weight):
    return np.asarray(scale.apply(scale.fit(jnp.asarray(x), jnp.asarray(weight)), jnp.asarray(x)))


def test_standardize_is_the_weighted_mean_and_deviation():
    rows = np.repeat(X, WEIGHT, axis=0)
    np.testing.assert_allclose(scaled(standardize(), X, WEIGHT), (X - rows.mean(0)) / rows.std(0), rtol=1e-12, atol=1e-13)


def test_min_max_is_of_the_rows_that_count():
    rows = X[WEIGHT > 0]
    np.testing.assert_allclose(scaled(min_max(), X, WEIGHT), (X - rows.min(0)) / np.ptp(rows, axis=0), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("scale", [standardize(), min_max()], ids=["standardize", "min_max"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8 / 3])
def test_a_constant_feature_is_shifted_alone(scale, constant):
    x = X.copy()
    x[:, 2] = constant
    got = scaled(scale, x, WEIGHT)
    np.testing.assert_allclose(got[:, 2], 0, atol=1e-6)
    assert np.isfinite(got).all()


@pytest.mark.parametrize("scale", [standardize(), min_max()], ids=["standardize", "min_max"])
def test_dtypes(scale):
    weight = np.ones(40)
    wide = scaled(scale, X, weight)
    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 5e-2)):
        got = scaled(scale, jnp.asarray(X, dtype), weight)
        assert got.dtype == dtype
        np.testing.assert_allclose(got.astype(float), wide, atol=tolerance)
    integers = scaled(scale, np.random.default_rng(1).integers(0, 9, (40, 5)).astype(np.uint8), weight)
    assert integers.dtype == np.float32
    assert np.ptp(integers) > 0.9
    assert np.isfinite(integers).all()


@pytest.mark.parametrize("scale", [standardize(), min_max()], ids=["standardize", "min_max"])
def test_without_weights_every_row_counts(scale):
    np.testing.assert_array_equal(scale.fit(jnp.asarray(X)), scale.fit(jnp.asarray(X), jnp.ones(40)))


def test_images_have_a_statistic_for_every_pixel():
    x = X.reshape(40, 5, 1)
    assert scaled(standardize(), x, WEIGHT).shape == x.shape


def test_pairs():
    assert scaling.as_scale(None) is None
    assert scaling.as_scale((len, len)) == scaling.Scale(len, len)
    for wrong in (standardize, "standardize", (len,), (len, 3)):
        with pytest.raises(TypeError, match=r"a pair of functions \(fit, apply\)"):
            scaling.as_scale(wrong)
