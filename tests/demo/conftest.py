"""Fixtures of the demo's tests: prepared demos, demos on a terminal, and a demo with hostile texts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from demos import HOSTILE, DemoTerminal, OpenDemo, Prepare
from racebench.cli import demonstrating
from racebench.cli.demonstrating import Ready
from racebench.cli.option_groups import TargetOptions
from racebench.cli.servers import Server
from racebench.core.model import Scenario
from racebench.core.target import Target
from racebench.demo.recording import Recording
from racebench.workloads import catalog


@pytest.fixture(scope="module")
def prepare(embedded: Target) -> Iterator[Prepare]:
    """Prepare and rehearse `racebench demo NAME …` on the tests' server, the same demo once for each module."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def rehearse(name: str | None = None, **options: object) -> Ready:
            defaults = dict.fromkeys(("scenario", "consumer", "fix", "autoplay", "export", "output"))
            target = TargetOptions(server="18", dsn=None)
            plan = demonstrating.plan(name, **{**defaults, "notes": False, "target": target, **options})  # type: ignore[arg-type]
            server = Server(target=embedded, version=18)
            return stack.enter_context(demonstrating.ready(replace(plan, server=server), lambda *_: None))

        yield rehearse


@pytest.fixture
def open_demo(tmp_path: Path) -> Iterator[OpenDemo]:
    """Start `racebench demo …` on a terminal, which is closed at the end."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **options: object) -> DemoTerminal:
            terminal = DemoTerminal(tmp_path, *arguments, **options)  # type: ignore[arg-type]
            return stack.enter_context(contextlib.closing(terminal))

        yield start


@pytest.fixture
def hostile(tmp_path: Path) -> Scenario:
    """A scenario whose SQL, payload and answers contain markup and scripts of other languages."""
    files = {
        "scenario.toml": """
title = "<i>Title</i> & {more}; #1"
summary = "markup"
schema = "schema.sql"
forbid = ["violations"]
[invariants]
"one</script>" = "SELECT payload FROM t GROUP BY payload HAVING count(*) > 1"
[strategies."a"]
summary = "<script>alert(2)</script>"
script = "a.sql"
expect = ["violations"]
""",
        "schema.sql": "CREATE TABLE t (tenant int, payload text);",
        "a.sql": f"BEGIN;\nSELECT '{HOSTILE}' || chr(27) || '[31m' || chr(7) AS \"<u>\" \\gset\n"
        f"INSERT INTO t VALUES (:tenant, '{HOSTILE}');\nCOMMIT;",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return catalog.find_scenario(str(tmp_path))


@pytest.fixture
def hostile_shown(hostile: Scenario, prepare: Prepare) -> Recording:
    """A demo of the hostile scenario."""
    shown = prepare("a", scenario=str(hostile.folder), notes=True).recording
    assert any(HOSTILE in line.text for frame in shown.frames for lane in frame.lanes for line in lane.lines)
    assert any(HOSTILE in cell for frame in shown.frames for t in frame.tables for row in t.rows for cell in row.cells)
    return shown
