"""One neuron that has to learn "1 in, 0 out": saturated, it hardly moves; the cross-entropy takes the slope out of its way."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from experiments.nielsen.found import Found
from experiments.published import Number
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.tables import Column, Table


UPDATES = 300
AFTER = [0, 1, 50, 100, 150, 200, 250, 300]
RATES = {"quadratic": 0.15, "cross-entropy": 0.005}
PUBLISHED = {  # cost, w and b at the start: outputs after 0, 1, 50, ... updates
    ("quadratic", 0.6, 0.9): (
        0.8175744761936437, 0.8120549687507373, 0.3870104444197765, 0.21099625384384169,
        0.15273988563341825, 0.12374742131804588, 0.10605578302487086, 0.09395569486364724,
    ),
    ("quadratic", 2.0, 2.0): (
        0.9820137900379085, 0.9819216511431202, 0.9759333969488284, 0.9641308469979145,
        0.933417472557329, 0.7887362969954184, 0.3572118293840026, 0.2028484242677765,
    ),
    ("cross-entropy", 0.6, 0.9): (
        0.8175744761936437, 0.8163519254388646, 0.751569152072135, 0.6789282277457144,
        0.6052771415040297, 0.5354904650929373, 0.47257563330949853, 0.4176792995988869,
    ),
    ("cross-entropy", 2.0, 2.0): (
        0.9820137900379085, 0.9818395163131578, 0.9710126732256416, 0.9539050917542706,
        0.9281625063016765, 0.8912194374195055, 0.8414815616272497, 0.7795870642061684,
    ),
}  # fmt: skip
LEAD = (
    "Input 1, target 0. The quadratic cost multiplies the error by the slope of the sigmoid, and at w = b = 2 that is 0.018, "
    "so δ is small where the error is largest, and 150 updates hardly move the output. With the cross-entropy δ is the error "
    "itself, largest at the worst start. The rates are the book's, and not to be compared: look at the shapes."
)


class Neuron(NamedTuple):
    output: np.ndarray  # after 0, 1, 2 ... updates
    delta: np.ndarray


def learn(cost: str, w: float, b: float, updates: int = UPDATES) -> Neuron:
    """Hand-written backpropagation of one example, by the library's own rules, in float64."""
    quadratic = cost == "quadratic"
    layers = (jaxbp.dense(1), jaxbp.sigmoid()) if quadratic else (jaxbp.dense(1),)
    loss = jaxbp.losses.quadratic() if quadratic else jaxbp.losses.sigmoid_cross_entropy()
    gradient = jaxbp.value_and_grad(jaxbp.serial(*layers), loss)
    with jax.enable_x64():
        x, y, rate = jnp.ones((1, 1), jnp.float64), jnp.zeros((1, 1), jnp.float64), RATES[cost]
        params = (jaxbp.Dense(jnp.full((1, 1), w, jnp.float64), jnp.full(1, b, jnp.float64)), ())[: len(layers)]

        def update(params: tuple, _: None) -> tuple:
            _, grads = gradient(params, x, y)
            z = params[0].w[0, 0] + params[0].b[0]
            return jax.tree.map(lambda p, g: p - rate * g, params, grads), (1 / (1 + jnp.exp(-z)), grads[0].b[0])

        _, (outputs, deltas) = jax.jit(lambda p: jax.lax.scan(update, p, length=updates + 1))(params)
    return Neuron(np.asarray(outputs), np.asarray(deltas))


def study() -> Found:
    neurons = {start: learn(*start) for start in PUBLISHED}
    name = lambda cost, w, b: f"{cost}, w = {w:g}, b = {b:g}"
    numbers = [
        Number(
            f"{name(*start)}: output after {', '.join(map(str, AFTER))}", published, neurons[start].output[AFTER], 1e-12, "ch. 3"
        )
        for start, published in PUBLISHED.items()
    ]
    columns = ["start", *(Column(str(n), digits=4) for n in AFTER)]
    rows = [(name(*start), *(float(neuron.output[n]) for n in AFTER)) for start, neuron in neurons.items()]
    table = Table(columns, rows, title="Output after so many updates")
    charts = [chart(cost, {s: n for s, n in neurons.items() if s[0] == cost}) for cost in RATES]
    section = Section("One saturated neuron", [grid(*charts), table.to_html()], LEAD)
    outputs = {name(*start): neuron.output for start, neuron in neurons.items()}
    return Found("neuron", section, numbers, {"outputs": outputs}, table)


def chart(cost: str, neurons: dict) -> object:
    """Outputs and δ; with the cross-entropy they are one and the same here, as the target is 0."""
    same = cost == "cross-entropy"
    series = [
        Series(f"{what}, w = {w:g}, b = {b:g}", values.tolist(), x=range(UPDATES + 1))
        for (_, w, b), neuron in neurons.items()
        for what, values in ((("output = δ", neuron.output),) if same else (("output", neuron.output), ("δ", neuron.delta)))
    ]
    title = f"{cost.capitalize()} cost, η = {RATES[cost]:g}"
    return figure(line_chart(series, title=title, x_label="updates", y_label="output and δ"), title=title)
