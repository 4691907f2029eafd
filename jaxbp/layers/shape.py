"""Shape layers: the same numbers of each example in another shape."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax

from jaxbp import inputs
from jaxbp.contracts import Layer, constructor, deterministic


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Example:
    """What an example was before: a residual that is all structure and no array, so it stays static and costs no memory."""

    shape: tuple[int, ...]
    floating: bool


def reshape_forward(params: tuple, x: jax.Array, *, shape: tuple[int, ...]) -> tuple[jax.Array, Example]:
    """y = the numbers of each example, row-major, in another shape. Residual: the old shape, no array."""
    return x.reshape(x.shape[0], *_resolved(shape, x.shape[1:])), Example(x.shape[1:], inputs.is_floating(x))


def reshape_backward(params: tuple, example: Example, y_bar: Any) -> tuple[tuple, Any]:
    """x_bar = y_bar in the shape of x; integers have none."""
    return (), y_bar.reshape(y_bar.shape[0], *example.shape) if example.floating else None


def _resolved(shape: tuple[int, ...], old: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with its -1 worked out for an example of shape `old`."""
    size, known = math.prod(old), math.prod(n for n in shape if n != -1)
    if size == 0 or size % known or (-1 not in shape and size != known):
        raise ValueError(f"reshape: the {size} entries of an example of shape {list(old)} do not fill the shape {list(shape)}")
    return tuple(size // known if n == -1 else n for n in shape)


def reshape_init(key: Any, spec: Any, *, shape: tuple[int, ...]) -> tuple:
    spec = inputs.as_spec(spec)
    return (), jax.ShapeDtypeStruct(_resolved(shape, spec.shape), spec.dtype)


def _reshape(name: str, shape: tuple[int, ...]) -> Layer:
    init = functools.partial(reshape_init, shape=shape)
    return deterministic(name, init, functools.partial(reshape_forward, shape=shape), reshape_backward)


@constructor
def flatten() -> Layer:
    """y = all entries of an example in one axis, row-major; the batch axis stays.

    Shapes: x (batch, *axes) of any dtype, y (batch, product of the axes) in the same. Residual: the shape of x, no array.

    >>> import jax, jaxbp
    >>> jaxbp.flatten().init(jax.random.key(0), (28, 28, 3))[1].shape
    (2352,)

    Raises: ValueError for an example without entries.
    """
    return _reshape("flatten", (-1,))


@constructor
def reshape(*shape: int) -> Layer:
    """y = the entries of each example, row-major, in `shape`; one -1 stands for whatever is left. The batch axis stays.

    Shapes: x (batch, *axes) of any dtype, y (batch, *shape) in the same. Residual: the shape of x, no array.

    >>> import jax, jaxbp
    >>> jaxbp.reshape(28, -1).init(jax.random.key(0), (784,))[1].shape
    (28, 28)

    Raises: TypeError for a shape that is not whole numbers; ValueError for a number below 1 other than one -1, and in `init`
    for an example of another number of entries.
    """
    for n in shape:
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"reshape: takes whole numbers, one an axis, such as reshape(28, -1), got {n!r}")
    if shape.count(-1) > 1 or any(n < 1 and n != -1 for n in shape):
        raise ValueError(f"reshape: takes positive numbers and at most one -1, got {list(shape)}; the batch axis is not named")
    return _reshape("reshape", shape)
