"""Faults while racebench runs: the proxy and the judge of benchmarks/faults, and some cells of the matrix.

`python -m benchmarks.faults` runs all of them with more seeds; what a trial is judged by is in docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import moments
from benchmarks.faults.__main__ import cells, installed, main, parts, pgbouncer
from benchmarks.faults.families import FAULTS
from benchmarks.faults.findings import COLUMNS, Ended, Look
from benchmarks.faults.grounds import Ground, Kind, Layout, Templates, templates
from benchmarks.faults.look import look
from benchmarks.faults.proxy import Cut, Silence, Stall, breaking
from benchmarks.faults.scene import TOKEN, Scene
from benchmarks.faults.subjects import DRIVERS, RESULT, Subject
from benchmarks.faults.trial import Cell, run_cell
from benchmarks.faults.twins import TWINS
from benchmarks.faults.verdicts import Rows, look_at_result
from racebench.core.target import Target
from waiting import wait_for

#: The cells that run here: each way of judging and each kind of ground is among them. Two seeds: innocent and guilty.
CELLS = (
    "nothing / run",
    "nothing / check",
    "worker killed / run",
    "consumer killed / matrix",
    "command killed / run --call",
    "embedded, command killed / run",
    "postmaster killed / explore",
    "command terminated / compare",
    "cut before COMMIT / run",
    "cut after COMMIT / run --call",
    "cut behind a refusal / run several",
    "cut at a message / explore",
    "seven bytes at a time / explore --call",
    "no rights / run",
    "SIGINT to the group / pytest",
    "SIGINT twice / run",
)


# The cells


@pytest.fixture(scope="module")
def made() -> Iterator[Templates]:
    programs = installed(())
    own = 15 if 15 in programs else 16
    with templates(programs, own, [own], None) as made:
        yield made


@pytest.mark.server
@pytest.mark.parametrize("name", CELLS)
def test_no_fault_changes_a_verdict_or_leaves_anything(name: str, made: Templates) -> None:
    fault, _, driver = name.partition(" / ")
    counted = run_cell(Cell(fault=fault, driver=driver, seeds=range(2)), made)
    assert counted.runs == 2
    assert not +counted.columns, f"{counted.examples}; python -m benchmarks.faults --cells '{name}' --keep FOLDER"


def test_the_cells_are_of_the_matrix() -> None:
    every = {cell.name for cell in cells((), range(1), installed(()), None, twins=True)}
    assert set(CELLS) <= every


def test_a_pattern_chooses_faults_or_cells() -> None:
    programs = installed(())
    assert {cell.fault for cell in cells(("cut * COMMIT",), range(1), programs, None)} == {
        "cut before COMMIT",
        "cut inside COMMIT",
        "cut after COMMIT",
    }
    assert cells(("SIGHUP / explore",), range(3), programs, None) == []
    (cell,) = cells(("SIGHUP / explore",), range(3), programs, None, twins=True)
    assert (cell.fault, cell.driver, len(cell.seeds)) == ("SIGHUP", "explore", 3)
    assert {cell.driver for cell in cells(("* / check",), range(1), programs, None)} == {"check"}


def test_all_cells_get_their_first_seeds_first() -> None:
    chosen = cells(("SIGHUP / *",), range(10), installed(()), None, twins=True)
    keys = [part.key for part in parts(chosen)]
    assert keys[: len(chosen)] == [f"{cell.name} 0-3" for cell in chosen]
    assert keys[-1].endswith(" 8-9")
    assert len(keys) == 3 * len(chosen)


def test_a_twin_is_one_of_its_faults_commands_and_leaves_another_one() -> None:
    for name, twins in TWINS.items():
        assert set(twins) < set(FAULTS[name].drivers), name


def test_poolers_and_versions_that_are_not_installed_are_left_out() -> None:
    names = {cell.fault for cell in cells((), range(1), {18: Path("bin")}, None)}
    assert not {name for name in names if "PgBouncer" in name}
    assert {name for name in names if name.startswith("PostgreSQL ")} == {"PostgreSQL 18"}


# The judge


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A trial of `run` that has ended, without a server."""
    scene = Scene(
        driver=DRIVERS["run"],
        subject=Subject.INNOCENT,
        draw=random.Random(1),
        folder=tmp_path,
        ground=Ground(folder=tmp_path, layout=Layout(kind=Kind.NONE)),
        token="none has it",
    )
    scene.work.mkdir()
    scene.tmp.mkdir()
    return scene


ENDED = Ended(code=0, seconds=1.0, out="", err="", hung=False, hit=True)
COUNTS = {
    "attempts": 100,
    "committed": 100,
    "failed": 0,
    "unknown": 0,
    "rows": 100,
    "duplicates": 0,
    "lost": 0,
    "unexpected": 0,
    "refused": 0,
}
THERE = [Rows(rows=100, duplicates=0)]


def judged(scene: Scene, *results: dict[str, Any], rows: list[Rows] | None = None, **ended: Any) -> dict[str, Any]:
    """The problems of a trial whose result has these runs."""
    (scene.work / RESULT).write_text(json.dumps({"runs": results}))
    seen = Look()
    fault = FAULTS["worker terminated"]
    look_at_result(scene, fault, replace(ENDED, **ended), THERE if rows is None else rows, seen)
    return seen.problems


def result(strategy: str, verdict: str, **counts: int) -> dict[str, Any]:
    return {"strategy": strategy, "verdict": verdict, "counts": {**COUNTS, **counts}}


def counting(scene: Scene) -> Scene:
    """With a server, whose rows are compared; it is not asked."""
    return replace(scene, ground=replace(scene.ground, server=object()))  # type: ignore[arg-type]


def test_a_right_result_has_no_problem(scene: Scene) -> None:
    assert judged(counting(scene), result("advisory", "VALID")) == {}
    guilty = result("naive", "INVALID", duplicates=40)
    assert judged(counting(scene), guilty, rows=[Rows(rows=100, duplicates=40)]) == {}
    assert judged(counting(scene), result("naive", "UNKNOWN", rows=0, committed=0), rows=[]) == {}


def test_an_accused_innocent_is_wrong(scene: Scene) -> None:
    assert list(judged(counting(scene), result("advisory", "INVALID", refused=1))) == ["wrong"]


def test_an_acquitted_guilty_is_wrong(scene: Scene) -> None:
    rows = [Rows(rows=100, duplicates=40)]
    assert list(judged(counting(scene), result("naive", "VALID", duplicates=40), rows=rows)) == ["wrong"]
    # without the count of its duplicates, too
    assert set(judged(counting(scene), result("naive", "VALID"), rows=rows)) == {"wrong", "unaccounted"}
    assert list(judged(counting(scene), result("naive", "VALID"))) == ["wrong"]


@pytest.mark.parametrize(
    "counts",
    [{"rows": 99}, {"committed": 101}, {"committed": 90}, {"committed": 101, "lost": 1}, {"unexpected": 1}],
    ids=str,
)
def test_rows_that_the_table_does_not_confirm_are_unaccounted(scene: Scene, counts: dict[str, int]) -> None:
    assert list(judged(counting(scene), result("advisory", "VALID", **counts))) == ["unaccounted"]


def test_unknown_operations_may_be_there_or_not(scene: Scene) -> None:
    assert judged(counting(scene), result("advisory", "VALID", committed=97, unknown=5)) == {}


def test_a_run_without_a_result_is_unaccounted(scene: Scene) -> None:
    seen = Look()
    look_at_result(scene, FAULTS["SIGINT"], ENDED, [], seen)
    assert list(seen.problems) == ["unaccounted"]
    assert list(judged(scene)) == ["unaccounted"]


def test_a_guilty_function_is_judged_by_its_rows(scene: Scene) -> None:
    called = replace(counting(scene), driver=DRIVERS["run --call"])
    right = result("guilty", "INVALID", violations=3, rows=0)
    assert judged(called, right, rows=[Rows(rows=100, duplicates=3)]) == {}
    wrong = result("guilty", "VALID", violations=0, rows=0)
    assert set(judged(called, wrong, rows=[Rows(rows=100, duplicates=3)])) == {"wrong", "unaccounted"}
    lost = result("innocent", "VALID", violations=0, rows=0)
    assert list(judged(called, lost, rows=[Rows(rows=99, duplicates=0)])) == ["unaccounted"]


def ended_with(scene: Scene, fault: str, **ended: Any) -> dict[str, Any]:
    (scene.work / RESULT).write_text(json.dumps({"runs": [result("advisory", "VALID")]}))
    return look(scene, FAULTS[fault], replace(ENDED, **ended)).problems


def test_a_good_end_has_no_problem(scene: Scene) -> None:
    assert ended_with(scene, "worker terminated") == {}
    assert ended_with(scene, "worker terminated", code=6, err="racebench: cannot connect\n") == {}
    assert ended_with(scene, "command killed", code=-9) == {}


@pytest.mark.parametrize(
    ("ended", "column"),
    [
        ({"code": 1, "err": "racebench: failed\n"}, "codes"),
        ({"code": -9}, "codes"),
        ({"code": 6}, "codes"),
        ({"code": 3}, "wrong"),
        ({"err": "Traceback (most recent call last):\n  …\nKeyError: 'x'\n"}, "tracebacks"),
        ({"hung": True, "code": -9}, "hangs"),
    ],
    ids=str,
)
def test_a_bad_end_is_in_its_column(scene: Scene, ended: dict[str, Any], column: str) -> None:
    assert list(ended_with(scene, "worker terminated", **ended)) == [column]


@pytest.mark.parametrize("name", ["tmp/rest", "work/result.json.partial", "work/results/.x.json"])
def test_a_file_that_stays_is_left_over(scene: Scene, name: str) -> None:
    path = scene.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    assert list(ended_with(scene, "worker terminated")) == ["leftovers"]


def test_a_half_written_file_is_left_over(scene: Scene) -> None:
    (scene.work / "other.json").write_text('{"runs": [')
    assert list(ended_with(scene, "worker terminated")) == ["leftovers"]


def test_a_process_that_stays_is_left_over_and_ended(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from benchmarks.faults import remains

    monkeypatch.setattr(remains, "_PATIENCE_S", 0.1)
    environment = {**os.environ, TOKEN: scene.token}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment) as process:
        wait_for(lambda: scene.processes() == [process.pid], "the process does not start")
        assert list(ended_with(scene, "worker terminated")) == ["leftovers"]
        assert process.wait() == -signal.SIGKILL


def test_the_table_sums_the_columns(tmp_path: Path) -> None:
    from benchmarks.faults.table import matrix_document, tables

    cell = {"runs": 20, "hits": 19, **dict.fromkeys(COLUMNS, 0), "examples": []}
    bad = {**cell, "wrong": 2, "examples": ["seed 3 (innocent), wrong: advisory is INVALID"]}
    part = {**cell, "runs": 10, "hits": 10}
    measured = matrix_document(
        [
            {"fault": "SIGINT", "driver": "run", **part},
            {"fault": "SIGINT", "driver": "demo", **bad},
            {"fault": "SIGINT", "driver": "run", **part},
        ],
        seeds=20,
        own=15,
        programs={15: tmp_path},
    )
    matrix, wrong = tables(measured)
    assert matrix.rows[0] == ("SIGINT", "SIGINT to the command", "40", "39", "2", "0", "0", "0", "0", "0")
    assert wrong.rows[0][:4] == ("SIGINT", "demo", "20", "2")
    assert measured["problems"] == 2
    assert matrix.notes[1] == "2 of 2 cells (a fault with a command) have 20 trials."


# The proxy


COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
PARSE = b"P\x00\x00\x00\x10s1\x00commit;\x00\x00\x00"
BIND = b"B\x00\x00\x00\x0d\x00s1\x00\x00\x00\x00\x00\x00\x00"
OTHER = b"Q\x00\x00\x00\x0dSELECT 1\x00"


def test_a_commit_is_found_as_text_and_as_a_prepared_statement() -> None:
    commits = moments.Commits()
    assert commits.where(OTHER) is None
    assert commits.where(OTHER + COMMIT) == len(OTHER)
    assert commits.where(BIND) is None
    assert commits.where(PARSE) is None
    assert commits.where(BIND) == 0
    assert commits.where(PARSE.replace(b"commit;", b"SELECT1")) is None
    assert commits.where(BIND) is None, "the name has another statement"


def test_the_nth_commit_is_cut_before_inside_or_after_it() -> None:
    before, inside, after = moments.before_commit(2), moments.inside_commit(2), moments.after_commit(2)
    answer = b"C\x00\x00\x00\x0bCOMMIT\x00Z\x00\x00\x00\x05I"
    assert [before(OTHER + COMMIT, True) for _ in range(3)] == [None, len(OTHER), None]
    assert [inside(OTHER + COMMIT, True) for _ in range(3)] == [None, len(OTHER) + 3, None]
    assert [after(answer, False) for _ in range(3)] == [None, 0, None]


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Target]:
    """A server that sends back what it is sent."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / ".s.PGSQL.1"))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionResetError):
            while data := connection.recv(1000):
                connection.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield Target(kind="external", parameters={"host": str(tmp_path), "port": "1"}, label="echo")
    listener.close()
    thread.join()


def through(echo: Target, folder: Path, cut: Cut) -> list[bytes]:
    """What a client is sent back for three messages, one after the other; b"" if the connection was closed."""
    (folder / "proxy").mkdir()
    answers = []
    with breaking(folder / "proxy", echo, cut), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.5)
        client.connect(str(folder / "proxy" / ".s.PGSQL.1"))
        for message in (b"one", b"two", b"three"):
            try:
                client.sendall(message)
                answers.append(client.recv(1000))
            except TimeoutError:
                answers.append(b"silence")
            except OSError:
                answers.append(b"")
    return answers


@pytest.mark.parametrize(
    ("happens", "answers"),
    [
        (None, [b"one", b"two", b"three"]),
        (0, [b"one", b"", b""]),
        (Stall(seconds=0.1), [b"one", b"two", b"three"]),
        (Silence.BLACK_HOLE, [b"one", b"silence", b"silence"]),
        (Silence.HALF_CLOSED, [b"one", b"", b""]),
    ],
    ids=str,
)
def test_the_proxy_breaks_a_connection(echo: Target, tmp_path: Path, happens: Any, answers: list[bytes]) -> None:
    assert through(echo, tmp_path, moments.at_message(3, happens)) == answers


def test_the_proxy_sends_a_message_in_pieces(echo: Target, tmp_path: Path) -> None:
    (tmp_path / "proxy").mkdir()
    with breaking(tmp_path / "proxy", echo, lambda _data, _of_client: None, piece=7):
        client = socket.socket(socket.AF_UNIX)
        with client:
            client.settimeout(5.0)
            client.connect(str(tmp_path / "proxy" / ".s.PGSQL.1"))
            client.sendall(bytes(range(100)))
            received = b""
            while len(received) < 100:
                received += client.recv(1000)
    assert received == bytes(range(100))


def test_the_command_refuses_a_pattern_that_fits_nothing() -> None:
    from click.testing import CliRunner

    done = CliRunner().invoke(main, ["--cells", "no such fault"])
    assert done.exit_code == 2
    assert "no cell fits" in done.output
    assert pgbouncer() is None or pgbouncer().exists()  # type: ignore[union-attr]
