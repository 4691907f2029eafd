"""Mutation testing of a user's own rules: which planted mistakes would the user's tests have noticed?

Each mutation runs the tests in a child process of its own (`python -m pytest PATH -x`), in which one rule is mutated in one way.
killed: a test failed. survived: all passed. not reached: no test runs the backward of the rule. not applicable: the mutation
changes nothing of this rule (no square leaf, no batch axis, bfloat16 already). timed out: the tests ran over their limit.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from jaxbp.check.mutants.plugin.jaxbp_mutation import MUTATIONS


PLUGIN = pathlib.Path(__file__).resolve().parent / "plugin"
FAILED = (1, 2)  # pytest's exit status: tests failed; collecting them failed, where a file runs its rules on import


class Run(NamedTuple):
    """One child: pytest's exit status (None: over its time), the rules it saw, whether the mutation changed anything."""

    status: int | None
    rules: dict[str, bool]
    applied: bool
    output: str


def child(path: str, rule: str | None, mutation: str | None, limit: float) -> Run:
    """Runs the tests once with one rule mutated, or none."""
    with tempfile.TemporaryDirectory() as folder:
        task = json.dumps({"rule": rule, "mutation": mutation, "folder": folder})
        known = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "JAXBP_MUTATION": task, "PYTHONPATH": os.pathsep.join(known)}
        command = [sys.executable, "-m", "pytest", path, "-x", "-q", "-p", "jaxbp_mutation", "-p", "no:cacheprovider"]
        log = pathlib.Path(folder) / "output.txt"  # a file: a pipe would be held open by whatever outlives the tests
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                end(process)
                status = None
            except BaseException:  # ^C reaches only this process, since the child has a session of its own
                end(process)
                raise
        return Run(status, *notes(pathlib.Path(folder)), log.read_text(encoding="utf-8", errors="replace"))


def end(process: subprocess.Popen) -> None:
    """Ends this child and what it started (its own session), by id."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def notes(folder: pathlib.Path) -> tuple[dict[str, bool], bool]:
    """What the processes of one child saw, united: test runners may have several."""
    rules: dict[str, bool] = {}
    applied = False
    for file in sorted(folder.glob("*.json")):
        seen = json.loads(file.read_text(encoding="utf-8"))
        rules = {name: seen["rules"].get(name, False) or rules.get(name, False) for name in {**rules, **seen["rules"]}}
        applied = applied or seen["applied"]
    return rules, applied


def verdict(run: Run) -> str:
    if run.status is None:
        return "timed out"
    if not run.applied:  # nothing was changed: a failure is the tests' own
        return "not applicable" if run.status == 0 else "unstable"
    return "survived" if run.status == 0 else "killed" if run.status in FAILED else f"pytest {run.status}"


def rules_of(path: str, limit: float) -> dict[str, bool]:
    """rule → whether the tests run its backward.

    Raises: ValueError where the file is not there, where its tests fail without any mutation, or where they define no rule.
    """
    if not pathlib.Path(path.split("::")[0]).exists():
        raise ValueError(f"--tests: no file {path}")
    plain = child(path, None, None, limit)
    if plain.status != 0:
        said = f"took more than {limit:g} s" if plain.status is None else f"ended with pytest's status {plain.status}"
        raise ValueError(f"--tests: without any mutation {path} {said}; nothing can be said of mutations\n{plain.output[-2000:]}")
    if not plain.rules:
        raise ValueError(f"--tests: {path} defines no custom_vjp or custom_jvp rule outside installed packages")
    return plain.rules


def matrix(path: str, limit: float = 120.0, mutations: tuple[str, ...] = MUTATIONS) -> Iterator[tuple[str, dict[str, str]]]:
    """(rule, mutation → verdict) for every rule that the tests define. Raises: see `rules_of`."""
    for name, reached in rules_of(path, limit).items():
        yield name, {m: verdict(child(path, name, m, limit)) if reached else "not reached" for m in mutations}


# --- the text

SHORT = {"not applicable": "n/a", "not reached": "-", "timed out": "time out"}
ROW = "{:<22}" + " {:>8}" * len(MUTATIONS)


def head() -> str:
    """The names of the mutations in two lines."""
    halves = [name.rpartition(" ") if len(name) > 8 else ("", "", name) for name in MUTATIONS]
    return "\n".join(
        ROW.format(title, *cells) for title, cells in (("", [h[0] for h in halves]), ("rule", [h[2] for h in halves]))
    )


def row(name: str, cells: dict[str, str]) -> str:
    """The rule on a line of its own where its name is long."""
    if "not reached" in cells.values():
        return f"{name:<22}  not reached: no test runs its backward"
    words = [SHORT.get(cell, cell) for cell in cells.values()]
    return ROW.format(name, *words) if len(name) <= 22 else name + "\n" + ROW.format("", *words)


def report_on(path: str, limit: float) -> int:
    """Prints rule x mutation. Exit status: 0 every mutation killed or not applicable, 1 otherwise."""
    every: list[str] = []
    for name, cells in matrix(path, limit):
        if not every:
            print(head())
        print(row(name, cells), flush=True)
        every += cells.values()
    counts = {word: every.count(word) for word in dict.fromkeys(every)}
    print("\n" + ", ".join(f"{n} {word}" for word, n in counts.items()))
    return int(bool(set(counts) - {"killed", "not applicable"}))
