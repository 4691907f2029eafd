"""The studies of gradients and of trained nets: their pieces, their pages, and (slow) whole runs."""

import json

import numpy as np
import pytest

from experiments.cli import main, parse
from experiments.config import Inside, Pruning, Routes, UsageError
from experiments.published import Number
from experiments.study import inside, pruning_page, route_costs, routes, routes_page, trained
from experiments.study.pruning import SHARES, Greedy, checks
from experiments.study.route_costs import Cost


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(["routes", "--seconds", "0.5"], Routes), (["inside", "--hidden", "8", "8"], Inside), (["pruning"], Pruning)],
)
def test_options(arguments, kind):
    assert type(parse(arguments)) is kind


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Routes(seconds=0), "--seconds"),
        (lambda: Routes(parameters=3), "--parameters"),
        (lambda: Routes(batch_size=0), "--batch-size"),
        (lambda: Inside(hidden=()), "--hidden"),
        (lambda: Inside(epochs=0), "--epochs"),
        (lambda: Pruning(batch_size=5000), "--batch-size"),
        (lambda: Pruning(learning_rate=-1.0), "--learning-rate"),
    ],
)
def test_bad_options(make, match):
    with pytest.raises(UsageError, match=match):
        make()


# --- routes


def test_a_way_stops_where_it_would_take_too_long():
    before = [Cost("forward", 1000, 1000, 1.0, 0.5)]
    cost = route_costs._cost(Routes(seconds=1.0), "forward", 100_000, None, (), before)
    assert cost.seconds is None
    assert cost.why_not == "would take about 8 minutes"  # 0.5 s * 100 ** 1.5
    assert [route_costs.told(s) for s in (3.0, 300, 9000, 400_000)] == ["3.0 s", "5 minutes", "2 hours", "5 days"]
    assert route_costs._cost(Routes(seconds=1.0), "forward", 1_000_000, None, (), [*before, cost]).seconds is None


def test_what_was_measured_is_what_was_passed():
    fun, *data = route_costs.problem(Routes(), [2, 2, 2])
    cost = route_costs._measured("autodiff", 12, fun, tuple(data))
    assert cost.passes == 2
    assert cost.seconds > 0 < cost.seconds_compile
    assert route_costs._measured("paths", 12, fun, tuple(data)).passes == 18


def test_the_page_of_routes():
    costs = [
        Cost(by, n, n, 0.5, 1e-3 * n) if n < 5000 else Cost(by, n, None, None, None, "would take about 3 days")
        for by in routes.routes.WAYS
        for n in (12, 108, 9000)
    ]
    costs = [c._replace(seconds=1e-3, seconds_compile=0.5, why_not="") if c.by == "manual" else c for c in costs]
    costs = [c._replace(seconds=1e-3) if c.by == "autodiff" else c for c in costs]
    found = routes.routes.Routes((routes.routes.Route("manual", 1e-16, routes.routes.Passes(1, 0, 1)),), "float64", 12)
    valley = {"float32": {by: np.geomspace(1, 1e-8, len(routes_page.STEPS)) for by in ("one-sided", "central")}}
    loops = {"10": {"apart": 1e-7, "seconds": 5e-5, "ratios": {"compiled loop": 2.0, "Python loop": 40.0}}}
    paths = [Number("[784, 30, 10]", 10, 10, 0)]
    page = routes_page.report(Routes(), {"float64": found}, costs, valley, paths, loops)
    assert "would take about 3 days" in page
    assert "The valley of differences" in page
    assert "2.0×" in page
    assert len(routes_page.valley_table(valley).rows) == 2


# --- inside


def test_the_laws_hold():
    depth = inside.by_depth(Inside(), trained.sets(0))
    numbers = inside.laws(depth)
    assert all(number.holds for number in numbers)
    assert len(depth.layers) == len(inside.DEEP) + 1


def test_the_three_sets_do_not_meet():
    sets = trained.sets(3)
    assert [len(labels) for _, labels in sets] == [1000, 400, 397]
    rows = np.concatenate([images for images, _ in sets])
    assert len(np.unique(rows, axis=0)) > 1750  # the digits hold a few images twice


# --- pruning


def test_the_page_of_pruning():
    good = Greedy(remaining=800, links=2220, before=0.96, criterion=0.965, test=0.95, retrained=0.97, nonzero=800)
    bad = good._replace(criterion=0.9, nonzero=-1)
    assert [number.holds for number in checks({"obd": good, "magnitude": bad})] == [True, False, True, False]
    curves = {"obd": np.linspace(1, 0.2, len(SHARES))}
    result = type("Result", (), {"history": {"validation_accuracy": np.array([0.97])}})
    page = pruning_page.report(SHARES, result, curves, curves, {"obd": good}, checks({"obd": good}))
    assert "36 %" in page
    assert "Greedy" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["routes", "--parameters", "1000"], ["inside", "--epochs", "8"], ["pruning", "--epochs", "8"]]
)
def test_whole_runs(arguments, tmp_path):
    status = main([*arguments, "--out", str(tmp_path / "run")])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert status == 0
    assert all(number["holds"] for number in summary["numbers"])
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()
