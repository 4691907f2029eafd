"""The index of the gallery: a card for each experiment, by family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxbp.page.document import Section, document, key_figures
from jaxbp.page.markup import Markup, element
from jaxbp.page.tables import Table


STYLE = """
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,290px),1fr));gap:2rem 2.2rem}
.card{min-width:0;display:flex;flex-direction:column}
.card .picture{display:flex;align-items:center;justify-content:center;height:170px;overflow:hidden;margin-bottom:.7rem;
border:1px solid var(--rule);border-radius:6px;padding:10px;background:var(--surface)}
.card .picture svg,.card .picture img{max-width:100%;max-height:100%;width:auto;height:auto;font-family:var(--sans)}
.card h3{font-size:1.05rem;margin:0 0 .25em}
.card p{margin:0 0 .5em;font-size:.9rem;line-height:1.45}
.card .value{font-size:1.25rem;font-weight:600;line-height:1.25;overflow-wrap:anywhere}
.card .what{color:var(--muted);font-size:.84rem;margin-bottom:.5em}
.card .end{color:var(--muted);font-size:.82rem;margin-top:auto}
.card .failed{font-weight:650;color:var(--series-2)}
.card pre{font-size:.76rem;max-height:9.5em;overflow:auto}
@media print{.card{break-inside:avoid}.cards{grid-template-columns:1fr 1fr}}
"""


FIRST = ("worked", "classics")  # what a learner looks for


class Found(NamedTuple):
    """What the page shows of one experiment. family, lead: where its options stand, and what that room says of itself; figure:
    (what, how much); picture: markup; report, log: relative to the page; last: the end of the log of one that failed.
    """

    name: str
    family: str
    lead: str
    title: str
    sentence: str
    figure: tuple[str, str]
    picture: str
    report: str
    log: str
    status: int | None
    seconds: float
    why: str
    last: str
    command: str


def index(found: Sequence[Found], skipped: Sequence[tuple[str, str, str]], seconds: float) -> str:
    """The whole page. found: `experiments.gallery.Found` in order; skipped: (name, sentence, why)."""
    failed = [one.name for one in found if one.status != 0]
    figures = [
        ("Experiments", len(found), "each in a process of its own"),
        ("Failed", len(failed), ", ".join(failed)),
        ("Time", _time(seconds), f"{_time(sum(one.seconds for one in found))} added up"),
    ]
    sections = [Section("Result", [element("style", Markup(STYLE)), key_figures(figures)])]
    families = sorted(dict.fromkeys((one.family, one.lead) for one in found), key=lambda family: family[0] not in FIRST)
    for family, lead in families:
        cards = [_card(one) for one in found if one.family == family]
        sections.append(Section(family.capitalize(), [element("div", *cards, class_="cards")], lead))
    if skipped:
        table = Table(["experiment", "what it is", "why it was left out"], skipped)
        sections.append(Section("Left out", [table.to_html()]))
    lead = "Every experiment of jaxbp that ran here: its report, what it is about, and the number that it came for."
    return document("Gallery", sections, lead=lead)


def _card(one: Found) -> Markup:
    link = element("a", one.title, href=one.report) if one.report else one.title
    picture = element("div", Markup(one.picture), class_="picture", aria_hidden="true") if one.picture else None
    what, value = one.figure
    ended = element("span", "ok") if one.status == 0 else element("span", one.why, class_="failed")
    return element(
        "article",
        picture,
        element("h3", link),
        element("p", one.sentence),
        element("div", value, class_="value") if value else None,
        element("div", what, class_="what") if what else None,
        element("pre", one.last, tabindex="0", role="region", aria_label=f"end of {one.log}") if one.last else None,
        element("p", ended, f" · {_time(one.seconds)} · ", element("a", one.log, href=one.log, title=one.command), class_="end"),
        class_="card",
    )


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
