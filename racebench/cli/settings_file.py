"""The settings file: which one is used, whether it may be trusted, and its table.

A command that runs as one user obeys no file that another user could put in its way: it looks only inside the project,
never enters a folder above that others may write to, and of another user's file takes no setting that names a file to
write. What the settings mean is settings.py's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from racebench.core.errors import UsageProblem
from racebench.core.plain_text import one_line, shown

FILE = "racebench.toml"
PROJECT = "pyproject.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """The settings file of a folder, None if there is none.

    `prefix` begins the names of its keys in messages. `foreign`: who owns it, in words, if that is neither this user
    nor root; "" else. `warnings`: why a file above was not used, one line each.
    """

    path: Path | None = None
    table: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    foreign: str = ""
    warnings: tuple[str, ...] = ()


def find(start: Path) -> SettingsFile:
    """The nearest file with settings, from a folder upwards to the root of its project.

    Raises UsageProblem for a file that cannot be read, or two in one folder.
    """
    root = _root(start)
    for folder in (start, *start.parents):
        if folder != start and (why := _distrusted(folder, root)):
            unused = [f"{_short(path)} is not used: {why}" for path in _candidates(folder, start)]
            return SettingsFile(warnings=tuple(unused[:1]))
        own, project = folder / FILE, folder / PROJECT
        table = _project_table(project)
        if own.is_file():
            if table is not None:
                raise UsageProblem(
                    f"{_short(own)} and [tool.racebench] in {_short(project)} both hold settings; keep one of them"
                )
            return SettingsFile(path=own, table=_load(own), prefix=f"{_short(own)}: ", foreign=_foreign(own))
        if table is not None:
            return SettingsFile(
                path=project, table=table, prefix=f"{_short(project)}: tool.racebench.", foreign=_foreign(project)
            )
    return SettingsFile()


def _root(start: Path) -> Path:
    """The project's folder: the nearest with `.git`, else the nearest with a pyproject.toml, else the folder itself."""
    folders = (start, *start.parents)
    for mark in (".git", PROJECT):
        for folder in folders:
            if (folder / mark).exists():
                return folder
    return start


def _distrusted(folder: Path, root: Path) -> str:
    """Why a folder above the current one is not looked into; "" if it is."""
    if folder not in (root, *root.parents) or folder == root:
        status = folder.stat()
        others = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_uid != os.geteuid())
        return "others may write to its folder; move it into the project" if others else ""
    return "it is outside of the project, whose folder has a .git or a pyproject.toml; move it into that folder"


def _candidates(folder: Path, start: Path) -> Iterator[Path]:
    """The files that a search without limits would have found from this folder upwards, as far as they can be seen."""
    for above in (folder, *folder.parents):
        if above != start and (above / FILE).is_file():
            yield above / FILE


def _foreign(path: Path) -> str:
    """The owner of a file, or of a link to it, if that is neither this user nor root."""
    for status in (path.lstat(), path.stat()):
        if status.st_uid not in (0, os.geteuid()):
            return f"user {status.st_uid}"
    return ""


def _project_table(path: Path) -> Mapping[str, Any] | None:
    """[tool.racebench] of a pyproject.toml; None if it has none. A file without the word racebench is not parsed."""
    try:
        if not path.is_file() or b"racebench" not in path.read_bytes():
            return None
    except OSError as problem:
        raise UsageProblem(f"{_short(path)} cannot be read: {problem.strerror}") from None
    tools = _load(path).get("tool", {})
    table = tools.get("racebench") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageProblem(f"{_short(path)}: tool.racebench is a table, [tool.racebench], not {shown(table)}")
    return table


def _load(path: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise UsageProblem(f"{_short(path)} is not TOML: {one_line(str(problem))}") from None
    except UnicodeDecodeError:
        raise UsageProblem(f"{_short(path)} is not UTF-8 text") from None
    except (RecursionError, ValueError):  # ValueError: an integer of more digits than the interpreter converts
        raise UsageProblem(f"{_short(path)}: a value is nested too deeply, or has too many digits") from None
    except OSError as problem:
        raise UsageProblem(f"{_short(path)} cannot be read: {problem.strerror}") from None


def _short(path: Path) -> str:
    """A file's name, relative to the current folder."""
    return os.path.relpath(path)
