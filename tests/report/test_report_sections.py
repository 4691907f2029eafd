"""The sections of a report: curves, scores, gradients, drawings of nets."""

import math
import re
import xml.etree.ElementTree as ET

import jax
import numpy as np
import pytest
from pictures import SVG, assert_readable, parse
from report_parts import comparison, headings

import jaxbp
from jaxbp.page.diagram import Units
from jaxbp.report import net_columns, run_report
from jaxbp.report.curves import curves, mean
from jaxbp.report.gradients import gradient_dots, gradient_figures, gradient_table, worst
from jaxbp.report.scores import confusion, score_dots, score_table


# --- curves


def test_the_mean_over_folds_leaves_out_what_is_not_finite():
    runs = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan], [5.0, np.inf, np.nan]])
    np.testing.assert_array_equal(mean(runs), [3.0, 2.0, np.nan])


def test_held_out_data_have_the_same_colour_in_every_report():
    for part in ("validation", "test"):
        chart = curves({"train_loss": [1.0, 0.9, 0.8], f"{part}_loss": [1.0, 0.95, 0.9]})
        titles = re.findall(r'<g><title>(.*?)</title><path d="[^"]*" fill="none" stroke="(.*?)"', chart)
        assert titles == [(part, "var(--series-1)"), ("training", "var(--series-2)")]


def test_the_loss_comes_first():
    page = curves({"train_accuracy": [0.5, 0.9], "validation_accuracy": [0.5, 0.8], "train_loss": [2.0, 1.0]})
    assert re.findall(r"<h3>(.*?)</h3>", page) == ["Loss", "Accuracy"]


def test_losses_of_several_orders_are_drawn_on_a_logarithmic_axis():
    assert "loss, logarithmic" in curves({"train_loss": np.geomspace(2, 1e-3, 20)})
    assert "logarithmic" not in curves({"train_loss": np.linspace(2, 1, 20)})
    assert "logarithmic" not in curves({"train_loss": [2.0, 0.0]})  # 0 has no place there


def test_the_axis_shows_where_accuracy_ends():
    accuracy = 1 - 0.9 * np.exp(-np.arange(50) / 2)
    assert "The first epochs lie outside" in curves({"train_accuracy": accuracy})
    assert "The first epochs lie outside" not in curves({"train_accuracy": np.linspace(0.1, 1, 50)})


@pytest.mark.parametrize("values", [[], 1.0, np.zeros((2, 3, 4))])
def test_histories_of_another_shape_are_refused(values):
    with pytest.raises(ValueError, match=r"history\['train_loss'\]: shape \(epochs,\) or \(folds, epochs\)"):
        curves({"train_loss": values})


def test_the_best_epoch_and_the_stop_of_a_fit_are_marked_on_its_curve():
    page = curves({"train_loss": [3.0, 2.0, 1.0, 0.5], "validation_loss": [3.0, 2.5, 2.6, 2.7]}, best=2, stopped=4)
    assert [">best epoch 2<" in page, ">stopped 4<" in page, page.count('class="ring"')] == [True, True, 2]
    assert "best epoch" not in curves({"train_loss": [3.0, 2.0]}, best=[0], stopped=[0])


def test_each_folds_best_epoch_is_a_point_and_the_marks_are_medians():
    nan = math.nan
    history = {"validation_loss": [[4.0, 2.0, 3.0, nan], [8.0, 7.0, 6.0, 5.0], [4.0, 3.0, 4.0, nan]]}
    page = curves(history, best=[2, 4, 2], stopped=[3, 0, 3])
    assert "best epoch: median 2, 2 to 4" in page
    assert ">stopped 3<" in page
    points = re.search(r'<title>best epoch of each fold</title><path d="([^"]*)"', page)[1]
    assert points.count("M") == 3
    assert "L" not in points
    assert "a fold that has stopped keeps its last value" in page
    assert "from 5.33 to 4" in page  # (3 + 5 + 4) / 3: without the values kept the mean would end at 5


@pytest.mark.parametrize("best", [[1, 2], [4], [-1]])
def test_epochs_that_are_not_there_are_refused(best):
    with pytest.raises(ValueError, match="best: one epoch a fold, 0 to 3, was expected of 1"):
        curves({"train_loss": [3.0, 2.0, 1.0]}, best=best)


# --- scores


def test_score_table_has_the_sample_deviation_at_its_foot():
    table = score_table({"accuracy": [0.9, 1.0, 0.95]}, [10, 10, 11])
    assert [row[0] for row in table.rows] == ["fold 0", "fold 1", "fold 2"]
    assert table.foot[0] == ("mean", None, pytest.approx(0.95))
    assert table.foot[1] == ("standard deviation", None, pytest.approx(0.05))


@pytest.mark.parametrize(
    ("scores", "sizes", "message"),
    [
        ({"a": [1.0], "b": [1.0, 2.0]}, None, "one entry a fold"),
        ({"a": [1.0, 2.0]}, [10], "one entry a fold"),
        ({"a": []}, None, r"scores\['a'\]"),
        ({"a": [[1.0]]}, None, r"scores\['a'\]"),
    ],
)
def test_scores_of_another_shape_are_refused(scores, sizes, message):
    with pytest.raises(ValueError, match=message):
        score_table(scores, sizes)


def test_equal_scores_can_be_drawn():
    assert "mean 1.000" in score_dots("accuracy", [1.0, 1.0, 1.0])


def test_errors_by_class_count_the_rows_of_the_matrix():
    page = confusion([[8, 2, 0], [0, 10, 0], [1, 4, 5]], ["a", "b", "c"])
    bars = ET.fromstring(re.findall(r"<svg.*?</svg>", page, re.DOTALL)[1])
    assert bars.find(f"{SVG}desc").text == "a (10 examples) 2; b (10 examples) 0; c (10 examples) 5."


@pytest.mark.parametrize("counts", [[], [[1, 2]], [1, 2]])
def test_matrices_of_another_shape_are_refused(counts):
    with pytest.raises(ValueError, match=r"confusion: shape \(classes, classes\)"):
        confusion(counts)


# --- gradients


def test_gradient_table():
    table = gradient_table(comparison())
    assert [c.name for c in table.head] == ["leaf", "shape", "scale", "hand, float64", "hand, float32", "automatic, float32"]
    assert table.rows[1] == ("params[0].b", (32,), 0.0312, 0.0, 9.3e-8, 9.4e-8)
    assert table.foot == (("worst", None, None, 3.4e-16, 1.4e-7, 1.6e-7),)


def test_gradient_table_takes_what_there_is():
    table = gradient_table({"leaves": [{"path": "w", "hand_f64": 1e-16}, {"hand_f64": None, "hand_bf16": 0.01}]})
    assert table.rows == (("w", 1e-16, None), ("leaf 1", None, 0.01))
    assert worst({"leaves": []}, "hand_f64") is None
    assert gradient_figures({"leaves": [{"path": "w"}]}) == []
    assert gradient_dots({"leaves": [{"path": "w"}]}) is None
    with pytest.raises(ValueError, match="at least one entry under 'leaves'"):
        gradient_table({"leaves": []})


def test_an_error_that_is_not_a_number_is_the_worst():
    leaves = [{"path": "w", "hand_f64": math.nan}, {"path": "b", "hand_f64": 1e-16}]
    assert math.isnan(worst({"leaves": leaves}, "hand_f64"))
    assert gradient_figures({"leaves": leaves})[0][1] == "nan"


def test_gradient_errors_stand_beside_the_rounding_of_their_numbers():
    page = gradient_dots(comparison())
    assert "float64 rounding" in page
    assert "float32 rounding" in page
    assert "bfloat16 rounding" not in page


def test_the_comparison_of_a_real_net_is_reported():
    net, loss = jaxbp.mlp([5, 4, 3]), jaxbp.losses.softmax_cross_entropy()
    params, _ = net.init(jax.random.key(0), (5,))
    x = jax.random.normal(jax.random.key(1), (6, 5), np.float32)
    made = jaxbp.compare_gradients(net, loss, params, x, np.arange(6) % 3, measure=False).to_dict()
    page = run_report("Net", comparison=made, columns=net_columns(net, (5,)), net=repr(net))
    assert headings(page) == ["Result", "Gradient", "Net"]
    for leaf in made["leaves"]:
        assert f'<th scope="row">{leaf["path"]}</th>' in page


# --- drawings of nets


def test_columns_of_nested_serials_and_of_an_mlp():
    expected = [Units(64, ("input",)), Units(32, ("dense 64 → 32", "tanh")), Units(10, ("dense 32 → 10",))]
    for net in (
        jaxbp.mlp([64, 32, 10], hidden=jaxbp.tanh()),
        jaxbp.serial(jaxbp.serial(jaxbp.dense(32), jaxbp.tanh()), jaxbp.dense(10)),
    ):
        assert [(c.size, c.lines, c.links) for c in net_columns(net, (64,))] == [(c.size, c.lines, "all") for c in expected]


def test_columns_of_skips_time_and_images():
    net = jaxbp.serial(jaxbp.dense(8), jaxbp.skip(jaxbp.serial(jaxbp.dense(8), jaxbp.relu())), jaxbp.flatten(), jaxbp.dense(2))
    columns = net_columns(net, (5, 3))
    assert [c.size for c in columns] == [(5, 3), (5, 8), (5, 8), 40, 2]
    assert [c.skip for c in columns] == [False, False, True, False, False]
    assert columns[2].lines == ("skip 5 × 8 → 5 × 8", "dense, relu")
    assert [c.links for c in columns[1:]] == [None, None, None, "all"]
    assert_readable(run_report_drawing(columns))
    assert parse(run_report_drawing(columns)).find(f"{SVG}desc").text.startswith("5 × 3 units: input; 5 × 8 units")


def run_report_drawing(columns):
    page = run_report("t", columns=columns)
    return re.search(r"<svg.*</svg>", page, re.DOTALL)[0]
