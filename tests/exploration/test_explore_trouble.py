"""Trouble under an exploration: one line that names the step, the right exit code, nothing left on the server."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from conftest import Command, Start, UsersServer
from made_scenario import write
from waiting import finish, wait_for

SCHEMA = "CREATE TABLE bad (tenant int); CREATE TABLE log (tenant int);"
PLAIN = """
[strategies.plain]
summary = "nothing special"
script = "plain.sql"
"""
Explore = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def trouble(racebench: Command, users_server: UsersServer, tmp_path: Path) -> Iterator[Explore]:
    """Explore a script on the user's server; afterwards nothing of it may be left there."""

    def run(text: str, *arguments: str, dsn: str | None = None) -> tuple[int, str, str]:
        folder = tmp_path / "scenario"
        folder.mkdir(exist_ok=True)
        write(folder, script=text, schema=SCHEMA, more=PLAIN)
        (folder / "plain.sql").write_text("INSERT INTO log VALUES (:tenant);")
        done = racebench("explore", str(folder), *arguments, "--dsn", dsn or users_server.dsn())
        return done.returncode, done.stdout, done.stderr

    yield run
    nothing_is_left(users_server)


def nothing_is_left(server: UsersServer) -> None:
    assert server.schemas() == []
    wait_for(lambda: server.sessions() == 0, "sessions are left")
    with server.connect() as connection:
        held = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert held == (0,)


def one_line(said: str, *parts: str) -> None:
    assert said.count("\n") == 1, said
    assert said.startswith("racebench: ")
    for part in parts:
        assert part in said


def saved(tmp_path: Path) -> list[dict[str, object]]:
    """What the explorations say that were saved before it went wrong."""
    (path,) = (tmp_path / "results").glob("*.json")
    document = json.loads(path.read_text())
    assert not document["complete"]
    found: list[dict[str, object]] = document["explorations"]
    return found


def test_a_step_that_never_answers_is_named_after_its_limit(trouble: Explore, tmp_path: Path) -> None:
    code, _, said = trouble("SELECT pg_sleep(1000);", "-s", "plain", "-s", "it", "--step-timeout", "0.7")
    assert code == 6
    one_line(said, "s1: 'SELECT pg_sleep(1000)' did not end in 0.7 s: no answer; --step-timeout allows more")
    assert [(each["strategy"], each["verdict"]) for each in saved(tmp_path)] == [("plain", "VALID")]


def test_a_slow_step_within_its_limit_is_waited_for(trouble: Explore) -> None:
    code, said, _ = trouble("SELECT pg_sleep(0.15);", "-s", "it", "--step-timeout", "30", "--no-save")
    assert code == 0
    assert "it is VALID" in " ".join(said.split())


@contextlib.contextmanager
def without_blocking_pids(server: UsersServer) -> Iterator[str]:
    """A user who may not ask pg_blocking_pids; yields the dsn."""
    password = secrets.token_hex(8)
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE poor LOGIN PASSWORD '{password}'")  # type: ignore[call-overload]
        connection.execute("GRANT CREATE ON DATABASE postgres TO poor")
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_blocking_pids(integer) FROM PUBLIC")
        try:
            yield server.dsn(user="poor", password=password)
        finally:
            connection.execute("GRANT EXECUTE ON FUNCTION pg_blocking_pids(integer) TO PUBLIC")
            connection.execute("DROP OWNED BY poor")
            connection.execute("DROP ROLE poor")


def test_a_server_that_may_not_be_asked_who_waits_is_refused_at_once(
    trouble: Explore, users_server: UsersServer
) -> None:
    with without_blocking_pids(users_server) as dsn:
        code, _, said = trouble("SELECT 1;", "-s", "plain", "--no-save", dsn=dsn)
        assert code == 6
        one_line(said, "permission denied for function pg_blocking_pids", "GRANT EXECUTE ON FUNCTION pg_blocking_pids")
        assert users_server.schemas() == []


def test_a_user_without_rights_explores_all_the_same(trouble: Explore, users_server: UsersServer) -> None:
    password = secrets.token_hex(8)
    with users_server.connect() as connection:
        connection.execute(f"CREATE ROLE plain LOGIN PASSWORD '{password}'")  # type: ignore[call-overload]
        connection.execute("GRANT CREATE ON DATABASE postgres TO plain")
        try:
            dsn = users_server.dsn(user="plain", password=password)
            assert trouble("SELECT 1;", "-s", "plain", "--no-save", dsn=dsn)[0] == 0
        finally:
            connection.execute("DROP OWNED BY plain")
            connection.execute("DROP ROLE plain")


def test_a_step_that_ends_its_connection_is_named(trouble: Explore, tmp_path: Path) -> None:
    code, _, said = trouble(
        "BEGIN;\nSELECT pg_terminate_backend(pg_backend_pid());\nCOMMIT;", "-s", "plain", "-s", "it"
    )
    assert code == 6
    one_line(
        said,
        "s1 lost its connection at 'SELECT pg_terminate_backend(pg_backend_pid())': terminating connection",
        "(57P01); it was tried 5 times",
    )
    assert [each["strategy"] for each in saved(tmp_path)] == ["plain"]


def test_a_strangers_lock_is_said_to_be_one(trouble: Explore, users_server: UsersServer) -> None:
    with users_server.connect() as stranger:
        stranger.execute("SELECT pg_advisory_lock(4242)")
        code, _, said = trouble("SELECT pg_advisory_xact_lock(4242);", "-s", "it", "--step-timeout", "0.7", "--no-save")
        pid = stranger.info.backend_pid
        stranger.execute("SELECT pg_advisory_unlock(4242)")
    assert code == 6
    one_line(
        said,
        "s1: 'SELECT pg_advisory_xact_lock(4242)' did not end in 0.7 s: ",
        f"it waits for session {pid}, which is not of this exploration",
    )


def test_a_table_that_somebody_else_has_locked_is_said_to_be(trouble: Explore, users_server: UsersServer) -> None:
    """A statement on it cannot be prepared."""
    with users_server.connect() as stranger:
        stranger.execute("CREATE TABLE public.shared (v int)")
        try:
            with stranger.transaction():
                stranger.execute("LOCK TABLE public.shared IN ACCESS EXCLUSIVE MODE")
                code, _, said = trouble(
                    "INSERT INTO public.shared VALUES (1);", "-s", "it", "--step-timeout", "0.7", "--no-save"
                )
            assert code == 6
            one_line(said, "it.sql:1: 'INSERT INTO public.shared VALUES (1)'", "another session has locked")
            assert stranger.execute("SELECT count(*) FROM public.shared").fetchone() == (0,)
        finally:
            stranger.execute("DROP TABLE public.shared")


FICKLE = """
SELECT extract(microseconds FROM clock_timestamp())::bigint % 2 AS x \\gset
\\if :x = 1
INSERT INTO log VALUES (1);
\\else
INSERT INTO log VALUES (2);
INSERT INTO log VALUES (3);
\\endif
INSERT INTO log VALUES (4);
INSERT INTO log VALUES (5);
"""


def test_a_script_that_is_not_deterministic_is_said_to_be(trouble: Explore) -> None:
    code, _, said = trouble(FICKLE, "-s", "it", "--no-save", "--no-reduction")
    assert code == 2
    one_line(
        said, "the same schedule took another course at step ", "s", "was to send '", "the first time", "this time"
    )


@pytest.mark.parametrize(
    ("strategy", "verdicts"),
    # Not every schedule may be run within the budget. The second one of naive is wrong.
    [("advisory", ("VALID", "UNKNOWN")), ("naive", ("INVALID",))],
    ids=["innocent", "guilty"],
)
def test_backends_that_are_killed_from_outside_do_not_change_the_verdict(
    start: Start, users_server: UsersServer, tmp_path: Path, strategy: str, verdicts: tuple[str, ...]
) -> None:
    process = start(
        *("explore", "-s", strategy, "--consumer", "none", "--sessions", "3", "--no-reduction", "--budget", "4"),
        *("--dsn", users_server.dsn()),
    )
    ours = "FROM pg_stat_activity WHERE application_name LIKE 'racebench%'"
    inserted = "SELECT count(*) FROM pg_stat_user_tables WHERE schemaname LIKE 'racebench%' AND n_tup_ins > 50"
    with users_server.connect() as connection:
        wait_for(lambda: connection.execute(inserted).fetchone() != (0,), "the exploration never began")
        connection.execute(f"SELECT pg_terminate_backend(pid) {ours}")  # type: ignore[call-overload]
    _, said = finish(process)
    assert (process.returncode, said) == (0, "")
    (path,) = (tmp_path / "results").glob("*.json")
    (found,) = json.loads(path.read_text())["explorations"]
    assert found["verdict"] in verdicts
    assert found["explored"]["fault"] is None
    assert any("stopped by a fault and run again" in note for note in found["notes"])
    nothing_is_left(users_server)


def test_a_consumer_whose_server_is_not_set_up_for_it_is_refused_in_the_words_of_run(
    racebench: Command, users_server: UsersServer
) -> None:
    asked = ("-s", "sequence", "--consumer", "commit-timestamp", "--no-save", "--dsn", users_server.dsn())
    explored, ran = racebench("explore", *asked), racebench("run", *asked, "--operations", "10")
    assert explored.returncode == ran.returncode == 6
    one_line(explored.stderr, "'commit-timestamp' needs track_commit_timestamp = on, the server has 'off'")
    assert explored.stderr == ran.stderr
    assert users_server.schemas() == []


# Replaying


def naive(racebench: Command, *arguments: str) -> str:
    """A schedule of naive with more switches of session than its race needs."""
    done = racebench("explore", "-s", "naive", "--no-save", "--json", "-", *arguments)
    text: str = json.loads(done.stdout)["explorations"][0]["witness"]["schedule"]
    return text.rpartition(":")[0] + ":"


@pytest.mark.server
def test_a_replay_fails_as_it_was_asked_to(racebench: Command) -> None:
    head = naive(racebench)
    racy, right = head + "s1.s2.s1.s2.s1.s2.s1.s2", head + "s1.s1.s1.s1.s2.s2.s2.s2"
    assert racebench("replay", racy).returncode == 0
    assert racebench("replay", racy, "--fail-on", "duplicates").returncode == 3
    assert racebench("replay", racy, "--fail-on", "missed").returncode == 0
    assert racebench("replay", racy, "--expect", "race").returncode == 0
    assert racebench("replay", right, "--fail-on", "any").returncode == 0
    assert racebench("replay", right, "--expect", "race").returncode == 3


@pytest.mark.server
def test_a_schedule_is_shortened_to_one_that_shows_the_same(racebench: Command) -> None:
    head = naive(racebench)
    done = racebench("replay", head + "s1.s2.s1.s2.s1.s2.s1.s2", "--minimize", "--expect", "race")
    assert done.returncode == 0, done.stderr
    assert "1 duplicate" in done.stdout
    schedule = done.stdout[done.stdout.index("v1:") : done.stdout.rindex("'")]
    steps = schedule.rpartition(":")[2].split(".")
    assert sum(one != other for one, other in pairwise(steps)) == 2
    assert racebench("replay", schedule, "--expect", "race").returncode == 0
    refused = racebench("replay", head + "s1.s1.s1.s1.s2.s2.s2.s2", "--minimize")
    assert refused.returncode == 2
    one_line(refused.stderr, "the schedule shows no anomaly, so there is nothing to minimize")


@pytest.mark.server
def test_a_schedule_that_the_server_does_not_follow_fails_loudly(racebench: Command) -> None:
    head = naive(racebench).replace("naive", "advisory").partition("[")[0]
    done = racebench("replay", head + ":s1.s1.s2.s2.s2.s1.s1.s1.s2.s2")
    assert done.returncode == 2
    one_line(done.stderr, "at step 5 s2 cannot go on, s1 can", "explore again")
