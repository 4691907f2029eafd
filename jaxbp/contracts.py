"""The two contracts that everything else is made of: a layer and a loss.

A layer is a tuple of pure functions, and `backward` is the vector-Jacobian product of its own `forward`:

    init(key, spec)                                 -> params, out_spec
    forward(params, x, *, train=False, key=None)    -> y, residuals
    backward(params, residuals, y_bar)              -> factors, x_bar

`factors` has the tree of `params` with a `jaxbp.factors.Factor` in the place of each array: the cotangent of that
parameter before its sum over the batch. A loss is the same without parameters, one value per example.

Constructors (`dense`, `sigmoid`, `serial`, ...) are plain functions under `@constructor`, which caches them, so that
equal configurations are the same object and `jit` does not trace twice, and records the call, so that `repr` is the
code that builds the object and pickling stores the call.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.core
import numpy as np

from jaxbp import inputs


_F = TypeVar("_F", bound=Callable)


class Call(NamedTuple):
    """The constructor call that made an object: what `repr` prints and what a pickle holds."""

    constructor: Callable
    args: tuple
    kwargs: tuple

    def __str__(self) -> str:
        parameters = inspect.signature(self.constructor).parameters
        shown = []
        for parameter, value in zip(_positional(parameters, len(self.args)), self.args, strict=True):
            if parameter.default is parameter.empty:
                shown.append(spell(value))
            elif not _same(value, parameter.default):
                shown.append(f"{parameter.name}={spell(value)}")
        for name, value in self.kwargs:
            if not _same(value, parameters[name].default):
                shown.append(f"{name}={spell(value)}")
        return f"{_room(self.constructor)}{self.constructor.__name__}({', '.join(shown)})"


def _positional(parameters: Any, n: int) -> list[inspect.Parameter]:
    """The parameter that each of n positional arguments belongs to; *args takes all that come."""
    plain = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = [p for p in parameters.values() if p.kind is p.VAR_POSITIONAL]
    return (plain + rest * n)[:n]


def _room(build: Callable) -> str:
    """The prefix under which a constructor is public: none for layers, `losses.` and so on, the module for a user's own."""
    package, *rooms = build.__module__.split(".")
    if package != "jaxbp":
        return f"{build.__module__}."
    return "" if rooms[0] in ("layers", "blocks", "compose", "lift") else f"{rooms[0]}."


class Constructed:
    """Objects that remember their constructor call: their `repr` is code, their pickle is that call."""

    call: Call | None
    name: str

    def __repr__(self) -> str:
        return str(self.call) if self.call else f"<{type(self).__name__.lower()} {self.name}>"

    def __reduce__(self):
        if self.call is None:
            return super().__reduce__()
        return _rebuild, tuple(self.call)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Layer(Constructed):
    """A map y = f(params, x) with its hand-written vector-Jacobian product.

    Fields:
      init, forward, backward: the pure functions of this module's first page, at module level (configuration by
        `functools.partial`, no closures), so that nets pickle.
      name: the family's name, as tables print it.
      parts: the layers a composite is made of, so that tools can look inside.
      traits: "key", training draws at random and needs a key; "mixes", rows of a batch meet (batch norm), so that
        nothing can be said of one example alone.
      check: None or check(params, x), which raises on concrete inputs whose values are bad (ids outside a table).

    Calling a layer is an outer door: it checks the input and gives the outputs without residuals.
    """

    init: Callable
    forward: Callable
    backward: Callable
    name: str
    parts: tuple[Layer, ...] = ()
    traits: frozenset[str] = frozenset()
    check: Callable | None = None
    call: Call | None = None

    def __call__(self, params: Any, x: Any, *, train: bool = False, key: jax.Array | None = None) -> Any:
        """The outputs y = f(params, x) for a batch x (leading axis), in prediction form unless `train`."""
        inputs.check_batch(self, params, x, train=train, key=key)
        return self.forward(params, x, train=train, key=key)[0]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Loss(Constructed):
    """A loss per example and its hand-written cotangent.

    Fields:
      forward: (outputs, targets) -> losses, residuals; losses have shape (batch,) or (batch, time).
      backward: (residuals, losses_bar) -> outputs_bar.
      name: as tables print it.
      check: None or check(outputs, targets), which raises ValueError or TypeError. It is given shapes and dtypes
        always and looks at values only where `inputs.is_concrete` says that they are there.
    """

    forward: Callable
    backward: Callable
    name: str
    check: Callable | None = None
    call: Call | None = None

    def __call__(self, outputs: Any, targets: Any) -> jax.Array:
        """The losses, one per example (or per example and time)."""
        inputs.check_targets(self, outputs, targets)
        return self.forward(outputs, targets)[0]


def deterministic(
    name: str,
    init: Callable,
    forward: Callable,
    backward: Callable,
    *,
    traits: frozenset[str] = frozenset(),
    check: Callable | None = None,
) -> Layer:
    """A Layer of a rule that neither draws nor differs in training: `forward(params, x) -> y, residuals`.

    `init(key, spec)` is given a checked key and `ShapeDtypeStruct`s, also where the caller wrote a plain shape.

    Raises: TypeError for a rule that does not take these arguments; where the layer is used, for one that returns something else.
    """
    _require_rule(name, "init", init, "key", "spec")
    _require_rule(name, "forward", forward, "params", "x")
    _require_rule(name, "backward", backward, "params", "residuals", "y_bar")
    init = functools.partial(_checked_init, init, name)
    return Layer(init, functools.partial(_deterministic_forward, forward), backward, name, (), traits, check)


def _checked_init(rule: Callable, name: str, key: Any, spec: Any) -> tuple:
    inputs.require_key(name, key)
    made = rule(key, inputs.as_spec(spec))
    if type(made) is not tuple or len(made) != 2 or not all(hasattr(leaf, "shape") for leaf in jax.tree.leaves(made[1])):
        shown = jax.tree.map(inputs.describe, made)
        raise TypeError(f"{name}: init returned {shown}, expected (params, out_spec), out_spec a jax.ShapeDtypeStruct as spec is")
    return made


def _require_rule(name: str, what: str, rule: Any, *arguments: str) -> None:
    """Raise unless `rule` is a function that takes these arguments by position."""
    expected = f"{name}: {what} is a function of ({', '.join(arguments)})"
    if not callable(rule):
        raise TypeError(f"{expected}, got {rule!r}")
    try:
        inspect.signature(rule).bind(*arguments)
    except ValueError:  # a builtin that does not say what it takes
        return
    except TypeError as error:
        raise TypeError(f"{expected}, got {spell(rule)}: {error}") from None


def _deterministic_forward(rule: Callable, params: Any, x: Any, *, train: bool = False, key: Any = None) -> tuple:
    return rule(params, x)


def elementwise(name: str, forward: Callable, backward: Callable) -> Layer:
    """A parameterless Layer of `forward(x) -> y, residuals` and `backward(residuals, y_bar) -> x_bar`, shape kept."""
    _require_rule(name, "forward", forward, "x")
    _require_rule(name, "backward", backward, "residuals", "y_bar")
    return Layer(
        functools.partial(_elementwise_init, name=name),
        functools.partial(_elementwise_forward, forward),
        functools.partial(_elementwise_backward, backward),
        name,
    )


def is_elementwise(layer: Layer) -> bool:
    """Whether the layer is an activation: no parameters, every entry by itself."""
    return getattr(layer.forward, "func", None) is _elementwise_forward


def _elementwise_init(key: Any, spec: Any, *, name: str) -> tuple:
    spec = inputs.as_spec(spec)
    inputs.require_floating(name, spec)
    return (), spec


def _elementwise_forward(rule: Callable, params: Any, x: Any, *, train: bool = False, key: Any = None) -> tuple:
    return rule(x)


def _elementwise_backward(rule: Callable, params: Any, residuals: Any, y_bar: Any) -> tuple:
    return (), rule(residuals, y_bar)


def constructor(build: _F) -> _F:
    """Make `build(*configuration) -> Layer | Loss | ...` a cached constructor whose results know their call.

    Lists become tuples and defaults are filled in before the look-up, so `mlp([2, 3])` and `mlp((2, 3))` are one object.
    Configuration is hashable (numbers, strings, functions, layers); arrays belong in params. Inside a traced function numbers
    may be traced (a dropout rate that differs from trial to trial): such an object lives as long as that trace, uncached.
    """
    signature = inspect.signature(build)

    @functools.cache
    def cached(args: tuple, kwargs: tuple, types: tuple) -> Any:
        return dataclasses.replace(build(*args, **dict(kwargs)), call=Call(construct, args, kwargs))

    @functools.wraps(build)
    def construct(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{build.__name__}: {error}; it takes {build.__name__}{_plain(signature)}") from None
        bound.apply_defaults()
        options = tuple((name, _frozen(value)) for name, value in sorted(bound.kwargs.items()))
        call = (tuple(_frozen(value) for value in bound.args), options)
        if _traced(call):
            return dataclasses.replace(build(*bound.args, **bound.kwargs), call=Call(construct, *call))
        try:
            hash(call)
        except TypeError:
            raise TypeError(
                f"{build.__name__}: configuration has to be hashable (numbers, strings, functions, layers), "
                f"got {call}; arrays belong in params"
            ) from None
        return cached(*call, _types(call))  # 5 == 5.0 == True, but they are not one configuration

    return construct  # type: ignore[return-value]


def _rebuild(build: Callable, args: tuple, kwargs: tuple) -> Any:
    return build(*args, **dict(kwargs))


def _plain(signature: inspect.Signature) -> str:
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def _frozen(value: Any) -> Any:
    if isinstance(value, list) or type(value) is tuple:
        return tuple(_frozen(v) for v in value)
    return value.item() if isinstance(value, np.generic) else value


def _traced(value: Any) -> bool:
    """Whether a configuration holds a traced number, itself or in a layer that it is made of."""
    if isinstance(value, Constructed):
        return value.call is not None and _traced((value.call.args, value.call.kwargs))
    return any(map(_traced, value)) if type(value) is tuple else isinstance(value, jax.core.Tracer)


def _types(value: Any) -> Any:
    return tuple(_types(v) for v in value) if type(value) is tuple else type(value)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


def spell(value: Any) -> str:
    """The code of one configuration value: functions and types by name, containers element by element."""
    if type(value) is tuple:
        return "[" + ", ".join(spell(v) for v in value) + "]"
    if inspect.isroutine(value) or isinstance(value, type):
        return value.__qualname__ if value.__module__ == "builtins" else f"{value.__module__}.{value.__qualname__}"
    return repr(value)
