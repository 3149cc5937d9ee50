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
def test_without_times_processors_that_others_use_are_not_idle(
    limit: Path, monkeypatch: pytest.MonkeyPatch, load: float, idle: int
) -> None:
    monkeypatch.setattr(cores, "_TIMES", limit.with_name("absent"))
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    looks = cores.IdleCores()
    assert looks.count() == idle
    limit.write_text("100000 100000\n")
    assert looks.count() == min(idle, 1)


@pytest.mark.parametrize(("idle_s", "disk_s", "idle"), [(0.0, 0.0, 0), (0.8, 0.1, 0), (0.9, 0.2, 1), (12.0, 0.0, 6)])
def test_processors_are_idle_by_their_times(
    limit: Path, monkeypatch: pytest.MonkeyPatch, idle_s: float, disk_s: float, idle: int
) -> None:
    """Looked at for 2 s, on six usable processors; the time that they wait for a disk counts."""
    times, ticks = limit.with_name("stat"), os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(cores, "_TIMES", times)
    monkeypatch.setattr(os, "getloadavg", lambda: (20.0, 0.0, 0.0))
    times.write_text("cpu  5 0 5 1000 100 0 0 0 0 0\ncpu0 5 0 5 1000 100 0 0 0 0 0\n")
    looks = cores.IdleCores()
    monkeypatch.setattr(cores.time, "monotonic", lambda: looks._began_s + 2.0)
    times.write_text(f"cpu  5 0 5 {1000 + round(idle_s * ticks)} {100 + round(disk_s * ticks)} 0 0 0 0 0\n")
    assert looks.count() == idle
