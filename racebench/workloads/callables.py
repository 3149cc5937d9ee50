"""Python callables under test: finds, imports, inspects and calls them.

A callable takes a psycopg connection, or nothing if it opens its own from RACEBENCH_DSN or DATABASE_URL. An `async def`
takes an asynchronous one. Schedules and load are the drivers'.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import os
import re
import sys
import textwrap
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from racebench.core import documentation, plain_text
from racebench.core.errors import UsageProblem, suggest
from racebench.core.model import Call, HttpRequest, Program
from racebench.core.plain_text import message_of, one_line
from racebench.workloads import working_folder

if TYPE_CHECKING:
    import psycopg

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: The SQLSTATEs of tables, columns and schemas that do not exist.
_NOT_THERE = ("42", "3F")


def is_reference(text: str) -> bool:
    """Whether a text has the form of a callable's name, such as `myapp.orders:create_order`."""
    return _REFERENCE.fullmatch(text.strip()) is not None


def named(reference: str) -> Call:
    """The callable a reference names, not yet imported; raises UsageProblem if it is not one."""
    if not is_reference(reference):
        raise UsageProblem(
            f"'{reference}' does not name a callable; write module:function, for example myapp.orders:create"
        )
    module, _, name = reference.strip().partition(":")
    return Call(module=module, name=name)


def of(function: Callable[..., Any]) -> Call:
    """A callable as it is in this process; raises UsageProblem if racebench cannot call it."""
    name = getattr(function, "__qualname__", type(function).__qualname__).replace(".<locals>", "").replace("<", "")
    call = Call(module=str(getattr(function, "__module__", "")), name=name.replace(">", ""))
    return _described(call, function)


def loaded(call: Call) -> Call:
    """Import what a call names, as `python -m` would: the working folder comes first, but for racebench's libraries.

    Raises UsageProblem if that fails, with the line at which the application's own code failed.
    """
    if call.function is not None:
        return call
    working_folder.add()
    try:
        set_up_django()
        member: Any = _imported(call)
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - an error of the application's imports
        error = f"{type(problem).__name__}: {message_of(problem)}"
        if isinstance(problem, ModuleNotFoundError) and problem.name and call.module.startswith(problem.name):
            advice = "; run racebench in the folder from which it can be imported, or set PYTHONPATH"
            raise UsageProblem(f"'{call}' cannot be imported: {error}{advice}") from None
        raise UsageProblem(f"'{call}' cannot be imported: {error}{where(problem)}") from None
    for part in call.name.split("."):
        try:
            member = getattr(member, part)
        except AttributeError:
            known = [name for name, value in vars(member).items() if callable(value) and not name.startswith("_")]
            raise UsageProblem(
                f"'{call}' cannot be imported: {call.module} has no '{part}'{suggest(part, known)}"
            ) from None
    return _described(call, member)


def set_up_django() -> None:
    """Django's models can be imported only after this; nothing where DJANGO_SETTINGS_MODULE is not set."""
    if os.environ.get("DJANGO_SETTINGS_MODULE") and importlib.util.find_spec("django") is not None:
        importlib.import_module("django").setup()


def _imported(call: Call) -> Any:
    """A call's module by its name, or from the file it is in if it has no name that can be imported (pytest's)."""
    if call.module in sys.modules:
        return sys.modules[call.module]
    if not call.file or importlib.util.find_spec(call.module) is not None:
        return importlib.import_module(call.module)
    spec = importlib.util.spec_from_file_location(call.module, call.file)
    assert spec is not None  # it has been loaded from there before
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[call.module] = module
    spec.loader.exec_module(module)
    return module


def is_at_top(call: Call) -> bool:
    """Whether importing a call's name finds the same function."""
    member: Any = sys.modules.get(call.module)
    for part in call.name.split("."):
        member = getattr(member, part, None)
    return member is not None and member is call.function


def _described(call: Call, function: Any) -> Call:
    if not callable(function):
        raise UsageProblem(f"'{call}' is {type(function).__name__}, not something to call; name a function")
    inner = inspect.unwrap(function)
    if isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise UsageProblem(f"'{call}' is a generator: calling it does nothing; give a function that runs it")
    text = _source(inner)
    return Call(
        module=call.module,
        name=call.name,
        function=function,
        text=text,
        takes_connection=_takes(call, function),
        asynchronous=inspect.iscoroutinefunction(inner),
        file=getattr(sys.modules.get(call.module), "__file__", None) or "",
    )


def _source(function: Any) -> str:
    """A function's lines, from its first to the last that its code comes from; "" if they are not known.

    inspect.getsource would do, but takes 20 ms to begin: it compiles the tokenizer's patterns.
    """
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return ""
    last, inner = code.co_firstlineno, [code]
    while inner:
        part = inner.pop()
        last = max([last, *(end for _, end, _, _ in part.co_positions() if end is not None)])
        inner += [constant for constant in part.co_consts if isinstance(constant, CodeType)]
    return textwrap.dedent("".join(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : last]))


def _takes(call: Call, function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False
    needed = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    try:
        signature.bind(*["connection"] * min(len(needed), 1))
    except TypeError:
        raise UsageProblem(
            f"'{call}' needs {len(needed)} arguments ({', '.join(needed)}); racebench gives a psycopg connection or "
            "nothing: wrap it in a function that knows the rest"
        ) from None
    return bool(needed)


def where(problem: BaseException) -> str:
    """The last line of the application's code that an exception passed, in parentheses; "" if there is none."""
    line = ""
    traceback = problem.__traceback__
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        if is_application(path):
            line = f" ({shown(path)}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return line


def position(frame: FrameType | None) -> str:
    """The line of the application that a thread is in, and the function; a library's if there is none."""
    innermost = frame
    while frame is not None and not is_application(frame.f_code.co_filename):
        frame = frame.f_back
    place = frame or innermost
    if place is None:
        return "an unknown place"
    return f"{shown(place.f_code.co_filename)}:{place.f_lineno}, in {place.f_code.co_name}"


_LIBRARIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - compared with what the interpreter writes
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120


@functools.lru_cache(maxsize=4096)
def is_application(path: str) -> bool:
    """Whether a file belongs to the application, and not to a library or to racebench."""
    return not (path.startswith(("<", _STANDARD, _PACKAGE)) or any(folder in path for folder in _LIBRARIES))


def shown(path: str) -> str:
    """A file's path to show: relative to the working folder if it is below it."""
    try:
        return _relative(path, os.getcwd())  # noqa: PTH109 - as a text, which is looked up fast
    except (ValueError, OSError):
        return path


@functools.lru_cache(maxsize=1024)
def _relative(path: str, folder: str) -> str:
    """A path below a folder; raises ValueError if it is not. Each step of each schedule asks for the same few."""
    return str(Path(path).relative_to(folder))


def set_up(call: Call, connection: psycopg.Connection[Any]) -> None:
    """Call a setup, and commit what it did on the connection; raises UsageProblem if it fails."""
    try:
        _called(call, connection)
        connection.commit()
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - the application's own
        raise UsageProblem(
            f"the setup '{call}' failed: {type(problem).__name__}: {message_of(problem)}{where(problem)}"
        ) from None


def broken(call: Call, connection: psycopg.Connection[Any]) -> list[str]:
    """Call an invariant: return a text for each problem, none if the invariant holds.

    It holds if it returns None, True or something empty; it is broken if it returns False or rows, or fails an assert.
    Raises UsageProblem if it fails otherwise.
    """
    try:
        answer = _called(call, connection)
        if answer is not None and not isinstance(answer, bool | str):
            answer = [_row(row) for row in answer]  # a query set is queried here
    except AssertionError as problem:
        return [message_of(problem) or f"{call} fails{where(problem)}"]
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - the application's own
        raise UsageProblem(
            f"the invariant '{call}' failed: {type(problem).__name__}: {message_of(problem)}{where(problem)}"
        ) from None
    if isinstance(answer, list):
        return answer
    if answer is None or answer is True or answer == "":
        return []
    return [answer if isinstance(answer, str) else f"{call} is {answer}"]


def _row(row: Any) -> str:
    """A row that an invariant returned, as rows are written everywhere if its columns have names."""
    return plain_text.row(row.items()) if isinstance(row, Mapping) else one_line(str(row))


def advice(code: str, said: str) -> str:
    """What may help a call that fails when it runs alone, to follow what was said; "" if that is not known."""
    if code.startswith(_NOT_THERE):
        return "; is the setup complete?"
    if "connect()" in said and "argument 'options'" in said:
        page = documentation.page("own-code")
        return f"; SQLAlchemy passes what is in the URL to asyncpg as arguments: use async_creator ({page})"
    return ""


def left_open(call: Call) -> str:
    """The message about a call that returns in the middle of a transaction."""
    return (
        f"{call} leaves its transaction open; commit before it returns (`with connection.transaction():`, or as your "
        "ORM has it: session.commit(), transaction.atomic())"
    )


def no_outcome(call: Call, error: BaseException) -> UsageProblem | None:
    """What is wrong with a call that raised what no call may raise; None for an exception that is an outcome.

    Without the exception itself: its traceback would keep connections open.
    """
    if isinstance(error, UsageProblem):
        return UsageProblem(str(error))
    if isinstance(error, SystemExit):
        return UsageProblem(f"{call} called sys.exit({error.code}); a call must return, or raise an exception")
    if isinstance(error, KeyboardInterrupt):
        return UsageProblem(f"{call} raised KeyboardInterrupt; a call must return, or raise an exception")
    return None


def unreached(subjects: Sequence[Call | Program | HttpRequest], server: str) -> str:
    """The message about calls, programs or requests of which the server has seen no statement."""
    names = ", ".join(dict.fromkeys(map(str, subjects)))
    takes = "take a psycopg connection, or " if isinstance(subjects[0], Call) else ""
    return (
        f"{names} sent no statement to {server}: does it reach the database at all? "
        f"Have it {takes}connect to DATABASE_URL"
    )


def handed(call: Call, connection: psycopg.Connection[Any]) -> psycopg.Connection[Any] | psycopg.AsyncConnection[Any]:
    """What a call is given: the connection, or for an `async def` an asynchronous one over the same backend.

    The connection is to be closed before the other one is forgotten.
    """
    if not call.asynchronous:
        return connection
    import psycopg

    asynchronous = psycopg.AsyncConnection[Any](connection.pgconn)
    asynchronous._autocommit = connection.autocommit
    asynchronous.prepare_threshold = connection.prepare_threshold
    return asynchronous


def called(call: Call, given: Any, run: Callable[[Coroutine[Any, Any, Any]], Any] | None = None) -> Any:
    """Call with what `handed` gave it, and return its result. `run` runs a coroutine to its end, else asyncio.run."""
    assert call.function is not None  # loaded
    result = call.function(given) if call.takes_connection else call.function()
    if not inspect.iscoroutine(result):
        return result
    if run is not None:
        return run(result)
    import asyncio

    if call.asynchronous and call.takes_connection:
        given.lock = asyncio.Lock()  # the one before may belong to the event loop of the call before
    return asyncio.run(result)


def _called(call: Call, connection: psycopg.Connection[Any]) -> Any:
    given = handed(call, connection)
    try:
        return called(call, given)
    finally:
        if given is not connection:
            del given.pgconn  # so that it does not ask to be closed: the connection is used on


def signature(error: BaseException) -> str:
    """What identifies an exception: its SQLSTATE if it has one, else its type's name."""
    return _sqlstate(error) or type(error).__name__


def code(error: BaseException) -> str:
    """As `signature`, in five characters: an exception of the application's own is RB and three that its name makes."""
    if sqlstate := _sqlstate(error):
        return sqlstate
    number = int.from_bytes(hashlib.sha256(type(error).__name__.encode()).digest()[:4], "big") % 36**3
    return "RB" + "".join(_DIGITS[number // 36**place % 36] for place in (2, 1, 0))


def own_sqlstate(error: object) -> str:
    """The SQLSTATE that an exception itself has, "" for none: psycopg's and asyncpg's attribute, or psycopg2's."""
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


def _sqlstate(error: BaseException) -> str:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        for inner in (cause, getattr(cause, "orig", None)):  # SQLAlchemy keeps psycopg's there, Django as the cause
            if state := own_sqlstate(inner):
                return state
        cause = cause.__cause__
    return ""
