"""Losses of one example in plain JAX whose weights are used in every way that a model may use them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbp import factors as F
from jaxbp.per_example.views import View


def arrays(**shapes):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def batch_of(*shapes, n=5, ids=None):
    rng = np.random.default_rng(1)
    return tuple(rng.normal(size=(n, *s)) if ids is None or i else rng.integers(*ids, (n, *s)) for i, s in enumerate(shapes))


def mlp(p, e):
    h = jax.nn.relu(e[0] @ p["w"] + p["b"])
    return jnp.sum((h @ p["v"] - e[1]) ** 2)


def both_orientations(p, e):
    return jnp.sum((jnp.tanh(e[0] @ p["w"]) @ p["w"].T - e[0]) ** 2) + jnp.sum(p["w"] @ e[1])


def used_often(p, e):
    h = e[0]
    for _ in range(4):
        h = jnp.tanh(h @ p["w"])
    return jnp.sum(h**2)


def sliced(p, e):
    q, k, v = jnp.split(p["w"], 3, axis=1)
    a = jax.nn.softmax((e[0] @ q) @ (e[0] @ k).T)
    return jnp.sum(jnp.sin(a @ (e[0] @ v)))


def overlapping(p, e):
    return jnp.sum((e[0] @ p["w"][:, :3]) ** 2) + jnp.sum((e[0] @ p["w"][:, 2:]) ** 3)


def whole_and_part(p, e):
    return jnp.sum((e[0] @ p["w"]) ** 2) + jnp.sum((p["w"][1:3] @ e[1]) ** 3)


def reshaped(p, e):
    """Heads of attention: kernels of three axes, contracted over one and over two."""
    heads = jnp.einsum("td,dhk->htk", e[0], p["q"])
    keys = jnp.einsum("td,hdk->htk", e[0], p["k"])
    a = jax.nn.softmax(jnp.einsum("htk,hsk->hts", heads, keys))
    return jnp.sum(jnp.einsum("hts,hsk,hkd->td", a, heads, p["o"]) ** 2)


def heads_apart(p, e):
    """A weight for each head: a product with a batch axis, which is not read."""
    return jnp.sum(jnp.einsum("td,hdk->htk", e[0], p["w"]) ** 2) + jnp.sum(jnp.einsum("ht,htk->hk", e[1], p["w"]) ** 2)


def recurrent(p, e):
    def step(h, x):
        h = jnp.tanh(x @ p["wx"] + h @ p["wh"] + p["b"])
        return h, h

    _, hs = lax.scan(step, jnp.zeros(4), e[0], reverse=True)
    return jnp.sum((hs @ p["out"]) ** 2)


def scans_in_scans(p, e):
    def outer(h, x):
        inner = lambda g, _: (jnp.tanh(g @ p["w"] + x), None)
        return lax.scan(jax.checkpoint(inner), h @ p["w"].T, None, length=2)[0], None

    return jnp.sum(lax.scan(outer, e[1], e[0])[0] ** 2)


def stacked_layers(p, e):
    """Weights cut along the loop: not read, taken per example."""
    return jnp.sum(lax.scan(lambda h, w: (jnp.tanh(h @ w), None), e[0], p["w"])[0] ** 2)


def carried(p, e):
    step = lambda c, x: ((jnp.tanh(c[0] @ c[1] + x), c[1]), None)
    return jnp.sum(lax.scan(step, (e[1], p["w"]), e[0])[0][0])


def called(p, e):
    layer = jax.jit(lambda w, x: jnp.tanh(x @ w.T))
    return jnp.sum(jax.checkpoint(layer)(p["w"], layer(p["w"], e[0])) ** 2)


def language(p, e):
    h = p["table"][e[0]] + p["place"]
    h = jnp.tanh(h @ p["w"])
    logits = h @ p["table"].T
    return -jnp.sum(jax.nn.log_softmax(logits)[jnp.arange(3), e[0]]) + jnp.sum(jnp.take(p["table"], e[0], axis=0, mode="clip"))


def out_of_range(p, e):
    filled = jnp.take(p["table"], e[0], axis=0, mode="fill", fill_value=0.0)
    return jnp.sum(jnp.take(p["table"], e[0], axis=0, mode="clip") ** 2) + jnp.sum(filled**3)


def convolved(p, e):
    one = functools.partial(lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    h = jnp.tanh(one(e[0][None], p["k"], (2, 1), "SAME", rhs_dilation=(1, 2)))
    h = one(h, p["grouped"], (1, 1), ((1, 0), (0, 2)), feature_group_count=2)
    h = lax.conv_general_dilated(h.transpose(0, 3, 1, 2), p["other"], (1, 1), "VALID")  # NCHW, OIHW
    return jnp.sum(jnp.tanh(h))


def convolved_over_time(p, e):
    one = functools.partial(lax.conv_general_dilated, window_strides=(1,), dimension_numbers=("NWC", "WIO", "NWC"))
    steps = one(
        e[0].reshape(2, 3, 2), p["k"], padding="SAME"
    )  # the batch axis of the convolution is part of the example: not read
    return jnp.sum(one(e[0][None], p["once"], lhs_dilation=(2,), padding=((1, 1),)) ** 2) + jnp.sum(steps**2)


def not_understood(p, e):
    scale = jnp.linalg.norm(p["w"])
    low_rank = p["a"] @ p["c"]
    chosen = lax.cond(e[0][0] > 0, lambda w: w @ e[0], lambda w: 2 * w @ e[0], p["d"])
    return jnp.sum((e[0] @ (p["w"] / scale)) ** 2) + jnp.sum((e[0] @ low_rank) ** 2) + jnp.sum(chosen**2) + p["s"] * e[0][1]


@jax.custom_vjp
def straight_through(w, x):
    return jnp.round(x @ w)


straight_through.defvjp(lambda w, x: (jnp.round(x @ w), (w, x)), lambda kept, y_bar: (jnp.outer(kept[1], y_bar), kept[0] @ y_bar))


def own_rule(p, e):
    return jnp.sum(straight_through(p["w"], e[0] @ p["v"]) ** 2)


def partly_unused(p, e):
    return jnp.sum((e[0] @ p["w"]) ** 2)


def mapped(p, e):
    return jnp.sum(jax.vmap(lambda x: jnp.tanh(x @ p["w"]) @ p["v"])(e[0]) ** 2)


CASES = {
    mlp: (arrays(w=(4, 6), b=6, v=(6, 2)), batch_of((4,), (2,)), {"w": F.Outer, "b": F.Each, "v": F.Outer}),
    both_orientations: (arrays(w=(4, 3)), batch_of((4,), (3,)), {"w": F.Each}),  # 3 uses of 12 numbers
    used_often: (arrays(w=(9, 9)), batch_of((9,)), {"w": F.Outer}),
    sliced: (arrays(w=(6, 18)), batch_of((3, 6)), {"w": F.Sum}),
    overlapping: (arrays(w=(9, 5)), batch_of((9,)), {"w": F.Each}),
    whole_and_part: (arrays(w=(4, 4)), batch_of((4,), (4,)), {"w": F.Each}),
    reshaped: (arrays(q=(6, 2, 3), k=(2, 6, 3), o=(2, 3, 6)), batch_of((2, 6)), {"q": View, "k": View, "o": View}),
    heads_apart: (arrays(w=(2, 3, 3)), batch_of((2, 3), (2, 3)), {"w": F.Each}),
    recurrent: (arrays(wx=(9, 4), wh=(4, 4), b=4, out=(4, 9)), batch_of((2, 9)), {"wx": F.Outer, "wh": F.Outer, "b": F.Each}),
    scans_in_scans: (arrays(w=(9, 9)), batch_of((2, 9), (9,)), {"w": F.Each}),
    stacked_layers: (arrays(w=(2, 3, 3)), batch_of((3,)), {"w": F.Each}),
    carried: (arrays(w=(3, 3)), batch_of((2, 3), (3,)), {"w": F.Each}),
    called: (arrays(w=(5, 5)), batch_of((5,)), {"w": F.Outer}),
    language: (arrays(table=(19, 20), place=(3, 20), w=(20, 20)), batch_of((3,), ids=(0, 7)), {"table": F.Sum, "w": F.Outer}),
    out_of_range: (arrays(table=(4, 2)), batch_of((3,), ids=(-6, 7)), {"table": F.Rows}),
    convolved: (
        arrays(k=(3, 2, 2, 4), grouped=(2, 2, 2, 6), other=(3, 6, 2, 1)),
        batch_of((5, 6, 2)),
        {"k": F.Conv, "grouped": F.Conv, "other": View},
    ),
    convolved_over_time: (arrays(k=(2, 2, 3), once=(2, 2, 3)), batch_of((6, 2)), {"k": F.Each, "once": F.Each}),
    not_understood: (
        arrays(w=(3, 2), a=(3, 2), c=(2, 3), d=(2, 3), s=()),
        batch_of((3,)),
        dict.fromkeys(["w", "a", "c", "d", "s"], F.Each),
    ),
    own_rule: (arrays(w=(3, 2), v=(3, 3)), batch_of((3,)), {"w": F.Each, "v": F.Outer}),
    partly_unused: (arrays(w=(3, 2), free=(2, 2), empty=(0, 2)), batch_of((3,)), {"w": F.Outer, "free": View, "empty": F.Each}),
    mapped: (arrays(w=(7, 9), v=(9, 5)), batch_of((2, 7)), {"w": F.Outer, "v": F.Outer}),
}
