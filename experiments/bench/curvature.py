"""Curvature against one gradient, and against the usual JAX idioms for it.

    python -m experiments.bench.curvature                    # everything
    python -m experiments.bench.curvature --only diagonals   # diagonals, kfac, products

All programs are compiled; ours and its reference run in turn and each pair gives one ratio, as `bench/paired.py` has it. The
net is [784, 512, 512, 10] with softmax cross-entropy, the reference of diagonals and K-FAC one `jax.value_and_grad`, that of
products JAX's own: `jax.jvp` of `jax.grad`, and `jax.jvp` with `jax.vjp` around the loss's Hessian. Lines marked "with the
gradient" compute `value_and_grad` in the same program. Baselines have no goal: the square of `vmap(grad)`, and the same class by
class for the exact diagonal (`vmap` of `jax.vjp`), at the batch where their memory fits.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxbp as bp
from experiments.bench.paired import Line, compare, compiled, run
from experiments.bench.per_example import LOSS, NET, SIZES, data
from jaxbp import curvature


CLASSES = SIZES[-1]
KEY = jax.random.key(3)


def start(batch: int) -> tuple:
    """(params, x, labels) and a compiled `jax.value_and_grad` of them."""
    params, _ = NET.init(jax.random.key(0), (SIZES[0],))
    args = (params, *data(batch))
    return args, compiled(jax.value_and_grad(bp.objective(NET, LOSS)), *args)


def keyed(door: Callable) -> Callable:
    return functools.partial(door, key=KEY)


def with_gradient(door: Callable) -> Callable:
    gradient = bp.value_and_grad(NET, LOSS)
    return lambda *args: (gradient(*args), door(*args))


def lines_of(batch: int, doors: list[tuple[str, Callable, float]], pairs: int) -> list[Line]:
    args, reference = start(batch)
    return [
        compare(f"batch {batch}: {name}", compiled(door, *args), args, reference, args, pairs, wanted)
        for name, door, wanted in doors
    ]


# --- diagonals


def loss_of_one(params: Any, x: jax.Array, label: jax.Array) -> jax.Array:
    return -jax.nn.log_softmax(outputs_of_one(params, x))[label]


def outputs_of_one(params: Any, x: jax.Array) -> jax.Array:
    return NET.forward(params, x[None])[0][0]


def squared_vmap_grad(params: Any, x: jax.Array, labels: jax.Array) -> Any:
    """The usual empirical Fisher diagonal."""
    grads = jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(params, x, labels)
    return jax.tree.map(lambda g: jnp.mean(g**2, axis=0), grads)


def squared_vmap_vjp(params: Any, x: jax.Array, labels: jax.Array) -> Any:
    """The usual exact GGN diagonal: class by class the Jacobian of every example times a column of its softmax's root."""

    def one(x: jax.Array, k: jax.Array) -> Any:
        z, vjp = jax.vjp(lambda params: outputs_of_one(params, x), params)
        p = jax.nn.softmax(z)
        return vjp(jnp.sqrt(p[k]) * (jax.nn.one_hot(k, CLASSES) - p))[0]

    def add(total: Any, k: jax.Array) -> tuple:
        columns = jax.vmap(one, (0, None))(x, k)
        return jax.tree.map(lambda t, g: t + jnp.mean(g**2, axis=0), total, columns), None

    return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), jnp.arange(CLASSES))[0]


def diagonals(pairs: int) -> list[Line]:
    exact, sampled = curvature.ggn_diagonal(NET, LOSS), keyed(curvature.ggn_diagonal(NET, LOSS, samples=1))
    fisher, empirical = keyed(curvature.fisher_diagonal(NET, LOSS)), curvature.empirical_fisher_diagonal(NET, LOSS)
    goal = 1 + 0.4 * CLASSES
    doors = [
        ("exact GGN diagonal", exact, goal),
        ("exact GGN diagonal with the gradient", with_gradient(exact), goal),
        ("Monte-Carlo GGN diagonal", sampled, 1.8),
        ("Monte-Carlo GGN diagonal with the gradient", with_gradient(sampled), 1.8),
        ("Monte-Carlo Fisher diagonal", fisher, 1.8),
        ("empirical Fisher diagonal", empirical, 1.6),
        ("second moment with the gradient", bp.per_example.second_moment(NET, LOSS), 1.6),
    ]
    lines = lines_of(128, doors, pairs) + lines_of(1024, doors, pairs)
    args, reference = start(128)
    for name, idiom, ours in (
        ("vmap(grad) squared", squared_vmap_grad, empirical),
        ("vmap(vjp) squared, class by class", squared_vmap_vjp, exact),
    ):
        program = compiled(idiom, *args)
        wrong = max(map(_error, jax.tree.leaves(program(*args)), jax.tree.leaves(jax.jit(ours)(*args))))
        assert wrong < 1e-4, f"{name}: {wrong:.1e} from ours"
        lines.append(compare(f"batch 128: {name}", program, args, reference, args, pairs, None))
    return lines


def _error(a: jax.Array, b: jax.Array) -> float:
    return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a)))


# --- K-FAC


def kfac(pairs: int) -> list[Line]:
    empirical = curvature.kfac(NET, LOSS, of="empirical_fisher")
    fisher = keyed(curvature.kfac(NET, LOSS, of="fisher", samples=1))
    doors = [
        ("K-FAC factors, empirical", empirical, 2.3),
        ("K-FAC factors, empirical, with the gradient", with_gradient(empirical), 2.3),
        ("K-FAC factors, one sample", fisher, 2.3),
        ("K-FAC factors, one sample, with the gradient", with_gradient(fisher), 2.3),
        ("K-FAC factors, exact", curvature.kfac(NET, LOSS), None),
    ]
    return lines_of(128, doors, pairs) + lines_of(1024, doors, pairs)  # type: ignore[arg-type]


# --- products


def jvp_of_grad(params: Any, v: Any, x: jax.Array, labels: jax.Array) -> Any:
    gradient = jax.grad(bp.objective(NET, LOSS))
    return jax.jvp(lambda params: gradient(params, x, labels), (params,), (v,))[1]


def jvp_and_vjp(params: Any, v: Any, x: jax.Array, labels: jax.Array) -> Any:
    """The Gauss-Newton product with JAX's transforms alone."""
    outputs = lambda params: NET.forward(params, x)[0]
    mean = lambda z: jnp.mean(LOSS.forward(z, labels)[0])
    z, vjp = jax.vjp(outputs, params)
    z_dot = jax.jvp(outputs, (params,), (v,))[1]
    return vjp(jax.jvp(jax.grad(mean), (z,), (z_dot,))[1])[0]


def products(pairs: int) -> list[Line]:
    lines = []
    for batch in (128, 1024):
        (params, x, labels), reference = start(batch)
        v = jax.tree.map(lambda p: jax.random.normal(KEY, p.shape), params)
        args = (params, v, x, labels)
        for name, door, idiom in (
            ("Hessian-vector product", curvature.hessian_vector_product(NET, LOSS), jvp_of_grad),
            ("GGN-vector product", curvature.ggn_vector_product(NET, LOSS), jvp_and_vjp),
        ):
            ours, theirs = compiled(door, *args), compiled(idiom, *args)
            wrong = max(map(_error, jax.tree.leaves(theirs(*args)), jax.tree.leaves(ours(*args))))
            assert wrong < 1e-4, f"{name}: {wrong:.1e} from JAX's"
            gradient = (params, x, labels)
            compare(f"batch {batch}: {name} / one gradient", ours, args, reference, gradient, pairs, None)
            lines.append(compare(f"batch {batch}: {name} / {idiom.__name__}", ours, args, theirs, args, pairs, 1.05))
    return lines


if __name__ == "__main__":
    sys.exit(run(__doc__, {"diagonals": diagonals, "kfac": kfac, "products": products}))
