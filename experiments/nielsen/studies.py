"""Nielsen studies: what the book's chapters 3 and 5 show, beside its published curves."""

from __future__ import annotations

from collections.abc import Callable

from experiments import published, runs, terminal
from experiments.config.nielsen import NielsenStudies
from experiments.nielsen import depth, learning, neuron, rates, sizes
from experiments.nielsen.found import Found
from experiments.nielsen.page import FOOTER
from jaxbp.page.document import Section, document, key_figures


STUDIES: dict[str, Callable[[NielsenStudies], Found]] = {
    "neuron": lambda options: neuron.study(),
    "depth": depth.study,
    "rates": rates.study,
    "sizes": sizes.study,
    "stopping": learning.stopping,
    "halving": learning.halving,
}


def run(options: NielsenStudies) -> int:
    with runs.opened("nielsen-studies", options) as folder:
        found = []
        for topic in dict.fromkeys(options.topics):
            found.append(STUDIES[topic](options))
            terminal.section(found[-1].section.title, found[-1].table)
        numbers = [number for one in found for number in one.numbers]
        shown = published.table(numbers, digits=6)
        terminal.section("Numbers", shown)
        summary = {one.name: one.summary for one in found}
        folder.write_json("summary.json", {"experiment": "nielsen-studies", **summary, "numbers": published.to_json(numbers)})
        met = f"{sum(n.holds for n in numbers)} of {len(numbers)}"
        figures = [("Numbers met", met, "lists count as one"), ("Studies", len(found), ", ".join(one.name for one in found))]
        sections = [Section("Result", [key_figures(figures)]), *(one.section for one in found)]
        sections.append(Section("Numbers", [shown.to_html()]))
        folder.write("report.html", document("Studies of Nielsen's book", sections, lead=LEAD, footer=FOOTER))
        return terminal.close(folder, published.missed(numbers))


LEAD = "What the chapters on learning and on depth show, computed again by hand-written backpropagation in float64."
