"""The machinery that kills and resumes: a run that resumes as it should passes, one that does not is found out."""

from __future__ import annotations

import sys

import pytest

from experiments.bench.killing import files, kill_and_resume


# A run of 60 chunks whose state and history hang on all chunks before. sys.argv: folder, "start" or a way to resume.
RUN = """
import pathlib, sys, time
import jax
import numpy as np
from jaxbp.training.checkpoint import load_last, save
from jaxbp.training.folder import locked

folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]
with locked(folder):
    w, history, done = np.arange(1.0, 5.0), np.zeros(0, np.float32), 0
    last = load_last(folder, {"w": w, "history": jax.ShapeDtypeStruct((None,), np.float32)}) if how != "start" else None
    if last is not None:
        w, history, done = last.trees["w"], np.asarray(last.trees["history"]), last.notes["done"]
        print(f"resumed after chunk {done} from {last.path.name}")
    if how == "a step too far":
        w = np.sin(3 * w + done)
    for chunk in range(done, 60):
        w = np.sin(3 * w + chunk)
        history = np.append(history, w.sum(dtype=np.float32))
        time.sleep(0.005)
        save(folder, {"w": w, "history": history}, notes={"done": chunk + 1})
    (folder / "result").write_bytes(w.tobytes() + history.tobytes())
"""


def command(how):
    return lambda folder: [sys.executable, "-c", RUN, str(folder), how]


@pytest.mark.slow
def test_a_run_that_resumes_as_it_should(tmp_path):
    done = kill_and_resume(command("start"), command("resume"), files("result"), tmp_path, times=5)
    after = [int(one.log.split()[3]) for one in done]
    assert after == [one.at for one in done]  # chunk and checkpoint have one number
    assert 1 <= min(after) < 20 < 40 < max(after)
    for point, chunk in (("rename", 30), ("commit", 50)):
        fault = f"checkpoint:{point}:{chunk}"
        (one,) = kill_and_resume(command("start"), command("resume"), files("result"), tmp_path / point, times=0, faults=[fault])
        assert one.at == chunk - 1
        assert one.log.startswith(f"resumed after chunk {chunk - 1} from checkpoint-0000{chunk - 1}.json")


@pytest.mark.slow
def test_a_run_that_resumes_wrongly_is_found_out(tmp_path):
    with pytest.raises(AssertionError, match="result differs from the undisturbed one"):
        kill_and_resume(command("start"), command("a step too far"), files("result"), tmp_path, times=1)
    fault = "checkpoint:rename:99"
    with pytest.raises(AssertionError, match="did not kill the run"):
        kill_and_resume(command("start"), command("resume"), files("result"), tmp_path / "b", times=0, faults=[fault])
