"""Time of one sum of clipped gradients: ours, `vmap(grad)` and jax-privacy where it is installed, against one gradient."""

from __future__ import annotations

import functools
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxbp as bp
from experiments.uses import shared
from jaxbp import per_example


OURS, VMAP, PRIVACY = "jaxbp clipped_sum", "vmap(grad)", "jax-privacy"
HIDDEN = (256, 256)
SLOW = 0.1  # seconds: such a way is far off and needs no third digit
MICROBATCHES = (8, 32)  # of jax-privacy, besides the whole batch at once


class Timed(NamedTuple):
    """One way: its seconds, and those of one gradient in the same rounds; temporary bytes; how far from ours."""

    name: str
    seconds: list[float]
    gradient: list[float]
    memory: int
    apart: float | None

    @property
    def ratio(self) -> float:
        return statistics.median(a / b for a, b in zip(self.seconds, self.gradient, strict=True))


def measure(data: shared.Data, batch: int, clip_norm: float, pairs: int, seed: int) -> list[Timed]:
    """Every way in turn with one gradient, `pairs` times; each round gives one ratio."""
    net = bp.mlp([data.train.images.shape[1], *HIDDEN, shared.CLASSES], hidden=bp.relu())
    args = (shared.start(net, data.train, seed), jnp.asarray(data.train.images[:batch]), jnp.asarray(data.train.labels[:batch]))
    gradient = compiled(bp.value_and_grad(net, shared.LOSS), args)
    ours = compiled(lambda *args: per_example.clipped_sum(net, shared.LOSS, clip_norm)(*args)[1], args)
    wanted = ours(*args)
    found = [timed("one gradient", gradient, (gradient, args), args, pairs)]
    found.append(timed(OURS, ours, (gradient, args), args, pairs))
    for name, (program, laid) in others(net, clip_norm, args).items():
        sums = program(*laid)
        sums = turned(sums) if laid is not args else sums
        found.append(timed(name, program, (gradient, args), laid, pairs)._replace(apart=apart(sums, wanted)))
    return found


def others(net: bp.Layer, clip_norm: float, args: tuple) -> dict[str, tuple[Any, tuple]]:
    """name -> (program, its arguments): `vmap(grad)` and, where it is installed, jax-privacy; the weights stored either way."""
    laid = (turned(args[0]), *args[1:])
    plain, other = functools.partial(_loss_of_one, net), functools.partial(_loss_of_turned, net)
    ways = {
        VMAP: (compiled(functools.partial(by_vmap, plain, clip_norm), args), args),
        f"{VMAP}, transposed": (compiled(functools.partial(by_vmap, other, clip_norm), laid), laid),
    }
    try:
        from jax_privacy import clipping  # pyright: ignore[reportMissingImports]
    except ImportError:
        return ways
    how: dict[str, Any] = {"l2_clip_norm": clip_norm, "batch_argnums": (1, 2), "keep_batch_dim": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what it calls in optax is its own affair
        ways[PRIVACY] = (compiled(clipping.clipped_grad(plain, **how), args), args)
        ways[f"{PRIVACY}, transposed"] = (compiled(clipping.clipped_grad(other, **how), laid), laid)
        for size in (size for size in MICROBATCHES if size < len(args[1]) and len(args[1]) % size == 0):
            clipped = clipping.clipped_grad(other, microbatch_size=size, **how)
            ways[f"{PRIVACY}, transposed, by {size}"] = (compiled(clipped, laid), laid)
    return ways


def turned(params: Any) -> Any:
    """Every matrix transposed."""
    return jax.tree.map(lambda leaf: leaf.T if leaf.ndim == 2 else leaf, params)


def _loss_of_one(net: bp.Layer, params: Any, x: jax.Array, label: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(net(params, x[None]), label[None])[0]


def _loss_of_turned(net: bp.Layer, params: Any, x: jax.Array, label: jax.Array) -> jax.Array:
    return _loss_of_one(net, turned(params), x, label)


def by_vmap(loss_of_one: Callable, clip_norm: float, params: Any, x: jax.Array, labels: jax.Array) -> Any:
    """What everyone writes."""
    grads = jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(params, x, labels)
    leaves, structure = jax.tree.flatten(grads)
    clipped, _ = optax.per_example_global_norm_clip(leaves, clip_norm)
    return jax.tree.unflatten(structure, clipped)  # type: ignore[arg-type]


def compiled(fun: Callable, args: tuple) -> Any:
    return jax.jit(fun).lower(*args).compile()


def timed(name: str, program: Any, reference: tuple[Any, tuple], args: tuple, pairs: int) -> Timed:
    seconds(program, args)
    seconds(*reference)
    ours, theirs = [], []
    for i in range(pairs if seconds(program, args) < SLOW else min(pairs, 3)):
        for times, one in ((ours, (program, args)), (theirs, reference))[:: 1 if i % 2 else -1]:  # which goes first alternates
            times.append(seconds(*one))
    return Timed(name, ours, theirs, program.memory_analysis().temp_size_in_bytes, None)


def seconds(program: Any, args: tuple) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(program(*args))
    return time.perf_counter() - begin


def apart(found: Any, wanted: Any) -> float:
    """|found − wanted| / |wanted| over all parameters."""
    square = lambda tree: sum(float(np.sum(np.square(leaf, dtype=np.float64))) for leaf in jax.tree.leaves(tree))
    gap = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), found, wanted)
    return (square(gap) / square(wanted)) ** 0.5


def quickest(times: list[Timed], name: str) -> Timed | None:
    """The way of this library that takes the least; None where it is not installed."""
    return min((t for t in times if t.name.startswith(name)), key=lambda t: t.ratio, default=None)
