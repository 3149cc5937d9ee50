"""The programs of the fuzzer, as frozen values: a setup, the code of each session, and invariants.

Values in statements are integers; `{x}` in a statement stands for what an earlier statement saved as `x`. generator.py
draws programs, interpreter.py says what a session does, subjects.py makes them racebench's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb


@dataclass(frozen=True, slots=True, kw_only=True)
class Sql:
    """One statement. `save`: the variable that takes its single value. `plain`: it only reads tables."""

    text: str
    save: str = ""
    plain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """`executemany`: one statement with a `%s`, sent for each of the values. Only in calls."""

    text: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Several statements in one string. Only in calls."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """Steps that depend on whether a saved variable is greater than a number."""

    variable: str
    threshold: int
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Savepoint:
    """Steps inside a savepoint, which is released, or (`undo`) rolled back to.

    `guard`: an error of the steps is rolled back to the savepoint and goes no further. Only in calls.
    """

    steps: tuple[Step, ...]
    undo: bool = False
    guard: bool = False


Step = Sql | Many | Batch | Branch | Savepoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A transaction, or statements that commit by themselves (`transaction` is False). `level`: "" for the default."""

    steps: tuple[Step, ...]
    transaction: bool = True
    level: str = ""
    commit: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What a session does. `tries`: more than one if it begins again after a refusal.

    `implicit`: of calls: psycopg begins the transactions, not the code. `unlock`: it releases the session's advisory
    locks at its end, whatever happened.
    """

    units: tuple[Unit, ...]
    tries: int = 1
    implicit: bool = False
    unlock: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program. `codes`: the distinct codes; `sessions`: the code of each session, by its place.

    `script`: it is run as a pgbench script, else as Python callables. `setup`: statements, in order.
    `invariants`: queries that return no row if they hold.
    """

    name: str
    script: bool
    setup: tuple[str, ...]
    codes: tuple[Code, ...]
    sessions: tuple[int, ...]
    invariants: tuple[str, ...]

    @property
    def serializable(self) -> bool:
        """Whether each session is one SERIALIZABLE transaction."""
        return all(
            len(code.units) == 1 and code.units[0].transaction and code.units[0].level == "SERIALIZABLE"
            for code in self.codes
        )


#: The statements that are also sent outside a transaction.
OUTSIDE = ("SELECT", "INSERT", "UPDATE", "DELETE")
#: The SQLSTATEs after which a session with several tries begins again.
RETRIED = frozenset({"40001", "40P01", "23505"})


def schedules(program: Program, *, joined: bool) -> int:
    """The number of orders of the sessions' statements if none waits or is refused; `joined`: BEGIN is no step."""
    counts = [_of_code(program.codes[place], joined=joined) for place in program.sessions]
    orders = 1
    for place in range(1, len(counts)):
        orders *= comb(sum(counts[: place + 1]), counts[place])
    return orders


def _of_code(code: Code, *, joined: bool) -> int:
    begin = not (joined or code.implicit)
    count = int(code.unlock) * (3 - joined)
    for unit in code.units:
        if unit.transaction:
            count += begin + sum(map(_of_step, unit.steps)) + 1
        else:
            plain = sum(isinstance(step, Sql) and step.plain for step in unit.steps)
            count += plain + (2 + begin) * (len(unit.steps) - plain)
    return count


def _of_step(step: Step) -> int:
    if isinstance(step, Branch):
        return max(sum(map(_of_step, step.then)), sum(map(_of_step, step.otherwise)))
    if isinstance(step, Savepoint):
        return sum(map(_of_step, step.steps)) + 2
    return len(step.values) if isinstance(step, Many) else len(step.texts) if isinstance(step, Batch) else 1
