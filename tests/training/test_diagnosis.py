"""Looking inside a net in training: the measures are what they say, and the training is what it was."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxbp
from jaxbp.training import diagnosis
from jaxbp.training.diagnosis import MEASURES, diagnose


NET = jaxbp.mlp([5, 4, 3, 2], hidden=jaxbp.sigmoid())
LOSS, SGD = jaxbp.losses.softmax_cross_entropy(), optax.sgd(0.5)
RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.normal(size=(42, 5))), jnp.asarray(RNG.integers(0, 2, 42))
PARAMS = NET.init(jax.random.key(1), jax.ShapeDtypeStruct((5,), jnp.float64))[0]


def fit(diagnose, net=NET, epochs=3, batch_size=4, **options):
    options = {"params": PARAMS, "shuffle": False, "key": jax.random.key(0)} | options
    return jaxbp.fit(net, LOSS, SGD, X, Y, epochs=epochs, batch_size=batch_size, diagnose=diagnose, **options)


@pytest.fixture(scope="module")
def looked():
    return fit(1)


def deltas(params, x, y):
    """Each layer's z_bar of the single examples, by `jax.grad` in a zero that is added to z."""

    def loss_of(zeros, x, y):
        a = x
        for i, zero in enumerate(zeros):
            z = a @ params[2 * i].w + params[2 * i].b + zero
            a = jax.nn.sigmoid(z) if i + 1 < len(zeros) else z
        return -jax.nn.log_softmax(a)[y]

    zeros = [jnp.zeros(p.b.shape) for p in params[::2]]
    return jax.vmap(jax.grad(loss_of), (None, 0, 0))(zeros, x, y)


def test_a_look_is_the_first_step_of_its_epoch(looked):
    """Everything of epoch 0 recomputed by automatic differentiation: the batch is the first four rows."""
    x, y, found = X[:4], Y[:4], looked.diagnosis
    grads, found_deltas = jax.jit(lambda: (jax.grad(jaxbp.objective(NET, LOSS))(PARAMS, x, y), deltas(PARAMS, x, y)))()
    norm = lambda a: np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(a)))
    wanted = [np.sqrt(np.mean(np.sum(np.square(d), axis=1))) for d in found_deltas]
    np.testing.assert_allclose(found.delta[0], wanted, rtol=1e-12)
    np.testing.assert_allclose(found.grad[0], [norm(g) for g in grads[::2]], rtol=1e-12)
    moved = [0.5 * norm(g.w) / norm(p.w) for g, p in zip(grads[::2], PARAMS[::2], strict=True)]
    np.testing.assert_allclose(found.update[0], moved, rtol=1e-12)
    z = np.asarray(x) @ np.asarray(PARAMS[0].w) + np.asarray(PARAMS[0].b)
    a = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(found.input[0][:2], [np.sqrt(np.mean(np.square(x))), np.sqrt(np.mean(a**2))], rtol=1e-12)
    np.testing.assert_allclose(found.slope[0][0], np.mean(a * (1 - a)), rtol=1e-12)
    assert np.isnan(found.slope[0][2])  # no activation after the last layer


def test_looking_changes_nothing(looked):
    plain = fit(False)
    assert plain.diagnosis is None
    assert looked.history.keys() == plain.history.keys()
    jax.tree.map(np.testing.assert_array_equal, looked.params, plain.params)
    jax.tree.map(np.testing.assert_array_equal, looked.history, plain.history)


def test_the_names_and_the_table(looked):
    assert looked.diagnosis.layers == ("params[0]: dense, sigmoid", "params[2]: dense, sigmoid", "params[4]: dense")
    assert list(looked.diagnosis.epochs) == [0, 1, 2]
    assert all(getattr(looked.diagnosis, m).shape == (3, 3) for m in MEASURES)
    assert "saturated" in str(looked.diagnosis)
    assert "<table" in looked.diagnosis._repr_html_()


@pytest.mark.parametrize(
    ("batch_size", "epochs", "asked", "looks"), [(4, 8, True, [0, 4]), (None, 3, True, [0]), (4, 5, 2, [0, 2, 4])]
)
def test_looks_are_as_rare_as_their_price_asks(batch_size, epochs, asked, looks):
    """11 steps an epoch: one epoch in four; a full batch: one in forty."""
    assert list(fit(asked, batch_size=batch_size, epochs=epochs).diagnosis.epochs) == looks


def test_chunks_do_not_move_the_looks():
    whole, cut = fit(2, epochs=5), fit(2, epochs=5, chunk=1)
    assert list(cut.diagnosis.epochs) == [0, 2, 4]
    np.testing.assert_allclose(cut.diagnosis.grad, whole.diagnosis.grad, rtol=1e-12)


def test_dead_and_saturated_units():
    net = jaxbp.serial(jaxbp.dense(3), jaxbp.relu(), jaxbp.dense(2))
    w = jnp.concatenate([jnp.eye(3), jnp.zeros((2, 3))])
    params = (jaxbp.Dense(w, jnp.array([100.0, -100.0, 0.0])), (), jaxbp.Dense(jnp.ones((3, 2)), jnp.zeros(2)))
    off = float(jnp.mean(X[:, 2] <= 0))
    found = diagnose(net, LOSS)(params, X, Y)
    np.testing.assert_allclose(found.dead[0][0], 1 / 3)
    np.testing.assert_allclose(found.saturated[0][0], (1 + off) / 3)
    squashed = jaxbp.serial(jaxbp.dense(3), jaxbp.tanh(), jaxbp.dense(2))
    found = diagnose(squashed, LOSS)(params, X, Y)
    assert found.dead[0][0] == pytest.approx(2 / 3)  # both far units


def test_no_input_no_gradient():
    """BP4: with a_in = 0 the weights of a layer do not learn, whatever its error."""
    net = jaxbp.serial(jaxbp.dense(2, bias=False))
    params, _ = net.init(jax.random.key(0), jax.ShapeDtypeStruct((5,), jnp.float64))
    found = diagnose(net, LOSS)(params, jnp.zeros_like(X), Y)
    assert found.input[0][0] == 0
    assert found.grad[0][0] == 0
    assert found.delta[0][0] > 0.1


def test_rows_of_weight_0_are_as_if_absent():
    weight = jnp.ones(42).at[10:].set(0)
    padded = diagnose(NET, LOSS)(PARAMS, X.at[10:].set(99.0), Y, sample_weight=weight)
    short = diagnose(NET, LOSS)(PARAMS, X[:10], Y[:10])
    for m in MEASURES:
        np.testing.assert_allclose(getattr(padded, m), getattr(short, m), rtol=1e-12)


def test_a_net_with_draws_and_a_penalty_is_looked_at_with_its_own_draws():
    net = jaxbp.serial(jaxbp.dense(4), jaxbp.dropout(0.5), jaxbp.serial(jaxbp.dense(3), jaxbp.relu()), jaxbp.dense(2))
    penalty = jaxbp.penalties.l2(0.1)
    found = fit(1, net=net, epochs=1, batch_size=42, params=None, penalty=penalty)
    plain = fit(False, net=net, epochs=1, batch_size=42, params=None, penalty=penalty)
    began, _ = net.init(jax.random.key(0), jax.ShapeDtypeStruct((5,), jnp.float64))
    moved = [
        np.linalg.norm(new.w - old.w) / np.linalg.norm(old.w)
        for new, old in ((plain.params[0], began[0]), (plain.params[2][0], began[2][0]), (plain.params[3], began[3]))
    ]
    np.testing.assert_allclose(found.diagnosis.update[0], moved, rtol=1e-9)
    assert found.diagnosis.layers[1] == "params[2][0]: dense, relu"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: fit(0), ValueError, "diagnose"),
        (lambda: fit("often"), (TypeError, ValueError), "diagnose"),
        (lambda: diagnose(NET, None), TypeError, "a Layer and a Loss"),
        (lambda: diagnose(NET, LOSS)(PARAMS, X[:, :3], Y), ValueError, "features"),
        (lambda: diagnose(NET, LOSS)(PARAMS, X, Y[:5]), ValueError, "targets"),
        (lambda: diagnose(jaxbp.sigmoid(), LOSS)((), X, jnp.zeros(42, int)), ValueError, "no parameters"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_one_trace_serves_many_looks(monkeypatch):
    monkeypatch.setattr(diagnosis, "look", chex.assert_max_traces(diagnosis.look, 1))
    go = diagnose(NET, jaxbp.losses.softmax_cross_entropy(label_smoothing=0.25))
    for scale in (1.0, 2.0):
        go(jax.tree.map(lambda p: scale * p, PARAMS), X, Y)  # noqa: B023
