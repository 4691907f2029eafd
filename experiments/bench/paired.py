"""Compiled programs against a reference in alternated pairs, so that other work on the machine falls on both alike."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Line(NamedTuple):
    name: str
    ratio: float
    low: float
    high: float
    ms: float
    memory: float
    wanted: float | None
    wanted_memory: float | None = None

    @property
    def reached(self) -> bool:
        fits = self.wanted_memory is None or self.memory <= self.wanted_memory
        return (self.wanted is None or self.ratio <= self.wanted) and fits

    def __str__(self) -> str:
        wanted = "baseline" if self.wanted is None else f"wanted <= {self.wanted:.2f}"
        wanted += f", memory <= {self.wanted_memory:g}" if self.wanted_memory is not None else ""
        return (
            f"{self.name:52} {self.ms:8.2f} ms {self.ratio:7.3f}x ({self.low:.3f}-{self.high:.3f}) "
            f"memory {self.memory:6.2f}x  {wanted}{'' if self.reached else '  NOT REACHED'}"
        )


def compiled(fun: Callable, *args: Any) -> Any:
    return jax.jit(fun).lower(*args).compile()


def seconds(program: Callable, args: tuple) -> float:
    start = time.perf_counter()
    jax.block_until_ready(program(*args))
    return time.perf_counter() - start


def fastest(program: Callable, args: tuple) -> float:
    return min(seconds(program, args) for _ in range(4))


def temporary(program: Any) -> int:
    return program.memory_analysis().temp_size_in_bytes


def compare(
    name: str, program: Any, args: tuple, reference: Any, reference_args: tuple, pairs: int, wanted: Any, memory: Any = None
) -> Line:
    """Paired ratios of a compiled program to a reference."""
    seconds(program, args)
    seconds(reference, reference_args)
    took = seconds(program, args)
    rounds = pairs if took < 0.3 else 3  # the slow idioms need no third digit
    ratios, times = [], []
    for i in range(rounds):  # which goes first alternates too
        if i % 2:
            theirs, ours = seconds(reference, reference_args), seconds(program, args)
        else:
            ours, theirs = seconds(program, args), seconds(reference, reference_args)
        ratios.append(ours / theirs)
        times.append(ours)
    ratios.sort()
    quartiles = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    size = temporary(program) / max(temporary(reference), 1)
    line = Line(name, statistics.median(ratios), *quartiles, statistics.median(times) * 1e3, size, wanted, memory)
    print(line, flush=True)
    return line


def run(about: str | None, groups: Mapping[str, Callable[[int], list[Line]]]) -> int:
    """The command of a benchmark: its groups, each group(pairs) -> lines. Returns 0 where all that is wanted was reached."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--only", choices=groups)
    parser.add_argument("--pairs", type=int, default=31)
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"float32, {device.platform} ({device.device_kind}), {options.pairs} alternated pairs")
    lines = [line for name, group in groups.items() if options.only in (None, name) for line in group(options.pairs)]
    return int(not all(line.reached for line in lines))
