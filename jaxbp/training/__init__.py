from jaxbp.training.class_metrics import balanced_accuracy, calibration_error, class_weights, per_class_accuracy
from jaxbp.training.fitting import FitResult, fit
from jaxbp.training.keeping import Interrupted, Keeping
from jaxbp.training.metrics import Metric, accuracy, binary_accuracy, mae, mean_of, mse, r2, sign_accuracy
from jaxbp.training.scaling import Scale, chain, impute_mean, min_max, standardize
from jaxbp.training.state import Setup, TrainState
from jaxbp.training.stopping import StoppingRule, halve_on_plateau, misclassified, patience, reach, settle
