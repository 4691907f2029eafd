"""A report in plain text, and coloured by rich where that is there. Functions take a `Report` or an `AuditReport`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from jaxbp.page.tables import Table, number


_ROWS = 24  # leaves beyond which those that pass are only counted
_SHORT = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "complex64": "c64", "complex128": "c128"}
_NOT_TRIED = "not tried"  # how the detail of a step begins that had nothing to judge
_NOTE = (
    "error: the largest difference of an entry, in units of the leaf's scale (its largest true entry, or 1e-3 of the whole "
    "gradient's). ULP: the same in units of the last place of the leaf's dtype. resolution: the least error that would have "
    "been a fail."
)


def report_text(report: Any, width: int = 100) -> str:
    """Verdict and reason, which side is whose, the leaves, hints, steps, and what reproduces a finding."""
    parts = [
        headline(report, width),
        _sides(report, width),
        leaf_table(report).to_text(width) if report.leaves else "",
        _listed(
            "Hints", [hint_line(paths, hint) for paths, hint in located_hints(report) if hint.text not in report.reason], width
        ),
        _listed("Steps", step_lines(report.steps, report.reason), width),
        f"To reproduce:\n{report.reproduction.strip()}" if report.reproduction and report.verdict != "pass" else "",
    ]
    return "\n\n".join(part for part in parts if part)


def audit_text(audit: Any, width: int = 100) -> str:
    """Verdict and reason, one row a rule, then the whole report of each rule that is not right."""
    parts = [headline(audit, width), rule_table(audit).to_text(width) if audit.rules else ""]
    for rule in audit.rules:
        if rule.verdict != "pass":
            title = f"{rule.verdict.upper()}  {rule.name} ({rule.kind}), {rule_place(rule)}"
            parts.append("-" * min(width, 100) + "\n" + _wrapped(title, width))
            parts.append(rule.report.to_text(width) if rule.report else _wrapped(sentence(rule.reason), width))
    return "\n\n".join(part for part in parts if part)


def headline(report: Any, width: int) -> str:
    told = " ".join(filter(None, (sentence(report.reason), resolution_words(report))))
    return _wrapped(f"{report.verdict.upper()}  {report.subject}: {told}", width)


def sentence(text: str) -> str:
    """`text` with a full stop at its end."""
    text = " ".join(text.split())
    return text if not text or text[-1] in ".!?" else f"{text}."


def resolution_words(report: Any) -> str:
    """What a pass would have seen; empty for another verdict, or where no leaf was measured."""
    leaves = [leaf for leaf in getattr(report, "leaves", ()) if math.isfinite(leaf.resolution) and 0 not in leaf.shape]
    if report.verdict != "pass" or not leaves:
        return ""
    groups: dict[str, list[str]] = {}
    for leaf in sorted(leaves, key=lambda leaf: leaf.resolution):
        groups.setdefault(number(leaf.resolution), []).append(leaf.path)
    if len(groups) > 3:
        finest, coarsest = (pick(leaves, key=lambda leaf: leaf.resolution) for pick in (min, max))
        return (
            f"An error of {number(coarsest.resolution)} of the leaf's scale in any entry of any leaf would have been seen "
            f"({coarsest.path} is the coarsest; in {finest.path} {number(finest.resolution)})."
        )
    (size, paths), *rest = groups.items()
    others = "".join(f", and of {size} in any entry of {_names(paths)}" for size, paths in rest)
    return f"An error of {size} of the leaf's scale in any entry of {_names(paths)} would have been seen{others}."


def _names(paths: Sequence[str], most: int = 4) -> str:
    """ "a", "a or b", "a, b or c"; beyond `most` the rest is counted."""
    if len(paths) > most + 1:
        return f"{', '.join(paths[:most])} or {len(paths) - most} more"
    return f"{', '.join(paths[:-1])} or {paths[-1]}" if len(paths) > 1 else paths[0]


def _sides(report: Any, width: int) -> str:
    sides = (("claimed (yours):   ", report.claim), ("true (reference):  ", report.reference))
    return "\n".join(_wrapped(f"{label}{text}", width, " " * len(label)) for label, text in sides if text)


def leaf_table(report: Any) -> Table:
    """One row a leaf. Of many leaves those that pass are only counted."""
    shown = list(report.leaves)
    if len(shown) > _ROWS:
        shown = [leaf for leaf in shown if leaf.verdict != "pass"] or shown[:_ROWS]
    left = len(report.leaves) - len(shown)
    columns = ["leaf", "shape", "verdict", "error", "ULP", "worst at", "claimed", "true", "resolution"]
    more = f"{left} more {'leaves pass' if left > 1 else 'leaf passes'}. " if left else ""
    return Table(columns, [_leaf_row(leaf) for leaf in shown], note=more + _NOTE)


def _leaf_row(leaf: Any) -> tuple:
    shape = f"{_SHORT.get(leaf.dtype, leaf.dtype)}[{','.join(map(str, leaf.shape))}]"
    index = None if leaf.index is None else f"[{', '.join(map(str, leaf.index))}]" if len(leaf.index) else "the value"
    claimed, true = both(leaf.claimed, leaf.true, 4 if leaf.verdict == "pass" else 17)
    return leaf.path, shape, marked(leaf.verdict), leaf.error, leaf.ulp, index, claimed, true, leaf.resolution


def marked(verdict: str) -> str:
    """The verdict for a column of them: a fail stands out."""
    return "FAIL" if verdict == "fail" else verdict


def both(claimed: float | None, true: float | None, most: int = 17) -> tuple[str | None, str | None]:
    """Two values with as many digits as tell them apart, 4 to `most`.

    >>> both(0.5, -0.5), both(1.0000001, 1.0), both(1.0000001, 1.0, most=4)
    (('0.5', '-0.5'), ('1.0000001', '1.0000000'), ('1', '1'))
    """
    if claimed is None or true is None or claimed == true:
        most = 4
    apart = (n for n in range(4, most) if f"{claimed:.{n}g}" != f"{true:.{n}g}")
    digits = next(apart, most)
    form = f"{'#' if digits > 4 else ''}.{digits}g"  # '#' keeps zeros at the end, so that both have the same digits
    return tuple(None if value is None else format(value + 0.0, form) for value in (claimed, true))  # type: ignore[return-value]


def located_hints(report: Any) -> list[tuple[list[str], Any]]:
    """(paths of the leaves that have it, hint), the most telling first, each once."""
    where: dict[Any, list[str]] = {}
    for leaf in report.leaves:
        for hint in leaf.hints:
            where.setdefault(hint, []).append(leaf.path)
    return [(where.get(hint, []), hint) for hint in dict.fromkeys((*report.hints, *where))]


def hint_line(paths: Sequence[str], hint: Any) -> str:
    return f"{hint.category}{f', in {_names(paths)}'.replace(' or ', ' and ') if paths else ''}: {sentence(hint.text)}"


def step_lines(steps: Iterable[Any], told_above: str = "") -> list[str]:
    """Steps that did not pass, and passes with something to say, one by one; then all others in one line.

    What `told_above` says in full is not said again.
    """
    told, passed, skipped = [], [], []
    for step in steps:
        if step.verdict == "pass" and step.detail.startswith(_NOT_TRIED):
            skipped.append(step.name)
        elif step.verdict == "pass" and not step.detail:
            passed.append(step.name)
        else:
            detail = "as said above" if step.detail and step.detail in told_above else step.detail
            told.append(f"{marked(step.verdict)}  {step.name}{': ' + sentence(detail) if detail else ''}")
    told.sort(key=lambda line: not line.startswith("FAIL"))
    return told + [f"{word}  {_grouped(names)}" for word, names in (("pass", passed), (_NOT_TRIED, skipped)) if names]


def _grouped(names: Iterable[str]) -> str:
    """Names, those of one family ("battery: zeros") together as "battery (zeros, ...)"."""
    families: dict[str, list[str]] = {}
    for name in names:
        family, _, member = name.partition(": ")
        families.setdefault(family, []).extend([member] if member else [])
    return ", ".join(f"{family} ({', '.join(members)})" if members else family for family, members in families.items())


def rule_table(audit: Any) -> Table:
    rows = [(rule.name, rule.kind, marked(rule.verdict), rule.defined_at, rule.called_at) for rule in audit.rules]
    return Table(["rule", "kind", "verdict", "defined at", "called at"], rows)


def rule_place(rule: Any) -> str:
    inside = f", inside {' > '.join(rule.path)}" if rule.path else ""
    return f"defined at {rule.defined_at or 'an unknown place'}, called at {rule.called_at or 'an unknown place'}{inside}"


def _listed(title: str, lines: Sequence[str], width: int) -> str:
    return "\n".join([title, *(_wrapped(f"  {line}", width, "    ") for line in lines)]) if lines else ""


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


class Colored:
    """The text of a report for rich: as wide as the console, verdicts in colour."""

    def __init__(self, report: Any) -> None:
        self.report = report

    def __rich_console__(self, console: Any, options: Any) -> Iterable[Any]:
        from rich.text import Text  # an extra: whoever prints with rich has it

        text = Text(self.report.to_text(min(options.max_width, 120)))
        text.highlight_regex(r"\bFAIL\b", "bold red")
        text.highlight_regex(r"\b(PASS|pass)\b(?=  )", "green")
        text.highlight_regex(r"(?i)\binconclusive\b(?=  )", "bold yellow")
        text.highlight_regex(r"(?m)^(Hints|Steps|To reproduce:|claimed \(yours\):|true \(reference\):)", "bold")
        yield text
