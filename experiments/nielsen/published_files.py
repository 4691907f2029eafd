"""The published files of a data folder, where it has them."""

from __future__ import annotations

import pathlib

from experiments.nielsen.compare import Published, read


def curves_of(folder: pathlib.Path | None, name: str, parts: int) -> list[Published | None]:
    """The parts of `folder`/nielsen_fig/`name`, one for a file with a single result; None each where it is not there."""
    path = (folder or pathlib.Path()) / "nielsen_fig" / name
    if folder is None or not path.is_file():
        return [None] * parts
    return [read(path, str(i) if parts > 1 else "") for i in range(parts)]
