"""The server aborts the same session of a deadlock in each repetition of a schedule, on a slow machine too."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from racebench.api import Bench, Exploration
from racebench.core.verdict import Verdict
from racebench.exploration import victims as victims_of_deadlocks
from racebench.exploration.independence import Footprint
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.scheduler import Scheduler, in_circles
from racebench.exploration.search import Progress, Unsteady, search
from racebench.exploration.sessions.session import Session, State
from racebench.exploration.tree import Choice
from racebench.exploration.world import ServerWorld
from waiting import wait_for

SCHEMA = "CREATE TABLE stock (item int PRIMARY KEY, left_over int); INSERT INTO stock VALUES (1, 5), (2, 5)"
WAITED = "SELECT coalesce(max(clock_timestamp() - waitstart) > '10ms', true) FROM pg_locks WHERE NOT granted"


def test_a_path_is_taken_again_after_a_step_that_did_not_do_what_the_world_wants() -> None:
    class Uncertain:
        """Two sessions of two steps. The first attempts at some steps fail."""

        def __init__(self) -> None:
            self.failures = Counter({(1, 2): 2, (1, 1, 2): 1, (2, 1): 1})
            self.ended: list[tuple[int, ...]] = []

        def begin(self) -> None:
            self.taken: list[int] = []

        def choices(self) -> list[Choice]:
            return [Choice(n, Footprint.ANYTHING) for n in (1, 2) if self.taken.count(n) < 2]

        def state(self) -> None:
            """Nothing is known of its states."""

        def take(self, session: int) -> None:
            self.taken.append(session)
            if self.failures[tuple(self.taken)]:
                self.failures[tuple(self.taken)] -= 1
                raise Unsteady

        def end(self, schedule: list[int], *, complete: bool) -> None:
            assert schedule[: len(self.taken)] == self.taken
            if complete:
                self.ended.append(tuple(schedule))

    uncertain = Uncertain()
    progress = search(uncertain, reduce=False, go_on=lambda _: True)
    assert progress == Progress(run=6, pruned=0, complete=True)
    assert len(set(uncertain.ended)) == len(uncertain.ended) == 6
    assert not uncertain.failures.total()


def test_only_sessions_that_wait_for_themselves_are_in_a_deadlock() -> None:
    assert in_circles({1: (2,), 2: (3,), 3: (2,), 4: (9,)}) == {2, 3}
    assert in_circles({1: (2,), 2: (3, 1)}) == {1, 2}
    assert in_circles({1: (2,), 2: ()}) == set()


def updating(*items: int) -> Callable[[psycopg.Connection[Any]], None]:
    def update(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            for item in items:
                connection.execute("UPDATE stock SET left_over = 1 WHERE item = %s", [item])

    return update


@pytest.mark.server
def test_a_machine_that_is_slower_than_the_search_for_deadlocks_changes_no_outcome(
    monkeypatch: pytest.MonkeyPatch, cache_folder: object
) -> None:
    """Each step comes after the waiting session has looked for a deadlock, which then does not exist yet."""
    victims: set[tuple[int, tuple[int, ...]]] = set()
    step, result = Scheduler.step, ServerWorld._result

    def late(scheduler: Scheduler, session: Session) -> None:
        if any(other.state is State.WAITING for other in scheduler.sessions):
            asking = scheduler._monitor
            wait_for(lambda: asking.execute(WAITED).fetchone() == (True,), "no session waits")
        step(scheduler, session)

    def noted(ending: ServerWorld) -> ScheduleResult:
        ended = result(ending)
        if ended.deadlocked:
            victims.add((ending._victims.first, ended.victims))
        return ended

    monkeypatch.setattr(victims_of_deadlocks, "_DEADLOCK_MS", 1)
    monkeypatch.setattr(Scheduler, "step", late)
    monkeypatch.setattr(ServerWorld, "_result", noted)
    with Bench() as bench:
        found = bench.explore(updating(1, 2), updating(2, 1), setup=SCHEMA, invariant=(), budget=math.inf)
    assert isinstance(found, Exploration)
    assert found.verdict is Verdict.INVALID
    assert found.complete
    assert victims == {(1, (1,)), (2, (2,))}


# What comes after a deadlock depends on its victim

NUMBERS = "CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a VALUES (1, 0), (2, 0), (3, 0); CREATE TABLE log ()"
LOST = "SELECT n FROM a WHERE id = 3 AND n <> 1 + (SELECT count(*) FROM log)"
ADD = "UPDATE a SET n = n + 1 WHERE id = %s"
LOGGED = "WITH logged AS (INSERT INTO log DEFAULT VALUES) "


def patient(connection: psycopg.Connection[Any]) -> None:
    while True:
        try:
            with connection.transaction():
                for item in (1, 2, 3):
                    connection.execute(ADD, [item])
            return
        except psycopg.errors.DeadlockDetected:
            continue


def hurried(connection: psycopg.Connection[Any], *, atomic: bool = False) -> None:
    """Adds to the third number only if it was the victim of a deadlock."""
    try:
        with connection.transaction():
            for item in (2, 1):
                connection.execute(ADD, [item])
    except psycopg.errors.DeadlockDetected:
        with connection.transaction():
            if atomic:
                connection.execute(LOGGED + ADD, [3])
            else:
                row = connection.execute("SELECT n + 1 FROM a WHERE id = 3").fetchone()
                connection.execute(LOGGED + "UPDATE a SET n = %s WHERE id = 3", row)


def careful(connection: psycopg.Connection[Any]) -> None:
    hurried(connection, atomic=True)


@pytest.mark.server
@pytest.mark.parametrize(
    ("calls", "verdict"),
    [
        ((patient, hurried), Verdict.INVALID),
        ((patient, careful), Verdict.VALID),
        ((hurried, patient), Verdict.INVALID),
        ((careful, patient), Verdict.VALID),
    ],
)
def test_all_that_comes_after_a_deadlock_is_explored_with_each_victim(
    cache_folder: object, calls: tuple[Callable[..., None], ...], verdict: Verdict
) -> None:
    """An update is lost only if one session is the victim, and the other goes on in between."""
    with Bench() as bench:
        found = bench.explore(*calls, setup=NUMBERS, invariant=LOST, budget=math.inf)
        assert isinstance(found, Exploration)
        assert (found.verdict, found.complete) == (verdict, True)
        if verdict is Verdict.INVALID:
            assert found.result.witness is not None
            assert found.result.witness.anomalies == {"violations": 1}


class FirstError(Exception):
    pass


class SecondError(Exception):
    pass


class ThirdError(Exception):
    pass


def in_a_circle(item: int, error: type[Exception]) -> Callable[[psycopg.Connection[Any]], None]:
    def update(connection: psycopg.Connection[Any]) -> None:
        try:
            with connection.transaction():
                connection.execute(ADD, [item])
                connection.execute(ADD, [item % 3 + 1])
        except psycopg.errors.DeadlockDetected:
            raise error from None

    return update


@pytest.mark.server
def test_each_of_three_sessions_is_the_victim_of_their_deadlock(cache_folder: object) -> None:
    calls = [in_a_circle(item, error) for item, error in enumerate((FirstError, SecondError, ThirdError), 1)]
    with Bench() as bench:
        # The victims of one deadlock are explored one after the other.
        found = bench.explore(*calls, setup=NUMBERS, invariant=(), budget=math.inf, max_schedules=150)
    assert isinstance(found, Exploration)
    errors = {session.sqlstate for outcome in found.result.outcomes for session in outcome.sessions}
    assert errors == {"", "FirstError", "SecondError", "ThirdError"}
