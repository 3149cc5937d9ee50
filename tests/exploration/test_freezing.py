"""Sessions that one step releases go on in every order, and the victim of a deadlock does not depend on the clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from made_scenario import made
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import explorer, victims
from racebench.exploration.explorer import explore
from racebench.exploration.freezing import Freezer
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.exploration.steps import GOES_ON
from racebench.exploration.world import ServerWorld
from racebench.postgres.connection import connect
from tests.waiting import wait_for

SCHEMA = "CREATE TABLE taken (tenant int PRIMARY KEY, owner int NOT NULL);"
OWNED = "SELECT 1 FROM taken WHERE owner = 3"
#: The first session rolls back and releases the two others. The third writes only if the second queued before it.
OVERTAKEN = """
\\if :client_id = 0
BEGIN;
INSERT INTO taken VALUES (:tenant, 1) ON CONFLICT DO NOTHING;
ROLLBACK;
\\elif :client_id = 1
BEGIN;
INSERT INTO taken SELECT :tenant, 2 FROM pg_advisory_xact_lock(9) ON CONFLICT DO NOTHING;
COMMIT;
\\else
BEGIN;
SELECT {free} AS free \\gset
INSERT INTO taken SELECT :tenant, 3 WHERE NOT :free ON CONFLICT DO NOTHING;
COMMIT;
\\endif
"""


def explored(target: Target, folder: Path, script: str, **request: object) -> Exploration:
    scenario = made(folder, script=script, schema=SCHEMA, invariant=OWNED, explore="SELECT 1;")
    return explore(target, ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"], **request))  # type: ignore[arg-type]


def test_of_two_released_sessions_each_goes_on_first_in_some_schedule(embedded: Target, tmp_path: Path) -> None:
    """The server wakes them in the order of its queue; that the third overtakes the second is rare under load."""
    script = OVERTAKEN.format(free="pg_try_advisory_xact_lock(9)")
    result = explored(embedded, tmp_path, script, sessions=3)
    assert (result.verdict, result.complete, result.raced) == (Verdict.INVALID, True, 0)
    assert result.witness is not None
    assert [step.session for step in result.witness.steps if step.sent == GOES_ON] == ["s3"]
    assert result.witness.anomalies == {"violations": 1}


def test_released_sessions_whose_order_does_not_matter_are_innocent(embedded: Target, tmp_path: Path) -> None:
    """The third session cannot own the row, in whichever order the two go on."""
    script = OVERTAKEN.format(free="true")
    result = explored(embedded, tmp_path, script, sessions=3)
    assert (result.verdict, result.complete) == (Verdict.VALID, True)


def test_where_backends_cannot_be_stopped_a_race_for_a_released_lock_is_noticed(
    embedded: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the two sessions one waits again, now for the other; without repeating such a schedule nothing is proved."""
    script = OVERTAKEN.format(free="pg_try_advisory_xact_lock(9)")
    monkeypatch.setattr(explorer, "MOST_REPEATED", 1)
    result = explored(replace(embedded, server_pid=None), tmp_path, script, sessions=3)
    assert result.raced > 1
    assert result.verdict is not Verdict.VALID


DEADLOCK = """
\\if :client_id = 0
\\set one 1
\\set two 2
\\else
\\set one 2
\\set two 1
\\endif
BEGIN;
UPDATE taken SET owner = owner WHERE tenant = :one;
UPDATE taken SET owner = owner WHERE tenant = :two;
COMMIT;
"""


#: Within it the deadlock must be seen, however busy the machine is, or the second session aborts itself.
DEADLOCK_MS = 200
WAITED = f"""
SELECT bool_or(clock_timestamp() - waitstart > interval '{DEADLOCK_MS + 50} ms') FROM pg_locks WHERE NOT granted
"""


@pytest.mark.parametrize("victim", [1, 2])
def test_the_victim_of_a_deadlock_does_not_depend_on_how_long_a_session_waits(
    embedded: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: int
) -> None:
    """The first session has waited for longer than its deadlock_timeout when the second comes to wait for it."""
    monkeypatch.setattr(victims, "_DEADLOCK_MS", DEADLOCK_MS)
    schema = SCHEMA + "INSERT INTO taken VALUES (1, 1), (2, 1);"
    scenario = made(tmp_path, script=DEADLOCK, schema=schema, invariant=OWNED, explore="SELECT 1;")
    results: list[ScheduleResult] = []
    request = ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"], reduce=False)
    with ServerWorld(embedded, request, results.append) as world:
        world.order_victims(victim)
        world.begin()
        for session in (1, 1, 2, 2, 1):
            world.watch(session)
        with connect(embedded) as monitor:
            wait_for(lambda: monitor.execute(WAITED).fetchone() == (True,), "no session waits")
        world.watch(2)
        while choices := world.choices():
            world.watch(choices[0].number)
        world.end((), complete=True)
    assert [result.victims for result in results] == [(victim,)]


# The backends


@pytest.fixture
def backend(embedded: Target) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with connect(embedded) as connection:
        yield connection


def state(pid: int) -> str:
    """The state of a process, as Linux has it: T for stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def stopped(pid: int) -> bool:
    return state(pid) == "T"


def test_a_stopped_backend_is_continued_when_the_freezer_is_closed(
    embedded: Target, backend: psycopg.Connection[tuple[object, ...]]
) -> None:
    assert embedded.server_pid is not None
    freezer, pid = Freezer(embedded.server_pid), backend.info.backend_pid
    freezer.freeze(pid)
    wait_for(lambda: stopped(pid), "the backend was not stopped")
    freezer.close()
    wait_for(lambda: not stopped(pid), "the backend was not continued")
    assert backend.execute("SELECT 1").fetchone() == (1,)


def test_a_backend_does_not_stay_stopped_without_a_sign_of_life(
    embedded: Target, backend: psycopg.Connection[tuple[object, ...]]
) -> None:
    assert embedded.server_pid is not None
    freezer, pid = Freezer(embedded.server_pid), backend.info.backend_pid
    try:
        freezer.freeze(pid)
        wait_for(lambda: not freezer.is_frozen(pid) and not stopped(pid), "the backend was not continued")
    finally:
        freezer.close()


def test_only_a_child_of_the_server_is_stopped(embedded: Target) -> None:
    assert embedded.server_pid is not None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        freezer = Freezer(embedded.server_pid)
        freezer.freeze(process.pid)
        assert not freezer.is_frozen(process.pid)
        assert not stopped(process.pid)
        freezer.close()
        process.communicate(b"\n")


KILLED = """
import os, signal, sys
from racebench.exploration.freezing import Freezer
from racebench.postgres.connection import connect
from racebench.postgres.embedded import EmbeddedServer
with EmbeddedServer(connections=5) as target:
    connection = connect(target)
    Freezer(target.server_pid).freeze(connection.info.backend_pid)
    print(target.server_pid, connection.info.backend_pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_stopped_backend_does_not_survive_a_killed_command(cache_folder: Path) -> None:
    environment = {**os.environ, "RACEBENCH_CACHE_DIR": str(cache_folder)}
    process = subprocess.run(
        [sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    pids = [int(word) for word in process.stdout.split()]
    assert len(pids) == 2
    wait_for(lambda: not any(map(alive, pids)), "the server of a killed command was still there")


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that no parent has noticed does not."""
    try:
        return state(pid) != "Z"
    except FileNotFoundError:
        return False
