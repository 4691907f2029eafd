"""M. Mazur, "A Step by Step Backpropagation Example" (2015): a 2-2-2 net, one example, every number of the text.

His rule updates all weights from the old ones and never the biases. His printed errors come from another rule, which the text
does not state: the hidden layer's gradient goes back through output weights that are already updated. Both are run here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxbp as bp
from experiments.classics import shared
from experiments.classics.shared import Story, half_unit
from experiments.config.classics import Mazur
from experiments.published import Number
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, grid, key_figures
from jaxbp.page.frame import Mark
from jaxbp.page.tables import Table
from jaxbp.page.wiring import draw_weights


NET, LOSS, RATE = shared.sigmoid_net(2, 2), bp.losses.quadratic(), 0.5
UPDATES = 10_000
AT = (1, 2, 10, 100, 1000, 10_000)
RULES = ("the rule of the text", "biases updated too", "through updated output weights")  # (biases, sequential) each
FLAGS = np.array([[False, False], [True, False], [False, True]])


class Trained(NamedTuple):
    """One row a rule of RULES. errors: before the first update and after each; outputs after the last; params after the first."""

    errors: np.ndarray
    outputs: np.ndarray
    first: Any


class Factors(NamedTuple):
    """dE/dw5 factor by factor: dE/dout_o1 · dout_o1/dnet_o1 · dnet_o1/dw5."""

    output_bar: float
    slope: float
    hidden: float
    product: float


def start() -> tuple:
    return (
        shared.dense([[0.15, 0.20], [0.25, 0.30]], [0.35, 0.35]),
        (),
        shared.dense([[0.40, 0.45], [0.50, 0.55]], [0.60, 0.60]),
        (),
    )


def example() -> tuple[jax.Array, jax.Array]:
    return jnp.array([[0.05, 0.10]], float), jnp.array([[0.01, 0.99]], float)


def update(params: tuple, biases: Any, sequential: Any) -> tuple:
    """One update by the gradient; with `sequential` the hidden layer's is taken through the new output weights."""
    x, targets = example()
    outputs, residuals = NET.forward(params, x)
    _, loss_residuals = LOSS.forward(outputs, targets)
    output_bar = LOSS.backward(loss_residuals, jnp.ones(1))

    def moved(layer: bp.Dense, grads: bp.Dense) -> bp.Dense:
        return bp.Dense(layer.w - RATE * grads.w, jnp.asarray(layer.b) - jnp.where(biases, RATE, 0.0) * jnp.asarray(grads.b))

    factors, _ = NET.backward(params, residuals, output_bar)
    out = moved(params[2], bp.factors.total(params[2], factors[2]))
    through = bp.Dense(jnp.where(sequential, out.w, params[2].w), params[2].b)
    factors, _ = NET.backward((*params[:2], through, ()), residuals, output_bar)
    return moved(params[0], bp.factors.total(params[0], factors[0])), (), out, ()


def error(params: tuple) -> jax.Array:
    x, targets = example()
    return LOSS.forward(NET.forward(params, x)[0], targets)[0][0]


@jax.jit
def train(flags: jax.Array) -> tuple:
    """(errors, outputs, params after one update) by each rule, side by side."""

    def run(flag: jax.Array) -> tuple:
        step = lambda params, _: ((new := update(params, flag[0], flag[1])), error(new))
        params, errors = lax.scan(step, start(), length=UPDATES)
        return jnp.append(error(start()), errors), NET.forward(params, example()[0])[0][0], update(start(), flag[0], flag[1])

    return jax.vmap(run)(flags)


def trained() -> Trained:
    errors, outputs, first = train(jnp.asarray(FLAGS))
    return Trained(np.asarray(errors), np.asarray(outputs), first)


def factors_of_w5() -> Factors:
    """The three factors of the text for dE/dw5, and their product, from forward and backward of each part."""
    params, (x, targets) = start(), example()
    hidden, _ = bp.serial(*NET.parts[:2]).forward(params[:2], x)
    net, _ = NET.parts[2].forward(params[2], hidden)
    outputs, residuals = bp.sigmoid().forward((), net)
    output_bar = LOSS.backward(LOSS.forward(outputs, targets)[1], jnp.ones(1))
    _, slope = bp.sigmoid().backward((), residuals, jnp.ones_like(net))
    three = float(output_bar[0, 0]), float(slope[0, 0]), float(hidden[0, 0])
    return Factors(*three, float(np.prod(three)))


def numbers(run: Trained) -> list[Number]:
    params, (x, targets) = start(), example()
    _, grads = bp.value_and_grad(NET, LOSS)(params, x, targets)
    hidden, _ = bp.serial(*NET.parts[:2]).forward(params[:2], x)
    w5, rule, first = factors_of_w5(), run.errors[0], shared.one_of(run.first, 0)
    close = 1e-12
    found = [
        Number("hidden activations", [0.593269992107, 0.596884378260], hidden[0], close),
        Number("outputs", [0.751365069552, 0.772928465321], NET(params, x)[0], close),
        Number("error E", 0.29837110876, rule[0], close),
        Number("∂E/∂out₁ · slope · hidden₁", [0.74136507, 0.186815602, 0.593269992], w5[:3], half_unit(8)),
        Number("∂E/∂w5 as their product", 0.082167041, w5.product, half_unit(9)),
        Number("∂E/∂W2", [[0.082167040564, 0.082667627848], [-0.022602540477, -0.022740242216]], grads[2].w.T, close),
        Number("∂E/∂W1", [[0.000438567734, 0.000877135469], [0.000497712735, 0.000995425471]], grads[0].w.T, close),
        Number("∂E/∂b2", [0.138498561629, -0.038098236517], grads[2].b, close),
        Number("∂E/∂b1", [0.008771354689, 0.009954254705], grads[0].b, close),
        Number("W2 after one update", [[0.35891648, 0.408666186], [0.51130127, 0.561370121]], first[2].w.T, half_unit(8)),
        Number("W1 after one update", [[0.149780716, 0.19956143], [0.24975114, 0.29950229]], first[0].w.T, half_unit(8)),
        Number("E after 1 update", 0.291027773694, rule[1], close, "the text prints 0.291027924"),
    ]
    later = {2: (0.283547133, 9), 10: (0.220918592, 9), 100: (0.0200468282, 10), 1000: (0.00111434945, 11)}
    found += [Number(f"E after {n} updates", e, rule[n], half_unit(places)) for n, (e, places) in later.items()]
    found += [
        Number("E after 10,000 updates", 3.510187783e-05, rule[10_000], half_unit(14), "the text prints 0.000035085"),
        Number("E after 1, biases updated too", 0.280471446791, run.errors[1, 1], close),
        Number("E after 10,000, biases updated too", 2.44756e-06, run.errors[1, 10_000], half_unit(11)),
        Number("printed: E after 1", 0.291027924, run.errors[2, 1], half_unit(9), "his other rule, run here"),
        Number("printed: E after 10,000", 0.000035085, run.errors[2, 10_000], half_unit(9), "his other rule, run here"),
        Number(
            "printed: outputs after 10,000", [0.015912196, 0.984065734], run.outputs[2], half_unit(9), "his other rule, run here"
        ),
    ]
    return found


def tell(options: Mazur) -> Story:
    run = trained()
    return Story(
        "Mazur: a step by step backpropagation example",
        "Two inputs, two hidden and two output neurons, all sigmoid; E = Σ ½ (t − o)², η = 0.5, one example 10,000 times.",
        numbers(run),
        [_net(run), _one_weight(), _training(run), misprint(run)],
        {"errors": {rule: dict(zip(map(str, AT), run.errors[k, list(AT)], strict=True)) for k, rule in enumerate(RULES)}},
    )


def _net(run: Trained) -> Section:
    drawn = [
        figure(_drawing(start(), "before the first update"), "Before the first update"),
        figure(_drawing(shared.one_of(run.first, 0), "after one update"), "After one update"),
    ]
    return Section("The net", drawn, "Activations of the example stand at the units, weights on their links.")


def _drawing(params: tuple, when: str) -> Any:
    x, _ = example()
    hidden, _ = bp.serial(*NET.parts[:2]).forward(params[:2], x)
    columns = [
        shared.units(["i1", "i2"], input=x[0]),
        shared.units(["h1", "h2"], out=hidden[0], bias=params[0].b),
        shared.units(["o1", "o2"], out=NET(params, x)[0], bias=params[2].b),
    ]
    return draw_weights(columns, [params[0].w, params[2].w], title=f"Mazur's net {when}", digits=4)


def _one_weight() -> Section:
    w5 = factors_of_w5()
    rows = [
        ["∂E/∂out₁", "out₁ − t₁", w5.output_bar],
        ["∂out₁/∂net₁", "out₁ (1 − out₁)", w5.slope],
        ["∂net₁/∂w5", "hidden₁", w5.hidden],
    ]
    digits = shared.digits("value", 9)
    table = Table(["factor", "is", digits], rows, foot=[["∂E/∂w5", "their product", w5.product]])
    return Section("One weight, factor by factor", [table.to_html()], "w5 leads from h1 to o1.")


def _training(run: Trained) -> Section:
    each = np.unique(np.geomspace(1, UPDATES, 200).astype(int))
    series = [shared.curve(rule, run.errors[k, each], np.log10(each)) for k, rule in enumerate(RULES[:2])]
    chart = line_chart(series, title="Error of the example", x_label="log₁₀ updates", y_label="E", log_y=True)
    columns = ["updates", *(shared.digits(rule, 9) for rule in RULES[:2])]
    table = Table(columns, [[str(n), *run.errors[:2, n]] for n in AT])
    times = run.errors[0, UPDATES] / run.errors[1, UPDATES]
    note = f"The text leaves the biases as they are; with them E is {times:.0f} times smaller after 10,000 updates."
    return Section("Training", [grid(figure(chart, "Error against updates"), table.to_html())], note)


def misprint(run: Trained) -> Section:
    """What the text prints, what its rule gives, and the rule that gives what it prints."""
    rows = [
        ["E after 1 update", 0.291027924, run.errors[0, 1], run.errors[2, 1]],
        ["E after 10,000 updates", 0.000035085, run.errors[0, UPDATES], run.errors[2, UPDATES]],
        ["out₁ after 10,000", 0.015912196, run.outputs[0, 0], run.outputs[2, 0]],
        ["out₂ after 10,000", 0.984065734, run.outputs[0, 1], run.outputs[2, 1]],
    ]
    names = ["", *(shared.digits(name, 9) for name in ("printed", "by his rule", "through new output weights"))]
    apart = np.abs(run.errors[2, 1:] / run.errors[0, 1:] - 1)
    each = np.unique(np.geomspace(1, UPDATES, 200).astype(int))
    chart = line_chart(
        [shared.curve("apart", apart[each - 1], np.log10(each))],
        title="How far the two rules are apart",
        x_label="log₁₀ updates",
        y_label="relative difference of E",
        log_y=True,
        marks=[Mark(0.0, "the text's first update")],
    )
    right = run.errors[0, [1, UPDATES]]
    key = key_figures(
        [("E after one update", f"{right[0]:.9f}", "not 0.291027924"), ("after 10,000", f"{right[1]:.9f}", "not 0.000035085")]
    )
    lead = (
        "The text says that all weights are updated after all gradients are known. Its printed numbers are those of a program "
        "that updates the output layer first and then goes back through the new weights."
    )
    return Section("The printed errors", [key, Table(names, rows).to_html(), figure(chart, "The two rules apart")], lead)


def run(options: Mazur) -> int:
    return shared.present("mazur", options, tell)
