"""`factors_of`: the factors of any per-example JAX loss, read from its program; and the reducers on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import inputs, jaxprs, tree
from jaxbp.factors import at_least_float32
from jaxbp.per_example import passing, reducing
from jaxbp.per_example.tapping import factors_in


def factors_of(loss_of_one: Callable) -> Callable:
    """l_b = loss_of_one(params, example_b) and the factors of g_b = dl_b/dparams, for any JAX model.

    loss_of_one(params, example) -> a floating scalar; params is a pytree of floating arrays, example any pytree: one row of the
    batch. Returns f(params, batch, *, sample_weight=None) -> (losses (batch,), factors), as `losses_and_factors`; all reducers
    take them. The program of one example is read: a parameter that meets data in a dot_general, a convolution or a gather has an
    Outer, Conv or Rows factor, also inside jit, remat and scan, and where it is transposed, reshaped, cut or cast before (a
    `View` of one); its cotangents come from zeros added to these products. A parameter used several times has one factor with
    all cross terms. Where a count of multiplications says that the gradients of the examples are cheaper formed than paired
    (many time steps, small weights), they are formed. A remat that holds such a product is opened: what it would recompute is
    kept. All other parameters (biases, gains, uses that are not understood) are differentiated per example.

    >>> import jax, jaxbp
    >>> loss_of_one = lambda w, example: jax.numpy.sum((example[0] @ w - example[1]) ** 2)
    >>> batch = jax.numpy.ones((4, 3)), jax.numpy.zeros((4, 2))
    >>> losses, factor = jaxbp.per_example.factors_of(loss_of_one)(jax.numpy.ones((3, 2)), batch)
    >>> type(factor).__name__, factor.sq_norms().shape
    ('Outer', (4,))

    Raises: ValueError for a loss that is no scalar or an empty batch, TypeError for params that are not floating arrays.
    """
    require_function("factors_of", loss_of_one)

    def f(params: Any, batch: Any, *, sample_weight: Any = None) -> tuple:
        return run(loss_of_one, params, batch, sample_weight)[:2]

    return f


def require_function(name: str, loss_of_one: Any) -> None:
    if not callable(loss_of_one):
        raise TypeError(f"{name}: takes loss_of_one(params, example) -> a scalar, got {loss_of_one!r}")


class Problem(NamedTuple):
    """A traced loss and what it is asked about; weights as in `passing.Pass`, seeds those of the gradients."""

    program: Any
    params: list
    structure: Any
    batch: list
    weights: jax.Array
    weight: jax.Array
    present: jax.Array
    seeds: jax.Array


def prepare(loss_of_one: Callable, params: Any, batch: Any, sample_weight: Any, *, mean: bool = False) -> Problem:
    """The checks, the program of one example, the seeds w or with mean=True w / sum w."""
    leaves, structure = _floating_leaves(params)
    n = inputs.batch_size(batch, "batch")
    program = _program_of_one(loss_of_one, params, batch)
    dtype = at_least_float32(program.out_avals[0].dtype)
    weights, weight, present = jnp.ones(n, dtype), jnp.asarray(n, dtype), jnp.asarray(n, dtype)
    if sample_weight is not None:
        weights = passing.weights_of(sample_weight, jax.ShapeDtypeStruct((n,), dtype))
        batch = passing.without_padding(weights, batch)
        weight, present = jnp.sum(weights), jnp.sum(weights != 0).astype(dtype)
        weight = jnp.where(weight == 0, 1, weight)
    seeds = weights / weight if mean else weights
    return Problem(program, leaves, structure, jax.tree.leaves(batch), weights, weight, present, seeds)


def run(loss_of_one: Callable, params: Any, batch: Any, sample_weight: Any = None) -> passing.Pass:
    """As `passing.run`: l_b and the factors of g_b."""
    p = prepare(loss_of_one, params, batch, sample_weight)
    losses, found = factors_in(p.program, p.params, p.batch, p.seeds)
    return passing.Pass(_weighted(p, losses), jax.tree.unflatten(p.structure, found), None, p.weight, p.present)


def _weighted(p: Problem, losses: jax.Array) -> jax.Array:
    return jnp.where(p.weights == 0, 0, p.weights * losses)


def _floating_leaves(params: Any) -> tuple[list, Any]:
    leaves, structure = jax.tree.flatten(params)
    for path, leaf in zip(tree.paths(params, "params"), leaves, strict=True):
        if not hasattr(leaf, "dtype") or not inputs.is_floating(leaf):
            raise TypeError(
                f"{path}: a floating array was expected, got {inputs.describe(leaf)}; keep what is not differentiated out of "
                "params (equinox.partition(model, equinox.is_inexact_array), nnx.split(model, nnx.Param, ...))"
            )
    if not leaves:
        raise ValueError("there are no trainable parameters, so there is no gradient of an example")
    return leaves, structure


def _program_of_one(loss_of_one: Callable, params: Any, batch: Any) -> Any:
    example = inputs.spec_of(batch)
    program = jaxprs.trace(loss_of_one, params, example).program
    outs = program.out_avals
    if len(outs) != 1 or outs[0].shape or not jnp.issubdtype(outs[0].dtype, jnp.floating):
        raise ValueError(
            "loss_of_one(params, example) has to return one floating scalar, the loss of one example; it returns "
            f"{', '.join(f'{aval.dtype}{list(aval.shape)}' for aval in outs) or 'nothing'} for an example "
            f"{jax.tree.map(inputs.describe, example)} without the batch axis"
        )
    return program


# --- the reducers


def norms_of(loss_of_one: Callable, *, chunk: int | None = None) -> Callable:
    """l_b, (sum_b g_b) / sum w and |g_b| of any JAX model in one pass, at about the price of one gradient.

    loss_of_one as in `factors_of`. Returns f(params, batch, *, sample_weight=None) -> (losses (batch,), grads, norms (batch,)).
    With `chunk` so many examples are passed at a time: less memory, and where one chunk fits the cache, less time.
    """
    require_function("norms_of", loss_of_one)
    _require_chunk("norms_of", chunk)

    def f(params: Any, batch: Any, *, sample_weight: Any = None) -> tuple:
        p = prepare(loss_of_one, params, batch, sample_weight, mean=True)
        sums = lambda factors, _, dtype: reducing.total(params, factors, dtype)
        losses, grads, norms = _pass(p, sums, chunk)
        return losses, grads, jnp.abs(p.weight) * norms

    return f


def clipped_sum_of(loss_of_one: Callable, clip_norm: Any, *, chunk: int | None = None) -> Callable:
    """sum_b min(1, C / |g_b|) g_b of any JAX model. Returns f(params, batch, *, sample_weight=None) -> (losses, sum, norms).

    `chunk` as in `norms_of`.

    Raises: ValueError for a clip norm that is not positive.
    """
    require_function("clipped_sum_of", loss_of_one)
    reducing.require_clip_norm("clipped_sum_of", clip_norm)
    _require_chunk("clipped_sum_of", chunk)

    def f(params: Any, batch: Any, *, sample_weight: Any = None) -> tuple:
        p = prepare(loss_of_one, params, batch, sample_weight)
        coefficients = functools.partial(reducing.clip_coefficients, clip_norm=clip_norm)
        return _pass(
            p, lambda factors, norms, dtype: reducing.scaled_total(params, factors, coefficients(norms), dtype=dtype), chunk
        )

    return f


def _require_chunk(name: str, chunk: Any) -> None:
    if chunk is not None:
        inputs.require_positive(name, "chunk", chunk)


def _pass(p: Problem, sums: Callable, chunk: int | None) -> tuple:
    """(l_b, sums(factors, norms, dtype), norms), `chunk` examples at a time; sums over chunks are kept in at least float32."""
    size = len(p.seeds) if chunk is None else min(chunk, len(p.seeds))
    dtype = None if size == len(p.seeds) else at_least_float32(*[leaf.dtype for leaf in p.params])

    def piece(part: list, seeds: jax.Array) -> tuple:
        losses, found = factors_in(p.program, p.params, part, seeds)
        factors = jax.tree.unflatten(p.structure, found)
        norms = jnp.sqrt(reducing.sq_norms(factors))
        return losses, sums(factors, norms, dtype), norms

    losses, summed, norms = _in_chunks(piece, size, p.batch, p.seeds)
    params = jax.tree.unflatten(p.structure, p.params)
    return _weighted(p, losses), jax.tree.map(lambda s, param: s.astype(param.dtype), summed, params), norms


def _in_chunks(piece: Callable, size: int, batch: list, seeds: jax.Array) -> tuple:
    n = len(seeds) // size
    if n == 1 and len(seeds) == size:
        return piece(batch, seeds)
    front, rest = (
        jax.tree.map(lambda a, cut=cut: jnp.asarray(a)[cut], (batch, seeds)) for cut in (slice(n * size), slice(n * size, None))
    )
    parts = jax.tree.map(lambda a: a.reshape(n, size, *a.shape[1:]), front)

    def add(total: Any, part: tuple) -> tuple:
        losses, summed, norms = piece(*part)
        return tree.add(total, summed), (losses, norms)

    like = jax.eval_shape(piece, *jax.tree.map(lambda a: a[0], parts))[1]
    summed, found = lax.scan(add, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), like), parts)
    losses, norms = (a.ravel() for a in found)
    if len(seeds) % size:
        more, last, others = piece(*rest)
        losses, summed, norms = jnp.concatenate([losses, more]), tree.add(summed, last), jnp.concatenate([norms, others])
    return losses, summed, norms


def gram_of(loss_of_one: Callable) -> Callable:
    """<g_b, g_c> of any JAX model. Returns f(params, batch, *, others=None, sample_weight=None) -> (batch, batch').

    others: another batch, for <g_b, h_c>; its weights are 1.

    Raises: ValueError where the matrix would take more than half the memory of the device.
    """
    require_function("gram_of", loss_of_one)

    def f(params: Any, batch: Any, *, others: Any = None, sample_weight: Any = None) -> jax.Array:
        first, second = (inputs.batch_size(b, "batch") for b in (batch, batch if others is None else others))
        dtypes = [leaf.dtype for leaf in _floating_leaves(params)[0]]
        reducing.require_room("gram_of", first, second, at_least_float32(*dtypes))
        found = run(loss_of_one, params, batch, sample_weight).factors
        return reducing.gram(found, None if others is None else run(loss_of_one, params, others).factors)

    return f


def second_moment_of(loss_of_one: Callable) -> Callable:
    """(sum_b g_b^2) / n of any JAX model, n the examples of weight other than 0.

    Returns f(params, batch, *, sample_weight=None) -> (losses, mean, second moment), mean = (sum_b g_b) / n.
    """
    require_function("second_moment_of", loss_of_one)

    def f(params: Any, batch: Any, *, sample_weight: Any = None) -> tuple:
        done = run(loss_of_one, params, batch, sample_weight)
        return done.losses, reducing.mean(params, done), reducing.mean_square(done)

    return f
