"""What the estimators take from scikit-learn, which `import jaxbp` does without."""

from __future__ import annotations


try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state, compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(
        "jaxbp.BackpropClassifier and jaxbp.BackpropRegressor need scikit-learn 1.6 or newer "
        f"({error}); install it by: pip install 'jaxbp[sklearn]'"
    ) from error


__all__ = [
    "BaseEstimator",
    "ClassifierMixin",
    "RegressorMixin",
    "_check_sample_weight",
    "available_if",
    "check_classification_targets",
    "check_is_fitted",
    "check_random_state",
    "column_or_1d",
    "compute_sample_weight",
    "type_of_target",
    "validate_data",
]
