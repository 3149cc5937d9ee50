"""Where in the user's project a race is: the lines that a result has recorded, relative to the project's root.

What pull requests and editors point at. A file outside the project has no place: its path would say nothing there, and
would name this machine.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from racebench.exploration.result import Replay
from racebench.exploration.schedules import Step
from racebench.reports.formats.cases import Case

#: GitHub's variable for the root of the checkout, to which its annotations are relative.
ROOT_VARIABLE = "GITHUB_WORKSPACE"

#: First words of statements that neither read nor write rows.
_CONTROL = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "SET", "RESET", "DISCARD"}
    | {"DEALLOCATE", "PREPARE", "LISTEN", "UNLISTEN", "SHOW"}
)
_STRAND = re.compile(r"(?<=\d)[a-z]+$")
_READING = frozenset({"SELECT", "TABLE", "VALUES", "FETCH"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A line of a file. `path`: relative to the project's root, with slashes."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`root`: the folder that places are relative to. `folder`: the one that recorded lines are relative to."""

    root: Path
    folder: Path

    def place(self, line: str) -> Place | None:
        """The place of a recorded `file:line`; None for "" and for a file outside the project."""
        name, _, number = line.rpartition(":")
        if not name or "\0" in name or not number.isdecimal() or int(number) < 1:
            return None
        file = Path(os.path.normpath(self.folder / name))
        path = _below(file, self.root)
        if path is None:  # a link may lead to the file, or to the root
            with contextlib.suppress(OSError, ValueError):  # ValueError: a name that no file can have
                path = _below(file.resolve(), self.root.resolve())
        return None if path is None else Place(path=path, line=int(number))


def _below(file: Path, folder: Path) -> str | None:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else None


def here() -> Project:
    """The project of the working folder: GitHub's checkout, else the nearest folder with `.git`, else the folder."""
    folder = Path.cwd()
    above = (folder, *folder.parents)
    checkout = os.environ.get(ROOT_VARIABLE)
    if checkout and folder.resolve().is_relative_to(Path(checkout).resolve()):
        return Project(root=Path(checkout).resolve(), folder=folder.resolve())
    root = next((one for one in above if (one / ".git").exists()), folder)
    return Project(root=root, folder=folder)


def of_steps(witness: Replay, project: Project, otherwise: Place | None = None) -> list[Place | None]:
    """The place of each step. Where a step has none, it is that of the session's step before, or of the first after.

    `otherwise`: the place of the steps of a session that has none.
    """
    own = [project.place(step.where or step.script) for step in witness.steps]
    filled = []
    for number, step in enumerate(witness.steps):
        near = [place for place, other in zip(own, witness.steps, strict=True) if other.session == step.session]
        before = [
            place
            for place, other in zip(own[: number + 1], witness.steps[: number + 1], strict=True)
            if other.session == step.session and place is not None
        ]
        filled.append(before[-1] if before else next((place for place in near if place is not None), otherwise))
    return filled


def raced(witness: Replay) -> int | None:
    """The step at which the race shows: the last write of a session between whose steps another took one.

    The last of its other statements where none of these writes; None where no session was interrupted.
    """
    steps = witness.steps
    readers = {f"s{witness.sessions + 1}"} if witness.schedule.consumer else set()
    interrupted = {session for session in {*map(_session, steps)} - readers if _is_interrupted(steps, session)}
    candidates = [
        (_word(step) not in _READING, number)
        for number, step in enumerate(steps)
        if _session(step) in interrupted and _word(step) not in _CONTROL
    ]
    return max(candidates)[1] if candidates else None


def of_case(case: Case, project: Project, kind: str = "") -> Place | None:
    """Where to point for a case: the line that raced, else where its code begins.

    `kind`: so for one anomaly, which the schedule may not have.
    """
    if shows(case, kind) and case.witness is not None and (number := raced(case.witness)) is not None:
        place = of_steps(case.witness, project)[number]
        if place is not None:
            return place
    return next((place for line in case.code if (place := project.place(line)) is not None), None)


def shows(case: Case, kind: str) -> bool:
    """Whether the schedule of a case has an anomaly of this kind; "" for any."""
    return case.witness is not None and (not kind or kind in case.witness.anomalies)


def _is_interrupted(steps: Sequence[Step], session: str) -> bool:
    own = [number for number, step in enumerate(steps) if _session(step) == session]
    return own[-1] - own[0] + 1 > len(own)


def _session(step: Step) -> str:
    """The session of a step: `s1` of a step of its second strand, `s1b`, too."""
    return _STRAND.sub("", step.session)


def _word(step: Step) -> str:
    return step.sent.lstrip(" (").split(maxsplit=1)[0].rstrip(";").upper() if step.sent.strip(" (") else ""
