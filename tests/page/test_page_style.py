"""Colours that can be read and told apart, in both themes; a style sheet that defines all that it uses."""

import itertools
import pathlib
import re

import numpy as np
import pytest

from jaxbp.page.colors import DARK, LEVELS, LIGHT, SERIES, contrast, mix, with_heat
from jaxbp.page.style import STYLE


THEMES = {"light": LIGHT, "dark": DARK}


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
@pytest.mark.parametrize("ink", ["ink", "muted", "link", *(f"series-{i + 1}" for i in range(SERIES))])
def test_text_reads_on_the_page(theme, ink):
    assert contrast(theme[ink], theme["surface"]) >= 4.5


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_code_reads_on_its_ground_and_text_on_every_heat(theme):
    assert contrast(theme["ink"], theme["raised"]) >= 4.5
    palette = with_heat(theme)
    heats = [name for name in palette if name.startswith("heat") and not name.endswith("ink")]
    assert len(heats) == 2 * LEVELS
    for name in heats:
        assert contrast(palette[name], palette[f"{name}-ink"]) >= 4.5
    band = mix(theme["surface"], theme["muted"], 0.1)  # labels may stand on a shaded band
    assert contrast(theme["muted"], band) >= 4.5


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
def test_heat_grows_evenly_away_from_the_page(theme):
    palette = with_heat(theme)
    for hue in (1, 2):
        steps = [contrast(palette[f"heat-{hue}-{level}"], theme["surface"]) for level in range(LEVELS)]
        assert steps == sorted(steps)
        assert steps[-1] / steps[0] > 4


# Machado, Oliveira & Fernandes (2009), full severity, on linear RGB
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(color: str, matrix) -> np.ndarray:
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(matrix) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES.keys())
@pytest.mark.parametrize("matrix", DEFICIENCIES.values(), ids=DEFICIENCIES.keys())
def test_the_first_series_are_told_apart_by_everyone(theme, matrix):
    """Two colours of a chart differ by 20 in CIELAB (2 is just noticeable); dashes and shapes tell the rest apart too."""
    colors = [lab(theme[f"series-{i + 1}"], matrix) for i in range(3)]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2)) >= 20


def test_both_themes_define_every_variable_that_is_used():
    assert LIGHT.keys() == DARK.keys()
    light, dark = re.match(r":root\{(.*?)\}@media screen and \(prefers-color-scheme:dark\)\{:root\{(.*?)\}\}", STYLE).groups()
    defined = [set(re.findall(r"(--[\w-]+):", block)) for block in (light, dark)]
    used = set(re.findall(r"var\((--[\w-]+)\)", STYLE))
    assert used <= defined[0]
    assert used - {"--sans", "--mono"} <= defined[1]
    assert all(re.fullmatch(r"#[0-9a-f]{6}", value) for value in (*with_heat(LIGHT).values(), *with_heat(DARK).values()))


def test_figures_use_only_classes_that_the_style_sheet_has():
    sources = pathlib.Path(__file__).parents[2].joinpath("jaxbp", "page").glob("*.py")
    used = {word for path in sources for names in re.findall(r'class_="([^"{}]+)"', path.read_text()) for word in names.split()}
    assert {"halo", "scroll", "key", "unit"} <= used
    assert {name for name in used if not re.search(rf"\.{name}\b", STYLE)} == set()


def test_the_style_sheet_is_whole_and_loads_nothing():
    assert STYLE.count("{") == STYLE.count("}")
    assert not re.search(r"url\(|@import|https?:", STYLE)
