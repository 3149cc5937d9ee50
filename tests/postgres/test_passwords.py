"""No part of a password is shown, however the connection string is written, and whether it is valid or not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import Command, assert_one_line
from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.postgres.connection import connect
from racebench.postgres.external import external, shown
from racebench.workloads.addresses import variables

#: Parts of a password that occur in no message by chance.
FIRST, LAST = "Xq7first", "Zk9last"
ODD = st.text(st.sampled_from("@/:?#&=%+ '\"\\[],;!$*~\t\nä€"), max_size=4)


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port that no server listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def written(password: str, port: int) -> Iterator[str]:
    """The ways in which users write a password into a connection string, right and wrong ones."""
    place = f"127.0.0.1:{port}/app"
    for scheme in ("postgresql://", "postgres://", "", "postgresql:/", " postgresql://"):
        yield f"{scheme}app:{password}@{place}"
        yield f"{scheme}app:{password}@{place}?sslmode=disable&application_name=a"
    if "@" not in password:  # what follows it would be a valid host
        yield f"postgresql://app:{password}"
        yield f"postgresql://app:{password}/app"
    yield f"postgresql://{password}@{place}".replace(f"{password}@", f":{password}@")
    yield f"postgresql://app@{place}?password={password}"
    yield f"postgresql://app@{place}?pass%77ord={quote(password, safe='')}"
    yield f"postgresql://app:{quote(password, safe='')}@{place}"
    yield f"host=127.0.0.1 port={port} user=app password={password} dbname=app"
    yield f"host=127.0.0.1 port={port} user=app password = '{password}' dbname=app"
    yield f"dbname=postgresql://app:{password}@{place}"
    yield f"host=127.0.0.1 port={port} dbname='user=app password={password}'"
    yield f"host=127.0.0.1 port={password}"


@given(ODD)
@example("@")
@example("/")
@example("@/")
@example("/@")
@example("\\\n")
def test_no_part_of_a_password_is_said(closed_port: int, odd: str) -> None:
    for dsn in written(f"{FIRST}{odd}{LAST}", closed_port):
        said = [shown(dsn)]
        try:
            target = external(dsn)
        except UsageProblem as problem:
            said.append(str(problem))
        else:
            said += [target.label, repr(target)]
            try:
                connect(target)
            except DatabaseProblem as problem:
                said.append(str(problem))
        for text in said:
            assert FIRST not in text, dsn
            assert LAST not in text, dsn


def test_a_valid_password_still_arrives(closed_port: int) -> None:
    dsn = f"postgresql://app:{quote('p@s/s:w', safe='')}@127.0.0.1:{closed_port}/app"
    assert external(dsn).parameters["password"] == "p@s/s:w"
    assert shown(dsn) == f"postgresql://app:***@127.0.0.1:{closed_port}/app"
    again = external(variables(external(dsn), "racebench_0123456789ab", "test")["RACEBENCH_DSN"])
    assert again.parameters["password"] == "p@s/s:w"


@pytest.mark.parametrize("dsn", [f"postgresql://app:{FIRST}@{LAST}@h/d", f"postgres:{FIRST}{LAST}@host/db"])
def test_config_shows_nothing_of_a_connection_string_that_is_not_valid(
    racebench: Command, tmp_path: Path, dsn: str
) -> None:
    (tmp_path / "racebench.toml").write_text(f'dsn = "{dsn}"\n')
    done = racebench("config", "run")
    assert "(not shown: it is no valid connection string, and may hold a password)" in done.stdout
    assert FIRST not in done.stdout + done.stderr
    assert LAST not in done.stdout + done.stderr


@pytest.mark.parametrize("way", ["option", "variable", "settings"])
@pytest.mark.parametrize("command", ["run", "explore"])
def test_a_connection_string_that_is_not_valid_is_refused_without_it(
    racebench: Command, tmp_path: Path, way: str, command: str
) -> None:
    dsn = f"postgresql://app:{FIRST}/{LAST}@host/db"
    (tmp_path / "racebench.toml").write_text(f'dsn = "{dsn}"\n' if way == "settings" else "")
    given_dsn = ("--dsn", dsn) if way == "option" else ()
    done = racebench(command, "-s", "naive", *given_dsn, env={"RACEBENCH_DSN": dsn} if way == "variable" else None)
    assert_one_line(done, 2, "write '@' as %40 and '/' as %2F there")
    assert FIRST not in done.stderr
    assert LAST not in done.stderr


@pytest.mark.parametrize("way", ["PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE"])
def test_a_password_from_elsewhere_is_not_said(
    closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    file = tmp_path / "file"
    password, dsn = f"{FIRST}@/{LAST}", f"host=127.0.0.1 port={closed_port} user=app dbname=app"
    if way == "PGSERVICEFILE":
        file.write_text(f"[app]\nhost=127.0.0.1\nport={closed_port}\npassword={password}\nnonsense {password}\n")
        dsn = "service=app"
    else:
        file.write_text(f"*:*:*:*:{password}\n")
        file.chmod(0o600)
    monkeypatch.setenv(way, password if way == "PGPASSWORD" else str(file))
    with pytest.raises(DatabaseProblem) as raised:
        connect(external(dsn))
    assert FIRST not in str(raised.value)
    assert LAST not in str(raised.value)


# Connection strings that cannot be used


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        (os.fsdecode(b"postgresql://app@h\xff/d"), "the DSN cannot be parsed"),
        ("postgresql://app@h%ff/d", "the DSN cannot be parsed"),
        ("postgresql://app@h/d%00", "the DSN cannot be parsed"),
        ("host=h replication=database", "has 'replication', with which no ordinary statement can be run"),
        ("postgresql://app@h/d?replication=true", "has 'replication'"),
        ("host=h port=x", "the DSN's port is not a number"),
    ],
)
def test_what_no_session_can_be_opened_with_is_refused(dsn: str, said: str) -> None:
    with pytest.raises(UsageProblem, match=said):
        external(dsn)


def test_a_connection_string_without_replication_after_all() -> None:
    assert "replication" not in external("host=h replication=off").parameters
