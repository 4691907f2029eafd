"""The gallery: what it plans to run, that a failing experiment stops nothing, and what its page says of each."""

import dataclasses
import json
import pathlib
from typing import ClassVar

import pytest

from experiments import gallery
from experiments.cli import main
from experiments.config import EXPERIMENTS, Study, UsageError
from experiments.config.classics import Xor
from experiments.config.gallery import All
from experiments.config.worked import Worked
from experiments.gallery_page import Found, index


@dataclasses.dataclass(frozen=True)
class Needs(Study):
    """One that needs data. And more to say of it."""

    gallery: ClassVar[tuple[str, ...]] = ("--epochs", "2", "--data-dir", "{data}/mnist")
    epochs: int = 1
    data_dir: pathlib.Path = dataclasses.field(kw_only=True)


@dataclasses.dataclass(frozen=True)
class Requires(Study):
    """One whose folder is the whole of the data."""

    data_dir: pathlib.Path = dataclasses.field(kw_only=True)


@dataclasses.dataclass(frozen=True)
class CanUse(Study):
    """One that can use data."""

    data_dir: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Own(Study):
    """One of a file of your own."""

    path: pathlib.Path = dataclasses.field(kw_only=True)


@dataclasses.dataclass(frozen=True)
class Never(Study):
    """Not in the gallery."""

    gallery: ClassVar[None] = None


KINDS = {"needs": Needs, "requires": Requires, "can-use": CanUse, "own": Own, "never": Never}


def test_without_data_those_that_need_it_are_left_out():
    plans = {plan.name: plan for plan in gallery.planned(All(), KINDS)}
    assert {name: plan.skipped for name, plan in plans.items()} == {
        "needs": "needs --data-dir",
        "requires": "needs --data-dir",
        "can-use": "",
        "own": "needs --path of its own",
    }
    assert plans["can-use"].arguments == ()
    assert plans["needs"].sentence == "One that needs data. And more to say of it."


def test_data_is_given_to_those_that_take_it(tmp_path):
    plans = {plan.name: plan.arguments for plan in gallery.planned(All(data_dir=tmp_path), KINDS)}
    assert plans["needs"] == ("--epochs", "2", "--data-dir", f"{tmp_path}/mnist")
    assert plans["requires"] == plans["can-use"] == ("--data-dir", str(tmp_path))


def test_every_experiment_is_planned_and_has_its_sentence(tmp_path):
    plans = gallery.planned(All(data_dir=tmp_path), EXPERIMENTS)
    assert [plan.name for plan in plans] == [name for name in EXPERIMENTS if name != "all"]
    assert "csv" in [plan.name for plan in plans if plan.skipped]
    assert [plan.name for plan in plans if not plan.sentence.endswith(".")] == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"only": ("xor", "nonesuch")}, "expected names out of digits, .* got nonesuch"),
        ({"only": ("all",)}, "expected names out of"),
        ({"data_dir": pathlib.Path("nowhere at all")}, "this folder is not there"),
    ],
)
def test_what_cannot_be_run_is_refused(options, told):
    with pytest.raises(UsageError, match=told):
        gallery.planned(All(**options), EXPERIMENTS)
    for bad in ({"jobs": 0}, {"limit": 0.0}):
        with pytest.raises(UsageError, match="expected"):
            All(**bad)


def test_a_failing_experiment_is_told_and_stops_nothing(tmp_path, capsys, monkeypatch):
    failing = dataclasses.make_dataclass("Failing", [], bases=(Xor,), frozen=True, namespace={"gallery": ("--starts", "0")})
    failing.__module__ = Xor.__module__
    monkeypatch.setattr(gallery, "EXPERIMENTS", {"xor": failing, "worked": Worked})
    assert main(["all", "--out", str(tmp_path / "run")]) == 1
    told = capsys.readouterr()
    assert "failed: xor" in told.err
    assert "2 experiments in" in told.out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["ran"], summary["failed"]) == (2, ["xor"])
    statuses = {each["name"]: (each["status"], each["key_figure"][1]) for each in summary["experiments"]}
    assert statuses == {"xor": (2, ""), "worked": (0, "0.082167041")}
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'href="worked/report.html"' in page
    assert 'src="worked/drawing.svg"' in page
    assert "ended with status 2" in page
    assert "--starts" in page  # the end of its log
    assert "0.74136507" in (tmp_path / "run" / "worked.txt").read_text()


def test_one_that_takes_too_long_is_ended(tmp_path):
    plan = gallery.Plan("xor", Xor, ())
    (outcome,) = gallery._run_all([plan], tmp_path, All(limit=0.01), stopped=False)
    assert outcome.status is None
    assert outcome.why == "took longer than 0.01 s, and was ended"
    assert not (tmp_path / "xor" / "summary.json").exists()


def test_none_starts_once_it_was_told_to_stop(tmp_path):
    assert list(gallery._run_all([gallery.Plan("xor", Xor, ())], tmp_path, All(), stopped=True)) == []


def test_the_key_figure_is_the_one_named_or_the_first_of_the_report_or_what_is_met(tmp_path):
    path = tmp_path / "summary.json"
    page = '<dl class="key"><div><dt>Accuracy &amp; more</dt><dd>0.98</dd></div><div><dt>Time</dt><dd>1 s</dd></div></dl>'
    assert gallery.figure_of("", path) == ("", "")
    assert gallery.figure_of(page, path) == ("Accuracy & more", "0.98")
    path.write_text(json.dumps({"numbers": [{"holds": True}, {"holds": False}, {"holds": True}]}))
    assert gallery.figure_of("", path) == ("published numbers met", "2 of 3")
    path.write_text(json.dumps({"key_figure": ["slope", 3]}))
    assert gallery.figure_of(page, path) == ("slope", "3")


def test_the_page_groups_families_and_escapes_what_others_wrote():
    one = Found(
        *("a", "classics", "The classics.", "A < B", "Says <b>.", ("what", "1 < 2"), "", "a/report.html", "a.txt"),
        *(1, 75.0, "ended with status 1", "Traceback <module>", "python -m experiments a"),
    )
    two = one._replace(name="b", family="studies", lead="Studies.", status=0, last="", picture="<svg></svg>")
    page = index([two, one], [("c", "Not run.", "needs --data-dir")], 80.0)
    assert page.index('id="classics"') < page.index('id="studies"') < page.index('id="left-out"')
    assert "A &lt; B" in page
    assert "1 &lt; 2" in page
    assert "Traceback &lt;module&gt;" in page
    assert "<b>" not in page
    assert "1 min 15 s" in page
    assert page.count("<article") == 2
