"""The pytest plugin of jaxbp: `--gradient-report DIR` writes every report of `jaxbp.check` that the tests made as one page.

DIR/index.html has the verdicts by test and each report, DIR/reports.json the same as data. It works under xdist: reports
travel with the test results, and only the controlling process writes. Nothing of JAX is imported without the option.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest


_CARRIED = "jaxbp_gradient_reports"  # the attribute of a test result under which its reports travel


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("jaxbp", "gradient checks").addoption(
        "--gradient-report",
        metavar="DIR",
        default=None,
        help="write all gradient reports that jaxbp.check made in the tests to DIR/index.html and DIR/reports.json",
    )


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption("--gradient-report")
    if folder is not None:
        config.pluginmanager.register(GradientReports(config, config.invocation_params.dir / folder), "jaxbp-gradient-reports")


class GradientReports:
    """Collects the reports of each test and writes them when the run ends."""

    def __init__(self, config: pytest.Config, folder: pathlib.Path) -> None:
        self.writes = not hasattr(config, "workerinput")  # an xdist worker sends, the controller writes
        self.folder = folder
        self.made: list[Any] = []
        self.entries: list[dict[str, Any]] = []
        if self.writes:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise pytest.UsageError(f"--gradient-report: {folder} cannot be a folder: {error.strerror}") from None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        from jaxbp.check.report import listeners  # here, so that test modules and conftests have set up JAX before

        listeners.append(self.made.append)
        try:
            return (yield)
        finally:
            listeners.remove(self.made.append)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        result = yield
        made, self.made[:] = _once(self.made), []
        if made:
            from jaxbp.check.pages import entry

            setattr(result, _CARRIED, [entry(report) for report in made])
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.writes:
            carried = getattr(report, _CARRIED, ())
            self.entries += [{"test": report.nodeid, "outcome": report.outcome, **found} for found in carried]

    def pytest_sessionfinish(self) -> None:
        if self.writes:
            from jaxbp.check.pages import run_page

            self.entries.sort(key=lambda found: found["test"])  # xdist brings them in any order
            data = [{key: found[key] for key in ("test", "outcome", "data")} for found in self.entries]
            (self.folder / "reports.json").write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
            (self.folder / "index.html").write_text(run_page(self.entries), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        verdicts = [found["verdict"] for found in self.entries]
        counts = ", ".join(f"{verdicts.count(v)} {v}" for v in ("fail", "inconclusive", "pass") if v in verdicts)
        terminalreporter.write_line(f"gradient reports ({counts or 'none made'}): {self.folder / 'index.html'}")


def _once(made: list[Any]) -> list[Any]:
    """Each report once, without those that an audit among them holds already."""
    held = {id(rule.report) for report in made for rule in getattr(report, "rules", ())}
    return [report for report in {id(report): report for report in made}.values() if id(report) not in held]
