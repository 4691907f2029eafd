"""Square roots of the losses' output Hessians, and draws from their predictive distributions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LOSSES, log_cosh

import jaxbp as bp
from jaxbp.curvature import roots, sampling


KEY = jax.random.key(1)
BATCH = 6


def squares(root):
    """S S^T, (batch, outputs, outputs)."""
    s = jnp.stack([flat(root.column(k)) for k in range(root.columns)], axis=-1)
    return s @ s.swapaxes(1, 2)


def flat(outputs):
    return jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(outputs)], axis=1)


def hessians(loss, outputs, targets, weights):
    def one(z, target, weight):
        return jnp.sum(weight * loss.forward(z.reshape(1, *outputs.shape[1:]), target[None])[0][0])

    return jax.vmap(jax.hessian(one))(flat(outputs), targets, weights)


def close(got, want, tolerance=1e-12):
    assert np.all(np.isfinite(want))
    assert np.max(np.abs(got - want)) <= tolerance * max(np.max(np.abs(want)), 1e-3)


FEW = [LOSSES[i] for i in (2, 5, 10, 13, 15, 23)]


@pytest.mark.parametrize("cases", [FEW, pytest.param(LOSSES, marks=pytest.mark.slow)], ids=["few", "all"])
def test_losses(cases):
    """S S^T is the Hessian of the weighted loss, by the closed forms and formed from the backward."""
    drawn = [(case.outputs(KEY, BATCH, jnp.float64), case.targets(jax.random.key(2), BATCH, jnp.float64)) for case in cases]
    shapes = [jax.eval_shape(case.loss.forward, *d)[0].shape for case, d in zip(cases, drawn, strict=True)]
    weights = [np.random.default_rng(0).uniform(0.5, 2, shape) for shape in shapes]
    some = {*range(0, len(cases), 6)}  # forming all takes its time to compile

    @jax.jit
    def run(drawn, weights):
        found = [(case.loss, *d, w) for case, d, w in zip(cases, drawn, weights, strict=True)]
        formed = [squares(roots.formed(*f)) if i in some else None for i, f in enumerate(found)]
        return [squares(roots.root_of(*f)) for f in found], formed, [hessians(*f) for f in found]

    for case, got, formed, want in zip(cases, *run(drawn, weights), strict=True):
        assert np.any(want) or case.loss.name == "hinge" or got.shape[1:] == (1, 1), case.id
        close(got, want)
        if formed is not None:
            close(formed, want)


def test_certain_nets_keep_the_digits():
    """In float32 and at margins where 1 - p is below half an ulp of 1, the columns are right to a few of theirs."""
    z = np.array([[30.0, 0, -3], [0.0, 18, 1], [-2.0, 0, 9], [40.0, 0, 0]], np.float32)
    columns = lambda z: [roots.root_of(bp.losses.softmax_cross_entropy(), z, np.zeros(4, int), None).column(k) for k in range(3)]
    got = np.stack(jax.jit(columns)(z), axis=-1)
    e = np.exp(z.astype(np.longdouble) - z.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    others = (e.sum(1, keepdims=True) - e) / e.sum(1, keepdims=True)
    others = np.where(e == 1, np.where(e == 1, 0, e).sum(1, keepdims=True) / e.sum(1, keepdims=True), others)
    for k in range(3):
        for i in range(3):
            want = np.sqrt(p[:, k]) * (others[:, k] if i == k else -p[:, i])
            np.testing.assert_allclose(got[:, i, k], want.astype(np.float64), rtol=1e-6)


def test_rows_and_classes_that_are_masked():
    z = jnp.array([[0.0, -jnp.inf, 1.0], [-jnp.inf] * 3])
    got = jax.jit(lambda z: squares(roots.root_of(bp.losses.softmax_cross_entropy(0.1), z, np.zeros(2, int), None)))(z)
    p = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    want = np.zeros((2, 3, 3))
    want[0][np.ix_([0, 2], [0, 2])] = np.diag(p) - np.outer(p, p)
    close(got, want)


def test_outputs_of_any_tree():
    size = lambda leaf: jnp.sum(leaf**2)
    loss = bp.losses.loss_from(lambda z, t: log_cosh(z["a"], t) + size(z["a"]) * size(z["b"]) + 9 * size(z["b"]))
    rng = np.random.default_rng(3)
    z, t = {"a": rng.normal(size=(4, 2)), "b": rng.normal(size=(4, 1, 2)) / 9}, rng.normal(size=(4, 2))
    w = np.arange(4.0)
    of = lambda v, t, w: w * loss.forward({"a": v[None, :2], "b": v[None, 2:].reshape(1, 1, 2)}, t[None])[0][0]

    @jax.jit
    def run(z):
        root = roots.root_of(loss, z, t, w)
        return root.column(0), squares(root), jax.vmap(jax.hessian(of))(flat(z), t, w)

    column, got, want = run(z)
    close(got, want)
    assert jax.tree.map(jnp.shape, column) == {"a": (4, 2), "b": (4, 1, 2)}


def test_a_loss_that_is_not_convex_is_refused_and_nan_under_jit():
    loss = bp.losses.loss_from(lambda z, t: jnp.sum(jnp.cos(z - t)))
    z, t = np.array([[np.pi], [0.1]]), np.zeros((2, 1))
    with pytest.raises(ValueError, match=r"not convex in the outputs: its Hessian for example 1 has the eigenvalue -0.995"):
        roots.root_of(loss, z, t, None)
    column = jax.jit(lambda z: roots.root_of(loss, z, t, None).column(0))(z)
    assert column[0, 0] == pytest.approx(1)
    assert np.isnan(column[1, 0])


def test_signs_have_the_hessian_as_their_mean_square():
    z = jnp.asarray(np.random.default_rng(4).normal(size=(2, 3)))

    @jax.jit
    def run(z):
        root = roots.root_of(bp.losses.softmax_cross_entropy(), z, np.zeros(2, int), None)
        return jax.vmap(root.sample)(jax.random.split(KEY, 20_000)), squares(root)

    s, want = run(z)
    close(np.einsum("sbi,sbj->bij", s, s) / len(s), want, 0.02)


# --- draws


OUTPUTS = {"binary_cross_entropy": [[0.2, 0.7, 0.9]], "log_likelihood": [[0.2, 0.7, 0.1]]}
LIKELIHOODS = [
    bp.losses.quadratic(),
    bp.losses.mse(),
    bp.losses.softmax_cross_entropy(),
    bp.losses.softmax_cross_entropy(0.2),
    bp.losses.sigmoid_cross_entropy(),
    bp.losses.logistic(),
    bp.losses.binary_cross_entropy(),
    bp.losses.log_likelihood(),
]


@pytest.mark.parametrize(
    "loss",
    [pytest.param(loss, marks=pytest.mark.slow if i not in (1, 3, 7) else ()) for i, loss in enumerate(LIKELIHOODS)],
    ids=repr,
)
def test_scores_have_mean_0_and_the_fisher_matrix(loss):
    """At drawn targets the slopes average to 0 and their squares to the Fisher matrix of the outputs."""
    z = jnp.asarray(OUTPUTS.get(loss.name, [[0.5, -1.0, 0.3]]))
    draw, score = sampling.sampler(loss)

    def slope(key):
        losses, residuals = score.forward(z, draw(key, z))
        return score.backward(residuals, jnp.ones_like(losses))[0]

    n = 10_000
    g = np.asarray(jax.jit(jax.vmap(slope))(jax.random.split(KEY, n)))
    mean = -1 if loss.name == "log_likelihood" else 0  # sum_k p_k (-1 / p_k e_k): the outputs are not free, they sum to 1
    assert np.all(np.abs(g.mean(0) - mean) < 5 * g.std(0) / n**0.5)
    assert np.all(g.std(0) > 0)
    if loss.name not in OUTPUTS:
        targets = np.zeros(1, int) if "softmax" in loss.name else np.ones((1, 3))
        want = np.asarray(squares(roots.root_of(loss, z, targets, None))[0])
    else:  # on probabilities: E[1 / p^2 at the label] = diag 1 / p, or diag 1 / (a (1 - a))
        p = np.asarray(z[0])
        want = np.diag(1 / p if loss.name == "log_likelihood" else 1 / (p * (1 - p)))
    close(g.T @ g / n, want, 0.06)


@pytest.mark.parametrize("loss", [bp.losses.hinge(), bp.losses.loss_from(log_cosh)], ids=repr)
def test_losses_without_a_distribution(loss):
    with pytest.raises(ValueError, match="no predictive distribution to draw"):
        sampling.sampler(loss)
