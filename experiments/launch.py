"""Several processes of one run on this machine: started, watched, ended together. Imports no JAX.

Each is `python -m experiments ... --coordinator 127.0.0.1:PORT --process-id I`. Process 0 prints and writes; what the others
say is told only where one of them fails.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

from experiments import machine, stored
from experiments.config import Folded


GRACE = 10.0  # seconds to finish an epoch and save it, once another process is dead
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Worker(NamedTuple):
    popen: subprocess.Popen
    said: IO[str] | None  # its stderr; None for process 0, which has the terminal


def run(name: str, options: Folded, args: Sequence[str]) -> int:
    """The exit status of process 0, or 1 where a process died; 130 and 143 after a signal."""
    told: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: told.append(number)) for number in SIGNALS}
    workers: list[Worker] = []
    try:
        workers = _started(options, args)
        status, dead = _watched(workers, told)
        _end(workers)
        if dead is not None and not told:
            print(f"error: {_fate(workers, dead)}; to go on: {stored.resume_line(name, options)}", file=sys.stderr)
    finally:
        _end(workers, grace=0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 128 + told[0] if told and status else status


def _started(options: Folded, args: Sequence[str]) -> list[Worker]:
    address = f"127.0.0.1:{_free_port()}"
    named = options.resume is not None or any(arg.partition("=")[0] == "--out" for arg in args)
    folder = [] if named else ["--out", str(stored.folder(options))]
    command = [sys.executable, "-m", "experiments", *args, *folder, "--coordinator", address, "--process-id"]
    environment = {"NPROC": str(machine.threads(options.devices or 1)), machine.LAUNCHED: "1", **os.environ}
    workers = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # they inherit it: Ctrl-C is passed on from here, as SIGTERM
    try:
        for i in range(options.processes):
            said = tempfile.TemporaryFile("w+", errors="replace") if i else None  # noqa: SIM115
            output: Any = {"stdout": subprocess.DEVNULL, "stderr": said} if i else {}
            popen = subprocess.Popen([*command, str(i)], stdin=subprocess.DEVNULL, env=environment, **output)
            workers.append(Worker(popen, said))
    finally:
        signal.signal(signal.SIGINT, before)
    return workers


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _watched(workers: Sequence[Worker], told: Sequence[int]) -> tuple[int, int | None]:
    """(the status, which worker died) once process 0 has ended or another has failed; signals are passed on."""
    passed = 0
    while True:
        if len(told) > passed:
            passed = len(told)
            for worker in workers:
                _signal(worker, signal.SIGTERM)
        statuses = [worker.popen.poll() for worker in workers]
        fine = (None, 0, 128 + signal.SIGTERM)
        failed = [i for i, status in enumerate(statuses) if status not in fine]
        if statuses[0] in (1, 2):  # process 0 has said why
            return statuses[0], None
        if failed:
            time.sleep(0.2)  # those that died of it are not the first
            return 1, _culprit([worker.popen.poll() for worker in workers], failed[0])
        if None not in statuses:
            return statuses[0] or 0, None
        time.sleep(0.02)


def _culprit(statuses: Sequence[int | None], first: int) -> int:
    """Which process died by itself: not one that lost the others, nor one that JAX aborted for that."""
    alone = [i for i, status in enumerate(statuses) if status not in (None, 0, machine.LOST, -signal.SIGABRT)]
    return first if first in alone or not alone else alone[0]


def _fate(workers: Sequence[Worker], dead: int) -> str:
    status = workers[dead].popen.returncode
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    last = ""
    if status > 0 and (said := workers[dead].said) is not None:
        said.seek(0)
        last = f" ({([line for line in said.read().splitlines() if line.strip()] or [''])[-1]})"
    return f"process {dead} of {len(workers)} {how}{last}; the others were ended"


def _end(workers: Sequence[Worker], grace: float = GRACE) -> None:
    """Tell all to save and end; kill those that have not after `grace` seconds."""
    until = time.monotonic() + grace
    for worker in workers:
        _signal(worker, signal.SIGTERM if grace else signal.SIGKILL)
    for worker in workers:
        try:
            worker.popen.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(worker, signal.SIGKILL)
            worker.popen.wait()


def _signal(worker: Worker, number: int) -> None:
    if worker.popen.poll() is None:
        worker.popen.send_signal(number)
