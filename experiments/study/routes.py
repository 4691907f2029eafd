"""Routes: one gradient by every way that there is, what each takes, and how far each can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import published, runs, terminal
from experiments.config import Routes
from experiments.published import Number
from experiments.study.route_costs import Cost, cost, loop_ratios, problem
from experiments.study.routes_page import STEPS, cost_tables, loop_table, report, valley_table
from jaxbp import routes


EXACT = ("manual", "autodiff", "forward", "complex", "per-example", "paths")
BOOK = {10: [784, 30, 10], 300: [784, 30, 30, 10], 9000: [784, 30, 30, 30, 10]}


def run(options: Routes) -> int:
    with runs.opened("routes", options) as folder:
        agreement = {dtype: agree(options, dtype) for dtype in ("float32", "float64")}
        for dtype, found in agreement.items():
            terminal.section(f"Agreement in {dtype}", found)
        costs = cost(options)
        for table in cost_tables(costs):
            terminal.section("Cost", table)
        valley = {dtype: valleys(options, dtype) for dtype in ("float32", "float64")}
        terminal.section("The best step of differences", valley_table(valley))
        paths = book_paths()
        terminal.section("Paths", published.table(paths, title="Paths from a weight of the first layer to the cost"))
        loops = loop_ratios(options)
        terminal.section("A mini-batch as matrices", loop_table(loops))

        numbers = [*agreement_numbers(agreement["float64"]), *paths]
        folder.write_json("summary.json", summary(agreement, costs, valley, numbers, loops))
        folder.write("report.html", report(options, agreement, costs, valley, paths, loops))
        return terminal.close(folder, published.missed(numbers))


# --- agreement


def agree(options: Routes, dtype: str) -> routes.Routes:
    with jax.enable_x64(dtype == "float64"):
        fun, *data = problem(options, [4, 5, 4, 3])
        return routes.compare(fun)(*data)


def agreement_numbers(found: routes.Routes) -> list[Number]:
    """In float64 the ways without a step agree to rounding, the differences to what their step allows."""
    allowed = {**dict.fromkeys(EXACT, 1e-12), "central": 1e-8, "one-sided": 1e-5}
    errors = [(route.by, route.error if route.error is not None else float("inf")) for route in found.routes]
    return [Number(f"{by}: error of the gradient", 0.0, error, allowed[by]) for by, error in errors]


# --- the error of differences against their step


def valleys(options: Routes, dtype: str) -> dict[str, np.ndarray]:
    """The largest error of the gradient, in units of its largest entry, for every step."""
    with jax.enable_x64():
        exact, *data = problem(options, [4, 5, 4, 3])
        truth = jax.jit(jax.grad(exact))(*data)
    with jax.enable_x64(dtype == "float64"):
        narrow = jax.tree.map(lambda a: jnp.asarray(a, dtype) if a.dtype == jnp.float64 else a, data)
        return {by: _errors(exact, by, narrow, truth) for by in ("one-sided", "central", "complex")}


def _errors(fun: Callable, by: str, data: list, truth: Any) -> np.ndarray:
    go = jax.jit(lambda step, *data: routes.gradient(fun, by, step=step)(*data).grads)
    flat = lambda tree: np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])
    wanted = flat(truth)
    errors = [np.max(np.abs(flat(go(step, *data)) - wanted)) / np.max(np.abs(wanted)) for step in STEPS]
    return np.where(np.isfinite(errors), errors, np.nan)  # where the step is lost in rounding there is no difference


# --- paths


def book_paths() -> list[Number]:
    """Nielsen's nets: how many paths lead from a weight of the first layer to the cost (his eq. 53)."""
    numbers = []
    for wanted, sizes in BOOK.items():
        fun, params, x, labels = problem(Routes(), [3, *sizes[1:]], 1)  # the number of inputs changes nothing
        counts = routes.path_counts(fun)(params, x, labels)
        ours = np.unique(counts[0].w)
        numbers.append(Number(f"{sizes}", wanted, int(ours[0]) if len(ours) == 1 else -1, 0, "Nielsen, eq. 53"))
    return numbers


# --- what is left behind


def summary(agreement: dict, costs: list[Cost], valley: dict, numbers: list[Number], loops: dict) -> dict[str, Any]:
    ways = {
        dtype: {r.by: {"error": r.error, "passes": str(r.passes)} for r in found.routes} for dtype, found in agreement.items()
    }
    return {
        "experiment": "routes",
        "agreement": ways,
        "cost": [c._asdict() for c in costs],
        "steps": STEPS,
        "errors": valley,
        "numbers": published.to_json(numbers),
        "mini_batch": loops,
    }
