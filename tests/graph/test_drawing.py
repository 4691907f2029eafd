"""draw: nothing on anything else, everything written, collapsed where there is too much."""

import itertools
import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import numpy as np
import pictures
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxbp.graph import adjoints, draw, draw_graph
from jaxbp.graph.layout import layout
from jaxbp.page.colors import DARK, LIGHT, contrast


rng = np.random.default_rng(0)


def barak(a):
    b1 = checkpoint_name(2 * a, "b1")
    b2 = checkpoint_name(3 * a + b1, "b2")
    return 4 * b1 + 5 * b2


def mixed(x, w):
    y = jax.nn.relu(x @ w) / jnp.sqrt(1.0 + jnp.sum(x * x))
    z, _ = lax.scan(lambda c, row: (jnp.tanh(c + row), None), jnp.zeros(3), y)
    return 1.0 / (2.0 + jnp.max(z)) + jnp.sum(jnp.where(x > 0.0, x, 0.1 * x))


def loop(x):
    def step(c, _):
        a = jnp.sin(c)
        b = jnp.cos(a) + c
        return b, None

    return lax.scan(step, x, None, length=80)[0]


@pytest.fixture(scope="module")
def drawn():
    args = jnp.asarray(rng.normal(size=(2, 3))), jnp.asarray(rng.normal(size=(3, 3)))
    return {"barak": draw(barak)(1.0), "mixed": draw(mixed)(*args), "loop": draw(loop)(0.5)}


@pytest.mark.parametrize("name", ["barak", "mixed", "loop"])
def test_no_text_touches_another(drawn, name):
    pictures.assert_readable(drawn[name].replace("↓", "→").replace("↑", "→").replace("∅", "m"))  # as wide, or wider


def test_values_and_adjoints_stand_on_nodes_and_edges(drawn):
    texts = [pictures.shown(node) for node in ET.fromstring(drawn["barak"]).iter(f"{pictures.SVG}text")]
    assert {"b1", "b2", "a", "mul 2", "value 33", "adjoint 33", "adjoint 9", "adjoint 5"} <= set(texts)
    assert {"↓1", "↑18", "↑15", "↑4", "↑5"} <= set(texts)  # what each use sends back adds up to the adjoint
    assert texts.count("b1") == 1


def test_a_constant_stands_on_its_side_of_the_operation():
    texts = [pictures.shown(node) for node in ET.fromstring(draw(lambda x: x / 2.0 + 10.0 / x)(4.0)).iter(f"{pictures.SVG}text")]
    assert {"div 2", "10 div"} <= set(texts)


def test_above_two_hundred_boxes_a_line_is_one_box(drawn):
    root = ET.fromstring(drawn["loop"])
    titles = [pictures.shown(node) for node in root.iter(f"{pictures.SVG}text")]
    assert sum(title.startswith("test_drawing.py:") for title in titles) >= 2
    assert "one for each source line" in root.find(f"{pictures.SVG}desc").text
    graph = adjoints(loop)(0.5)
    assert "one for each function" in draw_graph(graph, most=2)
    with pytest.raises(ValueError, match=r"draw: 2 boxes are left .*most=1"):
        draw_graph(graph, most=1)


def random_graph(count, rng):
    edges = {(int(rng.integers(max(0, b - 12), b)), b) for b in range(1, count) for _ in range(int(rng.integers(1, 3)))}
    return [(float(rng.uniform(40, 190)), float(rng.choice([66.0, 81.0]))) for _ in range(count)], sorted(edges)


@pytest.mark.parametrize("count", [1, 2, 30, 200])
def test_boxes_keep_apart_and_edges_go_down(count):
    sizes, edges = random_graph(count, np.random.default_rng(count))
    placed = layout(sizes, edges)
    corners = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(placed.centres, sizes, strict=True)]
    for a, b in itertools.combinations(corners, 2):
        assert min(a[2], b[2]) - max(a[0], b[0]) <= 1e-6 or min(a[3], b[3]) - max(a[1], b[1]) <= 1e-6
    for left, top, right, bottom in corners:
        assert min(left, top) >= 0
        assert right <= placed.width
        assert bottom <= placed.height
    for (a, b), route in zip(edges, placed.routes, strict=True):
        assert placed.centres[a][1] < placed.centres[b][1]
        assert all(p[1] < q[1] for p, q in itertools.pairwise(route))
        for k in range(1, len(route) - 1, 2):  # a waypoint's straight part goes through no box
            (x, top), (_, bottom) = route[k], route[k + 1]
            assert not any(c[0] < x < c[2] and c[1] < bottom and top < c[3] for c in corners)


def test_colours_read_in_light_and_dark(drawn):
    for palette in (LIGHT, DARK):
        for tone in ("ink", "muted", "series-1", "series-2"):
            assert contrast(palette[tone], palette["surface"]) >= 4.5
            assert palette[tone] in drawn["barak"]
    assert "prefers-color-scheme:dark" in drawn["barak"]
