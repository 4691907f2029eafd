"""Sentences about backpropagation that circulate and are wrong, each refuted by a run."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

from experiments.classics import batches, decay, hours_score, mazur, shared, wheat, xor
from experiments.classics.shared import Claim, Story
from experiments.config.classics import Misconceptions
from jaxbp.page.document import Section, figure
from jaxbp.page.rows import bars
from jaxbp.validation.folds import kfold


STARTS, ROWS = 64, 210  # rows of the wheat file


class Runs(NamedTuple):
    """What the claims are measured by."""

    decay: decay.Measured
    batches: batches.Timed
    xor: xor.Trained
    rates: batches.Raised
    mazur: mazur.Trained
    rows: int


def measured(options: Misconceptions, task: batches.Task) -> Runs:
    rows = ROWS
    if options.data_dir is not None and (options.data_dir / "uci/wheat-seeds.csv").is_file():
        rows = len(wheat.load(options.data_dir).x)
    return Runs(
        decay.measure(options.seed),
        batches.matrix_or_loop(options.seed),
        xor.trained(STARTS, options.seed),
        batches.learning_rates(task, options.seed),
        mazur.trained(),
        rows,
    )


def claims(runs: Runs) -> list[Claim]:
    return [
        of_decay(runs.decay),
        of_batches(runs.batches),
        of_minima(runs.xor),
        of_rates(runs.rates),
        of_mazur(runs.mazur),
        of_sums(),
        of_folds(runs.rows),
    ]


def of_decay(found: decay.Measured) -> Claim:
    length, rough = found.length.mean(1), found.roughness.mean(1)
    strong = decay.LAMBDAS[-1]
    told = f"from λ = 0 to {strong:g} the boundary shrinks from {length[0]:.1f} to {length[-1]:.1f}"
    told += f", the surface's roughness from {rough[0]:.2g} to {rough[-1]:.2g}"
    truth = "It biases against complex surfaces, as Mitchell says."
    return Claim(
        "Weight decay biases learning towards complex decision surfaces", "circulating", truth, told, decay.simpler(found)
    )


def of_batches(found: batches.Timed) -> Claim:
    told = f"both gradients agree to {found.error:.1e}, and a loop of calls takes {found.ratios[1]:.0f} times as long"
    truth = "Nielsen means the matrix form over a mini-batch: the same gradient."
    return Claim("Use the matrix-based approach instead of mini-batches", "circulating", truth, told, found.error < 1e-12)


def of_minima(found: xor.Trained) -> Claim:
    truth, stuck = "Gradient descent promises a local minimum only.", found.stuck
    told = f"{found.solved.sum()} of {len(found.solved)} starts solve XOR"
    if stuck is not None:
        ends, (norm, curvature) = found.errors[[found.shown, stuck], -1], xor.certificate(shared.one_of(found.params, stuck))
        told += f"; start {stuck} ends at E = {ends[1]:.3f}, the best at {ends[0]:.3f}, "
        told += f"with |gradient| {norm:.0e} and the Hessian's least eigenvalue {curvature:.1e}"
    worse = stuck is not None and bool(found.errors[stuck, -1] > found.errors[found.shown, -1] + 0.1)
    return Claim("We can easily find the global minimum", "circulating", truth, told, worse)


def of_rates(found: batches.Raised) -> Claim:
    low, high = found.accuracy[1].min(), found.accuracy[1].max()
    between = f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"
    told = f"at η = 100, {between} % of {found.tested:,} test rows are right ({found.accuracy[0, -1]:.1f} % at η = 3)"
    truth = "A learning rate of 100 leaves Nielsen's net near chance: 982 to 1,009 of 10,000 in the book."
    near = bool(high < found.chance + 10 and found.accuracy[0, -1] > 70)
    return Claim("Our outputs can only get more accurate", "circulating", truth, told, near)


def of_mazur(run: mazur.Trained) -> Claim:
    rule, other = run.errors[0, [1, mazur.UPDATES]], run.errors[2, [1, mazur.UPDATES]]
    told = f"updating all weights from the old ones gives {rule[0]:.9f} and {rule[1]:.9f}"
    told += f"; going back through new output weights {other[0]:.9f} and {other[1]:.9f}"
    truth = "His rule gives other numbers than he prints."
    prints = abs(other[0] - 0.291027924) < 5e-10 and abs(other[1] - 0.000035085) < 5e-10
    refuted = bool(prints and abs(rule[0] - 0.291027773694) < 1e-12 and abs(rule[1] - 3.510187783e-05) < 1e-14)
    return Claim("The error is 0.291027924 after one update and 0.000035085 after 10,000", "Mazur", truth, told, refuted)


def of_sums() -> Claim:
    found = hours_score.worked()
    told = f"2 · 0.6 + 9 · 0.3 is {found.sums[1]:.1f}, the output {found.output:.10f}"
    refuted = bool(abs(found.sums[1] - 3.9) < 1e-12 and abs(found.output - 0.8567467964) < 5e-11)
    return Claim("2 · 0.6 + 9 · 0.3 = 7.5", "Shamdasani", "It is 3.9.", told, refuted)


def of_folds(rows: int) -> Claim:
    sizes = [len(split.validation) for split in kfold(rows, wheat.FOLDS, None)]
    told = f"{rows} rows in {wheat.FOLDS} folds are {', '.join(map(str, sizes))}"
    return Claim("Each fold has 40.2 rows", "Brownlee", "The wheat file has 210 rows, 42 a fold.", told, set(sizes) == {42})


def tell(options: Misconceptions, task: batches.Task) -> Story:
    runs = measured(options, task)
    found = claims(runs)
    return Story(
        "What is said of backpropagation and is not so",
        "Seven sentences from texts that teach it, and a run against each.",
        [],
        [
            decay.section(runs.decay, options.seed),
            batches.section_of_batches(runs.batches),
            dataclasses.replace(xor.local_minima(runs.xor), title="The global minimum"),
            batches.section_of_rates(runs.rates),
            mazur.misprint(runs.mazur),
            hours_score.arithmetic(),
            _folds(runs.rows),
        ],
        {
            "refuted": sum(c.refuted for c in found),
            "loop_to_matrix": runs.batches.ratios,
            "accuracy_by_rate": runs.rates.accuracy,
        },
        found,
    )


def _folds(rows: int) -> Section:
    sizes = [len(split.validation) for split in kfold(rows, wheat.FOLDS, None)]
    drawn = bars([f"fold {i}" for i in range(wheat.FOLDS)], sizes, title="Rows in each fold", digits=3)
    return Section(
        "Rows a fold",
        [figure(drawn)],
        f"{rows} rows in {wheat.FOLDS} folds; 40.2 would be 201 rows, and no fold has a fifth of a row.",
    )


def run(options: Misconceptions) -> int:
    task = batches.task(options.data_dir, options.seed)  # before the run folder is made: the data may not be there
    return shared.present("misconceptions", options, functools.partial(tell, task=task))
