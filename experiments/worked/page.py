"""The page that steps: one file with the drawing, the numbers as JAX computed them, and a script that recomputes them."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

from experiments.worked.drawing import draw
from experiments.worked.net import Net, entry, weight_name
from experiments.worked.passes import Values, largest, path_count, paths
from experiments.worked.text import chosen_name, full, kind, product, route, unit_rows, weight_rows
from jaxbp.page.document import grid
from jaxbp.page.markup import Markup, element
from jaxbp.page.style import STYLE


HERE = pathlib.Path(__file__).parent
SCRIPTS = ("compute.js", "words.js", "steps.js", "gradient.js", "view.js", "page.js")
STYLES = ("drawing.css", "page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # nothing is loaded from anywhere
CONVENTION = (
    "wˡⱼₖ leads to unit j of layer l from unit k of the layer before; all are counted from 1, the inputs are layer 0. "
    "δ is ∂C/∂z. The units of one layer have one colour; what goes back is orange."
)


def page(net: Net, values: Values, numbers: Markup | None = None) -> str:
    """The whole file. numbers: a table of published numbers beside these, for the end of the page."""
    title = f"Backpropagation, worked: {net.title}"
    shown, *rest = kind(net).split(", ")
    lead = f"A {shown} net, {', '.join(rest)}: every number of one forward and one backward pass, one step at a time."
    header = element("header", element("h1", title), element("p", lead, class_="lead"))
    sections = (_player(net, values), _change(), _why(net, values), _tables(net, values), _about(net, values, numbers))
    data = element("script", Markup(_json(data_of(net, values))), type="application/json", id="data")
    script = element("script", Markup('"use strict";\n' + "\n".join(_read(name) for name in SCRIPTS)))
    body = element("body", element("main", header, *sections), data, script)
    return f"<!doctype html>\n{element('html', _head(title), body, lang='en')}\n"


def data_of(net: Net, values: Values) -> dict[str, Any]:
    """What the script starts from: the net, and JAX's values to be compared with its own."""
    rows = lambda arrays: [None if array is None else np.asarray(array).tolist() for array in arrays]
    of_net = {"weights": rows(net.weights), "biases": rows(net.biases), "inputs": rows([net.inputs])[0]}
    of_net |= {"targets": rows([net.targets])[0], "activation": net.activation, "output": net.output, "loss": net.loss}
    fields = ("z", "a", "slope", "a_bar", "delta", "w_bar", "b_bar")
    jax = {name: rows(getattr(values, name)) for name in fields} | {"cost": values.cost}
    names, author = (net.example.names, net.example.author) if net.example else ({}, "")
    return {"net": of_net | {"rate": net.rate}, "jax": jax, "chosen": net.chosen, "names": names, "author": author}


def _json(value: Any) -> str:
    """JSON that can stand in a script; infinity, which JSON has not, as 1e999, which reads as infinity."""
    return json.dumps(value).replace("<", "\\u003c").replace("Infinity", "1e999")


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _head(title: str) -> Markup:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(STYLE + "".join(map(_read, STYLES)))),
    )


def _button(name: str, words: str, **more: str) -> Markup:
    return element("button", words, type="button", id=name, **more)


def _player(net: Net, values: Values) -> Markup:
    place = element("input", type="range", id="place", min="0", max="1", value="0", aria_label="Step")
    controls = element(
        "div",
        _button("back", "◀ Back", aria_keyshortcuts="ArrowLeft"),
        _button("next", "Next ▶", class_="main", aria_keyshortcuts="ArrowRight"),
        _button("play", "Play"),
        _button("restart", "Start over"),
        element("label", element("span", "", id="place-told"), place),
        class_="controls",
        role="group",
        aria_label="Steps",
    )
    panel = element(
        "div",
        element("h3", "The finished calculation", id="step-title"),
        element("p", "The steps need JavaScript; the drawing and the numbers do not.", id="step-words"),
        element("dl", id="step-lines", class_="lines"),
        class_="panel",
        role="region",
        aria_live="polite",
        aria_label="This step",
    )
    label = "Drawing of the net"
    drawn = element("div", draw(net, values), class_="scroll", id="drawing", tabindex="0", role="region", aria_label=label)
    stacked = " stacked" if sum(net.sizes[1:-1]) > 3 or len(net.sizes) > 3 else ""
    player = element("div", drawn, panel, class_=f"player{stacked}")
    phases = element("ol", id="phases", class_="phases", aria_label="Parts of the calculation")
    return element("section", element("h2", "Step by step"), controls, phases, player)


def _change() -> Markup:
    fieldset = lambda legend, *children: element("fieldset", element("legend", legend), *children)
    sliders = lambda name: element("div", id=name, class_="sliders")
    choice = element("select", id="weight", aria_label="Weight or bias to follow")
    rate = element("label", "learning rate η", element("input", type="number", id="rate", min="0", step="any"))
    biases = element("label", element("input", type="checkbox", id="biases-too"), "biases too")
    acts = element(
        "div",
        _button("update", "Update all weights"),
        biases,
        rate,
        _button("put-back", "Put the numbers back"),
        element("output", "", id="cost-told"),
        class_="acts",
    )
    words = "Everything above and below follows at once. Click an edge of the drawing, or choose here, to follow another weight."
    one = (
        fieldset("The weight that is followed", choice, sliders("chosen-slider")),
        fieldset("One step of gradient descent", acts),
    )
    two = (fieldset("Inputs", sliders("inputs")), fieldset("Targets", sliders("targets")))
    return element(
        "section", element("h2", "Change the numbers"), element("p", words), grid(*map(_all, (one, two))), class_="change"
    )


def _all(parts: tuple) -> Markup:
    return element("div", *parts)


def _table(name: str, title: str, columns: tuple[str, ...], numeric: int, rows: list, foot: bool = False) -> Markup:
    """A table that the script fills again; the first columns are texts, those from `numeric` on numbers."""
    head = [element("th", column, scope="col", class_="n" if i >= numeric else None) for i, column in enumerate(columns)]
    body = [_row(cells, numeric) for cells in rows]
    table = element(
        "table",
        element("caption", title) if title else None,
        element("thead", element("tr", head)),
        element("tbody", body[: len(body) - foot]),
        element("tfoot", body[len(body) - foot :]) if foot else None,
        id=name,
    )
    box = element("div", table, class_="scroll", tabindex="0", role="region", aria_label=title or "Paths")
    return element("figure", box)


def _row(cells: tuple[str, ...], numeric: int) -> Markup:
    first, *rest = cells
    others = [element("td", cell, class_="n" if i >= numeric else None) for i, cell in enumerate(rest, 1)]
    return element("tr", element("th", first, scope="row"), *others)


def _why(net: Net, values: Values) -> Markup:
    """The chosen weight's derivative as the sum over all paths."""
    bar = full(entry(net.chosen, values.w_bar, values.b_bar))
    shown, count = largest(paths(net, values)), path_count(net)
    rows = [(route(net, p), " · ".join(f.name for f in p.factors) + " = " + product(p.factors), full(p.product)) for p in shown]
    rows.append(("sum over all paths", "", bar))
    title = f"Why ∂C/∂{weight_name(net, *net.chosen)} is {bar}".replace("-", "−")
    words = f"{chosen_name(net)}: {count} {'path' if count == 1 else 'paths'} to the cost."
    table = _table("paths", "", ("path", "its factors, from the cost to the weight", "product"), 2, rows, foot=True)
    lead = element("p", words, id="why-words", class_="lead")
    return element("section", element("h2", title, id="why-title"), lead, table)


def _tables(net: Net, values: Values) -> Markup:
    """Every number of the calculation."""
    units = ("unit", "z", "a", "f′(z)", "∂C/∂a", "δ")
    weights = ("weight", "way", "w", "a where it comes from", "δ where it leads", "∂C/∂w", "after the update")
    blocks = (
        _table("units", "Units", units, 1, unit_rows(net, values)),
        _table("weights", "Weights", weights, 2, weight_rows(net, values)),
    )
    return element("section", element("h2", "All numbers"), *blocks)


def _about(net: Net, values: Values, numbers: Markup | None) -> Markup:
    known = net.example
    apart = f"{values.apart:.1e}".replace("-", "−")
    found = f"By hand-written backpropagation in JAX, in float64; its gradient and that of jax.grad differ by at most {apart}."
    parts = [element("p", CONVENTION), element("p", found), element("p", "", id="check", class_="live-only", role="status")]
    if known:
        parts.append(element("p", f"Source: {known.source}. {known.note}"))
    return element("section", element("h2", "About these numbers"), *parts, numbers)
