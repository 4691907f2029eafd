"""What each experiment can be told, and its defaults. Imports no JAX, so that --help is instant.

An experiment is a module of `experiments` with `run(options) -> exit status`, a frozen dataclass of its options in this room,
and a line of EXPERIMENTS; MODULES where the module has another name.
"""

from experiments.config.ecosystem import AuditEcosystem
from experiments.config.options import CALL, PLACES, Folded, Options, Study, UsageError, of_run
from experiments.config.training import Csv, Digits, Mnist


EXPERIMENTS = {
    "digits": Digits,
    "mnist": Mnist,
    "csv": Csv,
    "audit-ecosystem": AuditEcosystem,
}

MODULES = {"csv": "table"}

__all__ = [
    "CALL",
    "EXPERIMENTS",
    "MODULES",
    "PLACES",
    "AuditEcosystem",
    "Csv",
    "Digits",
    "Folded",
    "Mnist",
    "Options",
    "Study",
    "UsageError",
    "of_run",
]
