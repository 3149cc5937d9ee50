"""Where the code under test is, as `file:line`: what a report points at. Nothing is read from a file here.

Files of shipped scenarios have no location: they are racebench's own, and are in no project of the user's. That of an
application's step is known only when it is sent (racebench.exploration.sessions.round_trips).
"""

from __future__ import annotations

import contextlib
import inspect
import os
from pathlib import Path
from types import CodeType

from racebench.core.model import Call, Program, Script, Statement, Strategy
from racebench.workloads import catalog
from racebench.workloads.callables import is_application, shown


def of_strategy(strategy: Strategy) -> tuple[str, ...]:
    """Where each part of a strategy begins: a callable, a script's first statement, a program's file.

    Empty for a request to a service, and for what has no file.
    """
    if strategy.calls:
        found = [_of_call(call) for call in strategy.calls]
    elif strategy.programs:
        found = [_of_program(program) for program in strategy.programs]
    elif strategy.requests:
        found = []
    else:
        first = next(iter(strategy.script.statements), None)
        found = [of_statement(strategy.script, first)] if first is not None else []
    return tuple(dict.fromkeys(filter(None, found)))


def of_statement(script: Script, statement: Statement) -> str:
    """Where a statement of a script is; "" for one that an application sends."""
    if not statement.line or _is_shipped(script.path):
        return ""
    return f"{shown(str(script.path))}:{statement.line}"


def _of_call(call: Call) -> str:
    """Where a callable begins; its module's first line if that is not known, "" if nothing is."""
    function = call.function
    with contextlib.suppress(ValueError):  # a wrapper that wraps itself
        function = inspect.unwrap(function) if function is not None else None
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType) and is_application(code.co_filename):
        return f"{shown(code.co_filename)}:{code.co_firstlineno}"
    return f"{shown(call.file)}:1" if call.file else ""


def _of_program(program: Program) -> str:
    """The first word of a command, after the program itself, that is a file, or the program if it is one."""
    files = (word for word in (*program.words[1:], program.words[0]) if _is_file(word))
    return next((f"{shown(os.path.normpath(word))}:1" for word in files), "")


def _is_file(word: str) -> bool:
    """Whether a word of a command is a file; a word may be a program's text, which is too long for a name."""
    with contextlib.suppress(OSError, ValueError):
        return Path(word).is_file()
    return False


def _is_shipped(path: Path) -> bool:
    return path.is_absolute() and path.is_relative_to(catalog.shipped_folder())
