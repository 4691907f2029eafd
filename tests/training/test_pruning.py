"""Pruning: masks that hold, links in the order of their worth, the criterion kept; and sensitivity to inputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxbp
from jaxbp.training import apply_mask, masked, masking, patience, pruning
from jaxbp.training.sensitivity import sensitivity, vary


NET = jaxbp.mlp([4, 5, 3], hidden=jaxbp.tanh())
LOSS = jaxbp.losses.softmax_cross_entropy()
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(60, 4)))
Y = jnp.asarray(np.argmax(np.asarray(X)[:, :3], axis=1))  # the last input says nothing
PARAMS = NET.init(jax.random.key(1), jax.ShapeDtypeStruct((4,), jnp.float64))[0]
LINKS = 4 * 5 + 5 * 3


@pytest.fixture(scope="module")
def trained():
    return jaxbp.fit(NET, LOSS, optax.adam(0.05), X, Y, key=jax.random.key(0), epochs=30, batch_size=20).params


def half(params):
    """A mask of about half of all entries, another one every time, never of none of a leaf."""
    one = lambda p: RNG.random(p.shape) < 0.5
    return jax.tree.map(lambda p: jnp.asarray(one(p)).at[(0,) * p.ndim].set(True), params)


def gone(mask, params):
    return [np.asarray(p)[~np.broadcast_to(m, p.shape)] for m, p in zip(*map(jax.tree.leaves, (mask, params)), strict=True)]


# --- masks

OPTIMISERS = {
    "momentum and noise": optax.chain(optax.trace(0.9, nesterov=True), optax.add_noise(0.5, 0.55, key=7), optax.scale(-0.1)),
    "weight decay": optax.adamw(0.1, weight_decay=0.5),
    "line search": optax.lbfgs(),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_what_is_gone_stays_exactly_0(name):
    mask = half(PARAMS)
    full = name == "line search"
    result = jaxbp.fit(
        NET, LOSS, OPTIMISERS[name], X, Y, key=jax.random.key(0), epochs=3, batch_size=None if full else 20, mask=mask,
        params=PARAMS, penalty=None if full else jaxbp.penalties.l2(0.1), stop=None if full else patience(2, monitor="loss"),
    )  # fmt: skip
    assert all(np.all(values == 0) for values in gone(mask, result.params))
    assert all(np.all(values == 0) for values in gone(mask, jax.tree.map(jnp.asarray, apply_mask(mask, result.params))))
    moved = jax.tree.map(
        lambda new, old, m: np.any((np.asarray(new) != np.asarray(old)) & np.asarray(m)), result.params, PARAMS, mask
    )
    assert all(jax.tree.leaves(moved))


def test_masked_training_is_that_of_the_masked_net():
    """The same updates as a plain loop with the gradient cut and the rest set to 0 by hand."""
    mask, optimizer = half(PARAMS), optax.sgd(0.3, momentum=0.9)
    result = jaxbp.fit(
        NET, LOSS, optimizer, X, Y, key=jax.random.key(0), epochs=3, batch_size=None, mask=mask, params=PARAMS, shuffle=False
    )
    cut = lambda a: jax.tree.map(lambda m, leaf: m * leaf, mask, a)
    params = cut(PARAMS)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(cut(jax.grad(jaxbp.objective(NET, LOSS))(params, X, Y)), state)
        return optax.apply_updates(params, updates), state

    for _ in range(3):
        params, state = step(params, state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15), result.params, params)


def test_one_boolean_serves_a_leaf_and_params_may_be_drawn():
    mask = jax.tree.map(lambda _: True, PARAMS)
    mask = (jaxbp.Dense(w=False, b=True), *mask[1:])
    result = jaxbp.fit(NET, LOSS, optax.sgd(0.1), X, Y, key=jax.random.key(0), epochs=1, batch_size=20, mask=mask)
    assert not np.any(result.params[0].w)
    assert np.all(result.params[2].w)


def test_population_statistics_move_under_a_mask():
    net = jaxbp.serial(jaxbp.dense(3), jaxbp.batch_norm())
    params, _ = net.init(jax.random.key(0), jax.ShapeDtypeStruct((4,), jnp.float64))
    mask = jax.tree.map(lambda p: jnp.zeros(p.shape, bool), params)
    found = apply_mask(mask, params)
    assert not np.any(found[0].w)
    assert all(np.all(masking.broadcast(mask, params)[1].population[i]) for i in (0, 1))
    np.testing.assert_array_equal(found[1].population.variance, params[1].population.variance)


def test_another_mask_compiles_nothing():
    traces = []

    def seen(outputs, targets):
        traces.append(outputs)
        return outputs[:, 0]

    run = functools.partial(jaxbp.fit, NET, LOSS, optax.sgd(0.25), X, Y, key=jax.random.key(0), epochs=1, batch_size=30)
    metric = jaxbp.training.mean_of("seen", seen)
    first = run(mask=half(PARAMS), metrics=metric)
    count = len(traces)
    second = run(mask=half(PARAMS), metrics=metric)
    assert count == len(traces) > 0
    assert np.any(np.asarray(first.params[0].w) != np.asarray(second.params[0].w))


def test_masked_by_itself():
    mask = {"w": jnp.array([True, False]), "b": True}
    params = {"w": jnp.array([1.0, 0.0]), "b": jnp.array([2.0])}
    optimizer = masked(optax.adamw(0.1, weight_decay=1.0), mask)
    state = optimizer.init(params)
    updates, state = optimizer.update({"w": jnp.array([1.0, 7.0]), "b": jnp.ones(1)}, state, params)
    assert updates["w"][1] == 0
    assert state.inner[0].mu["w"][1] == 0
    assert updates["b"][0] != 0


# --- scores


def test_scores_are_their_formulas():
    x, y = X[:7], Y[:7]
    _, each = jaxbp.per_example.per_example_grads(NET, LOSS)(PARAMS, x, y)

    # J and the Hessian of the loss in the logits, for the Gauss-Newton diagonal
    rates, logits = jax.jit(lambda: (jax.jacrev(lambda p: NET.forward(p, x)[0])(PARAMS)[0].w, NET.forward(PARAMS, x)[0]))()
    probs = np.asarray(jax.nn.softmax(logits))
    curved = np.einsum("bk,kl->bkl", probs, np.eye(3)) - np.einsum("bk,bl->bkl", probs, probs)
    ggn = np.einsum("bkij,bkl,blij->ij", rates, curved, rates) / 7
    w = np.asarray(PARAMS[0].w)
    wanted = {
        "magnitude": np.abs(w),
        "first-order": np.abs(w * np.asarray(each[0].w).mean(0)),
        "fisher": 0.5 * w**2 * np.square(each[0].w).mean(0),
        "obd": 0.5 * w**2 * ggn,
    }
    assert set(wanted) == set(pruning.WAYS)
    for by, expected in wanted.items():
        found = pruning.scores(NET, LOSS, by)(PARAMS, x, y)
        np.testing.assert_allclose(found[0].w, expected, rtol=1e-9, atol=1e-15)
        assert found[0].b is None
        assert pruning.count(found) == LINKS


def test_obd_foretells_the_rise_of_a_quadratic_objective():
    """One linear layer and a quadratic loss at its minimum: 1/2 G_kk w_k^2 is exactly what the link is worth."""
    net, loss = jaxbp.dense(1, bias=False), jaxbp.losses.quadratic()
    w, *_ = np.linalg.lstsq(np.asarray(X), np.asarray(X)[:, :1] ** 3, rcond=None)
    params, target = jaxbp.Dense(jnp.asarray(w), None), X[:, :1] ** 3
    value = jaxbp.objective(net, loss)
    found = pruning.scores(net, loss, "obd")(params, X, target).w
    for k in range(4):
        rise = value(params._replace(w=params.w.at[k].set(0)), X, target) - value(params, X, target)
        np.testing.assert_allclose(found[k, 0], rise, rtol=1e-9)


def test_keep_takes_the_best_and_what_is_gone_stays_gone():
    scores = {"a": jnp.array([[3.0, 1.0]]), "b": None, "c": jnp.array([[2.0, 5.0], [0.0, 4.0]])}
    found = pruning.keep(scores, 0.5)
    assert found["b"] is True
    assert (found["a"].tolist(), found["c"].tolist()) == ([[True, False]], [[False, True], [False, True]])
    layered = pruning.keep(scores, 0.5, scope="layer")
    assert (layered["a"].tolist(), layered["c"].tolist()) == ([[True, False]], [[False, True], [False, True]])
    again = pruning.keep(scores, 0.5, mask={**found, "c": jnp.array([[True, False], [True, True]])})
    assert (again["a"].tolist(), again["c"].tolist()) == ([[True, False]], [[True, False], [False, True]])
    assert pruning.count(pruning.keep(scores, 0.0)) == 0
    assert pruning.count(pruning.keep(scores, 1.0)) == 6


# --- greedy


@pytest.mark.parametrize("by", pruning.WAYS)
def test_greedy_never_falls_below_the_unpruned_net(trained, by):
    held = X[40:], Y[40:]
    score = jax.jit(functools.partial(pruning.scores(NET, LOSS, by), x=X[:40], targets=Y[:40]))
    found = pruning.greedy(NET, trained, score, held)
    accuracy = float(np.mean(np.argmax(np.asarray(NET(found.params, held[0])), axis=1) == np.asarray(held[1])))
    assert found.score == pytest.approx(accuracy)
    assert found.score >= found.before
    assert found.remaining == pruning.count(found.mask) < found.links == LINKS
    assert sum(int(np.count_nonzero(p.w)) for p in found.params[::2]) == found.remaining
    assert min(remaining for remaining, _, taken in found.curve if taken) == found.remaining
    assert "links remain" in repr(found)


def test_a_tolerance_lets_more_go_and_curves_end_at_chance(trained):
    score = jax.jit(functools.partial(pruning.scores(NET, LOSS, "magnitude"), x=X, targets=Y))
    strict, loose = (pruning.greedy(NET, trained, score, (X, Y), tolerance=t).remaining for t in (0.0, 0.2))
    assert loose <= strict
    found = pruning.curve(NET, trained, score(trained), (X, Y), [1.0, 0.5, 0.0])
    assert found[0] == pytest.approx(pruning.greedy(NET, trained, score, (X, Y)).before)
    assert found[2] < 0.6


# --- sensitivity


def test_sensitivity_is_the_jacobian():
    found = jax.jit(sensitivity(NET))(PARAMS, X)
    wanted = jax.jit(jax.vmap(jax.jacrev(lambda v: NET.forward(PARAMS, v[None])[0][0])))(X)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)
    images = jaxbp.serial(jaxbp.conv2d(2, (2, 2)), jaxbp.tanh())
    params, _ = images.init(jax.random.key(0), jax.ShapeDtypeStruct((3, 3, 1), jnp.float64))
    x = jnp.asarray(RNG.normal(size=(2, 3, 3, 1)))
    wanted = jax.jit(jax.vmap(jax.jacrev(lambda v: images.forward(params, v[None])[0][0])))(x)
    np.testing.assert_allclose(sensitivity(images)(params, x), wanted, rtol=1e-12, atol=1e-15)


def test_one_input_varied():
    found = vary(NET)(PARAMS, X[0], 2, [-1.0, 0.0, 1.0])
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found[1], NET(PARAMS, X[:1].at[0, 2].set(0.0))[0], rtol=1e-12)


# --- the doors


EMBEDDING = jaxbp.embedding(5, 2)


def fit_with(mask):
    return jaxbp.fit(NET, LOSS, optax.sgd(0.1), X, Y, key=jax.random.key(0), epochs=1, batch_size=20, mask=mask)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: fit_with((True, True)), ValueError, "mask: a tree like params"),
        (lambda: fit_with(jax.tree.map(jnp.ones_like, PARAMS)), TypeError, r"mask\[0\].w: booleans"),
        (lambda: fit_with(jax.tree.map(lambda p: jnp.ones(3, bool), PARAMS)), ValueError, r"mask\[0\].w: shape \[4, 5\]"),
        (lambda: pruning.scores(NET, LOSS, "size"), ValueError, "by is one of"),
        (lambda: pruning.scores(jaxbp.sigmoid(), LOSS, "magnitude")((), X, Y), ValueError, "no link"),
        (lambda: pruning.keep({"w": jnp.ones((2, 2))}, 1.5), ValueError, "share"),
        (lambda: pruning.keep({"w": jnp.ones((2, 2))}, 0.5, scope="unit"), ValueError, "scope"),
        (lambda: pruning.greedy(NET, PARAMS, lambda p: p, X), TypeError, r"\(x, targets\)"),
        (lambda: pruning.greedy(NET, PARAMS, lambda p: p, (X, Y), block=0), ValueError, "block"),
        (lambda: sensitivity(LOSS), TypeError, "a Layer"),
        (
            lambda: sensitivity(EMBEDDING)(
                EMBEDDING.init(jax.random.key(0), jax.ShapeDtypeStruct((), jnp.int32))[0], jnp.array([1])
            ),
            TypeError,
            "floating",
        ),
        (lambda: vary(NET)(PARAMS, X[0], 9, [0.0]), IndexError, "index"),
        (lambda: vary(NET)(PARAMS, X[0], 1, 0.5), ValueError, "one axis"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
