"""Which server a command uses."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from benchmarks.faults.moments import once
from benchmarks.faults.proxy import breaking
from conftest import Command, assert_one_line
from racebench.core.errors import DatabaseProblem
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.targets import open_target


@pytest.mark.server
def test_without_an_external_server_an_embedded_one_runs_for_the_length_of_the_block() -> None:
    with open_target(None, version=18, connections=8) as target, connect(target) as connection:
        assert target.kind == "embedded"
        assert connection.info.server_version // 10000 == 18
    with pytest.raises(DatabaseProblem):
        connect(target)


@pytest.mark.server
def test_an_embedded_server_has_no_other_programs() -> None:
    with open_target(None, version=18, connections=8) as target:
        assert target.exclusive


def test_an_external_server_is_checked_before_it_is_used(embedded: Target) -> None:
    with open_target(embedded, version=16, connections=8) as target:
        assert target == embedded
    with (
        pytest.raises(DatabaseProblem, match=r"100000 are needed"),
        open_target(embedded, version=16, connections=10**5),
    ):
        pass


def test_a_connection_of_racebench_that_is_lost_is_a_problem_of_the_database(embedded: Target) -> None:
    with (
        pytest.raises(DatabaseProblem, match=r"a connection to .* was lost: terminating connection"),
        open_target(embedded, version=16, connections=8) as target,
        connect(target) as connection,
    ):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def test_what_the_server_refuses_is_no_lost_connection(embedded: Target) -> None:
    with (
        pytest.raises(psycopg.errors.UndefinedTable),
        open_target(embedded, version=16, connections=8) as target,
        connect(target) as connection,
    ):
        connection.execute("SELECT FROM absent")


def test_a_command_whose_own_connection_is_lost_ends_with_one_line(embedded: Target, racebench: Command) -> None:
    """As it asks for the server's settings, which go into the result."""
    folder = Path(tempfile.mkdtemp(prefix="rb-"))
    cut = once(lambda data, of_client: 0 if of_client and b"AS name ORDER BY name" in data else None)
    try:
        with breaking(folder, embedded, cut) as proxy:
            dsn = make_conninfo(**proxy.target.parameters)
            done = racebench("run", "-s", "naive", "-w", "2", "-n", "10", "--no-save", "--dsn", dsn, env={"LANG": "C"})
            assert proxy.cuts == 1
    finally:
        shutil.rmtree(folder)
    assert_one_line(done, 6, "was lost")
