"""`python -m experiments csv`: a user's own table, from the file to the files that a run leaves, and what is refused."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest

import jaxbp
from experiments import cli, columns, infold, table
from experiments.config import Csv, UsageError


pytestmark = pytest.mark.xdist_group("runner")

SMALL = ["--hidden", "4", "--epochs", "3", "--batch-size", "8", "--folds", "3", "--learning-rate", "0.01"]


def flowers(n: int = 48) -> str:
    """Three classes that a length tells apart; widths with gaps, a colour with gaps, a code that is a category."""
    draw = np.random.default_rng(0)
    lines = ["length,width,colour,code,species"]
    for i in range(n):
        width = "NA" if i % 7 == 0 else f"{1.7e9 + draw.normal():.2f}"
        lines.append(f"{i % 3 + 0.1 * draw.normal():.3f},{width},{['red', 'blue', ''][i % 5 % 3]},{i % 2 + 7},{'abc'[i % 3]}")
    return "\n".join(lines)


def prices(n: int = 48) -> str:
    """A target far from 0 that is linear in one column and in whether a text says yes."""
    draw = np.random.default_rng(1)
    lines = ["area;garden;price"]
    for i in range(n):
        area = draw.uniform(50, 150)
        lines.append(f"{area:.1f};{'yes' if i % 3 else 'no'};{1e6 + 2000 * area + 50000 * (i % 3 > 0):.0f}")
    return "\n".join(lines)


def run(*args) -> int:
    return cli.main(["csv", "--no-cache", "--devices", "1", *[str(arg) for arg in args]])


def read_json(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """(the run folder, what was printed) of a small classification."""
    folder, printed = tmp_path_factory.mktemp("csv"), io.StringIO()
    (folder / "flowers.csv").write_text(flowers())
    args = ["--path", folder / "flowers.csv", "--target", "species", "--categorical", "code", *SMALL, "--out", folder / "run"]
    with contextlib.redirect_stdout(printed):
        assert run(*args) == 0
    return folder / "run", printed.getvalue()


def test_a_classification_from_end_to_end(classified):
    out, printed = classified
    assert {"config.json", "metrics.jsonl", "report.html", "summary.json"} <= {path.name for path in out.iterdir()}
    assert read_json(out, "config.json")["task"] == "classification"
    summary = read_json(out, "summary.json")
    assert summary["features"] == 2 + 1 + 3 + 1  # numbers, one of them with gaps, three colours (one is none), two codes
    assert summary["stratified"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {(line["fold"], line["epoch"]) for line in lines} == {(fold, epoch) for fold in range(3) for epoch in (1, 2, 3)}
    last = [line["validation_accuracy"] for line in lines if line["epoch"] == 3]
    assert summary["accuracy_per_fold"] == pytest.approx(last)
    assert summary["accuracy_mean"] == pytest.approx(np.mean(last))
    assert summary["gradient_max_error_f64"] <= 1e-12
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(shown in page for shown in ("Confusion matrix", "mlp([7, 4, 3], hidden=relu())", "&#x27;species&#x27;"))
    assert "48 rows" in printed
    assert "3 classes: a, b, c; classification (as its values look" in printed
    assert "width is missing, colour_(missing), colour_blue, colour_red, code_8" in printed


def test_a_regression_from_end_to_end(tmp_path, capsys):
    (tmp_path / "prices.csv").write_text(prices())
    more = ["--epochs", 60, "--learning-rate", 0.03, "--l2", 0]
    assert run("--path", tmp_path / "prices.csv", "--target", "price", *SMALL, *more, "--out", tmp_path / "run") == 0
    summary = read_json(tmp_path / "run", "summary.json")
    assert summary["task"] == "regression"
    assert summary["r2_of_all_rows"] > 0.9
    assert summary["r2_mean"] > 0.9
    assert 100 < summary["rmse_mean"] < 20_000  # in the units of the column, whose standard deviation is 60,000
    assert summary["gradient_max_error_f64"] <= 1e-12
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "R² of all rows" in page
    assert "Confusion matrix" not in page
    assert "48 rows" in capsys.readouterr().out


# --- what is fitted, is fitted inside each fold


def problem(tmp_path, text: str, target: str, **options) -> table.Problem:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return table.read(Csv(path=path, target=target, folds=3, batch_size=8, epochs=2, **options))


def test_preparation_is_of_the_training_rows_alone(tmp_path):
    found = problem(tmp_path, "a;b;y\n1;5;10\n3;;20\n;7;40\n100;-900;-7000\n0;1;3\n" + "5;1;6\n" * 12, "y", task="regression")
    weight = np.array([1, 1, 1] + [0] * 14, np.float32)
    fitted = infold.fit(found.rows, weight)
    x = infold.apply(fitted, found.rows)
    features = np.asarray(x.features)[:3]
    np.testing.assert_allclose(features[:, :2], [[-1, -1], [1, 0], [0, 1]], atol=1e-5)  # of 1, 3 and of 5, 7; gaps are the mean
    np.testing.assert_array_equal(features[:, 2:], [[0, 0], [0, 1], [1, 0]])  # where the gaps are
    y = np.asarray(x.mean + x.spread * 0)[:3, 0] * found.unit + found.zero
    np.testing.assert_allclose(y, 70 / 3, rtol=1e-4)
    np.testing.assert_allclose(np.asarray(x.spread)[0, 0] * found.unit, np.std([10, 20, 40]), rtol=1e-5)


def test_rows_held_out_reach_nothing_that_is_trained(tmp_path):
    """The table's last row, held out, is made absurd: the fold that does not see it is the same to the last bit."""
    text = prices(24)
    absurd = "\n".join([*text.splitlines()[:-1], "1e6;no;-4e6"])
    seen, other = (problem(tmp_path, shown, "price", hidden=()) for shown in (text, absurd))
    joined = jax.tree.map(lambda a, b: np.concatenate([a[:23], b[23:]]), seen.rows, other.rows)  # in one zero point and unit
    params = []
    for rows in (seen.rows, joined):
        cv = jaxbp.cross_validate(
            seen.net, seen.loss, table.parts.optimizer("adam", 1e-3), rows, rows.target, folds=[(np.arange(23), np.array([23]))],
            key=jax.random.key(0), epochs=2, batch_size=8, metrics=seen.metrics, scale=infold.IN_FOLD,
        )  # fmt: skip
        params.append(cv.params)
    assert not np.array_equal(seen.rows.target, joined.target)
    jax.tree.map(np.testing.assert_array_equal, *params)


def test_the_net_in_target_units_is_differentiated_right(tmp_path):
    found = problem(tmp_path, prices(16), "price", hidden=(4,))
    x = infold.apply(infold.fit(found.rows, np.ones(16, np.float32)), found.rows)
    x = jax.tree.map(lambda a: np.asarray(a, np.float64), x)
    params, _ = found.net.init(jax.random.key(0), jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), x))
    forward = lambda params, x: found.net.forward(params, x)[0]
    y, vjp = jax.vjp(forward, params, x)
    y_bar = np.random.default_rng(0).normal(size=y.shape)
    factors, x_bar = found.net.backward(params, found.net.forward(params, x)[1], y_bar)
    by_hand = jaxbp.factors.total(params, factors), x_bar
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), by_hand, vjp(y_bar))


def test_r2_and_rmse():
    draw = np.random.default_rng(0)
    targets, outputs = draw.normal(5, 2, (20, 1)), draw.normal(5, 2, (20, 1))
    weight = draw.integers(0, 3, 20).astype(float)
    r2, rmse = infold.metrics(10.0)
    from sklearn.metrics import mean_squared_error, r2_score

    np.testing.assert_allclose(r2(outputs, targets, weight), r2_score(targets, outputs, sample_weight=weight), rtol=1e-9)
    mse = mean_squared_error(targets, outputs, sample_weight=weight)
    np.testing.assert_allclose(rmse(outputs, targets, weight), 10 * np.sqrt(mse), rtol=1e-9)
    assert np.isnan(r2(outputs[:1], targets[:1]))
    assert np.isnan(r2(outputs, np.full_like(targets, 3.3)))


# --- reading


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_that_of_the_header(tmp_path, delimiter):
    path = tmp_path / "t.csv"
    path.write_bytes(("\ufeffa, b ,c\r\n1,x,\r\n\r\n2,?,3e5\r\n").replace(",", delimiter).encode())
    found = columns.read(path)
    assert list(found) == ["a", "b", "c"]
    assert found["a"].texts == ("1", "2")
    assert found["b"].texts == ("x", None)
    np.testing.assert_array_equal(found["c"].numbers(), [np.nan, 3e5])
    assert found["c"].lines == (2, 4)
    assert found["b"].not_a_number == (2, "x")


def test_quoted_cells_hold_the_delimiter(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,"b, in words"\n1,"one, two"\n2,three\n')
    assert columns.read(path)["b, in words"].texts == ("one, two", "three")


def test_units_are_round_and_keep_float32_its_digits():
    seconds = 1.7e9 + np.array([0.0, 1, 2, 3, np.nan])
    values, zero, unit = columns.in_units(seconds)
    assert unit == 1
    np.testing.assert_allclose(values.astype(np.float32).astype(np.float64) * unit + zero, seconds, rtol=0)
    assert columns.in_units(np.array([0.002, 0.004]))[2] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("cells", "asked", "task"),
    [
        (["a", "b", "a"], None, "classification"),
        (["1", "2", "1", "2"], None, "classification"),
        (["1", "2", "1"], None, "regression"),
        (["1", "2", "1"], "regression", "regression"),
        (["1", "2.5", "1"], None, "regression"),
        ([str(i % 20) for i in range(60)], None, "classification"),
        ([str(i % 21) for i in range(60)], None, "regression"),
    ],
)
def test_the_task_is_told_by_the_values(cells, asked, task):
    assert columns.task_of(columns.Column("y", tuple(cells), tuple(range(len(cells)))), asked) == task


def test_classes_that_are_numbers_are_in_the_order_of_numbers():
    labels, names = columns.labels(columns.Column("y", ("10", "9", "10"), (2, 3, 4)))
    assert names == ["9", "10"]
    assert labels.tolist() == [1, 0, 1]


# --- what is refused

ROWS = "\n".join(f"{i},{i * i},{'ab'[i % 2]}" for i in range(12))


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "this file is empty; expected a header"),
        ("\n \n", {}, "this file is empty"),
        ("a,b,y\n", {}, "a header but no rows"),
        ("a,a,y\n1,2,3", {}, "the header names 'a' more than once"),
        ("a,,y\n1,2,3", {}, "column 2 has no name"),
        ("1,2,3\n4,5,6", {}, "the first line holds numbers only"),
        ("a,b,y\n1,2", {}, "line 2: 2 values, the header names 3 columns"),
        ('a,b,y\n1,"2,3', {}, "no CSV file in UTF-8: unexpected end of data"),
        (f"a,b,y\n{ROWS}", {"target": "z"}, "--target: no column 'z'; the columns are 'a', 'b', 'y'"),
        (f"a,b,y\n{ROWS}", {"drop": ("c",)}, "--drop: no column 'c'"),
        (f"a,b,y\n{ROWS}", {"drop": ("y",)}, "--drop: 'y' is the target"),
        (f"a,b,y\n{ROWS}", {"drop": ("a", "b")}, "no column is left to predict 'y' from"),
        (f"a,b,y\n{ROWS}\n1,2,\n3,4,NA", {}, "'y' is missing in 2 of 14 rows, the first in line 14"),
        (f"a,b,y\n{ROWS}", {"folds": 13, "batch_size": 1}, "--folds: expected at most 12, the rows of the table, got 13"),
        (f"a,b,y\n{ROWS}", {"batch_size": 9}, "--batch-size: expected at most 8, the rows that a fold trains on, got 9"),
        ("a,b,y\n" + "1,2,x\n2,2,z\n" * 6, {}, "constant columns: 'b' have one value in all rows.*--drop b"),
        ("a,b,y\n" + "1,,x\n2,,z\n" * 6, {}, "constant columns: 'b'"),
        ("a,b,y\n" + "1,3,x\n2,2,x\n" * 6, {}, "'y' is 'x' in every row; two classes or more were expected"),
        ("a,b,y\n" + "1,3,5\n2,2,5\n" * 6, {"task": "regression"}, "'y' is 5 in every row"),
        (f"a,b,y\n{ROWS}", {"task": "regression"}, "'y' holds 'a' in line 2, no number, and regression needs numbers"),
        (f"a,b,y\n{ROWS}", {"target": "b", "task": "classification"}, "'b' has 12 classes in 12 rows.*--task regression"),
        ("a,b,y\n" + "\n".join(f"{i},n{i},{'ab'[i % 2]}" for i in range(12)), {}, "column 'b' has 12 different values.*--drop b"),
        ("a,b,y\n" + "\n".join(f"{i},{i},{'ab'[i % 2]}" for i in range(40)) + "\n1,1O,a", {}, "numbers, but '1O' in line 42"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_with_the_reason(tmp_path, text, options, said):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        table.read(Csv(path=path, **{"target": "y", "folds": 3, "batch_size": 4, **options}))


def test_a_refused_table_leaves_no_folder_and_a_binary_file_is_no_table(tmp_path, capsys):
    assert run("--path", tmp_path / "none.csv", "--target", "y", "--out", tmp_path / "run") == 2
    assert "none.csv: cannot read this file" in capsys.readouterr().err
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00a")
    assert run("--path", tmp_path / "b.csv", "--target", "y", "--out", tmp_path / "run") == 2
    assert "no CSV file in UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("args", "said"), [(["--folds", "1"], "--folds: expected 2"), (["--delimiter", "ab"], "one character")])
def test_bad_options(args, said, capsys):
    with pytest.raises(SystemExit) as exit:
        run("--path", "t.csv", "--target", "y", *args)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err
