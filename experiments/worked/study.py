"""Work one small net: the calculation on the terminal, as text, as a drawing and as a page that steps."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

from experiments import published, runs
from experiments.config.worked import Worked
from experiments.published import Number
from experiments.worked.drawing import alone
from experiments.worked.net import Net, entry, net_of, weight_name
from experiments.worked.page import data_of, page
from experiments.worked.passes import Values, path_count, updated, values_of
from experiments.worked.text import full, worked


TOLERANCE = 1e-12  # of the hand-written gradient against jax.grad's


def run(options: Worked) -> int:
    net = net_of(options)
    with runs.opened("worked", options) as folder:
        values = values_of(net)
        told, numbers = worked(net, values), published_numbers(net, values)
        print(told)
        folder.write("worked.txt", told)
        folder.write("drawing.svg", alone(net, values))
        folder.write_json("summary.json", summary(net, values, numbers))
        table = published.table(numbers, title=f"{net.title}: printed and here") if numbers else None
        folder.write("report.html", page(net, values, table.to_html() if table else None))
        if table:
            print(table)
        print(f"\nPage that steps: {folder.path / 'report.html'}")
        problems = published.missed(numbers)
        if values.apart > TOLERANCE:
            problems.append(f"the hand-written gradient is {values.apart:.1e} from jax.grad's")
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
        return 1 if problems else 0


def published_numbers(net: Net, values: Values) -> list[Number]:
    """What the text of the example prints, beside ours; none where an option changes the example."""
    if net.example is None or not net.as_printed:
        return []
    return [Number(name, printed, _at(net, values, place), within) for name, place, printed, within in net.example.published]


def _at(net: Net, values: Values, place: str) -> Any:
    """The value at a place such as "a1", the activations of layer 1, or "-w_new2[0][1]"."""
    found = re.fullmatch(r"(-?)([a-z_]+)(\d*)((?:\[\d+\])*)", place)
    assert found, place
    minus, name, layer, indices = found.groups()
    lists = dict(zip(("w_new", "b_new"), updated(net, values), strict=True)) | values._asdict()
    value: Any = lists[name]
    if layer:
        value = value[int(layer) - (name != "a")]  # a begins with the inputs
    for index in re.findall(r"\d+", indices):
        value = value[int(index)]
    return -value if minus else value


def summary(net: Net, values: Values, numbers: list[Number]) -> dict[str, Any]:
    data = data_of(net, values)
    bar = entry(net.chosen, values.w_bar, values.b_bar)
    return {
        "experiment": "worked",
        "net": data["net"],
        **data["jax"],
        "weight": ",".join("b" if part is None else str(part) for part in net.chosen),
        "weight_name": weight_name(net, *net.chosen),
        "key_figure": (f"∂C/∂{weight_name(net, *net.chosen)}", full(bar)),
        "derivative": bar,
        "paths": path_count(net),
        "updated": entry(net.chosen, net.weights, net.biases) - net.rate * bar,
        "gradient_max_error": values.apart,
        "published": published.to_json(numbers),
        "published_missed": len(published.missed(numbers)),
        "parameters": int(np.sum([w.size for w in net.weights]) + np.sum([b.size for b in net.biases])),
        **runs.environment(),
    }
