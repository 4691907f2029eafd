"""Trials: fold x seed x hyper-parameters as one axis of one compiled program.

    def setup(learning_rate, momentum):
        return jaxbp.Setup(net, loss, optax.sgd(learning_rate, momentum))

    result = jaxbp.sweep(setup, x, targets, jaxbp.grid(learning_rate=[0.01, 0.1], momentum=[0.0, 0.9]), key=key, ...)

`setup` is called inside the traced program with this trial's numbers, so that anything it makes may depend on them: the
optimiser, a penalty, a dropout rate, the spread of the initial weights. What changes shapes (a width, a depth, the batch
size) is not a number to trace: settings that agree in it form a bucket, one compiled program each.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs
from jaxbp.page.tables import Column, Table
from jaxbp.training import engine
from jaxbp.training.order import SETTINGS, generator, key_words, typed
from jaxbp.training.program import Trials
from jaxbp.training.state import NONFINITE, Setup
from jaxbp.training.stopping import rises
from jaxbp.training.task import Options, Task, make_job, prepare
from jaxbp.validation.cross_validation import draw_splits, last_of, require_weight, rows_of, watches_validation
from jaxbp.validation.execution import execute
from jaxbp.validation.folds import Split


def grid(**values: Sequence) -> list[dict[str, Any]]:
    """Every combination of the values, the last name fastest.

    >>> grid(width=[8, 16], rate=[0.1])
    [{'width': 8, 'rate': 0.1}, {'width': 16, 'rate': 0.1}]
    """
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def random_settings(n: int, key: jax.Array, **ranges: Any) -> list[dict[str, Any]]:
    """n settings at random. A range is (low, high), uniform; (low, high, "log"), uniform in the logarithm; a list to choose from.

    >>> import jax
    >>> settings = random_settings(3, jax.random.key(0), rate=(1e-3, 1e-1, "log"), width=[8, 16])
    >>> all(1e-3 <= s["rate"] <= 1e-1 and s["width"] in (8, 16) for s in settings)
    True
    """
    inputs.require_positive("random_settings", "n", n)
    draw = generator(key_words(typed(key)), SETTINGS, 0)
    return [{name: _draw(name, values, draw) for name, values in ranges.items()} for _ in range(n)]


def _draw(name: str, values: Any, draw: np.random.Generator) -> Any:
    if isinstance(values, list) and values:
        return values[draw.integers(len(values))]
    match values:
        case (low, high, "log") if 0 < low <= high:
            return float(math.exp(draw.uniform(math.log(low), math.log(high))))
        case (low, high) if low <= high:
            return float(draw.uniform(low, high))
    expected = "(low, high), (low, high, 'log') with 0 < low, or a list to choose from"
    raise ValueError(f"random_settings: {name}: {expected} was expected, got {values!r}")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """What every trial gave. `str` is a table of the settings, best first.

    Fields:
      settings: as they were given. scores: (settings, seeds, folds) by name, of the held-out rows after the epoch in
        best_epochs. epochs, best_epochs: (settings, seeds, folds). stop_reasons: the same, nested lists. splits: the folds, the
        same for every setting and seed. stopped_on: as in `CVResult`. programs: how many were compiled.
      seconds_compile, seconds_run: apart.
    """

    settings: tuple[dict[str, Any], ...]
    scores: dict[str, np.ndarray]
    epochs: np.ndarray
    best_epochs: np.ndarray
    stop_reasons: list
    splits: tuple[Split, ...]
    stopped_on: str | None
    programs: int
    seconds_compile: float
    seconds_run: float

    def mean(self, score: str) -> np.ndarray:
        """(settings,): over seeds and folds; NaN where a trial turned non-finite before its first epoch was done."""
        return self.scores[score].mean(axis=(1, 2), dtype=np.float64)

    def order(self, score: str | None = None) -> np.ndarray:
        """The numbers of the settings, best first, by the mean score: the loss, unless another is named; NaN comes last."""
        score = score or "loss"
        if score not in self.scores:
            raise ValueError(f"sweep: there is no score {score!r}, there is {', '.join(self.scores)}")
        mean = self.mean(score)
        return np.argsort(-mean if rises(score) else mean, kind="stable")

    def best(self, score: str | None = None) -> dict[str, Any]:
        """The setting with the best mean score. It was chosen on these scores, so its own are optimistic."""
        return self.settings[self.order(score)[0]]

    def table(self, score: str | None = None) -> Table:
        names = list(dict.fromkeys(name for setting in self.settings for name in setting))
        shown = sorted((n for n, v in self.scores.items() if v.ndim == 3), key="loss".__eq__)
        rows = [
            (
                *(self.settings[i].get(name) for name in names),
                *(float(self.mean(n)[i]) for n in shown),
                float(self.epochs[i].mean()),
            )
            for i in self.order(score)
        ]
        k, s = self.epochs.shape[2], self.epochs.shape[1]
        note = f"means over {k} folds" + (f" and {s} seeds" if s > 1 else "")
        time = f"compiled {self.programs} in {self.seconds_compile:.2f} s, run in {self.seconds_run:.2f} s"
        columns = [*names, *(Column(n, digits=4) for n in shown), Column("epochs", digits=1)]
        return Table(columns, rows, f"{len(rows)} settings", f"{note}; {time}")

    def __str__(self) -> str:
        return str(self.table())

    def __repr__(self) -> str:
        return f"<SweepResult of {self.epochs.size} trials, best {self.best()}>"


def sweep(
    setup: Callable,
    x: Any,
    targets: Any,
    settings: Sequence[dict[str, Any]],
    *,
    folds: Any = 10,
    seeds: int = 1,
    static: tuple[str, ...] = (),
    key: jax.Array,
    epochs: int,
    batch_size: int | None = None,
    stratified: bool | None = None,
    groups: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    gradient: str = "manual",
    metrics: Any = None,
    scale: Any = None,
    shuffle: bool = True,
    remainder: str = "short",
    stop: Any = None,
    stop_on: str = "inner",
    inner: float = 0.1,
    accumulate: int = 1,
    execution: str | None = None,
    chunk: int | None = None,
    progress: Callable | None = None,
    keeping: Any = None,
    precision: Any = None,
) -> SweepResult:
    """Cross-validate every setting with every seed, all trials of a bucket in one compiled program.

    setup(**numbers) -> Setup(net, loss, optimizer, penalty): a pure function at module level; the same object finds its
    compiled program again. Numbers that are floats in every setting are traced; all else (ints, strings, tuples) and the names in
    `static` are structure. A setting may hold "batch_size", which is not handed to setup unless it takes it.
    seeds: the first uses `key`, so that its trials are those of `cross_validate` with that key; the others branch off.
    Folds are the same for all. Other arguments are those of `cross_validate`.

    Raises: ValueError or TypeError for settings that differ in their names, and as `cross_validate`.
    """
    settings = _checked(settings, seeds, static)
    options = Options(
        key, epochs, batch_size, None, sample_weight, None, reduction, gradient, metrics, scale, shuffle, remainder, False,
        chunk, progress, stop, accumulate, keeping, precision=precision,
    )  # fmt: skip
    parts, splits, stopped_on = [], None, None
    for structure, members in _buckets(settings, static):
        task, plan = _task(setup, structure, [settings[i] for i in members], x, targets, options)
        if splits is None:
            splits, stratified = draw_splits(task, folds, stratified, groups)
            require_weight(task, splits)
            stopped_on = stop_on if watches_validation(task) else None
        job = _job(task, plan, splits, bool(stratified), stop_on, inner, seeds, [settings[i] for i in members])
        if keeping is not None:  # a folder for each program
            job = job._replace(keeping=keeping._replace(folder=pathlib.Path(keeping.folder) / f"bucket-{len(parts)}"))
        parts.append((members, job.plan, execute(job, execution)))
    return _result(settings, seeds, splits, stopped_on, parts, epochs)


def _checked(settings: Any, seeds: Any, static: Any) -> tuple[dict[str, Any], ...]:
    settings = tuple(dict(setting) for setting in settings)
    inputs.require_positive("sweep", "seeds", seeds)
    if not settings:
        raise ValueError("sweep: at least one setting is needed")
    names = settings[0].keys()
    for i, setting in enumerate(settings):
        if setting.keys() != names:
            raise ValueError(f"sweep: setting {i} has {sorted(setting)}, setting 0 has {sorted(names)}; give all the same names")
    if unknown := set(static) - set(names):
        raise ValueError(f"sweep: static: {sorted(unknown)} is in no setting")
    return settings


def _buckets(settings: tuple[dict[str, Any], ...], static: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """(structure, the numbers of its settings): settings that differ in traced numbers only share a program."""
    floats = {name for name in settings[0] if all(isinstance(s[name], (float, np.floating)) for s in settings)}
    fixed = [name for name in settings[0] if name in static or name not in floats]
    found: dict[tuple, list[int]] = {}
    for i, setting in enumerate(settings):
        found.setdefault(tuple((name, setting[name]) for name in fixed), []).append(i)
    for structure, members in found.items():
        yield dict(structure), members


@functools.lru_cache(maxsize=256)
def _bound(setup: Callable, structure: tuple) -> Callable:
    """setup with its structure filled in: the same object each time, so that nothing is compiled twice."""
    return functools.partial(setup, **dict(structure))


def _task(setup: Callable, structure: dict, members: list[dict], x: Any, targets: Any, options: Options) -> tuple[Task, Any]:
    """The task of a bucket, checked at its first setting, and its plan, which makes net and optimiser from a trial's numbers."""
    structure = dict(structure)
    batch_size = structure.pop("batch_size", options.batch_size)
    bound = _bound(setup, tuple(structure.items()))
    numbers = {name: float(members[0][name]) for name in members[0] if name not in structure and name != "batch_size"}
    made = bound(**numbers)
    if not isinstance(made, Setup):
        raise TypeError(f"sweep: setup: a jaxbp.Setup(net, loss, optimizer, penalty) was expected, got {made!r}")
    options = options._replace(batch_size=batch_size, penalty=made.penalty)
    task = prepare("sweep", made.net, made.loss, made.optimizer, x, targets, options)
    return task, task.plan._replace(setup=bound)


def _job(
    task: Task, plan: Any, splits: tuple, stratified: bool, stop_on: str, inner: float, seeds: int, members: list[dict]
) -> engine.Job:
    train, sets, rows = rows_of(task, splits, stop_on, inner, stratified)
    every_seed = {prefix: of_folds * seeds for prefix, of_folds in rows.items()}
    setting, seed, fold = (a.ravel() for a in np.indices((len(members), seeds, len(splits)), dtype=np.int32))
    structure = {*plan.setup.keywords, "batch_size"}
    dtype = jnp.result_type(float)
    hyper = {name: np.asarray([m[name] for m in members], dtype)[setting] for name in members[0] if name not in structure}
    trials = Trials(fold, seed, seed * len(splits) + fold, hyper)
    job = make_job(task, trials, train * seeds, sets, every_seed)
    return job._replace(plan=job.plan._replace(setup=plan.setup, net=None, loss=None, optimizer=None, penalty=None))


def _result(settings: tuple, seeds: int, splits: Any, stopped_on: str | None, parts: list, epochs: int) -> SweepResult:
    shape = (len(settings), seeds, len(splits))
    done, best = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    scores: dict[str, np.ndarray] = {}
    reasons: list = [None] * len(settings)
    for members, plan, ran in parts:
        of = lambda a, n=len(members): np.asarray(a).reshape(n, *shape[1:], *np.shape(a)[1:])
        done[members], best[members] = of(ran.state.epoch), of(ran.state.best_epoch)
        told = np.array(engine.stop_reasons(plan, ran.state, epochs), object).reshape(len(members), *shape[1:]).tolist()
        for i, of_setting in zip(members, told, strict=True):
            reasons[i] = of_setting
        broken = int(np.sum(np.asarray(ran.state.stop) == NONFINITE))
        if broken:
            warnings.warn(f"sweep: {broken} of {done[members].size} trials turned non-finite", RuntimeWarning, stacklevel=3)
        for name, values in ran.history.items():
            if name.startswith("validation_"):
                last = last_of(np.swapaxes(values, 0, 1), np.asarray(ran.state.best_epoch))
                score = scores.setdefault(name.removeprefix("validation_"), np.full((*shape, *last.shape[1:]), np.nan))
                score[members] = of(last)
    return SweepResult(
        settings, scores, done, best, reasons, splits, stopped_on, len(parts),
        sum(ran.seconds_compile for *_, ran in parts), sum(ran.seconds_run for *_, ran in parts),
    )  # fmt: skip
