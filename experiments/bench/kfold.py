"""K-fold validation and a grid over it, against scikit-learn on both cores; each tool as its users call it.

    python -m experiments.bench.kfold                 # warm, whole process, grid
    python -m experiments.bench.kfold --only warm

Digits, an MLP with 32 hidden units, 10 stratified folds, 50 epochs, batches of 32, SGD with momentum 0.9. Runs alternate;
printed are medians and the median of the paired ratios. "Process" is from the start of Python to its exit; "cached" keeps
XLA's programs on disk from one process to the next (`jax_compilation_cache_dir`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


RATES = [0.003, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3]

JAXBP = """
import os
os.environ.setdefault("NPROC", "1")  # a thread for each of the two devices
import jax
jax.config.update("jax_num_cpu_devices", 2)
import optax
from sklearn.datasets import load_digits
import jaxbp

x, labels = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
net, loss = jaxbp.mlp([64, 32, 10], hidden=jaxbp.relu()), jaxbp.losses.softmax_cross_entropy()
optimizer = optax.sgd(0.1, momentum=0.9)

def setup(learning_rate):
    return jaxbp.Setup(net, loss, optax.sgd(learning_rate, momentum=0.9))

common = {"folds": 10, "stratified": True, "epochs": 50, "batch_size": 32}

def folds(seed=0):
    return jaxbp.cross_validate(net, loss, optimizer, x, labels, key=jax.random.key(seed), **common).mean["accuracy"]

def grid(rates, seed=0):
    result = jaxbp.sweep(setup, x, labels, jaxbp.grid(learning_rate=rates), key=jax.random.key(seed), **common)
    return result.best("accuracy")["learning_rate"], result.mean("accuracy").max()
"""

SKLEARN = """
import warnings
warnings.filterwarnings("ignore")
import os
os.environ["PYTHONWARNINGS"] = "ignore"
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier

x, labels = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
net = MLPClassifier(
    (32,), solver="sgd", momentum=0.9, nesterovs_momentum=False, learning_rate_init=0.1, batch_size=32, alpha=0.0,
    max_iter=50, tol=0.0, n_iter_no_change=1000, random_state=0,
)
cut = StratifiedKFold(10, shuffle=True, random_state=0)

def folds(seed=0):
    return cross_val_score(net.set_params(random_state=seed), x, labels, cv=cut, n_jobs=2).mean()

def grid(rates, seed=0):
    search = GridSearchCV(net.set_params(random_state=seed), {"learning_rate_init": rates}, cv=cut, n_jobs=2).fit(x, labels)
    return search.best_params_["learning_rate_init"], search.best_score_
"""


def process(code: str, call: str, **environment: str) -> tuple[float, str]:
    """(seconds, what was printed) of a Python process that runs `print(call)` after `code`."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint({call})"],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - begun, done.stdout.strip()


def show(name: str, theirs: list[float], ours: list[float], wanted: float, note: str) -> bool:
    ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
    seconds = f"{statistics.median(theirs):8.3f} s {statistics.median(ours):8.3f} s"
    print(f"{name:34} {seconds} {ratio:7.2f}x  wanted {wanted:g}x  {note}", flush=True)
    return ratio >= wanted


def warm(rounds: int) -> bool:
    ours, theirs = {}, {}
    exec(SKLEARN, theirs)
    exec(JAXBP, ours)
    ours["folds"]()
    theirs["folds"]()
    pairs = []
    for seed in range(1, rounds + 1):
        took = []
        for tool in (theirs, ours):
            begun = time.perf_counter()
            accuracy = tool["folds"](seed)
            took.append((time.perf_counter() - begun, accuracy))
        pairs.append(took)
    accuracies = [statistics.mean(p[i][1] for p in pairs) for i in (0, 1)]
    return show(
        "10 folds, warm call",
        [p[0][0] for p in pairs],
        [p[1][0] for p in pairs],
        20,
        "accuracy {:.4f}, {:.4f}".format(*accuracies),
    )


def whole(name: str, call: str, rounds: int, wanted: dict[str, float]) -> bool:
    reached = []
    with tempfile.TemporaryDirectory() as folder:
        cached = {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        process(JAXBP, call, **cached)
        runs = [(process(SKLEARN, call), process(JAXBP, call), process(JAXBP, call, **cached)) for _ in range(rounds)]
    theirs = [run[0][0] for run in runs]
    for i, kind in ((1, "no cache"), (2, "cached")):
        note = f"found {runs[0][0][1]}, {runs[0][i][1]}"
        reached.append(show(f"{name}, process, {kind}", theirs, [run[i][0] for run in runs], wanted[kind], note))
    return all(reached)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=["warm", "process", "grid"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{'':34} {'scikit-learn':>10} {'jaxbp':>8}    ratio")
    reached = []
    if options.only in (None, "warm"):
        reached.append(warm(options.rounds))
    if options.only in (None, "process"):
        reached.append(whole("10 folds", "folds()", options.rounds, {"no cache": 1.3, "cached": 2}))
    if options.only in (None, "grid"):
        reached.append(whole("10 folds x 8 rates", f"grid({RATES})", min(options.rounds, 3), {"no cache": 5, "cached": 5}))
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
