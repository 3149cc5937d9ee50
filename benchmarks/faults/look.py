"""The judgement of one trial, by what is there after it: rows, processes, sessions, schemas, files, and the text.

racebench's verdicts and counts are what is judged; nothing that it says is a reason to believe it. The rows come from
the table in which the subjects' rows are written a second time.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.faults.faults import Fault
from benchmarks.faults.grounds import Kind
from benchmarks.faults.scene import Scene
from benchmarks.faults.servers import AUDITED, PLAIN
from benchmarks.faults.subjects import GUILTY, JUNIT, RESULT, Subject
from benchmarks.programs import racebench_command

#: The columns of the matrix; every one should be 0.
COLUMNS = ("wrong", "unaccounted", "tracebacks", "leftovers", "hangs", "codes")

_TRACES = (
    "Traceback (most recent call last)",
    "INTERNALERROR",
    "Fatal Python error",
    "Exception ignored",
    "Segmentation",
)
#: An anomaly that a verdict is made of; the others are counted only.
_NO_ANOMALY = {"attempts", "committed", "failed", "rolled_back", "unknown", "retries", "rows", "gaps", "inversions"}
_PATIENCE_S = 5.0
_MINE = re.compile(r"racebench_[0-9a-f]{12}")
#: Fewer rows than these may well have no duplicate.
_FEW_ROWS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the command ended: exit code (-9: killed), seconds, text, and whether it had to be ended."""

    code: int
    seconds: float
    out: str
    err: str
    hung: bool
    hit: bool

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(slots=True)
class Look:
    """What is wrong with a trial, by column; and the verdicts that racebench gave, by subject."""

    problems: dict[str, list[str]] = field(default_factory=dict)
    verdicts: list[tuple[str, str]] = field(default_factory=list)

    def blame(self, column: str, what: str) -> None:
        self.problems.setdefault(column, []).append(what[:300])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows that one schema's subject has committed, as the server has them now."""

    rows: int
    duplicates: int


def look(scene: Scene, fault: Fault, ended: Ended) -> Look:
    """Judge a trial whose command has ended. The server of its ground must answer."""
    seen = Look()
    rows = _rows(scene)
    if ended.hung:
        seen.blame("hangs", f"no end after {ended.seconds:.0f} s")
    else:
        _look_at_end(scene, fault, ended, seen)
    _look_at_text(ended, seen)
    if scene.driver.name == "pytest":
        _look_at_tests(scene, seen)
    elif scene.driver.name == "demo":
        _look_at_demo(ended, seen)
    else:
        _look_at_result(scene, fault, ended, rows, seen)
    _look_at_processes(scene, seen)
    _look_at_server(scene, fault, ended, seen)
    _look_at_files(scene, fault, seen)
    return seen


def _rows(scene: Scene) -> list[Rows]:
    """The rows of each schema, in the order in which the schemas were used."""
    if scene.ground.server is None or not scene.driver.audited:
        return []
    with scene.ground.server.connect() as connection:
        found = connection.execute(
            "SELECT count(version), count(version) - count(DISTINCT (tenant, version)) FROM faults.rows"
            " WHERE role <> 'alone' GROUP BY schema ORDER BY min(id)"
        ).fetchall()
    return [Rows(rows=rows, duplicates=duplicates) for rows, duplicates in found]


def _look_at_end(scene: Scene, fault: Fault, ended: Ended, seen: Look) -> None:
    """The exit code is one that is promised, and a failure has a line."""
    code = ended.code
    if scene.driver.name == "pytest":
        allowed: tuple[int, ...] = (0, 1, 2, *(code for code in fault.promise.codes if code < 0))
        if 130 in fault.promise.codes:
            allowed += (-1, -15)  # before a test has asked for the fixture, pytest's own answer to a signal
        if code not in allowed:
            seen.blame("codes", f"exit code {code}")
        return
    if code not in fault.promise.codes:
        seen.blame("codes", f"exit code {code}: {_last_line(ended.err)}")
    elif code not in {0, 3, -9} and not ended.err.strip() and not (code == 5 and ended.out.strip()):
        seen.blame("codes", f"exit code {code} without a line on stderr")
    if scene.subject is Subject.INNOCENT and code == 3 and not _may_be_guilty(scene, fault, ended):
        seen.blame("wrong", "exit code 3 for an innocent subject")


def _may_be_guilty(scene: Scene, fault: Fault, ended: Ended) -> bool:
    """Whether an innocent subject may break its rule under this fault, and the report names why."""
    if fault.loses:
        return any(word in ended.text for word in ("crash", "synchronous_commit"))
    return bool(fault.names) and scene.driver.call and fault.names in ended.text


def _look_at_text(ended: Ended, seen: Look) -> None:
    for mark in _TRACES:
        if mark in ended.text:
            at = ended.text.index(mark)
            seen.blame("tracebacks", f"{mark}: {_last_line(ended.text[at : at + 6000])}")
            return


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


# Verdicts


def _look_at_result(scene: Scene, fault: Fault, ended: Ended, rows: Sequence[Rows], seen: Look) -> None:
    path = scene.work / RESULT
    try:
        document = json.loads(path.read_text())
    except OSError:
        if ended.code in {0, 3, 5} and not ended.hung:
            seen.blame("unaccounted", f"exit code {ended.code}, and there is no result")
        return
    except ValueError as problem:
        if fault.family != "machine" or ended.code == 0:
            seen.blame("leftovers", f"a half-written result: {problem}")
        return
    results = document.get("runs") or document.get("explorations") or document.get("files") or []
    for result in results:
        _look_at_verdict(scene, fault, ended, result, seen)
    if scene.driver.audited and scene.ground.server is not None:
        _look_at_counts(scene, fault, results, rows, seen)
    if not results and ended.code in {0, 3}:
        seen.blame("unaccounted", f"exit code {ended.code} and no results")


def _is_guilty(strategy: str) -> bool:
    return strategy == "guilty" or strategy in GUILTY


def _look_at_verdict(scene: Scene, fault: Fault, ended: Ended, result: Mapping[str, Any], seen: Look) -> None:
    strategy, verdict = str(result["strategy"]), str(result["verdict"])
    guilty, counts = _is_guilty(strategy), result["counts"]
    seen.verdicts.append(("guilty" if guilty else "innocent", verdict))
    if not guilty and verdict == "INVALID" and not _may_be_guilty(scene, fault, ended):
        seen.blame("wrong", f"{strategy} is INVALID: {_anomalies(counts)}; {result.get('errors')}")
    # A load of few operations may have no anomaly, so its duplicates are counted; a finished exploration proves.
    if guilty and verdict == "VALID" and not scene.driver.audited:
        seen.blame("wrong", f"{strategy} is VALID")
    if fault.family == "control" and verdict == "UNKNOWN":
        seen.blame("wrong", f"{strategy} is UNKNOWN without a fault: {result.get('notes')}")


def _anomalies(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: number for name, number in counts.items() if number and name not in _NO_ANOMALY}


def _look_at_counts(
    scene: Scene, fault: Fault, results: Sequence[Mapping[str, Any]], rows: Sequence[Rows], seen: Look
) -> None:
    """Rows and duplicates that racebench counted are those of a schema; the acknowledged rows are there."""
    left = Counter(rows)
    for result in results:
        strategy, counts, verdict = str(result["strategy"]), result["counts"], str(result["verdict"])
        if scene.driver.call:
            _look_at_calls(fault, strategy, counts, verdict, rows, seen)
            continue
        counted = Rows(rows=counts["rows"], duplicates=counts["duplicates"])
        if counted.rows == 0 and verdict == "UNKNOWN":
            continue
        if counted.rows and not left[counted]:
            seen.blame("unaccounted", f"{strategy}: {counted}, but the server has {list(rows)}")
        left[counted] -= 1
        least = counts["committed"] - counts["lost"]
        if not least <= counted.rows - counts["unexpected"] <= least + counts["unknown"]:
            seen.blame("unaccounted", f"{strategy}: {counted.rows} rows of {dict(counts)}")
        if counts["lost"] and not fault.loses:
            seen.blame("unaccounted", f"{strategy}: {counts['lost']} acknowledged rows are lost")
        if verdict == "VALID" and counted.duplicates:
            seen.blame("wrong", f"{strategy} is VALID with {counted.duplicates} duplicates")
        if verdict == "VALID" and _is_guilty(strategy) and counted.rows > _FEW_ROWS:
            seen.blame("wrong", f"{strategy} is VALID with {counted.rows} rows")


def _look_at_calls(
    fault: Fault, strategy: str, counts: Mapping[str, Any], verdict: str, rows: Sequence[Rows], seen: Look
) -> None:
    """A call's rows are not numbered: acknowledged calls are in the table, and its duplicates are found."""
    there = rows[-1] if rows else Rows(rows=0, duplicates=0)
    least, most = counts["committed"], counts["committed"] + counts["unknown"]
    if there.rows > most or (there.rows < least and not fault.loses):
        seen.blame("unaccounted", f"{strategy}: {there.rows} rows of {dict(counts)}")
    if verdict == "VALID" and there.duplicates:
        seen.blame("wrong", f"{strategy} is VALID with {there.duplicates} duplicates")
    if verdict != "UNKNOWN" and bool(counts["violations"]) != bool(there.duplicates):
        seen.blame("unaccounted", f"{strategy}: {counts['violations']} violations, {there.duplicates} duplicates")


def _look_at_tests(scene: Scene, seen: Look) -> None:
    """Tests of an innocent function do not fail with an anomaly; those of a guilty one do not pass."""
    with contextlib.suppress(OSError, ET.ParseError):
        for case in ET.parse(scene.work / JUNIT).iter("testcase"):
            name = case.get("name")
            texts = [f"{part.get('message')} {part.text}" for part in case if part.tag in {"failure", "error"}]
            accused = any("INVALID" in text for text in texts)
            verdict = "INVALID" if accused else "UNKNOWN" if len(case) else "VALID"
            seen.verdicts.append((scene.subject.value, verdict))
            if scene.subject is Subject.INNOCENT and accused:
                seen.blame("wrong", f"{name} fails: {texts[0][-200:]}")
            if scene.subject is Subject.GUILTY and verdict == "VALID" and name == "test_explored":
                seen.blame("wrong", f"{name} passes")


def _look_at_demo(ended: Ended, seen: Look) -> None:
    """A demo that says its end shows the duplicate of the naive strategy, and none of the advised one."""
    if ended.code != 0:
        return
    naive, _, fix = ended.out.partition("The end:") if "The end:" in ended.out else ended.out.partition("the end:")
    if "DUPLICATE" not in naive:
        seen.blame("wrong", "the demo of naive shows no duplicate")
    if "No anomaly" not in fix:
        seen.blame("wrong", "the demo of the advised strategy does not say that there is no anomaly")
    seen.verdicts += [("guilty", "INVALID"), ("innocent", "VALID")]


# What is left


def _look_at_processes(scene: Scene, seen: Look) -> None:
    limit = time.monotonic() + _PATIENCE_S
    while (left := scene.processes() + _of_cache(scene)) and time.monotonic() < limit:
        time.sleep(0.02)
    if left:
        titles = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:80] for pid in left[:3]]
        seen.blame("leftovers", f"{len(left)} processes: {titles}")
        for pid in left:
            scene.signal(pid, signal.SIGKILL)


def _of_cache(scene: Scene) -> list[int]:
    """The processes of an embedded server: their working folder, or an argument, is in the trial's cache."""
    if scene.ground.layout.kind is not Kind.EMBEDDED:
        return []
    cache, pids = str(scene.ground.folder / "cache"), []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((place / "cwd").readlink()).startswith(cache) or cache.encode() in (place / "cmdline").read_bytes():
                pids.append(int(place.name))
    return pids


def _look_at_server(scene: Scene, fault: Fault, ended: Ended, seen: Look) -> None:
    """No session, schema, publication, slot or prepared transaction stays; a schema that was named may, until then."""
    server = scene.ground.server
    if server is None:
        return
    named = set(_MINE.findall(ended.text))
    with server.connect(AUDITED if scene.driver.audited else PLAIN) as connection:
        limit = time.monotonic() + _PATIENCE_S
        while (sessions := _sessions(connection)) and time.monotonic() < limit:
            time.sleep(0.02)
        if sessions:
            seen.blame("leftovers", f"sessions: {sessions[:3]}")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'racebench%'"
            )
        left = set(_schemas(connection))
        if (unnamed := left - named) and not (fault.kills or ended.hung):
            seen.blame("leftovers", f"schemas that are not named: {sorted(unnamed)}")
        if left:
            said = _clean(scene)
            if still := set(_schemas(connection)):
                seen.blame("leftovers", f"server clean leaves {sorted(still)}: {said}")
                for name in still:
                    connection.execute(f'DROP SCHEMA "{name}" CASCADE'.encode())
        for what, question in _NEVER.items():
            if others := connection.execute(question.encode()).fetchall():
                seen.blame("leftovers", f"{what}: {others[:3]}")


_NEVER = {
    "slots": "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'racebench%'",
    "publications": "SELECT pubname FROM pg_publication",
    "prepared transactions": "SELECT gid FROM pg_prepared_xacts",
    "tables outside of its schema": "SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema', 'faults', 'pg_toast')",
}


def _sessions(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT application_name, state, left(query, 60) FROM pg_stat_activity WHERE application_name LIKE 'racebench%'"
    ).fetchall()


def _schemas(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """Schemas of racebench's; on a standby none can be."""
    for (name,) in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchall():
        yield str(name)


def _clean(scene: Scene) -> str:
    """Run `racebench server clean`, as the next command's line advises."""
    assert scene.ground.server is not None
    dsn = scene.ground.server.dsn(AUDITED if scene.driver.audited else PLAIN)
    done = subprocess.run(
        [*racebench_command(), "server", "clean", "--dsn", dsn],
        env={**scene.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


def _look_at_files(scene: Scene, fault: Fault, seen: Look) -> None:
    """The folder for temporary files is empty, and every file of results is whole."""
    if any(scene.tmp.iterdir()) and fault.kills:
        command = [*racebench_command(), "server", "clean"]
        subprocess.run(command, env={**scene.environment}, capture_output=True, check=False, timeout=60)
    if left := sorted(path.name for path in scene.tmp.iterdir()):
        seen.blame("leftovers", f"temporary files: {left[:3]}")
    for path in sorted(scene.work.rglob("*")):
        if not path.is_file():
            continue
        known = path.suffix in {".json", ".npz", ".xml", ".md"} and not path.name.startswith(".")
        if not known:
            seen.blame("leftovers", f"file {path.relative_to(scene.work)}")
        elif path.suffix == ".json":
            try:
                json.loads(path.read_text())
            except ValueError as problem:
                seen.blame("leftovers", f"half-written {path.relative_to(scene.work)}: {problem}")
