"""Descent in one scan against a plain loop, and how a story ends."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp
from experiments.classics import shared
from experiments.classics.shared import Claim, Story
from experiments.config import UsageError
from experiments.config.classics import Mazur
from experiments.published import Number


NET, LOSS = shared.sigmoid_net(3, 2), bp.losses.quadratic()
X, TARGETS = np.random.default_rng(0).normal(size=(6, 4)), np.random.default_rng(1).random((6, 2))
PARAMS = shared.one_of(shared.starts(NET, 4, 0, 2), 0)


def weight(params):
    return params[0].w[0, 0]


def loop(batch_size, momentum, decay, passes):
    """The same by Python: update after update, the penalty's gradient by hand."""
    params, before, seen = PARAMS, jax.tree.map(jnp.zeros_like, PARAMS), [PARAMS[0].w[0, 0]]
    gradient = jax.jit(jax.grad(bp.objective(NET, LOSS, reduction="sum")))
    for _ in range(passes):
        for i in range(0, 6, batch_size):
            grads = gradient(params, X[i : i + batch_size], TARGETS[i : i + batch_size])
            grads = jax.tree.map(lambda g, p: g + decay * p if p.ndim == 2 else g, grads, params)
            before = jax.tree.map(lambda g, v: momentum * v - 0.3 * g, grads, before)
            params = jax.tree.map(jnp.add, params, before)
        seen.append(params[0].w[0, 0])
    return params, np.array(seen)


@pytest.mark.parametrize(("batch_size", "momentum", "decay"), [(1, 0.0, None), (2, 0.9, 0.01), (None, 0.9, None)])
def test_descend_is_its_loop(batch_size, momentum, decay):
    how = {"net": NET, "loss": LOSS, "passes": 4, "batch_size": batch_size, "momentum": momentum, "every": 2, "watch": weight}
    params, seen = shared.descend(PARAMS, X, TARGETS, 0.3, decay, **how)
    expected, each = loop(batch_size or 6, momentum, decay or 0.0, 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), params, expected)
    np.testing.assert_allclose(seen, each[::2], rtol=1e-12)
    traced = shared.descend._cache_size()
    shared.descend(jax.tree.map(lambda p: 2 * p, PARAMS), X + 1, TARGETS, 0.1, None if decay is None else 0.5, **how)
    assert shared.descend._cache_size() == traced  # other values, no other trace


def test_side_by_side_is_one_after_another():
    stacked = shared.starts(NET, 4, 0, 2)
    how = {"net": NET, "loss": LOSS, "passes": 4, "every": 2, "watch": weight}
    both, seen = shared.side_by_side(**how)(stacked, X, TARGETS, 0.3, None)
    for i in range(2):
        params, each = shared.descend(shared.one_of(stacked, i), X, TARGETS, 0.3, **how)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-12), both, params)
        np.testing.assert_allclose(seen[i], each, rtol=1e-12)


def story(published=1.0, refuted=True, claims=False):
    found = [Claim("A is so", "somebody", "It is not.", "a is b", refuted)] if claims else []
    numbers = [] if claims else [Number("a number", published, 1.0, 0)]
    return Story("A text", "About it.", numbers, [], {"dtype": str(jnp.ones(()).dtype)}, found)


@pytest.mark.parametrize(
    ("made", "status", "said"),
    [
        (story(), 0, ""),
        (story(2.0), 1, "error: a number: 2.0 is published, 1.0 came\n"),
        (story(float("nan")), 1, "error: a number: nan is published, 1.0 came\n"),
        (story(claims=True), 0, ""),
        (story(claims=True, refuted=False), 1, "error: not refuted: A is so: a is b\n"),
    ],
)
def test_the_exit_status_is_that_of_the_numbers(tmp_path, capsys, made, status, said):
    out = tmp_path / "run"
    assert shared.present("mazur", Mazur(out=out), lambda options: made) == status
    captured = capsys.readouterr()
    assert captured.err == said
    assert ("refuted" in captured.out.lower()) if made.claims else ("a number" in captured.out)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["experiment"] == "mazur"
    assert len(summary["missed"]) == status
    page = (out / "report.html").read_text()
    assert ("“A is so”" in page) if made.claims else ("a number" in page)


def test_a_story_is_told_in_float64_and_leaves_the_setting_alone(tmp_path):
    with jax.enable_x64(False):
        shared.present("mazur", Mazur(out=tmp_path / "run"), lambda options: story())
        assert jnp.ones(()).dtype == jnp.float32
    kept = shared.present(
        "mazur", Mazur(out=tmp_path / "two"), lambda options: story()._replace(summary={"a": jnp.ones(()).dtype.name})
    )
    assert kept == 0
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["a"] == "float64"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(
        UsageError, match=rf"--data-dir .*seeds: looked for {tmp_path}/a/b.csv, there is no such file; get it"
    ) as told:
        shared.data_file(tmp_path, "a/b.csv", "seeds", "get it")
    assert "\n" not in str(told.value)


def test_small_pieces():
    assert shared.bits(2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert shared.pattern(np.array([True, False])) == "10"
    layer = shared.dense([[1, 2, 3], [4, 5, 6]], [7, 8])  # two neurons of three inputs
    np.testing.assert_array_equal(bp.dense(2)(layer, jnp.array([[1.0, 0.0, 1.0]]))[0], [1 + 3 + 7, 4 + 6 + 8])
    surface = shared.surface(bp.dense(1), bp.Dense(jnp.array([[1.0], [10.0]]), jnp.zeros(1)), (0.0, 8.0), (0.0, 0.8), 0.5)
    assert surface.values[3][2] == pytest.approx(0.25 + 10 * 0.035)  # row 3 is y = 0.035, column 2 is x = 0.25
