"""The worked example: its numbers, its text, its drawing, and what it refuses."""

import json
import math
import pathlib

import numpy as np
import pictures
import pytest

from experiments.cli import main, parse
from experiments.config import UsageError
from experiments.config.worked import Worked
from experiments.worked import drawing, net, page, passes, study, text


CHAIN = "0.74136507 · 0.186815602 · 0.593269992 = 0.082167041"


@pytest.fixture(scope="module")
def mazur():
    worked = net.net_of(Worked())
    return worked, passes.values_of(worked)


def test_mazurs_numbers(mazur):
    worked, values = mazur
    near = lambda ours, golden: np.testing.assert_allclose(ours, golden, rtol=1e-12)
    near(values.a[1], [0.5932699921071872, 0.596884378259767])
    near(values.a[2], [0.7513650695523157, 0.7729284653214625])
    near(values.cost, 0.2983711087600027)
    near(values.w_bar[1], [[0.08216704056423077, 0.08266762784753325], [-0.02260254047747507, -0.022740242215978222]])
    near(values.w_bar[0], [[0.0004385677344743465, 0.000877135468948693], [0.0004977127352608599, 0.0009954254705217198]])
    near(values.b_bar[1], [0.13849856162855695, -0.038098236516556236])
    assert values.apart < 1e-15
    (path,) = passes.paths(worked, values)
    near([factor.value for factor in path.factors], [0.7413650695523157, 0.18681560180895948, 0.5932699921071872])
    assert CHAIN in text.worked(worked, values)
    assert all(number.holds for number in study.published_numbers(worked, values))


@pytest.mark.parametrize("example", ["han-kamber", "brownlee"])
def test_printed_numbers_of_the_other_texts(example):
    worked = net.net_of(Worked(example=example))
    numbers = study.published_numbers(worked, passes.values_of(worked))
    assert numbers
    assert [number.name for number in numbers if not number.holds] == []
    changed = net.net_of(Worked(example=example, learning_rate=0.1))
    assert changed.rate == 0.1
    assert not changed.as_printed  # its updated weights are others


def cost_of(worked: net.Net) -> float:
    """The cost in plain NumPy."""
    squash = {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh, "identity": lambda z: z}
    squash |= {"softmax": lambda z: np.exp(z) / np.exp(z).sum(), "relu": lambda z: np.maximum(z, 0)}
    a = worked.inputs
    for i, (w, b) in enumerate(zip(worked.weights, worked.biases, strict=True)):
        a = squash[worked.output if i == len(worked.weights) - 1 else worked.activation](w @ a + b)
    y = worked.targets
    if worked.loss == "quadratic":
        return float(np.sum((a - y) ** 2) / 2)
    return -float(np.sum(y * np.log(a) + (0 if worked.loss == "softmax" else (1 - y) * np.log1p(-a))))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"net": "3-2-2-3", "loss": "softmax", "activation": "tanh", "weight": "1,2,3"}, 6),
        ({"net": "2-3-2", "loss": "cross-entropy", "activation": "relu", "weight": "1,1,b", "seed": 2}, 2),
        ({"net": "2-2-1", "output": "identity", "weight": "1,2,1"}, 1),
    ],
)
def test_the_sum_over_all_paths_is_the_derivative(options, count):
    worked = net.net_of(Worked(**options))
    values = passes.values_of(worked)
    assert values.apart < 1e-14
    assert math.isclose(values.cost, cost_of(worked), rel_tol=1e-12)
    found = passes.paths(worked, values)
    assert len(found) == passes.path_count(worked) == count
    bar = net.entry(worked.chosen, values.w_bar, values.b_bar)
    assert bar != 0
    assert math.isclose(sum(path.product for path in found), bar, rel_tol=1e-12)
    layer, to, source = worked.chosen
    costs = []
    for step in (1e-6, -1e-6):
        weights, biases = [w.copy() for w in worked.weights], [b.copy() for b in worked.biases]
        (biases[layer - 1] if source is None else weights[layer - 1][:, source - 1])[to - 1] += step
        costs.append(cost_of(worked._replace(weights=tuple(weights), biases=tuple(biases))))
    assert math.isclose((costs[0] - costs[1]) / 2e-6, bar, rel_tol=1e-6)
    told = text.worked(worked, values)
    assert all(text.full(path.product) in told for path in found)
    assert text.full(bar) in told


def test_runs_leave_text_drawing_and_page(tmp_path, capsys, monkeypatch):
    numbers = {
        "layers": [{"w": [[0.15, 0.2], [0.25, 0.3]], "b": [0.35, 0.35]}, {"w": [[0.4, 0.45], [0.5, 0.55]], "b": [0.6, 0.6]}]
    }
    (tmp_path / "own.json").write_text(json.dumps(numbers | {"inputs": [0.05, 0.1], "targets": [0.01, 0.99]}))
    arguments = ["worked", "--net", "2-2-2", "--weight", "2,1,1", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    assert CHAIN in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert abs(summary["derivative"] - 0.08216704056423077) < 1e-15
    assert abs(summary["updated"] - 0.35891647971788465) < 1e-15
    assert (summary["paths"], summary["published_missed"], summary["weight_name"]) == (1, 0, "w²₁₁")
    assert CHAIN in (tmp_path / "run" / "worked.txt").read_text()
    pictures.parse((tmp_path / "run" / "drawing.svg").read_text())
    shown = (tmp_path / "run" / "report.html").read_text()
    assert CHAIN.partition(" =")[0] in shown  # also without a script
    assert "http:" not in shown.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in shown

    same = ["worked", "--params", str(tmp_path / "own.json"), "--out", str(tmp_path / "own")]
    assert main(same) == 0
    assert json.loads((tmp_path / "own" / "summary.json").read_text())["cost"] == summary["cost"]

    monkeypatch.setattr(study, "TOLERANCE", -1.0)
    assert main([*arguments[:-1], str(tmp_path / "apart")]) == 1
    assert "from jax.grad's" in capsys.readouterr().err


def test_a_printed_number_that_is_missed_is_told(mazur):
    worked, values = mazur
    (name, place, _, within), *rest = worked.example.published
    wrong = worked._replace(example=worked.example._replace(published=((name, place, (0.6, 0.6), within), *rest)))
    assert [n.holds for n in study.published_numbers(wrong, values)].count(False) == 1


BAD = {
    "--net 2": "the inputs and 1 to 5 layers",
    "--net 2-2-2-2-2-2-2": "the inputs and 1 to 5 layers",
    "--net 2-9-1": "1 to 8 units a layer",
    "--net 2-0-1": "1 to 8 units a layer",
    "--net 2x2": "units of each layer such as 2-3-1",
    "--net 3-2-1 --example mazur": "2-2-2, the units of Mazur's example",
    "--weight 2,1": "LAYER,TO,FROM counted from 1",
    "--weight 0,1,1": "LAYER,TO,FROM counted from 1",
    "--weight 3,1,1": "a layer from 1 to 2",
    "--weight 2,3,1": "a unit from 1 to 2 of layer 2",
    "--weight 2,1,3": "from a unit from 1 to 2 of layer 1, or b",
    "--inputs 1 2 3": "2 numbers for a 2-2-2 net",
    "--targets 1": "2 numbers for a 2-2-2 net",
    "--inputs nan 1": "finite numbers",
    "--targets 2 0 --loss cross-entropy": "numbers from 0 to 1",
    "--targets 0.2 0.2 --loss softmax": "numbers that sum to 1",
    "--net 2-1 --loss softmax": "two outputs or more",
    "--loss softmax --output tanh": "none with --loss softmax",
    "--learning-rate 0": "a number above 0",
    "--params nowhere.json": "cannot be read",
    "--params {bad} --example mazur": "none beside --params",
    "--params {bad}": 'expected {"layers"',
    "--params {odd}": "weights of shapes",
    "--params {wide}": "1 to 8 units a layer",
}


@pytest.mark.parametrize(("line", "told"), BAD.items())
def test_what_cannot_be_worked_is_refused(line, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # errors on one line
    places = {name: tmp_path / f"{name}.json" for name in ("bad", "odd", "wide")}
    places["bad"].write_text('{"layers": []')
    places["odd"].write_text('{"layers": [{"w": [[1, 2]], "b": [1, 2]}], "inputs": [1, 2], "targets": [1, 1]}')
    places["wide"].write_text(json.dumps({"layers": [{"w": [[1] * 9], "b": [1]}], "inputs": [1] * 9, "targets": [1]}))
    with pytest.raises((UsageError, SystemExit)) as caught:
        net.net_of(parse(["worked", *line.format(**places).split()]))
    assert told in str(caught.value) + capsys.readouterr().err


def test_random_numbers_have_two_decimals_and_follow_the_seed():
    one, again, other = (net.net_of(Worked(net="4-3-2", seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(p, q) for p, q in zip(one.weights, again.weights, strict=True))
    assert not np.array_equal(one.weights[0], other.weights[0])
    assert all(np.array_equal(w, np.round(w, 2)) for w in (*one.weights, *one.biases, one.inputs))


# --- the drawing

WORST = -0.0006744  # the longest that four digits come out


def all_worst(worked: net.Net) -> passes.Values:
    layers = [np.full(n, WORST) for n in worked.sizes]
    hidden = layers[1:]
    return passes.Values(hidden, layers, hidden, hidden, hidden, [w * 0 + WORST for w in worked.weights], hidden, WORST, 0.0)


@pytest.mark.parametrize("shape", ["2-2-2", "3-3-1", "1-1", "4-3-8", "8-8-8"])
def test_nothing_in_the_drawing_overlaps(shape, monkeypatch):
    for letter, width in {**dict.fromkeys("₁₂₃₄₅₆₇₈", 0.401), "∂": 0.517}.items():
        monkeypatch.setitem(pictures.EM, letter, width)
    worked = net.net_of(Worked(net=shape, example="random"))
    worked = worked._replace(
        weights=tuple(w * 0 + WORST for w in worked.weights), biases=tuple(b * 0 + WORST for b in worked.biases)
    )
    svg = drawing.draw(worked, all_worst(worked))
    pictures.assert_readable(svg)
    root = pictures.parse(svg)
    assert len(root.findall(f".//{pictures.SVG}g[@data-edge]")) == sum(w.size for w in worked.weights)
    assert len(root.findall(f".//{pictures.SVG}g[@data-unit]")) == sum(worked.sizes) + 1


def test_the_drawing_says_what_it_shows(mazur):
    svg = drawing.draw(*mazur)
    told = pictures.parse(svg).find(f"{pictures.SVG}desc").text
    assert "o₁ a 0.7514, δ 0.1385" in told
    edge = pictures.parse(svg).find(f".//{pictures.SVG}g[@data-edge='2,0,0']")
    shown = [node.text for node in edge.iter(f"{pictures.SVG}text")]
    assert shown == ["w", "0.4", "→", "0.2373", "←", "0.0554"]  # w, w a, w δ


def test_every_script_and_style_is_on_the_page():
    folder = pathlib.Path(drawing.__file__).parent
    assert {path.name for path in folder.glob("*.js")} == set(page.SCRIPTS)
    assert {path.name for path in folder.glob("*.css")} == set(page.STYLES)
