"""What losses take: shapes and dtypes, looked at wherever they are known, and values, where they are there to be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbp import inputs


def require_outputs(name: str, outputs: Any) -> None:
    """Raise unless outputs is one floating array of shape (batch, *axes, entries)."""
    if not (hasattr(outputs, "shape") and hasattr(outputs, "dtype")):
        raise TypeError(f"{name}: takes one array of outputs, got {type(outputs).__name__}")
    inputs.require_floating(name, outputs)
    shape = list(outputs.shape)
    if len(shape) < 2:
        raise ValueError(
            f"{name}: outputs have a batch axis and a last axis that the loss sums over, got shape {shape}; "
            "for one output an example use a last axis of 1, outputs[:, None]"
        )
    if shape[-1] == 0:
        raise ValueError(f"{name}: outputs need at least one entry an example, got shape {shape}")


def require_alike(name: str, outputs: Any, targets: Any) -> None:
    """Raise unless targets are real and have the shape of the outputs, of which a last axis of 1 may be left out."""
    require_outputs(name, outputs)
    shape, got = tuple(outputs.shape), tuple(jnp.shape(targets))
    allowed = (shape, shape[:-1]) if shape[-1] == 1 else (shape,)
    if got not in allowed:
        wanted = " or ".join(str(list(s)) for s in allowed)
        raise ValueError(f"{name}: targets of shape {wanted} were expected for these outputs, got {list(got)}")
    dtype = jnp.result_type(targets)
    if not _is_real(dtype):
        raise TypeError(f"{name}: targets are real numbers, got {dtype}")


def are_labels(name: str, outputs: Any, targets: Any) -> bool:
    """True for integer labels (batch, *axes), False for distributions of the shape of the outputs; raise for anything else."""
    require_outputs(name, outputs)
    shape, got, dtype = tuple(outputs.shape), tuple(jnp.shape(targets)), jnp.result_type(targets)
    if got == shape and _is_real(dtype):
        return False
    if got == shape[:-1] and jnp.issubdtype(dtype, jnp.integer):
        return True
    expected = f"integer labels {list(shape[:-1])} or distributions {list(shape)}"
    if got == shape[:-1]:
        raise TypeError(f"{name}: {expected} were expected, got {dtype}{list(got)}; for labels use targets.astype(int)")
    hint = "; for labels use targets[..., 0]" if got == (*shape[:-1], 1) else ""
    if got[:-1] == shape[:-1] and not hint:
        hint = f": {got[-1]} classes for {shape[-1]} outputs"
    raise ValueError(f"{name}: {expected} were expected, got {dtype}{list(got)}{hint}")


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))


def one_hot(labels: jax.Array, classes: int) -> tuple[jax.Array, jax.Array]:
    """(hot, valid): where the last axis of (*labels.shape, classes) meets its label, and which labels lie in [0, classes)."""
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))  # `classes` may not fit in a narrow type
    hot = labels[..., None] == lax.broadcasted_iota(labels.dtype, (*labels.shape, classes), labels.ndim)
    return hot, ((labels >= 0) & (labels < classes))[..., None]


def as_distributions(name: str, outputs: jax.Array, targets: jax.Array, dtype: Any) -> jax.Array:
    """Distributions as they are and labels one-hot; a label that is no class gives a row of NaN."""
    if not are_labels(name, outputs, targets):
        return jnp.asarray(targets, dtype)
    hot, valid = one_hot(jnp.asarray(targets), outputs.shape[-1])
    return jnp.where(valid, hot.astype(dtype), jnp.nan)


# --- values


def values_of(array: Any) -> np.ndarray | None:
    """The values in float64, None for tracers and abstract shapes."""
    return np.asarray(array, dtype=np.float64) if inputs.is_concrete(array) else None


def require_values(name: str, what: str, array: Any, good: Callable, expected: str) -> None:
    """Raise where values that can be read are not `good`, with the first index. NaN compares false, so it is never good."""
    values = values_of(array)
    if values is None or np.all(good(values)):
        return
    bad = np.argwhere(~good(values))
    first = bad[0].tolist()
    raise ValueError(
        f"{name}: {what} {expected}, got {values[tuple(first)]:g} at index {first} ({len(bad)} such of {values.size})"
    )


def _in_unit(values: np.ndarray) -> np.ndarray:
    return (values >= 0) & (values <= 1)


def check_real(name: str, outputs: Any, targets: Any) -> None:
    """For targets that may be any finite number."""
    require_alike(name, outputs, targets)
    require_values(name, "targets", targets, np.isfinite, "have to be finite")


def check_unit(name: str, outputs: Any, targets: Any) -> None:
    """For targets that are the probability of yes."""
    require_alike(name, outputs, targets)
    require_values(name, "targets", targets, _in_unit, "have to lie in [0, 1] (labels -1 and +1: use logistic or hinge)")


def check_signs(name: str, outputs: Any, targets: Any) -> None:
    """For labels -1 and +1."""
    require_alike(name, outputs, targets)
    require_values(name, "labels", targets, lambda y: np.abs(y) == 1, "have to be -1 or +1 (from 0 and 1: 2 * labels - 1)")


def check_classes(name: str, outputs: Any, targets: Any) -> None:
    """For integer labels, or distributions."""
    classes = outputs.shape[-1] if hasattr(outputs, "shape") and outputs.shape else 0
    if are_labels(name, outputs, targets):
        require_values(name, "labels", targets, lambda y: (y >= 0) & (y < classes), f"have to lie in [0, {classes})")
        return
    require_values(name, "distributions", targets, _in_unit, "have to lie in [0, 1]")
    # rounding in the dtype of the targets, and decimals typed by hand
    slack = max(1e-3, 8 * float(jnp.finfo(jnp.result_type(targets)).eps)) if inputs.is_floating(targets) else 0
    sums = None if values_of(targets) is None else values_of(targets).sum(-1)  # type: ignore[union-attr]
    if sums is not None:
        require_values(name, "distributions", sums, lambda s: np.abs(s - 1) <= slack, "have to sum to 1 over the last axis")


def check_probabilities(name: str, outputs: Any, on_logits: str) -> None:
    """For outputs that are probabilities. A NaN among them is the net's and shows in the loss."""
    good = lambda p: _in_unit(p) | np.isnan(p)
    require_values(name, "outputs", outputs, good, f"have to be probabilities (for logits use {on_logits})")
