"""Every layer and loss of cases.py through the checker, as any user's rule; and the same rules made wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import LAYERS, LOSSES, normal

import jaxbp as bp
from jaxbp import inputs
from jaxbp.check import check_vjp


KEY = jax.random.key(7)
LAYER_CASES = pytest.mark.parametrize("case", LAYERS, ids=[case.id for case in LAYERS])
LOSS_CASES = pytest.mark.parametrize("case", LOSSES, ids=[case.id for case in LOSSES])


def checked_layer(case, layer, **options):
    rng = np.random.default_rng(0)
    spec = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float32) if inputs.is_floating(s) else s, inputs.as_spec(case.spec)
    )
    x = normal(jax.random.fold_in(KEY, 1), 3, spec, jnp.float32)  # ids inside the table
    shapes = jax.eval_shape(lambda: case.at(jnp.float32).init(KEY, spec)[0])
    draw = lambda p: rng.normal(size=p.shape) if len(p.shape) > 1 else rng.uniform(0.5, 1.5, p.shape)
    params = jax.tree.map(lambda p: jnp.asarray(draw(p), p.dtype), shapes)
    apply = bp.as_custom_vjp(layer)
    fun = lambda params, x: apply(params, x, train=True, key=KEY if "key" in layer.traits else None)
    return check_vjp(fun, params, x, name=layer.name, battery=False, **options)


def checked_loss(case, loss, **options):
    outputs = case.outputs(jax.random.fold_in(KEY, 1), 3, jnp.float32)
    outputs = jnp.where(outputs == -jnp.inf, -50, outputs)  # a checker has nothing to say at infinity
    targets = case.targets(jax.random.fold_in(KEY, 2), 3, jnp.float32)
    apply = bp.as_custom_vjp(loss)
    return check_vjp(lambda outputs: apply(outputs, targets), outputs, name=loss.name, battery=False, **options)


def a_little_too_much(tree):
    """1 + 1e-3 times every floating cotangent."""
    return jax.tree.map(lambda a: a * 1.001 if a is not None and jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def wrong(rule):
    if isinstance(rule, bp.Loss):
        return dataclasses.replace(rule, backward=lambda *a: a_little_too_much(rule.backward(*a)))

    def backward(params, residuals, y_bar):
        return rule.backward(params, residuals, a_little_too_much(y_bar))

    return dataclasses.replace(rule, backward=backward)


def says_something(report):
    """Whether some cotangent is not 0, which a factor would leave as it is (one class, one feature)."""
    return any(np.any(leaf.true_array) for leaf in report.leaves)


@pytest.mark.slow
@LAYER_CASES
def test_every_layer_passes_and_fails_when_it_is_wrong(case):
    report = checked_layer(case, case.at(jnp.float32))
    assert report.ok, str(report)
    if says_something(report):
        assert checked_layer(case, wrong(case.at(jnp.float32)), dtype_check=False).verdict == "fail"


@pytest.mark.slow
@LOSS_CASES
def test_every_loss_passes_and_fails_when_it_is_wrong(case):
    report = checked_loss(case, case.loss)
    assert report.ok, str(report)
    if says_something(report):
        assert checked_loss(case, wrong(case.loss), dtype_check=False).verdict == "fail"


def test_two_layers():
    """Of the above, in the quick suite."""
    for layer, spec in ((bp.dense(3), (2,)), (bp.layer_norm(), (4,))):
        (case,) = [c for c in LAYERS if c.layer is layer and c.spec == spec][:1] or [LAYERS[0]._replace(layer=layer, spec=spec)]
        assert checked_layer(case, layer).ok
        assert checked_layer(case, wrong(layer), dtype_check=False).verdict == "fail"
