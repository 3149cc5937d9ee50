"""Python callables under load, called in the worker's process.

The environment of the process says where the tables are, before anything of the application is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import pq

from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.faults import CONNECTION_LOST
from racebench.core.model import Call
from racebench.core.plain_text import message_of
from racebench.core.target import Target
from racebench.load.callers import Caller, Ending, Place, Surroundings, surroundings
from racebench.postgres.client_sessions import silent, transactions
from racebench.postgres.connection import connect
from racebench.postgres.reconnecting import connect_first
from racebench.workloads import addresses, callables, working_folder
from racebench.workloads.faults import fault

_CONNECTIONS = (psycopg.Connection, psycopg.AsyncConnection)
_OPEN = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonApplication:
    """What a process has to know to call the application: its callables, its surroundings, where the tables are.

    `functions`: those of the callables that cannot be imported, packed by dill, None in place of the others. `late`:
    modules of libraries that the calls import when they are first called.
    """

    target: Target
    schema: str
    application_name: str
    calls: tuple[Call, ...]
    functions: bytes
    surroundings: Surroundings
    paths: tuple[str, ...]
    late: tuple[str, ...] = ()

    def caller(self, place: Place) -> Caller:
        """See callers.Application."""
        return _Caller(self, place)


def python_application(
    target: Target, schema: str, name: str, calls: tuple[Call, ...], late: tuple[str, ...] = ()
) -> PythonApplication:
    """The application as this process knows it; raises UsageProblem for a callable that cannot be sent to another."""
    functions = [None if _importable(call) else call.function for call in calls]
    return PythonApplication(
        target=target,
        schema=schema,
        application_name=name,
        calls=tuple(replace(call, function=None) for call in calls),
        functions=_packed(calls, functions),
        surroundings=surroundings(),
        paths=tuple(sys.path),
        late=late,
    )


def _importable(call: Call) -> bool:
    """Whether a call is at the top of a module, so that another process can import it."""
    return callables.is_at_top(call) and call.module != "__main__"


def _packed(calls: tuple[Call, ...], functions: list[Any]) -> bytes:
    """The functions that are not at the top of a module, with what they refer to, as dill packs them."""
    if not any(functions):
        return b""
    import dill

    try:
        packed: bytes = dill.dumps(functions, recurse=True)
        dill.loads(packed)
    except Exception as problem:  # noqa: BLE001 - depends on what a function refers to
        names = ", ".join(str(call) for call, function in zip(calls, functions, strict=True) if function is not None)
        raise UsageProblem(
            f"{names} cannot be sent to worker processes: {type(problem).__name__}: {message_of(problem)}; "
            "define it at the top of a module that can be imported"
        ) from None
    return packed


def _loaded(task: PythonApplication) -> list[Call]:
    functions: list[Any] = [None] * len(task.calls)
    if task.functions:
        import dill

        callables.set_up_django()
        functions = dill.loads(task.functions)
    return [
        callables.loaded(call) if function is None else replace(call, function=function)
        for call, function in zip(task.calls, functions, strict=True)
    ]


class _Caller:
    """The application in this process. `connections`: the pids of those that were made for calls that are given one."""

    sees_faults = True

    def __init__(self, task: PythonApplication, place: Place) -> None:
        sys.stdout = sys.stderr  # what the application prints does not belong into a report
        task.surroundings.enter()
        os.environ.update(addresses.variables(task.target, task.schema, task.application_name))
        working_folder.adopt([*task.paths, *(path for path in sys.path if path not in task.paths)])
        self.subjects = _loaded(task)
        self._task = task
        self._place = place
        self._takes = any(call.takes_connection for call in self.subjects)
        self._connection: psycopg.Connection[Any] | None = None
        #: What calls are given: that connection (False), or an asynchronous one over the same backend (True).
        self._handed: dict[bool, Any] = {}
        #: The event loop of `async def`s: one for all calls, as in a server.
        self._runner = asyncio.Runner()
        self._began: int | None = None
        self.connections: list[int] = []
        connect_first(self.connect)

    def connect(self) -> None:
        """Make the connection that calls are given, if one takes a connection; raises DatabaseProblem."""
        self._disconnect()
        if self._takes:
            task = self._task
            self._connection = connect(
                task.target,
                schema=task.schema,
                application_name=task.application_name,
                autocommit=False,
                own_code=True,
            )
            self.connections.append(self._connection.info.backend_pid)
            self._began = self._transactions()

    @property
    def used(self) -> bool:
        """Whether a statement may have been sent over the connection that calls are given."""
        if self._connection is None:
            return False
        before, now = self._began, self._transactions()
        return len(self.connections) > 1 or before is None or now is None or now > before + 1

    def silent_connections(self) -> tuple[int, ...]:
        """The pids of what has sent nothing of a call's, if the connection that calls are given has not.

        These are that connection, those of psycopg that the application keeps open (a pool opens them at import), and
        the one that asks the server about them.
        """
        gc.unfreeze()  # frozen objects are not listed
        # The types are asked: a proxy would say that it is what it stands for.
        kept = [one for one in gc.get_objects() if issubclass(type(one), _CONNECTIONS) and not one.closed]
        others = {one.info.backend_pid for one in kept}.difference(self.connections)
        if not others:
            return tuple(self.connections)
        task = self._task
        try:
            with connect(task.target, schema=task.schema, application_name=task.application_name) as asking:
                return (*self.connections, *silent(asking, [*others]), asking.info.backend_pid)
        except (psycopg.Error, DatabaseProblem):
            return tuple(self.connections)

    def _transactions(self) -> int | None:
        """The number of transactions of the connection, this question's included; None if it cannot be asked."""
        assert self._connection is not None
        try:
            return transactions(self._connection)
        except (psycopg.Error, TimeoutError):
            return None

    def close(self) -> None:
        self._disconnect()
        self._runner.close()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._handed.clear()

    def run(self, call: Call) -> Ending:
        """Call once. Raises UsageProblem."""
        self._place.begun += 1
        try:
            return self._run(call)
        except SystemExit as problem:
            raise UsageProblem(f"{call} called sys.exit({problem.code}); a call must return, or raise") from None
        except DatabaseProblem as problem:
            return Ending(CONNECTION_LOST, message_of(problem), fault=True)

    def _run(self, call: Call) -> Ending:
        if call.takes_connection and (self._connection is None or self._connection.closed):
            self.connect()  # the call before has closed it
        connection = self._connection
        given: Any = None
        if connection is not None and call.takes_connection:
            if call.asynchronous not in self._handed:
                self._handed[call.asynchronous] = callables.handed(call, connection)
            given = self._handed[call.asynchronous]
        try:
            callables.called(call, given, self._runner.run)
        except Exception as problem:  # noqa: BLE001 - an error of the application, which goes on
            message = f"{type(problem).__name__}: {message_of(problem)}{callables.where(problem)}"
            state = fault(problem)
            if not state and given is not None and given.broken:
                state = CONNECTION_LOST  # whatever the application made of it
            _roll_back(connection)
            return Ending(state or callables.code(problem), message, fault=bool(state))
        if connection is not None and connection.pgconn.transaction_status in _OPEN:
            _roll_back(connection)
            raise UsageProblem(callables.left_open(call))
        return Ending()


def _roll_back(connection: psycopg.Connection[Any] | None) -> None:
    """End the transaction that a call left, if its connection is still there."""
    if connection is not None and not connection.closed:
        with contextlib.suppress(psycopg.OperationalError):
            connection.rollback()
