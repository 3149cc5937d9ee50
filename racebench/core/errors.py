"""The errors that racebench raises: each has an exit code and a message that ends with the next move.

Every message is one line of limited length, without control characters: what failed, the value, what to do. The command
line prints it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from racebench.core.plain_text import one_line, shortened


class ExitCode(IntEnum):
    """The exit codes of every racebench command; documented in docs/exit-codes.md."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    ANOMALY = 3
    THRESHOLD = 4
    INCONCLUSIVE = 5
    DATABASE = 6
    INTERRUPTED = 130


class RacebenchError(Exception):
    """racebench or its machine failed: a full disk, a process that cannot be started."""

    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(one_line(message)))


class DiskFull(RacebenchError):  # noqa: N818 - as below
    """There is no space for more records; the earlier records are kept."""


class UsageProblem(RacebenchError):  # noqa: N818 - the user's problem, not an error of the program
    """The request cannot be carried out: an unknown strategy, an unwritable folder."""

    exit_code = ExitCode.USAGE


class ScenarioProblem(UsageProblem):
    """A scenario's file is wrong. The message begins with `file:line:` if the line is known."""


class DatabaseProblem(RacebenchError):  # noqa: N818 - as above
    """The database cannot be reached or used: it refuses, is read-only, too old, or has no free connection."""

    exit_code = ExitCode.DATABASE


class ConnectionLost(DatabaseProblem):
    """A connection ended while it was in use: another one may do."""


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP. Not an Exception, so that no handler of failures swallows it."""

    exit_code = ExitCode.INTERRUPTED


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest known name, else the list of known names."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""
