"""The folder of a run: one process at a time works in it, and a signal lets that process finish what it is at."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
LOCKED_BYTE = 1 << 30  # Windows locks bytes, and nobody else can read them: far behind the text that names the holder
PATIENCE = 1.0  # seconds that a second signal leaves Python to act on it


class FolderError(RuntimeError):
    """The folder of a run cannot be used; the message names it and says why."""


# --- the lock


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Hold the folder, made where it is missing, for the length of the block; FolderError where another process holds it.

    The lock is the kernel's and goes with the process that holds it, however that ends; what the file says is read only to
    name the holder. A forked child that outlives its parent holds on.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise FolderError(f"{folder}: cannot be written to: {error.strerror}; choose another folder") from error
    try:
        try:
            _take(file)
        except BlockingIOError:
            raise FolderError(f"{folder}: in use by {_holder(file)}; wait for its end, or choose another folder") from None
        except OSError as error:
            raise FolderError(f"{folder}: cannot be locked: {error.strerror}; choose a folder on another disk") from error
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only its holder goes unnamed
            os.ftruncate(file, 0)
            os.write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode())
        yield folder
        with contextlib.suppress(OSError):
            os.ftruncate(file, 0)  # the file stays: were it removed, two processes could each lock a file of this name
    finally:
        os.close(file)


def _take(file: int) -> None:
    """Lock the open file or raise BlockingIOError."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    windows: Any = msvcrt
    os.lseek(file, LOCKED_BYTE, os.SEEK_SET)
    try:
        windows.locking(file, windows.LK_NBLCK, 1)
    except OSError as error:
        raise BlockingIOError(*error.args) from error
    os.lseek(file, 0, os.SEEK_SET)


def _holder(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    try:
        return "process {pid} on {host} since {since}".format(**json.loads(os.read(file, 4096)))
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"


# --- signals


class Stopped:
    """True once SIGINT or SIGTERM came; `name` is which."""

    def __init__(self) -> None:
        self.name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None


@contextlib.contextmanager
def interruptible(message: str = "") -> Iterator[Stopped]:
    """`with interruptible() as stopped:` the first SIGINT or SIGTERM only makes `stopped` true; a second one acts at once.

    Python sees signals between compiled calls only, and several during one call as one; so a thread counts them. It writes
    `message` to stderr at the first; where Python has not acted on the second within a second, it ends the process with
    status 128 + signal, except under an interactive prompt. Signals that were ignored stay ignored. Outside the main
    thread, where handlers cannot be set, `stopped` stays false.
    """
    stopped = Stopped()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

    def handle(number: int, frame: Any) -> None:
        again, stopped.name = bool(stopped), signal.Signals(number).name
        if again:
            _restore(handlers)
            signal.raise_signal(number)

    ours, theirs = socket.socketpair()  # Python's handler in C writes each signal's number to theirs, whatever Python is at
    theirs.setblocking(False)
    left = threading.Event()
    watch = threading.Thread(target=_watch, args=(ours, frozenset(handlers), left, message), daemon=True)
    watch.start()
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        for number in handlers:
            signal.signal(number, handle)
        yield stopped
    finally:
        _restore(handlers)
        signal.set_wakeup_fd(before)
        left.set()
        theirs.close()
        watch.join()
        ours.close()


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: a handler that is not Python's


def _watch(pipe: socket.socket, numbers: frozenset[int], left: threading.Event, message: str) -> None:
    """Say so at the first signal; end the process at the second, unless the block is left within PATIENCE."""
    if _next(pipe, numbers) and message:
        os.write(2, f"{message}\n".encode())
    second = _next(pipe, numbers)
    if second and not hasattr(sys, "ps1") and not left.wait(PATIENCE):  # ps1: a notebook's session is worth more than the wait
        os.write(2, f"ended at once by a second signal, {signal.Signals(second).name}\n".encode())
        os._exit(128 + second)


def _next(pipe: socket.socket, numbers: frozenset[int]) -> int:
    """The next of these signals, 0 once the pipe is closed."""
    while data := pipe.recv(1):
        if data[0] in numbers:
            return data[0]
    return 0
