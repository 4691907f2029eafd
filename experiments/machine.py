"""What a run asks of the machine: cores and devices, the cache of compiled programs, other processes. Imports JAX inside."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator

from experiments.config import Folded, Options, UsageError


DEVICES = 2  # CPU devices halve the time of small nets; more gain little and fill up with padding
LOST = 3  # the exit status of a process whose others are gone
LAUNCHED = "JAXBP_LAUNCHED"  # in the environment of a process whose launcher will say what happened
PATIENCE = 600  # seconds for the others to start


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolved(options: Options) -> Options:
    """The options with a number of devices: the result hangs on it in its last digits."""
    if not isinstance(options, Folded) or options.devices is not None:
        return options
    return dataclasses.replace(options, devices=max(options.processes, min(DEVICES, cores())))


def threads(devices: int) -> int:
    """For each of so many devices: XLA would give every one a pool as large as the machine."""
    return max(1, cores() // devices)


def leads(options: Options) -> bool:
    """Whether this process writes and prints."""
    return not isinstance(options, Folded) or not options.process_id


def prepare(options: Options) -> None:
    """Before anything is compiled: the threads, the devices and the cache of compiled programs."""
    local = (options.devices or 1) // options.processes if isinstance(options, Folded) else None
    if local is not None and "jax" not in sys.modules:
        os.environ.setdefault("NPROC", str(threads(local)))
    import jax

    if options.cache and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if local is not None:
        _divide(local)


def _divide(devices: int) -> None:
    import jax

    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:  # JAX already runs in this process
        there = len(jax.local_devices(backend="cpu"))
        if there != devices:
            raise UsageError(f"--devices: JAX already runs in this process, with {there}; expected that, got {devices}") from None


def cache_folder() -> pathlib.Path:
    """jaxbp/xla in the folder that this system has for a user's caches."""
    if os.environ.get("XDG_CACHE_HOME"):
        base = pathlib.Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32":
        base = pathlib.Path(os.environ.get("LOCALAPPDATA", pathlib.Path.home() / "AppData" / "Local"))
    else:
        base = pathlib.Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return base / "jaxbp" / "xla"


# --- processes


@contextlib.contextmanager
def joined(options: Options) -> Iterator[None]:
    """This process as one of several, where it is. What goes wrong inside ends it at once, for the others would wait for it."""
    if not isinstance(options, Folded) or options.processes == 1:
        yield
        return
    import jax
    from jax.experimental import multihost_utils

    try:
        with _no_stdout():  # where gloo greets the others
            jax.distributed.initialize(
                options.coordinator, options.processes, options.process_id, coordinator_bind_address=options.coordinator,
                initialization_timeout=PATIENCE, shutdown_timeout_seconds=10,
            )  # fmt: skip
            multihost_utils.sync_global_devices("started")
        yield
    except UsageError as error:
        _end(2, error)
    except KeyboardInterrupt:
        _end(130, "ended at once by a second signal")
    except Exception as error:
        # a lost peer is a JaxRuntimeError where a result is waited for, a ValueError of gloo's where a program is started
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            first = str(error).partition("\n")[0]
            why = f"process {options.process_id} lost the others of the run ({first}); --resume goes on with what was saved"
            _end(LOST, None if LAUNCHED in os.environ else why)
        traceback.print_exc()
        _end(1, f"process {options.process_id} failed")


def _end(status: int, why: object) -> None:
    """Without JAX's farewell, which waits for the other processes."""
    if why is not None:
        print(f"error: {why}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def _no_stdout() -> Iterator[None]:
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
