"""Embedding: y = table[ids], and the tied form whose logits use the same table."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import initializers, inputs
from jaxbp.contracts import Layer, constructor, deterministic
from jaxbp.factors import Outer, Rows, Sum


class Embedding(NamedTuple):
    table: jax.Array  # (vocabulary, features)


def look_up(table: jax.Array, ids: jax.Array) -> jax.Array:
    """table[ids]; NaN where an id is no row of the table (JAX itself reads -1 as the last row and clamps what is too large)."""
    ids = _at_least_int32(ids)  # the size of the table may be no int8
    return jnp.asarray(table).at[jnp.where(ids < 0, table.shape[0], ids)].get(mode="fill", fill_value=jnp.nan)


def _at_least_int32(ids: jax.Array) -> jax.Array:
    return ids.astype(jnp.promote_types(ids.dtype, jnp.int32))


def embedding_forward(params: Embedding, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """y = table[ids]: (batch, *time) -> (batch, *time, features). Residual: ids."""
    return look_up(params.table, ids), ids


def embedding_backward(params: Embedding, ids: jax.Array, y_bar: jax.Array) -> tuple[Embedding, None]:
    """table_bar[i] = sum of y_bar wherever ids = i, kept as the rows y_bar; integers have no cotangent."""
    return Embedding(Rows(_at_least_int32(ids), y_bar, params.table.shape[0])), None  # type: ignore[arg-type]


def embedding_check(params: Any, ids: Any, *, name: str) -> None:
    vocabulary, ids = params.table.shape[0], np.asarray(ids)
    bad = np.argwhere((ids < 0) | (ids >= vocabulary))
    if len(bad):
        first = tuple(bad[0].tolist())
        raise ValueError(
            f"{name}: ids lie in [0, {vocabulary}), got {ids[first]} at index {list(first)}, the first of {len(bad)}; "
            "enlarge the vocabulary or map unknown ids to a row of their own"
        )


def _ids_spec(name: str, spec: Any) -> Any:
    spec = inputs.as_spec(spec)
    if not jnp.issubdtype(spec.dtype, jnp.integer):
        raise TypeError(
            f"{name}: takes integer ids, got {inputs.describe(spec)}; use ids.astype(jnp.int32), and for init an example, ids[0] "
            f"or jax.ShapeDtypeStruct({spec.shape}, jnp.int32): a plain shape means float32"
        )
    return spec


def embedding_init(key: Any, spec: Any, *, vocabulary: int, features: int, dtype: Any, table_init: Any) -> tuple:
    spec = _ids_spec("embedding", spec)
    table = table_init(key, (vocabulary, features), dtype)
    return Embedding(table), jax.ShapeDtypeStruct((*spec.shape, features), table.dtype)


@constructor
def embedding(vocabulary: int, features: int, *, dtype: Any = "float32", table_init: Any = initializers.normal()) -> Layer:
    """y = table[ids], one row of the table for every id.

    Shapes: ids (batch, *time) of any integer dtype; y (batch, *time, features) in the dtype of the table. Ids give a net no
    floating dtype, so `dtype` names that of the table. Residual: ids. Factor: `Rows`, never a dense table until a
    reducer asks for one. x_bar is None. Default table ~ N(0, 1).

    Conventions: an id outside [0, vocabulary), negative ones too, gives a row of NaN and adds nothing to the gradient. The outer
    doors raise on such an id wherever they can see the values.

    >>> import jax, jaxbp
    >>> layer = jaxbp.embedding(1000, 16)
    >>> params, spec = layer.init(jax.random.key(0), jax.ShapeDtypeStruct((12,), jax.numpy.int32))
    >>> spec.shape, params.table.shape
    ((12, 16), (1000, 16))

    Raises: ValueError for a size below 1, and at an outer door for an id outside the table; TypeError for ids of another kind.
    """
    dtype = _require_sizes("embedding", vocabulary, features, dtype)
    init = functools.partial(embedding_init, vocabulary=vocabulary, features=features, dtype=dtype, table_init=table_init)
    check = functools.partial(embedding_check, name="embedding")
    return deterministic("embedding", init, embedding_forward, embedding_backward, check=check)


def _require_sizes(name: str, vocabulary: Any, features: Any, dtype: Any) -> jnp.dtype:
    inputs.require_positive(name, "vocabulary", vocabulary)
    inputs.require_positive(name, "features", features)
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: dtype has to be a floating one, got {dtype.name}")
    return dtype


# --- tied embedding: logits = body(table[ids]) table^T


class TiedEmbedding(NamedTuple):
    table: jax.Array  # (vocabulary, features)
    body: Any


def tied_embedding_forward(body: Layer, params: TiedEmbedding, ids: jax.Array, *, train: bool = False, key: Any = None) -> tuple:
    """logits = h table^T, h = body(table[ids]). Residuals: ids, those of the body, and h."""
    h, body_residuals = body.forward(params.body, look_up(params.table, ids), train=train, key=key)
    return h @ params.table.T, (ids, body_residuals, h)


def tied_embedding_backward(body: Layer, params: TiedEmbedding, residuals: tuple, logits_bar: jax.Array) -> tuple:
    """The table is used twice: its cotangent is logits_bar^T h plus the rows of the look-up."""
    ids, body_residuals, h = residuals
    body_factors, rows = body.backward(params.body, body_residuals, logits_bar @ params.table)
    table = Sum((Outer(logits_bar, h), Rows(_at_least_int32(ids), rows, params.table.shape[0])))
    return TiedEmbedding(table, body_factors), None  # type: ignore[arg-type]


def tied_embedding_init(
    body: Layer, key: Any, spec: Any, *, vocabulary: int, features: int, dtype: Any, table_init: Any
) -> tuple[TiedEmbedding, Any]:
    spec = _ids_spec("tied_embedding", spec)
    inputs.require_key("init", key)
    table_key, body_key = jax.random.split(key)
    table_init = table_init or initializers.normal(1 / math.sqrt(features))
    table = table_init(table_key, (vocabulary, features), dtype)
    body_params, out_spec = body.init(body_key, jax.ShapeDtypeStruct((*spec.shape, features), table.dtype))
    if not isinstance(out_spec, jax.ShapeDtypeStruct) or out_spec.shape[-1:] != (features,):
        raise ValueError(
            f"tied_embedding: the body {body!r} has to end with {features} features, the width of the table, "
            f"got {jax.tree.map(inputs.describe, out_spec)}"
        )
    return TiedEmbedding(table, body_params), jax.ShapeDtypeStruct((*out_spec.shape[:-1], vocabulary), table.dtype)


@constructor
def tied_embedding(vocabulary: int, features: int, body: Layer, *, dtype: Any = "float32", table_init: Any = None) -> Layer:
    """logits = body(table[ids]) table^T: a language model whose input and output share one table.

    Shapes: ids (batch, *time) of any integer dtype; body maps (*time, features) to (*axes, features); logits
    (batch, *axes, vocabulary). params: `TiedEmbedding(table, body)`. Residuals: ids, those of the body, its output.
    Factors: for the table the `Sum` of an `Outer` (logits) and `Rows` (look-up), so that per-example quantities hold
    the cross terms between its two uses. x_bar is None. Default table ~ N(0, 1/features), which gives logits of unit
    variance from unit h. Ids outside the table: as in `embedding`.

    >>> import jax, jaxbp
    >>> net = jaxbp.tied_embedding(1000, 16, jaxbp.dense(16))
    >>> params, spec = net.init(jax.random.key(0), jax.ShapeDtypeStruct((12,), jax.numpy.int32))
    >>> spec.shape
    (12, 1000)

    Raises: as `embedding`; TypeError for a body that is no layer, ValueError for one that does not end with `features`.
    Source: Press & Wolf 2017, Using the Output Embedding to Improve Language Models.
    """
    dtype = _require_sizes("tied_embedding", vocabulary, features, dtype)
    if not isinstance(body, Layer):
        raise TypeError(f"tied_embedding: body is a layer, got {body!r}" + "; call its constructor first" * callable(body))
    return Layer(
        init=functools.partial(
            tied_embedding_init, body, vocabulary=vocabulary, features=features, dtype=dtype, table_init=table_init
        ),
        forward=functools.partial(tied_embedding_forward, body),
        backward=functools.partial(tied_embedding_backward, body),
        name="tied_embedding",
        parts=(body,),
        traits=body.traits,
        check=functools.partial(embedding_check, name="tied_embedding"),
    )
