"""The book's net as a jaxbp net, and its update with the roundings of float64 where they decide about published digits.

Training amplifies rounding: of a difference in the last bit after the first epoch of `regularized_full.json`, ten million times
as much is left after the thirtieth. A compiler that fuses a multiplication into the subtraction that follows leaves a rounding
out that the book's NumPy made. For the weights of the first layer, 99 % of all parameters, that alone moves the costs of this
file by 1e-5, so there both products are rounded. Everywhere else nothing can be told from the published files: sums of 784
products depend on the machine's linear algebra, and each order gives costs that are off by some 1e-6 after 30 epochs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxbp


class Plan(NamedTuple):
    """What a compiled training is made for. cost: "cross-entropy" or "quadratic". gradient: a name of `config.nielsen.WAYS`."""

    sizes: tuple[int, ...]
    cost: str = "cross-entropy"
    gradient: str = "manual"
    batch_size: int = 10

    @property
    def net(self) -> jaxbp.Layer:
        """Sigmoid layers. Outputs are logits for the cross-entropy, activations for the quadratic cost."""
        last = jaxbp.sigmoid() if self.cost == "quadratic" else None
        return jaxbp.mlp(self.sizes, hidden=jaxbp.sigmoid(), output=last)

    @property
    def loss(self) -> jaxbp.Loss:
        return jaxbp.losses.quadratic() if self.cost == "quadratic" else jaxbp.losses.sigmoid_cross_entropy()


def descend(params: tuple, summed: tuple, keep: jax.Array, scale: jax.Array) -> tuple:
    """w <- keep w - scale times the summed gradient, biases not decayed. keep: 1 - eta lambda/n. scale: eta/m."""
    first, *rest = zip(params, summed, strict=True)
    return (_updated(*first, keep, scale, rounded), *(_updated(*pair, keep, scale, lambda product: product) for pair in rest))


def _updated(layer: Any, summed: Any, keep: jax.Array, scale: jax.Array, product: Any) -> Any:
    if not layer:  # an activation
        return layer
    keep, scale = keep.astype(layer.w.dtype), scale.astype(layer.w.dtype)
    return jaxbp.Dense(product(keep * layer.w) - product(scale * summed.w), layer.b - scale * summed.b)


def rounded(product: jax.Array) -> jax.Array:
    """A product as it stands in its format, kept from being fused with the sum that follows.

    The maximum with the least finite number changes no finite value, but a compiler cannot look through it. A barrier of
    `jax.lax` does not last to the compiled code on CPU, and a `reduce_precision` to the same precision is taken out.
    """
    return jnp.maximum(product, -float(jnp.finfo(product.dtype).max))
