"""Missing values: filled inside each fold from its own training rows; refused where nothing fills them."""

import jax
import numpy as np
import optax
import pytest
from sklearn.impute import SimpleImputer

import jaxbp as bp
from jaxbp.training import chain, fit, impute_mean, standardize
from jaxbp.validation import cross_validate


DRAW = np.random.default_rng(0)
X, LABELS = DRAW.normal(3, 2, (30, 4)), np.arange(30) % 3
GAPS = np.where(DRAW.random(X.shape) < 0.2, np.nan, X)
OPTIONS = {"key": jax.random.key(0), "epochs": 3, "batch_size": 6, "metrics": ()}
PARTS = (bp.dense(3), bp.losses.softmax_cross_entropy(), optax.sgd(0.1))


def test_each_fold_fills_its_own_gaps():
    got = cross_validate(*PARTS, GAPS, LABELS, folds=3, scale=chain(impute_mean(), standardize()), **OPTIONS)
    for i, (train, held_out) in enumerate(got.splits):
        filled = SimpleImputer().fit(GAPS[train]).transform(GAPS)
        alone = fit(*PARTS, filled[train], LABELS[train], scale=standardize(), **OPTIONS | {"key": got.keys[i]})
        np.testing.assert_allclose(got.params.w[i], alone.params.w, rtol=1e-9)
        scaled = standardize().apply(alone.scale, filled[held_out])
        np.testing.assert_allclose(got.predictions[held_out], PARTS[0](alone.params, scaled), rtol=1e-9, atol=1e-12)


def test_a_validation_set_may_have_gaps_too():
    result = fit(*PARTS, GAPS, LABELS, validation=(GAPS[:5], LABELS[:5]), scale=impute_mean(), **OPTIONS)
    assert np.all(np.isfinite(result.history["validation_loss"]))


@pytest.mark.parametrize("scale", [None, standardize(), chain(standardize(), impute_mean())])
def test_gaps_that_nothing_fills_are_refused(scale):
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit(*PARTS, GAPS, LABELS, scale=scale, **OPTIONS)


def test_infinity_is_no_gap():
    x = GAPS.copy()
    x[2, 1] = np.inf
    with pytest.raises(ValueError, match=r"1 values are NaN or infinite, the first at index \[2, 1\]"):
        fit(*PARTS, x, LABELS, scale=impute_mean(), **OPTIONS)
