"""Reading figures back: the boxes of their texts, measured with the metrics of a real font."""

import re
import xml.etree.ElementTree as ET


SVG = "{http://www.w3.org/2000/svg}"


ADVANCE = {  # of DejaVu Sans, in thousandths of an em
    275: "'",
    278: "ijl",
    295: "IJ",
    318: " ,.·",
    337: "/:;\\|",
    352: "f",
    361: "-",
    390: "()[]",
    392: "t",
    401: "!⁰¹²³⁴⁵⁶⁷⁸⁹",
    411: "r",
    460: '"',
    500: "*_`–",
    521: "s",
    525: "z",
    528: "⁻",
    531: "?",
    550: "c",
    557: "L",
    575: "F",
    579: "k",
    592: "vxy",
    603: "P",
    611: "TY",
    612: "oδ",
    613: "a",
    615: "e",
    632: "E",
    634: "hnuσ",
    635: "Sbdgpq",
    636: "$0123456789{}",
    656: "K",
    684: "AV",
    685: "XZ",
    686: "B",
    695: "R",
    698: "C",
    732: "U",
    748: "N",
    752: "H",
    770: "D",
    775: "G",
    780: "&",
    787: "OQ",
    818: "w",
    838: "#+<=>^~×−±→←",
    863: "M",
    950: "%",
    974: "m",
    989: "W",
    1000: "@…",
}
EM = {c: width / 1000 for width, letters in ADVANCE.items() for c in letters}


def measured(text: str, size: float) -> float:
    """The width of a text in DejaVu Sans, among the widest of the fonts that stand in for `system-ui`."""
    return size * sum(EM[c] for c in text)


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def shown(node: ET.Element) -> str:
    """The text of a <text> without its tooltip."""
    return (node.text or "") + "".join(child.tail or "" for child in node)


def boxes(root: ET.Element) -> list[tuple[str, float, float, float, float]]:
    """(text, left, top, right, bottom) of every text: from 0.75 em above the baseline to 0.22 em below."""
    found = []
    for node in root.iter(f"{SVG}text"):
        x, y, size, text = float(node.get("x")), float(node.get("y")), float(node.get("font-size")), shown(node)
        width = measured(text, size)
        left = x - {None: 0.0, "middle": width / 2, "end": width}[node.get("text-anchor")]
        box = (left, y - 0.75 * size, left + width, y + 0.22 * size)
        if node.get("transform"):
            angle, cx, cy = map(float, re.fullmatch(r"rotate\((\S+) (\S+) (\S+)\)", node.get("transform")).groups())
            assert angle == -90
            box = (cx + box[1] - cy, cy - box[2] + cx, cx + box[3] - cy, cy - box[0] + cx)
        found.append((text, *box))
    return found


def assert_readable(svg: str) -> None:
    """No text touches another, none leaves the drawing; a reader of the page is told what it shows."""
    root = parse(svg)
    width, height = map(float, root.get("viewBox").split()[2:])
    texts = boxes(root)
    assert texts
    for i, (text, left, top, right, bottom) in enumerate(texts):
        assert left >= -0.5, (text, left)
        assert top >= -0.5, (text, top)
        assert right <= width + 0.5, (text, right, width)
        assert bottom <= height + 0.5, (text, bottom, height)
        for other, a, b, c, d in texts[:i]:
            across, down = min(right, c) - max(left, a), min(bottom, d) - max(top, b)
            assert across <= 0.5 or down <= 0.5, (text, other, across, down)
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert title.text
    assert description.text
