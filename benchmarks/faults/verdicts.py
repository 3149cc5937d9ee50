"""racebench's verdicts and counts, compared with the rows that the subjects have committed.

The rows come from the table in which a trigger writes them a second time; racebench does not know it.
"""

from __future__ import annotations

import contextlib
import json
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.faults.fault import Fault
from benchmarks.faults.findings import Ended, Look
from benchmarks.faults.scene import Scene
from benchmarks.faults.subjects import GUILTY, JUNIT, RESULT, Subject

#: An anomaly that a verdict is made of; the others are counted only.
_NO_ANOMALY = {"attempts", "committed", "failed", "rolled_back", "unknown", "retries", "rows", "gaps", "inversions"}
#: Fewer rows than these may well have no duplicate.
_FEW_ROWS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows that a subject has committed to its table in one run, as the server has them now."""

    rows: int
    duplicates: int


def committed_rows(scene: Scene) -> list[Rows]:
    """The rows of each table, in the order in which the tables were used."""
    if scene.ground.server is None or not scene.driver.audited:
        return []
    with scene.ground.server.connect() as connection:
        found = connection.execute(
            "SELECT count(version), count(version) - count(DISTINCT (tenant, version)) FROM faults.rows"
            " WHERE role <> 'alone' GROUP BY written ORDER BY min(id)"
        ).fetchall()
    return [Rows(rows=rows, duplicates=duplicates) for rows, duplicates in found]


def may_be_guilty(scene: Scene, fault: Fault, ended: Ended) -> bool:
    """Whether an innocent subject may break its rule under this fault, and the report names why."""
    return bool(fault.names) and scene.driver.call and fault.names in ended.text


def look_at_result(scene: Scene, fault: Fault, ended: Ended, rows: Sequence[Rows], seen: Look) -> None:
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
    if not guilty and verdict == "INVALID" and not may_be_guilty(scene, fault, ended):
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
    """Rows and duplicates that racebench counted are those of a table; the acknowledged rows are there."""
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
        if counts["lost"]:
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


def look_at_tests(scene: Scene, ended: Ended, seen: Look) -> None:
    """Tests of an innocent function do not fail with an anomaly; those of a guilty one do not pass."""
    with contextlib.suppress(OSError, ET.ParseError):
        for case in ET.parse(scene.work / JUNIT).iter("testcase"):
            name = case.get("name")
            texts = [f"{part.get('message')} {part.text}" for part in case if part.tag in {"failure", "error"}]
            accused = any("INVALID" in text for text in texts)
            verdict = "INVALID" if accused else "UNKNOWN" if len(case) else "VALID"
            if verdict == "VALID" and ended.code not in {0, 1}:
                continue  # pytest does not say which test was interrupted
            seen.verdicts.append((scene.subject.value, verdict))
            if scene.subject is Subject.INNOCENT and accused:
                seen.blame("wrong", f"{name} fails: {texts[0][-200:]}")
            if scene.subject is Subject.GUILTY and verdict == "VALID" and name == "test_explored":
                seen.blame("wrong", f"{name} passes")


def look_at_demo(ended: Ended, seen: Look) -> None:
    """A demo that says its end shows the duplicate of the naive strategy, and none of the advised one."""
    if ended.code != 0:
        return
    naive, _, fix = ended.out.partition("The end:") if "The end:" in ended.out else ended.out.partition("the end:")
    if "DUPLICATE" not in naive:
        seen.blame("wrong", "the demo of naive shows no duplicate")
    if "No anomaly" not in fix:
        seen.blame("wrong", "the demo of the advised strategy does not say that there is no anomaly")
    seen.verdicts += [("guilty", "INVALID"), ("innocent", "VALID")]
