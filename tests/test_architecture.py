"""The house has floors: a package imports only from the floors below its own."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ROOT = REPOSITORY / "glipkit"
FLOOR = {
    "structures": 0, "runtime": 0, "config": 0, "ops": 0,
    "layers": 1, "grounding": 1,
    "modeling": 2, "data": 2,
    "evaluation": 3, "engine": 3,
    "programs": 4,
    "inference": 5,
    "page": 6,
    "shell": 7,
}  # fmt: skip
FORBIDDEN = {  # what a package must not know, although its floor would allow it (STYLE 3.3)
    "data": {"layers", "ops"},
    "evaluation": {"modeling", "config", "ops", "layers"},
    "grounding": {"ops", "config"},
    "layers": {"config"},
}
LONG_FILES = {  # over 400 lines, each with the reason its first lines give
}
FILES = sorted(ROOT.rglob("*.py"))
PROGRAMS = sorted([*(REPOSITORY / "tools").glob("*.py")])


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def imported_packages(path: Path) -> set[str]:
    """Packages of glipkit that a file names in an import, wherever in the file it stands."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import glipkit by its full name"
            names += [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    parts = [name.split(".") for name in names]
    return {p[1] for p in parts if p[0] == "glipkit" and len(p) > 1 and p[1] in FLOOR}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    if package not in FLOOR:  # glipkit/__init__.py and the programs beside it
        return
    others = imported_packages(path) - {package}
    upward = {name for name in others if FLOOR[name] >= FLOOR[package]}
    assert not upward, f"{package} (floor {FLOOR[package]}) may not import {sorted(upward)}"
    strangers = others & FORBIDDEN.get(package, set())
    assert not strangers, f"{package} must not know {sorted(strangers)}"


def _takes_cfg(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return any(arg.arg in {"cfg", "config"} for arg in (*node.args.args, *node.args.kwonlyargs))


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_cfg_stops_at_the_doors(path: Path) -> None:
    if path.name in {"build.py", "launch.py"} or path.parent.name in {"config", "programs"}:
        return
    if path.name == "glip_demo.py":  # takes what the published class takes
        return
    takers = [node.name for node in ast.walk(ast.parse(path.read_text())) if _takes_cfg(node)]
    assert not takers, f"pass plain values instead of a cfg to {takers}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_files_stay_small(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    limit = LONG_FILES.get(_name(path), 400)
    assert lines <= limit, f"{_name(path)} has {lines} lines; split it by idea, or give the reason"


@pytest.mark.parametrize("path", PROGRAMS, ids=_name)
def test_tools_stay_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines < 100, f"{_name(path)} has {lines} lines; a tool is parse, build, run, report"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_file_says_why_it_exists(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{_name(path)} has no first line"


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=_name)
def test_package_files_define_nothing(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    defined = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    if path.parent == ROOT:  # `import glipkit` hands its names on when they are asked for
        defined = [name for name in defined if name not in {"__getattr__", "__dir__"}]
    assert not defined, f"{_name(path)} defines {defined}; an __init__ only hands names on"
