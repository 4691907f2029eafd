"""Small images in rows, each over lines of text; their ink is that of the page, so that they follow light and dark."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from jaxbp.page.frame import WIDTH
from jaxbp.page.markup import Markup, element
from jaxbp.page.svg import SMALL, drawing, rect, text


_SIDE = 72.0  # of an image
_LINE = 15.0
_LEVELS = 15  # of ink


def pictures(
    images: np.ndarray,
    shape: tuple[int, int],
    captions: Sequence[Sequence[str]],
    *,
    title: str,
    columns: int = 4,
    width: float = WIDTH,
) -> Markup:
    """An inline <svg>: rows of pixels in [0, 1], the more the more ink, each image over its caption, a text for each line.

    Raises: ValueError without images, or where images and captions differ in number.
    """
    if not len(images) or len(images) != len(captions):
        raise ValueError(f"pictures {title!r}: {len(images)} images and {len(captions)} captions; one for each, at least one")
    lines = max(map(len, captions))
    across, down = width / columns, _SIDE + _LINE * lines + 16
    parts = []
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = across * (i % columns) + 1, down * (i // columns) + 1
        parts.append(_image(np.asarray(image).reshape(shape), x, y, ", ".join(caption)))
        for k, line in enumerate(caption):
            at = y + _SIDE + _LINE * (k + 1)
            parts.append(text(x, at, line, size=SMALL, room=across - 8, class_="ink" if k == 0 else "muted"))
    told = "; ".join(", ".join(caption) for caption in captions[:8])
    height = down * -(-len(images) // columns)
    return drawing(width, height, title, f"{len(images)} images. {told}{' …' if len(captions) > 8 else ''}", parts)


def _image(pixels: np.ndarray, x: float, y: float, tip: str) -> Markup:
    """One path for each level of ink, of rectangles as wide as neighbours of that level."""
    levels = np.rint(np.clip(pixels, 0, 1) * _LEVELS).astype(int)
    drawn: dict[int, list[str]] = {}
    for i, row in enumerate(levels):
        start = 0
        for level, run in itertools.groupby(row.tolist()):
            n = len(list(run))
            if level:
                drawn.setdefault(level, []).append(f"M{start} {i}h{n}v1h-{n}z")
            start += n
    paths = [
        element("path", d="".join(boxes), fill="var(--ink)", fill_opacity=level / _LEVELS)
        for level, boxes in sorted(drawn.items())
    ]
    height, width = pixels.shape
    scale = _SIDE / max(height, width)
    moved = element("g", paths, transform=f"translate({x:.2f} {y:.2f}) scale({scale:.4f})", shape_rendering="crispEdges")
    frame = rect(x, y, scale * width, scale * height, element("title", tip), fill="transparent", class_="axis")
    return element("g", moved, frame)
