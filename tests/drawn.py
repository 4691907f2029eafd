"""What the tests of figures share: labels, and the parts of an SVG."""

import math
import re

from pictures import SVG, boxes, parse


NAN, INF = math.nan, math.inf
LONG = "a name that is much longer than anybody would want to read in the legend of one small chart"
AXES = {"x_label": "epoch", "y_label": "loss"}


def words(svg):
    return [text for text, *_ in boxes(parse(svg))]


def paths(svg, kind):
    return [p.get("d") for p in parse(svg).iter(f"{SVG}path") if p.get("class") == kind]


def points(d):
    return [tuple(map(float, p.split(","))) for p in re.findall(r"[-\d.]+,[-\d.]+", d)]
