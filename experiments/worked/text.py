"""The worked example as text: each step as an equation with its numbers in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from experiments.worked.net import Net, alias, entry, unit, weight_name
from experiments.worked.passes import Factor, Path, Values, largest, path_count, paths, updated


CONVENTION = "w^l_jk leads to unit j of layer l from unit k of layer l-1, all counted from 1; layer 0 are the inputs."
SQUASH = {  # f, and f'(z) in terms of a = f(z)
    "sigmoid": ("1/(1 + e^-z)", "a(1 - a)"),
    "tanh": ("tanh z", "1 - a²"),
    "relu": ("max(0, z)", "1 where z > 0, else 0"),
    "identity": ("z", "1"),
}


def full(x: float) -> str:
    """Nine decimals, as the texts print, without zeros at the end; small and large numbers as 4.38568e-7.

    >>> full(0.74136506955), full(0.35), full(4.385677e-7)
    ('0.74136507', '0.35', '4.38568e-7')
    """
    if x == 0 or not math.isfinite(x):
        return "0" if x == 0 else "∞" if x > 0 else "-∞" if x < 0 else "not a number"
    if not 1e-5 <= abs(x) < 1e6:
        return _bare(f"{x:.5e}")
    return _bare(f"{x:.9f}")


def short(x: float) -> str:
    """Four digits, for the drawing.

    >>> short(0.74136507), short(-0.00043856), short(12), short(4.385677e-7)
    ('0.7414', '-0.0004386', '12', '4.39e-7')
    """
    if x == 0 or not math.isfinite(x):
        return full(x)
    if not 1e-4 <= abs(x) < 1e5:
        return _bare(f"{x:.2e}")
    return _bare(f"{x:.{max(0, 3 - math.floor(math.log10(abs(x))))}f}")


def _bare(written: str) -> str:
    """Without zeros behind the last other decimal, and before the exponent."""
    mantissa, e, exponent = written.partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return mantissa + (f"e{int(exponent):+d}" if e else "")


def worked(net: Net, values: Values) -> str:
    """The whole calculation, forward and backward, and the chosen weight factor by factor."""
    blocks = [
        _heading(net),
        ["Forward", *_forward(net, values)],
        ["Cost", f"  {_cost(net, values)}"],
        ["Backward, δ = ∂C/∂z", *_backward(net, values)],
        ["Gradient, ∂C/∂w = δ of where the weight leads · a of where it comes from, ∂C/∂b = δ", *_gradient(net, values)],
        _chosen(net, values),
        [f"The hand-written backward pass and jax.grad differ by at most {values.apart:.1e} (float64)."],
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def kind(net: Net) -> str:
    """'2-2-2, sigmoid units, quadratic cost'."""
    shown = "-".join(map(str, net.sizes))
    outputs = f", {net.output} outputs" if net.output != net.activation else ""
    units = f"{net.activation} units" if len(net.biases) > 1 or not outputs else ""
    cost = {"quadratic": "quadratic cost", "cross-entropy": "cross-entropy cost", "softmax": "log-likelihood cost"}[net.loss]
    return ", ".join(part for part in (shown, f"{units}{outputs}".strip(", "), cost) if part)


def chosen_name(net: Net) -> str:
    """w²₁₁, with what the example's text calls it."""
    called = alias(net, *net.chosen)
    return weight_name(net, *net.chosen) + (f", {net.example.author}'s {called}" if called and net.example else "")


def way(net: Net, key: tuple[int, int, int | None]) -> str:
    """h₁ → o₁, or bias of o₁."""
    layer, to, source = key
    end = unit(net, layer, to - 1)
    return f"bias of {end}" if source is None else f"{unit(net, layer - 1, source - 1)} → {end}"


def _heading(net: Net) -> list[str]:
    layers = ["inputs " + ", ".join(f"{unit(net, 0, k)} = {full(x)}" for k, x in enumerate(net.inputs))]
    layers.append("targets " + ", ".join(full(y) for y in net.targets))
    return [f"{kind(net)}: {net.title}", *layers, CONVENTION]


def _sum(terms: Iterable[tuple[float, float]], last: float | None = None) -> str:
    """0.15 · 0.05 + 0.2 · 0.1 + 0.35; what is negative in brackets."""
    parts = [f"{_signed(p)} · {_signed(q)}" for p, q in terms]
    return " + ".join(parts + ([] if last is None else [_signed(last)]))


def _signed(x: float) -> str:
    return f"({full(x)})" if x < 0 else full(x)


def _forward(net: Net, values: Values) -> Iterator[str]:
    for layer, (w, b) in enumerate(zip(net.weights, net.biases, strict=True), 1):
        squash = net.output if layer == len(net.weights) else net.activation
        before, z, a = values.a[layer - 1], values.z[layer - 1], values.a[layer]
        for j, row in enumerate(w):
            name = unit(net, layer, j)
            yield f"  {name:<4} z = {_sum(zip(row, before, strict=True), b[j])} = {full(z[j])}"
            if squash != "softmax":
                yield f"       a = {SQUASH[squash][0]} = {full(a[j])}"
        if squash == "softmax":
            e = np.exp(np.minimum(z, 500))
            for j in range(len(w)):
                yield f"  {unit(net, layer, j):<4} a = e^z / Σ e^z = {full(e[j])} / {full(e.sum())} = {full(a[j])}"


def _cost(net: Net, values: Values) -> str:
    pairs = list(zip(values.a[-1], net.targets, strict=True))
    if net.loss == "quadratic":
        terms = " + ".join(f"½({full(a)} - {_signed(y)})²" for a, y in pairs)
        return f"C = ½ Σ (a - y)² = {terms} = {full(values.cost)}"
    if net.loss == "cross-entropy":
        return f"C = -Σ (y ln a + (1 - y) ln(1 - a)) = {full(values.cost)}"
    return f"C = -Σ y ln a = {full(values.cost)}"


def _backward(net: Net, values: Values) -> Iterator[str]:
    last = len(net.biases)
    for layer in range(last, 0, -1):
        for j in range(net.sizes[layer]):
            name, delta = unit(net, layer, j), values.delta[layer - 1][j]
            if layer == last and net.fused:
                yield f"  {name:<4} δ = a - y = {full(values.a[-1][j])} - {_signed(net.targets[j])} = {full(delta)}"
                continue
            slope, bar = values.slope[layer - 1][j], values.a_bar[layer - 1][j]
            if layer == last:
                told = f"a - y = {full(values.a[-1][j])} - {_signed(net.targets[j])}"
            else:
                told = _sum(zip(net.weights[layer][:, j], values.delta[layer], strict=True))
            yield f"  {name:<4} ∂C/∂a = {told} = {full(bar)}"
            formula = SQUASH[net.output if layer == last else net.activation][1]
            yield f"       δ = ∂C/∂a · f'(z) = {_signed(bar)} · {full(slope)} = {full(delta)}    (f'(z) = {formula})"


def _gradient(net: Net, values: Values) -> Iterator[str]:
    w_new, b_new = updated(net, values)
    for layer in range(len(net.biases), 0, -1):
        delta, before = values.delta[layer - 1], values.a[layer - 1]
        for j in range(net.sizes[layer]):
            for k in range(net.sizes[layer - 1]):
                name = _named(net, layer, j + 1, k + 1)
                told = f"{_signed(delta[j])} · {_signed(before[k])} = {full(values.w_bar[layer - 1][j, k])}"
                yield f"  {name:<10} {told}    new {full(w_new[layer - 1][j, k])}"
            yield f"  {_named(net, layer, j + 1, None):<10} {full(delta[j])}    new {full(b_new[layer - 1][j])}"


def _named(net: Net, *key: int | None) -> str:
    called = alias(net, *key)  # type: ignore[arg-type]
    return weight_name(net, *key) + (f" ({called})" if called else "")  # type: ignore[arg-type]


def product(factors: Iterable[Factor]) -> str:
    return " · ".join(_signed(factor.value) for factor in factors)


def route(net: Net, path: Path) -> str:
    """C ← o₁ ← h₁, the units from the cost down to the weight."""
    first = net.chosen[0]
    names = [unit(net, first + i, j) for i, j in enumerate(path.units)]
    return " ← ".join(["C", *names[::-1]])


def _chosen(net: Net, values: Values) -> list[str]:
    bar, old = entry(net.chosen, values.w_bar, values.b_bar), entry(net.chosen, net.weights, net.biases)
    count = path_count(net)
    lines = [
        f"The chosen weight {chosen_name(net)} ({way(net, net.chosen)}): {count} {'path' if count == 1 else 'paths'} to the cost"
    ]
    shown = largest(paths(net, values))
    for path in shown:
        names = " · ".join(factor.name for factor in path.factors)
        lines.append(f"  {route(net, path)}: {names} = {product(path.factors)} = {full(path.product)}")
    if count > len(shown):
        lines.append(f"  ... the {len(shown)} largest; {count - len(shown)} more")
    if count > 1:
        lines.append(f"  sum over all paths = {full(bar)}")
    lines.append(
        f"  ∂C/∂w = {full(bar)}; after one step of η = {full(net.rate)}: {full(old)} - {full(net.rate)} · {_signed(bar)}"
        f" = {full(old - net.rate * bar)}"
    )
    return lines


# --- rows of the page's tables


def unit_rows(net: Net, values: Values) -> list[tuple[str, ...]]:
    """(unit, z, a, f'(z), ∂C/∂a, δ) of each."""
    lists = (values.z, None, values.slope, values.a_bar, values.delta)
    shown = lambda part, layer, j: "–" if layer == 0 or part[layer - 1] is None else _minus(part[layer - 1][j])
    return [
        (unit(net, layer, j), *(_minus(values.a[layer][j]) if part is None else shown(part, layer, j) for part in lists))
        for layer, n in enumerate(net.sizes)
        for j in range(n)
    ]


def weight_rows(net: Net, values: Values) -> list[tuple[str, ...]]:
    """(name, way, w, a where it comes from, δ where it leads, ∂C/∂w, w after the update) of each weight and bias."""
    after, rows = updated(net, values), []
    for layer, n in enumerate(net.sizes[1:], 1):
        for j in range(n):
            for k in (*range(net.sizes[layer - 1]), None):
                key = layer, j + 1, None if k is None else k + 1
                a = 1.0 if k is None else values.a[layer - 1][k]
                now, bar, new = (entry(key, *pair) for pair in ((net.weights, net.biases), (values.w_bar, values.b_bar), after))
                numbers = (now, a, values.delta[layer - 1][j], bar, new)
                rows.append((_named(net, *key), way(net, key), *map(_minus, numbers)))
    return rows


def _minus(x: float) -> str:
    return full(float(x)).replace("-", "−")
