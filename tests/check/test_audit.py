"""The audit: the wrong rule of many is named, and what cannot be audited is said."""

import functools
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from ruled import W, X, broken, forward_rule, make, sound, static_power

from jaxbp.check.audit import audit
from jaxbp.check.rules import active_operands, find_rules, hidden_rules


def model(params, x, rules, switch):
    """Layers of different rules made by one factory, in loops, branches, recomputation and a jitted helper."""
    for rule, w in zip(rules, params["layers"], strict=True):
        x = jax.checkpoint(rule)(x, w) + 0.1 * x
    x, ys = lax.scan(lambda c, w: (rules[0](c, w) + c, forward_rule(c)), x, params["loop"])
    x = jax.jit(lambda x: jax.nn.relu(x) + jnp.sum(ys, axis=0))(x)
    x = lax.cond(switch > 0, lambda x: rules[1](x, x), lambda x: 2 * x, x)
    return jnp.sum(jax.vmap(rules[2])(x, x) ** 2)


RULES = [make(f"layer_{i}", slope=1 + i / 4, right=i != 3) for i in range(6)]
PARAMS = {"layers": [W * (i + 1) / 3 for i in range(6)], "loop": jnp.stack([W, -W, 2 * W])}


@pytest.fixture(scope="module")
def audited():
    return audit(functools.partial(model, rules=RULES, switch=1), PARAMS, X)


def test_one_wrong_rule_is_singled_out(audited):
    assert audited.verdict == "fail"
    assert not audited.ok
    assert [rule.name for rule in audited.rules if rule.verdict == "fail"] == ["layer_3"]
    assert all(rule.verdict == "pass" for rule in audited.rules if rule.name != "layer_3")
    (wrong,) = (rule for rule in audited.rules if rule.verdict == "fail")
    line = inspect.getsourcelines(make)[1]
    assert wrong.defined_at.endswith(f"ruled.py:{line + 3}")
    assert wrong.kind == "custom_vjp"
    line = inspect.getsourcelines(model)[1]
    assert wrong.called_at.endswith(f"test_audit.py:{line + 3}")
    assert any("checkpoint" in label for label in wrong.path)
    assert "backward" in wrong.reason
    assert "ruled.py" in wrong.reason
    assert wrong.report.leaves[0].verdict == "pass"
    assert wrong.report.leaves[1].verdict == "fail"
    assert "layer_3" in audited.reason


def test_every_call_is_listed_with_its_place(audited):
    names = [rule.name for rule in audited.rules]
    assert sorted(names) == sorted([*(f"layer_{i}" for i in range(6)), "layer_0", "layer_1", "layer_2", "forward_rule", "relu"])
    inside = [rule for rule in audited.rules if rule.path and rule.path[0].startswith("scan body at test_audit.py:")]
    assert [rule.name for rule in inside] == ["layer_0", "forward_rule"]
    assert "layer_3" in str(audited)
    assert audited.to_dict()["rules"][0]["name"] == "layer_0"


def test_nothing_to_audit():
    for fun in (lambda x: jnp.sum(jnp.sin(x)), jax.grad(lambda x: jnp.sum(static_power(2, x, W)))):
        found = audit(fun, X)
        assert found.verdict == "inconclusive"
        assert found.rules == ()
        assert found.reason == "no custom rule here; pass the loss, not its gradient or a training step"


def test_a_function_that_raises():
    def boom(x):
        raise KeyError("no such thing")

    with pytest.raises(ValueError, match="boom itself raises KeyError: 'no such thing'"):
        audit(boom, X)


def test_leaves_that_are_no_arrays_are_static():
    config = {"kind": "sine", "apply": sound, "axis": 0, "w": W}

    def fun(config, x):
        assert config["kind"] == "sine"
        return jnp.sum(config["apply"](x, config["w"]), axis=config["axis"])

    assert audit(fun, config, X).ok


def test_equal_rules_are_checked_once_and_different_ones_each(monkeypatch):
    calls = []
    module = importlib.import_module("jaxbp.check.audit")
    real = module.check_vjp
    monkeypatch.setattr(module, "check_vjp", lambda *args, **options: calls.append(options["name"]) or real(*args, **options))

    def fun(x, w):
        for _ in range(9):
            x = sound(x, w)
        return sound(jnp.sum(x), jnp.sum(w)) + jnp.sum(RULES[0](x, w))

    found = audit(fun, X, W)
    assert found.ok
    assert len(found.rules) == 11
    assert calls.count("sound") == 3  # first and last of nine, and one at another shape
    assert calls.count("layer_0") == 1
    assert "the same rule at the same shapes" in found.rules[3].reason


def test_a_rule_that_closes_over_traced_values_is_compared_in_place():
    def fun(w, x, sign):
        @jax.custom_vjp
        def scaled(y):
            return y * w

        scaled.defvjp(lambda y: (scaled(y), None), lambda _, bar: (sign * bar * w,))
        return jnp.sum(scaled(x) ** 2)

    right = audit(fun, W, X, 1, argnums=1)
    assert right.ok
    assert "cannot run apart" in right.rules[0].reason
    wrong = audit(fun, W, X, -1, argnums=1)
    assert wrong.verdict == "fail"
    assert wrong.rules[0].verdict == "fail"
    closed = audit(fun, W, X, 1)  # w itself is differentiated, which JAX refuses
    assert closed.verdict == "inconclusive"
    assert "argnums" in closed.rules[0].reason


@jax.custom_vjp
def to_target(x, target):
    return jnp.sum((x - target) ** 2)


to_target.defvjp(lambda x, t: (to_target(x, t), (x, t)), lambda r, bar: (2 * bar * (r[0] - r[1]), jnp.zeros_like(r[1])))


def test_a_zero_cotangent_of_a_constant_is_no_mistake():
    target = jnp.array([1.0, 0.0, 2.0], jnp.float32)
    found = audit(lambda x: to_target(jnp.sin(x), 2 * target), X)
    assert found.ok
    assert "nothing here differentiates it" in found.rules[0].reason
    assert audit(to_target, X, target).verdict == "fail"
    assert audit(to_target, X, target, argnums=0).ok
    assert active_operands(to_target, (X, target), 0) == [{0}]
    assert active_operands(to_target, (X, target)) == [{0, 1}]


def test_a_wrong_cotangent_of_a_constant_is_a_mistake():
    assert audit(lambda x: broken(x, W), X).verdict == "fail"


def test_where_float64_cannot_be_traced_the_given_dtype_is_used_and_said():
    def stubborn(x):
        if x.dtype != jnp.float32:
            raise TypeError("float32 only")
        return jnp.sum(sound(x, x))

    (rule,) = find_rules(stubborn, X)
    assert rule.wide is None
    assert "in the given dtype" in rule.note
    assert "TypeError" in rule.note
    found = audit(stubborn, X)
    assert found.verdict != "fail"
    assert "in the given dtype" in found.rules[0].reason
    half = audit(lambda x: jnp.sum(sound(x.astype(jnp.float32), x.astype(jnp.float32))), X)
    assert half.verdict != "fail"


def test_rules_inside_equations_that_are_not_entered_are_named():
    def fun(b):
        return jax.scipy.sparse.linalg.cg(lambda x: 2 * x + 0.1 * sound(x, jnp.ones_like(x)), b, maxiter=2)[0]

    known = hidden_rules(fun, X)
    assert known
    assert {rule["name"] for rule in known} == {"sound"}
    found = audit(lambda b: fun(b) + sound(b, b), X)
    assert found.verdict == "inconclusive"
    assert "custom_linear_solve" in found.reason


@pytest.mark.parametrize(
    ("fun", "args"),
    {
        "hoisted constants": (jax.scipy.special.dawsn, (X,)),
        "hoisted constants, two outputs": (jax.scipy.special.fresnel, (X,)),
        "no reverse mode of the primal": (jax.scipy.special.exp1, (jnp.abs(X),)),
        "primal whose autodiff is not the truth": (jnp.frexp, (X,)),
        "constants that vmap makes operands": (jax.vmap(lambda x: jax.scipy.special.fresnel(x)[0]), (X[:2],)),
        "nothing wrong at all": (jax.nn.relu, (X,)),
        "two arguments": (jnp.logaddexp, (X, W)),
        "integer argument": (lambda n, x: jax.scipy.special.expn(n, x), (jnp.array(2), jnp.abs(X))),
    }.values(),
)
def test_rules_that_jax_ships(fun, args):
    found = audit(fun, *args)
    assert found.rules
    assert found.verdict != "fail", str(found)


COEFFICIENTS = np.array([0.1, 0.2, 0.3])


@jax.custom_jvp
def polynomial(x):
    powers = jnp.stack([jnp.ones_like(x), x, x * x], axis=1)
    return jnp.sum(powers * jnp.expand_dims(COEFFICIENTS, 0), axis=1)


polynomial.defjvp(lambda primals, tangents: (polynomial(*primals), tangents[0] * (0.2 + 0.6 * primals[0])))


def test_constants_that_jax_holds_in_float32():
    with jax.enable_x64(False):
        alive = jax.make_jaxpr(polynomial)(X)  # for as long as it lives, JAX takes the constants for float32, in float64 too
        found = audit(polynomial, X)
        assert found.verdict != "fail", str(found)
        assert alive.consts


def test_random_keys_reach_a_rule():
    @jax.custom_vjp
    def noisy(x, key):
        return x * jax.random.uniform(key, x.shape, x.dtype)

    noisy.defvjp(
        lambda x, key: (noisy(x, key), (x, key)),
        lambda r, bar: (bar * jax.random.uniform(r[1], r[0].shape, r[0].dtype), None),
    )
    (rule,) = find_rules(noisy, X, jax.random.key(3))
    assert rule.arguments()[1] == jax.random.key(3)


def test_nothing_global_changes():
    with jax.enable_x64(False):
        assert audit(lambda x: jnp.sum(sound(x, x)), X).ok
        assert not jax.config.jax_enable_x64
        with pytest.raises(ValueError, match="itself raises"):
            audit(lambda x: jnp.reshape(x, (7,)), X)
        assert not jax.config.jax_enable_x64
