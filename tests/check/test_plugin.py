"""The pytest plugin: no JAX until used; all reports of a run on one page, alone and under xdist; messages without our frames."""

import json
import os
import pathlib
import subprocess
import sys

import pytest


ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = """\
import jax
import jax.numpy as jnp
import pytest

from jaxbp.check.checks import check_vjp
from jaxbp.check.report import announce
from jaxbp.check.testing import assert_gradient, assert_vjp


@jax.custom_vjp
def wrong(x):
    return x * x


wrong.defvjp(lambda x: (x * x, x), lambda x, y_bar: (-2 * x * y_bar,))


def test_right():
    assert_vjp(jnp.sin, jnp.ones(2), battery=False)


@pytest.mark.parametrize("n", [2, 3])
def test_wrong(n):
    assert_vjp(wrong, jnp.arange(1.0, n + 1), battery=False)


def test_expected():
    assert announce(check_vjp(wrong, jnp.ones(2), battery=False)).verdict == "fail"


def test_two():
    assert_vjp(jnp.cos, jnp.ones(2), battery=False)
    assert_gradient(lambda x: x**2, lambda x: 2 * x, 3.0, battery=False)


def test_nothing():
    pass
"""


def pytest_run(folder, *options):
    """pytest in a folder of its own with no plugin but ours and xdist."""
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    env = {
        name: value for name, value in env.items() if not name.startswith(("PYTEST_XDIST", "PYTEST_CURRENT", "PYTEST_ADDOPTS"))
    }
    command = [sys.executable, "-m", "pytest", "-p", "pytest_jaxbp", "-p", "xdist.plugin", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_them.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


@pytest.fixture(scope="module")
def alone(project):
    return pytest_run(project, "--gradient-report", "made/report")


def test_a_run_writes_every_report_with_its_test_and_how_it_ended(project, alone):
    assert alone.returncode == 1, alone.stdout + alone.stderr
    assert "gradient reports (3 fail, 3 pass): " in alone.stdout
    found = json.loads((project / "made/report/reports.json").read_text(encoding="utf-8"))
    assert [(entry["test"].removeprefix("test_them.py::"), entry["outcome"], entry["data"]["verdict"]) for entry in found] == [
        ("test_expected", "passed", "fail"),
        ("test_right", "passed", "pass"),
        ("test_two", "passed", "pass"),
        ("test_two", "passed", "pass"),
        ("test_wrong[2]", "failed", "fail"),
        ("test_wrong[3]", "failed", "fail"),
    ]
    page = (project / "made/report/index.html").read_text(encoding="utf-8")
    assert page.count("<article>") == 6
    assert "test_them.py::test_wrong[3]" in page
    assert "test_nothing" not in page


def test_a_failure_shows_the_table_and_the_users_line_but_no_frame_of_ours(alone):
    lines = [" ".join(line.split()) for line in alone.stdout.splitlines()]
    assert any(line.startswith("E jaxbp.check.report.WrongGradientError: FAIL wrong: ") for line in lines)
    assert any(line.startswith("E args[0] f32[2] FAIL 2.00 ") for line in lines)
    number = 1 + TESTS.splitlines().index("    assert_vjp(wrong, jnp.arange(1.0, n + 1), battery=False)")
    assert f"test_them.py:{number}: WrongGradientError" in alone.stdout
    assert "testing.py:" not in alone.stdout
    assert "report.py:" not in alone.stdout


def test_xdist_makes_the_same_data(project, alone):
    spread = pytest_run(project, "-n", "2", "--gradient-report", "spread")
    assert spread.returncode == 1, spread.stdout + spread.stderr
    one, two = ((project / where / "reports.json").read_text(encoding="utf-8") for where in ("made/report", "spread"))
    assert json.loads(one) == json.loads(two)
    assert (project / "spread/index.html").read_text(encoding="utf-8").count("<article>") == 6
    assert sorted(path.name for path in (project / "spread").iterdir()) == ["index.html", "reports.json"]


def test_nothing_of_jax_is_imported_without_the_option(tmp_path):
    (tmp_path / "test_plain.py").write_text(
        "import sys\ndef test_plain():\n    assert 'pytest_jaxbp' in sys.modules\n"
        "    assert not [name for name in sys.modules if name.split('.')[0] in ('jax', 'jaxlib', 'jaxbp', 'numpy')]\n"
    )
    done = pytest_run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gradient reports" not in done.stdout


def test_a_run_without_reports_says_so_and_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "test_plain.py").write_text("def test_plain():\n    pass\n")
    done = pytest_run(tmp_path, "--gradient-report", "here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gradient reports (none made): " in done.stdout
    assert "No test made a report." in (tmp_path / "here/index.html").read_text(encoding="utf-8")
    (tmp_path / "file").write_text("")
    done = pytest_run(tmp_path, "--gradient-report", "file")
    assert done.returncode == 4
    assert "ERROR: --gradient-report: " in done.stderr
    assert "cannot be a folder" in done.stderr


def test_the_package_announces_the_plugin():
    import tomllib

    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert data["project"]["entry-points"]["pytest11"] == {"pytest_jaxbp": "pytest_jaxbp"}
    assert (ROOT / "pytest_jaxbp.py").is_file()
    targets = data["tool"]["hatch"]["build"]["targets"]
    assert "pytest_jaxbp.py" in targets["wheel"]["only-include"]
    assert "/pytest_jaxbp.py" in targets["sdist"]["include"]
