"""The address of a scheduler, and what is said of one that cannot be used."""

from __future__ import annotations

import importlib.util
import os
import socket
import tempfile
from pathlib import Path

import pytest

from racebench.core.errors import RacebenchError, UsageProblem
from racebench.executors import connecting
from racebench.executors.connecting import Scheduler, connected


@pytest.mark.parametrize("text", ["", "tcp://", "tcp://host", "http://host:1", "host:8786", "LOCAL"])
def test_an_address_without_a_protocol_and_a_port_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem, match=f"not '{text}'; `dask scheduler` prints its address"):
        Scheduler.parse(text)


@pytest.mark.parametrize(
    ("text", "local", "is_open"),
    [
        ("local", True, False),
        ("tcp://10.0.0.1:8786", False, True),
        ("tcp://127.0.0.1:8786", False, False),
        ("tls://10.0.0.1:8786", False, False),
    ],
)
def test_what_crosses_a_network_is_open_without_tls(text: str, local: bool, is_open: bool) -> None:
    scheduler = Scheduler.parse(text)
    assert (scheduler.is_local, scheduler.is_open) == (local, is_open)


def test_a_scheduler_that_is_not_there_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(connecting, "_CONNECT_SECONDS", 0.2)
    with socket.socket() as bound:  # nothing listens
        bound.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(RacebenchError) as raised, connected(Scheduler.parse(address)):
            raise AssertionError("it is connected")
    assert str(raised.value).startswith(f"cannot reach the Dask scheduler {address} within 0 s: ")
    assert "\n" not in str(raised.value)


def test_an_error_without_a_text_is_named_by_its_kind() -> None:
    problem = OSError("connecting failed")
    problem.__cause__ = TimeoutError()
    assert connecting._innermost(problem) == "TimeoutError"
    problem.__cause__ = TimeoutError("2 s are over")
    assert connecting._innermost(problem) == "2 s are over"


@pytest.mark.skipif(os.environ.get("TEST_CLUSTER") != "required", reason="it starts Dask twice")
def test_the_machines_of_a_second_scheduler_use_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folders = []
    for _ in range(2):
        with connected(Scheduler.parse("local")) as client:
            (folder,) = client.run(lambda: tempfile.gettempdir()).values()
            assert Path(folder).is_dir()
            folders.append(folder)
    assert len(set(folders)) == 2
    left = [entry.name for entry in tmp_path.iterdir()]
    # Neither the machines nor the scheduler in this process leave a folder; Python's own is there until it exits.
    assert [name for name in left if not name.startswith("pymp-")] == []


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with (
        pytest.raises(UsageProblem, match=r"pip install 'racebench\[cluster\]'"),
        connected(Scheduler.parse("tcp://127.0.0.1:1")),
    ):
        raise AssertionError("it is connected")
