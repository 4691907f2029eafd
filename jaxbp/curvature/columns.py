"""Output cotangents by columns, and the factors that a net's backward pass makes of them.

A curvature matrix of the objective C = 1/W sum_b w_b C_b is a sum of squares,

    1/W sum_b sum_c g_bc g_bc^T,    g_bc = J_b^T s_bc,    W = sum_b w_b (1 where the objective is a sum),

J_b the Jacobian of the outputs of example b in the parameters. What the columns s_bc are says which matrix it is:

    ggn                 S_b e_k for every output k of the example, S_b S_b^T the Hessian of w_b C_b in the outputs
    ggn, samples        S_b u for signs u, as many as there are samples: the same in the mean
    fisher, samples     sqrt(w_b) dC_b/doutputs at targets drawn from the net's own predictive distribution, likewise
    empirical fisher    sqrt(w_b) dC_b/doutputs at the targets there are: one column

For a loss with a time axis weights and draws are those of every step, w_bt. One forward pass serves all columns; they go
through the backward pass one after another (all at once, under `vmap`, takes twice the time on CPU, where they leave the
cache, and the memory of all), and what a reducer keeps of them is summed as they come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import inputs, jaxprs, tree
from jaxbp.contracts import Layer, Loss
from jaxbp.curvature.roots import root_of
from jaxbp.curvature.sampling import sampler
from jaxbp.factors import Statistic, at_least_float32, is_factor
from jaxbp.per_example import passing, reducing


DRAWS = 2**31 - 5  # what the key is folded with for draws of targets and signs; `split` numbers the net's own from 0


class Options(NamedTuple):
    """What a door was asked for, checked. samples: None for all columns, as many as there are."""

    of: str  # ggn, fisher, empirical_fisher
    samples: int | None
    reduction: str


def options_of(name: str, net: Any, loss: Any, of: str, samples: Any, reduction: str) -> Options:
    """Raise unless the configuration of a door makes sense."""
    passing.require(name, net, loss)
    if of not in ("ggn", "fisher", "empirical_fisher"):
        raise ValueError(f"{name}: of is 'ggn', 'fisher' or 'empirical_fisher', got {of!r}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{name}: reduction is 'mean' or 'sum', got {reduction!r}")
    if samples is not None:
        inputs.require_positive(name, "samples", samples)
    if of == "fisher":
        sampler(loss)
        if samples is None:
            raise ValueError(f"{name}: the Fisher matrix is estimated from drawn targets: pass samples=1 or more")
    if of == "empirical_fisher" and samples is not None:
        raise ValueError(f"{name}: the empirical Fisher matrix draws nothing: leave out samples")
    return Options(of, samples, reduction)


class Passes(NamedTuple):
    """backward: outputs_bar -> factors; seed: entry -> outputs_bar of a column; entries: the index of each column, or its key.

    divisor: of the sum of squares. weights: (batch, *time) that sum to 1, None where all are alike.
    """

    backward: Callable
    seed: Callable
    entries: jax.Array
    divisor: Any
    weights: jax.Array | None


def forward(net: Layer, loss: Loss, params: Any, x: Any, targets: Any, options: dict, asked: Options) -> Passes:
    """The forward pass, and what makes the columns of it."""
    key, train = options.get("key"), options.get("train", True)
    if asked.samples is not None:
        if key is None:
            raise ValueError("curvature: samples are drawn: pass key=")
        inputs.require_key("curvature", key)
    spec = passing.check(net, loss, params, x, targets, key=key, train=train)
    weights = None
    if options.get("sample_weight") is not None:
        weights = passing.weights_of(options["sample_weight"], spec)
        _require_not_negative(weights)
        x, targets = passing.without_padding(weights, (x, targets))
    outputs, residuals = net.forward(params, x, train=train, key=key)
    whole = math.prod(spec.shape) if weights is None else jnp.sum(weights)
    whole = jnp.where(whole == 0, 1, whole)
    seed, entries, share = _columns(loss, outputs, targets, weights, key, asked)
    return Passes(
        lambda seed: net.backward(params, residuals, seed)[0],
        seed,
        entries,
        (whole if asked.reduction == "mean" else 1) * (asked.samples or 1) * share**2,
        None if weights is None else weights / whole,
    )


def _require_not_negative(weights: jax.Array) -> None:
    if inputs.is_concrete(weights) and bool(jnp.any(weights < 0)):
        raise ValueError("sample_weight: a curvature that is a sum of squares needs weights of at least 0, got a negative one")


def _columns(loss: Loss, outputs: Any, targets: Any, weights: Any, key: Any, asked: Options) -> tuple[Callable, jax.Array, float]:
    """(seed, entries, share): the columns are share times those of this module's first page."""
    draws = None if asked.samples is None else jax.random.split(jax.random.fold_in(key, DRAWS), asked.samples)
    if asked.of == "ggn":
        root = root_of(loss, outputs, targets, weights)
        return (root.column, jnp.arange(root.columns), 1) if draws is None else (root.sample, draws, 1)
    if asked.of == "fisher":
        draw, score = sampler(loss)
        return (lambda key: _slopes(score, outputs, draw(key, outputs), weights, 1)), draws, 1  # type: ignore[return-value]
    share = 1.0
    if weights is None and asked.reduction == "mean" and not _is_narrow(outputs):
        # seeded as `value_and_grad` seeds its backward pass: in one program XLA makes one of the two
        share = 1 / math.prod(jax.eval_shape(loss.forward, outputs, targets)[0].shape)
    return (lambda _: _slopes(loss, outputs, targets, weights, share)), jnp.arange(1), share


def _is_narrow(outputs: Any) -> bool:
    """Whether a share of 1/n might be below the normal numbers of the outputs."""
    return any(leaf.dtype != at_least_float32(leaf) for leaf in jax.tree.leaves(outputs))


def _slopes(loss: Loss, outputs: Any, targets: Any, weights: Any, share: float) -> Any:
    """share sqrt(w_b) dC_b/doutputs."""
    found, residuals = loss.forward(outputs, targets)
    return loss.backward(residuals, jnp.full(found.shape, share, found.dtype) if weights is None else jnp.sqrt(weights))


# --- the factors of a column


class Column(NamedTuple):
    """The factor of the parameter at `path` for one column. varies: the same type with True at each array that differs between
    columns; the others, the inputs that a layer kept, are those of all."""

    path: str
    leaf: Any  # a Factor
    varies: Any

    def parts(self) -> list[Column]:
        """For a `Sum`: the columns of its parts."""
        return [Column(self.path, *pair) for pair in zip(self.leaf.parts, self.varies.parts, strict=True)]


def reduce(passes: Passes, gather: Callable, finish: Callable) -> Any:
    """finish(column, sum of gather(column) over all columns) for every parameter, a tree like params.

    gather: Column -> array. finish may read of its column what does not vary; the rest of it is 0. At population statistics,
    with which nothing moves, the sum is None.
    """
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(passes.seed, passes.entries[0]))
    varies = varying(passes.backward, zero)
    fixed = passes.backward(zero)
    reducing.leaves_of(fixed)

    def of_column(entry: Any) -> list:
        found = _columns_of(passes.backward(passes.seed(entry)), varies)
        return [None if isinstance(column.leaf, Statistic) else gather(column) for column in found]

    sums = _sum_over(of_column, passes.entries)
    found = [finish(*pair) for pair in zip(_columns_of(fixed, varies), sums, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(fixed, is_leaf=is_factor), found)


def _columns_of(factors: Any, varies: Any) -> list[Column]:
    found = jax.tree_util.tree_leaves_with_path(factors, is_leaf=is_factor)
    flags = jax.tree.leaves(varies, is_leaf=is_factor)
    return [Column(f"params{jax.tree_util.keystr(path)}", leaf, flag) for (path, leaf), flag in zip(found, flags, strict=True)]


def _sum_over(of_column: Callable, entries: jax.Array) -> list:
    if len(entries) == 1:
        return of_column(entries[0])
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(of_column, entries[0]))
    return lax.scan(lambda total, entry: (tree.add(total, of_column(entry)), None), zero, entries)[0]


def varying(fun: Callable, seed: Any) -> Any:
    """The tree of fun(seed) with True at every array that depends on `seed`, read from the program that JAX traces of it.

    An equation's outputs depend on the seed where an input does; a barrier hands each input through by itself.
    """
    traced = jaxprs.trace(fun, seed)
    program = traced.program.jaxpr
    depend = set(program.invars)
    for eqn in program.eqns:
        if eqn.primitive.name == "optimization_barrier":
            depend |= {out for var, out in zip(eqn.invars, eqn.outvars, strict=True) if _is_in(var, depend)}
        elif any(_is_in(var, depend) for var in eqn.invars):
            depend |= set(eqn.outvars)
    return jax.tree.unflatten(traced.out_tree, [_is_in(var, depend) for var in program.outvars])


def _is_in(var: Any, depend: set) -> bool:
    return not isinstance(var, jaxprs.Literal) and var in depend
