"""What a layer of a user's own may get wrong is said by its name, where it is built or first used."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

import jaxbp as bp
from jaxbp import factors


class Scale(NamedTuple):
    gain: jax.Array
    shift: jax.Array


def init(key, spec):
    return Scale(jnp.ones(spec.shape, spec.dtype), jnp.zeros(spec.shape, spec.dtype)), spec


def forward(params, x):
    return x * jnp.broadcast_to(params.gain, x.shape) + jnp.broadcast_to(params.shift, x.shape), x


def backward(params, x, y_bar):
    return Scale(factors.Each(x * y_bar), factors.Each(y_bar)), y_bar * jnp.broadcast_to(params.gain, y_bar.shape)


X = jnp.ones((2, 3))


def use(compose=lambda own: own, **wrong):
    rules = {"init": init, "forward": forward, "backward": backward} | wrong
    net = compose(bp.deterministic("scale", **rules))
    params, _ = net.init(jax.random.key(0), (3,))
    return bp.value_and_grad(net, bp.losses.mse())(params, X.astype(jnp.float32), X)


def test_a_right_layer_passes():
    value, grads = use()
    assert value == 0
    assert isinstance(grads, Scale)


COMPOSED = {
    "alone": lambda own: own,
    "serial": lambda own: bp.serial(bp.dense(3), own, bp.tanh()),
    "skip": bp.skip,
    "parallel": lambda own: bp.parallel(bp.dense(3), own),
    "repeat": lambda own: bp.repeat(own, 2),
    "remat": bp.remat,
}
WRONG = [
    (
        {"backward": lambda p, x, b: backward(p, x, b)[0]},
        r"scale>: backward returned Scale\(.* pair \(factors, x_bar\)",
    ),
    (
        {"backward": lambda p, x, b: (tuple(backward(p, x, b)[0]), b)},
        r"scale>: backward .* factors of another tree .*Scale",
    ),
    (
        {"backward": lambda p, x, b: (Scale(x * b, x), b)},
        r"an array float\d+\[2, 3\] for params.gain, expected a Factor",
    ),
    ({"backward": lambda p, x, b: (Scale(None, factors.Each(b)), b)}, "scale>: backward returned factors of another tree"),
    (
        {"forward": lambda p, x: forward(p, x)[0]},
        r"scale>: forward returned float\d+\[2, 3\], .* pair \(y, residuals\)",
    ),
]


@pytest.mark.parametrize("compose", COMPOSED.values(), ids=COMPOSED)
@pytest.mark.parametrize(("wrong", "says"), WRONG, ids=lambda value: "" if isinstance(value, str) else next(iter(value)))
def test_what_a_rule_returned_is_looked_at(compose, wrong, says):
    with pytest.raises(TypeError, match=says):
        use(compose, **wrong)


def test_a_total_of_another_shape_names_the_net():
    with pytest.raises(ValueError, match=r"params\[1\].gain has total \[2\], the parameter \[3\]") as caught:
        use(COMPOSED["serial"], backward=lambda p, x, b: (Scale(factors.Each(x[:, :2]), factors.Each(b)), b))
    assert "<layer scale>" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"init": lambda key: 1}, r"scale: init is a function of \(key, spec\), got .*too many positional arguments"),
        ({"forward": None}, r"scale: forward is a function of \(params, x\), got None"),
        ({"backward": lambda x, y_bar: x}, r"scale: backward is a function of \(params, residuals, y_bar\)"),
        ({"init": lambda key, spec: 1}, r"scale: init returned 1, expected \(params, out_spec\)"),
        ({"init": lambda key, spec: ((), (3,))}, "out_spec a jax.ShapeDtypeStruct"),
    ],
)
def test_rules_are_looked_at_where_they_are_given(wrong, says):
    with pytest.raises(TypeError, match=says):
        use(**wrong)


def test_flags_are_bool():
    with pytest.raises(TypeError, match="train is True or False, got 'no'"):
        bp.tanh()((), X, train="no")
    with pytest.raises(TypeError, match="has_aux is True or False"):
        bp.value_and_grad(bp.tanh(), bp.losses.mse(), has_aux="no")
