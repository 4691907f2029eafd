"""What the uses share: data, orders, descent that keeps norms, ranks, pictures."""

import re
import struct

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp
from experiments.config import UsageError
from experiments.config.uses import HardExamples
from experiments.uses import shared
from experiments.uses.pictures import pictures


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist_folder(tmp_path):
    folder, rng = tmp_path / "mnist", np.random.default_rng(0)
    folder.mkdir()
    for stem, n in (("train", 40), ("t10k", 10)):
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 255, (n, 5, 4), np.uint8)))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx((np.arange(n) % 10).astype(np.uint8)))
    return folder


def test_digits_are_split_by_the_seed():
    one, same, other = (shared.data(HardExamples(), seed) for seed in (0, 0, 1))
    assert (len(one.train), len(one.test)) == (1437, 360)
    np.testing.assert_array_equal(one.train.images, same.train.images)
    assert not np.array_equal(one.train.labels, other.train.labels)
    pixels = lambda images: {row.tobytes() for row in images.images}
    assert not pixels(one.train) & pixels(one.test)
    assert shared.named(one) == "1437 digits"


@pytest.mark.parametrize("inside", [True, False])
def test_mnist_in_the_folder_or_inside_it(mnist_folder, inside):
    options = HardExamples(data_dir=mnist_folder.parent if inside else mnist_folder, train_size=30, batch_size=8)
    found = shared.data(options, 0)
    assert (len(found.train), len(found.test), found.train.shape) == (30, 10, (5, 4))
    assert shared.named(found) == "30 images of MNIST"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train_size": 1438}, "--train-size: expected at most 1437, the training images of digits, got 1438"),
        ({"train_size": 40, "batch_size": 41}, "--batch-size: expected at most 40"),
    ],
)
def test_more_than_there_is(options, said):
    with pytest.raises(UsageError, match=said):
        shared.data(HardExamples(**options), 0)


def test_orders_are_whole_shuffles_one_after_another():
    rows = np.array([3, 5, 7, 11, 13])
    order = shared.orders(np.random.default_rng(0), rows, 2, 3, 4)
    assert order.shape == (2, 3, 4)
    for epoch in order.reshape(2, 12):
        assert sorted(epoch[:5]) == sorted(epoch[5:10]) == rows.tolist()
        assert len(set(epoch[10:])) == 2


def test_descent_is_the_loop_and_its_norms_are_those_of_each_gradient():
    net, rng = bp.mlp([3, 4, 10], hidden=bp.tanh()), np.random.default_rng(0)
    params = jax.tree.map(lambda p: rng.normal(size=p.shape), jax.eval_shape(lambda: net.init(jax.random.key(0), (3,))[0]))
    x, labels = rng.normal(size=(7, 3)), rng.integers(0, 10, 7)
    order = shared.orders(rng, np.arange(7), 2, 2, 4)
    traced = jax.jit(chex.assert_max_traces(lambda *a: shared.descend(*a, 0.3, of=net), n=1))
    run = traced(params, x, labels, order)
    run = traced(params, x, labels, order)
    one = lambda p, x, label: shared.LOSS.forward(net(p, x[None]), label[None])[0][0]
    each = jax.jit(jax.vmap(jax.value_and_grad(one), (None, 0, 0)))
    seen = []
    for epoch, after in zip(order, range(2), strict=True):
        for rows in epoch:
            losses, grads = each(params, x[rows], labels[rows])
            seen.append((losses, np.sqrt(sum(np.sum(np.square(g.reshape(4, -1)), 1) for g in jax.tree.leaves(grads)))))
            params = jax.tree.map(lambda p, g: p - 0.3 * g.mean(0), params, grads)
        chex.assert_trees_all_close(shared.one_of(run.epochs, after), params, rtol=1e-10)
    chex.assert_trees_all_close(run.params, params, rtol=1e-10)
    for found, k in ((run.losses, 0), (run.norms, 1)):
        np.testing.assert_allclose(found.reshape(4, 4), np.stack([s[k] for s in seen]), rtol=1e-10)


def test_what_steps_met_stands_at_its_example():
    order = np.array([[[2, 0], [1, 2]]])
    np.testing.assert_array_equal(shared.by_example(order, [[[5.0, 6.0], [7.0, 8.0]]], 4), [[6, 7, 8, np.nan]])


def test_ranks_and_their_correlation():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 40), rng.normal(size=40)
    np.testing.assert_array_equal(shared.ranks(a), stats.rankdata(a) - 1)
    assert shared.rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert shared.rank_correlation(b, np.exp(b)) == pytest.approx(1)
    assert shared.rank_correlation(b, np.ones(40)) == 0


def test_means_and_their_spread():
    assert shared.mean_sd([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert shared.plus_minus([0.95, 0.96]) == "0.955 ± 0.007"
    assert shared.plus_minus([90.4]) == "90.4"
    assert shared.finite(jnp.ones(3))
    assert not shared.finite([1.0, np.nan])


# --- pictures


def test_every_pixel_is_drawn_once_by_its_ink():
    image = np.array([[0.0, 1.0, 1.0], [0.2, 0.0, 1.0]])
    drawn = pictures(image.reshape(1, -1), (2, 3), [["7", "norm 1"]], title="One")
    boxes = {
        opacity: re.findall(r"M(\d) (\d)h(\d)v1", d)
        for d, opacity in re.findall(r'<path d="([^"]*)" fill="var\(--ink\)" fill-opacity="([^"]*)"', drawn)
    }
    assert boxes == {"1": [("1", "0", "2"), ("2", "1", "1")], "0.2": [("0", "1", "1")]}
    assert "norm 1" in drawn


@pytest.mark.parametrize(("images", "captions"), [(np.zeros((0, 4)), []), (np.zeros((2, 4)), [["a"]])])
def test_pictures_without_captions(images, captions):
    with pytest.raises(ValueError, match="pictures 'none'"):
        pictures(images, (2, 2), captions, title="none")
