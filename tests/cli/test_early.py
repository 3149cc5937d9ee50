"""A command begins its server's start before it has read its request: nothing of it is left if it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Command, assert_one_line
from racebench.core.target import Target
from racebench.postgres.connection import connect
from racebench.postgres.embedded import EmbeddedServer, server_folder
from racebench.postgres.targets import open_target


def data_folders() -> set[Path]:
    return set(server_folder(18).glob("slot-*/data"))


def value(target: Target, setting: str) -> int:
    with connect(target) as connection:
        row = connection.execute("SELECT current_setting(%s)", (setting,)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_command_that_is_refused_leaves_nothing_of_its_server(racebench: Command, embedded: Target) -> None:
    before = data_folders()
    done = racebench("run", "-s", "niave", "--no-save")
    assert_one_line(done, 2, "did you mean 'naive'?")
    assert data_folders() == before
    assert embedded.server_pid is not None


def test_a_server_that_was_begun_is_used(embedded: Target) -> None:
    assert embedded.server_pid is not None  # there is a template
    before = data_folders()
    begun = EmbeddedServer(connections=64)
    begun.begin()
    assert len(data_folders() - before) == 1
    with open_target(None, version=18, connections=8, begun=begun) as target:
        assert len(data_folders() - before) == 1
        assert value(target, "max_connections") == begun.max_connections
    begun.stop()
    assert data_folders() == before


def test_a_server_that_was_begun_with_too_little_room_is_replaced(embedded: Target) -> None:
    assert embedded.server_pid is not None
    before = data_folders()
    begun = EmbeddedServer(connections=64)
    begun.begin()
    with open_target(None, version=18, connections=200, begun=begun) as target:
        assert value(target, "max_connections") == 210
        assert len(data_folders() - before) == 1
    assert data_folders() == before


@pytest.mark.server
def test_what_goes_wrong_at_the_beginning_is_said_when_the_server_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RACEBENCH_CACHE_DIR", str(tmp_path / "file"))
    begun = EmbeddedServer(connections=64)
    begun.begin()
    begun.stop()
    with pytest.raises(Exception, match="RACEBENCH_CACHE_DIR"):
        begun.__enter__()
