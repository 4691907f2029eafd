"""Scaling against NumPy, with weights, constant features and narrow dtypes."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.impute import SimpleImputer

from jaxbp.training import min_max, scaling, standardize
from jaxbp.training.scaling import Scale, chain, impute_mean


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


GAPS = X.copy()
GAPS[np.random.default_rng(2).random(X.shape) < 0.3] = np.nan
GAPS[WEIGHT > 0, 4] = np.nan  # nothing is there in the rows that count
FILLED = SimpleImputer(keep_empty_features=True).fit(np.repeat(GAPS, WEIGHT, axis=0)).transform(GAPS)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-6), (jnp.bfloat16, 1e-2)])
def test_missing_values_become_the_weighted_mean(dtype, tolerance):
    x = jnp.asarray(GAPS, dtype)
    got = scaled(impute_mean(), x, WEIGHT)
    assert got.dtype == dtype
    np.testing.assert_allclose(got.astype(float), FILLED, rtol=tolerance)
    marked = scaled(impute_mean(indicator=True), x, WEIGHT)
    assert marked.dtype == dtype
    np.testing.assert_array_equal(marked[:, :5], got)
    np.testing.assert_array_equal(marked[:, 5:], np.isnan(GAPS))
    assert (FILLED[WEIGHT > 0, 4] == 0).all()
    assert np.isnan(GAPS[WEIGHT == 0, 4]).any()
    assert (~np.isnan(GAPS[WEIGHT == 0, 4])).any()


def test_imputing_without_weights_and_in_other_shapes():
    everything = impute_mean().fit(jnp.asarray(GAPS))
    np.testing.assert_allclose(everything.value, np.nanmean(GAPS, axis=0), rtol=1e-14)
    images = scaled(impute_mean(indicator=True), GAPS.reshape(40, 5, 1), WEIGHT)
    assert images.shape == (40, 5, 2)  # the marks are channels
    np.testing.assert_allclose(images[..., 0], FILLED, rtol=1e-14)
    np.testing.assert_array_equal(images[..., 1], np.isnan(GAPS))
    integers = np.arange(8, dtype=np.uint8).reshape(4, 2)
    got = scaled(impute_mean(indicator=True), integers, np.ones(4))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.hstack([integers, np.zeros((4, 2))]))
    with pytest.raises(ValueError, match=r"rows of features .* got \[40\]"):
        scaled(impute_mean(indicator=True), GAPS[:, 0], WEIGHT)


def test_a_chain_fits_each_on_what_came_before():
    scale = chain(impute_mean(indicator=True), standardize(), min_max())
    rows = np.repeat(FILLED, WEIGHT, axis=0)
    middle = np.hstack([(FILLED - rows.mean(0)) / np.where(np.ptp(rows, axis=0) == 0, 1, rows.std(0)), np.isnan(GAPS)])
    middle[:, 5:] -= np.repeat(middle[:, 5:], WEIGHT, axis=0).mean(0)
    count = middle[WEIGHT > 0]
    want = (middle - count.min(0)) / np.where(np.ptp(count, axis=0) < 1e-9, 1, np.ptp(count, axis=0))
    np.testing.assert_allclose(scaled(scale, GAPS, WEIGHT), want, rtol=1e-10, atol=1e-12)


def test_folds_are_fitted_side_by_side_in_one_program():
    """As `cross_validate` does it: one traced function, mapped over the weights of the folds."""
    scale, x = chain(impute_mean(), standardize()), jnp.asarray(GAPS)
    folds = np.stack([(np.arange(40) % 4 != i) * (WEIGHT + 1.0) for i in range(4)])
    together = jax.jit(lambda weights: jax.lax.map(lambda weight: scale.apply(scale.fit(x, weight), x), weights))(folds)
    for got, weight in zip(together, folds, strict=True):
        rows = weight > 0
        changed = GAPS.copy()
        changed[~rows] = 1e9  # what is held out must not matter
        statistics = scale.fit(jnp.asarray(changed), jnp.asarray(weight))
        np.testing.assert_allclose(scale.apply(statistics, x), got, rtol=1e-12, atol=1e-13)
        alone = SimpleImputer(keep_empty_features=True).fit(np.repeat(GAPS, weight.astype(int), axis=0))
        np.testing.assert_allclose(statistics[0].value, alone.statistics_, rtol=1e-12)


def test_chains_and_what_takes_missing_values():
    assert impute_mean().takes_nan
    assert not standardize().takes_nan
    assert chain(impute_mean(), standardize()).takes_nan
    assert not chain(standardize(), impute_mean()).takes_nan  # standardize would meet the gaps
    assert chain(impute_mean(), standardize()) is chain(impute_mean(indicator=False), standardize())
    assert chain((standardize().fit, standardize().apply)) is chain(standardize())
    again = pickle.loads(pickle.dumps(chain(impute_mean(indicator=True), chain(standardize(), min_max()))))
    np.testing.assert_array_equal(
        scaled(again, GAPS, WEIGHT), scaled(chain(impute_mean(indicator=True), standardize(), min_max()), GAPS, WEIGHT)
    )
    for wrong in ((), (None,), (standardize(), None)):
        with pytest.raises(ValueError, match="one or more pairs"):
            chain(*wrong)
    with pytest.raises(TypeError, match="call it first"):
        chain(impute_mean, standardize())


def test_pairs():
    assert scaling.as_scale(None) is None
    assert scaling.as_scale((len, len)) == Scale(len, len) == Scale(len, len, takes_nan=False)
    for wrong in (standardize, "standardize", (len,), (len, 3)):
        with pytest.raises(TypeError, match=r"a pair of functions \(fit, apply\)"):
            scaling.as_scale(wrong)
