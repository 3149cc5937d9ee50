"""The history file keeps everything a check needs, numpy reads it alone, and whatever is wrong with one is one line."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from conftest import Command, assert_one_line
from histories import Op, Poll, Row, any_history, history
from racebench.analysis.checkers import check
from racebench.analysis.offline import CheckResult, check_file, export
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.model import Outcome
from racebench.core.verdict import Verdict
from racebench.history import History, archive
from racebench.history.operations import Operations
from racebench.history.recorded import About, Recorded
from racebench.history.records import OPERATION, encode_status
from racebench.history.spill import Scratch

ABOUT = About(scenario="version-counter", strategy="naive", forbidden=("duplicates", "missed"))
GUILTY = history(
    [
        Op(1 << 32, 5, 20, 1),
        Op(2 << 32, 10, 25, 1),
        Op(3 << 32, 40, 50, 9, outcome=Outcome.FAIL, sqlstate="23505", tries=3),
    ],
    [Row(7, 1, 1 << 32), Row(8, 1, 2 << 32), Row(9, None, tenant=2)],
    [Poll((7,), 1)],
    bits=32,
)


def written(folder: Path, past: History = GUILTY, about: About = ABOUT) -> Path:
    path = folder / "h.history.npz"
    archive.write(path, Recorded(history=past, about=about))
    return path


def read_back(path: Path) -> History:
    with Scratch() as scratch:
        return archive.read(path, scratch).history


@settings(max_examples=150, deadline=None)
@given(any_history())
def test_what_is_found_in_a_kept_history_is_what_was_found_in_the_run(
    tmp_path_factory: pytest.TempPathFactory, drawn: History
) -> None:
    sessions = drawn.operations.sessions
    path = written(tmp_path_factory.getbasetemp(), drawn)
    with Scratch(piece=3, small=0) as scratch:
        again = archive.read(path, scratch).history
        assert {number: records.tolist() for number, records in again.operations.sessions.items()} == {
            number: records.tolist() for number, records in sessions.items()
        }
        assert again.table.tolist() == drawn.table.tolist()
        for one, other in zip(again.logs, drawn.logs, strict=True):
            assert one.deliveries.tolist() == other.deliveries.tolist()
            assert one.polls.tolist() == other.polls.tolist()
            assert one.after is not None
            assert other.after is not None
            assert one.after.tolist() == other.after.tolist()
        assert (again.start, again.numbering) == (drawn.start, drawn.numbering)


def test_a_history_that_is_not_complete_clears_no_strategy(tmp_path: Path) -> None:
    innocent = history(
        [Op(1 << 32, 5, 20, 1), Op(2 << 32, 10, 25, 2)],
        [Row(7, 1, 1 << 32), Row(8, 2, 2 << 32)],
        [Poll((7, 8), 2)],
        bits=32,
    )
    unfinished = replace(ABOUT, complete=False)
    assert check_file(written(tmp_path, innocent), None).verdict is Verdict.VALID
    assert check_file(written(tmp_path, innocent, unfinished), None).verdict is Verdict.UNKNOWN
    assert check_file(written(tmp_path, GUILTY, unfinished), None).verdict is Verdict.INVALID


@pytest.mark.server
def test_counts_of_a_kept_history_are_the_runs_own(racebench: Command, tmp_path: Path) -> None:
    command = ["run", "-n", "300", "--tenants", "3", "--rollback", "5", "--consumer", "all", "--json", "r.json"]
    strategies = ("naive", "unique", "sequence", "uuidv7")
    chosen = [word for name in strategies for word in ("-s", name)]
    assert racebench(*command, *chosen, "--no-save", "--history").returncode == 0
    runs = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert [run["history"] for run in runs] == [f"r-{name}.history.npz" for name in strategies]
    done = racebench("check", "--json", "-", *(run["history"] for run in runs))
    assert done.returncode == 0, done.stderr
    for run, file in zip(runs, json.loads(done.stdout)["files"], strict=True):
        same = ("counts", "errors", "verdict", "forbidden", "latency_us", "seconds", "throughput_per_s", "witnesses")
        assert {name: file[name] for name in same} == {name: run[name] for name in same}
        for theirs, ours in zip(run["consumers"], file["consumers"], strict=True):
            assert {name: theirs[name] for name in ("name", "counts", "late_us")} == {
                name: ours[name] for name in ("name", "counts", "late_us")
            }


@pytest.mark.server
def test_a_history_is_kept_when_something_forbidden_was_found(racebench: Command, tmp_path: Path) -> None:
    done = racebench("run", "-s", "naive", "-s", "advisory", "-n", "800")
    (kept,) = (tmp_path / "results").glob("*.npz")
    (saved,) = (tmp_path / "results").glob("*.json")
    assert kept.name == f"{saved.stem}-naive.history.npz"
    assert f"history: results/{kept.name}" in done.stdout
    assert "INVALID" in racebench("check", str(kept)).stdout
    assert racebench("run", "-s", "naive", "-n", "800", "--no-history", "--results", "other").returncode == 0
    assert not list((tmp_path / "other").glob("*.npz"))
    assert racebench("run", "-s", "naive", "-n", "800", "--no-save").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "results"]


def test_history_without_a_place_to_go_is_refused(racebench: Command) -> None:
    done = racebench("run", "--history", "--no-save")
    assert done.returncode == 2
    assert "--history has no place to write to" in done.stderr


def test_numpy_alone_reads_it(tmp_path: Path) -> None:
    program = f"""
import json, sys
import numpy as np
kept = np.load({str(written(tmp_path))!r})
meta = json.loads(kept["meta"].item())
assert meta["format"] == "racebench history" and meta["version"] == 1
ended = kept["duration"] >= 0
assert (kept["duration"][ended]).tolist() == [15, 15, 10]
assert kept["outcome"].tolist() == [1, 1, 2]
assert [meta["sqlstates"][code] for code in kept["sqlstate"]] == ["", "", "23505"]
assert kept["row_version"].tolist() == [1, 1, np.iinfo(kept["row_version"].dtype).min]
assert "racebench" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_operation_takes_less_than_thirty_bytes(tmp_path: Path) -> None:
    count = 20_000
    draw = np.random.default_rng(1)
    sessions = {}
    for number in range(1, 9):
        records = np.zeros(count, OPERATION)
        records["start"] = 10**12 + np.cumsum(draw.integers(10**5, 10**6, count))
        records["end"] = records["start"] + draw.integers(10**4, 10**5, count)
        records["version"] = np.arange(count) * 8 + number
        records["tenant"] = draw.integers(1, 17, count)
        records["tries"], records["status"] = 1, encode_status(Outcome.OK, "")
        sessions[number] = records
    rows = np.zeros(count * 8, archive.ROW)
    rows["id"] = np.arange(1, count * 8 + 1)
    rows["tenant"] = np.concatenate([records["tenant"] for records in sessions.values()])
    rows["version"] = np.concatenate([records["version"] for records in sessions.values()])
    rows["operation"] = np.concatenate([(number << 32) + np.arange(count) for number in sessions])
    past = History(start=10**12, operations=Operations(sessions), rows=rows)
    assert written(tmp_path, past).stat().st_size / (8 * count) < 30


# Trouble


def rewritten(path: Path, change: Callable[[dict[str, np.ndarray]], None], *, store: bool = False) -> Path:
    """The same file with other columns, as somebody else's program would write it."""
    with np.load(path) as kept:
        columns = dict(kept)
    change(columns)
    (np.savez if store else np.savez_compressed)(path, **columns)
    return path


def test_stored_columns_and_another_machines_byte_order_read_the_same(tmp_path: Path) -> None:
    plain = read_back(written(tmp_path))

    def swap(columns: dict[str, np.ndarray]) -> None:
        for name, column in columns.items():
            if column.dtype.kind in "iu":
                columns[name] = column.astype(column.dtype.newbyteorder(">"))

    swapped = read_back(rewritten(written(tmp_path), swap, store=True))
    assert swapped.operations.sessions[3].tolist() == plain.operations.sessions[3].tolist()
    assert swapped.table.tolist() == plain.table.tolist()
    assert check(swapped).findings == check(plain).findings


def _meta(columns: dict[str, np.ndarray], **changes: object) -> None:
    columns["meta"] = np.array(json.dumps({**json.loads(columns["meta"].item()), **changes}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("meta"), "is not a racebench history: it has no 'meta'"),
        (lambda c: _meta(c, format="something"), "is not a racebench history"),
        (lambda c: _meta(c, version=3), "is a history of version 3, this racebench reads 1 and 2"),
        (lambda c: _meta(c, consumers=3), "is damaged: in its 'meta', consumers is 3, not an array"),
        (lambda c: _meta(c, numbering="x"), "is damaged: its 'meta' has an unknown numbering"),
        (lambda c: _meta(c, forbidden=["x"]), "is damaged: its 'meta' has an unknown anomaly 'x'"),
        (lambda c: c.update(meta=np.array("{")), "is damaged: its 'meta' is not JSON"),
        (lambda c: c.pop("duration"), "is damaged: it has no 'duration'"),
        (
            lambda c: c.update(start=c["start"][:2]),
            "is damaged: 'session_operations' does not add up to the 2 operations",
        ),
        (
            lambda c: c.update(duration=c["duration"][:2]),
            "is damaged: columns differ in length: 'start' 3, 'duration' 2",
        ),
        (lambda c: c.update(tenant=c["tenant"].astype(float)), "is damaged: 'tenant' is not a column of integers"),
        (lambda c: c.update(tenant=c["tenant"].reshape(3, 1)), "is damaged: 'tenant' is not a column of integers"),
        (lambda c: c.update(tenant=np.array([1, 2, None])), "is damaged: tenant cannot be read"),
        (lambda c: c.update(tenant=np.array([1, 2, 70_000])), "is damaged: 'tenant' has a value outside 0 to 65535"),
        (lambda c: c.update(duration=np.array([1, -2, 3])), "is damaged: 'duration' has a value outside"),
        (
            lambda c: c.update(duration=np.array([1, -1, 3])),
            "'duration' has no end for an operation whose outcome is known",
        ),
        (lambda c: c.update(outcome=np.array([1, 2, 9])), "is damaged: 'outcome' has a value outside 0 to 3"),
        (lambda c: c.update(sqlstate=np.array([0, 0, 5])), "is damaged: 'sqlstate' has a value outside 0 to 1"),
        (lambda c: c.update(session_number=np.array([1, 1, 2])), "is damaged: 'session_number' has a number twice"),
        (
            lambda c: c.update(
                session_number=np.array([1]), session_operations=np.array([3]), start=np.array([5, 1, 2])
            ),
            "is damaged: 'start' decreases within a session",
        ),
        (lambda c: c.update(consumer0_delivery_poll=np.array([4])), "names a poll that does not exist"),
        (lambda c: c.update(row_id=np.array([2**64 - 1, 1, 2], np.uint64)), "has a number of more than 63 bits"),
    ],
)
def test_a_history_that_is_not_one_is_one_line(
    racebench: Command, tmp_path: Path, change: Callable[[dict[str, np.ndarray]], None], message: str
) -> None:
    path = rewritten(written(tmp_path), change)
    with pytest.raises(UsageProblem) as problem:
        read_back(path)
    assert message in str(problem.value)
    assert str(problem.value).startswith(str(path))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("cut", [0, 1, 100, 0.3, 0.6, 0.9, -1])
def test_a_file_cut_short_is_one_line_and_exit_2(racebench: Command, tmp_path: Path, cut: float) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole)) if 0 < cut < 1 else int(cut)])
    done = racebench("check", str(path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"racebench: {path} is damaged: the file cannot be read")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    with zipfile.ZipFile(path) as kept:
        info = kept.getinfo("start.npy")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 30 + len(info.filename) + 40] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(UsageProblem, match="is damaged"):
        read_back(path)


def test_a_column_cut_short_inside_a_whole_zip_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    with zipfile.ZipFile(path) as kept:
        members = {name: kept.read(name) for name in kept.namelist()}
    members["row_id.npy"] = members["row_id.npy"][:-1]
    with zipfile.ZipFile(path, "w") as cut:
        for name, data in members.items():
            cut.writestr(name, data)
    with pytest.raises(UsageProblem, match="'row_id' is cut short"):
        read_back(path)


def test_a_disk_that_fills_while_a_history_is_written_leaves_nothing_and_costs_no_result(
    tmp_path: Path,
) -> None:
    program = f"""
import resource, sys
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
from pathlib import Path
from test_history import written
from racebench.core.errors import RacebenchError
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    written(Path({str(tmp_path)!r}))
except RacebenchError as problem:
    print(problem)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write the history {tmp_path}/h.history.npz: File too large; free some space")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_a_history_that_cannot_be_kept_is_a_note_and_the_result_stands(racebench: Command, tmp_path: Path) -> None:
    # Every file of the command may be so large and no larger: enough for the results, too little for the history.
    program = (
        "import resource, sys\n"
        "from racebench.history import archive\n"
        "from racebench.core.errors import RacebenchError\n"
        "def full(path, recorded):\n"
        "    raise RacebenchError(f'cannot write the history {path}: No space left on device; free some space')\n"
        "archive.write = full\n"
        "from racebench.cli.main import main\n"
        "sys.argv[1:] = ['run', '-s', 'naive', '-n', '400', '--json', 'r.json']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert run["history"] is None
    assert any(note.startswith("cannot write the history") for note in run["notes"])
    assert run["counts"]["duplicates"] > 0


def test_a_full_disk_while_spilling_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    program = f"""
import os, resource
import numpy as np
from racebench.core.errors import RacebenchError
from racebench.history.spill import Scratch
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
for fill in (lambda s: s.zeros(1 << 20, np.int64), lambda s: s.column(np.int64).append(np.zeros(1 << 20))):
    try:
        with Scratch(small=0) as scratch:
            fill(scratch)
    except RacebenchError as problem:
        print(problem)
print(os.listdir({str(tmp_path)!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"TMPDIR": str(tmp_path), "PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    one, two, left = done.stdout.splitlines()
    for line in (one, two):
        assert line.startswith(f"cannot keep temporary files in {tmp_path}")
        assert line.endswith("free some space, or set TMPDIR to another folder")
    assert left == "[]"


def test_without_memory_the_check_fails_in_one_line(racebench: Command, tmp_path: Path) -> None:
    path = written(tmp_path)
    program = (
        "import contextlib, io, resource, sys\n"
        "from racebench.cli.main import main\n"
        f"sys.argv[1:] = ['check', {str(path)!r}]\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()  # loads what it needs while there is memory\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), used + (1 << 20)))\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:  # it may be enough, or not; never a count that is wrong
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
    else:
        assert "INVALID" in done.stdout


# Other formats


def findings(result: CheckResult) -> dict[str, int | None]:
    return {kind: number for kind, number in result.counts.items() if number}


@settings(max_examples=100, deadline=None)
@given(any_history())
def test_json_lines_out_and_in_again_say_the_same(tmp_path_factory: pytest.TempPathFactory, drawn: History) -> None:
    if not len(drawn.operations):
        return
    path = written(tmp_path_factory.getbasetemp(), drawn)
    lines = path.with_name("h.jsonl")
    export(path, "jsonl", lines)
    kept, again = check_file(path, None), check_file(lines, None)
    asked = {kind for kind, number in again.counts.items() if number is not None}
    assert {kind: again.counts[kind] for kind in asked} == {kind: kept.counts[kind] for kind in asked}


def test_json_lines_in_the_words_of_the_documentation(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"type": "op", "process": 1, "start_ns": 0, "end_ns": 100, "outcome": "ok", "version": 5}\n'
        '{"type": "op", "process": 2, "start_ns": 50, "end_ns": 150, "outcome": "ok", "version": 5}\n\n'
        '{"type": "op", "process": 1, "start_ns": 200, "end_ns": 300, "outcome": "ok", "version": 3}\n'
        '{"type": "op", "process": 2, "start_ns": 200, "end_ns": 300, "outcome": "fail", "sqlstate": "40001"}\n'
        '{"type": "op", "process": 3, "start_ns": 200, "end_ns": null, "outcome": "info"}\n'
    )
    result = check_file(path, None)
    operations = {"attempts": 5, "committed": 3, "failed": 1, "unknown": 1, "rows": 3}
    assert findings(result) == operations | {"duplicates": 1, "gaps": 1, "inversions": 1, "refused": 1}
    assert result.counts["lost"] is result.counts["missed"] is None
    (twins,) = [witness for witness in result.witnesses if witness.kind == "duplicates"]
    assert [row["id"] for row in twins.rows] == [1, 2], "a row's id is its line"
    assert "each of its 3 acknowledged operations counts as the row it wrote" in result.about.note


def test_the_example_in_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "history.md").read_text()
    lines = [line.strip() for line in page.splitlines() if line.startswith('    {"type"')]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    result = check_file(tmp_path / "x.jsonl", None)
    assert findings(result) == {
        **dict.fromkeys(("committed", "failed", "unknown", "retries", "rows", "refused"), 1),
        "attempts": 3,
    }
    assert result.verdict == "VALID"


def test_rows_and_polls_given_make_lost_and_missed_countable(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"type": "history", "version": 1, "strategy": "s", "numbering": "none", "forbidden": ["lost"]}\n'
        '{"type": "op", "process": 1, "start_ns": 0, "end_ns": 1, "outcome": "ok"}\n'
        '{"type": "op", "process": 1, "start_ns": 2, "end_ns": 3, "outcome": "ok"}\n'
        '{"type": "row", "id": 10, "version": "b", "process": 1, "index": 0}\n'
        '{"type": "row", "id": 11, "version": "a"}\n'
        '{"type": "poll", "consumer": "c", "start_ns": 4, "end_ns": 5, "delivered": [10, 10], "cursor": "b"}\n'
    )
    result = check_file(path, None)
    assert findings(result) == {"attempts": 2, "committed": 2, "rows": 2, "missed": 1, "redelivered": 1, "lost": 1}
    (missed,) = [witness for witness in result.witnesses if witness.kind == "missed"]
    assert missed.rows[0]["version"] == "a"
    assert missed.polls[0]["cursor_after"] == "b"
    assert result.verdict == "INVALID"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        ('{"type": "operation"}', "type 'operation' is unknown"),
        ('{"type": "op", "process": 1, "start_ns": 5, "end_ns": 9}', "outcome null is unknown; use ok, fail or info"),
        ('{"type": "op", "process": "a", "start_ns": 5, "end_ns": 9, "outcome": "ok"}', "'process' is a whole number"),
        ('{"type": "op", "process": true, "start_ns": 5, "end_ns": 9, "outcome": "ok"}', "not true"),
        ('{"type": "op", "process": 1, "start_ns": 5, "outcome": "ok"}', "whose outcome is known has an end"),
        ('{"type": "op", "process": 1, "start_ns": 5.5, "end_ns": 9, "outcome": "ok"}', "not 5.5"),
        ('{"type": "op", "process": 1, "start_ns": 5, "end_ns": 4, "outcome": "ok"}', "cannot end at 4"),
        ('{"type": "op", "process": 7, "start_ns": 0, "end_ns": 4, "outcome": "ok"}', "before its last operation did"),
        (
            '{"type": "op", "process": -1, "start_ns": 5, "end_ns": 9, "outcome": "ok"}',
            "process is a whole number from 0",
        ),
        ('{"type": "op", "process": 1, "start_ns": 5, "end_ns": 9, "outcome": "ok", "version": "x"}', "is a text"),
        ('{"type": "op", "process": 1, "start_ns": 5, "end_ns": 9, "outcome": "ok", "version": 1e30}', "not 1e+30"),
        (
            '{"type": "op", "process": 1, "start_ns": 5, "end_ns": 9, "outcome": "fail", "sqlstate": "x"}',
            "'x' does not have",
        ),
        ('{"type": "op", "process": 1, "start_ns": 9999999999999999999, "outcome": "info"}', "a number of 64 bits"),
        ('{"type": "poll", "consumer": "c", "start_ns": 1, "end_ns": 2, "delivered": 3}', "'delivered' is a list"),
        ('{"type": "history", "version": 1}', "the line of type 'history' must be the first line"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.jsonl"
    good = '{"type": "op", "process": 7, "start_ns": 5, "end_ns": 9, "outcome": "ok", "version": 1}'
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(UsageProblem) as problem:
        check_file(path, None)
    assert str(problem.value).startswith(f"{path}:2: ")
    assert message in str(problem.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", "", "has no operations"),
        ("x.jsonl", "\xff", "not UTF-8"),
        ("x.edn", "", "has no :generate, :add or :inc operations"),
        ("x.txt", "", "names no format; give --format npz, jsonl, edn"),
        ("x.npz", "hello", "is damaged: the file cannot be read"),
    ],
)
def test_a_file_of_nothing_is_one_line_and_exit_2(
    racebench: Command, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, encoding="latin-1")
    done = racebench("check", name)
    assert_one_line(done, 2, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.npz"], "missing.npz cannot be read: No such file"),
        (["x.npz", "--fail-on", "duplicate"], "did you mean 'duplicates'?"),
        (["x.npz", "--export"], "--export takes one FILE and a format, jsonl or edn"),
        (["x.npz", "--export", "npz"], "--export takes one FILE and a format, jsonl or edn"),
        (["x.npz", "-o", "y"], "--output is the file that --export writes"),
        (["x.npz", "--json", "/nonexistent/x.json"], "folder '/nonexistent' does not exist"),
    ],
)
def test_a_users_mistake_with_check_is_one_line(racebench: Command, arguments: list[str], message: str) -> None:
    done = racebench("check", *arguments)
    assert_one_line(done, 2, message)


def test_exit_codes_of_check(racebench: Command, tmp_path: Path) -> None:
    path = str(written(tmp_path))
    assert racebench("check", path).returncode == 0
    assert racebench("check", path, "--fail-on", "any").returncode == 3
    assert racebench("check", path, "--fail-on", "lost").returncode == 0
    unknown = str(written(tmp_path, history([Op(1, 0, 1, outcome=Outcome.FAIL)])))
    assert racebench("check", unknown, "--fail-on", "lost").returncode == 5


def test_nothing_is_left_in_the_temporary_folder(racebench: Command, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    path = written(tmp_path)
    environment = {"TMPDIR": str(temporary)}
    assert racebench("check", str(path), env=environment).returncode == 0
    path.write_bytes(path.read_bytes()[:-40])
    assert racebench("check", str(path), env=environment).returncode == 2
    assert list(temporary.iterdir()) == []


def test_an_export_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = written(tmp_path)
    damaged = tmp_path / "d.npz"
    damaged.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UsageProblem):
        export(damaged, "edn", tmp_path / "out.edn")
    with pytest.raises(RacebenchError, match=r"cannot write .*nowhere/out\.edn: No such file or directory"):
        export(path, "edn", tmp_path / "nowhere" / "out.edn")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["d.npz", "h.history.npz"]


def test_an_export_to_a_device_goes_there_and_leaves_it_one(racebench: Command, tmp_path: Path) -> None:
    done = racebench("check", str(written(tmp_path)), "--export", "jsonl", "-o", "/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("racebench: cannot write /dev/full: No space left on device")
    assert Path("/dev/full").is_char_device()
    assert racebench("check", str(tmp_path / "h.history.npz"), "--export", "edn", "-o", "/dev/null").returncode == 0
    assert Path("/dev/null").is_char_device()
