"""The net that is worked: from options to its numbers, and what its units and weights are called.

As in the texts, W has a row for each unit that it leads to: z^l = W^l a^(l-1) + b^l. jaxbp multiplies from the other side,
x w, with w = W transposed.
"""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.config.options import UsageError, require
from experiments.config.worked import Worked, require_sizes
from experiments.worked.examples import EXAMPLES, Example


class Net(NamedTuple):
    """A net with its numbers. output: of the last layer; "softmax" and, with cross-entropy, "sigmoid" are fused with the loss.

    weights[l][j][k] leads from unit k of layer l to unit j of layer l + 1, all counted from 0. chosen: (layer, to, from) counted
    from 1 as on the command line; from is None for the bias. example: None where the numbers are no text's.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    inputs: np.ndarray
    targets: np.ndarray
    activation: str
    output: str
    loss: str
    rate: float
    chosen: tuple[int, int, int | None]
    title: str
    example: Example | None = None
    as_printed: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.inputs), *(len(b) for b in self.biases))

    @property
    def fused(self) -> bool:
        """Whether the loss is taken on z^L, so that δ^L = a^L - y."""
        return self.loss != "quadratic"


# --- from options to numbers


def net_of(options: Worked) -> Net:
    """The net that the options describe. Raises: UsageError for numbers that do not fit it or each other."""
    if options.params is not None:
        weights, biases, inputs, targets = _from_file(options.params)
        rate, title, example = 0.5, options.params.name, None
    else:
        name = options.example or ("mazur" if options.sizes in ((), (2, 2, 2)) else "random")
        example = EXAMPLES.get(name)
        weights, biases, inputs, targets = _of_example(example) if example else _drawn(options)
        rate, title = (example.rate, example.title) if example else (0.5, f"random numbers, seed {options.seed}")
    inputs, targets = (np.array(given or own, float) for given, own in ((options.inputs, inputs), (options.targets, targets)))
    rate = options.learning_rate or rate
    kinds = (options.activation, _output(options), options.loss)
    net = Net(weights, biases, inputs, targets, *kinds, rate, (0, 0, 0), title, example)
    _require_fit(net, options)
    return net._replace(chosen=_chosen(options.weight, net.sizes), as_printed=example is not None and _is_plain(options))


def _is_plain(options: Worked) -> bool:
    """Whether nothing but the example, and the weight that is explained, was chosen."""
    given = (options.inputs, options.targets, options.activation, options.output, options.loss, options.learning_rate)
    return given == ((), (), "sigmoid", None, "quadratic", None)


def _output(options: Worked) -> str:
    return {"cross-entropy": "sigmoid", "softmax": "softmax"}.get(options.loss, options.output or options.activation)


def _of_example(example: Example) -> tuple:
    arrays = [tuple(np.array(rows, float) for rows in part) for part in (example.weights, example.biases)]
    return (*arrays, example.inputs, example.targets)


def _drawn(options: Worked) -> tuple:
    """Numbers of two decimals, which a person can put into a pocket calculator."""
    sizes, draw = options.sizes or (2, 2, 2), np.random.default_rng(options.seed)
    weights = tuple(np.round(draw.normal(0, 1 / np.sqrt(n), (m, n)), 2) for n, m in itertools.pairwise(sizes))
    biases = tuple(np.round(draw.uniform(-0.5, 0.5, m), 2) for m in sizes[1:])
    inputs = np.round(draw.uniform(-1, 1, sizes[0]), 2)
    first = np.eye(1, sizes[-1])[0]
    near = {"sigmoid": 0.01 + 0.98 * first, "tanh": -0.9 + 1.8 * first}.get(_output(options), first)
    return weights, biases, inputs, first if options.loss != "quadratic" else np.round(near, 2)


def _from_file(path: pathlib.Path) -> tuple:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        weights = tuple(np.array(layer["w"], float) for layer in found["layers"])
        biases = tuple(np.array(layer["b"], float) for layer in found["layers"])
        return weights, biases, found["inputs"], found["targets"]
    except OSError as error:
        raise UsageError(f"--params {path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        wanted = '{"layers": [{"w": [[...], ...], "b": [...]}, ...], "inputs": [...], "targets": [...]}'
        raise UsageError(f"--params {path}: expected {wanted}, rows of w leading to one unit; {error!r}") from error


def _require_fit(net: Net, options: Worked) -> None:
    """Raise unless the numbers fit each other, the options and the loss."""
    where = f"--params {options.params}" if options.params else "--net"
    require(
        bool(net.biases) and all(b.ndim == 1 for b in net.biases), where, "a list b for each layer", [b.shape for b in net.biases]
    )
    wanted = list(zip(net.sizes[1:], (len(net.weights[0].T), *net.sizes[1:]), strict=False))
    shapes = [w.shape for w in net.weights]
    require(shapes == wanted, where, f"weights of shapes {wanted} (to, from)", shapes)
    sizes = (wanted[0][1], *net.sizes[1:])
    require_sizes(where, sizes)
    shown = "-".join(map(str, sizes))
    require(options.sizes in ((), sizes), "--net", f"{shown}, the units of {net.title}, or --example random", options.net)
    for option, values, n in (("--inputs", net.inputs, sizes[0]), ("--targets", net.targets, sizes[-1])):
        require(values.shape == (n,), option, f"{n} numbers for a {shown} net", values.tolist())
    whole = (*net.weights, *net.biases, net.inputs, net.targets)
    require(all(np.isfinite(part).all() for part in whole), where, "finite numbers", "one that is not")
    if net.fused:
        inside = ((net.targets >= 0) & (net.targets <= 1)).all()
        require(bool(inside), "--targets", f"numbers from 0 to 1 for --loss {net.loss}", net.targets.tolist())
    if net.loss == "softmax":
        require(sizes[-1] > 1, "--net", "two outputs or more for --loss softmax", shown)
        require(abs(net.targets.sum() - 1) < 1e-9, "--targets", "numbers that sum to 1 for --loss softmax", net.targets.tolist())


def _chosen(weight: str, sizes: tuple[int, ...]) -> tuple[int, int, int | None]:
    if not weight:
        return len(sizes) - 1, 1, 1
    layer, to, source = weight.split(",")
    last = len(sizes) - 1
    require(int(layer) <= last, "--weight", f"a layer from 1 to {last}, the last of this net", weight)
    require(int(to) <= sizes[int(layer)], "--weight", f"a unit from 1 to {sizes[int(layer)]} of layer {layer}", weight)
    if source == "b":
        return int(layer), int(to), None
    before = sizes[int(layer) - 1]
    require(int(source) <= before, "--weight", f"from a unit from 1 to {before} of layer {int(layer) - 1}, or b", weight)
    return int(layer), int(to), int(source)


# --- names

_UP, _DOWN = (str.maketrans("0123456789", digits) for digits in ("⁰¹²³⁴⁵⁶⁷⁸⁹", "₀₁₂₃₄₅₆₇₈₉"))


def unit(net: Net, layer: int, j: int) -> str:
    """x₁ of the inputs, o₁ of the outputs, h₁ of a single hidden layer, h²₁ of the second of several. j counts from 0."""
    last, below = len(net.biases), str(j + 1).translate(_DOWN)
    if layer in (0, last):
        return f"{'x' if layer == 0 else 'o'}{below}"
    return f"h{below}" if last == 2 else f"h{str(layer).translate(_UP)}{below}"


def weight_name(net: Net, layer: int, to: int, source: int | None) -> str:
    """w²₁₁ leads to unit 1 of layer 2 from unit 1 of the layer before; b²₁ is a bias. Units count from 1, as in the texts."""
    above, below = str(layer).translate(_UP), str(to).translate(_DOWN)
    return f"b{above}{below}" if source is None else f"w{above}{below}{str(source).translate(_DOWN)}"


def alias(net: Net, layer: int, to: int, source: int | None) -> str:
    """What the text of the example calls this weight; empty where it has no name for it."""
    names = net.example.names if net.example else {}
    return names.get(f"{layer},{to},{source or 'b'}", "")


def entry(key: tuple[int, int, int | None], weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> float:
    """The number of weights or biases at (layer, to, from), counted from 1; from is None for the bias."""
    layer, to, source = key
    return float(biases[layer - 1][to - 1] if source is None else weights[layer - 1][to - 1, source - 1])
