"""Hard examples and label noise: scores against brute force, precision, and what they find where it is known."""

import jax
import numpy as np
import pytest

import jaxbp as bp
from experiments.config.uses import HardExamples, LabelNoise
from experiments.datasets import Images
from experiments.uses import hard_examples, label_noise, planting, ranking, shared


SMALL = {"train_size": 300, "hidden": (16,), "seeds": 1}


# --- hard examples


def test_the_norm_is_ahead_where_it_ranks_higher():
    norm, loss = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 3.0, 9.0])
    np.testing.assert_array_equal(ranking.excess(norm, loss), [-0.25, 0.25, 0, 0])


@pytest.fixture(scope="module")
def ranked():
    """Images of which the first twenty have a wrong label."""
    options = HardExamples(**SMALL, epochs=8)
    data = shared.data(options, 0)
    labels = data.train.labels.copy()
    labels[:20] = (labels[:20] + 5) % 10
    data = data._replace(train=Images(data.train.images, labels, data.train.shape))
    net = shared.net(options, data.train)
    return options, net, data, ranking.rank(options, net, data)


def test_wrong_labels_are_hard(ranked):
    _, _, data, found = ranked
    assert found.norms.shape == found.losses.shape == (1, 8, 300)
    assert np.isfinite(found.norms).all()  # every image was met in every epoch
    hardest = np.argsort(-found.norm)[:30]
    assert np.sum(hardest < 20) >= 15
    numbers = ranking.agreement(found, data)
    assert numbers["share_of_hardest_tenth"] > 0.15
    assert numbers["last_epoch"] > 0.9
    assert numbers["seed_and_seed"] == 1  # of one seed
    assert all(np.isfinite(value) for value in numbers.values())


def test_what_is_kept_is_trained_on(ranked, monkeypatch):
    options, net, data, found = ranked
    seen, descend = [], shared.descend
    monkeypatch.setattr(shared, "descend", lambda p, x, y, order, *a, **k: seen.append(order) or descend(p, x, y, order, *a, **k))
    kept = ranking.keep(options, net, data, found)
    assert set(kept) == {"hardest by norm", "hardest by loss", "easiest by norm", "at random"}
    assert {values.shape for values in kept.values()} == {(3, 1)}
    places = np.argsort(np.argsort(-found.norm, kind="stable"))  # 0 is the hardest
    hardest, _, easiest, _ = seen[:4]  # of 70 %
    assert set(places[np.unique(hardest)]) == set(range(210))
    assert set(places[np.unique(easiest)]) == set(range(90, 300))
    assert {order.shape for order in seen} == {hardest.shape}  # as many steps whatever is kept
    assert min(values.min() for values in kept.values()) > 0.5
    assert "points at 70%" in hard_examples._against(kept["at random"], kept["easiest by norm"])


# --- label noise


def test_labels_are_flipped_to_others():
    data = shared.data(LabelNoise(**SMALL), 0)
    planted = planting.plant(data, 0.05, np.random.default_rng(0))
    assert planted.flipped.sum() == 15
    np.testing.assert_array_equal(planted.given != data.train.labels, planted.flipped)
    assert planted.given.max() <= 9


@pytest.mark.parametrize("draw", range(3))
def test_average_precision_is_that_of_scikit_learn(draw):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(draw)
    planted = rng.random(60) < 0.2
    score = rng.normal(size=60) + planted
    assert planting.average_precision(planted, score) == pytest.approx(metrics.average_precision_score(planted, score))
    precision, recall = planting.precision_recall(planted, score)
    assert recall[-1] == 1
    assert precision[-1] == pytest.approx(planted.mean())


def test_scores_are_those_of_gradients_formed_one_by_one():
    net, rng = bp.mlp([4, 5, 10], hidden=bp.tanh()), np.random.default_rng(0)
    params = jax.tree.map(lambda p: rng.normal(size=p.shape), jax.eval_shape(lambda: net.init(jax.random.key(0), (4,))[0]))
    labels = np.array([0] * 14 + [3] * 5 + [9])  # one label with more than ten others, one with fewer, one alone
    x = rng.normal(size=(20, 4))
    rows, there = planting.by_label(labels)
    loss, squares, apart = planting.scores_at(params, x, labels, rows, there, of=net)
    one = lambda p, x, label: shared.LOSS.forward(net(p, x[None]), label[None])[0][0]
    values, grads = jax.jit(jax.vmap(jax.value_and_grad(one), (None, 0, 0)))(params, x, labels)
    flat = np.concatenate([np.asarray(g).reshape(20, -1) for g in jax.tree.leaves(grads)], 1)
    np.testing.assert_allclose(loss, values, rtol=1e-10)
    np.testing.assert_allclose(squares, (flat**2).sum(1), rtol=1e-10)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    for i in range(20):
        same = np.flatnonzero((labels == labels[i]) & (np.arange(20) != i))
        nearest = np.sort(unit[same] @ unit[i])[::-1][:10]
        assert apart[i] == pytest.approx(1 - nearest.mean() if len(same) else 1.0, rel=1e-9)


def test_flipped_labels_are_found():
    options = LabelNoise(**SMALL, epochs=12, checkpoints=3)
    assert planting.checkpoints(options) == [3, 7, 11]
    found = [planting.find(options, 0)]
    along = planting.precisions(found, "along")
    assert along["loss"][0] > 0.6  # chance is 0.05
    assert along["Gram"][0] > 0.4
    assert along["self-influence"][0] > 0.4
    top = np.argsort(-found[0].along("loss"))[:15]
    assert found[0].planted.flipped[top].sum() >= 8
    accuracy = found[0].accuracy
    assert len(accuracy) == 6
    assert accuracy["without the flipped ones"] > 0.7
    table = label_noise.accuracy_table(found, options)
    assert table.rows[0][0] == "all labels as given"


@pytest.mark.parametrize(
    ("ours", "said"),
    [([0.9, 0.91, 0.92], "better than"), ([0.7, 0.71, 0.69], "worse than"), ([0.9, 0.7, 0.8], "as good as")],
)
def test_a_difference_counts_beyond_two_standard_errors(ours, said):
    assert planting.compared(np.array(ours), np.array([0.8, 0.81, 0.79])) == said
