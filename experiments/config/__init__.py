"""What each experiment can be told, and its defaults. Imports no JAX, so that --help is instant.

An experiment is a module of `experiments` with `run(options) -> exit status`, a frozen dataclass of its options in this room,
and a line of EXPERIMENTS; MODULES where the module has another name.
"""

from experiments.config import classics, uses
from experiments.config.ecosystem import AuditEcosystem
from experiments.config.gallery import All
from experiments.config.nielsen import Nielsen, NielsenStudies
from experiments.config.options import CALL, PLACES, Folded, Options, Study, UsageError, of_run
from experiments.config.studies import Inside, Pruning, Routes
from experiments.config.training import Csv, Digits, Mnist
from experiments.config.worked import Worked


EXPERIMENTS = {
    "digits": Digits,
    "mnist": Mnist,
    "csv": Csv,
    "audit-ecosystem": AuditEcosystem,
    "worked": Worked,
    **classics.CLASSICS,
    "routes": Routes,
    "inside": Inside,
    "pruning": Pruning,
    "nielsen": Nielsen,
    "nielsen-studies": NielsenStudies,
    **uses.USES,
    "all": All,
}

NIELSEN = {"nielsen": "nielsen.run", "nielsen-studies": "nielsen.studies"}
STUDIES = ("routes", "inside", "pruning")
MODULES = {
    "csv": "table",
    "all": "gallery",
    **NIELSEN,
    **classics.MODULES,
    **uses.MODULES,
    **{name: f"study.{name}" for name in STUDIES},
}

__all__ = [
    "CALL",
    "EXPERIMENTS",
    "MODULES",
    "PLACES",
    "All",
    "AuditEcosystem",
    "Csv",
    "Digits",
    "Folded",
    "Inside",
    "Mnist",
    "Nielsen",
    "NielsenStudies",
    "Options",
    "Pruning",
    "Routes",
    "Study",
    "UsageError",
    "Worked",
    "of_run",
]
