"""Every experiment in a process of its own, and one page that links their reports."""

from __future__ import annotations

import dataclasses
import html
import inspect
import json
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments import runs
from experiments.config import EXPERIMENTS, UsageError
from experiments.config.gallery import All
from experiments.gallery_page import Found, index
from jaxbp.page.markup import element
from jaxbp.training.folder import interruptible


ROOT = pathlib.Path(__file__).resolve().parent.parent
STOPPING = "told to stop: ending the experiments that run, and writing the page of those that ended"
POLL = 0.1  # seconds between two looks at the processes
GRACE = 10.0  # seconds that a process has to end by itself


class Plan(NamedTuple):
    """One experiment of the gallery. arguments: behind its name, but for --out. skipped: why it is not run; empty where it is."""

    name: str
    kind: type
    arguments: tuple[str, ...]
    skipped: str = ""

    @property
    def sentence(self) -> str:
        """The first line of what --help says."""
        return (inspect.getdoc(self.kind) or "").partition("\n")[0]


class Outcome(NamedTuple):
    """What became of one. status: of the process; None where its time ran out or it was told to stop. seconds: wall time."""

    plan: Plan
    status: int | None
    seconds: float
    why: str = ""


def run(options: All) -> int:
    plans = planned(options, EXPERIMENTS)
    with runs.opened("all", options) as folder:
        started = time.monotonic()
        outcomes = []
        with interruptible(STOPPING) as stopped:
            for outcome in _run_all([plan for plan in plans if not plan.skipped], folder.path, options, stopped):
                outcomes.append(outcome)
                print(_line(outcome), flush=True)
        order = [plan.name for plan in plans]
        outcomes.sort(key=lambda outcome: order.index(outcome.plan.name))
        found = [found_of(outcome, folder.path) for outcome in outcomes]
        skipped = [plan for plan in plans if plan.skipped]
        seconds = time.monotonic() - started
        folder.write_json("summary.json", _summary(outcomes, skipped, found, seconds))
        page = folder.write("report.html", index(found, [(p.name, p.sentence, p.skipped) for p in skipped], seconds))
        return _end(outcomes, seconds, page, bool(stopped))


def planned(options: All, experiments: Mapping[str, type]) -> list[Plan]:
    """What to run, and with which arguments. Raises: UsageError for names that are no experiments, and for a missing folder."""
    shown = [name for name, kind in experiments.items() if getattr(kind, "gallery", ()) is not None]
    unknown = [name for name in options.only if name not in shown]
    if unknown:
        raise UsageError(f"--only: expected names out of {', '.join(shown)}, got {', '.join(unknown)}")
    if options.data_dir is not None and not options.data_dir.is_dir():
        raise UsageError(f"--data-dir {options.data_dir}: this folder is not there")
    return [_plan(name, experiments[name], options.data_dir) for name in shown if not options.only or name in options.only]


def _plan(name: str, kind: type, data_dir: pathlib.Path | None) -> Plan:
    arguments = tuple(getattr(kind, "gallery", ()))
    fields = {field.name: field for field in dataclasses.fields(kind)}
    missing = [field.name for field in fields.values() if field.default is dataclasses.MISSING is field.default_factory]
    told = {argument.partition("=")[0].removeprefix("--").replace("-", "_") for argument in arguments}
    if "data_dir" in fields and "data_dir" not in told and (data_dir is not None or "data_dir" in missing):
        arguments, told = (*arguments, "--data-dir", "{data}"), told | {"data_dir"}
    if set(missing) - told:
        return Plan(name, kind, (), f"needs {', '.join('--' + field.replace('_', '-') for field in missing)} of its own")
    if data_dir is None and any("{data}" in argument for argument in arguments):
        return Plan(name, kind, (), "needs --data-dir")
    given = tuple(argument.replace("{data}", str(data_dir and data_dir.absolute())) for argument in arguments)
    return Plan(name, kind, given)


# --- processes


class _Running(NamedTuple):
    plan: Plan
    process: subprocess.Popen
    since: float


def _run_all(plans: Sequence[Plan], folder: pathlib.Path, options: All, stopped: Any) -> Iterator[Outcome]:
    """Every plan as a process, `jobs` at a time, in the order in which they end; none is left running, whatever happens."""
    waiting, running = list(plans), []
    try:
        while (waiting and not stopped) or running:
            while waiting and not stopped and len(running) < options.jobs:
                plan = waiting.pop(0)
                running.append(_Running(plan, _started(plan, folder), time.monotonic()))
            time.sleep(POLL)
            for one in list(running):
                outcome = _looked_at(one, options.limit, bool(stopped))
                if outcome is not None:
                    running.remove(one)
                    yield outcome
    finally:
        for one in running:
            _ended(one.process)


def _started(plan: Plan, folder: pathlib.Path) -> subprocess.Popen:
    """The process of one experiment; what it prints goes to NAME.txt."""
    out = folder.absolute() / plan.name
    place = ("--out", str(out)) if "out" in {field.name for field in dataclasses.fields(plan.kind)} else ()
    line = [sys.executable, "-m", "experiments", plan.name, *plan.arguments, *place]
    with open(folder / f"{plan.name}.txt", "wb") as log:
        return subprocess.Popen(line, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _looked_at(one: _Running, limit: float, stopped: bool) -> Outcome | None:
    """The outcome of a process that has ended, or that is ended now; None of one that goes on."""
    seconds = time.monotonic() - one.since
    if (status := one.process.poll()) is not None:
        return Outcome(one.plan, status, seconds, "" if status == 0 else f"ended with status {status}")
    if stopped or seconds > limit:
        _ended(one.process)
        return Outcome(one.plan, None, seconds, "told to stop" if stopped else f"took longer than {limit:g} s, and was ended")
    return None


def _ended(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- what they left


def found_of(outcome: Outcome, folder: pathlib.Path) -> Found:
    plan, home = outcome.plan, folder / outcome.plan.name
    report = home / "report.html"
    page = report.read_text(encoding="utf-8") if report.is_file() else ""
    module = sys.modules[plan.kind.__module__]
    lines = (folder / f"{plan.name}.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Found(
        plan.name,
        plan.kind.__module__.rpartition(".")[2],
        (module.__doc__ or "").strip().partition("\n")[0],
        _title(page) or plan.name,
        plan.sentence,
        figure_of(page, home / "summary.json"),
        _picture(page, home),
        f"{plan.name}/report.html" if page else "",
        f"{plan.name}.txt",
        outcome.status,
        outcome.seconds,
        outcome.why,
        "\n".join(lines[-6:]) if outcome.status != 0 else "",
        " ".join(("python -m experiments", plan.name, *plan.arguments)),
    )


def figure_of(page: str, summary: pathlib.Path) -> tuple[str, str]:
    """(what, how much): `key_figure` of summary.json, the first key figure of the report, or how many printed numbers are met."""
    try:
        told = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = {}
    if "key_figure" in told:
        return tuple(map(str, told["key_figure"]))  # type: ignore[return-value]
    if found := re.search(r'<dl class="key"><div><dt>(.*?)</dt><dd>(.*?)</dd>', page, re.DOTALL):
        return _plain(found[1]), _plain(found[2])
    lists = [part for part in told.values() if isinstance(part, list)]
    met = [entry["holds"] for part in lists for entry in part if isinstance(entry, dict) and "holds" in entry]
    return ("published numbers met", f"{sum(met)} of {len(met)}") if met else ("", "")


def _title(page: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    return _plain(found[1]) if found else ""


def _plain(markup: str) -> str:
    """The text of a piece of a page."""
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


MOST_PICTURE = 200_000  # characters of markup


def _picture(page: str, home: pathlib.Path) -> str:
    """drawing.svg of the run, or else the report's first drawing that is not too large to stand on the index, as markup."""
    if (home / "drawing.svg").is_file():
        return element("img", src=f"{home.name}/drawing.svg", alt="")
    pictures = re.findall(r"<svg xmlns.*?</svg>(?=</div>)", page, re.DOTALL)
    return next((picture for picture in pictures if len(picture) <= MOST_PICTURE), "")


# --- told


def _line(outcome: Outcome) -> str:
    return f"{outcome.plan.name:<20} {outcome.why or 'ok':<32} {outcome.seconds:7.1f} s"


def _summary(outcomes: list[Outcome], skipped: list[Plan], found: list[Found], seconds: float) -> dict[str, Any]:
    each = [
        {"name": f.name, "title": f.title, "status": f.status, "seconds": f.seconds, "why": f.why, "key_figure": f.figure}
        for f in found
    ]
    return {
        "experiment": "all",
        "ran": len(outcomes),
        "failed": [outcome.plan.name for outcome in outcomes if outcome.status != 0],
        "skipped": {plan.name: plan.skipped for plan in skipped},
        "seconds": seconds,
        "experiments": each,
        **runs.environment(),
    }


def _end(outcomes: list[Outcome], seconds: float, page: pathlib.Path, stopped: bool) -> int:
    failed = [outcome.plan.name for outcome in outcomes if outcome.status != 0]
    print(f"\n{len(outcomes)} experiments in {seconds:.0f} s\nReport: {page}", flush=True)
    if failed:
        print(f"error: failed: {', '.join(failed)}; see NAME.txt beside the report", file=sys.stderr)
    return 130 if stopped else 1 if failed else 0
