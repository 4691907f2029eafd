"""Nielsen's published runs: the recipe against Python's own generators, the program against NumPy, files against runs."""

import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import UsageError
from experiments.config.nielsen import Earlier, Nielsen, parse_earlier
from experiments.nielsen import compare, data, program, recipe
from experiments.nielsen.net import Plan, descend, rounded
from experiments.nielsen.program import as_data, as_params, rates, train
from experiments.nielsen.run import reproduce


def python_shuffle(rows, generator):
    """`random.shuffle` of Python 2.7, from its description."""
    for i in range(len(rows) - 1, 0, -1):
        j = int(generator.random() * (i + 1))
        rows[i], rows[j] = rows[j], rows[i]


def test_the_recipe_draws_what_numpy_and_python_draw():
    normals, generator = np.random.RandomState(7), random.Random(7)
    expected = [normals.randn(3, 1), normals.randn(2, 1), normals.randn(3, 4) / 2, normals.randn(2, 3) / np.sqrt(3)]
    expected += [normals.randn(3, 1), normals.randn(2, 1), normals.randn(3, 4), normals.randn(2, 3)]
    script = recipe.Script(7, 6)
    drawn = [
        part
        for large in (False, True)
        for net in [script.net((4, 3, 2), large)]
        for part in (*[n.b for n in net], *[n.w for n in net])
    ]
    for ours, there in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(ours, there.reshape(ours.shape))
    rows = list(range(6))
    for _, ours in zip(range(3), script.epochs(None), strict=False):
        python_shuffle(rows, generator)
        assert ours.tolist() == rows


def test_a_training_goes_on_where_the_program_was():
    """A training on the list leaves it shuffled, one on a slice does not; both use up random numbers, and nets of their own."""
    generator, normals = random.Random(7), np.random.RandomState(7)
    items = list(range(9))
    for _ in range(2):
        python_shuffle(items, generator)
    part = items[:4]
    python_shuffle(part, generator)
    rows = items[:5]
    python_shuffle(rows, generator)
    for _ in range(3):  # the constructor's, and one for each of two earlier trainings
        normals.randn(5, 3), normals.randn(5, 1)
    script, layers = recipe.began(7, 9, (3, 5), large=True, earlier=[Earlier(2, None), Earlier(1, 4)])
    assert next(script.epochs(5)).tolist() == rows
    np.testing.assert_array_equal(layers[0].b, normals.randn(5, 1)[:, 0])
    _, once = recipe.began(7, 9, (3, 5), large=True, draws=0)
    np.testing.assert_array_equal(once[0].b, np.random.RandomState(7).randn(5, 1)[:, 0])


# --- the program


SIZES, N = (6, 4, 10), 13


def problem(cost="cross-entropy"):
    rng = np.random.RandomState(3)
    layers = recipe.Script(5, N).net(SIZES, large=True)
    labels = rng.randint(0, 10, N).astype(np.int32)
    images = data.Set(rng.rand(N, SIZES[0]), np.eye(10)[labels], labels)
    orders = np.stack([[rng.permutation(N).astype(np.int32) for _ in range(2)] for _ in range(3)])  # 3 looks, 2 epochs each
    return layers, images, orders


def by_numpy(layers, images, orders, *, eta, lmbda, size, cost):
    """The book's loop: example by example, batches of `size`, the last one short; (weights, monitored numbers)."""
    w, b = [layer.w.copy() for layer in layers], [layer.b.copy() for layer in layers]
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    looks = []
    for look in orders:
        for order in look:
            for i in range(0, N, size):
                rows = order[i : i + size]
                sums = [[0.0, 0.0] for _ in w]
                for x, y in zip(images.x[rows], images.y[rows], strict=True):
                    a = [x]
                    for wl, bl in zip(w, b, strict=True):
                        a.append(sigmoid(wl @ a[-1] + bl))
                    delta = (a[-1] - y) * (a[-1] * (1 - a[-1]) if cost == "quadratic" else 1)
                    for layer in reversed(range(len(w))):
                        sums[layer][0] += np.outer(delta, a[layer])
                        sums[layer][1] += delta
                        delta = w[layer].T @ delta * a[layer] * (1 - a[layer])
                w = [(1 - eta * lmbda / N) * wl - eta / len(rows) * dw for wl, (dw, _) in zip(w, sums, strict=True)]
                b = [bl - eta / len(rows) * db for bl, (_, db) in zip(b, sums, strict=True)]
        a = images.x
        for wl, bl in zip(w, b, strict=True):
            a = sigmoid(a @ wl.T + bl)
        y = images.y
        terms = 0.5 * (a - y) ** 2 if cost == "quadratic" else -y * np.log(a) - (1 - y) * np.log(1 - a)
        looks.append([terms.sum() / N + lmbda / (2 * N) * sum((wl**2).sum() for wl in w), (a.argmax(1) == images.labels).sum()])
    return w, np.array(looks)


@pytest.mark.parametrize(
    ("cost", "gradient"),
    [
        *(("cross-entropy", way) for way in ("manual", "autodiff", "custom-vjp", "per-example")),
        *(("quadratic", way) for way in ("manual", "autodiff")),
    ],
)
def test_every_gradient_trains_as_the_books_loop_does(cost, gradient):
    layers, images, orders = problem()
    plan = Plan(SIZES, cost, gradient, 5)
    before = program.compiled._cache_size()
    params, history = train(plan, as_params(plan, layers), rates(0.7, 2.0), as_data(images), as_data(images), orders)
    again, _ = train(plan, as_params(plan, layers), rates(0.7, 2.0), as_data(images), as_data(images), orders)
    assert program.compiled._cache_size() == before + 1  # traced and compiled once
    w, looks = by_numpy(layers, images, orders, eta=0.7, lmbda=2.0, size=5, cost=cost)
    for layer, again_layer, there in zip([p for p in params if p], [p for p in again if p], w, strict=True):
        np.testing.assert_allclose(layer.w.T, there, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(layer.w, again_layer.w)
    np.testing.assert_allclose(history, np.concatenate([looks, looks], axis=1), rtol=1e-12)


def test_the_update_has_the_roundings_of_numpy():
    rng = np.random.RandomState(0)
    w, g, keep, scale = rng.randn(40, 30), rng.randn(40, 30) / 100, 1 - 0.5 * (5.0 / 50000), 0.05
    expected = keep * w - scale * g
    one = lambda w, g, keep, scale: rounded(keep * w) - rounded(scale * g)
    np.testing.assert_array_equal(jax.jit(one)(w, g, keep, scale), expected)
    layer = lambda a: (program.jaxbp.Dense(jnp.asarray(a), jnp.zeros(30)), ())
    ours = jax.jit(descend)(layer(w), layer(g), jnp.asarray(keep), jnp.asarray(scale))
    np.testing.assert_array_equal(ours[0].w, expected)


def test_the_monitored_entropy_is_the_books_at_both_ends():
    a, y = jnp.array([[1.0, 0.0, 1.0, 0.25]]), jnp.array([[1.0, 0.0, 0.0, 1.0]])
    most = np.finfo(np.float64).max
    np.testing.assert_allclose(program.published_entropy(a, y)[0], [0.0, 0.0, most, np.log(4)], rtol=1e-15)


def test_float32_trains_in_float32_and_is_monitored_in_float64():
    layers, images, orders = problem()
    plan = Plan(SIZES)
    images = as_data(images, np.float32)
    params, history = train(plan, as_params(plan, layers, np.float32), rates(0.7, 2.0), images, images, orders)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert history.dtype == jnp.float64


def test_chunks_are_equal_and_hold_every_epoch():
    counted = (np.full(2, i) for i in range(100))
    pieces = list(program.chunks(counted, 12, every=2, most=4))
    assert [piece.shape for piece in pieces] == [(3, 2, 2), (3, 2, 2)]
    assert np.concatenate(pieces).reshape(12, 2)[:, 0].tolist() == list(range(12))


# --- published files


HISTORY = {
    "test_cost": [3.0, 2.0, 1.0],
    "test_accuracy": [5, 6, 7],
    "training_cost": [2.0, 1.0, 0.5],
    "training_accuracy": [8, 9, 9],
}


def written(tmp_path, value):
    path = tmp_path / "published.json"
    path.write_text(json.dumps(value))
    return path


def test_the_first_difference_is_told_and_empty_curves_are_left_out(tmp_path):
    there = compare.read(written(tmp_path, [[3.0, 2.0 + 1e-8, 1.1, 7.0], [5, 6, 7], [], [8, 8, 9]]))
    found = {d.curve: d for d in compare.differences(there, HISTORY, 1e-6, 10)}
    assert set(found) == {"test_cost", "test_accuracy", "training_accuracy"}
    assert found["test_cost"][1:3] == (3, 1e-6)
    assert found["test_cost"].first == (2, 1.1, 1.0)
    assert found["test_accuracy"].told is None
    assert "8.0 is published for epoch 1, 9.0 came, the first of 1 differences in 3 epochs" in found["training_accuracy"].told
    assert compare.differences(there, HISTORY, 1e-9, 10)[0].first == (1, 2.0 + 1e-8, 2.0)
    seldom = {name: values[1:2] for name, values in HISTORY.items()}
    assert [d.first for d in compare.differences(there, seldom, 1e-6, 10, every=2)] == [None, None, (1, 8.0, 9.0)]


def test_a_cost_that_is_no_number_differs(tmp_path):
    there = compare.read(written(tmp_path, [[3.0], [], [], []]))
    assert compare.differences(there, {**HISTORY, "test_cost": [float("nan")]}, 1.0, 10)[0].missed == 1


@pytest.mark.parametrize(
    ("value", "part", "said"),
    [
        ([[[], [], [1.0], []], [[], [], [2.0], []]], "", "several results; choose one of 0, 1 by --part"),
        ({"small": [[1.0], [], [], []]}, "large", "no part 'large'; choose one of small"),
        ([[1.0], [], [], []], "0", "holds one result"),
        (3, "", "four lists"),
        ([["a"], [], [], []], "0", "four lists of numbers"),
    ],
)
def test_files_that_cannot_be_compared(tmp_path, value, part, said):
    with pytest.raises(UsageError, match=said):
        compare.read(written(tmp_path, value), part)


def test_parts_by_number_by_name_and_as_one_percentage(tmp_path):
    assert compare.read(written(tmp_path, [[[], [], [1.0], []], [[], [], [2.0], []]]), "1").curves == {"training_cost": [2.0]}
    assert compare.read(written(tmp_path, {"a": [[1.0], [], [], []]}), "a").curves == {"test_cost": [1.0]}
    last = compare.read(written(tmp_path, [69.0, 70.0]), "1")
    assert compare.differences(last, HISTORY, 1e-9, 10)[0].first is None
    with pytest.raises(UsageError, match="cannot be read"):
        compare.read(tmp_path / "missing.json")


def test_options_that_cannot_be_used():
    for text in ("30", "0xall", "x5", "30xsome"):
        with pytest.raises(UsageError, match="expected EPOCHSxIMAGES such as 30xall"):
            parse_earlier(text)
    for wrong, said in (
        ({"epochs": 3, "every": 2}, "--every: expected a divisor of --epochs 3, got 2"),
        ({"part": "0"}, "--part: expected a file named by --compare"),
        ({"legacy_seed": -1}, "--legacy-seed"),
        ({"sizes": (784,)}, "--sizes"),
    ):
        with pytest.raises(UsageError, match=said):
            Nielsen(**wrong)


def test_missing_data_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXBP_DATA", raising=False)
    with pytest.raises(UsageError, match=r"looked in .*mnist and .*The data is the four IDX files"):
        data.load(tmp_path)
    with pytest.raises(UsageError, match="JAXBP_DATA is not set"):
        data.load(None)


# --- the published runs


@pytest.fixture(scope="module")
def sets(data_dir):
    return data.load(data_dir)


@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
def test_the_regularized_run_is_the_published_one(gradient, sets, data_dir):
    """Twenty of its 400 epochs; the whole runs are in test_nielsen_published.py."""
    options = Nielsen(samples=1000, epochs=20, weight_decay=0.1, gradient=gradient)
    published = compare.read(data_dir / "nielsen_fig" / "regularized.json")
    found = compare.differences(published, reproduce(options, sets).history, 1e-9, 10_000)
    assert [d.epochs for d in found] == [20] * 4
    assert [d.told for d in found] == [None] * 4
