"""Where a call of Python stands, and what it imports late."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest

from racebench.core.model import Load
from racebench.core.target import Target
from racebench.executors.processes import Processes
from racebench.load.driver import LoadDriver
from racebench.load.standing import Standing, standing_at
from racebench.workloads import ad_hoc
from waiting import wait_for


def test_a_call_that_lasts_is_named_by_its_line_until_it_ends(tmp_path: Path) -> None:
    path, places = tmp_path / "standing-1", []

    def waits() -> None:
        wait_for(path.exists, "the thread has written nothing")
        places.append(path.read_text())

    with Standing(path) as standing:
        standing.begun += 1
        waits()
        said = standing_at([path, path, tmp_path / "standing-2"])
        standing.begun += 1
        standing.idle = True
        wait_for(lambda: not path.exists(), "the file stays when the call has ended")
    (place,) = places
    assert ".py:" in place
    assert said.startswith("; 2 calls are at ")
    assert standing_at([path]) == ""


def test_a_call_that_ends_when_its_place_is_read_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert standing_at([tmp_path / "standing-1"]) == ""


def test_what_a_call_imports_late_is_imported_before_the_start(
    embedded: Target, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module notes whether a call was in progress when it was imported."""
    library = tmp_path / "site-packages"
    library.mkdir()
    notes = tmp_path / "notes"
    (library / "imported_late.py").write_text(
        f"import os\nwith open({str(notes)!r}, 'a') as file:\n"
        "    file.write(os.environ['DATABASE_URL'].split('application_name=')[1].split('%20')[1] + ' ' +"
        " os.environ.get('IN_A_CALL', 'before') + chr(10))\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(library)])

    def create(connection: psycopg.Connection[tuple[int]]) -> None:
        import os

        os.environ["IN_A_CALL"] = "in a call"
        import imported_late  # noqa: F401

        connection.execute("INSERT INTO orders VALUES (1)")
        connection.commit()

    scenario = ad_hoc.from_calls(
        [create], setup=["CREATE TABLE orders (number int)"], invariants=["SELECT 1 WHERE false"]
    )
    (strategy,) = scenario.strategies.values()
    load = Load(workers=2, duration_s=None, operations=4)
    result = LoadDriver(target=embedded, executor=processes).run(scenario, strategy, [], load, lambda _: None)
    assert result.counts["committed"] == 4
    said = notes.read_text().splitlines()
    assert said[0] == "alone in a call"
    assert said[1:3] == ["worker before"] * 2
