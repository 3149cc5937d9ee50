"""A command begins its server's start before it has read its request: nothing of it is left if it is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from conftest import Command, assert_one_line
from racebench.cli import early
from racebench.cli.option_groups import LoadOptions, SubjectOptions, TargetOptions
from racebench.core.target import Pooling, Target
from racebench.executors.processes import Processes
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


@pytest.mark.parametrize("pooled", [True, False])
def test_behind_a_pooler_a_server_is_used_that_was_begun_for_one(embedded: Target, pooled: bool) -> None:
    assert embedded.server_pid is not None
    before = data_folders()
    begun = EmbeddedServer(connections=64, pooled=pooled)
    begun.begin()
    assert begun.coming is not None
    first = begun.coming.target.server_pid
    with open_target(None, version=18, connections=8, pooler=Pooling.TRANSACTION, begun=begun) as target:
        assert (target.server_pid == first) is pooled
        assert len(data_folders() - before) == 1
    begun.stop()
    assert data_folders() == before


class Started:
    """An executor that notes how often a task was started on it, and carries out none."""

    def __init__(self) -> None:
        self.tasks = 0

    def warm(self, _workers: int) -> None:
        """Start no process."""

    def start(self, _function: object, _task: object) -> int:
        self.tasks += 1
        return self.tasks


@pytest.mark.parametrize(("pooler", "opened"), [(None, 3), ("transaction", 0)])
def test_workers_open_sessions_early_unless_a_pooler_will_be_between(
    embedded: Target, monkeypatch: pytest.MonkeyPatch, pooler: str | None, opened: int
) -> None:
    assert embedded.server_pid is not None
    started = Started()
    monkeypatch.setattr(Processes, "of_command", lambda **_given: contextlib.nullcontext(started))
    load = LoadOptions(
        **dict.fromkeys(("duration", "rate", "protocol", "seed")),
        **dict.fromkeys(("warmup", "think", "hold", "rollback", "jitter", "poll_interval"), 0.0),
        **dict.fromkeys(("connections_per_worker", "operations", "tenants", "batch"), 1),
        workers=3,
        long=(0.0, 0.0),
    )
    with early.begun(SubjectOptions(), TargetOptions(server="18", dsn=None, pooler=pooler), load) as begun:
        assert begun.server is not None
        assert begun.server.pooled is (pooler is not None)
        assert (begun.sessions is not None) is (opened > 0)
    assert started.tasks == opened


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
