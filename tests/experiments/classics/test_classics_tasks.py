"""The tasks that a net has to find a representation for: structure on a fixed seed, never a count of sweeps."""

import jax.numpy as jnp
import numpy as np
import pictures
import pytest

from experiments import published
from experiments.classics import encoder, parity, shared, symmetry, xor
from experiments.config.classics import Encoder, Parity, Symmetry, Xor


@pytest.fixture(scope="module")
def mirror():
    return symmetry.trained(4, 3000, 0)


def test_symmetry_has_opposite_weights_in_the_ratio_1_2_4(mirror):
    assert mirror.right[mirror.shown, -1] == 64
    w = mirror.params[0].w[mirror.shown]
    np.testing.assert_allclose(w, -w[::-1], rtol=0.05)
    sizes = np.sort(np.abs(w[:3]), axis=0)
    np.testing.assert_allclose(sizes / sizes[0], np.array([[1, 1], [2, 2], [4, 4]]) + 0.0, rtol=0.1)
    np.testing.assert_array_equal(np.sign(w[:, 0]), -np.sign(w[:, 1]))
    assert published.missed(symmetry.numbers(mirror)) == []


def test_symmetry_before_training_has_no_such_weights(mirror):
    starts = shared.starts(symmetry.NET, 6, 0, 4)
    missed = published.missed(symmetry.numbers(mirror._replace(params=starts, right=mirror.right[:, :1])))
    assert [line.partition(":")[0] for line in missed] == ["patterns right", "mirrored weights", "sizes against the least"]


def test_symmetric_patterns():
    assert symmetry.TARGETS.sum() == 8  # 2^3
    x = np.array([[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1]])
    found = [symmetry.TARGETS[int("".join(map(str, row)), 2), 0] for row in x]
    assert found == [1, 0]
    run = symmetry.Trained((), np.zeros((3, 4)), np.array([[9, 64, 60, 64], [64, 64, 64, 64], [1, 2, 3, 64]]))
    assert run.sweeps == [60, 0, 60]  # after the last row where one was wrong
    assert run.shown == 0


def test_encoder_finds_a_code():
    run = encoder.trained(2000, 0)
    assert run.right.tolist() == [8] * 6
    assert len(set(run.rounded[run.shown])) == 8
    story = encoder.tell(Encoder(passes=2000))  # compiled already
    assert story.missed == []
    assert np.shape(story.summary["codes"]) == (8, 3)


def test_an_encoder_that_has_learnt_nothing_is_missed():
    params = shared.starts(encoder.NET, 8, 0, encoder.STARTS)
    found = shared.activations(encoder.NET, params, jnp.asarray(encoder.X))
    run = encoder.Trained(params, *map(np.asarray, found), *(np.zeros((6, 1, n)) for n in (8, 3, 9)))
    assert len(published.missed(encoder.numbers(run))) == 2


def test_parity_is_solved_by_counting():
    run = parity.trained(32, 0)
    assert run.right[run.shown] == 16
    assert run.counts[run.shown]
    by_ones = parity.by_ones(run)
    steps = np.diff(by_ones, axis=0)
    assert ((steps <= 1e-3).all(0) | (steps >= -1e-3).all(0)).all()  # each unit goes one way with the count
    assert parity.tell(Parity()).missed == []


def test_spread_is_zero_where_units_see_the_count_alone():
    codes = np.random.default_rng(0).random((1, 5, 4))[:, parity.ONES]
    run = parity.Trained((), codes, parity.TARGETS.T, np.zeros((1, 2)))
    assert run.spread[0] == pytest.approx(0, abs=1e-12)
    assert run.counts.all()
    other = run._replace(hidden=codes + np.eye(16, 4)[None])
    assert not other.counts.any()


@pytest.fixture(scope="module")
def starts():
    return xor.trained(64, 0)


def test_xor_is_solved(starts):
    assert published.missed(xor.numbers(starts)) == []
    assert starts.solved[starts.shown]
    codes = starts.hidden[starts.shown]
    assert np.abs(codes[0] - codes[3]).max() < 0.1  # 00 and 11 fall on one point
    story = xor.tell(Xor())
    assert story.missed == []
    assert story.summary["solved"] == starts.solved.sum()


def test_a_stuck_start_is_in_a_strict_minimum_of_a_larger_error(starts):
    stuck = starts.stuck
    assert not starts.solved[stuck]
    assert starts.errors[stuck, -1] > starts.errors[starts.shown, -1] + 0.1
    params = shared.one_of(starts.params, stuck)
    norm, curvature = xor.certificate(params)
    assert norm < 1e-9
    assert curvature > 1e-6
    # the error rises in every direction: the certificate is no artefact
    draw = np.random.default_rng(0)
    for _ in range(20):
        step = draw.normal(size=9)
        step *= 1e-3 / np.linalg.norm(step)
        flat = np.concatenate([np.ravel(leaf) for leaf in (params[0].w, params[0].b, params[2].w, params[2].b)]) + step
        dense = shared.bp.Dense
        moved = (dense(flat[:4].reshape(2, 2), flat[4:6]), (), dense(flat[6:8].reshape(2, 1), flat[8:]), ())
        assert xor.watch(moved) > xor.watch(params)


def test_what_a_minimum_needs():
    """With all weights 0 the gradient is 0 too."""
    norm, _ = xor.certificate((shared.dense(np.zeros((2, 2)), np.zeros(2)), (), shared.dense(np.zeros((1, 2)), np.zeros(1)), ()))
    assert norm < 1e-9
    assert not xor.is_minimum(1.0, 1.0)
    assert not xor.is_minimum(0.0, -1.0)


def test_pages_can_be_read(starts, mirror):
    params = shared.one_of(starts.params, starts.shown)
    pictures.EM.setdefault("½", 0.84)
    pictures.assert_readable(xor.plane_of(params, "the plane"))
    story = symmetry.tell(Symmetry(starts=4, sweeps=3000))
    assert [s.title for s in story.sections] == ["Symmetric weights", "Training", "The trained net"]
