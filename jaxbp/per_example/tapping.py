"""The factors of a traced loss: zeros added to the products that reading.py found, and one backward pass."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import jaxprs
from jaxbp.factors import Each, Factor, Outer, Rows, Sum
from jaxbp.factors.outer import pairs_are_cheaper
from jaxbp.per_example.reading import Key, Reader, Seen, Use
from jaxbp.per_example.views import View, in_parts


def factors_in(program: Any, leaves: list, batch: list, seeds: jax.Array) -> tuple[jax.Array, list[Factor]]:
    """(losses, the factor of every leaf): one forward and one backward pass, mapped over the batch."""
    reader = Reader()
    views = [Seen(i, (), jnp.shape(leaf)) for i, leaf in enumerate(leaves)]
    reader.refuse(reader.read(program, [*views, *[None] * len(batch)]))
    uses = {key: use for key, use in reader.uses.items() if use.leaf not in reader.refused}
    zeros = {key: jnp.zeros((*use.lengths, *use.out.shape), use.out.dtype) for key, use in uses.items()}
    zeros = dict(enumerate(zeros.values()))
    numbers = {key: i for i, key in enumerate(uses)}
    alone = sorted(reader.refused)

    def weighted_loss(zeros: dict, each: list, example: list, seed: jax.Array) -> tuple:
        args = list(leaves)
        for i, leaf in zip(alone, each, strict=True):
            args[i] = leaf
        visitor = Tapped(uses, numbers, zeros)
        ((loss,), _) = visitor.run(program, [*args, *example])
        return seed.astype(loss.dtype) * loss, (loss, visitor.kept)

    grad = jax.grad(weighted_loss, argnums=(0, 1), has_aux=True)
    (bars, each), (losses, kept) = jax.vmap(grad, (None, None, 0, 0))(zeros, [leaves[i] for i in alone], batch, seeds)
    made = [(use, use.make(kept[i], bars[i])) for i, use in enumerate(uses.values())]
    factors = [_of_leaf(leaf, [(f, use) for use, f in made if use.leaf == i], len(seeds)) for i, leaf in enumerate(leaves)]
    for i, bar in zip(alone, each, strict=True):
        factors[i] = Each(bar, bar.ndim - 1)
    return losses, factors


class Tapped(jaxprs.Visitor):
    """Runs a program with `taps` added to the results of the uses; `kept` is what the parameters met there."""

    def __init__(self, uses: dict[Key, Use], numbers: dict[Key, int], taps: dict[int, jax.Array]) -> None:
        self.uses, self.numbers, self.taps = uses, numbers, taps
        self.kept: dict[int, jax.Array] = {}

    def equation(self, eqn: Any, args: list, state: Any, path: Any) -> tuple[list, Any]:
        key = (*path, id(eqn))
        if key in self.uses:
            i = self.numbers[key]
            self.kept[i] = args[self.uses[key].data]
            (out,) = jaxprs.bind(eqn, args)
            return [out + self.taps[i]], state
        inside = [i for other, i in self.numbers.items() if other[: len(key)] == key]
        if not inside:  # as JAX runs it, custom rules and all
            return jaxprs.bind(eqn, args), state
        ((_, inner),) = jaxprs.programs(eqn)
        if eqn.primitive.name == "scan":
            return self._scan(eqn, inner, args, key, inside), state
        return self.run(inner, args, state, key)  # type: ignore[arg-type]

    def _scan(self, eqn: Any, body: Any, args: list, key: Key, inside: list[int]) -> list:
        """The loop with its taps among what it reads and what was met among what it writes."""
        n, m = eqn.params["num_consts"], eqn.params["num_carry"]
        consts, carry, xs = args[:n], args[n : n + m], args[n + m :]

        def step(carry: list, x: tuple) -> tuple:
            visitor = Tapped(self.uses, self.numbers, x[0])
            outs, _ = visitor.run(body, [*consts, *carry, *x[1]], (), key)  # type: ignore[arg-type]
            return outs[:m], (outs[m:], visitor.kept)

        options = {name: eqn.params[name] for name in ("length", "reverse", "unroll") if name in eqn.params}
        carry, (ys, kept) = lax.scan(step, carry, ({i: self.taps[i] for i in inside}, xs), **options)
        self.kept |= kept
        return [*carry, *ys]


def _of_leaf(leaf: Any, uses: list[tuple[Factor, Use]], batch: int) -> Factor:
    """One factor from those of a leaf's uses: uses of one view are put in a row, views that overlap are summed per example."""
    shape = jnp.shape(leaf)
    groups: dict[Any, list[Factor]] = {}
    for made, use in uses:
        groups.setdefault(use.steps, []).append(made)
    views = [(_of_view(parts), steps) for steps, parts in groups.items()]
    if not views:
        return _nothing(leaf, batch)
    factor = in_parts(views, shape)
    if factor is not None:
        return factor
    return Each(sum(View(seen, shape, steps).examples() for seen, steps in views), len(shape))  # type: ignore[arg-type]


def _nothing(leaf: Any, batch: int) -> Factor:
    """The factor of a parameter that is not used: zeros, of which one entry is kept."""
    if leaf.size == 0:
        return Each(jnp.zeros((batch, *leaf.shape), leaf.dtype), leaf.ndim)
    steps = (("reshape", (leaf.size,)), ("slice", (0,), (1,), (1,)))
    return View(Each(jnp.zeros((batch, 1), leaf.dtype)), leaf.shape, steps)


def _of_view(uses: list[Factor]) -> Factor:
    """One factor of several uses of the same view; formed per example where that takes fewer multiplications."""
    outers = [f for f in uses if isinstance(f, Outer)]
    rows = [f for f in uses if isinstance(f, Rows)]
    parts = [f for f in uses if not isinstance(f, (Outer, Rows))]
    timed = lambda a: a.reshape(len(a), -1, a.shape[-1])
    steps = 0
    if outers:
        x, y_bar = (_in_a_row([timed(a) for a in fields]) for fields in zip(*((f.x, f.y_bar) for f in outers), strict=True))
        steps += x.shape[1]
        parts.append(Outer(x, y_bar) if x.shape[1] > 1 else Outer(x[:, 0], y_bar[:, 0]))
    if rows:
        indices, values = (_in_a_row([*fields]) for fields in zip(*((f.indices, f.rows) for f in rows), strict=True))
        steps += indices.shape[1]
        parts.append(Rows(indices, values, rows[0].size))
    factor = parts[0] if len(parts) == 1 else Sum(tuple(parts))
    if outers and not pairs_are_cheaper(steps, outers[0].x.shape[-1], outers[0].y_bar.shape[-1]):
        return Each(factor.examples(), 2)
    return factor


def _in_a_row(arrays: list[jax.Array]) -> jax.Array:
    return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis=1)
