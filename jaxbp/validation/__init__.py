from jaxbp.validation.cross_validation import cross_validate
from jaxbp.validation.folds import Split, kfold, stratified_kfold
from jaxbp.validation.result import CVResult
