"""Workers behind PgBouncer: each mode accuses what it breaks, clears what it does not, and ends with the command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from poolers import needs_pgbouncer, pgbouncer

from conftest import Command, Start, UsersServer, assert_one_line, shows, shows_what_is_expected
from racebench.core.errors import DatabaseProblem
from racebench.core.faults import is_fault
from racebench.core.model import Protocol
from racebench.core.results import RunResult
from racebench.core.target import Pooling, Target
from racebench.core.verdict import Verdict
from racebench.load import stalls
from racebench.load import waits as waiting
from racebench.postgres import pgbouncer as program
from racebench.workloads import catalog
from waiting import finish, wait_for

Run = Callable[..., RunResult]
STATES = catalog.find_scenario("session-state").behind(Pooling.TRANSACTION).strategies
LEAKING = [name for name, strategy in STATES.items() if not strategy.right]
KEEPING = [name for name, strategy in STATES.items() if strategy.right]


def poolers_of(pid: int) -> list[int]:
    """The pids of the PgBouncers that a process has started."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"/pgbouncer") and b"--version" not in words:
                found.append(int(child))
    return found


@needs_pgbouncer
@pytest.mark.parametrize("strategy", LEAKING)
def test_state_of_a_session_leaks_in_transaction_pooling(hammer: Run, strategy: str) -> None:
    result = hammer(
        strategy, "", "session-state", pooler=Pooling.TRANSACTION, operations=80, think_us=1000,
        protocol=Protocol.SIMPLE, until=shows_what_is_expected,
    )  # fmt: skip
    assert result.verdict is Verdict.INVALID
    assert result.as_expected, (result.counts, result.errors)
    assert any(witness.kind == "violations" and witness.rows for witness in result.witnesses)


@needs_pgbouncer
@pytest.mark.parametrize("strategy", KEEPING)
def test_state_of_a_transaction_does_not(hammer: Run, strategy: str) -> None:
    result = hammer(strategy, "", "session-state", pooler=Pooling.TRANSACTION, operations=80, protocol=Protocol.SIMPLE)
    assert result.verdict is Verdict.VALID, result.witnesses
    assert result.counts["committed"] == 80
    assert result.errors == {}


@needs_pgbouncer
@pytest.mark.parametrize(
    ("mode", "scenario", "strategy", "verdict"),
    [
        (Pooling.SESSION, "session-state", "prepare", Verdict.VALID),
        (Pooling.SESSION, "version-counter", "session-advisory", Verdict.VALID),
        (Pooling.SESSION, "version-counter", "naive", Verdict.INVALID),
        (Pooling.TRANSACTION, "version-counter", "advisory", Verdict.VALID),
        (Pooling.STATEMENT, "session-state", "as-value", Verdict.VALID),
        (Pooling.STATEMENT, "session-state", "set", Verdict.INVALID),
    ],
)
def test_each_mode_breaks_what_it_is_known_to_break(
    hammer: Run, mode: Pooling, scenario: str, strategy: str, verdict: Verdict
) -> None:
    protocol = Protocol.PREPARED if mode is Pooling.SESSION else Protocol.SIMPLE
    result = hammer(
        strategy, "", scenario, pooler=mode, operations=160, think_us=1000, protocol=protocol,
        until=lambda result: result.verdict is verdict,
    )  # fmt: skip
    assert result.counts["committed"] == 160
    assert set(result.found) == (set() if verdict is Verdict.VALID else set(result.expected) - {"missed"})


@needs_pgbouncer
def test_a_session_lock_lets_two_number_at_once_and_its_idle_holder_is_named_at_once(
    hammer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not wait for --give-up-after, which is 300 s."""

    def caught(result: RunResult) -> bool:
        return shows("duplicates")(result) and any("held by" in note for note in result.notes)

    monkeypatch.setattr(stalls, "_SAY_SECONDS", 1.0)
    monkeypatch.setattr(waiting, "_QUIET_SECONDS", 0.5)
    result = hammer(
        "session-advisory", "", pooler=Pooling.TRANSACTION, operations=400, protocol=Protocol.SIMPLE, until=caught
    )
    assert result.verdict is Verdict.INVALID
    (waits,) = [note for note in result.notes if "held by" in note]
    assert "wait for Lock/advisory in 'SELECT pg_advisory_lock(" in waits
    assert " worker', idle)" in waits
    (given_up,) = [note for note in result.notes if note.startswith("gave up: no operation has ended for")]
    assert "none can: all wait for a lock that an idle session of the server keeps" in given_up


@needs_pgbouncer
def test_a_pooler_that_is_lost_is_no_fault_of_the_strategy(hammer: Run) -> None:
    killed: list[int] = []

    def kill(fraction: float) -> None:
        if fraction > 0.05 and not killed:
            killed.extend(poolers_of(os.getpid()))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    result = hammer(
        "advisory",
        "",
        pooler=Pooling.TRANSACTION,
        operations=None,
        duration_s=30.0,
        protocol=Protocol.SIMPLE,
        progress=kill,
    )
    assert len(killed) == 1
    assert poolers_of(os.getpid()) == []
    assert result.verdict is Verdict.UNKNOWN
    assert result.found == ()
    assert "gave up: PgBouncer ended (SIGKILL); what was in flight is UNKNOWN" in result.notes
    assert all(is_fault(sqlstate) for sqlstate in result.errors)


def _sockets(pid: int) -> int:
    """How many sockets a process has: a pooler listens on one, and has one more for each client and session."""
    count = 0
    for opened in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(opened.readlink()).startswith("socket:")
    return count


@needs_pgbouncer
@pytest.mark.server
def test_the_pooler_of_a_killed_command_ends(start: Start) -> None:
    process = start("run", "-s", "advisory", "-w", "2", "-d", "60", "--no-save", "--pooler", "transaction")
    wait_for(lambda: process.poll() is not None or poolers_of(process.pid), "no pooler was started")
    assert process.poll() is None, process.communicate()
    (pid,) = poolers_of(process.pid)
    wait_for(lambda: process.poll() is not None or _sockets(pid) > 1, "nobody connected to it")
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert {word.split(b"=")[0] for word in environment.split(b"\0") if word} <= {b"PATH", b"LC_ALL", b"TZ"}
    process.send_signal(signal.SIGKILL)
    finish(process)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the pooler does not end with its command")


@needs_pgbouncer
@pytest.mark.server
def test_the_command_names_the_pooler_and_leaves_nothing(racebench: Command, tmp_path: Path) -> None:
    done = racebench(
        *("compare", "session-state", "-s", "set", "-s", "as-value", "-n", "60", "--rounds", "2"),
        *("--pooler", "transaction", "--json", "out.json", "--no-save"),
        env={"TMPDIR": str(tmp_path)},  # which the pooler's user may not enter, if this is root
    )
    assert done.returncode == 0, done.stderr
    assert "through PgBouncer 1." in done.stdout
    assert "(transaction pooling, 4 sessions of the server)" in done.stdout
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["environment"]["pooler"]["mode"] == "transaction"
    assert document["environment"]["pooler"]["server_sessions"] == 4
    assert {run["protocol"] for run in document["runs"]} == {"simple"}
    assert list(tmp_path.glob("racebench-pooler-*")) == []


@needs_pgbouncer
@pytest.mark.server
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-s", "naive", "--pooler", "statement"), 6, "'naive' begins transactions, which statement pooling refuses"),
        (("-s", "naive", "--pooler", "transaction", "--protocol", "prepared"), 2, "use --protocol simple"),
    ],
)
def test_what_a_mode_cannot_do_is_said_in_one_line(
    racebench: Command, words: tuple[str, ...], code: int, said: str
) -> None:
    assert_one_line(racebench("run", *words, "-n", "8", "--no-save"), code, said)


def test_a_pgbouncer_that_is_not_installed_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(program, "_FOLDERS", ())
    with pytest.raises(DatabaseProblem, match=r"install it \(Debian's package 'pgbouncer'\)"):
        program.program()


@needs_pgbouncer
def test_a_users_server_is_reached_with_its_password_and_without_a_trace(
    racebench: Command, users_server: UsersServer
) -> None:
    words = ("-n", "80", "--pooler", "transaction", "--json", "-", "--no-save", "--dsn", users_server.dsn())
    done = racebench("run", "session-state", "-s", "set", "-s", "as-value", *words)
    assert done.returncode == 0, done.stderr
    leaking, right = json.loads(done.stdout)["runs"]
    assert (leaking["verdict"], right["verdict"]) == ("INVALID", "VALID")
    assert users_server.password not in done.stdout + done.stderr
    assert users_server.schemas() == []
    assert users_server.sessions() == 0


@needs_pgbouncer
def test_a_dsn_that_is_a_pooler_already_takes_no_other(racebench: Command, users_server: UsersServer) -> None:
    with pgbouncer(users_server, "session", ignore_startup_parameters="options") as dsn:
        done = racebench("run", "-s", "naive", "-n", "8", "--pooler", "transaction", "--no-save", "--dsn", dsn)
    assert_one_line(done, 6, "is a pooler already, in session pooling; leave out --pooler")


def test_the_words_of_pgbouncer_itself_are_faults() -> None:
    """query_wait_timeout, max_client_conn and "no more connections allowed" come as 08P01 or without a SQLSTATE."""
    assert is_fault("08P01")


def test_clients_share_sessions_unless_each_has_its_own(embedded: Target) -> None:
    assert [program.server_sessions(mode, 8) for mode in Pooling] == [8, 4, 4]
    assert program.server_sessions(Pooling.TRANSACTION, 1) == 2
    assert not embedded.configured
