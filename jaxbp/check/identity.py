"""Which calls of a custom rule are calls of the same rule, and whether it can run apart from its program."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxbp import jaxprs
from jaxbp.check.problem import is_float, is_key
from jaxbp.check.rules import Rule


LEAKS = (jax.errors.UnexpectedTracerError, NameError)  # a closed-over tracer; an axis name outside its mesh


def fingerprint(rule: Rule) -> Any:
    """What two calls of one rule at equal shapes share and different rules do not: the traced derivative and its constants.

    ("tied", ...) where the rule cannot run apart, ("alone", ...) where it cannot be traced for another reason.
    """
    try:
        program = jaxprs.trace(lambda *values: _derivative(rule, values), *rule.arguments()).program
    except LEAKS:
        return ("tied", id(rule))
    except Exception:  # inside a mesh it may need what is around it; elsewhere the check will say what is wrong with it
        return ("alone" if rule.shards is None else "tied", id(rule))
    if any(isinstance(constant, Tracer) for constant in _constants(program)):
        return ("tied", id(rule))
    primal = rule.eqn.params[jaxprs.INLINED[rule.eqn.primitive.name]]
    digest = hashlib.sha256("\n".join([rule.name, rule.defined_at, str(program), str(primal)]).encode())
    for constant in (*_constants(program), *(rule.calls[0][i] for i in range(rule.eqn.params.get("num_consts", 0)))):
        digest.update(np.asarray(constant).tobytes())
    return digest.hexdigest()


def _derivative(rule: Rule, values: Sequence) -> Any:
    floats = [i for i, value in enumerate(values) if is_float(value)]

    def of_floats(*xs: Any) -> list:
        merged = list(values)
        for i, x in zip(floats, xs, strict=True):
            merged[i] = x
        return [out for out in rule.as_function()(*merged) if is_float(out)]

    at = tuple(jnp.asarray(values[i]) for i in floats)
    if rule.kind == "custom_jvp":
        return jax.jvp(of_floats, at, at)
    outs, vjp = jax.vjp(of_floats, *at)
    return outs, vjp(outs)


def _constants(program: Any) -> list:
    """All arrays that a program holds, at whatever depth."""
    inner = [inside for eqn, _ in jaxprs.equations(program) for _, inside in jaxprs.programs(eqn)]
    held = [c for p in (program, *inner) for c in p.consts]
    literals = [getattr(atom, "val", None) for eqn, _ in jaxprs.equations(program) for atom in eqn.invars]
    return [c for c in (*held, *literals) if c is not None and not is_key(c)]


def transposes(rule: Rule) -> bool:
    """Whether a forward rule can be used in reverse mode."""
    try:
        jaxprs.trace(lambda *values: _derivative(dataclasses.replace(rule, kind="custom_vjp"), values), *rule.arguments())
    except Exception:
        return False
    return True
