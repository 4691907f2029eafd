"""The one table of layers and losses that the generic tests walk. A new layer or loss adds one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp as bp


def normal(key: jax.Array, batch: int, spec: Any, dtype: Any) -> Any:
    """Random inputs of a spec: normal where floating, small integers where not."""
    leaves, tree = jax.tree.flatten(spec)
    keys = jax.random.split(key, len(leaves))
    draw = lambda k, s: (
        jax.random.normal(k, (batch, *s.shape), dtype)
        if jnp.issubdtype(s.dtype, jnp.floating)
        else jax.random.randint(k, (batch, *s.shape), 0, 5, s.dtype)
    )
    return jax.tree.unflatten(tree, [draw(k, s) for k, s in zip(keys, leaves, strict=True)])


class LayerCase(NamedTuple):
    layer: bp.Layer
    spec: Any  # the shape of one example, or ShapeDtypeStructs
    draw: Callable = normal  # (key, batch, spec, dtype) -> x
    batches: tuple[int, ...] = (1, 17)
    in_dtype: Callable | None = None  # (dtype) -> the layer, where x has no floating dtype to give it (ids)

    def at(self, dtype: Any) -> bp.Layer:
        return self.layer if self.in_dtype is None else self.in_dtype(jnp.dtype(dtype).name)

    @property
    def id(self) -> str:
        return f"{self.layer!r} on {self.spec}"


class LossCase(NamedTuple):
    loss: bp.Loss
    outputs: Callable  # (key, batch, dtype) -> outputs
    targets: Callable  # (key, batch, dtype) -> targets

    @property
    def id(self) -> str:
        return repr(self.loss)


LINEAR = [
    LayerCase(bp.dense(5), (4,)),
    LayerCase(bp.dense(5, bias=False), (1,)),
    LayerCase(bp.dense(1), (3, 4)),  # a time axis
]

NORMALIZATION = [
    LayerCase(bp.layer_norm(), (5,)),
    LayerCase(bp.layer_norm(), (1,)),
    LayerCase(bp.layer_norm(epsilon=0, bias=False), (2, 3)),
    LayerCase(bp.batch_norm(), (4,), batches=(2, 17)),  # one value a feature has no variance
    LayerCase(bp.batch_norm(epsilon=0, gain=False), (3, 1)),
    LayerCase(bp.serial(bp.dense(3), bp.batch_norm(), bp.dense(2)), (4,), batches=(2, 17)),
]


def some_outside(key: jax.Array, batch: int, spec: Any, dtype: Any) -> jax.Array:
    """Ids for a table of 5: repeats, and some below 0 and past the end."""
    return jax.random.randint(key, (batch, *spec.shape), -2, 7, spec.dtype)


IDS = jax.ShapeDtypeStruct((6,), jnp.int32)
_to_one = bp.serial(bp.flatten(), bp.dense(2))

EMBEDDING = [
    LayerCase(bp.embedding(5, 3), IDS, some_outside, in_dtype=lambda d: bp.embedding(5, 3, dtype=d)),
    LayerCase(bp.embedding(9, 1), jax.ShapeDtypeStruct((), jnp.uint8), in_dtype=lambda d: bp.embedding(9, 1, dtype=d)),
    LayerCase(bp.serial(bp.embedding(5, 3), _to_one), IDS, in_dtype=lambda d: bp.serial(bp.embedding(5, 3, dtype=d), _to_one)),
    LayerCase(bp.tied_embedding(7, 3, bp.dense(3)), IDS, in_dtype=lambda d: bp.tied_embedding(7, 3, bp.dense(3), dtype=d)),
    LayerCase(bp.tied_embedding(5, 2, _to_one), IDS, in_dtype=lambda d: bp.tied_embedding(5, 2, _to_one, dtype=d)),
]

DROPOUT = [
    LayerCase(bp.dropout(0.3), (5,)),
    LayerCase(bp.dropout(0), (2, 3)),
    LayerCase(bp.serial(bp.dense(6), bp.dropout(0.5), bp.dense(2)), (3,)),
]

SHAPE = [
    LayerCase(bp.flatten(), (2, 3, 2)),
    LayerCase(bp.reshape(3, -1), (2, 6)),
    LayerCase(bp.reshape(), (1, 1)),  # a scalar an example
]

CONVOLUTION = [
    LayerCase(bp.conv2d(3, 3), (5, 6, 2)),
    LayerCase(bp.conv2d(2, (1, 4), strides=(2, 3), padding="VALID", bias=False), (6, 9, 1)),  # rows and columns unused
    LayerCase(bp.conv2d(4, (3, 2), strides=2, dilation=(1, 2), groups=2, padding=((2, 0), (1, 3))), (7, 6, 4)),
    LayerCase(bp.conv2d(4, 2, groups=4), (1, 3, 4)),
    LayerCase(bp.repeat(bp.conv2d(2, 3), 2), (3, 4, 2)),  # one kernel used twice
    LayerCase(bp.max_pool(2), (4, 6, 2)),
    LayerCase(bp.max_pool((3, 2), strides=(2, 1), padding="SAME"), (6, 5, 2)),
    LayerCase(bp.avg_pool((2, 3), padding="SAME"), (5, 5, 2)),
    LayerCase(bp.avg_pool(3, strides=2), (7, 1)),
    LayerCase(bp.serial(bp.conv2d(4, 3, strides=2), bp.max_pool(2), bp.flatten(), bp.dense(3)), (8, 9, 1)),
]

COMPOSED = [
    LayerCase(bp.serial(bp.dense(3), bp.dense(2)), (4,)),
    LayerCase(bp.skip(bp.dense(3)), (3,)),
    LayerCase(bp.parallel(bp.dense(3), bp.dense(3)), (4,)),
    LayerCase(bp.parallel(bp.dense(1), bp.dense(2), combine="concatenate"), (2, 4)),
    LayerCase(bp.repeat(bp.dense(3), 3), (3,)),
    LayerCase(bp.repeat(bp.dense(2), 2), (5, 2)),
    LayerCase(bp.remat(bp.serial(bp.dense(3), bp.dense(2))), (4,)),
]


def spread(key: jax.Array, batch: int, spec: Any, dtype: Any) -> jax.Array:
    """Inputs of size 1 and 30, where activations saturate, and of -1, 0 and 1, where they have their kinks."""
    keys, shape = jax.random.split(key, 3), (batch, *spec.shape)
    near = jax.random.normal(keys[0], shape, dtype)
    kinks = jax.random.randint(keys[1], shape, -1, 2).astype(dtype)
    kind = jax.random.randint(keys[2], shape, 0, 3)
    return jnp.select([kind == 0, kind == 1], [30 * near, kinks], near)


_activations = [
    *(bp.identity(), bp.sigmoid(), bp.tanh(), bp.softplus(), bp.softsign(), bp.relu(), bp.leaky_relu(), bp.leaky_relu(0.3)),
    *(bp.elu(), bp.elu(alpha=2.5), bp.selu(), bp.hard_tanh(), bp.silu(), bp.gelu(), bp.gelu(approximate=True)),
]
ACTIVATIONS = [
    *[LayerCase(layer, (2, 3), spread) for layer in _activations],
    LayerCase(bp.tanh(), (), spread),  # a scalar an example
    LayerCase(bp.serial(bp.dense(4), bp.sigmoid(), bp.dense(1)), (3,)),
]

SOFTMAX = [
    LayerCase(bp.softmax(), (5,)),
    LayerCase(bp.softmax(), (2, 1)),
    LayerCase(bp.log_softmax(), (2, 3)),
    LayerCase(bp.log_softmax(), (1,)),
    LayerCase(bp.serial(bp.dense(3), bp.softmax()), (4,)),
    LayerCase(bp.serial(bp.dense(3), bp.log_softmax()), (2, 4)),
]

LAYERS = [*LINEAR, *SOFTMAX, *ACTIVATIONS, *CONVOLUTION, *COMPOSED, *NORMALIZATION, *EMBEDDING, *DROPOUT, *SHAPE]


# --- losses: drawn by NumPy, which compiles nothing


def rng_of(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def real(*shape: int) -> Callable:
    return lambda key, batch, dtype: jnp.asarray(rng_of(key).normal(size=(batch, *shape)), dtype)


def logits(*shape: int) -> Callable:
    """Rows of size 8, rows of small integers, in which classes tie and margins are 0 and 1, and rows of size 1."""

    def draw(key: jax.Array, batch: int, dtype: Any) -> jax.Array:
        z = rng_of(key).normal(size=(batch, *shape))
        kind = (np.arange(batch) % 3).reshape(-1, *[1] * len(shape))
        return jnp.asarray(np.select([kind == 0, kind == 1], [8 * z, np.round(z)], z), dtype)

    return draw


def masked(*shape: int) -> Callable:
    """Logits with -inf at a third of the classes; never at the first two."""

    def draw(key: jax.Array, batch: int, dtype: Any) -> jax.Array:
        z = rng_of(key).normal(size=(batch, *shape))
        return jnp.asarray(np.where((np.arange(shape[-1]) > 1) & (z < -0.4), -np.inf, z), dtype)

    return draw


def integers(low: int, high: int, *shape: int, dtype: Any = jnp.int32) -> Callable:
    return lambda key, batch, _: jnp.asarray(rng_of(key).integers(low, high, (batch, *shape)), dtype)


def signs(*shape: int) -> Callable:
    return lambda key, batch, dtype: jnp.asarray(rng_of(key).choice([-1, 1], (batch, *shape)), dtype)


def shares(*shape: int) -> Callable:
    """Numbers in (0, 1)."""
    return lambda key, batch, dtype: jnp.asarray(rng_of(key).uniform(0.05, 0.95, (batch, *shape)), dtype)


def distributions(*shape: int) -> Callable:
    """Rows that sum to 1, one in three of them one-hot."""

    def draw(key: jax.Array, batch: int, dtype: Any) -> jax.Array:
        e = np.exp(2 * rng_of(key).normal(size=(batch, *shape)))
        hot = e == e.max(-1, keepdims=True)
        third = (np.arange(batch) % 3 == 2).reshape(-1, *[1] * len(shape))
        return jnp.asarray(np.where(third, hot, e / e.sum(-1, keepdims=True)), dtype)

    return draw


def log_cosh(output: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.sum(jnp.log(jnp.cosh(output - target)))


_cross_entropy, _likelihood = bp.losses.softmax_cross_entropy(), bp.losses.log_likelihood()
_smoothed = bp.losses.softmax_cross_entropy(label_smoothing=0.1)
LOSSES = [
    LossCase(bp.losses.quadratic(), real(4), real(4)),
    LossCase(bp.losses.quadratic(), real(2, 3), integers(-2, 3, 2, 3)),  # a time axis
    LossCase(bp.losses.mse(), real(4), real(4)),
    LossCase(bp.losses.mse(), real(1), real()),
    LossCase(_cross_entropy, logits(5), integers(0, 5)),
    LossCase(_cross_entropy, logits(2, 3), integers(0, 3, 2, dtype=jnp.uint8)),
    LossCase(_cross_entropy, logits(1), integers(0, 1)),
    LossCase(_cross_entropy, masked(6), integers(0, 2)),
    LossCase(_cross_entropy, logits(5), distributions(5)),
    LossCase(_cross_entropy, logits(2, 3), distributions(2, 3)),
    LossCase(_smoothed, logits(5), integers(0, 5)),
    LossCase(_smoothed, masked(6), integers(0, 2)),
    LossCase(_smoothed, logits(2), distributions(2)),
    LossCase(bp.losses.sigmoid_cross_entropy(), logits(4), shares(4)),
    LossCase(bp.losses.sigmoid_cross_entropy(), logits(1), integers(0, 2)),
    LossCase(bp.losses.binary_cross_entropy(), shares(4), shares(4)),
    LossCase(bp.losses.binary_cross_entropy(), shares(2, 1), integers(0, 2, 2)),
    LossCase(_likelihood, shares(5), integers(0, 5)),
    LossCase(_likelihood, shares(2, 3), integers(0, 3, 2)),
    LossCase(_likelihood, shares(4), distributions(4)),
    LossCase(bp.losses.hinge(), logits(1), signs()),  # integers among the scores: the kink
    LossCase(bp.losses.hinge(), logits(2, 3), signs(2, 3)),
    LossCase(bp.losses.logistic(), logits(1), signs(1)),
    LossCase(bp.losses.loss_from(log_cosh), real(3), real(3)),
    LossCase(bp.losses.loss_from(log_cosh), real(), real()),  # a scalar an example
]
