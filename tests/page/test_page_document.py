"""Pages: whole, self-contained, escaped, with addresses that lead somewhere."""

import html.parser
import re

import pytest

from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, code, document, facts, figure, grid, key_figures
from jaxbp.page.markup import Markup, element, escape
from jaxbp.page.tables import Table


class Reader(html.parser.HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not close in order."""

    VOID = frozenset(("meta", "br", "hr", "col"))

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def assert_self_contained(page: str) -> Reader:
    reader = Reader(page)
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in reader.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "use")
        assert not attrs.keys() & {"src", "style", "onclick", "onload"}
        if "href" in attrs:
            assert attrs["href"].startswith("#")
            assert attrs["href"][1:] in ids
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    return reader


def test_a_page():
    chart = line_chart([Series("a", [1, 2])], title="t", x_label="x", y_label="y")
    page = document(
        "A <title> & more",
        [
            Section("First part", ["A paragraph <b>.", figure(chart, "Chart", "Note")], "What it shows."),
            Section(
                "First part", [grid(Table(["a"], [[1]]).to_html(), None, "text"), key_figures([("n", 12, "note"), ("m", "x")])]
            ),
            Section("δ", [facts({"a": 1, "b": {"c": None, "d": [1, 2.5]}, "e": {}}), code("serial(<x>)")]),
        ],
        lead="Lead",
        footer="Foot",
    )
    assert page.startswith("<!doctype html>\n<html lang=")
    reader = assert_self_contained(page)
    assert [attrs["href"] for tag, attrs in reader.tags if tag == "a"] == ["#first-part", "#first-part-2", "#section"]
    text = [t for t in reader.text if t.strip()]
    for expected in ("A <title> & more", "A paragraph <b>.", "b.c", "none", "1, 2.5", "serial(<x>)", "Foot", "12"):
        assert expected in text
    assert [tag for tag, _ in reader.tags if tag in ("h1", "h2", "h3", "main")] == ["main", "h1", "h2", "h3", "h2", "h2"]
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in reader.tags


def test_one_section_needs_no_list_of_contents():
    assert "<nav" not in document("t", [Section("s", [])])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (element("p", "a < b & c"), "<p>a &lt; b &amp; c</p>"),
        (element("p", Markup("<b>x</b>"), None, ["y", ("<",)]), "<p><b>x</b>y&lt;</p>"),
        (element("a", "x", class_="n", stroke_width=2.0, id=None), '<a class="n" stroke-width="2">x</a>'),
        (element("rect", x=1.005, y=-0.001, width=100.0), '<rect x="1" y="0" width="100"></rect>'),
        (element("a", title="\"'"), '<a title="&quot;&#x27;"></a>'),
        (element("meta", charset="utf-8"), '<meta charset="utf-8">'),
        (escape("a\x00\x1b\n"), "a\ufffd\ufffd\n"),
    ],
)
def test_elements(written, expected):
    assert written == expected


def test_a_place_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        element("rect", x=float("nan"))
