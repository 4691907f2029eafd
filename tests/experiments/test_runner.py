"""`python -m experiments`, from the command line to the files that a run leaves, on configurations of a second or two."""

import contextlib
import gzip
import io
import json
import math
import re
import struct

import numpy as np
import pytest

from experiments import cli, config


pytestmark = pytest.mark.xdist_group("runner")  # one worker, where equal programs are compiled once

COMMON = {
    "gradient", "gradient_max_error_f64", "gradient_max_error_f32", "gradient_step_time_ratio", "parameters", "params_sha256",
    "history_sha256",
    "seconds_compile", "seconds_run", "jax", "python", "device",
}  # fmt: skip
DIGITS = ["digits", "--folds", "3", "--epochs", "3", "--hidden", "8", "--batch-size", "64", "--learning-rate", "0.01"]
NAMES = {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy"}


def run(*args) -> int:
    devices = [] if args[0] == "mnist" else ["--devices", "1"]  # what JAX has in this process
    return cli.main([str(arg) for arg in (args[0], "--no-cache", *devices, *args[1:])])


def read(folder, name):
    text = (folder / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist_folder(tmp_path):
    """200 + 50 images of 28 x 28 whose class is a bright row: small and learnable."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for stem, n in (("train", 200), ("t10k", 50)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = draw.integers(0, 40, (n, 28, 28), np.uint8)
        images[np.arange(n), 2 * labels + 3] += 200
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """(the run folder, what was printed) of one tiny run."""
    out, printed = tmp_path_factory.mktemp("digits") / "run", io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert run(*DIGITS, "--out", out) == 0
    return out, printed.getvalue()


def test_digits_from_end_to_end(digits_run):
    out, printed = digits_run
    left = {path.name for path in out.iterdir()}
    assert left == {".lock", "checkpoints", "config.json", "metrics.jsonl", "report.html", "summary.json"}

    assert read(out, "config.json") == {
        "experiment": "digits", "hidden": [8], "activation": "relu", "loss": "softmax_cross_entropy", "optimizer": "adam",
        "learning_rate": 0.01, "l2": 0.001, "batch_size": 64, "epochs": 3, "patience": None, "gradient": "manual", "seed": 0,
        "devices": 1, "folds": 3,
    }  # fmt: skip

    lines = read(out, "metrics.jsonl")
    assert {(line["fold"], line["epoch"]) for line in lines} == {(fold, epoch) for fold in range(3) for epoch in (1, 2, 3)}
    assert len(lines) == 9
    assert all(set(line) == {"fold", "epoch", *NAMES} for line in lines)

    summary = read(out, "summary.json")
    assert summary.keys() >= COMMON | {"accuracy_per_fold", "accuracy_mean", "accuracy_std", "stop_reasons", "epochs_per_fold"}
    assert not any(isinstance(value, dict) for value in summary.values())
    last = [line["validation_accuracy"] for line in lines if line["epoch"] == 3]
    assert summary["accuracy_per_fold"] == pytest.approx(last)
    assert summary["accuracy_mean"] == pytest.approx(np.mean(last))
    assert summary["accuracy_std"] == pytest.approx(np.std(last, ddof=1))
    assert summary["accuracy_mean"] > 0.6
    assert summary["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert summary["gradient_max_error_f64"] <= 1e-12
    assert 0 < summary["gradient_max_error_f32"] <= 1e-5
    assert len(summary["params_sha256"]) == 64

    page = (out / "report.html").read_text(encoding="utf-8")
    for shown in (
        "params[0].w",
        "Confusion matrix",
        "Learning curves",
        "mlp([64, 8, 10], hidden=relu())",
        f"{summary['accuracy_mean']:.4f}",
    ):
        assert shown in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:|//)|url\(|@import|<link""", page)  # self-contained

    assert "params[2].w" in printed
    assert str(out / "report.html") in printed
    assert all(f"{accuracy:.4f}" in printed for accuracy in last)


def test_a_seed_is_a_result_and_both_gradients_train_alike(tmp_path, digits_run):
    outs = {"first": digits_run[0], **{name: tmp_path / name for name in ("again", "autodiff", "other")}}
    assert run(*DIGITS, "--out", outs["again"]) == 0
    assert run(*DIGITS, "--gradient", "autodiff", "--out", outs["autodiff"]) == 0
    assert run(*DIGITS, "--seed", 1, "--out", outs["other"]) == 0
    summaries = {name: read(out, "summary.json") for name, out in outs.items()}
    assert summaries["first"]["params_sha256"] == summaries["again"]["params_sha256"]
    assert summaries["first"]["params_sha256"] != summaries["other"]["params_sha256"]
    assert summaries["autodiff"]["gradient"] == "autodiff"
    by_hand, by_grad = ([line["train_loss"] for line in read(outs[name], "metrics.jsonl")] for name in ("first", "autodiff"))
    np.testing.assert_allclose(by_hand, by_grad, rtol=1e-5)


def test_digits_by_the_quadratic_loss_of_sigmoids(tmp_path):
    options = ["--loss", "quadratic", "--activation", "sigmoid", "--optimizer", "momentum", "--learning-rate", 0.1, "--l2", 0]
    assert run(*DIGITS, *options, "--out", tmp_path / "run") == 0
    lines = read(tmp_path / "run", "metrics.jsonl")
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]


def test_a_run_that_turns_nonfinite_says_where_and_keeps_its_metrics(tmp_path, capsys):
    out = tmp_path / "run"
    assert run(*DIGITS, "--optimizer", "sgd", "--learning-rate", 1e30, "--out", out) == 1
    said = capsys.readouterr().err
    assert "error: folds 0, 1, 2: non-finite after epoch 1: params[0].w" in said
    summary = read(out, "summary.json")
    assert summary["accuracy_mean"] is None
    assert summary["epochs_per_fold"] == [0, 0, 0]
    assert read(out, "metrics.jsonl") == []
    assert "3 of 3 folds broke off" in (out / "report.html").read_text(encoding="utf-8")


def test_mnist_from_end_to_end(tmp_path, mnist_folder, capsys):
    out = tmp_path / "run"
    assert run("mnist", "--data-dir", mnist_folder, "--epochs", 5, "--out", out) == 0
    lines, summary = read(out, "metrics.jsonl"), read(out, "summary.json")
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert set(lines[0]) == {"epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"}
    assert summary.keys() >= COMMON | {"accuracy_test", "epochs", "stop_reason"}
    assert summary["accuracy_test"] == pytest.approx(lines[-1]["test_accuracy"])
    assert summary["accuracy_test"] > 0.9
    assert summary["parameters"] == 784 * 30 + 30 + 30 * 10 + 10
    assert "mlp([784, 30, 10])" in (out / "report.html").read_text(encoding="utf-8")
    assert "on 50 images after 5 epochs" in capsys.readouterr().out


def test_mnist_with_patience_stops_on_a_tenth_of_the_training_images(tmp_path, mnist_folder):
    out = tmp_path / "run"
    assert run("mnist", "--data-dir", mnist_folder, "--epochs", 12, "--patience", 1, "--learning-rate", 20, "--out", out) == 0
    lines, summary = read(out, "metrics.jsonl"), read(out, "summary.json")
    assert set(lines[0]) == {"epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"}
    losses = [line["validation_loss"] for line in lines]
    assert losses[-1] > losses[-2] == min(losses)
    assert (summary["epochs"], summary["best_epoch"]) == (len(lines), len(lines) - 1)
    assert "no better validation_loss in 1 epochs" in summary["stop_reason"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"best epoch {len(lines) - 1}" in page
    assert f"stopped {len(lines)}" in page


def test_mnist_that_turns_nonfinite_after_some_epochs_keeps_these(tmp_path, mnist_folder, capsys):
    out = tmp_path / "run"
    growing = [
        "--activation",
        "relu",
        "--loss",
        "softmax_cross_entropy",
        "--l2",
        25.0,
        "--learning-rate",
        0.5,
    ]  # |w| x 11.5 a step
    assert run("mnist", "--data-dir", mnist_folder, "--batch-size", 50, *growing, "--epochs", 30, "--out", out) == 1
    lines, summary = read(out, "metrics.jsonl"), read(out, "summary.json")
    assert 1 <= len(lines) == summary["epochs"] < 30
    assert all(math.isfinite(line["train_loss"]) for line in lines)
    assert f"non-finite after epoch {len(lines) + 1}: " in capsys.readouterr().err


def test_mnist_on_the_real_images(tmp_path, data_dir):
    out = tmp_path / "run"
    assert run("mnist", "--data-dir", data_dir / "mnist", "--train-size", 5000, "--epochs", 3, "--out", out) == 0
    assert read(out, "summary.json")["accuracy_test"] > 0.85


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "{digits,mnist,csv,audit-ecosystem,"),
        (["digts"], "digits, mnist"),
        (["digits", "--epoch", "3"], "--epochs"),
        (["digits", "--epochs", "many"], "--epochs"),
        (["digits", "--epochs", "0"], "--epochs: expected 1 or more, got 0"),
        (["digits", "--activation", "tan"], "'tanh'"),
        (["digits", "--gradient", "auto"], "'autodiff'"),
        (["digits", "--learning-rate", "-1"], "--learning-rate: expected a number above 0, got -1.0"),
        (["digits", "--learning-rate", "nan"], "--learning-rate: expected a number above 0, got nan"),
        (["digits", "--hidden", "30", "0"], "--hidden: expected sizes above 0"),
        (["digits", "--l2", "-0.1"], "--l2: expected 0 or a number above"),
        (["digits", "--folds", "1"], "--folds: expected from 2 to 174"),
        (["digits", "--batch-size", "0"], "--batch-size: expected 1 or more"),
        (["digits", "--seed", "-1"], "--seed: expected a whole number"),
        (["digits", "--patience", "0"], "--patience: expected 1 or more"),
        (["digits", "--out", "a", "--resume", "b"], "--out, --resume: expected one of them"),
        (["digits", "--processes", "2", "--devices", "3"], "--devices: expected a multiple of --processes 2, got 3"),
        (["digits", "--coordinator", "host:1"], "--coordinator, --process-id: expected both or none"),
        (["digits", "--coordinator", "host", "--process-id", "0"], "--coordinator: expected HOST:PORT, got host"),
        (
            ["csv", "--path", "p", "--target", "t", "--coordinator", "host:1", "--process-id", "1"],
            "--process-id: expected 0 to 0, got 1",
        ),
        (["mnist"], "--data-dir"),
        (["mnist", "--data-dir", "x", "--train-size", "0"], "--train-size: expected 1 or more"),
    ],
)
def test_bad_options_exit_with_status_2_and_say_what_was_expected(args, said, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(args)
    assert exit.value.code == 2
    shown = capsys.readouterr()
    assert "".join(said.split()) in "".join((shown.out + shown.err).replace("│", "").split())


def test_what_only_the_data_can_tell_is_said_before_a_folder_is_made(tmp_path, mnist_folder, capsys):
    out = tmp_path / "run"
    assert run("digits", "--batch-size", 1618, "--out", out) == 2
    assert "--batch-size: expected at most 1617" in capsys.readouterr().err
    assert run("mnist", "--data-dir", mnist_folder, "--train-size", 20, "--batch-size", 30, "--out", out) == 2
    assert "--batch-size: expected at most 20" in capsys.readouterr().err
    assert run("mnist", "--data-dir", tmp_path / "nowhere", "--out", out) == 2
    assert "put them into one folder and name it by --data-dir" in capsys.readouterr().err
    assert not out.exists()
    assert run(*DIGITS, "--out", mnist_folder) == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--help"], *([name, "--help"] for name in config.EXPERIMENTS)])
def test_help(args, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(args)
    assert exit.value.code == 0
    shown = capsys.readouterr().out
    kind = config.EXPERIMENTS.get(args[0])
    trains = isinstance(kind, type) and issubclass(kind, config.Options)
    own = ["--epochs", "--gradient", "--out DIR", "--resume DIR", "--no-cache"] if trains else ["--help"]
    own += ["--out DIR"] if isinstance(kind, type) and issubclass(kind, config.Study) else []
    for expected in own if len(args) > 1 else list(config.EXPERIMENTS):
        assert expected in shown
