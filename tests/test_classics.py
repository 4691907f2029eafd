"""The worked examples of the classic texts, to the digit: Mazur, Han & Kamber, Brownlee.

The texts write W a with columns, jaxbp x w with rows: w is W transposed. Sources: M. Mazur, "A Step by Step Backpropagation
Example" (2015); J. Han, M. Kamber, "Data Mining", section 9.2; J. Brownlee, "How to Code a Neural Network with
Backpropagation In Python". Numbers recomputed independently in NumPy where a text prints fewer digits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxbp as bp
from jaxbp import losses


two_layers = bp.serial(bp.dense(2), bp.sigmoid(), bp.dense(2), bp.sigmoid())
VALUE_AND_GRAD = bp.value_and_grad(two_layers, losses.quadratic())


def dense(columns, bias):
    return bp.Dense(jnp.array(columns, jnp.float64).T, jnp.array(bias, jnp.float64))


MAZUR = (dense([[0.15, 0.20], [0.25, 0.30]], [0.35, 0.35]), (), dense([[0.40, 0.45], [0.50, 0.55]], [0.60, 0.60]), ())
X, T = jnp.array([[0.05, 0.10]]), jnp.array([[0.01, 0.99]])


def without_biases(grads):
    return jax.tree.map(lambda g: g if g.ndim == 2 else jnp.zeros_like(g), grads)


def descend(params, rate, steps, mask=lambda grads: grads):
    """Gradient descent on Mazur's one example; the error after `steps` updates."""

    def step(params, _):
        _, grads = VALUE_AND_GRAD(params, X, T)
        return jax.tree.map(lambda p, g: p - rate * g, params, mask(grads)), None

    params, _ = jax.jit(lambda p: jax.lax.scan(step, p, length=steps))(params)
    return float(VALUE_AND_GRAD(params, X, T)[0])


def test_mazur_forward_and_gradient():
    error, grads = VALUE_AND_GRAD(MAZUR, X, T)
    np.testing.assert_allclose(two_layers(MAZUR, X)[0], [0.7513650695523157, 0.7729284653214625], rtol=1e-14)
    np.testing.assert_allclose(error, 0.2983711087600027, rtol=1e-14)
    w2 = [[0.08216704056423077, 0.08266762784753325], [-0.02260254047747507, -0.022740242215978222]]
    w1 = [[0.0004385677344743465, 0.000877135468948693], [0.0004977127352608599, 0.0009954254705217198]]
    np.testing.assert_allclose(grads[2].w.T, w2, rtol=1e-12)
    np.testing.assert_allclose(grads[0].w.T, w1, rtol=1e-12)
    np.testing.assert_allclose(grads[2].b, [0.13849856162855695, -0.038098236516556236], rtol=1e-12)
    np.testing.assert_allclose(grads[0].b, [0.00877135468948693, 0.009954254705217196], rtol=1e-12)


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        *((1, 0.29102777369359933), (2, 0.28354713312241997), (10, 0.22091859205390402)),
        *((100, 0.0200468282494252), (1000, 0.001114349453733746), (10000, 3.510187782978859e-05)),
    ],
)
def test_mazur_error_after_updates_of_the_weights(steps, error):
    np.testing.assert_allclose(descend(MAZUR, 0.5, steps, without_biases), error, rtol=1e-10)


@pytest.mark.parametrize(("steps", "error"), [(1, 0.28047144679143016), (10000, 2.4475622359322627e-06)])
def test_mazur_with_biases_updated(steps, error):
    np.testing.assert_allclose(descend(MAZUR, 0.5, steps), error, rtol=1e-10)


def test_mazurs_printed_error_is_that_of_a_sequential_update():
    """He prints 0.291027924 after one update: that is back-propagation through the already updated output weights.

    The rule of his own text, all deltas from the old weights, gives 0.291027774.
    """
    updated = lambda params, grads, layer: tuple(
        jax.tree.map(lambda p, g: p - 0.5 * g, params[i], without_biases(grads[i])) if i == layer else params[i] for i in range(4)
    )
    _, grads = VALUE_AND_GRAD(MAZUR, X, T)
    simultaneous = updated(updated(MAZUR, grads, 2), grads, 0)
    # the mistake: forward with the old weights, backward through the new output weights
    outputs, residuals = two_layers.forward(MAZUR, X)
    mixed = updated(MAZUR, grads, 2)
    _, loss_residuals = losses.quadratic().forward(outputs, T)
    wrong, _ = two_layers.backward(mixed, residuals, losses.quadratic().backward(loss_residuals, jnp.ones(1)))
    sequential = updated(mixed, bp.factors.total(MAZUR, wrong), 0)
    assert round(float(VALUE_AND_GRAD(simultaneous, X, T)[0]), 9) == 0.291027774
    assert round(float(VALUE_AND_GRAD(sequential, X, T)[0]), 9) == 0.291027924


def test_han_kamber_one_tuple_with_case_updating():
    net = bp.serial(bp.dense(2), bp.sigmoid(), bp.dense(1), bp.sigmoid())
    params = (dense([[0.2, 0.4, -0.5], [-0.3, 0.1, 0.2]], [-0.4, 0.2]), (), dense([[-0.3, -0.2]], [0.1]), ())
    x, target = jnp.array([[1.0, 0.0, 1.0]]), jnp.array([[1.0]])
    hidden, _ = bp.serial(*net.parts[:2]).forward(params[:2], x)
    np.testing.assert_allclose(hidden[0], [0.3318122278318339, 0.52497918747894], rtol=1e-14)
    np.testing.assert_allclose(net(params, x)[0, 0], 0.47388889882398544, rtol=1e-14)
    fitted = bp.fit(
        net, losses.quadratic(), optax.sgd(0.9), x, target, params=params, key=jax.random.key(0), epochs=1, batch_size=1
    ).params
    np.testing.assert_allclose(fitted[2].w[:, 0], [-0.26082884634154524, -0.13802506750700472], rtol=1e-12)
    w1 = [[0.19214789423111006, 0.4, -0.50785210576889], [-0.30588787655775207, 0.1, 0.19411212344224793]]
    np.testing.assert_allclose(fitted[0].w.T, w1, rtol=1e-12)
    np.testing.assert_allclose(fitted[2].b[0], 0.21805217039291008, rtol=1e-12)
    np.testing.assert_allclose(fitted[0].b, [-0.40785210576888997, 0.19411212344224793], rtol=1e-12)


def test_brownlee_forward_and_deltas():
    net = bp.serial(bp.dense(1), bp.sigmoid(), bp.dense(2), bp.sigmoid())
    params = (
        dense([[0.13436424411240122, 0.8474337369372327]], [0.763774618976614]),
        (),
        dense([[0.2550690257394217], [0.4494910647887381]], [0.49543508709194095, 0.651592972722763]),
        (),
    )
    outputs = net(params, jnp.array([[1.0, 0.0]]))
    np.testing.assert_allclose(outputs[0], [0.6629970129852887, 0.7253160725279748], rtol=1e-14)
    # his second example feeds given outputs to the backward pass; the sign is that of (expected - output)
    output, hidden = jnp.array([[0.6213859615555266, 0.6573693455986976]]), jnp.array([[0.7105668883115941]])
    _, residuals = losses.quadratic().forward(output, jnp.array([[0.0, 1.0]]))
    output_bar = losses.quadratic().backward(residuals, jnp.ones(1))
    sigmoid_slope = lambda a: a * (1 - a)
    delta = output_bar * sigmoid_slope(output)
    np.testing.assert_allclose(delta[0], [0.14619064683582808, -0.0771723774346327], rtol=1e-12)
    _, hidden_bar = net.parts[2].backward(params[2], hidden, delta)
    np.testing.assert_allclose(hidden_bar * sigmoid_slope(hidden), [[0.0005348048046610517]], rtol=1e-10)


BROWNLEE_ROWS = [
    (2.7810836, 2.550537003, 0), (1.465489372, 2.362125076, 0), (3.396561688, 4.400293529, 0), (1.38807019, 1.850220317, 0),
    (3.06407232, 3.005305973, 0), (7.627531214, 2.759262235, 1), (5.332441248, 2.088626775, 1), (6.922596716, 1.77106367, 1),
    (8.675418651, -0.242068655, 1), (7.673756466, 3.508563011, 1),
]  # fmt: skip


def test_brownlee_twenty_epochs_of_case_updating():
    """He sums the squared error of each row before its update; ours is the running loss of the epoch (half of it, averaged)."""
    params = (
        dense(
            [[0.13436424411240122, 0.8474337369372327], [0.2550690257394217, 0.49543508709194095]],
            [0.763774618976614, 0.4494910647887381],
        ),
        (),
        dense(
            [[0.651592972722763, 0.7887233511355132], [0.02834747652200631, 0.8357651039198697]],
            [0.0938595867742349, 0.43276706790505337],
        ),
        (),
    )
    rows = np.array(BROWNLEE_ROWS)
    x, targets = rows[:, :2], np.eye(2)[rows[:, 2].astype(int)]
    result = bp.fit(
        two_layers, losses.quadratic(), optax.sgd(0.5), x, targets,
        params=params, key=jax.random.key(0), epochs=20, batch_size=1, shuffle=False,
    )  # fmt: skip
    errors = 2 * len(rows) * np.asarray(result.history["loss"])
    published = [6.350, 5.531, 5.221, 4.951, 4.519, 4.173, 3.835, 3.506, 3.192, 2.898]
    published += [2.626, 2.377, 2.153, 1.953, 1.774, 1.614, 1.472, 1.346, 1.233, 1.132]
    np.testing.assert_allclose(errors, published, atol=5.1e-4)
    np.testing.assert_allclose(
        result.params[0].w.T, [[-1.4688375095432327, 1.850887325439514], [0.37711098142462157, -0.0625909894552989]], rtol=1e-10
    )
    np.testing.assert_allclose(result.params[2].b, [-0.9671565426390275, 0.42383086467582715], rtol=1e-10)
