"""One small net worked by hand."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Annotated, Literal

import tyro

from experiments.config.options import Study, require


MOST_UNITS, MOST_LAYERS = 8, 5  # what a person can follow, and what a page can show

Squash = Literal["sigmoid", "tanh", "relu", "identity"]


@dataclasses.dataclass(frozen=True)
class Worked(Study):
    """A small net worked by hand: every z, a and δ and one weight's factors, as text, as a drawing and as a page that steps."""

    net: Annotated[str, tyro.conf.arg(metavar="A-B-C")] = ""
    """Units of each layer, inputs first: 2 to 6 numbers from 1 to 8. By default those of the example or of the file."""
    weight: Annotated[str, tyro.conf.arg(metavar="LAYER,TO,FROM")] = ""
    """The weight that is explained, w^layer_to,from as in the texts: all counted from 1, the inputs being layer 0; 2,1,1 leads
    from the first hidden unit to the first of layer 2. LAYER,TO,b is a bias. By default the first weight of the last layer."""
    example: Literal["mazur", "han-kamber", "brownlee", "random"] | None = None
    """Whose numbers: by default Mazur's for a 2-2-2 net, random ones (two decimals, by --seed) for any other."""
    params: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """Your own numbers: {"layers": [{"w": [[to the first unit], ...], "b": [...]}, ...], "inputs": [...], "targets": [...]}."""
    inputs: tuple[float, ...] = ()
    """The inputs, in place of the example's."""
    targets: tuple[float, ...] = ()
    """What the outputs should be, in place of the example's."""
    activation: Squash = "sigmoid"
    """Of every unit, but for --output."""
    output: Squash | None = None
    """Of the last layer, with the quadratic loss; by default that of the others."""
    loss: Literal["quadratic", "cross-entropy", "softmax"] = "quadratic"
    """quadratic: sum (a - y)^2 / 2; cross-entropy: on sigmoid outputs; softmax: softmax outputs and their log-likelihood."""
    learning_rate: float | None = None
    """Step size of the update that is shown; by default the example's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.net:
            sizes = tuple(int(part) for part in self.net.split("-")) if re.fullmatch(r"\d+(-\d+)*", self.net) else ()
            require(bool(sizes), "--net", "units of each layer such as 2-3-1", self.net)
            require_sizes("--net", sizes)
        if self.weight:
            fits = re.fullmatch(r"[1-9]\d*,[1-9]\d*,([1-9]\d*|b)", self.weight)
            require(bool(fits), "--weight", "LAYER,TO,FROM counted from 1, or LAYER,TO,b for a bias", self.weight)
        if self.loss != "quadratic":
            of = {"cross-entropy": "sigmoid outputs", "softmax": "softmax outputs"}[self.loss]
            require(self.output is None, "--output", f"none with --loss {self.loss}, which is that of {of}", self.output)
        rate = self.learning_rate
        require(rate is None or 0 < rate < float("inf"), "--learning-rate", "a number above 0", rate)
        if self.params is not None:
            require(self.example is None, "--example", "none beside --params", self.example)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of --net; empty where it is not given."""
        return tuple(int(part) for part in self.net.split("-")) if self.net else ()


def require_sizes(option: str, sizes: tuple[int, ...]) -> None:
    shown = "-".join(map(str, sizes))
    require(2 <= len(sizes) <= MOST_LAYERS + 1, option, f"the inputs and 1 to {MOST_LAYERS} layers", f"{shown} ({len(sizes)})")
    require(all(1 <= n <= MOST_UNITS for n in sizes), option, f"1 to {MOST_UNITS} units a layer, to be seen one by one", shown)
