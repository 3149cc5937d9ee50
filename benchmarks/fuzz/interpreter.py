"""What a session of a program does, as a generator of actions: the explorer and the brute force drive the same one.

An action is sent to the server by its driver, which answers with the rows, or throws the server's refusal in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq

from benchmarks.fuzz.program import RETRIED, Batch, Branch, Code, Many, Savepoint, Sql, Step, Unit

Rows = Sequence[tuple[Any, ...]]
_UNLOCK = "SELECT pg_advisory_unlock_all()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """`begin` with a level, `commit`, `rollback`, `send` with texts, `many` with one text and values.

    `alone`: it is outside a transaction, and commits by itself. `plain`: it only reads tables.
    """

    kind: str
    texts: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    alone: bool = False
    plain: bool = False


Actions = Generator[Action, Rows, Any]


def actions(code: Code) -> Generator[Action, Rows, int]:
    """The actions of a session; returns the number of tries. Raises the server's last refusal."""
    for attempt in range(1, code.tries + 1):
        variables: dict[str, int] = {}
        try:
            for unit in code.units:
                yield from _unit(unit, variables)
        except psycopg.Error as refusal:
            yield Action(kind="rollback")
            if code.unlock:
                yield Action(kind="send", texts=(_UNLOCK,), alone=True)
            if attempt == code.tries or refusal.sqlstate not in RETRIED:
                raise
        else:
            if code.unlock:
                yield Action(kind="send", texts=(_UNLOCK,), alone=True)
            return attempt
    return code.tries


def _unit(unit: Unit, variables: dict[str, int]) -> Actions:
    if unit.transaction:
        yield Action(kind="begin", texts=(unit.level,))
    for step in unit.steps:
        yield from _step(step, variables, alone=not unit.transaction)
    if unit.transaction:
        yield Action(kind="commit" if unit.commit else "rollback")


def _step(step: Step, variables: dict[str, int], *, alone: bool) -> Actions:
    if isinstance(step, Sql):
        text = filled(step.text, variables)
        rows = yield Action(kind="send", texts=(text,), alone=alone, plain=step.plain)
        if step.save:
            variables[step.save] = int(rows[0][0] or 0) if rows else 0
    elif isinstance(step, Many):
        yield Action(kind="many", texts=(step.text,), values=step.values, alone=alone)
    elif isinstance(step, Batch):
        yield Action(kind="send", texts=tuple(filled(text, variables) for text in step.texts), alone=alone)
    elif isinstance(step, Branch):
        chosen = step.then if variables.get(step.variable, 0) > step.threshold else step.otherwise
        for inner in chosen:
            yield from _step(inner, variables, alone=alone)
    else:
        yield from _savepoint(step, variables)


def _savepoint(step: Savepoint, variables: dict[str, int]) -> Actions:
    yield Action(kind="send", texts=("SAVEPOINT s",))
    try:
        for inner in step.steps:
            yield from _step(inner, variables, alone=False)
    except psycopg.Error:
        if not step.guard:
            raise
        yield Action(kind="send", texts=("ROLLBACK TO s",))
    else:
        yield Action(kind="send", texts=("ROLLBACK TO s" if step.undo else "RELEASE s",))


def filled(text: str, variables: dict[str, int]) -> str:
    """A statement with the values of its variables; 0 for one that is not set."""
    parts = text.split("{")
    return parts[0] + "".join(
        str(variables.get(part.partition("}")[0], 0)) + part.partition("}")[2] for part in parts[1:]
    )


def call(connection: psycopg.Connection[Any], code: Code, log: list[Any]) -> list[Any]:
    """Run a session's code over a connection of psycopg's, as an application does; see `run`."""
    connection.autocommit = not code.implicit
    return run(lambda action: _perform(connection, code, action), code, log)


def run(perform: Callable[[Action], list[Rows]], code: Code, log: list[Any]) -> list[Any]:
    """Run a session's code; `log` takes what it was answered.

    `perform` carries out an action, and returns the rows of each statement that was sent. Returns what the session was
    answered in its last try.
    """
    steps = actions(code)
    begun, refused = 0, False
    try:
        action = next(steps)
        while True:
            begun = len(log) if refused and action.kind == "rollback" else begun
            refused = False
            try:
                answers = perform(action)
            except psycopg.Error as refusal:
                log.append(refusal.sqlstate)
                refused = True
                action = steps.throw(refusal)
            else:
                log += filter(None, answers)
                action = steps.send(answers[0] if len(answers) == 1 else [])
    except StopIteration:
        return log[begun:]


def _perform(connection: psycopg.Connection[Any], code: Code, action: Action) -> list[Rows]:
    """Have psycopg do what an action says; returns the rows of each statement that was sent."""
    if action.kind == "begin":
        level = action.texts[0]
        if code.implicit:
            connection.isolation_level = psycopg.IsolationLevel[level.upper().replace(" ", "_")] if level else None
        else:
            connection.execute(f"BEGIN ISOLATION LEVEL {level}".encode() if level else b"BEGIN")
    elif action.kind in ("commit", "rollback"):
        if code.implicit:
            getattr(connection, action.kind)()
        elif connection.info.transaction_status != pq.TransactionStatus.IDLE:
            connection.execute(action.kind.encode())
    elif action.kind == "many":
        with connection.cursor() as cursor:
            cursor.executemany(action.texts[0].encode(), [(value,) for value in action.values])
    else:
        answered = connection.execute("; ".join(action.texts).encode())
        answers = [_answer(answered)]
        while answered.nextset():
            answers.append(_answer(answered))
        return answers
    return []


def _answer(cursor: psycopg.Cursor[Any]) -> Rows:
    return [] if cursor.pgresult is None else rows_of(cursor.pgresult)


def rows_of(result: pq.abc.PGresult) -> list[tuple[str | None, ...]]:
    """The rows of a result as text."""
    columns = range(result.nfields)
    rows = ([result.get_value(row, column) for column in columns] for row in range(result.ntuples))
    return [tuple(None if value is None else value.decode() for value in row) for row in rows]
