"""Per-example quantities against one gradient, and against the usual JAX idioms for them.

    python -m experiments.bench.per_example                  # everything
    python -m experiments.bench.per_example --only models    # nets, plain, models

All programs are compiled; ours and its reference run in turn and each pair gives one ratio, so that other work on the machine
falls on both alike. `nets`: our [784, 512, 512, 10] against one `jax.value_and_grad`. `plain`: `norms_of` on the same net in
plain JAX, against one gradient. `models`: `norms_of`, whole or in the chunks that the idioms use, against the best of
`vmap(grad)`, a loop over chunks of it, and both with the weights stored transposed.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import jaxbp as bp
from experiments.bench.paired import Line, compare, compiled, fastest, run
from jaxbp import per_example


SIZES = [784, 512, 512, 10]
NET, LOSS = bp.mlp(SIZES, hidden=bp.relu()), bp.losses.softmax_cross_entropy()


# --- the usual idioms


def mean_and_norms(losses: jax.Array, grads: Any) -> tuple:
    """What everyone writes after `vmap(grad)`."""
    squares = [jnp.sum(g.reshape(len(g), -1) ** 2, axis=1) for g in jax.tree.leaves(grads)]
    return losses, jax.tree.map(lambda g: jnp.mean(g, axis=0), grads), jnp.sqrt(sum(squares[1:], squares[0]))


def by_vmap(loss_of_one: Callable, params: Any, batch: Any) -> tuple:
    return mean_and_norms(*jax.vmap(jax.value_and_grad(loss_of_one), (None, 0))(params, batch))


def by_chunks(loss_of_one: Callable, chunk: int, params: Any, batch: Any) -> tuple:
    """A loop over chunks, whose sums are added up as they come (`lax.map` would keep all gradients)."""

    def add(total: Any, part: Any) -> tuple:
        losses, grads, norms = by_vmap(loss_of_one, params, part)
        return jax.tree.map(lambda t, g: t + chunk * g, total, grads), (losses, norms)

    n = len(jax.tree.leaves(batch)[0])
    parts = jax.tree.map(lambda a: a.reshape(n // chunk, chunk, *a.shape[1:]), batch)
    total, (losses, norms) = lax.scan(add, jax.tree.map(jnp.zeros_like, params), parts)
    return losses.ravel(), jax.tree.map(lambda g: g / n, total), norms.ravel()


def turned(loss_of_one: Callable) -> Callable:
    """The same loss with every matrix stored transposed."""
    return lambda params, example: loss_of_one(turn(params), example)


def turn(params: Any) -> Any:
    return jax.tree.map(lambda p: p.T if p.ndim == 2 else p, params)


def idioms(loss_of_one: Callable, params: Any, batch: Any, chunks: tuple[int, ...]) -> dict[str, tuple[Any, tuple]]:
    found = {}
    for layout, loss, p in (("", loss_of_one, params), (", weights transposed", turned(loss_of_one), turn(params))):
        forms = {f"vmap(grad){layout}": functools.partial(by_vmap, loss)}
        forms |= {f"chunks of {c}{layout}": functools.partial(by_chunks, loss, c) for c in chunks}
        found |= {name: (compiled(form, p, batch), (p, batch)) for name, form in forms.items()}
    return found


# --- our nets


def data(batch: int) -> tuple:
    x = jax.random.normal(jax.random.key(1), (batch, SIZES[0]))
    return x, jax.random.randint(jax.random.key(2), (batch,), 0, SIZES[-1])


def nets(pairs: int) -> list[Line]:
    params, _ = NET.init(jax.random.key(0), (SIZES[0],))
    lines = []
    doors = [
        ("mean gradient + norms", per_example.value_grads_and_norms(NET, LOSS), 1.10, 1.5),
        ("sum of clipped gradients", per_example.clipped_sum(NET, LOSS, 1.0), 1.15, None),
        ("mean gradient + second moment", per_example.second_moment(NET, LOSS), 1.6, None),
    ]
    for batch in (128, 1024):
        args = (params, *data(batch))
        reference = compiled(jax.value_and_grad(bp.objective(NET, LOSS)), *args)
        for name, door, wanted, memory in doors:
            lines.append(compare(f"batch {batch}: {name}", compiled(door, *args), args, reference, args, pairs, wanted, memory))
    args = (params, *data(256))
    reference = compiled(jax.value_and_grad(bp.objective(NET, LOSS)), *args)
    lines.append(compare("Gram matrix of 256", compiled(per_example.gram(NET, LOSS), *args), args, reference, args, pairs, 1.5))
    return lines


# --- the same net in plain JAX


def plain_params() -> Any:
    keys = jax.random.split(jax.random.key(0), len(SIZES) - 1)
    layer = lambda key, n, m: {"w": jax.random.normal(key, (n, m)) / n**0.5, "b": jnp.zeros(m)}
    return [layer(*args) for args in zip(keys, SIZES[:-1], SIZES[1:], strict=True)]


def plain_loss(params: Any, example: Any) -> jax.Array:
    h, label = example
    for i, layer in enumerate(params):
        h = h @ layer["w"] + layer["b"]
        h = jax.nn.relu(h) if i < len(params) - 1 else h
    return -jax.nn.log_softmax(h)[label]


def mean_loss(loss_of_one: Callable, params: Any, batch: Any) -> jax.Array:
    return jnp.mean(jax.vmap(loss_of_one, (None, 0))(params, batch))


def plain(pairs: int) -> list[Line]:
    lines, params = [], plain_params()
    for batch in (128, 1024):
        args = (params, data(batch))
        reference = compiled(jax.value_and_grad(functools.partial(mean_loss, plain_loss)), *args)
        program = compiled(per_example.norms_of(plain_loss), *args)
        lines.append(compare(f"batch {batch}: norms_of, plain JAX", program, args, reference, args, pairs, 1.15, 1.5))
        if batch == 128:
            for name, (idiom, own) in idioms(plain_loss, params, args[1], (8, 32)).items():
                lines.append(compare(f"batch {batch}: {name}", idiom, own, reference, args, pairs, None))
    return lines


# --- models of all kinds, against the best idiom


def draw(seed: int, **shapes: tuple[int, ...]) -> dict:
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    fan_in = lambda shape: max(1, int(jnp.prod(jnp.array(shape[:-1]))))
    return {
        name: jax.random.normal(k, shape) / fan_in(shape) ** 0.5 for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def cnn(params: Any, example: Any) -> jax.Array:
    h, label = example[0][None], example[1]
    for kernel in ("k1", "k2"):
        h = jax.nn.relu(lax.conv_general_dilated(h, params[kernel], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    return -jax.nn.log_softmax(h.ravel() @ params["w"])[label]


def rnn(params: Any, example: Any) -> jax.Array:
    def step(h: jax.Array, x: jax.Array) -> tuple:
        return jnp.tanh(x @ params["wx"] + h @ params["wh"] + params["b"]), None

    h, _ = lax.scan(step, jnp.zeros(params["b"].shape), example[0])
    return -jax.nn.log_softmax(h @ params["out"])[example[1]]


def attention(q: jax.Array, k: jax.Array, v: jax.Array, heads: int = 4) -> jax.Array:
    apart = lambda a: a.reshape(len(a), heads, -1).transpose(1, 0, 2)
    q, k, v = apart(q), apart(k), apart(v)
    scores = jnp.where(jnp.tri(q.shape[1], dtype=bool)[None], q @ k.transpose(0, 2, 1), -1e9)
    return (jax.nn.softmax(scores / q.shape[-1] ** 0.5) @ v).transpose(1, 0, 2).reshape(q.shape[1], -1)


def block(params: Any, h: jax.Array, sliced: bool) -> jax.Array:
    """qkv is one product that is cut, or with sliced=True a weight that is cut into three."""
    norm = lambda a: (a - jnp.mean(a, -1, keepdims=True)) / jnp.sqrt(jnp.var(a, -1, keepdims=True) + 1e-5)
    a = norm(h)
    q, k, v = (a @ w for w in jnp.split(params["qkv"], 3, axis=1)) if sliced else jnp.split(a @ params["qkv"], 3, axis=1)
    h = h + attention(q, k, v) @ params["o"]
    return h + jax.nn.relu(norm(h) @ params["up"]) @ params["down"]


def transformer(params: Any, example: Any, *, tied: bool = False) -> jax.Array:
    """Next-token loss; tied: the table also gives the logits, and the qkv weight is cut."""
    ids = example[0]
    h = block(params, params["table"][ids], sliced=tied)
    logits = h @ (params["table"].T if tied else params["out"])
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits[:-1]), ids[1:, None], axis=1))


def cases() -> list[tuple[str, Callable, Any, Any, tuple[int, ...]]]:
    key, labels = jax.random.key(1), jax.random.randint(jax.random.key(2), (64,), 0, 10)
    vocabulary, width = 256, 128
    common = {"table": (vocabulary, width), "qkv": (width, 3 * width), "o": (width, width)}
    common |= {"up": (width, 4 * width), "down": (4 * width, width)}
    images, sequences = jax.random.normal(key, (64, 28, 28, 1)), jax.random.normal(key, (64, 32, 64))
    found: list = [
        ("MLP, batch 128", plain_loss, plain_params(), data(128), (8, 32)),
        ("CNN, batch 64", cnn, draw(0, k1=(3, 3, 1, 32), k2=(3, 3, 32, 64), w=(3136, 10)), (images, labels), (8, 16)),
        ("RNN, 32 steps", rnn, draw(0, wx=(64, 128), wh=(128, 128), b=(128,), out=(128, 10)), (sequences, labels), (8, 32)),
    ]
    for steps, batch in ((8, 64), (32, 32), (256, 16)):
        ids = jax.random.randint(key, (batch, steps), 0, vocabulary)
        params = draw(0, **common, out=(width, vocabulary))
        found.append((f"transformer, T = {steps}, batch {batch}", transformer, params, (ids,), (8,)))
        tied = functools.partial(transformer, tied=True)
        found.append((f"tied and sliced, T = {steps}, batch {batch}", tied, draw(0, **common), (ids,), (8,)))
    return found


def models(pairs: int) -> list[Line]:
    lines = []
    for name, loss, params, batch, chunks in cases():
        args = (params, batch)
        ours = {"": compiled(per_example.norms_of(loss), *args)}
        ours |= {f" by {c}": compiled(per_example.norms_of(loss, chunk=c), *args) for c in chunks}
        rivals = idioms(loss, params, batch, chunks)
        gradient = compiled(jax.value_and_grad(functools.partial(mean_loss, loss)), *args)
        quick = {f"norms_of{form}": fastest(program, args) for form, program in ours.items()}
        form = min(ours, key=lambda form: quick[f"norms_of{form}"])
        program = ours[form]
        quick |= {rival: fastest(f, own) for rival, (f, own) in rivals.items()}
        best = min(rivals, key=quick.__getitem__)
        print(f"{name}: " + ", ".join(f"{rival} {took * 1e3:.1f} ms" for rival, took in quick.items()), flush=True)
        compare(f"{name}: norms_of{form} / one gradient", program, args, gradient, args, pairs, None)
        _, _, norms = program(*args)
        error = jnp.max(jnp.abs(norms - rivals["vmap(grad)"][0](*args)[2])) / jnp.max(norms)
        assert error < 1e-5, f"{name}: {error:.1e} from vmap(grad)"
        lines.append(compare(f"{name}: norms_of{form} / {best}", program, args, *rivals[best], pairs, 1.05))
    return lines


if __name__ == "__main__":
    sys.exit(run(__doc__, {"nets": nets, "plain": plain, "models": models}))
