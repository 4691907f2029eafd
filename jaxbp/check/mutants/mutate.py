"""Mutation testing of a user's own rules: which planted mistakes would the user's tests have noticed?

Each mutation runs the tests in a child process of its own (`python -m pytest PATH -x`), in which one rule is mutated in one way.
killed: a test failed. survived: all passed. not reached: no test runs the rule. -: there is nothing to change (no square leaf).
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
from typing import Any, NamedTuple

from jaxbp.check.mutants.plugin.jaxbp_mutation import MUTATIONS


PLUGIN = pathlib.Path(__file__).resolve().parent / "plugin"
PACKAGE = PLUGIN.parents[3]  # the folder that holds jaxbp


class Run(NamedTuple):
    """One child: pytest's exit status (None: over its time), the rules it saw, whether the mutation changed anything."""

    status: int | None
    rules: dict[str, bool]
    applied: bool
    output: str


def child(path: str, rule: str | None, mutation: str | None, limit: float) -> Run:
    """Runs the tests once with one rule mutated."""
    with tempfile.TemporaryDirectory() as folder:
        task = json.dumps({"rule": rule, "mutation": mutation, "folder": folder})
        known = [str(PLUGIN), str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "JAXBP_MUTATION": task, "PYTHONPATH": os.pathsep.join(known)}
        command = [sys.executable, "-m", "pytest", path, "-x", "-q", "-p", "jaxbp_mutation", "-p", "no:cacheprovider"]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=limit)
            status = process.returncode
        except subprocess.TimeoutExpired:
            end(process)
            output, status = process.communicate()[0], None
        return Run(status, *notes(pathlib.Path(folder)), output)


def end(process: subprocess.Popen) -> None:
    """This child and what it started (its own session), by id."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


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
    if not run.applied and run.status == 0:
        return "-"
    return {0: "survived", 1: "killed", 2: "killed"}.get(run.status, f"pytest exit {run.status}")


def matrix(path: str, limit: float = 120.0) -> dict[str, dict[str, str]]:
    """rule → mutation → verdict, for every rule that the tests define.

    Raises: ValueError where the file is not there, where its tests fail without any mutation, or where they define no rule.
    """
    if not pathlib.Path(path.split("::")[0]).exists():
        raise ValueError(f"--tests: no file {path}")
    plain = child(path, None, None, limit)
    if plain.status != 0:
        said = "took too long" if plain.status is None else f"ended with pytest's status {plain.status}"
        raise ValueError(f"--tests: without any mutation {path} {said}; nothing can be said of mutations\n{plain.output[-2000:]}")
    if not plain.rules:
        raise ValueError(f"--tests: {path} defines no custom_vjp or custom_jvp rule outside installed packages")
    return {name: dict(row(path, name, reached, limit)) for name, reached in plain.rules.items()}


def row(path: str, name: str, reached: bool, limit: float) -> Iterator[tuple[str, str]]:
    for mutation in MUTATIONS:
        yield mutation, verdict(child(path, name, mutation, limit)) if reached else "not reached"


def lines(found: dict[str, dict[str, str]]) -> Iterator[str]:
    width = max(len(name) for name in found)
    yield f"{'rule':<{width}}  " + "  ".join(f"{mutation:>17}" for mutation in MUTATIONS)
    for name, cells in found.items():
        yield f"{name:<{width}}  " + "  ".join(f"{cells[mutation]:>17}" for mutation in MUTATIONS)
    every = [cell for cells in found.values() for cell in cells.values()]
    counts = {word: every.count(word) for word in dict.fromkeys(every) if word != "-"}
    yield "\n" + ", ".join(f"{n} {word}" for word, n in counts.items())


def report_on(path: str, limit: float) -> int:
    found: dict[str, Any] = matrix(path, limit)
    print("\n".join(lines(found)))
    return int(any(cell in ("survived", "not reached") for cells in found.values() for cell in cells.values()))
