"""A library with one mistake in it: its files imported anew with one text replaced, to see that a test would notice."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple


ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = ("jaxbp", "experiments")


class Sabotage(NamedTuple):
    """`old`, which stands once in `file` (relative to the project), becomes `new`."""

    file: str
    old: str
    new: str

    def source(self) -> str:
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: {self.old!r} was expected once, it stands there {text.count(self.old)} times")
        return text.replace(self.old, self.new)

    @property
    def module(self) -> str:
        return ".".join(pathlib.PurePath(self.file).with_suffix("").parts).removesuffix(".__init__")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Loads the sabotaged module from its changed text; all others are found as always."""

    def __init__(self, sabotage: Sabotage):
        self.sabotage = sabotage

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.sabotage.module:
            return None
        file = ROOT / self.sabotage.file
        package = [str(file.parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(fullname, file, loader=self, submodule_search_locations=package)

    def get_filename(self, fullname: str) -> str:
        return str(ROOT / self.sabotage.file)

    def get_data(self, path: str) -> bytes:
        return self.sabotage.source().encode()

    def path_stats(self, path: str) -> Any:
        raise OSError("never from a cache")


@contextlib.contextmanager
def sabotaged(sabotage: Sabotage) -> Iterator[None]:
    """Inside, `jaxbp`, `experiments` and the modules of tests are imported anew, with the mistake; outside, all is as before."""
    finder, kept = _Finder(sabotage), {name: m for name, m in sys.modules.items() if _is_ours(name, m)}
    for name in kept:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
        if sabotage.module not in sys.modules:
            raise ValueError(f"{sabotage.file} was not imported: the test does not use it")
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, m in sys.modules.items() if _is_ours(name, m)]:
            del sys.modules[name]
        sys.modules.update(kept)


def _is_ours(name: str, module: Any) -> bool:
    if name.split(".")[0] in OURS:
        return True
    file = getattr(module, "__file__", None)
    return bool(file) and (ROOT / "tests") in pathlib.Path(file).parents and "conftest" not in name and name != __name__


def module_of(test: str) -> Any:
    """The module of "file.py::name" below tests, imported now."""
    file = test.partition("::")[0]
    spec = importlib.util.spec_from_file_location(f"sabotaged_{pathlib.PurePath(file).stem}", ROOT / "tests" / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
