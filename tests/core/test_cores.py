"""How many processors may be used, and how many of them are idle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from racebench.core import cores


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of a container's limit, on a machine with eight processors, of which six are allowed."""
    monkeypatch.setattr(cores, "_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(6)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    return tmp_path / "cpu.max"


@pytest.mark.parametrize(
    ("text", "usable"), [(None, 6), ("max 100000\n", 6), ("150000 100000\n", 2), ("900000 100000\n", 6), ("odd", 6)]
)
def test_a_processor_counts_if_the_process_and_its_container_may_use_it(
    limit: Path, text: str | None, usable: int
) -> None:
    if text is not None:
        limit.write_text(text)
    assert cores.usable_cores() == usable


@pytest.mark.parametrize(("load", "idle"), [(0.2, 6), (4.2, 4), (7.4, 1), (20.0, 0)])
def test_processors_that_others_use_are_not_idle(
    limit: Path, monkeypatch: pytest.MonkeyPatch, load: float, idle: int
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert cores.idle_cores() == idle
    limit.write_text("100000 100000\n")
    assert cores.idle_cores() == min(idle, 1)
