"""Devices, cache and processes of a run: what is chosen, what is said, and that several processes give what one gives."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import pytest

from experiments import launch, machine
from experiments.bench.kills import CLOCKS
from experiments.config import Digits, UsageError


ROOT = pathlib.Path(__file__).resolve().parents[2]
OPTIONS = ["--folds", "3", "--epochs", "30", "--hidden", "8", "--batch-size", "64"]


def test_the_cache_is_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine.cache_folder() == tmp_path / "jaxbp" / "xla"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert pathlib.Path.home() in machine.cache_folder().parents


@pytest.mark.parametrize(
    ("cores", "options", "devices"),
    [(1, {}, 1), (2, {}, 2), (64, {}, 2), (64, {"processes": 3}, 3), (1, {"processes": 2}, 2), (2, {"devices": 5}, 5)],
)
def test_two_devices_where_there_are_two_cores(cores, options, devices, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: cores)
    assert machine.resolved(Digits(**options)).devices == devices
    assert machine.threads(2) == max(1, cores // 2)


def test_another_number_of_devices_than_jax_runs_with_is_refused():
    jax.devices()  # from here on it runs
    with pytest.raises(UsageError, match="--devices: JAX already runs in this process, with 1; expected that, got 2"):
        machine.prepare(Digits(devices=2, cache=False))


def test_the_process_that_died_first_is_told_from_those_that_lost_it():
    lost, aborted, killed = machine.LOST, -signal.SIGABRT, -signal.SIGKILL
    assert launch._culprit([lost, killed], 0) == 1
    assert launch._culprit([killed, aborted], 1) == 0
    assert launch._culprit([lost, lost], 1) == 1
    assert launch._culprit([None, 1], 1) == 1


def test_the_fate_of_a_process_is_one_line(tmp_path):
    with open(tmp_path / "said", "w+") as said:
        said.write("Traceback ...\n  in f\nValueError: no\n\n")
        said.flush()
        popen = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
        popen.wait()
        assert launch._fate([launch.Worker(popen, said)], 0) == (
            "process 0 of 1 ended with status 7 (ValueError: no); the others were ended"
        )


# --- whole processes: a minute of them


# SIGINT as at a terminal: where tests run in the background of a script it is inherited as ignored
RUNNER = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("experiments", run_name="__main__", alter_sys=True)
"""


def start(*args) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, "digits", *map(str, args)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def left(folder):
    """All but what clocks measured, and the gradient comparison: a program that is compiled for one device or for two of them."""
    summary = json.loads((folder / "summary.json").read_text())
    return (folder / "metrics.jsonl").read_bytes(), {
        k: v for k, v in summary.items() if not (CLOCKS.fullmatch(k) or k.startswith("gradient_max"))
    }


def children(process: subprocess.Popen, folder: pathlib.Path) -> list[int]:
    """The processes of the run in the order of their numbers, once the third epoch is saved."""
    while not (folder / "checkpoints" / "checkpoint-000003.json").exists():
        assert process.poll() is None, ended(process)
        time.sleep(0.01)
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    return sorted(map(int, listed.stdout.split()))


@pytest.mark.slow
def test_two_processes_give_what_two_devices_of_one_give(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one, two = tmp_path / "one", tmp_path / "two"
    assert ended(start(*OPTIONS, "--devices", 2, "--out", one))[0] == 0
    assert any((tmp_path / "cache" / "jaxbp" / "xla").iterdir())
    status, said = ended(start(*OPTIONS, "--processes", 2, "--out", two))
    assert status == 0, said
    assert said.count("Report: ") == 1
    assert left(two) == left(one)

    for number, of_which, status in ((signal.SIGKILL, 1, 1), (signal.SIGKILL, 0, 1), (signal.SIGTERM, 1, 143)):
        folder = tmp_path / f"{number}-{of_which}"
        run = start(*OPTIONS, "--processes", 2, "--out", folder)
        os.kill(children(run, folder)[of_which], number)
        got, said = ended(run)
        assert got == status, said
        assert said.count(f"to go on: python -m experiments digits --resume {folder}") == 1
        if number == signal.SIGKILL:
            assert f"error: process {of_which} of 2 was killed by SIGKILL; the others were ended" in said
            assert said.count("error: ") == 1
        again, said = ended(start("--resume", folder, *(["--processes", 2] if of_which else [])))
        assert again == 0, said
        assert "resumed after epoch " in said
        assert left(folder) == left(one)


@pytest.mark.slow
def test_a_signal_to_the_launcher_reaches_all(tmp_path):
    run = start(*OPTIONS, "--processes", 2, "--no-cache", "--out", tmp_path / "run")
    of_run = children(run, tmp_path / "run")
    run.send_signal(signal.SIGINT)
    status, said = ended(run)
    assert status == 130, said
    assert "which is saved; to go on: " in said
    assert not [pid for pid in of_run if pathlib.Path(f"/proc/{pid}").exists()]
