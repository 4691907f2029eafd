"""One process at a time in a folder; signals let it finish. The processes load folder.py alone, which needs no JAX."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from jaxbp.training import folder as module
from jaxbp.training.folder import FolderError, interruptible, locked


# a process in the background of a script inherits that SIGINT is ignored, and interruptible leaves it so
LOAD = f"""
import importlib.util, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
spec = importlib.util.spec_from_file_location("folder", {module.__file__!r})
folder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(folder)
"""

HOLD = """
with folder.locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def start(code: str, *args: str) -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", LOAD + code, *args], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def outcome(code: str) -> tuple[int, str, str]:
    process = start(code)
    out, err = process.communicate(timeout=60)
    return process.returncode, out.strip(), err.strip()


# --- the lock


def test_one_holder_in_this_process(tmp_path):
    with locked(tmp_path / "a" / "run") as folder:
        assert folder.is_dir()
        with pytest.raises(FolderError, match=rf"in use by process {os.getpid()} on {socket.gethostname()} since 20") as busy:
            locked(folder).__enter__()
        assert str(folder) in str(busy.value)
        with locked(tmp_path / "b"):
            pass
    with locked(folder):
        pass


def test_the_lock_goes_with_the_block_that_raises(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_a_living_process_is_waited_for_and_a_killed_one_is_not(tmp_path):
    process = start(HOLD, str(tmp_path))
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(FolderError, match=f"in use by process {process.pid} on"):
            locked(tmp_path).__enter__()
    finally:
        process.kill()
        process.communicate()
    assert f'"pid": {process.pid}' in (tmp_path / module.LOCK).read_text()  # left behind, and no obstacle
    with locked(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / module.LOCK).read_text()


def test_a_pid_file_alone_locks_nothing(tmp_path):
    (tmp_path / module.LOCK).write_text('{"pid": 1, "host": "%s", "since": "ever"}' % ("h" * 500))
    with locked(tmp_path):
        with pytest.raises(FolderError, match=f"in use by process {os.getpid()} on"):
            locked(tmp_path).__enter__()
        (tmp_path / module.LOCK).write_text("no JSON")
        with pytest.raises(FolderError, match="in use by another process"):
            locked(tmp_path).__enter__()


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"cannot be written to: .*; choose another folder"), locked(tmp_path / "file"):
        pass


# --- signals

HANDLED = """
import os, signal, threading
interruptible = folder.interruptible

def mine(number, frame):
    print("mine")

signal.signal(signal.SIGTERM, mine)
before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
with interruptible("once more ends at once") as stopped:
    assert not stopped
    os.kill(os.getpid(), signal.SIGTERM)
    print(bool(stopped), stopped.name)
assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
os.kill(os.getpid(), signal.SIGTERM)  # mine again

try:
    with interruptible() as stopped:
        os.kill(os.getpid(), signal.SIGINT)
        print(stopped.name)
        os.kill(os.getpid(), signal.SIGINT)
        print("not reached")
except KeyboardInterrupt:
    print("KeyboardInterrupt")
assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

signal.signal(signal.SIGTERM, signal.SIG_IGN)
with interruptible() as stopped:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    print(bool(stopped))

def elsewhere():
    with interruptible() as stopped:
        print(bool(stopped), signal.getsignal(signal.SIGINT) is signal.default_int_handler)

thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
assert signal.set_wakeup_fd(-1) == -1
print(threading.active_count())
"""


def test_the_first_signal_sets_a_flag_and_the_second_acts():
    code, out, err = outcome(HANDLED)
    assert code == 0, err
    assert out.split("\n") == ["True SIGTERM", "mine", "SIGINT", "KeyboardInterrupt", "False", "False True", "1"]
    assert err == "once more ends at once"


BUSY = """
import hashlib, time
folder.PATIENCE = 0.1
with folder.interruptible("finishing") as stopped:
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # like a compiled call: minutes during which Python runs no handler
"""


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)], ids=str)
def test_a_second_signal_ends_a_call_that_takes_minutes(signals):
    process = start(BUSY)
    limit = threading.Timer(60, process.kill)  # else a line that never comes would be waited for
    limit.start()
    try:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signals[0])
        assert process.stderr.readline() == "finishing\n"
        assert process.poll() is None
        process.send_signal(signals[1])
        _, err = process.communicate(timeout=30)
    finally:
        limit.cancel()
        process.kill()
        process.wait()
    by_thread = (128 + signals[1], f"ended at once by a second signal, {signals[1].name}\n")
    assert (process.returncode, err) in (by_thread, (-signals[1], ""))  # the last where both came before the long call began


def test_without_a_signal_nothing_happens():
    begun = time.perf_counter()
    with interruptible() as stopped:
        pass
    assert not stopped
    assert stopped.name is None
    assert time.perf_counter() - begun < 1
