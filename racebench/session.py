"""One connection: connects, runs a script, a query or a file of SQL on it, and classifies what came of a script.

The only hot path to libpq. It knows nothing of workers, histories or reports.
Statements are prepared once and run by `psycopg.pq`, without cursor objects.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from racebench import expression
from racebench.errors import DatabaseProblem, ScenarioProblem, one_line
from racebench.model import Outcome, Script, Sleep, SqlFile, Statement
from racebench.script import statement_lines

if TYPE_CHECKING:
    from racebench.targets import Target

Variables = dict[str, bytes | None]

#: Reported when the connection ended without the server's saying why ("connection failure").
CONNECTION_LOST = "08006"

_COMMITS = frozenset({"COMMIT", "END"})
_BEGINS = frozenset({"BEGIN", "START"})
_ENDS = frozenset({"COMMIT", "END", "ROLLBACK", "ABORT"})
_TO_SAVEPOINT = re.compile(r"\s*ROLLBACK\s+(WORK\s+|TRANSACTION\s+)?TO\b", re.IGNORECASE)
_OK = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY})
_environment = threading.Lock()


@contextlib.contextmanager
def _sealed_environment() -> Iterator[None]:
    """Hide PG* variables while connecting: a stray PGSERVICE or PGOPTIONS must not reach the embedded server."""
    with _environment:
        hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
        try:
            yield
        finally:
            os.environ.update(hidden)


def connect(
    target: Target,
    *,
    schema: str | None = None,
    application_name: str = "racebench",
    settings: Mapping[str, str] | None = None,
) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect in autocommit mode, with `search_path` set to the schema and the given settings.

    Raises DatabaseProblem, in one line and without the password, when the server cannot be reached.
    """
    options = dict(settings or {})
    if schema is not None:
        options["search_path"] = schema
    parameters = dict(target.parameters)
    parameters.setdefault("connect_timeout", "10")
    parameters["application_name"] = application_name
    words = [f"-c {name}={_escape(value)}" for name, value in options.items()]
    parameters["options"] = " ".join([part for part in [parameters.get("options", ""), *words] if part])
    try:
        with _sealed_environment() if target.sealed else contextlib.nullcontext():
            return psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
    except psycopg.Error as problem:
        raise DatabaseProblem(f"cannot connect to {target.label}: {one_line(str(problem))}") from None


def _escape(value: str) -> str:
    """Escape a value for libpq's `options`, where backslash quotes a space."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def run_file(connection: psycopg.Connection[tuple[Any, ...]], file: SqlFile) -> None:
    """Run a file of SQL as one message (one transaction, unless it says otherwise).

    Raises ScenarioProblem with the file and the line of the statement that the server refuses.
    """
    pgconn = connection.pgconn
    pgconn.send_query(file.text.encode())
    done, refused = 0, None
    while (result := pgconn.get_result()) is not None:
        if result.status == pq.ExecStatus.COPY_IN:
            pgconn.put_copy_end(b"a file of SQL here has no stdin to COPY from")
            continue
        done += refused is None and result.status in _OK
        if result.status not in _OK and refused is None:
            refused = result
    if refused is None:
        return
    position = refused.error_field(pq.DiagnosticField.STATEMENT_POSITION)
    message = one_line((refused.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
    lines = statement_lines(file.text)
    line = file.text.count("\n", 0, int(position)) + 1 if position else lines[min(done, len(lines) - 1)]
    raise ScenarioProblem(f"{file.path}:{line}: the server refuses this: {message or pgconn.get_error_message()}")


class Session:
    """One connection with one script prepared on it.

    After `run`, `sqlstate` is the error ("" if none) and `message` the server's words for it.
    """

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]], script: Script, *, seed: str = "") -> None:
        self.connection = connection
        self.pgconn = connection.pgconn
        self.script = script
        self.random = Random(seed)
        self.sqlstate = ""
        self.message = ""
        try:
            self._code = [self._prepare(index, step) for index, step in enumerate(script.steps)]
        except BaseException:
            connection.close()
            raise

    @property
    def alive(self) -> bool:
        """False once the connection is lost."""
        return self.pgconn.status == pq.ConnStatus.OK

    def close(self) -> None:
        self.connection.close()

    def _prepare(self, index: int, step: Any) -> tuple[Any, ...]:
        """Compile a step to the tuple that `run` dispatches on; statements are prepared on the server."""
        if not isinstance(step, Statement):
            return (type(step).__name__, step)
        name = f"racebench_{index}".encode()
        result = self.pgconn.prepare(name, step.sql.encode())
        if result.status not in _OK:
            message = one_line((result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
            raise ScenarioProblem(f"{self.script.path}:{step.line}: the server refuses this statement: {message}")
        keyword = "SAVEPOINT" if _TO_SAVEPOINT.match(step.sql) else step.keyword
        store = step.gset if step.gset is not None else step.aset
        transaction = 1 if keyword in _BEGINS else -1 if keyword in _ENDS else 0
        return ("Statement", step, name, step.parameters, store, transaction, keyword in _COMMITS)

    def run(self, variables: Variables, *, roll_back: bool = False) -> Outcome:
        """Run the script once; variables are read and set in place. `roll_back`: send ROLLBACK in place of COMMIT.

        OK: every statement succeeded. FAIL: the server refused one, or the script itself rolled back.
        UNKNOWN: the connection was lost when a commit may already have happened.
        Raises ScenarioProblem when the script itself is at fault (an unset variable, \\gset without a row).
        """
        self.sqlstate = ""
        exec_prepared = self.pgconn.exec_prepared
        code = self._code
        at = 0
        open_transaction = False
        committed = False
        rolled_back = False
        try:
            while at < len(code):
                instruction = code[at]
                at += 1
                kind = instruction[0]
                if kind == "Statement":
                    _, step, name, parameters, store, transaction, is_commit = instruction
                    if roll_back and is_commit and open_transaction:
                        self.rollback()
                        open_transaction, rolled_back = False, True
                        continue
                    result = exec_prepared(name, [variables[p] for p in parameters])  # type: ignore[misc]  # None is NULL
                    if result.status not in _OK:
                        return self._failed(result, open_transaction, committed, is_commit)
                    if is_commit:
                        if result.command_status == b"ROLLBACK":  # an aborted transaction "commits" so
                            self.sqlstate = "25P02"
                            return Outcome.FAIL
                        committed = True
                        rolled_back = rolled_back and not open_transaction
                    elif transaction < 0:
                        rolled_back = True
                    elif not open_transaction and not transaction:
                        committed = True
                    if transaction:
                        open_transaction = transaction > 0
                    if store is not None:
                        self._store(step, result, store, variables)
                elif kind == "Sleep":
                    self._sleep(instruction[1], variables)
                elif kind == "Assign":
                    step = instruction[1]
                    variables[step.name] = expression.render(expression.evaluate(step.tree, variables, self.random))
                elif kind == "Branch":
                    step = instruction[1]
                    if not expression.evaluate(step.tree, variables, self.random):
                        at = step.otherwise
                else:
                    at = instruction[1].to
        except KeyError as missing:
            raise self._problem(code[at - 1][1], f"variable :{missing.args[0]} is not set") from None
        except expression.ExpressionError as problem:
            raise self._problem(code[at - 1][1], str(problem)) from None
        if self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            raise self._problem(self.script.steps[-1], "the script ends inside a transaction; end it with COMMIT;")
        return Outcome.FAIL if rolled_back else Outcome.OK

    def rollback(self) -> None:
        """End a failed transaction, so that the next try starts clean."""
        if self.alive and self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            self.pgconn.exec_(b"ROLLBACK")

    def _failed(self, result: pq.abc.PGresult, open_transaction: bool, committed: bool, is_commit: bool) -> Outcome:
        sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
        self.sqlstate = sqlstate.decode() if sqlstate else CONNECTION_LOST
        self.message = one_line(message.decode(errors="replace") if message else self.pgconn.get_error_message())
        if self.alive:
            return Outcome.FAIL
        # The connection is gone. Inside a transaction whose COMMIT was never sent, nothing can have happened.
        return Outcome.FAIL if open_transaction and not is_commit and not committed else Outcome.UNKNOWN

    def _store(self, step: Statement, result: pq.abc.PGresult, prefix: str, variables: Variables) -> None:
        rows = result.ntuples
        if step.gset is not None and rows != 1:
            raise self._problem(step, f"\\gset needs exactly one row, the statement returned {rows}")
        if rows:
            for column in range(result.nfields):
                name = result.fname(column)
                variables[prefix + (name or b"").decode()] = result.get_value(rows - 1, column)

    def _sleep(self, step: Sleep, variables: Variables) -> None:
        amount: Any = step.amount
        if isinstance(amount, str):
            amount = expression.evaluate(("var", amount), variables, self.random) or 0
        if amount > 0:
            time.sleep(amount * step.unit_us / 1e6)

    def _problem(self, step: Any, message: str) -> ScenarioProblem:
        return ScenarioProblem(f"{self.script.path}:{step.line}: {message}")


class Query:
    """One query of a script, run again and again with other parameters; prepared, unless some errors are tolerated.

    A statement that cannot be prepared yet (its column is still to be added) cannot be prepared at all.
    """

    def __init__(
        self, connection: psycopg.Connection[tuple[Any, ...]], script: Script, tolerate: frozenset[str] = frozenset()
    ) -> None:
        self._pgconn = connection.pgconn
        self._step = script.statements[0]
        self._path = script.path
        self._tolerate = tolerate
        self._session = None if tolerate else Session(connection, script)

    def run(self, parameters: Sequence[bytes]) -> pq.abc.PGresult | None:
        """Return the rows, None for a tolerated error; raises ScenarioProblem or DatabaseProblem for another."""
        if self._session is None:
            result = self._pgconn.exec_params(self._step.sql.encode(), list(parameters))
        else:
            result = self._pgconn.exec_prepared(b"racebench_0", list(parameters))
        if result.status in _OK:
            return result
        sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        if sqlstate in self._tolerate:
            return None
        message = one_line((result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
        raise DatabaseProblem(f"{self._path}:{self._step.line}: {message or self._pgconn.get_error_message()}")
