"""The compiled measurements of one problem: claim, truth with its noise, and the ladder, each compiled once a shape."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import jaxprs
from jaxbp.check import ladder
from jaxbp.check.noise import Jitter, constant_equations
from jaxbp.check.problem import Problem, widened
from jaxbp.check.programs import Program


REPEATS = 6


class Measured(NamedTuple):
    """Results and outputs as NumPy float64 arrays; noise, where measured, is one number a leaf."""

    results: list
    outs: list
    results_noise: Sequence[float] = ()
    outs_noise: Sequence[float] = ()


class Instruments:
    """Measurements of `problem` in float64. Use inside `jax.enable_x64(True)`."""

    def __init__(self, problem: Problem, traceable: bool = True):
        self.problem, self.traceable = problem, traceable
        self._claim = Program(problem.claim) if traceable else problem.claim
        self._truth = Program(functools.partial(self._lanes, own=False))
        self._own = Program(functools.partial(self._lanes, own=True))
        self._phis = Program(ladder.make(problem.primal, problem.merge, problem.diff))

    def claim(self, leaves: Any, seeds: Any) -> Measured:
        results, outs = self._claim(leaves, seeds)
        return Measured(arrays(results), arrays(outs))

    def truth(self, leaves: Any, seeds: Any, amplitude: float = 1.0) -> Measured:
        """The truth and how far rounding of `amplitude` epsilons moves it: the largest move of any entry, leaf by leaf."""
        results, outs = self._truth(leaves, seeds, amplitude)
        return Measured(*([a[0] for a in arrays(lanes)] for lanes in (results, outs)), *(spread(x) for x in (results, outs)))

    def claim_noise(self, leaves: Any, seeds: Any) -> list:
        """The same of the claim, moving float64 values alone: digits that a rule loses through a narrower dtype are its error.

        What cannot be traced is run again at inputs that are moved instead.
        """
        if not self.traceable:
            diff, merge = self.problem.diff, self.problem.merge
            moves = [ladder.directions([leaves[i] for i in diff], np.random.default_rng(k)) for k in range(REPEATS)]
            places = [merge(leaves, [leaves[i] + ladder.EPS * v for i, v in zip(diff, move, strict=True)]) for move in moves]
            return spread(
                [np.stack(lanes) for lanes in zip(*(self.claim(at, seeds).results for at in (leaves, *places)), strict=True)]
            )
        results, _ = self._own(leaves, seeds, 1.0)
        return spread(results)

    def _lanes(self, leaves: Any, seeds: Any, amplitude: Any, *, own: bool) -> Any:
        run = self.problem.claim if own else self.problem.truth
        leaf_count = len(leaves)
        program = jaxprs.trace(lambda *xs: run(xs[:leaf_count], list(xs[leaf_count:])), *leaves, *seeds)
        fixed = constant_equations(program.program)

        def lane(at: tuple) -> list:
            seed, size = at
            visitor = Jitter(seed, size, np.float64 if own else None, fixed)
            return jaxprs.evaluate(program.program, *leaves, *seeds, visitor=visitor)

        hashes = jnp.arange(REPEATS + 1, dtype=jnp.uint64) * jnp.uint64(0xD1342543DE82EF95)
        sizes = jnp.where(jnp.arange(REPEATS + 1) == 0, 0.0, amplitude)
        return jax.tree.unflatten(program.out_tree, jax.lax.map(lane, (hashes, sizes)))

    def slope(self, leaves: Any, bars: Any, direction: Any, noise: float) -> ladder.Slope:
        """The directional derivative of <bars, f> along `direction` (one array for each differentiated leaf)."""
        phi = np.asarray(self._phis(leaves, list(bars), list(direction)))
        return ladder.slope(phi, noise)


def arrays(leaves: Any) -> list:
    return [np.asarray(leaf, np.float64) for leaf in leaves]


def spread(lanes: Any) -> list:
    """The largest distance of any entry of any lane from lane 0; entries that are not finite do not count."""
    found = []
    for lane in arrays(lanes):
        with np.errstate(all="ignore"):
            moved = np.abs(lane[1:] - lane[:1])
        found.append(float(np.max(np.where(np.isfinite(moved), moved, 0.0), initial=0.0)))
    return found


def draw(specs: Any, key: np.random.Generator) -> list:
    """Dense random seeds: every entry between 0.5 and 1.5 in size, of random sign."""
    return [key.uniform(0.5, 1.5, s.shape) * key.choice([-1.0, 1.0], s.shape) for s in specs]


def out_specs(problem: Problem) -> list:
    """Shapes of what the seeds must look like, in float64."""
    leaves = widened(problem.leaves)
    if not problem.reverse:
        return [jax.ShapeDtypeStruct(np.shape(leaves[i]), np.float64) for i in problem.diff]
    return [jax.ShapeDtypeStruct(s.shape, np.float64) for s in jax.eval_shape(problem.primal, leaves)]
