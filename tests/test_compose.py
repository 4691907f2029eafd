"""Composites: what they build, how their errors read, and that `remat` keeps only its input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp


KEY = jax.random.key(0)


def size(tree) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_repr_is_the_code_and_lists_become_tuples():
    net = bp.serial(bp.dense(4), bp.skip(bp.dense(4, bias=False)), bp.parallel(bp.dense(1), bp.dense(2), combine="concatenate"))
    assert repr(net) == "serial(dense(4), skip(dense(4, bias=False)), parallel(dense(1), dense(2), combine='concatenate'))"
    assert bp.mlp([3, 4, 2]) is bp.mlp((3, 4, 2))
    assert repr(bp.mlp([3, 4, 2], hidden=bp.tanh())) == "mlp([3, 4, 2], hidden=tanh())"


def test_mlp_is_the_serial_one_would_write():
    net = bp.mlp([3, 4, 2], hidden=bp.tanh(), output=bp.sigmoid())
    written = bp.serial(bp.dense(4), bp.tanh(), bp.dense(2), bp.sigmoid())
    assert net.parts == written.parts
    params, spec = net.init(KEY, (3,))
    assert spec.shape == (2,)
    x = jax.random.normal(KEY, (5, 3))
    np.testing.assert_array_equal(net(params, x), written(params, x))


def test_a_value_used_twice_sums_its_cotangents():
    net = bp.parallel(bp.identity(), bp.skip(bp.identity()))  # y = x + (x + x)
    _, residuals = net.forward(((), ()), jnp.ones((1, 1)))
    _, x_bar = net.backward(((), ()), residuals, jnp.ones((1, 1)))
    assert float(x_bar[0, 0]) == 3


def test_remat_keeps_only_its_input():
    inner = bp.mlp([8, 64, 64, 8], hidden=bp.tanh())
    params, _ = inner.init(KEY, (8,))
    x = jnp.zeros((5, 8))
    kept = lambda layer: size(jax.eval_shape(lambda: layer.forward(params, x, train=True)[1]))
    assert kept(bp.remat(inner)) == x.size
    assert kept(inner) > 4 * 5 * 64


def test_remat_draws_the_same_in_both_passes():
    net = bp.serial(bp.dense(6), bp.dropout(0.5), bp.dense(2))
    params, _ = net.init(KEY, (4,))
    x, y_bar = jax.random.normal(KEY, (7, 4)), jax.random.normal(KEY, (7, 2))
    run = lambda layer: layer.backward(params, layer.forward(params, x, train=True, key=KEY)[1], y_bar)
    (plain, x_bar), (again, x_bar_again) = run(net), run(bp.remat(net))
    np.testing.assert_allclose(x_bar_again, x_bar)
    for a, b in zip(*(jax.tree.leaves(bp.factors.total(params, f)) for f in (plain, again)), strict=True):
        np.testing.assert_allclose(a, b)


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: bp.serial(), ValueError, "at least 1 layer"),
        (lambda: bp.serial(bp.dense), TypeError, "call its constructor"),
        (lambda: bp.serial(bp.dense(3), 4), TypeError, "takes layers, got 4"),
        (lambda: bp.serial([bp.dense(3)]), TypeError, r"unpack them: serial\(\*layers\)"),
        (lambda: bp.mlp([3, 2], hidden=bp.tanh), TypeError, "mlp: hidden: takes layers.*call its constructor first"),
        (lambda: bp.mlp([3, 2], output=bp.tanh), TypeError, "mlp: output: takes layers"),
        (lambda: bp.parallel(bp.dense(3)), ValueError, "at least 2 layers"),
        (lambda: bp.parallel(bp.dense(3), bp.dense(3), combine="mul"), ValueError, "'add' or 'concatenate', got 'mul'"),
        (lambda: bp.parallel(bp.dense(3), bp.dense(2)).init(KEY, (4,)), ValueError, "branches have to agree"),
        (lambda: bp.skip(bp.dense(3)).init(KEY, (4,)), ValueError, "keep the shape"),
        (lambda: bp.repeat(bp.dense(3), 0), ValueError, "times has to be positive, got 0"),
        (lambda: bp.mlp([3]), ValueError, "two or more"),
        (lambda: bp.mlp([3, 0, 2]), ValueError, "positive, got 0"),
        (lambda: bp.mlp([3, 2]).init(KEY, (4,)), ValueError, r"sizes\[0\] is 3"),
        (lambda: bp.dense(2.5), TypeError, "whole number"),
        (lambda: bp.dense(3, biases=True), TypeError, "it takes dense"),
        (lambda: bp.dense(3).init(KEY, jax.ShapeDtypeStruct((4,), jnp.int32)), TypeError, "floating-point inputs, got int32"),
        (lambda: bp.dense(3).init(KEY, (0,)), ValueError, "at least one feature"),
        (lambda: bp.dense(3).init(KEY, 4), TypeError, r"such as \(4,\)"),
        (lambda: bp.serial(bp.dense(3)).init(0, (4,)), TypeError, "PRNG key such as"),
        (lambda: bp.dense(3).init(0, (4,)), TypeError, "PRNG key such as"),
    ],
)
def test_bad_input(build, error, says):
    with pytest.raises(error, match=says):
        build()


def test_an_error_inside_a_composite_names_the_layer():
    with pytest.raises(ValueError, match="keep the shape") as caught:
        bp.serial(bp.dense(3), bp.skip(bp.dense(4))).init(KEY, (2,))
    assert any("layer 1 of serial" in note for note in caught.value.__notes__)
