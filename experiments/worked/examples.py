"""The nets of the texts, with what the texts print about them."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """Numbers of one text. weights: rows lead to one unit, as in the texts; names: what the text calls a weight, by its key.

    published: (what, place in the values, printed numbers, half a unit of their last place), by which a run is checked; a minus
    before the place where the text's error is that of a step, -∂C/∂z.
    """

    author: str
    title: str
    source: str
    note: str
    weights: tuple
    biases: tuple
    inputs: tuple[float, ...]
    targets: tuple[float, ...]
    rate: float
    names: dict[str, str]
    published: tuple


_EIGHT = ("w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8")

MAZUR = Example(
    author="Mazur",
    title="Mazur's example",
    source="M. Mazur, A Step by Step Backpropagation Example (2015)",
    note="Mazur writes E for the cost, and updates the weights only, never the biases.",
    weights=(((0.15, 0.20), (0.25, 0.30)), ((0.40, 0.45), (0.50, 0.55))),
    biases=((0.35, 0.35), (0.60, 0.60)),
    inputs=(0.05, 0.10),
    targets=(0.01, 0.99),
    rate=0.5,
    names=dict(zip(("1,1,1", "1,1,2", "1,2,1", "1,2,2", "2,1,1", "2,1,2", "2,2,1", "2,2,2"), _EIGHT, strict=True)),
    published=(
        ("h, the hidden activations", "a1", (0.593269992, 0.596884378), 5e-10),
        ("o, the outputs", "a2", (0.751365070, 0.772928465), 5e-10),
        ("E, the total error", "cost", 0.298371109, 5e-10),
        ("∂E/∂o1", "a_bar2[0]", 0.74136507, 5e-9),
        ("∂o1/∂net, the slope of o1", "slope2[0]", 0.186815602, 5e-10),
        ("∂E/∂w5", "w_bar2[0][0]", 0.082167041, 5e-10),
        ("∂E/∂w1", "w_bar1[0][0]", 0.000438568, 5e-10),
        ("w5 after the update", "w_new2[0][0]", 0.35891648, 5e-9),
        ("w1 after the update", "w_new1[0][0]", 0.149780716, 5e-10),
    ),
)

HAN_KAMBER = Example(
    author="Han and Kamber",
    title="Han and Kamber's tuple",
    source="J. Han, M. Kamber, Data Mining, section 9.2",
    note="Han and Kamber write θ for a bias, and Err for -δ.",
    weights=(((0.2, 0.4, -0.5), (-0.3, 0.1, 0.2)), ((-0.3, -0.2),)),
    biases=((-0.4, 0.2), (0.1,)),
    inputs=(1.0, 0.0, 1.0),
    targets=(1.0,),
    rate=0.9,
    names={
        "1,1,1": "w14",
        "1,1,2": "w24",
        "1,1,3": "w34",
        "1,2,1": "w15",
        "1,2,2": "w25",
        "1,2,3": "w35",
        "2,1,1": "w46",
        "2,1,2": "w56",
        "1,1,b": "θ4",
        "1,2,b": "θ5",
        "2,1,b": "θ6",
    },
    published=(
        ("O4 and O5", "a1", (0.332, 0.525), 5e-4),
        ("O6", "a2", (0.474,), 5e-4),
        ("Err6, from O6 rounded to 0.474", "-delta2", (0.1311,), 1e-4),
        ("Err4 and Err5", "-delta1", (-0.0087, -0.0065), 5e-5),
        ("w46 and w56, updated", "w_new2[0]", (-0.261, -0.138), 5e-4),
        ("θ6, updated", "b_new2[0]", 0.218, 5e-4),
    ),
)

BROWNLEE = Example(
    author="Brownlee",
    title="Brownlee's net",
    source="J. Brownlee, How to Code a Neural Network with Backpropagation In Python",
    note="Brownlee's delta is -δ.",
    weights=(((0.13436424411240122, 0.8474337369372327),), ((0.2550690257394217,), (0.4494910647887381,))),
    biases=((0.763774618976614,), (0.49543508709194095, 0.651592972722763)),
    inputs=(1.0, 0.0),
    targets=(0.0, 1.0),
    rate=0.5,
    names={},
    published=(("the outputs", "a2", (0.6629970129852887, 0.7253160725279748), 1e-14),),
)

EXAMPLES = {"mazur": MAZUR, "han-kamber": HAN_KAMBER, "brownlee": BROWNLEE}
