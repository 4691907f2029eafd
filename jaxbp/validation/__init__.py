from jaxbp.validation.choosing import EpochChoice, choose_epochs
from jaxbp.validation.comparing import Comparison, compare
from jaxbp.validation.cross_validation import cross_validate
from jaxbp.validation.folds import Split, kfold, stratified_kfold
from jaxbp.validation.result import CVResult
from jaxbp.validation.searching import search
from jaxbp.validation.sweeping import SweepResult, grid, random_settings, sweep
