"""Every text's numbers, its page, and what a wrong number does to the exit status."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pictures
import pytest

from experiments import published
from experiments.classics import brownlee, han_kamber, hours_score, mazur, micrograd, wheat
from experiments.cli import main
from experiments.config import UsageError
from experiments.config.classics import CLASSICS, MODULES, Brownlee, HanKamber, HoursScore, Mazur, Micrograd
from jaxbp.page.document import document


def drawings(story):
    """Every figure of the story's page; its texts are given a width each."""
    page = document(story.title, story.sections)
    for character in set(page):
        pictures.EM.setdefault(character, 0.84)
    return re.findall(r"<svg (?:(?!<svg ).)*?viewBox=\"0 0.*?</svg>(?=</div>)", page, re.DOTALL)


TOLD = {}


def told(module, options):
    """The story of a text, told once for all tests."""
    if module not in TOLD:
        TOLD[module] = module.tell(options)
    return TOLD[module]


TEXTS = [
    (mazur, Mazur(), 22, 5),
    (han_kamber, HanKamber(updates=3), 8, 4),
    (hours_score, HoursScore(), 3, 3),
    (brownlee, Brownlee(), 5, 5),
    (micrograd, Micrograd(), 14, 4),
]


@pytest.mark.parametrize(("module", "options", "numbers", "figures"), TEXTS, ids=[m.__name__.split(".")[-1] for m, *_ in TEXTS])
def test_a_text_holds_and_can_be_read(module, options, numbers, figures):
    story = told(module, options)
    assert story.missed == []
    assert len(story.numbers) == numbers
    drawn = drawings(story)
    assert len(drawn) >= figures - 1
    for svg in drawn:
        if "g-box" not in svg:  # graphs have a width for text of their own, and tests of their own
            pictures.assert_readable(svg)


@pytest.mark.parametrize(("name", "places"), [(name, module) for name, module in MODULES.items()])
def test_every_experiment_has_its_module(name, places):
    import importlib

    module = importlib.import_module(f"experiments.{places}")
    assert callable(module.run)
    assert module.tell.__annotations__["options"] == CLASSICS[name].__name__


def test_wrong_weights_are_missed(monkeypatch):
    """The numbers can fail: one weight of the text changed in its fourth digit."""
    right = han_kamber.start()
    wrong = (right[0]._replace(w=right[0].w.at[0, 0].add(1e-3)), *right[1:])
    monkeypatch.setattr(han_kamber, "start", lambda: wrong)
    missed = published.missed(han_kamber.numbers(han_kamber.trained(3)))
    assert any(line.startswith("w14") for line in missed)


def test_mazurs_other_rule_differs_only_in_the_hidden_layer():
    first = mazur.trained().first
    np.testing.assert_array_equal(first[2].w[0], first[2].w[2])
    assert 0 < np.abs(first[0].w[0] - first[0].w[2]).max() < 1e-4
    np.testing.assert_array_equal(first[0].b[0], mazur.start()[0].b)
    assert np.abs(first[0].b[1] - mazur.start()[0].b).min() > 1e-3


def test_the_readme_expression_is_python():
    """The expression without JAX: the same formulas on floats."""
    relu = lambda v: max(v, 0.0)
    a, b = -4.0, 2.0
    c, d = a + b, a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + relu(b + a)
    d += 3 * d + relu(b - a)
    f = (c - d) ** 2
    assert float(micrograd.readme(jnp.float64(a), jnp.float64(b))) == f / 2 + 10 / f


# --- wheat


def table(rows=210, seed=0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, rows)
    return wheat.Table(draw.normal(size=(rows, 7)) + labels[:, None], labels)


def test_folds_and_weights_are_drawn_as_the_text_draws_them():
    import random

    folds, starts = wheat.recipe(210, 7, 1)
    assert sorted(folds.ravel()) == list(range(210))
    draw = random.Random(1)
    assert folds[0, 0] == draw.randrange(210)
    other = wheat.recipe(210, 7, 2).folds
    assert (folds != other).any()
    assert starts[0].w.shape == (5, 7, 5)  # folds, inputs, hidden units
    assert starts[2].b.shape == (5, 3)


def test_wheat_reproduces_the_published_folds(data_dir):
    found = wheat.validate(wheat.load(data_dir), 1)
    np.testing.assert_allclose(found.leak, brownlee.WHEAT, atol=1e-9)
    assert found.clean.shape == (5,)
    assert found.leak.mean() - found.clean.mean() == pytest.approx(100 / 210, abs=1e-9)  # one row of 210


def test_scaling_inside_the_fold_sees_nothing_of_the_held_out_rows(monkeypatch):
    monkeypatch.setattr(wheat, "train", lambda params, x, targets: params)
    data, seen = table(40), []
    monkeypatch.setattr(wheat, "scaled", lambda x, by, real=wheat.scaled: seen.append(np.array(by)) or real(x, by))
    folds = wheat.recipe(40, 7, 1).folds
    wheat.validate(data, 1)
    whole, *inside = seen
    assert len(whole) == 40
    for i, by in enumerate(inside):
        held = {tuple(row) for row in data.x[folds[i]]}
        assert not held & {tuple(row) for row in by}
        assert len(by) == 32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"wheat seeds: looked for .*uci/wheat-seeds.csv, there is no such file; the data is the seeds set"),
        ("a,b\n1,2\n", "rows of 7 numbers and a class were expected"),
        ("1,2,3\n" * 30, "rows of 7 numbers and a class were expected"),
        ("1,2,3,4,5,6,7,1\n" * 3, "got 3 rows of 8 values"),
        ("1,2,3,4,5,6,nan,1\n" * 30, "got 30 rows of 8 values"),
    ],
)
def test_wheat_that_cannot_be_used(tmp_path, capsys, content, message):
    (tmp_path / "uci").mkdir()
    if content is not None:
        (tmp_path / "uci" / "wheat-seeds.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        wheat.load(tmp_path)
    assert main(["brownlee", "--data-dir", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "run").exists()  # the same call works once the file is there


def test_without_a_data_folder_the_section_says_so():
    story = told(brownlee, Brownlee())
    said = str(story.sections[-1].blocks[0])
    assert story.sections[-1].title == "Wheat seeds"
    assert "for no --data-dir was given" in said
    assert "UCI Machine Learning Repository" in said


# --- the command


def test_the_command(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["han-kamber", "--updates", "3", "--out", str(out)]) == 0
    assert "w46, w56" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} >= {"config.json", "summary.json", "report.html"}
    assert json.loads((out / "config.json").read_text())["updates"] == 3
    assert json.loads((out / "summary.json").read_text())["missed"] == []


@pytest.mark.parametrize(
    "args",
    [
        *(["han-kamber", "--updates", "0"], ["xor", "--starts", "0"], ["parity", "--starts", "0"], ["symmetry", "--sweeps", "0"]),
        *(["symmetry", "--starts", "0"], ["encoder", "--passes", "0"], ["mazur", "--seed", "-1"]),
    ],
)
def test_options_that_cannot_be_used(args, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([*args, "--out", str(tmp_path)])
    assert end.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(rf"{args[1]}: expected .*, got {args[2]}", told)
