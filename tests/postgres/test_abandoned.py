"""What a killed command leaves on a user's server: named with its age, and dropped only when asked and not in use."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from conftest import Command, Start, UsersServer, assert_one_line
from racebench.core import temporary
from racebench.core.temporary import delete_abandoned
from racebench.history.spill import Scratch
from racebench.load import run_files
from racebench.postgres import abandoned
from racebench.postgres.abandoned import Abandoned
from racebench.postgres.connection import connect
from racebench.postgres.external import external
from racebench.postgres.schemas import application_name, empty_schema, new_name
from waiting import wait_for


@pytest.fixture(autouse=True)
def _temporary_files(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    """Folders of other commands that were killed on this machine are not seen, and none is left on it."""
    monkeypatch.setenv("TMPDIR", str(short_path))


@pytest.fixture
def admin(users_server: UsersServer) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with users_server.connect() as connection:
        yield connection
        for item in abandoned.find(connection):
            abandoned.drop(connection, item)


def test_a_killed_command_is_named_by_the_next_one_and_dropped_when_asked(
    start: Start,
    racebench: Command,
    users_server: UsersServer,
    admin: psycopg.Connection[tuple[object, ...]],
) -> None:
    dsn = users_server.dsn()
    process = start("run", "-s", "sequence", "-w", "2", "-d", "600", "--hold", "5", "--no-save", "--dsn", dsn)
    wait_for(lambda: users_server.sessions() >= 4, "the run does not begin")
    (name,) = users_server.schemas()
    while_it_runs = racebench("server", "clean", "--dsn", dsn)
    assert "nothing to drop" in while_it_runs.stdout
    assert users_server.schemas() == [name], "a running command uses it"
    process.kill()
    process.wait()
    wait_for(lambda: users_server.sessions() == 0, "sessions stay")
    following = racebench("run", "-s", "advisory", "-w", "2", "-n", "4", "--no-save", "--dsn", dsn)
    assert following.returncode == 0
    assert following.stderr.count("\n") == 1
    assert f"killed commands left on 127.0.0.1:{users_server.port}/postgres: schema {name} (" in following.stderr
    assert " old); `racebench server clean --dsn DSN` drops them" in following.stderr
    cleaned = racebench("server", "clean", "--dsn", dsn)
    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    assert f"dropped schema {name} (" in cleaned.stdout
    assert users_server.schemas() == []
    again = racebench("run", "-s", "advisory", "-w", "2", "-n", "4", "--no-save", "--dsn", dsn)
    assert again.stderr == ""


def test_a_schema_is_in_use_before_its_workers_and_after_them(users_server: UsersServer) -> None:
    target, name = external(users_server.dsn()), new_name()
    with empty_schema(target, name), users_server.connect() as admin:
        assert abandoned.find(admin) == ()
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s",
            (application_name(name, "command"),),
        )
        (left,) = abandoned.find(admin)
        assert (left.kind, left.name) == ("schema", name)
        assert left.age_s is not None
        with connect(target, application_name=application_name(name, "worker")):
            assert abandoned.find(admin) == ()
    assert users_server.schemas() == []


def test_a_kept_schema_is_not_left_by_a_killed_command(
    racebench: Command,
    users_server: UsersServer,
    admin: psycopg.Connection[tuple[object, ...]],
) -> None:
    dsn = users_server.dsn()
    done = racebench("run", "-s", "advisory", "-w", "2", "-n", "4", "--keep", "--no-save", "--dsn", dsn)
    assert done.returncode == 0, done.stderr
    (name,) = users_server.schemas()
    assert "nothing to drop" in racebench("server", "clean", "--dsn", dsn).stdout
    assert users_server.schemas() == [name]
    admin.execute(f'DROP SCHEMA "{name}" CASCADE')  # type: ignore[arg-type]


def test_a_publication_is_found_without_its_schema_and_other_names_are_not(
    users_server: UsersServer, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    if users_server.version == "14":
        pytest.skip("a publication without tables")
    admin.execute("CREATE PUBLICATION racebench_00000000000a")
    admin.execute("CREATE SCHEMA racebench_of_mine")
    assert [str(item) for item in abandoned.find(admin)] == ["publication racebench_00000000000a (age unknown)"]
    admin.execute("DROP SCHEMA racebench_of_mine")


def test_what_another_role_owns_is_not_dropped_and_is_named(
    racebench: Command, users_server: UsersServer, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    admin.execute("CREATE SCHEMA racebench_00000000000b")
    admin.execute("CREATE ROLE visitor LOGIN PASSWORD 'visitor'")
    try:
        done = racebench("server", "clean", "--dsn", users_server.dsn(user="visitor", password="visitor"))
        assert_one_line(done, 6, "schema racebench_00000000000b (age unknown) cannot be dropped: must be owner")
    finally:
        admin.execute("DROP ROLE visitor")


def test_the_line_names_three_and_counts_the_others() -> None:
    ages = [None, 5.0, 300.0, 90_000.0, 1.0]
    items = [Abandoned(kind="schema", name=f"s{number}", age_s=age) for number, age in enumerate(ages)]
    assert abandoned.sentence(items, "db").startswith(
        "killed commands left on db: schema s0 (age unknown), schema s1 (5 s old), schema s2 (5 minutes old) and 2 more"
    )
    assert str(items[3]) == "schema s3 (1 day old)"


# Temporary folders


@pytest.fixture
def temporary_files(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    return short_path


def _aged(folder: Path) -> None:
    os.utime(folder, (1, 1))


def test_only_a_run_folder_that_no_process_holds_is_deleted(temporary_files: Path) -> None:
    with run_files.temporary() as used:
        _aged(used.folder)
        left = temporary_files / "racebench-run-left"
        left.mkdir()
        (left / "in-use").touch()
        others = temporary_files / "racebench-run-without-a-lock"
        others.mkdir()
        fresh = temporary_files / "racebench-run-fresh"
        fresh.mkdir()
        (fresh / "in-use").touch()
        (temporary_files / "racebench-run-link").symlink_to(left)
        assert delete_abandoned() == [], "each is too young"
        _aged(others)
        _aged(left)
        assert delete_abandoned() == [left]
        assert used.folder.exists()
        assert others.exists()
        assert fresh.exists()
    assert not used.folder.exists()


@pytest.mark.parametrize("killed", [False, True])
def test_the_sockets_of_a_process_are_in_a_folder_that_is_known(temporary_files: Path, killed: bool) -> None:
    """It is deleted at the end; after kill -9 `server clean` finds it."""
    program = (
        "from racebench.executors.processes import Processes\nwith Processes():\n    print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary_files)},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (folder,) = temporary_files.iterdir()
        if killed:
            process.kill()
        else:
            process.communicate(b"\n")
    if killed:
        _aged(folder)
        assert delete_abandoned() == [folder]
    assert list(temporary_files.iterdir()) == []


@pytest.mark.server
def test_where_the_path_of_the_temporary_folder_is_too_long_for_sockets_they_are_elsewhere(
    racebench: Command, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = short_path / ("x" * 90)
    long.mkdir()
    done = racebench("run", "-s", "advisory", "-w", "2", "-n", "4", "--no-save", env={"TMPDIR": str(long)})
    assert done.returncode == 0, done.stderr
    assert list(long.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr(temporary, "_SHORT", short_path)
    left = short_path / "racebench-sockets-left"
    left.mkdir()
    (left / "in-use").touch()
    _aged(left)
    assert delete_abandoned() == [left]


def test_the_lock_of_a_run_folder_is_held_for_as_long_as_the_run(temporary_files: Path) -> None:
    with (
        run_files.temporary() as files,
        (files.folder / "in-use").open("rb") as lock,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_scratch_files_of_a_killed_check_are_deleted_once_it_is_dead(temporary_files: Path) -> None:
    with Scratch() as scratch:
        folder = scratch.path().parent
        _aged(folder)
        assert delete_abandoned() == []
        lock = (folder / "in-use").rename(folder / "kept")  # as if its process had ended
        (folder / "in-use").touch()
        _aged(folder)
        assert delete_abandoned() == [folder]
        assert not lock.exists()
