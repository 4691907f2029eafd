"""`gradient`: one signature for every way to the same gradient; `compare`: how well they agree and what each takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs
from jaxbp.backprop import objective
from jaxbp.contracts import Layer, Loss, spell
from jaxbp.page.tables import Column, Table
from jaxbp.routes import ways
from jaxbp.routes.complex_step import complex_step
from jaxbp.routes.path_sum import path_sum
from jaxbp.routes.problem import Found, NetObjective, Passes, entries, require_scalar


MOST = 1_000_000  # paths that are multiplied out unless more are asked for

RULES = {
    "manual": ways.manual,
    "autodiff": ways.autodiff,
    "forward": ways.forward,
    "one-sided": ways.one_sided,
    "central": ways.central,
    "complex": complex_step,
    "per-example": ways.per_example,
    "paths": path_sum,
}
WAYS = tuple(RULES)
STEPPED = ("one-sided", "central", "complex")
CHUNKED = ("forward", *STEPPED)
EAGER = ("per-example", "paths")  # these look at values


def of_net(net: Layer, loss: Loss, *, penalty: Any = None, reduction: str = "mean") -> NetObjective:
    """sum_b w_b l_b / sum_b w_b + penalty(params), f(params, x, targets, *, sample_weight=None, key=None, train=True).

    The value of `jaxbp.value_and_grad(net, loss, ...)`, which `gradient` also knows by hand and as a sum over paths.
    Raises: TypeError or ValueError as `jaxbp.objective`.
    """
    objective(net, loss, penalty=penalty, reduction=reduction)  # its checks
    return NetObjective(net, loss, penalty, reduction)


def gradient(
    fun: Callable, by: str = "autodiff", *, step: Any = None, chunk: int | None = None, most: int = MOST
) -> Callable[..., Found]:
    """dfun/dparams by a way of your choice; P entries of params, B examples.

    | by | the way | passes |
    |---|---|---|
    | "manual" | the hand-written backward pass, of a net (`of_net`) | 1 forward, 1 vjp |
    | "autodiff" | `jax.grad` | 1 forward, 1 vjp |
    | "forward" | a tangent for each entry | P jvps |
    | "one-sided" | (f(p + h) - f(p)) / h | P + 1 forwards |
    | "central" | (f(p + h) - f(p - h)) / 2h | 2P forwards |
    | "complex" | Im f(p + ih) / h, where every step of f has a complex form | P forwards |
    | "per-example" | the mean of the gradients of the examples, one after another | B forwards, B vjps |
    | "paths" | the explicit sum over all paths, of small nets and functions | every path a product |

    Arguments:
      fun: f(params, *args, **kwargs) -> one floating number, any JAX function; or `of_net(net, loss)`. For "per-example" every
        array in args has a leading axis of examples, and fun is the mean over them.
      step: h of the differences and the complex step, also a traced number. Default eps^(1/2) and eps^(1/3) times max(1, |p|),
        and 2^-60 (float32) or 2^-100 for the complex step.
      chunk: entries that go through at a time (memory: so many copies of params).
      most: how many paths may be multiplied out.

    Returns: f(params, *args, **kwargs) -> Found(grads, passes). Pure; under `jit` too, but for "paths". params hold floating
    arrays; what JAX's rules do at kinks the ways need not share.
    Raises: ValueError for another way or step, TypeError for a way that `fun` does not permit; where it is called, TypeError for
    params that are not floating or a value that is not one number, ValueError where there are more paths than `most`.

    >>> import jax.numpy as jnp
    >>> from jaxbp import routes
    >>> f = lambda p, x: jnp.mean(jnp.tanh(x @ p["w"] + p["b"]) ** 2)
    >>> params, x = {"w": jnp.array([0.5, -1.0]), "b": jnp.array(0.1)}, jnp.array([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]])
    >>> [str(routes.gradient(f, by=way)(params, x).passes) for way in ("autodiff", "forward", "central", "per-example")]
    ['1 forward, 1 vjp', '3 jvps', '6 forwards', '3 forwards, 3 vjps']
    """
    _require(fun, by, step, chunk, most)
    options = ways.Options(step, chunk, most)

    def f(params: Any, *args: Any, **kwargs: Any) -> Found:
        entries(params)
        require_scalar(by, fun, params, args, kwargs)
        return RULES[by](fun, params, args, kwargs, options)

    return f


def _require(fun: Any, by: Any, step: Any, chunk: Any, most: Any) -> None:
    if by not in RULES:
        raise ValueError(f"gradient: by is one of {', '.join(map(repr, WAYS))}, got {by!r}")
    if isinstance(fun, Layer) or not callable(fun):
        raise TypeError(f"gradient: takes a function of (params, ...), or routes.of_net(net, loss), got {fun!r}")
    if by == "manual" and not isinstance(fun, NetObjective):
        raise TypeError(f"gradient by 'manual': only a net is known by hand; give routes.of_net(net, loss), got {spell(fun)}")
    for name, value, takers in (("step", step, STEPPED), ("chunk", chunk, CHUNKED)):
        if value is not None:
            if not isinstance(value, jax.core.Tracer):  # a traced step serves a whole curve of them
                inputs.require_positive("gradient", name, value, whole=name == "chunk")
            if by not in takers:
                raise ValueError(f"gradient by {by!r}: takes no {name}; {', '.join(map(repr, takers))} do")
    inputs.require_positive("gradient", "most", most)


# --- how well they agree


@dataclasses.dataclass(frozen=True)
class Route:
    """One way: its largest error in units of a leaf's scale, its passes; or why it could not be gone."""

    by: str
    error: float | None
    passes: Passes | None
    why_not: str = ""


@dataclasses.dataclass(frozen=True)
class Routes:
    """What `compare` found. Errors are against `jax.grad` in float64, in units of each leaf's largest entry."""

    routes: tuple[Route, ...]
    dtype: str
    parameters: int

    def __getitem__(self, by: str) -> Route:
        return next(route for route in self.routes if route.by == by)

    def table(self) -> Table:
        columns = ["by", Column("largest error"), "forwards", "jvps", "vjps", "paths"]
        counts = lambda passes: [n or None for n in dataclasses.astuple(passes)] if passes else [None] * 4
        rows = [(route.by, route.error, *counts(route.passes)) for route in self.routes]
        missing = "; ".join(f"{route.by}: {route.why_not}" for route in self.routes if route.why_not)
        units = "errors against jax.grad in float64, in units of each leaf's largest entry"
        note = f"{self.parameters:,} parameters in {self.dtype}; {units}. {missing}"
        return Table(columns, rows, title="One gradient, many ways", note=note.strip())

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table().to_html()


def compare(fun: Callable, *, by: Sequence[str] = WAYS, most: int = MOST) -> Callable[..., Routes]:
    """The gradient by every way that `fun` permits, beside `jax.grad` in float64: f(params, *args, **kwargs) -> Routes.

    A way that cannot be gone (no net, no complex form, too many paths) is listed with its reason.
    Raises: as `gradient` for what no way takes: another way, params that are not floating, a value that is not one number.
    """
    for way in by:
        _require(fun if way != "manual" else NetObjective(None, None), way, None, None, most)  # type: ignore[arg-type]

    def f(params: Any, *args: Any, **kwargs: Any) -> Routes:
        found = entries(params)
        require_scalar("autodiff", fun, params, args, kwargs)
        with jax.enable_x64(True):
            exact = [jax.tree.map(_exact, tree_) for tree_ in (params, args)]
            options = jax.tree.map(_exact, kwargs)
            truth = jax.jit(lambda params, args: jax.grad(fun)(params, *args, **options))(*exact)
        routes = tuple(_route(fun, way, most, truth, params, args, kwargs) for way in by)
        return Routes(routes, jnp.dtype(found.dtype).name, found.size)

    return f


def _exact(leaf: Any) -> Any:
    """Floating arrays in float64; others, and plain Python values such as train=False, as they are."""
    floating = hasattr(leaf, "dtype") and inputs.is_floating(leaf)
    return jnp.asarray(leaf, jnp.float64) if floating else leaf


def _route(fun: Callable, by: str, most: int, truth: Any, params: Any, args: tuple, kwargs: dict) -> Route:
    try:
        go = gradient(fun, by, most=most)
        # op by op it would compile longer than as a whole
        grads, passes = (jax.jit(go) if by not in EAGER and not kwargs else go)(params, *args, **kwargs)
    except (TypeError, ValueError) as error:
        return Route(by, None, None, str(error).splitlines()[0].removeprefix(f"gradient by {by!r}: "))
    errors = jax.tree.map(_error, truth, grads)
    return Route(by, max(jax.tree.leaves(errors), default=0.0), passes)


def _error(truth: Any, got: Any) -> float:
    truth, got = np.asarray(truth, np.float64), np.asarray(got, np.float64)
    scale = float(np.max(np.abs(truth), initial=0)) or 1.0
    return float(np.max(np.abs(got - truth), initial=0)) / scale
