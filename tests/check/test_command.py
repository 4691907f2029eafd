"""python -m jaxbp.check: the exit status, what it prints, and what it says of input that it cannot use."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from jaxbp.check.__main__ import main


ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = """\
import jax
import jax.numpy as jnp

import command_neighbour


@jax.custom_vjp
def wrong(x):
    return x * x


wrong.defvjp(lambda x: (x * x, x), lambda x, y_bar: (command_neighbour.MINUS_TWO * x * y_bar,))


class Namespace:
    @staticmethod
    def sine(x):
        return jnp.sin(x)


def integer(x):
    return x


def raises(x):
    jnp.zeros(3) + jnp.zeros(2)


value = 3


def case():
    return (jnp.array([0.5, -1.5], jnp.float32),)


def unknown():
    return (jnp.array([0.5, jnp.nan], jnp.float32),)


def cases():
    yield "small", (jnp.array([0.1], jnp.float32),)
    yield "unknown", unknown()


def no_cases():
    return iter(())


def listed():
    return [1.0]


def unnamed():
    yield (jnp.ones(2),)


def late():
    yield "one", case()
    raise RuntimeError("the data are gone")


def leaves():
    raise SystemExit(0)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("command")
    (made / "command_rules.py").write_text(SOURCE)
    (made / "command_neighbour.py").write_text("MINUS_TWO = -2\n")
    (made / "command_broken.py").write_text("import not_there_at_all\n")
    (made / "command_syntax.py").write_text("def f(:\n")
    return made


@pytest.fixture
def run(folder, capsys, monkeypatch):
    """(status, stdout, stderr) of the command in the user's folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])

    def call(*argv):
        try:
            status = main(argv)
        except SystemExit as stop:  # argparse
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_a_wrong_rule_ends_with_1_and_its_table(run, folder):
    status, out, err = run("command_rules.py:wrong", "--case", "case", "--html", "page.html", "--seed", "5")
    assert status == 1
    assert out.startswith("FAIL  wrong: ")
    assert "sign" in out
    assert err == ""
    assert "key=5" in out  # the seed is in the reproduction
    assert "FAIL" in (folder / "page.html").read_text(encoding="utf-8")


def test_the_worst_case_decides_and_each_has_its_name(run, folder):
    status, out, _ = run("command_rules:Namespace.sine", "--case", "command_rules:cases", "--html", "page.html")
    assert status == 2
    assert "PASS  sine [small]: " in out
    assert "INCONCLUSIVE  sine [unknown]: " in out
    assert out.rstrip().endswith("2 cases: 1 pass, 1 inconclusive")
    assert 'href="#report-2"' in (folder / "page.html").read_text(encoding="utf-8")


def test_json_is_all_that_is_printed(run):
    status, out, _ = run("command_rules.py:Namespace.sine", "--case", "command_rules.py:case", "--json", "--order", "2")
    assert status == 0
    assert json.loads(out)["ok"] is True
    assert any(step["name"] == "second order" for step in json.loads(out)["steps"])
    status, out, _ = run("command_rules.py:Namespace.sine", "--case", "cases", "--json")
    assert [found["verdict"] for found in json.loads(out)] == ["pass", "inconclusive"]


UNUSABLE = {
    "no case": (["command_rules.py:wrong"], "give --case NAME"),
    "no colon": (["wrong", "--case", "case"], "module:function or file.py:function was expected, got 'wrong'"),
    "no file": (["nowhere.py:wrong", "--case", "case"], "there is no file"),
    "no module": (["nowhere.at_all:wrong", "--case", "case"], "ModuleNotFoundError: No module named 'nowhere'"),
    "broken module": (["command_broken.py:f", "--case", "case"], "No module named 'not_there_at_all'\n  at "),
    "syntax": (["command_syntax.py:f", "--case", "case"], "SyntaxError"),
    "no attribute": (["command_rules.py:wrnog", "--case", "case"], "command_rules.py has no 'wrnog'; it has wrong"),
    "no function": (["command_rules.py:value", "--case", "case"], "is not a function but int"),
    "no such case": (["command_rules.py:wrong", "--case", "nocase"], "has no 'nocase'"),
    "list": (["command_rules.py:wrong", "--case", "listed"], "listed returned list, not a tuple of arguments"),
    "no name": (
        ["command_rules.py:wrong", "--case", "unnamed"],
        "unnamed yielded a tuple of (ArrayImpl), not a name and a tuple",
    ),
    "no cases": (["command_rules.py:wrong", "--case", "no_cases"], "no_cases yielded no case"),
    "late": (["command_rules.py:Namespace.sine", "--case", "late"], "RuntimeError: the data are gone\n  at "),
    "exits": (["command_rules.py:wrong", "--case", "leaves"], "raised SystemExit: 0"),
    "raises": (["command_rules.py:raises", "--case", "case"], "raises itself raises TypeError"),
    "order": (["command_rules.py:wrong", "--case", "case", "--order", "3"], "invalid choice: 3"),
    "seed": (["command_rules.py:wrong", "--case", "case", "--seed", "x"], "invalid int value: 'x'"),
    "html": (["command_rules.py:wrong", "--case", "case", "--html", "no/such/page.html"], "No such file or directory"),
}


@pytest.mark.parametrize(("argv", "message"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_unusable_input_ends_with_3_and_one_message(run, argv, message):
    status, _, err = run(*argv)
    assert status == 3
    assert message in err
    assert "Traceback" not in err
    assert "site-packages" not in err


def test_the_users_line_is_named_and_the_stack_is_there_on_demand(run, folder):
    status, _, err = run("command_rules.py:raises", "--case", "case", "--traceback")
    assert status == 3
    line = 1 + SOURCE.splitlines().index("    jnp.zeros(3) + jnp.zeros(2)")
    assert f"at {folder / 'command_rules.py'}:{line}, in raises: jnp.zeros(3) + jnp.zeros(2)" in err
    assert "Traceback" in err


def test_a_reader_that_has_seen_enough_is_no_error(folder, monkeypatch):
    monkeypatch.chdir(folder)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(["command_rules.py:wrong", "--case", "case", "--json", "--html", "page.html"]) == 1
    assert (folder / "page.html").exists()


def test_from_a_shell(folder):
    """As a user has it: the package on the path, his own folder, nothing else."""
    command = [sys.executable, "-m", "jaxbp.check", "command_rules:wrong", "--case", "case"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("FAIL  wrong: ")
    help_shown = subprocess.run([*command[:3], "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "exit status: 0 right, 1 wrong, 2 inconclusive, 3 unusable input" in help_shown
    assert (
        textwrap.dedent("""\
            def case():
                return jnp.ones((3, 2)), jnp.ones(2)
        """)
        .strip()
        .splitlines()[0]
        in help_shown
    )
