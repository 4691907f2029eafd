"""A run in a folder: interrupted after any chunk and resumed, it ends bit for bit as if nothing had happened."""

import chex
import jax
import numpy as np
import optax
import pytest

import jaxbp as bp
from jaxbp.training import Interrupted, Keeping, fit, patience
from jaxbp.training.checkpoint import CheckpointError
from jaxbp.validation import cross_validate, grid, sweep


RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3))
Y = (X[:, 0] > 0).astype(int)
NET, LOSS, ADAM = bp.serial(bp.dropout(0.2), bp.dense(2)), bp.losses.softmax_cross_entropy(), optax.adam(0.05)
OPTIONS = {"key": jax.random.key(1), "epochs": 5, "batch_size": 8, "chunk": 2}


class Stop(Exception):
    pass


def after(epoch):
    def progress(done, info):
        if done >= epoch:
            raise Stop

    return progress


def folds(**options):
    return cross_validate(NET, LOSS, ADAM, X, Y, folds=3, stop=patience(3), stop_on="fold", **OPTIONS | options)


def one(**options):
    return fit(NET, LOSS, ADAM, X, Y, validation=(X[:5], Y[:5]), stop=patience(9), **OPTIONS | options)


@pytest.mark.parametrize("run", [folds, one])
@pytest.mark.parametrize("epoch", [2, 5])
def test_resumed_it_ends_the_same(run, epoch, tmp_path):
    whole, said = run(), []
    with pytest.raises(Stop):
        run(keeping=Keeping(tmp_path), progress=after(epoch))
    again = run(keeping=Keeping(tmp_path, resume=True, log=said.append))
    assert said[0].startswith(f"resumed after epoch {epoch} from ")
    for part in (
        ("params", "histories", "predictions", "epochs") if run is folds else ("params", "opt_state", "history", "epochs")
    ):
        chex.assert_trees_all_equal(getattr(again, part), getattr(whole, part))


def test_without_a_checkpoint_it_starts_afresh(tmp_path):
    said = []
    result = one(keeping=Keeping(tmp_path / "new", resume=True, log=said.append))
    assert "starting afresh" in said[0]
    chex.assert_trees_all_equal(result.params, one().params)


def test_another_run_is_refused_by_name(tmp_path):
    one(keeping=Keeping(tmp_path, {"rate": 0.05}))
    with pytest.raises(CheckpointError, match=r"rate: 0\.05 there, 0\.1 now"):
        one(keeping=Keeping(tmp_path, {"rate": 0.1}, resume=True))
    with pytest.raises(CheckpointError, match="program"):  # what no fact names shows in the program
        fit(bp.dense(2), LOSS, ADAM, X, Y, **OPTIONS, keeping=Keeping(tmp_path, {"rate": 0.05}, resume=True))


def test_told_to_stop_it_saves_its_chunk_first(tmp_path):
    told = type("Told", (), {"name": "SIGTERM", "__bool__": lambda self: True})()
    with pytest.raises(Interrupted, match=r"SIGTERM: stopped after epoch 2; the run in .* can be resumed"):
        one(keeping=Keeping(tmp_path, stopped=told))
    chex.assert_trees_all_equal(one(keeping=Keeping(tmp_path, resume=True, log=lambda _: None)).params, one().params)


def setup(rate):
    return bp.Setup(bp.dense(2), LOSS, optax.sgd(rate))


def test_a_sweep_keeps_each_program_in_a_folder_of_its_own(tmp_path):
    settings = grid(rate=[0.1, 0.2], batch_size=[4, 8])
    whole = sweep(setup, X, Y, settings, folds=3, **OPTIONS)
    sweep(setup, X, Y, settings, folds=3, keeping=Keeping(tmp_path), **OPTIONS)
    said = []
    again = sweep(setup, X, Y, settings, folds=3, keeping=Keeping(tmp_path, resume=True, log=said.append), **OPTIONS)
    assert [line.rpartition("bucket-")[2][0] for line in said] == ["0", "1"]
    chex.assert_trees_all_equal(again.scores, whole.scores)


def test_what_is_no_keeping_is_refused(tmp_path):
    with pytest.raises(TypeError, match="Keeping"):
        one(keeping=str(tmp_path))
    with pytest.raises(ValueError, match="'map'"):
        folds(keeping=Keeping(tmp_path), execution="loop")
