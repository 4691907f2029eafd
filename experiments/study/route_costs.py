"""What each way to a gradient costs: time and compile time against the number of parameters, and loops over examples."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from experiments.config import Routes
from jaxbp import routes


SIZES = {10: [2, 2, 2], 100: [8, 8, 4], 1_000: [32, 24, 10], 10_000: [64, 128, 12]}  # parameters: sizes of the layers
SIZES |= {100_000: [784, 126, 10], 1_000_000: [784, 1000, 210], 10_000_000: [3072, 2800, 490]}
PATHS = 200_000  # of a time measurement: the products are formed on the host


def problem(options: Routes, sizes: list[int], rows: int | None = None) -> tuple[routes.NetObjective, Any, Any, Any]:
    """(objective, params, x, labels): a tanh net drawn from the seed, in the precision of the moment."""
    rng, dtype = np.random.default_rng(options.seed), jnp.result_type(float)
    net = jaxbp.mlp(sizes, hidden=jaxbp.tanh())
    make = jax.jit(lambda key: net.init(key, jax.ShapeDtypeStruct(sizes[:1], dtype))[0])
    params = jax.tree.map(lambda p: p.astype(dtype), make(jax.random.key(options.seed)))
    n = rows or options.batch_size
    x, labels = rng.normal(size=(n, sizes[0])), rng.integers(0, sizes[-1], n)
    return routes.of_net(net, jaxbp.losses.softmax_cross_entropy()), params, jnp.asarray(x, dtype), jnp.asarray(labels, jnp.int32)


# --- against the number of parameters


class Cost(NamedTuple):
    """Of one gradient: seconds to compile and to run it, None where it was not; why_not says why."""

    by: str
    parameters: int
    passes: int | None
    seconds_compile: float | None
    seconds: float | None
    why_not: str = ""


def cost(options: Routes) -> list[Cost]:
    found: list[Cost] = []
    for sizes in [sizes for target, sizes in SIZES.items() if target <= options.parameters]:
        fun, params, *data = problem(options, sizes)
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        for by in routes.WAYS:
            found.append(_cost(options, by, count, fun, (params, *data), [c for c in found if c.by == by]))
    return found


def _cost(options: Routes, by: str, count: int, fun: Callable, data: tuple, before: list[Cost]) -> Cost:
    last = next((c for c in reversed(before) if c.seconds is not None), None)
    if last is not None and last.seconds is not None:
        # as many passes as parameters, each as long as they are many; of a small net the most is what every call costs
        growth = 1.0 if by in ("manual", "autodiff", "per-example") else 1.5 if last.parameters < 5_000 else 2.0
        expected = last.seconds * (count / last.parameters) ** growth
        if expected > options.seconds or len(before) > before.index(last) + 1:
            return Cost(by, count, None, None, None, f"would take about {told(expected)}")
    try:
        return _measured(by, count, fun, data)
    except ValueError as error:
        return Cost(by, count, None, None, None, str(error).split(": ", 1)[1].split(" lead")[0])


def _measured(by: str, count: int, fun: Callable, data: tuple) -> Cost:
    go = routes.gradient(fun, by, **({"most": PATHS} if by == "paths" else {}))
    begun = time.perf_counter()
    program = go if by == "paths" else jax.jit(go).lower(*data).compile()
    seconds_compile = time.perf_counter() - begun
    passes = jax.block_until_ready(program(*data)).passes
    seconds, begun = [], time.perf_counter()
    while len(seconds) < 3 or (time.perf_counter() - begun < 0.1 and len(seconds) < 50):
        start = time.perf_counter()
        jax.block_until_ready(program(*data).grads)
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > 0.5:
            break
    total = passes.forwards + passes.jvps + passes.vjps
    return Cost(by, count, passes.paths or total, None if by == "paths" else seconds_compile, float(np.min(seconds)))


def told(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.1f} s"


# --- the per-example loop


def loop_ratios(options: Routes) -> dict[str, Any]:
    """[784, 30, 10], mini-batches of 10 and more: the matrix form against loops over the examples, in paired runs."""
    found = {}
    for rows in sorted({10, 100, options.batch_size}):
        fun, *data = problem(options, [784, 30, 10], rows)
        one = jax.jit(routes.gradient(fun, "manual"))
        forms = {
            "matrices": one,
            "compiled loop": jax.jit(routes.gradient(fun, "per-example")),
            "Python loop": lambda params, x, y, one=one: _python_loop(one, params, x, y),
        }
        results = {name: jax.block_until_ready(form(*data)) for name, form in forms.items()}
        apart = max(_apart(results["matrices"].grads, other.grads) for other in results.values())
        found[str(rows)] = {"apart": apart, **_paired(forms, data)}
    return found


def _python_loop(one: Callable, params: Any, x: Any, y: Any) -> Any:
    """As the texts write it: a gradient for each example, added up."""
    found = [one(params, x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    grads = jax.tree.map(lambda *gs: sum(gs) / len(x), *[f.grads for f in found])
    return found[0]._replace(grads=grads)


def _paired(forms: dict[str, Callable], data: list, pairs: int = 9) -> dict[str, Any]:
    """Seconds of the matrix form, and the medians of the others' ratios to it, alternated."""
    ratios: dict[str, list[float]] = {name: [] for name in forms}
    base = []
    for _ in range(pairs):
        base.append(_seconds(forms["matrices"], data, 20))
        for name, form in forms.items():
            repeats = 2 if name == "Python loop" else 10
            ratios[name].append(_seconds(form, data, repeats) / base[-1])
    return {"seconds": float(np.median(base)), "ratios": {name: float(np.median(r)) for name, r in ratios.items()}}


def _seconds(form: Callable, data: list, repeats: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready([form(*data).grads for _ in range(repeats)])
    return (time.perf_counter() - start) / repeats


def _apart(a: Any, b: Any) -> float:
    return max(
        float(jnp.max(jnp.abs(x - y)) / jnp.max(jnp.abs(x))) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
