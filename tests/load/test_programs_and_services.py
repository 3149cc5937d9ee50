"""Programs and services under load: the guilty are found, the innocent are not accused, the dead are named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import racebench
from racebench.core.errors import UsageProblem
from racebench.core.model import HttpRequest
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.load import overdue, run
from tests.waiting import finish, repeat, wait_for

SETUP = """
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int NOT NULL);
CREATE TABLE stock (name text PRIMARY KEY, left_over int NOT NULL);
INSERT INTO stock VALUES ('a', 1);
"""
UNIQUE = SETUP + "CREATE UNIQUE INDEX ON orders (number);"
TWINS = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"

#: What programs and the service do: the pause is the application's, so that two of them overlap.
ORDERS = """
import os, sys
import psycopg

def work(what):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        if what == "locked":
            connection.execute("SELECT pg_advisory_xact_lock(1)")
        if what == "buy":
            bought = connection.execute("UPDATE stock SET left_over = left_over - 1 WHERE left_over > 0")
            return "" if bought.rowcount else "sold out"
        (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        connection.execute("SELECT pg_sleep(%s)", [PAUSE_S])
        connection.execute("INSERT INTO orders (number) VALUES (%s)", [number])
    return ""
"""
PROGRAM = "PAUSE_S = 0.3\n" + ORDERS + "sys.exit(work(sys.argv[1]) or 0)\n"
SERVICE = (
    "PAUSE_S = 0.02\n"
    + ORDERS
    + """
import http.server, threading, time
orders = []

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        what = self.path[1:]
        status, body = 200, ""
        orders.append(what)
        if what == "dies" and len(orders) > 4:
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        if what == "hangs" and len(orders) > 2:
            time.sleep(600)
        if what == "closes" and len(orders) % 3 == 0:
            self.close_connection = True
            return
        try:
            body = work(what) if what != "idle" else ""
            status = 409 if body else 200
        except psycopg.Error as error:
            status, body = 500, str(error)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("applications")
    (place / "program.py").write_text(PROGRAM)
    (place / "service.py").write_text(SERVICE)
    return place


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[racebench.Bench]:
    with racebench.Bench() as one:
        yield one


def program(folder: Path, what: str) -> racebench.Program:
    return racebench.program([sys.executable, str(folder / "program.py"), what])


def service(folder: Path) -> str:
    return f"{sys.executable} {folder / 'service.py'}"


def get(what: str) -> HttpRequest:
    return racebench.http("GET", f"/{what}")


pytestmark = pytest.mark.server


def test_an_exit_code_is_an_error_only_if_the_programs_alone_do_not_end_so(
    bench: racebench.Bench, folder: Path
) -> None:
    sold_out = bench.hammer(program(folder, "buy"), workers=2, operations=2, setup=SETUP, invariant=())
    assert (sold_out.counts["committed"], sold_out.counts["refused"]) == (1, 0)
    assert dict(sold_out.result.errors) == {"RX001": 1}
    assert sold_out.result.messages["RX001"] == "exit 1: sold out"
    accused = repeat(
        lambda seed: bench.hammer(program(folder, "orders"), workers=2, operations=2, setup=UNIQUE, seed=seed),
        lambda one: one.verdict is Verdict.INVALID,
    )
    assert accused.counts["refused"]
    assert "UniqueViolation: duplicate key value" in accused.result.messages["RX001"]
    assert "refused (exit 1: " in str(accused).replace("\n", " ")


@pytest.mark.parametrize("instances", ["shared", "each"])
def test_requests_that_race_are_found_and_those_with_a_lock_are_not(
    bench: racebench.Bench, folder: Path, instances: str
) -> None:
    def hammered(what: str, setup: str, seed: int) -> racebench.Hammering:
        serve = racebench.service(service(folder), instances=instances)  # type: ignore[arg-type]
        invariant = TWINS if setup is SETUP else ()
        return bench.hammer(
            get(what), serve=serve, workers=2, operations=20, setup=setup, invariant=invariant, seed=seed
        )

    if instances == "shared":
        twins = repeat(lambda seed: hammered("orders", SETUP, seed), lambda one: one.verdict is Verdict.INVALID)
        assert twins.counts["violations"]
        innocent = hammered("locked", SETUP, 0)
        assert (innocent.verdict, innocent.counts["committed"]) == (Verdict.VALID, 20)
        assert innocent.result.pace is not None
        assert innocent.result.pace.cpu.client_s is None  # the service has done the work
        sold_out = hammered("buy", SETUP, 0)
        assert (sold_out.counts["committed"], sold_out.counts["refused"]) == (1, 0)
        assert dict(sold_out.result.errors) == {"RA409": 19}
    else:
        refused = repeat(lambda seed: hammered("orders", UNIQUE, seed), lambda one: one.verdict is Verdict.INVALID)
        assert set(refused.result.errors) == {"RA500"}
        assert "HTTP 500: duplicate key value" in str(refused).replace("\n", " ")


def test_a_service_that_dies_is_named_and_its_requests_are_unknown(
    bench: racebench.Bench, folder: Path, tmp_path: Path
) -> None:
    died = bench.hammer(get("dies"), serve=service(folder), workers=2, seconds=60, setup=SETUP, invariant=())
    assert died.verdict is Verdict.UNKNOWN
    assert died.counts["unknown"]
    (note,) = (note for note in died.result.notes if "no --invariant" not in note)
    assert "service.py' ended (exit 7): out of luck; what was in flight is UNKNOWN" in note


def test_a_request_without_an_answer_is_unknown_and_the_worker_goes_on(bench: racebench.Bench, folder: Path) -> None:
    closed = bench.hammer(get("closes"), serve=service(folder), workers=1, operations=9, setup=SETUP, invariant=())
    assert (closed.counts["unknown"], closed.counts["committed"]) == (3, 6)
    assert "worker 1 had no answer 3 times; what became of these requests is UNKNOWN" in closed.result.notes


def test_a_service_that_stops_answering_ends_the_run(
    bench: racebench.Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "GRACE_SECONDS", 0.2)
    hung = bench.hammer(get("hangs"), serve=service(folder), workers=1, seconds=0.5, setup=SETUP, invariant=())
    assert hung.counts["unknown"] == 1
    assert any("still waiting" in note for note in hung.result.notes)


@pytest.mark.parametrize(
    ("what", "setup", "verdict"), [("locked", SETUP, Verdict.VALID), ("orders", UNIQUE, Verdict.UNKNOWN)]
)
def test_what_a_run_has_found_is_kept_if_the_service_does_not_answer_after_it(
    bench: racebench.Bench, folder: Path, monkeypatch: pytest.MonkeyPatch, what: str, setup: str, verdict: Verdict
) -> None:
    """Errors that nothing is known of let nobody be accused, nor acquitted."""

    def hangs(*_: object) -> NoReturn:
        raise UsageProblem("get did not end in 60 s, running alone")

    monkeypatch.setattr(run, "run_alone", hangs)

    def hammered(seed: int) -> racebench.Hammering:
        return bench.hammer(
            get(what), serve=service(folder), workers=2, operations=20, setup=setup, invariant=(), seed=seed
        )

    kept = repeat(hammered, lambda one: one.result.errors or one.verdict is Verdict.VALID)
    assert kept.verdict is verdict
    assert kept.counts["refused"] == 0
    (note,) = (note for note in kept.result.notes if note.startswith("after the load"))
    assert note.endswith("no error was counted as refused") == (verdict is Verdict.UNKNOWN)


def test_requests_that_send_no_statement_and_services_that_cannot_start_are_one_line(
    bench: racebench.Bench, folder: Path
) -> None:
    with pytest.raises(racebench.RacebenchError, match=r"GET /idle sent no statement to .*: does it reach"):
        bench.hammer(get("idle"), serve=service(folder), workers=1, operations=1, setup=SETUP, invariant=())
    with pytest.raises(racebench.RacebenchError, match="'no-such-thing' cannot be started: there is no such command"):
        bench.hammer(racebench.program("no-such-thing"), workers=1, operations=1, setup=SETUP, invariant=())
    with pytest.raises(racebench.RacebenchError, match=r"GET /buy fails when it runs alone.*HTTP 409: sold out"):
        bench.hammer(
            get("buy"), serve=service(folder), workers=1, operations=1, setup=SETUP.replace("1)", "0)"), invariant=()
        )


def test_nothing_is_left_of_a_killed_worker(bench: racebench.Bench, folder: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    killing = (
        "import os, signal, sys, time\n"
        f"lines = open({str(pids)!r}, 'a+'); lines.write(f'{{os.getpid()}}\\n'); lines.flush(); lines.seek(0)\n"
        "if len(lines.readlines()) == 4:\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    time.sleep(600)\n"
    )
    (tmp_path / "kills.py").write_text(killing)
    killed: RunResult = bench.hammer(
        racebench.program([sys.executable, str(tmp_path / "kills.py")]),
        workers=1,
        operations=2,
        setup=SETUP,
        invariant=(),
    ).result
    assert any("worker 1 died (signal 9)" in note for note in killed.notes), killed.notes
    numbers = [int(line) for line in pids.read_text().split()]
    assert len(numbers) >= 3
    wait_for(lambda: not any(map(_runs, numbers)), "a program is left")


@pytest.mark.parametrize(
    ("command", "number"), [("run", signal.SIGINT), ("explore", signal.SIGINT), ("run", signal.SIGKILL)]
)
def test_neither_a_stubborn_service_nor_what_its_shell_started_outlives_the_command(
    folder: Path, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    pids = tmp_path / "pids"
    stubborn = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        + SERVICE.replace('what == "hangs" and len(orders) > 2', 'what == "hangs"').replace(
            "time.sleep(600)", f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
        )
    )
    (tmp_path / "stubborn.py").write_text(stubborn)
    serve = f"sh -c '{sys.executable} {tmp_path / 'stubborn.py'} & wait'"
    (tmp_path / "schema.sql").write_text(SETUP)
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "racebench", command, "--serve", serve, "--http", "GET /hangs"),
            *("--setup", "schema.sql", "--no-save"),
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: pids.exists() and pids.read_text().endswith("\n"), "the service was not asked")
    running.send_signal(number)
    _, errors = finish(running)
    if number is signal.SIGINT:
        last = errors.splitlines()[-1]
        assert (running.returncode, last) == (130, "racebench: interrupted; no server, worker or schema is left")
    numbers = [int(line) for line in pids.read_text().split()]
    wait_for(lambda: not any(map(_runs, numbers)), "the service is left")
    # What a killed command has left of its embedded server is the next one's to delete.
    clean = (sys.executable, "-m", "racebench", "server", "clean")
    subprocess.run(clean, cwd=tmp_path, check=True, capture_output=True)


def test_compare_takes_each_request_as_a_strategy(bench: racebench.Bench, folder: Path) -> None:
    compared = bench.compare(
        get("locked"),
        get("buy"),
        serve=racebench.service(service(folder), expect_status="200,409"),
        workers=1,
        operations=3,
        rounds=2,
        setup=SETUP,
        invariant=(),
    )
    assert {run.strategy for run in compared.runs} == {"get-locked", "get-buy"}
    assert all(run.counts["committed"] == 3 for run in compared.runs)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
