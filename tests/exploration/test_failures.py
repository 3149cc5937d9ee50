"""An exception is refused unless its call raises it, for the same reason, when the calls run one after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from racebench.api import Bench, Exploration
from racebench.core.errors import UsageProblem
from racebench.core.verdict import Verdict
from racebench.exploration.sessions.failures import expected, failure

Call = Callable[[psycopg.Connection[Any]], None]

SCHEMA = """
CREATE TABLE stock (item int PRIMARY KEY, n int NOT NULL CONSTRAINT enough CHECK (n >= -1));
INSERT INTO stock VALUES (1, 1);
CREATE TABLE buyers (name text UNIQUE, place int UNIQUE);
"""


class Refused(Exception):  # noqa: N818 - named as applications name theirs
    """An application's own."""


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def explored(bench: Bench, *calls: Call) -> Exploration:
    found = bench.explore(*calls, setup=SCHEMA, invariant=(), budget=math.inf)
    assert isinstance(found, Exploration)
    assert found.complete
    return found


def selling(sold_out: Callable[[], str], negative: Callable[[], str], lock: str = "") -> Call:
    def buy(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            (left,) = connection.execute(f"SELECT n FROM stock {lock}".encode()).fetchone() or (0,)
            if left == 0:
                raise ValueError(sold_out())
            (left,) = connection.execute("UPDATE stock SET n = n - 1 RETURNING n").fetchone() or (0,)
            if left < 0:
                raise ValueError(negative())

    return buy


@pytest.mark.server
def test_an_exception_with_another_message_than_without_a_race_is_refused(bench: Bench) -> None:
    found = explored(bench, selling(lambda: "sold out", lambda: "negative stock"))
    assert found.verdict is Verdict.INVALID
    assert found.counts["refused"]


@pytest.mark.server
def test_an_exception_with_other_values_than_without_a_race_is_not(bench: Bench) -> None:
    def said() -> str:
        return f"item 'no. {time.time_ns()}' (\"{time.time_ns()}\") is sold out at {time.time_ns():x}"

    assert explored(bench, selling(said, said)).verdict is Verdict.VALID
    assert explored(bench, selling(lambda: "sold out", lambda: "negative", lock="FOR UPDATE")).verdict is Verdict.VALID


def registering(taken: Callable[[Exception | None], None]) -> Call:
    def register(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            if connection.execute("SELECT 1 FROM buyers WHERE name = 'anna'").fetchone():
                taken(None)
            try:
                connection.execute("INSERT INTO buyers VALUES ('anna', 1)")
            except psycopg.Error as problem:
                taken(problem)

    return register


@pytest.mark.server
def test_a_constraint_may_tell_what_a_query_tells_without_a_race(bench: Bench) -> None:
    def taken(problem: Exception | None) -> None:
        raise Refused("the name is taken") from problem

    assert explored(bench, registering(taken)).verdict is Verdict.VALID


@pytest.mark.server
def test_an_exception_with_another_cause_than_without_a_race_is_refused(bench: Bench) -> None:
    def taken(problem: Exception | None) -> None:
        raise Refused("did not work") from problem or LookupError("the name is taken")

    found = explored(bench, registering(taken))
    assert found.verdict is Verdict.INVALID
    assert found.counts["refused"]


@pytest.mark.server
def test_an_error_of_another_constraint_than_without_a_race_is_refused(bench: Bench) -> None:
    def place(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            (place,) = connection.execute("SELECT count(*) FROM buyers").fetchone() or (0,)
            # Without a race the second buyer has the name of the first; in a race, the place.
            name = "anna" if place else f"buyer {connection.info.backend_pid}"
            if place:
                connection.execute("INSERT INTO buyers VALUES ('anna', 7)")
            connection.execute("INSERT INTO buyers VALUES (%s, %s)", [name, place])

    found = explored(bench, place)
    assert found.verdict is Verdict.INVALID
    assert found.counts["refused"]


@pytest.mark.server
def test_an_exception_that_only_another_call_raises_without_a_race_is_refused(bench: Bench) -> None:
    def complains(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            (left,) = connection.execute("SELECT n FROM stock").fetchone() or (0,)
            if left == 0:
                raise ValueError("sold out")

    def buys(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            (before,) = connection.execute("SELECT n FROM stock").fetchone() or (0,)
            (after,) = connection.execute("UPDATE stock SET n = n - 1 RETURNING n").fetchone() or (0,)
            if after != before - 1:
                raise ValueError("sold out")

    assert explored(bench, buys, complains).verdict is Verdict.VALID
    found = explored(bench, buys, complains, buys)
    assert found.verdict is Verdict.INVALID
    assert found.counts["refused"]


def putting(number: int) -> Call:
    def put(connection: psycopg.Connection[Any]) -> None:
        connection.execute("UPDATE stock SET n = %s", [number])
        connection.commit()

    return put


@pytest.mark.server
def test_functions_of_one_name_are_not_taken_for_alike(bench: Bench) -> None:
    """The last one's number stays, in whichever order they run."""
    last = "SELECT n FROM stock WHERE n = 3"
    for numbers in ((3, 4), (4, 3)):
        with pytest.raises(UsageProblem, match="one after the other"):
            bench.explore(*map(putting, numbers), setup=SCHEMA, invariant=last)
    found = bench.explore(putting(5), putting(4), setup=SCHEMA, invariant=last)
    assert isinstance(found, Exploration)
    assert found.verdict is Verdict.VALID


def test_which_failures_are_the_same() -> None:
    def raised(error: Exception, cause: BaseException | None = None) -> Exception:
        error.__cause__ = cause
        return error

    unique, deadlock = psycopg.errors.UniqueViolation("x"), psycopg.errors.DeadlockDetected("y")
    alone = {failure(raised(Refused("it's 'a' (5)"))), failure(raised(Refused("b"), KeyError("c")))}
    assert expected(failure(raised(Refused("it's 'zz' (77)"))), alone)
    assert not expected(failure(raised(ValueError("it's 'a' (5)"))), alone)
    assert expected(failure(raised(Refused("b"), KeyError("d"))), alone)
    assert not expected(failure(raised(Refused("b"), ValueError("c"))), alone)
    assert not expected(failure(raised(Refused("b"), unique)), alone)
    assert expected(failure(raised(Refused("it's 'a' (5)"), unique)), alone)
    assert not expected(failure(raised(Refused("it's 'a' (5)"), deadlock)), alone)
    assert not expected(failure(raised(Refused("it's 'a' (5)"), raised(unique, deadlock))), alone)
