"""The errors racebench raises: each carries an exit code and a message that ends with the next move.

Every message is one line: what failed, the value, what to do. Nothing here formats for a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum


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
    """racebench, or the machine under it, failed: a full disk, a process that cannot be started."""

    exit_code = ExitCode.INTERNAL


class DiskFull(RacebenchError):  # noqa: N818 - as below
    """There is no space for what is being recorded; what was recorded before is kept."""


class UsageProblem(RacebenchError):  # noqa: N818 - "error" is what a program makes
    """The request cannot be carried out as it was made: an unknown strategy, an unwritable folder."""

    exit_code = ExitCode.USAGE


class ScenarioProblem(UsageProblem):
    """A scenario's file is wrong. The message begins with `file:line:` where a line is known."""


class DatabaseProblem(RacebenchError):  # noqa: N818 - as above
    """The database cannot be reached or cannot be used: refused, read-only, too old, too full."""

    exit_code = ExitCode.DATABASE


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP. Not an Exception, so that no handler of failures swallows it."""

    exit_code = ExitCode.INTERRUPTED


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest known name, else the list of what is known."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def one_line(text: str) -> str:
    """Fold a multi-line message (libpq's, an OS error's) into one line, without control characters."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", " ".join(text.split()))
