"""Names, SQL, values and results with control characters and commands of GitHub Actions, whatever prints them."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import RAW, Done, assert_clean, run

from conftest import Command
from judged import REFERENCE
from racebench.cli.streams import GuardedStream
from racebench.reports import formats

HOSTILE = "[bold]x\x1b[31m\x9b\u202e\x7f:smile: ##[group]"
DEMONSTRATED = HOSTILE.replace(":", "")  # what has a colon is a schedule there
HISTORY = (
    '{"type": "history", "version": 1, "scenario": "::error::\\u001b[31m\\n::x", "strategy": "\\ud800\\u202e"}\n'
    '{"type": "op", "process": 1, "start_ns": 5, "end_ns": 9, "outcome": "ok", "version": "\\n::error::\\u001b"}\n'
    '{"type": "op", "process": 2, "start_ns": 5, "end_ns": 9, "outcome": "ok", "version": "\\n::error::\\u001b"}\n'
)


def _toml(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A scenario of which every text is hostile; the name of its first strategy."""
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "scenario.toml").write_text(
        f"title = {_toml(HOSTILE)}\nsummary = {_toml('::error::' + HOSTILE + chr(10) + ' ::warning::b')}\n"
        'schema = "schema.sql"\n[rows]\ntable = "events"\n'
        f"[measures]\n{_toml(HOSTILE)} = \"SELECT E'\\\\n::x\\\\x1b'\"\n"
        + "".join(
            f"[strategies.{_toml(name)}]\nsummary = {_toml(HOSTILE + chr(10) + '::x')}\n"
            f'script = "naive.sql"\nsource = {_toml(HOSTILE)}\n'
            for name in (HOSTILE, DEMONSTRATED)
        )
        + f'[consumers.{_toml("c" + HOSTILE)}]\nsummary = {_toml(HOSTILE)}\nscript = "poll.sql"\n'
        'cursor = { version = "zero" }\n'
    )
    (folder / "schema.sql").write_text(
        "CREATE TABLE events (id bigserial, tenant int, version bigint, operation bigint);"
    )
    (folder / "naive.sql").write_text(
        "BEGIN;\nSELECT coalesce(max(version), 0) + 1 AS v FROM events WHERE tenant = :tenant \\gset\n"
        "INSERT INTO events (tenant, version, operation) VALUES (:tenant, :v, :operation);\n"
        f"SELECT '{HOSTILE}\n'\n::text;\nCOMMIT;\n"
    )
    (folder / "poll.sql").write_text("SELECT id, version FROM events WHERE version > :version ORDER BY version")
    return HOSTILE


@pytest.mark.server
def test_no_command_obeys_what_a_scenario_says(racebench: Command, tmp_path: Path, hostile: str) -> None:
    demo = ("demo", DEMONSTRATED, "--scenario", "./evil")
    for arguments in (
        ("run", "./evil", "-s", hostile, "-n", "400", "--report", "junit=r.xml"),
        ("explore", "./evil", "-s", hostile, "--consumer", f"c{hostile}", "--report", "junit=e.xml"),
        ("matrix", "./evil", "-s", hostile, "-n", "8", "--markdown", "-"),
        demo,
        *((*demo, "--export", format_) for format_ in ("svg", "md", "mermaid")),
    ):
        done = racebench(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout
        assert_clean(Done(done.returncode, done.stdout, done.stderr))
        assert "\\x1b[31m" in done.stdout.replace("\\\\", "\\").replace("\\[", "["), arguments
        if "svg" in arguments:
            ET.fromstring(done.stdout)
    for path in (*tmp_path.glob("*.xml"), *tmp_path.glob("results/*.json")):
        text = path.read_text()
        assert not RAW.search(text)
        if path.suffix == ".xml":
            ET.fromstring(text)


def test_what_a_scenario_says_is_listed_and_shown_escaped(tmp_path: Path, hostile: str) -> None:
    for arguments in (
        ("list", "./evil"),
        ("show", hostile, "--scenario", "./evil"),
        ("show", f"c{hostile}", "--scenario", "./evil"),
    ):
        done = run(*arguments, cwd=tmp_path)
        assert done.code == 0, done.errors
        assert_clean(done)
        assert "[bold]x\\x1b[31m\\u009b\\u202e\\u007f:smile: \\u0023#[" in done.output


def test_what_a_history_says_is_shown_escaped(tmp_path: Path) -> None:
    name = "::h\x1b[31m\n::x.jsonl"
    (tmp_path / name).write_text(HISTORY)
    for more in ((), ("--json", "-"), ("--export", "edn"), ("--export", "jsonl")):
        done = run("check", name, *more, cwd=tmp_path)
        assert done.code == 0, done.errors
        assert done.output
        if "edn" not in more:  # a program reads that
            assert_clean(done)


def _texts(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] if isinstance(value, str) else [one for key, inner in entries for one in _texts(inner, (*path, key))]


DOCUMENTS = {name: json.loads((REFERENCE / name).read_text()) for name in ("run.json", "explored.json")}
for one in DOCUMENTS["run.json"]["runs"]:
    one["witnesses"] = one["witnesses"][:1]
DOCUMENTS["run.json"]["runs"] = DOCUMENTS["run.json"]["runs"][:2]
DOCUMENTS["explored.json"]["explorations"] = DOCUMENTS["explored.json"]["explorations"][:2]
#: Texts that have a form of their own, which the schema checks.
FORMED = (
    "created",
    "verdict",
    "sqlstate",
    "outcome",
    "kind",
    "protocol",
    "schedule",
    "expected",
    "forbidden",
    "possible",
    "beginning",
)


@settings(max_examples=80, derandomize=True, database=None, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    text=st.text(
        st.sampled_from("\n:# [x\x1b\x9b\u202e\ud800\ufffe\0\r\t`|<&]") | st.characters(codec=None), max_size=12
    ),
    name=st.sampled_from(sorted(DOCUMENTS)),
    format_=st.sampled_from(sorted(formats.FORMATS)),
)
def test_no_report_obeys_what_a_result_says(tmp_path: Path, text: str, name: str, format_: str) -> None:
    data = copy.deepcopy(DOCUMENTS[name])
    for path in _texts(data):
        holder = data
        for key in path[:-1]:
            holder = holder[key]
        if not any(part in FORMED for part in path) and path[-2:] != ("environment", "target"):
            holder[path[-1]] = f"::{text}{HOSTILE}\n::{text}"
    (tmp_path / "r.json").write_text(json.dumps(data))
    done = run("report", "r.json", "--format", format_, cwd=tmp_path)
    assert_clean(done)
    if done.code == 2:
        assert "is for runs" in done.errors or "no timeline" in done.errors
        return
    assert done.code == 0, done.errors
    if format_ in ("svg", "junit", "timeline"):
        ET.fromstring(done.output)
    if format_ in ("json", "bigger-is-better", "smaller-is-better"):
        json.loads(done.output)


@pytest.mark.parametrize(
    ("parts", "printed"),
    [
        (["::error::x\n"], "\\::error::x\n"),
        (["  \t::x", "\n", "a::b\n"], "  \t\\::x\na::b\n"),
        (["a", "::b\n"], "a::b\n"),
        (["  ", "::b\n"], "  \\::b\n"),
        ([":", ":b\n"], "\\::b\n"),
        (["a\n::b\nc ::d\n", "::e"], "a\n\\::b\nc ::d\n\\::e"),
    ],
)
def test_no_line_begins_as_a_command_however_it_is_written(parts: list[str], printed: str) -> None:
    raw = io.BytesIO()
    stream = GuardedStream(raw, encoding="utf-8", newline="")
    for part in parts:
        stream.write(part)
    stream.flush()
    assert raw.getvalue().decode() == printed
