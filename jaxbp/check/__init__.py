"""The gradient checker, for anyone's JAX function."""

from jaxbp.check.checks import check_gradient, check_jvp, check_pair, check_vjp
from jaxbp.check.report import Hint, LeafReport, Report, Step


__all__ = ["Hint", "LeafReport", "Report", "Step", "check_gradient", "check_jvp", "check_pair", "check_vjp"]
