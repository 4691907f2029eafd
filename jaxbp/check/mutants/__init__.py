"""The benchmark of wrong rules: planted bugs as people write them, and correct functions that tools call wrong.

`MUTANTS` are functions with a wrong derivative, `CORRECT` are right. `python -m jaxbp.check.mutants` runs the checkers on
both and prints detection beside false alarms; with `--tests PATH` it mutates the custom rules that a user's tests cover.
"""

from jaxbp.check.mutants import (
    attention,
    contracts,
    convolution,
    cross_entropy,
    dense,
    embedding,
    functions,
    losses,
    norms,
    numerics,
    penalties,
    pooling,
    recurrent,
    scans,
    softmax,
    structure,
)
from jaxbp.check.mutants.cases import CAUSES, HINTS, Check, Correct, Mutant
from jaxbp.check.mutants.correct import PLAIN
from jaxbp.check.mutants.correct_rules import RULES


AREAS = (
    dense,
    convolution,
    softmax,
    cross_entropy,
    norms,
    attention,
    pooling,
    embedding,
    recurrent,
    losses,
    penalties,
    scans,
    structure,
    contracts,
    numerics,
    functions,
)
MUTANTS: tuple[Mutant, ...] = tuple(mutant for area in AREAS for mutant in area.MUTANTS)
CORRECT: tuple[Correct, ...] = (*PLAIN, *RULES)

__all__ = ["AREAS", "CAUSES", "CORRECT", "HINTS", "MUTANTS", "Check", "Correct", "Mutant"]
