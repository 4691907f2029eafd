"""Reports as HTML: a page for one, a fragment for a notebook, a page for all reports of a test run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxbp.check import plots, printing
from jaxbp.page.document import Section, code, document, figure, grid, key_figures
from jaxbp.page.markup import Markup, element
from jaxbp.page.style import STYLE


_COLORS = {"pass": "var(--series-3)", "fail": "var(--series-2)"}
_ORDER = ("fail", "inconclusive", "pass")
_HEADINGS = {"fail": "Wrong", "inconclusive": "Inconclusive", "pass": "Right"}


def page(report: Any) -> str:
    """The whole file."""
    sections = [Section(title, blocks) for title, blocks in _parts(report)]
    return document(report.subject, sections, lead=verdict_line(report), footer="Made by jaxbp.check; this file needs no other.")


def fragment(report: Any) -> Markup:
    """For a notebook: a block with a style that touches nothing outside it."""
    style = f".jaxbp-report{{{STYLE.replace(':root', '&')}}}"
    around = "background:var(--surface);color:var(--ink);font:15px/1.5 var(--sans);padding:14px 18px"
    return element("div", element("style", Markup(style)), article(report), class_="jaxbp-report", style=around)


def article(report: Any) -> Markup:
    """The report without a page around it."""
    parts = [element("h3", report.subject), element("p", verdict_line(report))]
    for title, blocks in _parts(report):
        parts += [element("h3", title), *(block if isinstance(block, Markup) else element("p", block) for block in blocks)]
    return element("article", parts)


def badge(verdict: str) -> Markup:
    """The verdict in its colour; it is written out, so the colour adds nothing that the word does not say."""
    return element("strong", verdict.upper(), style=f"color:{_COLORS.get(verdict, 'var(--series-6)')}")


def verdict_line(report: Any) -> Markup:
    words = " ".join(filter(None, (printing.sentence(report.reason), printing.resolution_words(report))))
    return Markup(f"{badge(report.verdict)} {element('span', words)}")


def _parts(report: Any) -> list[tuple[str, list[object]]]:
    return _audit_parts(report) if hasattr(report, "rules") else _report_parts(report)


def _report_parts(report: Any) -> list[tuple[str, list[object]]]:
    """(heading, blocks) of one check."""
    sides = {"claimed (yours): ": report.claim, "true (reference): ": report.reference}
    hints = [
        element("li", element("strong", hint.category), printing.hint_line(paths, hint).removeprefix(hint.category))
        for paths, hint in printing.located_hints(report)
    ]
    drawn = [figure(*item) for item in plots.figures(report)]
    steps = [(s.name, printing.marked(s.verdict), printing.sentence(s.detail)) for s in report.steps]
    leaves = [printing.leaf_table(report).to_html()] if report.leaves else []
    parts: list[tuple[str, list[object]]] = [
        ("Leaves", [*_sides(sides), *leaves]),
        ("Hints", [element("ul", hints)] if hints else []),
        ("Figures", [grid(*drawn)] if drawn else []),
        ("Steps", [_prose_table("Steps", ("step", "verdict", "what was seen"), steps)] if steps else []),
        ("To reproduce", [code(report.reproduction)] if report.reproduction and report.verdict != "pass" else []),
    ]
    return [(title, blocks) for title, blocks in parts if blocks]


def _sides(sides: Mapping[str, str]) -> list[Markup]:
    return [element("p", element("strong", label), text) for label, text in sides.items() if text]


def _audit_parts(audit: Any) -> list[tuple[str, list[object]]]:
    parts: list[tuple[str, list[object]]] = [("Rules", [printing.rule_table(audit).to_html()])] if audit.rules else []
    for rule in audit.rules:
        if rule.verdict != "pass":
            told = element(
                "p", badge(rule.verdict), f" {rule.kind}, {printing.rule_place(rule)}. {printing.sentence(rule.reason)}"
            )
            parts.append((rule.name, [told, *([article(rule.report)] if rule.report else [])]))
    return parts


def entry(report: Any) -> dict[str, Any]:
    """The report as plain data that a test run can send from process to process; `run_page` makes a page of them."""
    return {
        "verdict": report.verdict,
        "subject": report.subject,
        "reason": printing.sentence(report.reason),
        "html": str(article(report)),
        "data": report.to_dict(),
    }


def run_page(entries: Sequence[Mapping[str, Any]], title: str = "Gradient report") -> str:
    """All reports of a test run: verdicts by test, wrong ones first, then each report.

    entries: those of `entry`, with "test" (its node id) and "outcome" (how the test ended) added.
    """
    ordered = sorted(enumerate(entries), key=lambda item: _ORDER.index(item[1]["verdict"]) if item[1]["verdict"] in _ORDER else 1)
    counts = [(_HEADINGS[v], sum(e["verdict"] == v for e in entries), "") for v in _ORDER]
    sections = [Section("Verdicts", [key_figures(counts), _index(ordered)] if entries else ["No test made a report."])]
    for verdict in _ORDER:
        shown = [_folded(i, e) for i, e in ordered if e["verdict"] == verdict]
        if shown:
            sections.append(Section(_HEADINGS[verdict], shown))
    return document(title, sections, footer="Made by jaxbp.check; this file needs no other.")


def _index(ordered: Sequence[tuple[int, Mapping[str, Any]]]) -> Markup:
    head = ("test", "verdict", "outcome", "checked", "reason")
    links = [element("a", e["test"], href=f"#report-{i + 1}") for i, e in ordered]
    cells = [(badge(e["verdict"]), e["outcome"], e["subject"], e["reason"]) for _, e in ordered]
    return _prose_table("Verdicts by test", head, [(link, *row) for link, row in zip(links, cells, strict=True)])


def _prose_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """A table whose last column is prose and takes the lines that it needs; cells may be markup."""
    prose = "white-space:normal;min-width:16em"
    body = [
        element(
            "tr", element("th", first, scope="row"), [element("td", cell) for cell in between], element("td", last, style=prose)
        )
        for first, *between, last in rows
    ]
    heads = element("thead", element("tr", [element("th", name, scope="col") for name in head]))
    box = element(
        "div", element("table", heads, element("tbody", body)), class_="scroll", tabindex="0", role="region", aria_label=title
    )
    return element("figure", box)


def _folded(i: int, e: Mapping[str, Any]) -> Markup:
    """One report behind its test's name; those that pass are folded."""
    summary = element("summary", badge(e["verdict"]), " ", e["test"], style="margin-bottom:.8em")
    opened = None if e["verdict"] == "pass" else "open"
    return element("details", summary, Markup(e["html"]), id=f"report-{i + 1}", open=opened, style="margin-bottom:1.4rem")
