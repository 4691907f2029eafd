"""The doors of curvature: weights and masks, draws, reductions, nets in evaluation, what is traced and what is refused."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explicit import assert_close

import jaxbp as bp
from jaxbp import curvature, per_example
from jaxbp.curvature.columns import varying
from jaxbp.factors import Rows


KEY = jax.random.key(0)
CE = bp.losses.softmax_cross_entropy()
NET = bp.serial(bp.dense(4), bp.tanh(), bp.dense(3))
RNG = np.random.default_rng(2)
X, LABELS = RNG.normal(size=(6, 5)), RNG.integers(0, 3, 6)
WEIGHTS = np.array([0.0, 1, 2, 0.5, 0, 1])


def random_params(net, shape=(5,)):
    params = jax.eval_shape(lambda: net.init(KEY, jax.ShapeDtypeStruct(shape, jnp.float64))[0])
    return jax.tree.map(lambda s: np.random.default_rng(s.size).normal(size=s.shape), params)


PARAMS = random_params(NET)
DOORS = {
    "ggn": curvature.ggn_diagonal,
    "ggn of one sample": lambda *a, **k: curvature.ggn_diagonal(*a, samples=1, **k),
    "fisher": curvature.fisher_diagonal,
    "empirical": curvature.empirical_fisher_diagonal,
    "kfac": curvature.kfac,
}


def test_weights_masks_and_reductions():
    """What an example of weight 0 holds reaches nothing; weight 2 counts as two; a sum is W times the mean; no weight gives 0."""
    doors = {name: door for name, door in DOORS.items() if name in ("ggn", "empirical", "kfac")}  # draws go by place in the batch

    @jax.jit
    def run(x, labels, weights):
        ask = lambda door, **options: door(NET, CE, **options)(PARAMS, x, labels, sample_weight=weights)
        return {name: ask(door) for name, door in doors.items()}, ask(curvature.ggn_diagonal, reduction="sum")

    found, summed = run(X, LABELS, WEIGHTS)
    spoiled = run(np.where(WEIGHTS[:, None] == 0, np.nan, X), np.where(WEIGHTS == 0, -1, LABELS), WEIGHTS)
    chex.assert_trees_all_equal(spoiled, (found, summed))
    rows = [1, 2, 2, 3, 5, 3]
    halved = run(X[rows], LABELS[rows], np.array([1, 1, 1, 0.25, 1, 0.25]))
    chex.assert_trees_all_close(halved, (found, summed), rtol=1e-12, atol=1e-14)
    assert_close(summed, jax.tree.map(lambda leaf: 4.5 * leaf, found["ggn"]), 1e-12)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(run(X, LABELS, np.zeros(6))))


def test_the_empirical_diagonal_is_the_second_moment():
    ask = lambda p, door: door(NET, CE)(p, X, LABELS)
    run = jax.jit(lambda p: (ask(p, curvature.empirical_fisher_diagonal), ask(p, per_example.second_moment)[2]))
    assert_close(*run(PARAMS), 1e-12)


def test_fisher_does_not_ask_where_the_net_ends():
    """Softmax in the net or in the loss: the same draws and the same diagonal."""
    ends = bp.serial(bp.dense(4), bp.tanh(), bp.dense(3), bp.softmax())

    @jax.jit
    def run(p):
        ask = lambda net, loss, p: curvature.fisher_diagonal(net, loss, samples=3)(p, X, LABELS, key=KEY)
        return ask(NET, CE, p), ask(ends, bp.losses.log_likelihood(), (*p, ()))[:3]

    assert_close(*run(PARAMS), 1e-10)


def test_samples_have_the_exact_diagonal_as_their_mean():
    @jax.jit
    def run(p):
        ask = lambda door: door(p, X, LABELS, key=KEY)
        samples = [curvature.ggn_diagonal(NET, CE, samples=3000), curvature.fisher_diagonal(NET, CE, samples=3000)]
        return ask(curvature.ggn_diagonal(NET, CE)), [ask(door) for door in samples]

    exact, drawn = run(PARAMS)
    for found in drawn:
        assert_close(found, exact, 0.05)


def test_dropout_drops_what_the_gradient_drops():
    """With one key both see the same net; targets are drawn apart from it."""
    net = bp.serial(bp.dense(8), bp.dropout(0.5), bp.dense(1))
    params, targets, loss = random_params(net), RNG.normal(size=(6, 1)), bp.losses.quadratic()

    @jax.jit
    def run(p):
        ask = lambda door, **options: door(net, loss, **options)(p, X, targets, key=KEY)
        return ask(bp.value_and_grad)[1][2].w, ask(curvature.ggn_diagonal)[2].w, ask(curvature.fisher_diagonal)[2].w

    dropped = [np.abs(np.asarray(leaf)) for leaf in run(params)]
    kept = jax.jit(lambda p: net.forward(p, X, train=True, key=KEY)[1][2])(params)  # the input of the last layer
    assert_close(dropped[1][:, 0], np.mean(np.asarray(kept) ** 2, axis=0), 1e-12)
    assert np.array_equal(dropped[0] == 0, dropped[1] == 0)
    assert np.any(dropped[2])


def test_batch_norm_is_taken_in_evaluation_alone():
    net = bp.serial(bp.dense(4), bp.batch_norm(), bp.dense(3))
    params = random_params(net)
    params[1].population.variance[:] = 2.0
    for door in DOORS.values():
        with pytest.raises(ValueError, match="examples of a batch meet"):
            door(net, CE)(params, X, LABELS, key=KEY)
    ask = lambda p, door: door(net, CE)(p, X, LABELS, train=False)
    diagonal, blocks = jax.jit(lambda p: (ask(p, curvature.ggn_diagonal), ask(p, curvature.kfac)))(params)
    assert not np.any(diagonal[1].population.mean)
    assert not np.any(blocks[1].population.variance.matrix())
    assert_close(blocks[1].gain.diagonal(), diagonal[1].gain, 1e-12)  # its block is whole
    assert_close(blocks[2].b.diagonal(), diagonal[2].b, 1e-12)


def test_bfloat16_nets_have_float32_curvature():
    narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), (PARAMS, X))
    asked = jax.eval_shape(lambda p, x: [door(NET, CE)(p, x, LABELS, key=KEY) for door in DOORS.values()], *narrow)
    assert {leaf.dtype for leaf in jax.tree.leaves(asked)} == {jnp.dtype("float32")}


def test_one_trace_serves_all_batches_of_a_shape():
    door = curvature.kfac(NET, CE, of="fisher", samples=2)
    run = jax.jit(chex.assert_max_traces(lambda p, x, labels, key: door(p, x, labels, key=key), n=1))
    first, second = run(PARAMS, X, LABELS, KEY), run(PARAMS, X[::-1], LABELS, jax.random.key(1))
    assert not np.array_equal(first[0].w.g, second[0].w.g)


def test_a_table_of_a_million_rows_has_a_diagonal_side():
    net = bp.serial(bp.embedding(1_000_000, 4), bp.dense(3))
    spec = jax.ShapeDtypeStruct((3,), jnp.int32)
    params = jax.eval_shape(lambda: net.init(KEY, spec)[0])
    ids = jax.ShapeDtypeStruct((8, 3), jnp.int32)
    blocks = jax.eval_shape(curvature.kfac(net, CE), params, ids, ids)
    assert (blocks[0].table.a.shape, blocks[0].table.g.shape) == ((1_000_000,), (4, 4))


def test_what_depends_on_the_columns_is_read_from_the_program():
    def backward(y_bar):
        kept, passed = jax.lax.optimization_barrier((jnp.asarray(X), y_bar))
        rows = Rows(jnp.zeros(6, jnp.int32), y_bar * 2, 3)
        return {"kept": kept, "passed": passed, "rows": rows, "mixed": kept @ kept.T + y_bar}

    found = varying(backward, jnp.ones((6, 6)))
    assert (found["kept"], found["passed"], found["mixed"]) == (False, True, True)
    assert (found["rows"].indices, found["rows"].rows) == (False, True)


# --- bad input


@pytest.mark.parametrize("name", DOORS)
def test_bad_input_is_refused_before_anything_compiles(name):
    door = DOORS[name]
    with pytest.raises(ValueError, match="the batch is empty"):
        door(NET, CE)(PARAMS, X[:0], LABELS[:0], key=KEY)
    with pytest.raises(TypeError, match="a Layer was expected"):
        door("net", CE)
    with pytest.raises(TypeError, match="a Loss was expected"):
        door(NET, jnp.sum)
    with pytest.raises(ValueError, match="reduction is 'mean' or 'sum'"):
        door(NET, CE, reduction="none")
    with pytest.raises(ValueError, match="weights of at least 0"):
        door(NET, CE)(PARAMS, X, LABELS, sample_weight=-WEIGHTS, key=KEY)
    with pytest.raises(ValueError, match="labels have to lie in"):
        door(NET, CE)(PARAMS, X, LABELS + 3, key=KEY)
    lifted = bp.lift(lambda key, x: jnp.zeros((x.shape[-1], 3)), lambda w, x: x @ w)
    with pytest.raises(ValueError, match="keep only the sum"):
        jax.eval_shape(lambda x: door(lifted, CE)(jnp.zeros((5, 3)), x, LABELS, key=KEY), X)
    with pytest.raises(ValueError, match="no trainable parameters"):
        door(bp.tanh(), bp.losses.quadratic())((), X, X, key=KEY)


def test_samples_and_their_key():
    with pytest.raises(ValueError, match="pass key="):
        curvature.fisher_diagonal(NET, CE)(PARAMS, X, LABELS)
    with pytest.raises(ValueError, match="pass key="):
        curvature.ggn_diagonal(NET, CE, samples=1)(PARAMS, X, LABELS)
    with pytest.raises(TypeError, match="needs a PRNG key"):
        curvature.ggn_diagonal(NET, CE, samples=1)(PARAMS, X, LABELS, key=3)
    for samples in (0, -1):
        with pytest.raises(ValueError, match="samples has to be positive"):
            curvature.ggn_diagonal(NET, CE, samples=samples)
    with pytest.raises(TypeError, match="samples is a whole number"):
        curvature.kfac(NET, CE, samples=1.5)
    with pytest.raises(ValueError, match="pass samples=1 or more"):
        curvature.kfac(NET, CE, of="fisher")
    with pytest.raises(ValueError, match="leave out samples"):
        curvature.kfac(NET, CE, of="empirical_fisher", samples=1)
    with pytest.raises(ValueError, match="of is 'ggn', 'fisher' or 'empirical_fisher'"):
        curvature.kfac(NET, CE, of="hessian")
    with pytest.raises(ValueError, match="no predictive distribution"):
        curvature.fisher_diagonal(NET, bp.losses.hinge())
