"""Inside: what happens in the layers of a net while it learns, from a good start and from a saturated one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from experiments import published, runs, terminal
from experiments.config import Inside
from experiments.published import Number
from experiments.study import trained
from experiments.study.inside_page import report
from jaxbp import initializers
from jaxbp.training.diagnosis import MEASURES, Diagnosis, diagnose
from jaxbp.training.sensitivity import sensitivity, vary


DEEP = (30, 30, 30, 30)


def run(options: Inside) -> int:
    with runs.opened("inside", options) as folder:
        sets = trained.sets(options.seed)
        nets = {"N(0, 1/n)": trained.net(options.hidden), "N(0, 1)": trained.net(options.hidden, large=True)}
        results = {name: trained.fit(options, net, sets, diagnose=1) for name, net in nets.items()}
        for name, result in results.items():
            terminal.section(f"Weights from {name}, at the start", told(result).table(0))
            terminal.section(f"Weights from {name}, in the last epoch", told(result).table())
        spread, depth, prices = spreads(options), by_depth(options, sets), price(options, nets["N(0, 1/n)"], sets)
        numbers = [*spread, *laws(depth)]
        terminal.section("Numbers", published.table(numbers, digits=4))
        first = next(iter(results.values()))
        sensitive = sensitivities(next(iter(nets.values())), first.params, sets)

        folder.write_json("summary.json", summary(results, depth, prices, numbers, sensitive))
        folder.write("report.html", report(results, depth, prices, numbers, sensitive))
        return terminal.close(folder, published.missed(numbers))


def told(result: jaxbp.FitResult) -> Diagnosis:
    assert result.diagnosis is not None
    return result.diagnosis


# --- initialisation


def spreads(options: Inside, units: int = 10_000) -> list[Number]:
    """The spread of z over many neurons with 1,000 inputs, 500 of them 1 and 500 of them 0."""
    x, key = jnp.concatenate([jnp.ones((1, 500)), jnp.zeros((1, 500))], axis=1), jax.random.key(options.seed)
    starts = {"spread of z, w ~ N(0, 1)": (initializers.normal(1.0), 22.4, 0.5)}  # three standard errors are allowed
    starts["spread of z, w ~ N(0, 1/n)"] = initializers.lecun_normal(), 1.22, 0.03
    numbers = []
    for name, (weights, book, within) in starts.items():
        layer = jaxbp.dense(units, w_init=weights, b_init=initializers.normal(1.0))
        params, _ = layer.init(key, (1000,))
        numbers.append(Number(name, book, float(jnp.std(layer(params, x))), within, "Nielsen, ch. 3"))
    return numbers


# --- errors by depth, and what has to be 0


def by_depth(options: Inside, sets: trained.Sets) -> Diagnosis:
    """A deeper net as it is drawn."""
    net = trained.net(DEEP)
    params, _ = net.init(jax.random.key(options.seed), (trained.FEATURES,))
    return diagnose(net, trained.LOSS)(params, *sets.train)


def laws(depth: Diagnosis) -> list[Number]:
    net, params = jaxbp.dense(3, bias=False), jaxbp.Dense(jnp.ones((4, 3)), None)
    silent = diagnose(net, trained.LOSS)(params, jnp.zeros((5, 4)), jnp.zeros(5, jnp.int32))
    grows = bool(np.all(np.diff(depth.delta[0]) > 0))
    return [
        Number("gradient, input activation 0", 0.0, float(silent.grad[0, 0]), 0.0, "BP4"),
        Number("‖δ‖ grows with depth", True, grows, 0.0, "Nielsen, ch. 5"),
    ]


# --- the price of looking


def price(options: Inside, net: jaxbp.Layer, sets: trained.Sets, pairs: int = 11) -> dict[str, float]:
    """Time with `diagnose=True` by time without, medians of alternated runs: mini-batches, and a full batch."""
    found = {}
    for name, batch, epochs in (("mini-batches", options.batch_size, options.epochs), ("full batch", None, 400)):
        go = lambda diagnose, batch=batch, epochs=epochs: (
            trained.fit(options, net, sets, diagnose=diagnose, batch_size=batch, epochs=epochs).seconds_run
        )
        _ = go(True), go(False)  # compile
        found[name] = float(np.median([go(True) / go(False) for _ in range(pairs)]))
    return found


# --- sensitivity


def sensitivities(net: jaxbp.Layer, params: Any, sets: trained.Sets) -> dict[str, np.ndarray]:
    """rates: (classes, 8, 8), the mean over the test images of each class of d logit / d pixel. varied: a pixel of the
    image that the net is least certain of, from 0 to 1."""
    images, labels = sets.test
    rates = np.asarray(jax.jit(sensitivity(net))(params, images))
    mean = np.stack([rates[labels == k, k].mean(0).reshape(8, 8) for k in range(trained.CLASSES)])
    ranked = np.sort(np.asarray(net(params, images)), axis=1)
    example = int(np.argmin(ranked[:, -1] - ranked[:, -2]))
    pixel = int(np.argmax(np.abs(rates[example, labels[example]])))
    grey = np.linspace(0, 1, 21)
    probs = jax.nn.softmax(vary(net)(params, images[example], pixel, grey))
    return {
        "rates": mean,
        "grey": grey,
        "probs": np.asarray(probs),
        "pixel": np.array(divmod(pixel, 8)),
        "label": labels[example],
    }


def summary(
    results: dict[str, jaxbp.FitResult],
    depth: Diagnosis,
    prices: dict[str, float],
    numbers: list[Number],
    sensitive: dict[str, np.ndarray],
) -> dict[str, Any]:
    measures = lambda looks: {name: getattr(looks, name) for name in ("layers", "epochs", *MEASURES)}
    return {
        "experiment": "inside",
        "accuracy": {name: result.history["validation_accuracy"] for name, result in results.items()},
        "inside": {name: measures(told(result)) for name, result in results.items()},
        "by_depth": measures(depth),
        "time_ratio": prices,
        "numbers": published.to_json(numbers),
        "sensitivity": sensitive,
    }
