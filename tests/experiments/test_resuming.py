"""`--resume DIR`: from any state that a run can leave behind to the very end it would have had, or a refusal that says why."""

import json
import re
import shutil
import signal

import pytest

from experiments import cli, terminal
from experiments.bench.kills import CLOCKS
from jaxbp.training.folder import locked


pytestmark = pytest.mark.xdist_group("runner")

OPTIONS = ["--folds", "2", "--epochs", "4", "--hidden", "4", "--batch-size", "256", "--patience", "3"]


def run(*args) -> int:
    return cli.main(["digits", "--no-cache", "--devices", "1", *map(str, args)])


def left(folder):
    summary = json.loads((folder / "summary.json").read_text())
    return (folder / "metrics.jsonl").read_bytes(), {k: v for k, v in summary.items() if not CLOCKS.fullmatch(k)}


def signalled(epoch, number):
    """The runner's progress, in which a signal comes while an epoch is told of."""
    call = terminal.Progress.__call__

    def told(self, done, info):
        call(self, done, info)
        if done == epoch:
            signal.raise_signal(number)

    return told


@pytest.fixture(autouse=True, scope="module")
def heeded():
    """SIGINT as at a terminal: where tests run in the background of a script it is ignored, and the runner leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(*OPTIONS, "--out", folder) == 0
    return left(folder)


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    """The folder of a run that SIGTERM ended after its third epoch."""
    folder = tmp_path_factory.mktemp("halfway") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal.Progress, "__call__", signalled(3, signal.SIGTERM))
        assert run(*OPTIONS, "--out", folder) == 143
    return folder


@pytest.fixture
def copied(halfway, tmp_path):
    return shutil.copytree(halfway, tmp_path / "run")


def test_told_to_stop_it_says_how_to_go_on(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(terminal.Progress, "__call__", signalled(1, signal.SIGINT))
    assert run(*OPTIONS, "--out", tmp_path / "run") == 130
    said = capfd.readouterr().err
    assert "finishing this epoch" in said
    assert f"stopped after epoch 1, which is saved; to go on: python -m experiments digits --resume {tmp_path / 'run'}" in said
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_it_goes_on_to_the_same_end(copied, whole, capsys):
    log = copied / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(True)[:3]) + '{"fold": 1, "ep')  # killed while it wrote a line
    assert run("--resume", copied) == 0
    assert left(copied) == whole
    assert "resumed after epoch 3 from " in capsys.readouterr().out


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(copied, whole, capsys):
    damaged = sorted(copied.glob("checkpoints/*.safetensors"))[-1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert run("--resume", copied, *OPTIONS) == 0  # the same options may be given again
    assert left(copied) == whole
    said = capsys.readouterr()
    assert f"warning: {damaged}: cut short or altered" in said.err
    assert "resumed after epoch 2 from " in said.out


def test_without_a_checkpoint_it_starts_afresh(copied, whole, tmp_path, capsys):
    shutil.rmtree(copied / "checkpoints")
    assert run("--resume", copied) == 0
    assert run("--resume", tmp_path / "new", *OPTIONS) == 0
    assert left(copied) == left(tmp_path / "new") == whole
    assert capsys.readouterr().out.count("starting afresh") == 2


def test_two_runs_in_one_folder_are_refused(copied, capsys):
    with locked(copied):
        assert run("--resume", copied) == 2
    assert f"error: {copied}: in use by process " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 5}, "--epochs: the run in .* has 5, got 4; leave it out"),
        ({"hidden": [5]}, r"--hidden: the run in .* has \(5,\), got \(4,\)"),
        ({"experiment": "csv"}, "expected a run of digits, .* holds one of csv"),
        ({"colour": "red"}, "another version of this runner, it differs in colour"),
    ],
)
def test_options_that_differ_are_refused_by_name(copied, change, said, capsys):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | change))
    assert run("--resume", copied, *OPTIONS) == 2
    assert re.search(said, capsys.readouterr().err)


def test_what_was_changed_behind_its_back_is_refused(copied, capsys):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"seed": 1}))
    assert run("--resume", copied) == 2
    assert "of another run: options.seed: 0 there, 1 now" in capsys.readouterr().err
    (copied / "config.json").write_text("{")
    assert run("--resume", copied) == 2
    assert "config.json cannot be read" in capsys.readouterr().err
