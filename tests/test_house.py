"""The house: imports go to a lower floor, nothing private of JAX, nothing of the machine that the files were written on."""

import ast
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest


ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "jaxbp").rglob("*.py"))

FLOORS = [
    ["contracts", "inputs", "windows", "factors", "tree", "passes", "jaxprs", "compilation", "page"],
    ["ops", "initializers", "compose", "chains", "graph", "check"],
    ["layers", "losses", "penalties"],
    ["blocks"],
    ["backprop", "lift"],
    ["comparison", "per_example", "curvature"],
    ["routes"],
    ["training"],
    ["validation"],
    ["estimator", "report"],
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def imports(path: pathlib.Path) -> set[str]:
    """The modules that a file imports, at its top or inside functions, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: from . import x
                package = path.relative_to(ROOT).parent.parts
                base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")]).rstrip(".")
            submodules = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= submodules
            found |= {base} if len(submodules) < len(node.names) else set()
    return found


def floor_of(module: str) -> int:
    _, _, inside = module.partition(".")
    room = inside.split(".")[0]
    assert room in FLOOR, f"{module}: give {room!r} a floor in tests/test_house.py"
    return FLOOR[room]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "jaxbp"])
def test_imports_go_to_a_lower_floor(module):
    for other in imports(MODULES[module]):
        if other.split(".")[0] != "jaxbp":
            continue
        assert other != "jaxbp", f"{module} imports jaxbp itself, the roof; import the module that is meant"
        assert floor_of(other) <= floor_of(module), (
            f"{module} (floor {floor_of(module)}) imports {other} (floor {floor_of(other)}): only a lower floor, or its own"
        )


def test_imports_make_no_cycle():
    graph = {name: imports(path) & MODULES.keys() for name, path in MODULES.items()}
    graph = {name: others - {name} for name, others in graph.items()}
    while graph:
        leaves = {name for name, others in graph.items() if not others & graph.keys()}
        assert leaves, f"these modules import each other in a circle: {sorted(graph)}"
        graph = {name: others for name, others in graph.items() if name not in leaves}


def test_the_walk_sees_upward_imports(tmp_path):
    """The two tests above can fail: the walk sees every way to write an import."""
    path = ROOT / "jaxbp" / "layers" / "not_there.py"
    source = tmp_path / "source.py"
    source.write_text("import jaxbp.compose\ndef f():\n    from jaxbp import contracts\n    from jaxbp.factors import Outer\n")
    assert imports(source) == {"jaxbp.compose", "jaxbp.contracts", "jaxbp.factors"}
    assert floor_of("jaxbp.compose") < floor_of(module_of(path)) < floor_of("jaxbp.backprop")


def outside(folder: str) -> set[str]:
    return {other.split(".")[0] for path in (ROOT / "jaxbp" / folder).rglob("*.py") for other in imports(path)}


def test_page_knows_no_jax():
    assert outside("page") <= {"jaxbp", *sys.stdlib_module_names}


def test_the_library_needs_only_its_dependencies():
    allowed = {"jaxbp", "jax", "optax", "chex", "numpy", *sys.stdlib_module_names}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {re.match(r"[\w-]+", name)[0] for name in project["dependencies"]} == {"jax", "jaxlib", "optax", "chex", "numpy"}
    at_the_top = {path: top_level_imports(path) - allowed for path in SOURCES}
    assert not {module_of(path): names for path, names in at_the_top.items() if names}, (
        "import extras inside the function that needs them"
    )


def top_level_imports(path: pathlib.Path) -> set[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in body if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in names}


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not re.search(r"jax\S*[<~]|jax\S*==", " ".join(project["dependencies"])), "no upper bound on jax"
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {project['version']}" in changelog


def test_help_imports_no_jax():
    code = "import sys, experiments.cli; print([name for name in ('jax', 'numpy', 'sklearn') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# --- every text file of the project

FOLDERS = [".ci", "docs", "examples", "experiments", "jaxbp", "tests"]  # not what runs and tools leave beside them
TEXT = {".py", ".toml", ".txt", ".in", ".md", ".json", ".cfg", ".yml", ".yaml", ".html", ".css", ".js", "", ".typed"}
FILES = [
    path
    for path in sorted([*ROOT.iterdir(), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))])
    if path.is_file() and path.suffix in TEXT and path.name != "test_house.py"  # which spells them out
]
MACHINE = re.compile(r"(?<![\w.~/-])/(?:work|home|root|tmp|opt|Users|mnt)/\w")
# put together from pieces, so that this file names none either
REGISTRIES = "|".join(
    "".join(parts) for parts in [("py", r"pi\.org"), ("python", "hosted"), ("npm", r"js\.(?:org|com)"), ("deb", r"\.debian")]
)
OPTIONS = "|".join("".join(parts) for parts in [("--(?:extra-)?", "index-", "url"), ("--find", "-links")])
HOSTS = re.compile(rf"{REGISTRIES}|{OPTIONS}|(?:https?|file)://(?!www\.w3\.org/|127\.0\.0\.1|localhost)", re.IGNORECASE)
PRIVATE = re.compile(r"\bjax\._src\b|\bfrom jax import _src\b")


def hits(pattern: re.Pattern) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{i}: {line.strip()}"
        for path in FILES
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("pattern", [MACHINE, HOSTS, PRIVATE], ids=["machine paths", "hosts", "private JAX"])
def test_no_file_holds(pattern):
    assert len(FILES) > 20
    assert hits(pattern) == []


def test_requirements_are_pinned_by_hash():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert pinned
    assert all(re.match(r"[\w.-]+==[\w.]+ .*\\$", line) for line in pinned), "lock again: make lock"
    assert "".join(text.split("\\\n")).count("--hash=sha256:") >= len(pinned)


def test_the_package_knows_its_version():
    import jaxbp

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert jaxbp.__version__ in (project["version"], "0+unknown")  # the latter where it is not installed
