"""Records survive their writer's death, and a full disk is an error, not a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from racebench.core.errors import DatabaseProblem, ScenarioProblem
from racebench.core.model import NumberedRows, Outcome
from racebench.core.target import Target
from racebench.history import read_operations
from racebench.history.records import NO_VERSION, OPERATION, RecordFile, decode_status, encode_status, read_records
from racebench.history.spill import Scratch
from racebench.history.table import parse_copy, read_rows
from racebench.postgres.connection import connect

CODES = st.text(alphabet="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5)


@given(st.sampled_from([Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN]), st.one_of(st.just(""), CODES))
def test_outcome_and_sqlstate_survive_packing(outcome: Outcome, sqlstate: str) -> None:
    status = encode_status(outcome, sqlstate)
    assert decode_status(status) == (outcome, sqlstate)
    assert status < 2**32


def test_what_is_written_is_read_past_the_first_chunk(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "r", OPERATION)
    for n in range(1, 70_001):
        file.write(n, n + 1, -n, 7, 1, 5)
    file.close()
    records = read_records(tmp_path / "r", OPERATION)
    assert len(records) == 70_000
    assert np.array_equal(records["start"], np.arange(1, 70_001))
    assert np.array_equal(records["version"], -np.arange(1, 70_001))


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert len(read_records(tmp_path / "nothing", OPERATION)) == 0


def test_an_operation_in_progress_when_its_worker_is_killed_is_unknown(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from racebench.history.records import OPERATION, RecordFile, encode_status
from racebench.core.model import Outcome
file = RecordFile(Path({str(tmp_path / "w")!r}), OPERATION)
for n in range(1, 4):
    file.begin(n * 100, 0, 0, 1, 1, 0)
    file.finish(n * 100, n * 100 + 50, n, 1, 1, encode_status(Outcome.OK, ""))
file.begin(400, 0, 0, 1, 1, 0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    operations = [read_operations({3: tmp_path / "w"}).at(position) for position in range(4)]
    assert [operation.outcome.name for operation in operations] == ["OK", "OK", "OK", "UNKNOWN"]
    assert [operation.id for operation in operations] == [(3 << 32) + n for n in range(4)]
    assert [operation.end for operation in operations] == [150, 250, 350, None]


def test_a_full_disk_is_one_clear_error_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    program = f"""
import resource
from pathlib import Path
from racebench.core.errors import RacebenchError
from racebench.history.records import OPERATION, RecordFile
file = RecordFile(Path({str(tmp_path / "w")!r}), OPERATION)
for n in range(1, 1001):
    file.write(n, n, n, 1, 1, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
try:
    for n in range(1001, 200_000):
        file.write(n, n, n, 1, 1, 1)
except RacebenchError as problem:
    print(problem)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot record to {tmp_path / 'w'}: ")
    assert len(read_records(tmp_path / "w", OPERATION)) == 65_536


def test_rows_come_back_from_copy_with_null_versions(embedded: Target) -> None:
    with connect(embedded) as connection:
        connection.execute("CREATE TEMP TABLE e (id bigint, tenant int, version bigint, operation bigint)")
        connection.execute("INSERT INTO e VALUES (2, 1, NULL, 5), (1, 3, 4, NULL)")
        rows, labels = read_rows(connection, NumberedRows(table="e"), Scratch())
    assert sorted(rows.tolist()) == [(1, 3, 4, 0), (2, 1, NO_VERSION, 5)]
    assert labels is None


def test_versions_that_are_not_integers_come_back_as_ranks_with_their_texts(embedded: Target) -> None:
    with connect(embedded) as connection:
        connection.execute("CREATE TEMP TABLE e (id bigint, tenant int, version text, operation bigint)")
        connection.execute("INSERT INTO e VALUES (1, 1, 'b', 1), (2, 1, NULL, 2), (3, 2, 'a', 3), (4, 1, 'b', 4)")
        rows, labels = read_rows(connection, NumberedRows(table="e"), Scratch())
    assert rows[np.argsort(rows["id"])]["version"].tolist() == [2, NO_VERSION, 1, 2]
    assert labels is not None
    assert list(labels) == ["a", "b"]


def test_a_truncated_copy_stream_is_an_error() -> None:
    with pytest.raises(DatabaseProblem, match="cut short"):
        list(parse_copy([b"PGCOPY\n\xff\r\n\x00" + bytes(8) + bytes(30) + b"\xff\xff"]))


def test_the_operations_file_takes_32_bytes_an_operation() -> None:
    assert OPERATION.itemsize == 32
    assert os.sysconf("SC_PAGESIZE") <= 65_536 * OPERATION.itemsize


@pytest.mark.parametrize(
    ("column", "problem", "message"),
    [
        ("nothing", ScenarioProblem, r'\[rows\] does not fit the table: column "nothing" does not exist'),
        ("text", ScenarioProblem, r"\[rows\] does not fit the table: cannot cast type json to bigint"),
        ("late", DatabaseProblem, r"cannot read table e after the run: .*out of range"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line_and_the_connection_goes_on(
    embedded: Target, column: str, problem: type[Exception], message: str
) -> None:
    with connect(embedded) as connection:
        connection.execute(
            "CREATE TEMP TABLE e AS SELECT g AS id, 1 AS tenant, g AS version, g AS operation, '{}'::json AS text,"
            " CASE WHEN g > 90000 THEN 1e30 ELSE 1 END AS late FROM generate_series(1, 100000) g"
        )
        with pytest.raises(problem, match=message):
            read_rows(connection, NumberedRows(table="e", operation=column), Scratch())
        assert connection.execute("SELECT 1").fetchone() == (1,)
