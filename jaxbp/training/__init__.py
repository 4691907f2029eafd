from jaxbp.training.fitting import FitResult, fit
from jaxbp.training.metrics import Metric, accuracy, binary_accuracy, mean_of, mse, sign_accuracy
from jaxbp.training.scaling import Scale, min_max, standardize
from jaxbp.training.state import TrainState
