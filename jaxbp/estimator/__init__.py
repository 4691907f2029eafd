"""The scikit-learn face: `BackpropClassifier` and `BackpropRegressor` (extra `[sklearn]`)."""

from jaxbp.estimator.classifier import BackpropClassifier
from jaxbp.estimator.regressor import BackpropRegressor
