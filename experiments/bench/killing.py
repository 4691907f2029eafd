"""Kill a run again and again, resume it, and compare what it leaves with what an undisturbed run leaves.

    done = kill_and_resume(start, resume, files("result.json"), tmp_path, times=40, faults=["checkpoint:rename:3"])
    assert all("resumed after epoch" in one.log for one in done)

The command is run once undisturbed, which also tells how far a run gets and how fast. Then `times` folders each get a run
that is killed (SIGKILL, its children too) and resumed. The moments are spread over the run: one at random in each of
`times` equal parts of the way from the first checkpoint to the last. Another run for each of `faults`, values of JAXBP_FAULT,
kills itself at that point.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NamedTuple

from jaxbp.training.checkpoint import numbers


Command = Callable[[pathlib.Path], Sequence[str]]  # the command line of a run in a folder
ATTEMPTS = 10  # at killing a run that keeps on ending first


class Killed(NamedTuple):
    """A run that was killed and resumed to the same end. at: how far it was when it was killed."""

    number: int
    at: int
    log: str  # what the resumed run printed
    fault: str | None = None  # where it killed itself


def files(*names: str) -> Callable[[pathlib.Path], dict[str, bytes]]:
    """What a run leaves in these files, byte for byte."""
    return lambda folder: {name: (folder / name).read_bytes() for name in names}


def last_checkpoint(folder: pathlib.Path) -> int:
    return max(numbers(folder), default=0)


def kill_and_resume(
    start: Command,
    resume: Command,
    left: Callable[[pathlib.Path], Mapping[str, Any]],
    root: pathlib.Path,
    *,
    times: int,
    faults: Sequence[str] = (),
    progress: Callable[[pathlib.Path], int] = last_checkpoint,
    seed: int = 0,
    limit: float = 600,
    told: Callable[[Killed], None] = lambda one: None,
) -> list[Killed]:
    """Each killed run with the log of its resumption, which ended with status 0 and left the same.

    start, resume: command lines by folder. left: what to compare, by name, of a folder. progress: how far the run in a folder
    is, 0 before it may be killed. limit: seconds for one run. told: is given each as it is done.

    Raises: AssertionError that names the run and what differs; that folder stays for a look.
    """
    undisturbed = root / "undisturbed"
    total, pace = watched(start, progress, undisturbed, limit)
    wanted = left(undisturbed)
    draw, done = random.Random(seed), []
    for number, fault in enumerate([*[None] * times, *faults]):
        folder = root / f"killed-{number}"
        if fault is None:
            aim = 1 + (number + draw.random()) / times * (total - 1)
            kill_at(start, folder, progress, aim, pace, limit)
        else:
            log, status = finished(begun(start(folder), JAXBP_FAULT=fault), limit)
            assert status == -signal.SIGKILL, f"{folder}: {fault} did not kill the run, which ended with status {status}:\n{log}"
        at = progress(folder)
        where = f"{folder}, killed at {at} of {total}"
        log = ended(begun(resume(folder)), limit, f"{where} and resumed")
        found = left(folder)
        assert found.keys() == wanted.keys(), f"{where}: left {sorted(found)}, undisturbed {sorted(wanted)}"
        for name, value in wanted.items():
            assert found[name] == value, f"{where}: {name} differs from the undisturbed one:\n{log}"
        done.append(Killed(number, at, log, fault))
        told(done[-1])
        shutil.rmtree(folder)
    return done


def watched(start: Command, progress: Callable, folder: pathlib.Path, limit: float) -> tuple[int, float]:
    """Run to the end; returns (how far that is, seconds for one step of progress)."""
    process, total = begun(start(folder)), 1
    first = last = reach(process, progress, folder, 1, limit)
    while process.poll() is None:
        last = reach(process, progress, folder, total + 1, limit)
        total = max(total, progress(folder))
    ended(process, limit, f"{folder}, undisturbed")
    return total, (last - first) / total


def kill_at(start: Command, folder: pathlib.Path, progress: Callable, aim: float, pace: float, limit: float) -> None:
    """Kill a run between two steps of its progress, as far from the first as the fraction of `aim` says."""
    for _ in range(ATTEMPTS):
        process = begun(start(folder))
        reach(process, progress, folder, int(aim), limit)
        time.sleep((aim - int(aim)) * pace)
        if process.poll() is None:
            kill(process)
            return
        ended(process, limit, f"{folder}, before it was killed")
        shutil.rmtree(folder)
    raise AssertionError(f"{folder}: in {ATTEMPTS} attempts the run ended before it was killed; let it run longer")


class Process(NamedTuple):
    """A run in a session of its own, and the file that it prints to: a pipe that nobody reads would fill up and block it."""

    popen: subprocess.Popen
    output: IO[str]

    def poll(self) -> int | None:
        return self.popen.poll()


def begun(command: Sequence[str], **environment: str) -> Process:
    """The run, without a fault but the one given."""
    inherited = {name: value for name, value in os.environ.items() if name != "JAXBP_FAULT"}
    output = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
    popen = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=inherited | environment,
        start_new_session=True,
    )  # fmt: skip
    return Process(popen, output)


def reach(process: Process, progress: Callable, folder: pathlib.Path, far: int, limit: float) -> float:
    """Wait until the run is so far, or has ended; returns the time."""
    end = time.monotonic() + limit
    while progress(folder) < far and process.poll() is None:
        if time.monotonic() > end:
            kill(process)
            raise AssertionError(f"{folder}: still at {progress(folder)} after {limit} s")
        time.sleep(0.001)
    return time.monotonic()


def ended(process: Process, limit: float, where: str) -> str:
    """What a run that ends well printed."""
    log, status = finished(process, limit)
    assert status == 0, f"{where}: ended with status {status}:\n{log}"
    return log


def finished(process: Process, limit: float) -> tuple[str, int]:
    """(what it printed, its status)."""
    try:
        status = process.popen.wait(limit)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    with process.output as output:
        output.seek(0)
        return output.read(), status


def kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.popen.pid, signal.SIGKILL)
    process.popen.wait()
    process.output.close()
