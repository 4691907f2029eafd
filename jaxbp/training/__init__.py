from jaxbp.training.class_metrics import balanced_accuracy, calibration_error, class_weights, per_class_accuracy
from jaxbp.training.diagnosis import Diagnosis, diagnose
from jaxbp.training.fitting import FitResult, fit
from jaxbp.training.gradients import value_and_grad_in_parts
from jaxbp.training.keeping import Interrupted, Keeping
from jaxbp.training.masking import apply_mask, masked
from jaxbp.training.metrics import Metric, accuracy, binary_accuracy, mae, mean_of, mse, r2, sign_accuracy
from jaxbp.training.precision import DynamicScale, Precision, dynamic, mixed_precision
from jaxbp.training.scaling import Scale, chain, impute_mean, min_max, standardize
from jaxbp.training.state import Setup, TrainState
from jaxbp.training.stopping import StoppingRule, halve_on_plateau, misclassified, patience, reach, settle
