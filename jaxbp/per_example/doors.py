"""Per-example quantities of our nets, each from one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp import inputs, tree
from jaxbp.contracts import Layer, Loss
from jaxbp.factors import Factor, Rows, Statistic, Sum, at_least_float32, is_factor, total
from jaxbp.per_example import passing, reducing


def losses_and_factors(net: Layer, loss: Loss) -> Callable:
    """l_b and the factors of g_b = dl_b/dparams: what every function of this module reduces.

    Returns f(params, x, targets, ...) -> (losses (batch,), factors), factors with a `jaxbp.factors.Factor` for every leaf of
    params. They cross `jit`; `factors.total` sums them, `add_to` adds their sum to params without forming it.
    """
    passing.require("losses_and_factors", net, loss)
    return passing.door(lambda params, x, targets, options: passing.run(net, loss, params, x, targets, options)[:2])


def value_grads_and_norms(net: Layer, loss: Loss, *, penalty: Any = None, per_layer: bool = False) -> Callable:
    """l_b, (sum_b g_b) / sum w and |g_b| in one pass: the gradient of `value_and_grad` and the norm of each example's own.

    Returns f(params, x, targets, ...) -> (losses (batch,), grads, norms (batch,)). With per_layer=True norms are
    (batch, layers), a column for each of `layer_paths(net, params)`. `penalty` is added to grads alone. Where all weights
    are 0, all three are 0.

    >>> import jax, jaxbp
    >>> net, loss = jaxbp.dense(2), jaxbp.losses.softmax_cross_entropy()
    >>> params, _ = net.init(jax.random.key(0), (3,))
    >>> x, labels = jax.numpy.ones((4, 3)), jax.numpy.array([0, 1, 1, 0])
    >>> losses, grads, norms = value_grads_and_norms(net, loss)(params, x, labels)
    >>> losses.shape, norms.shape
    ((4,), (4,))
    """
    passing.require("value_grads_and_norms", net, loss)

    def f(params: Any, x: Any, targets: Any, options: dict) -> tuple:
        groups = passing.layer_groups(net, params) if per_layer else None
        done = passing.run(net, loss, params, x, targets, options, mean=True)
        grads = total(params, done.factors)
        if penalty is not None:
            grads = tree.add(grads, penalty.backward(params))
        return done.losses, grads, jnp.abs(done.weight) * jnp.sqrt(reducing.sq_norms(done.factors, groups))

    return passing.door(f)


def clipped_sum(net: Layer, loss: Loss, clip_norm: Any, *, per_layer: bool = False) -> Callable:
    """sum_b min(1, C / |g_b|) g_b, C = clip_norm, in one pass: the norms, then one contraction with scaled cotangents.

    Returns f(params, x, targets, ...) -> (losses (batch,), sum of the clipped gradients, norms before clipping (batch,)).
    Its sensitivity, the most that adding or removing one example changes it, is C. With per_layer=True every layer's part of
    g_b is clipped by itself, norms are (batch, layers) as in `value_grads_and_norms`, and clip_norm is one number for all
    layers or a sequence C_l with one for each; the sensitivity is sqrt(sum C_l^2). Noise and accounting are a DP library's.
    A gradient that is not finite makes the sum so: a sensitivity of C needs it left out, by sample_weight 0 or by that library.

    Raises: ValueError for a clip norm that is not positive, or not one for each layer.
    Source: Abadi et al. 2016, Deep Learning with Differential Privacy.
    """
    passing.require("clipped_sum", net, loss)
    several = isinstance(clip_norm, (tuple, list))
    if several and not per_layer:
        raise ValueError(f"clipped_sum: several clip norms are for per_layer=True, got {clip_norm!r}")
    for c in clip_norm if several else (clip_norm,):
        reducing.require_clip_norm("clipped_sum", c)

    def f(params: Any, x: Any, targets: Any, options: dict) -> tuple:
        groups = passing.layer_groups(net, params) if per_layer else None
        if groups and several and len(clip_norm) != groups[-1] + 1:
            names = ", ".join(passing.layer_paths(net, params))
            raise ValueError(f"clipped_sum: {len(clip_norm)} clip norms for {groups[-1] + 1} layers ({names})")
        done = passing.run(net, loss, params, x, targets, options)
        norms = jnp.sqrt(reducing.sq_norms(done.factors, groups))
        limits = jnp.broadcast_to(jnp.asarray(clip_norm, norms.dtype), norms.shape[1:])
        coefficients = reducing.clip_coefficients(norms, jnp.broadcast_to(limits, norms.shape))
        return done.losses, reducing.scaled_total(params, done.factors, coefficients, groups), norms

    return passing.door(f)


def per_example_grads(net: Layer, loss: Loss, *, chunk: int | None = None) -> Callable:
    """g_b for every example, instantiated: a tree like params whose leaves have a leading batch axis.

    Returns f(params, x, targets, ...) -> (losses (batch,), grads). It takes batch times the memory of params; with `chunk`
    the work in between is done for so many examples at a time. None in the place of population statistics.
    """
    passing.require("per_example_grads", net, loss)
    if chunk is not None:
        inputs.require_positive("per_example_grads", "chunk", chunk)

    def f(params: Any, x: Any, targets: Any, options: dict) -> tuple:
        done = passing.run(net, loss, params, x, targets, options)
        return done.losses, reducing.examples(params, done.factors, chunk)

    return passing.door(f)


def gram(net: Layer, loss: Loss) -> Callable:
    """K_bc = <g_b, g_c>, or <g_b, h_c> with the gradients h of another batch: who pulls the parameters where whom pulls them.

    Returns f(params, x, targets, *, others=None, sample_weight=None, key=None, train=True) -> (batch, batch'); others is
    (x, targets) or (x, targets, sample_weight) of the other batch. For dense layers no gradient is ever formed.

    Raises: ValueError where the matrix would take more than half the memory of the device.
    """
    passing.require("gram", net, loss)

    def f(
        params: Any,
        x: Any,
        targets: Any,
        *,
        others: Any = None,
        sample_weight: Any = None,
        key: Any = None,
        train: bool = True,
    ) -> jax.Array:
        if others is not None and not (isinstance(others, (tuple, list)) and len(others) in (2, 3)):
            raise TypeError("gram: others is (x, targets) or (x, targets, sample_weight) of another batch")
        first, second = inputs.batch_size(x), inputs.batch_size(x if others is None else others[0])
        dtype = at_least_float32(*[leaf.dtype for leaf in jax.tree.leaves(params)])
        reducing.require_room("gram", first, second, dtype)
        options = {"sample_weight": sample_weight, "key": key, "train": train}
        found = passing.run(net, loss, params, x, targets, options).factors
        if others is None:
            return reducing.gram(found)
        options["sample_weight"] = others[2] if len(others) == 3 else None
        return reducing.gram(found, passing.run(net, loss, params, others[0], others[1], options).factors)

    return f


def dot(net: Layer, loss: Loss) -> Callable:
    """<g_b, v> for every example: how fast l_b grows along v.

    Returns f(params, x, targets, v, *, sample_weight=None, key=None, train=True) -> (batch,); v has the tree and shapes of
    params. With v = -learning_rate * grads it is what a step does to each loss, to first order.

    Raises: ValueError where v has another tree or other shapes.
    """
    passing.require("dot", net, loss)

    def f(
        params: Any, x: Any, targets: Any, v: Any, *, sample_weight: Any = None, key: Any = None, train: bool = True
    ) -> jax.Array:
        reducing.require_like("dot", params, v)
        options = {"sample_weight": sample_weight, "key": key, "train": train}
        return reducing.dot(passing.run(net, loss, params, x, targets, options).factors, v)

    return f


def second_moment(net: Layer, loss: Loss) -> Callable:
    """(sum_b g_b^2) / n, elementwise, n the examples of weight other than 0: the diagonal of the empirical Fisher matrix.

    Returns f(params, x, targets, ...) -> (losses (batch,), mean, second moment), mean = (sum_b g_b) / n; both are trees like
    params, the second moment in at least float32.
    """
    passing.require("second_moment", net, loss)

    def f(params: Any, x: Any, targets: Any, options: dict) -> tuple:
        done = passing.run(net, loss, params, x, targets, options)
        return done.losses, reducing.mean(params, done), reducing.mean_square(done)

    return passing.door(f)


def variance(net: Layer, loss: Loss) -> Callable:
    """(sum_b g_b^2 - n G^2) / (n - 1), elementwise, G = (sum_b g_b) / n: the unbiased variance over examples.

    Returns f(params, x, targets, ...) -> (losses (batch,), G, variance). NaN where fewer than two examples have a weight
    other than 0. Digits are lost where the variance is far below G^2.

    Raises: ValueError for a batch of one.
    """
    passing.require("variance", net, loss)

    def f(params: Any, x: Any, targets: Any, options: dict) -> tuple:
        require_two("variance", x)
        done = passing.run(net, loss, params, x, targets, options)
        n, sums = done.present, total(params, done.factors, at_least_float32(done.losses))
        freedom = jnp.where(n > 1, n - 1, jnp.nan)
        spread = jax.tree.map(lambda q, s: jnp.maximum(q - s * s / n, 0) / freedom, reducing.second_moment(done.factors), sums)
        return done.losses, jax.tree.map(lambda s, p: (s / jnp.maximum(n, 1)).astype(p.dtype), sums, params), spread

    return passing.door(f)


def require_two(name: str, x: Any) -> None:
    if inputs.batch_size(x) < 2:
        raise ValueError(f"{name}: needs two examples or more, got a batch of one")


def input_grads(net: Layer, loss: Loss) -> Callable:
    """dl_b/dx_b for every example: what in the input moves its loss.

    Returns f(params, x, targets, ...) -> (losses (batch,), x_bar); x_bar has the tree of x, None at integer leaves.
    """
    passing.require("input_grads", net, loss)

    def f(params: Any, x: Any, targets: Any, options: dict) -> tuple:
        done = passing.run(net, loss, params, x, targets, options)
        return done.losses, done.x_bar

    return passing.door(f)


# --- a step without a dense gradient


def add_to(params: Any, factors: Any, scale: Any) -> Any:
    """params + scale sum_b g_b, the rows of a table scattered: where `params` is donated, the cost does not depend on its size.

    scale: a number or a scalar array, such as -learning_rate / batch. The sum is formed in at least float32 and added in the
    dtype of the parameter; rows are added one by one in that dtype. Population statistics stay as they are.

    >>> import jax, jaxbp
    >>> factor = jaxbp.factors.Rows(jax.numpy.array([2, 0]), jax.numpy.ones((2, 1)), 3)
    >>> add_to(jax.numpy.zeros((3, 1)), factor, -0.5).ravel().tolist()
    [-0.5, 0.0, -0.5]
    """

    def one(param: jax.Array, leaf: Factor) -> jax.Array:
        if not is_factor(leaf):
            raise TypeError(f"add_to: a Factor was expected for every leaf of params, got {type(leaf).__name__}")
        return _add(jnp.asarray(param), leaf, scale)

    return jax.tree.map(one, params, factors)


def _add(param: jax.Array, leaf: Factor, scale: Any) -> jax.Array:
    if isinstance(leaf, Statistic):
        return param
    if isinstance(leaf, Sum):
        for part in sorted(leaf.parts, key=lambda part: isinstance(part, Rows)):  # a look-up beside logits: scattered last
            param = _add(param, part, scale)
        return param
    if isinstance(leaf, Rows):
        wide = at_least_float32(leaf.rows)
        return leaf.scaled(jnp.full(leaf.batch, scale, wide)).add_to(param)
    wide = at_least_float32(param)
    return (param.astype(wide) + jnp.asarray(scale, wide) * leaf.total(wide)).astype(param.dtype)
