"""A run of the runner killed (-9) again and again, each time resumed: the end is always the same, bit for bit.

    python -m experiments.bench.kills        # 40 over the training, 10 between write and rename, 2 between the two renames
    python -m experiments.bench.kills --kills 4 --faults 1

Compared with an undisturbed run: metrics.jsonl byte for byte, and all of summary.json but what clocks measured: SHA-256 of the
params, the predictions and the history, scores, epochs. That finished epochs were skipped, the log of each resumption says.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import sys
import tempfile

from experiments.bench.killing import Killed, kill_and_resume, last_checkpoint


EPOCHS = 60
RUN = ["--folds", "4", "--epochs", str(EPOCHS), "--hidden", "16", "--optimizer", "momentum", "--patience", str(EPOCHS)]
CLOCKS = re.compile(r"seconds_.*|gradient_.*_ratio")


def start(folder: pathlib.Path) -> list[str]:
    return [sys.executable, "-m", "experiments", "digits", *RUN, "--out", str(folder)]


def resume(folder: pathlib.Path) -> list[str]:
    return [sys.executable, "-m", "experiments", "digits", "--resume", str(folder)]


def left(folder: pathlib.Path) -> dict[str, object]:
    summary = json.loads((folder / "summary.json").read_bytes())
    kept = {name: value for name, value in summary.items() if not CLOCKS.fullmatch(name)}
    return {"metrics.jsonl": (folder / "metrics.jsonl").read_bytes(), **kept}


def progress(folder: pathlib.Path) -> int:
    return last_checkpoint(folder / "checkpoints")


def skipped(one: Killed) -> int:
    """How many epochs the resumed run says that it skipped."""
    found = re.search(r"^resumed after epoch (\d+) from ", one.log, re.MULTILINE)
    assert found, f"run {one.number}, killed at {one.at}: nothing of a resumption in its log:\n{one.log}"
    return int(found[1])


def told(one: Killed) -> None:
    end = f"{skipped(one):2} epochs skipped, same end  {one.fault or ''}"
    print(f"run {one.number:2}: killed at epoch {one.at:2}, {end}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=40, help="spread over the training, after the first checkpoint")
    parser.add_argument("--faults", type=int, default=10, help="between writing a checkpoint and its renames")
    options = parser.parse_args()
    places = [2 + i * (EPOCHS - 2) // max(1, options.faults) for i in range(options.faults)]
    faults = [*(f"checkpoint:rename:{place}" for place in places), *(f"checkpoint:commit:{place}" for place in places[1::5])]
    with tempfile.TemporaryDirectory() as root:
        os.environ["XDG_CACHE_HOME"] = root
        runs = pathlib.Path(root) / "runs"
        done = kill_and_resume(start, resume, left, runs, times=options.kills, faults=faults, progress=progress, told=told)
    assert all(skipped(one) == one.at for one in done)
    at = [one.at for one in done if one.fault is None] or [0]
    print(f"{len(done)} runs killed and resumed, all to the end of the undisturbed one:")
    print(f"{options.kills} over the training, epochs {min(at)} to {max(at)} of {EPOCHS},")
    print(f"{len(places)} between write and rename, {len(faults) - len(places)} between the two renames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
