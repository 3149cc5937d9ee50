"""Codes in place of a SQLSTATE for what an application's operation ended with: an HTTP status, an exit code, a signal.

Records have room for five characters. PostgreSQL has no SQLSTATEs of these classes.
"""

from __future__ import annotations

import signal

_STATUS, _EXIT, _SIGNAL = "RA", "RX", "RS"
#: The first and the last code of an application's own errors, by class: racebench.workloads.callables' exceptions too.
OF_APPLICATIONS = (("RB000", "RBZZZ"), (f"{_STATUS}000", f"{_STATUS}999"), (f"{_EXIT}000", f"{_EXIT}999"))


def of_status(status: int) -> str:
    """The code of an HTTP status."""
    return f"{_STATUS}{min(status, 999):03d}"


def of_exit(code: int) -> str:
    """The code of a process's end; `code` is minus the signal that ended it."""
    return f"{_EXIT}{min(code, 999):03d}" if code >= 0 else f"{_SIGNAL}{-code:03d}"


def shown(code: str) -> str:
    """A code as reports have it: "HTTP 500", "exit 1", "SIGKILL"; a SQLSTATE as it is."""
    kind, number = code[:2], code[2:]
    if kind not in (_STATUS, _EXIT, _SIGNAL) or not number.isdigit():
        return code
    if kind == _SIGNAL:
        try:
            return signal.Signals(int(number)).name
        except ValueError:
            return f"signal {int(number)}"
    return f"{'HTTP' if kind == _STATUS else 'exit'} {int(number)}"
