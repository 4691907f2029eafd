"""Experiments on the code of others."""

from __future__ import annotations

import dataclasses
from typing import ClassVar


@dataclasses.dataclass(frozen=True)
class AuditEcosystem:
    """Audit the custom rules of JAX, Optax and, where installed, Flax and Equinox with the gradient checker."""

    gallery: ClassVar[tuple[str, ...]] = ("--sources", "optax")

    sources: tuple[str, ...] = ("jax", "optax", "flax", "equinox")
    """Whose rules: any of jax, optax, flax, equinox."""
    only: str = ""
    """Only functions whose name holds this."""
    seed: int = 0
    """Seed of the random cotangents."""
