"""python -m jaxbp.check module:function --case module:function

Checks the gradient of a function in a user's module or file. The exit status tells how it ended:
0 right, 1 wrong, 2 inconclusive, 3 the input could not be used (import error, no such name, no usable case, the function raised).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import json
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn


STATUS = {"pass": 0, "fail": 1, "inconclusive": 2}
UNUSABLE = 3
_CASE = """\
a case is a function without parameters that returns the tuple of arguments, or yields (name, arguments):

    def case():
        return jnp.ones((3, 2)), jnp.ones(2)
"""


class UnusableInput(Exception):
    """What the user gave cannot be checked; the message says why, and what to do."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """argparse would exit with 2, which says "inconclusive" here."""
        self.print_usage(sys.stderr)
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    p = _Parser(
        prog="python -m jaxbp.check",
        description="Check the gradient of a JAX function: its custom rule where it has one, else JAX's own in the given dtype.",
        epilog=f"exit status: 0 right, 1 wrong, 2 inconclusive, 3 unusable input\n\n{_CASE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("function", help="module:function, or path/to/file.py:function")
    p.add_argument(
        "--case", help="where its arguments come from: module:function, file.py:function, or a name beside the function"
    )
    p.add_argument("--order", type=int, choices=(1, 2), default=1, help="2: also the derivative of the rule")
    p.add_argument("--seed", type=int, default=None, help="of the random directions and cotangents")
    p.add_argument("--json", action="store_true", help="print JSON in place of tables")
    p.add_argument("--html", type=pathlib.Path, metavar="PATH", help="also write a page")
    p.add_argument("--traceback", action="store_true", help="show the whole stack of an error")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        named = [(name, _checked(options, fun, args, name)) for name, fun, args in _cases(options)]
        try:
            _show(named, options)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads, as `head` does, has seen enough; nothing more is written, at exit neither
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if options.html:
            _write_page(named, options)
    except UnusableInput as error:
        if options.traceback and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        print(f"unusable input: {error}", file=sys.stderr)
        return UNUSABLE
    verdicts = {report.verdict for _, report in named}
    return next((STATUS[verdict] for verdict in ("fail", "inconclusive") if verdict in verdicts), 0)


def _cases(options: argparse.Namespace) -> Iterator[tuple[str, Callable, tuple]]:
    """(name of the case, function, arguments), made one after another."""
    fun = load(options.function)
    if options.case is None:
        raise UnusableInput(f"{options.function} needs arguments: give --case NAME\n{_CASE}")
    where, found = options.case if ":" in options.case else f"{options.function.rpartition(':')[0]}:{options.case}", 0
    for name, args in _arguments(load(where), where):
        found += 1
        yield name, fun, args
    if not found:
        raise UnusableInput(f"{where} yielded no case\n{_CASE}")


def load(target: str) -> Callable:
    """The function that "module:function" or "file.py:function" names."""
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise UnusableInput(f"module:function or file.py:function was expected, got {target!r}")
    with _UsersCode(f"importing {where}", where):
        found: Any = _file(pathlib.Path(where)) if where.endswith(".py") else importlib.import_module(where)
    for part in name.split("."):
        if not hasattr(found, part):
            names = getattr(found, "__dict__", {}).items()
            there = [n for n, value in names if callable(value) and not n.startswith("_")]
            raise UnusableInput(f"{where} has no {name!r}; it has {', '.join(there) or 'no function'}")
        found = getattr(found, part)
    if not callable(found):
        raise UnusableInput(f"{target} is not a function but {type(found).__name__}")
    return found


def _file(path: pathlib.Path) -> Any:
    """The module in a file, with the modules beside it in reach, as when it is run."""
    path = path.resolve()
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if not path.is_file():
        raise UnusableInput(f"there is no file {path}")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _arguments(case: Callable, where: str) -> Iterator[tuple[str, tuple]]:
    """(name, arguments) of all that a case returns or yields; the name of a returned tuple is empty."""
    with _UsersCode(f"calling {where}", where.rpartition(":")[0]):
        made = case()
        if isinstance(made, tuple):
            yield "", made
            return
        if not isinstance(made, Iterator):
            raise UnusableInput(f"{where} returned {type(made).__name__}, not a tuple of arguments\n{_CASE}")
    while True:
        with _UsersCode(f"calling {where}", where.rpartition(":")[0]):
            item = next(made, None)
        if item is None:
            return
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], tuple)):
            raise UnusableInput(f"{where} yielded {_brief(item)}, not a name and a tuple of arguments\n{_CASE}")
        yield item


def _brief(item: Any) -> str:
    if isinstance(item, tuple):
        return f"a tuple of ({', '.join(type(part).__name__ for part in item)})"
    return f"a {type(item).__name__}"


def _checked(options: argparse.Namespace, fun: Callable, args: tuple, name: str) -> Any:
    from jaxbp.check.checks import check_vjp

    with _UsersCode(f"checking {options.function}{f' [{name}]' if name else ''}", options.function.rpartition(":")[0]):
        report = check_vjp(fun, *args, key=options.seed, order=options.order)
    return dataclasses.replace(report, subject=f"{report.subject} [{name}]" if name else report.subject)


class _UsersCode:
    """Turns what the user's code raises into one message: what was done, the error, and the user's line that it came from."""

    def __init__(self, doing: str, where: str) -> None:
        self.doing, self.where = doing, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, stack: Any) -> None:
        if error is None or isinstance(error, (UnusableInput, KeyboardInterrupt, GeneratorExit)):
            return
        said = str(error).strip().split("\n")
        text = "\n  ".join([f"{kind.__name__}: {said[0]}" if said[0] else kind.__name__, *said[1:6]])
        line = _users_line(error, self.where)
        raise UnusableInput(f"{self.doing} raised {text}{line}") from error


def _users_line(error: BaseException, where: str) -> str:
    """The last line in the user's own file of the stack that raised, or of what caused it."""
    module = sys.modules.get(pathlib.Path(where).stem if where.endswith(".py") else where)
    file, line = getattr(module, "__file__", None), ""
    cause: BaseException | None = error
    while cause is not None:
        frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if frame.filename == file]
        line = f"\n  at {frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}: {frames[-1].line}" if frames else line
        cause = cause.__cause__
    return line


def _show(named: Sequence[tuple[str, Any]], options: argparse.Namespace) -> None:
    reports = [report for _, report in named]
    if options.json:
        data = [report.to_dict() for report in reports]
        print(json.dumps(data[0] if len(data) == 1 else data, indent=2, ensure_ascii=False))
        return
    for report in reports:
        _print(report)
    if len(reports) > 1:
        counts = ", ".join(f"{n} {v}" for v in STATUS if (n := sum(r.verdict == v for r in reports)))
        print(f"{len(reports)} cases: {counts}")


def _print(report: Any) -> None:
    """In colour on a terminal that rich can draw on, else plain."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
        except ImportError:
            pass
        else:
            Console(highlight=False).print(report)
            print()
            return
    print(report, end="\n\n")


def _write_page(named: Sequence[tuple[str, Any]], options: argparse.Namespace) -> None:
    from jaxbp.check.pages import entry, run_page

    if len(named) == 1:
        text = named[0][1].to_html()
    else:
        entries = [{"test": report.subject, "outcome": "", **entry(report)} for _, report in named]
        text = run_page(entries, title=options.function)
    try:
        options.html.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UnusableInput(f"--html {options.html}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
