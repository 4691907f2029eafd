"""What the outer doors check before anything is traced: shapes, dtypes, keys, values that are there to be read.

The doors are `net.init`, `net(params, x)`, `value_and_grad`, `compare_gradients`, `fit`, `cross_validate` and
`as_custom_vjp`. `init` is the one place that knows which inputs a net takes, so the doors run it abstractly on the
spec of one example and compare the params that it would make with the params that came.
"""

from __future__ import annotations

import weakref
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


def as_spec(spec: Any) -> Any:
    """`ShapeDtypeStruct`s of one example; a plain shape such as (784,) means float32."""
    if isinstance(spec, int):
        raise TypeError(f"a spec is the shape of one example, such as ({spec},), got the number {spec}")
    if isinstance(spec, (tuple, list)) and all(isinstance(n, (int, np.integer)) for n in spec):
        return jax.ShapeDtypeStruct(tuple(int(n) for n in spec), jnp.float32)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), spec)


def spec_of(x: Any) -> Any:
    """The spec of one example of a batch x: every leaf without its leading axis."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], jnp.result_type(leaf)), x)


def is_floating(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def is_concrete(tree: Any) -> bool:
    """True where every leaf holds values (no tracer, no abstract shape), so that a check may read them."""
    return not any(isinstance(leaf, (jax.core.Tracer, jax.ShapeDtypeStruct)) for leaf in jax.tree.leaves(tree))


def require_floating(name: str, spec: Any) -> None:
    for leaf in jax.tree.leaves(spec):
        if not is_floating(leaf):
            raise TypeError(f"{name}: takes floating-point inputs, got {leaf.dtype}{list(leaf.shape)}; use x.astype(jnp.float32)")


def require_positive(name: str, what: str, value: Any, *, whole: bool = True) -> None:
    kinds = (int, np.integer) if whole else (int, float, np.number)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name}: {what} is {'a whole number' if whole else 'a number'}, got {value!r}")
    if not value > 0:
        raise ValueError(f"{name}: {what} has to be positive, got {value!r}")


def require_number(name: str, what: str, value: Any) -> bool:
    """Raise unless `value` is a number; True where it can be looked at, False where it is traced."""
    if isinstance(value, jax.core.Tracer) and value.ndim == 0 and is_floating(value):
        return False
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: {what} is a number, got {value!r}")
    return True


def require_flag(name: str, what: str, value: Any) -> None:
    if not isinstance(value, (bool, np.bool_)):  # any text is true, "no" too
        raise TypeError(f"{name}: {what} is True or False, got {value!r}")


def require_key(name: str, key: Any) -> None:
    """Raise unless `key` is a PRNG key (new style, or a legacy uint32 pair)."""
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed or (dtype == jnp.uint32 and jnp.shape(key)[-1:] in ((2,), (4,)))):
        raise TypeError(f"{name}: needs a PRNG key such as jax.random.key(0), got {describe(key)}")


def describe(value: Any) -> str:
    """'float32[32, 784]' for an array, `repr` for anything else."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)


def batch_size(x: Any, what: str = "x") -> int:
    """The length of the leading axis that all leaves of x share."""
    leaves = jax.tree.leaves(x)
    if not leaves:
        raise ValueError(f"{what}: an array with a leading batch axis was expected, got nothing")
    sizes = {jnp.shape(leaf)[:1] for leaf in leaves}
    if () in sizes:
        raise ValueError(f"{what}: a leading batch axis was expected, got a scalar; use {what}[None]")
    if len(sizes) > 1:
        raise ValueError(f"{what}: leaves disagree on the batch size: {sorted(n for (n,) in sizes)}")
    (n,) = sizes.pop()
    if n == 0:
        raise ValueError(f"{what}: the batch is empty (shape {[jnp.shape(leaf) for leaf in leaves]})")
    return n


def check_batch(net: Any, params: Any, x: Any, *, train: bool = False, key: Any = None) -> Any:
    """Raise unless `net` takes (params, x, train, key); returns the output spec of one example."""
    require_flag(repr(net), "train", train)
    if "key" in net.traits and train and key is None:
        raise ValueError(f"{net!r} draws at random in training: pass key=, or train=False")
    if key is not None:
        require_key(repr(net), key)
    batch_size(x)
    leaves, tree = jax.tree.flatten(spec_of(x))
    params_spec, out_spec = abstract_init(net, tuple(leaves), tree)
    _compare_params(net, params_spec, params, spec_of(x))
    if net.check is not None and is_concrete((params, x)):
        net.check(params, x)
    return out_spec


_inits: weakref.WeakKeyDictionary[Any, dict] = weakref.WeakKeyDictionary()  # nets made inside a trace die with it


def abstract_init(net: Any, leaves: tuple, tree: Any) -> tuple:
    """(params, output) specs that `net.init` would make for one example; remembered, for eager calls in a loop."""
    known = _inits.setdefault(net, {})
    if (leaves, tree) not in known:
        spec = jax.tree.unflatten(tree, leaves)
        known[leaves, tree] = jax.eval_shape(lambda key: _with_spec(net.init, key, spec), jax.random.key(0))
    return known[leaves, tree]


def _with_spec(init: Any, key: Any, spec: Any) -> tuple:
    params, out_spec = init(key, spec)
    return params, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), out_spec)


def _compare_params(net: Any, expected: Any, params: Any, x_spec: Any) -> None:
    wanted, wanted_tree = jax.tree_util.tree_flatten_with_path(expected)
    got, got_tree = jax.tree.flatten(params)
    if wanted_tree != got_tree:
        raise ValueError(
            f"{net!r}: params have another structure: expected {wanted_tree}, got {got_tree}; use params from net.init"
        )
    for (path, spec), leaf in zip(wanted, got, strict=True):
        if spec.shape != jnp.shape(leaf) or is_floating(spec) != is_floating(leaf):
            shown = jax.tree.map(describe, x_spec)
            raise ValueError(
                f"{net!r}: params{jax.tree_util.keystr(path)} should be {describe(spec)} for an example {shown}, "
                f"got {describe(jnp.asarray(leaf))}; give x the shape that net.init was given, or init again"
            )


def check_targets(loss: Any, outputs: Any, targets: Any, x: Any = None) -> None:
    """Raise unless `loss` takes these targets for these outputs (arrays or specs with the batch axis).

    x: what the net made the outputs of, where it is known, to tell of an axis that came with it.
    """
    n, m = batch_size(outputs, "outputs"), batch_size(targets, "targets")
    if n != m:
        raise ValueError(f"{loss!r}: {n} outputs but {m} targets")
    if loss.check is None:
        return
    try:
        loss.check(outputs, targets)
    except (ValueError, TypeError) as error:
        shape, of_x = getattr(outputs, "shape", ()), getattr(x, "shape", ())
        if len(shape) < 3 or len(of_x) < 3:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{error}; the outputs are {list(shape)} because x has shape {list(of_x)}") from None


def check_finite(what: str, tree: Any) -> None:
    """Raise where a concrete floating leaf holds NaN or infinity, with the first index."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if is_concrete(leaf) and is_floating(leaf):
            bad = np.argwhere(~np.isfinite(np.asarray(leaf)))
            if len(bad):
                raise ValueError(
                    f"{what}{jax.tree_util.keystr(path)}: {len(bad)} values are NaN or infinite, "
                    f"the first at index {bad[0].tolist()}; remove or impute them"
                )
