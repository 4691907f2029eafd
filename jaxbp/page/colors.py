"""The palette, light and dark, and the contrast between two colours.

Every colour on a page is one of these names, used as a CSS variable (`var(--ink)`), so that a figure follows the theme.
The first three series keep apart for every kind of colour vision; figures never tell by colour alone (dashes, shapes).
"""

from __future__ import annotations


SERIES = 6
LEVELS = 6

LIGHT = {
    "surface": "#ffffff",
    "raised": "#f5f6f8",
    "ink": "#1b2027",
    "muted": "#565f6d",
    "rule": "#c9ced6",
    "grid": "#e6e9ed",
    "link": "#1a5f9e",
    "series-1": "#1a68ad",
    "series-2": "#c2500f",
    "series-3": "#1f4f2b",
    "series-4": "#8b4aa6",
    "series-5": "#4a525e",
    "series-6": "#8a6a00",
}
DARK = {
    "surface": "#14171c",
    "raised": "#1d2128",
    "ink": "#e7eaee",
    "muted": "#a3acb8",
    "rule": "#454d59",
    "grid": "#2a3039",
    "link": "#7dbcf5",
    "series-1": "#62aef2",
    "series-2": "#f28f52",
    "series-3": "#7ff0b0",
    "series-4": "#cb9be6",
    "series-5": "#b9c1cc",
    "series-6": "#dcbb45",
}


def mix(a: str, b: str, share: float) -> str:
    """The colour between a (share 0) and b (share 1).

    >>> mix("#000000", "#ffffff", 0.5)
    '#808080'
    """
    return "#" + "".join(f"{round(x + (y - x) * share):02x}" for x, y in zip(_rgb(a), _rgb(b), strict=True))


def contrast(a: str, b: str) -> float:
    """The WCAG contrast ratio (L_light + 0.05) / (L_dark + 0.05), from 1 to 21.

    >>> round(contrast("#000000", "#ffffff"), 1)
    21.0
    """
    dark, light = sorted((_luminance(a), _luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def with_heat(palette: dict[str, str]) -> dict[str, str]:
    """The palette with `heat-<series>-<level>` for the first two series, and `heat-...-ink` for text on it.

    Level 0 is nearly the surface, the highest is the series colour. Black or white reads on any colour (at least 4.58).
    """
    heat = {}
    for series in (1, 2):
        for level in range(LEVELS):
            name = f"heat-{series}-{level}"
            share = 0.06 + 0.94 * level / (LEVELS - 1)
            heat[name] = mix(palette["surface"], palette[f"series-{series}"], share)
            heat[f"{name}-ink"] = max("#000000", "#ffffff", key=lambda ink, on=heat[name]: contrast(ink, on))
    return palette | heat


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def _luminance(color: str) -> float:
    channels = [c / 255 for c in _rgb(color)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
