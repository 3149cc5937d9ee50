"""The demo on a terminal: keys, sizes, colors, and every way in which it can end."""

from __future__ import annotations

import os
import re
import signal
import termios
import tty
from pathlib import Path
from urllib.parse import quote

import pytest

from conftest import UsersServer
from demos import OpenDemo, embedded_servers
from racebench.demo import terminal
from racebench.demo.terminal import Key
from waiting import LIMIT_S, wait_for


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (" ", [Key.FORWARD]),
        ("\x1b[C\x1b[D", [Key.FORWARD, Key.BACK]),
        ("\x1bOC\x1b[6~\x1b[5~", [Key.FORWARD, Key.FORWARD, Key.BACK]),
        ("b\x7frq?", [Key.BACK, Key.BACK, Key.RESTART, Key.QUIT, Key.HELP]),
        ("\x1b", [Key.OTHER]),
        ("\x1b[1;5Cx", [Key.OTHER, Key.OTHER]),
        ("é", [Key.OTHER]),
        ("", []),
    ],
)
def test_keys(sent: str, expected: list[Key]) -> None:
    assert terminal.parse(sent) == expected


def test_the_twin_walkthrough_by_its_keys(open_demo: OpenDemo, cache_folder: Path) -> None:
    before = embedded_servers(cache_folder)
    demo = open_demo("--fix", "advisory")
    first = demo.until("Two rows with one version", "the start · part 1 of 2", "q quit")
    assert "table events, committed rows: none" in first
    assert "cursor at version 0" in first
    assert demo.screen.cursor.hidden
    demo.press(" ")
    demo.until("step 1 of 10", "► BEGIN")
    demo.press("\x1b[C")
    second = demo.until("step 2 of 10", "its row will be version 1", "→ version = 1")
    demo.press("b")
    demo.until("step 1 of 10", "from memory")
    demo.press(" ")
    assert demo.until("step 2 of 10") == second
    for step in range(3, 11):
        demo.press(" ")
        demo.until(f"step {step} of 10")
    demo.press(" ")
    demo.until("the end · part 1 of 2", "ANOMALY (duplicates: 1, missed: 1)", "‼ DUPLICATE  ‼ MISSED")
    demo.press(" ")
    demo.until("the fix: advisory", "the start · part 2 of 2")
    demo.press("     ")
    demo.until("step 5 of 12", "session 2: WAITS", "WAITS for session 1")
    demo.press("r")
    demo.until("the start · part 2 of 2")
    demo.press(" " * 14)
    demo.until("the end · part 2 of 2", "No anomaly", "THE END")
    demo.press(" ")
    demo.press("q")
    assert demo.end() == 0
    demo.assert_as_before()
    left = demo.seen.decode().rpartition("\x1b[?1049l")[2]
    assert "naive, consumer cursor: duplicates: 1, missed: 1" in left
    assert "the fix: advisory, consumer cursor: no anomaly" in left
    assert "racebench demo 'v1:version-counter/naive+cursor[" in left
    assert embedded_servers(cache_folder) == before


@pytest.mark.server
def test_going_back_shows_what_was_and_again_starts_afresh(open_demo: OpenDemo) -> None:
    demo = open_demo("slow-commit", "--fix", "none")
    demo.until("the start")
    demo.press("    ")
    demo.until("step 4 of 8", "gets version 2")
    demo.press("r")
    demo.until("the start")
    demo.press("  ")
    demo.until("step 2 of 8", "gives it version 1")  # a fresh sequence too
    demo.press("\x1b[5~\x1b[5~\x1b[5~\x1b[5~")
    demo.until("the start", "from memory")
    demo.press("\x1b[6~" * 9)
    demo.until("the end", "ANOMALY (missed: 1)")
    demo.press("q")
    assert demo.end() == 0
    demo.assert_as_before()


@pytest.mark.server
def test_help_notes_and_a_key_that_means_nothing(open_demo: OpenDemo) -> None:
    demo = open_demo("twin")
    demo.until("the start")
    demo.press("?")
    demo.until("Keys", "any key")
    demo.press("x")
    demo.until("the start", "q quit")
    assert "Notes:" not in demo.text
    demo.press("n")
    demo.until("Notes: Ask who has")
    demo.press("xz\x1b")
    demo.press(" ")
    demo.until("step 1 of 10")
    demo.press("q")
    assert demo.end() == 0


@pytest.mark.server
def test_autoplay_is_stopped_by_a_key(open_demo: OpenDemo) -> None:
    demo = open_demo("error-500", "--fix", "none", "--autoplay", "0.05")
    demo.until("the end", "ANOMALY (refused: 1)", "THE END")
    demo.press("r")
    demo.until("the end", "THE END")
    demo.press("q")
    assert demo.end() == 0


@pytest.mark.server
def test_another_size_is_drawn_again_and_too_small_is_said(open_demo: OpenDemo) -> None:
    demo = open_demo("twin")
    demo.until("the start")
    demo.press("  ")
    demo.until("step 2 of 10")
    demo.resize(120, 40)
    wide = demo.until("step 2 of 10", "✓ BEGIN")
    wait_for(lambda: bool(demo.read() or "─" * 120 in demo.text), "not drawn at its new width")
    assert "SELECT coalesce(max(version), 0) + 1" in demo.text, wide
    demo.resize(60, 20)
    demo.until("60 × 20 is too small", "80 × 24")
    demo.resize(80, 24)
    demo.until("step 2 of 10", "q quit")
    demo.press("q")
    assert demo.end() == 0
    demo.assert_as_before()


def test_a_terminal_too_small_from_the_start_is_one_line(open_demo: OpenDemo) -> None:
    demo = open_demo("twin", size=(70, 24))
    assert demo.end() == 2
    said = " ".join(demo.seen.decode().split())
    assert said.startswith("racebench: a terminal of 70 × 24 is too small, the demo needs 80 × 24")
    assert b"\x1b" not in demo.seen


def colors(data: bytes) -> set[str]:
    codes = (code for sequence in re.findall(rb"\x1b\[([\d;]*)m", data) for code in sequence.decode().split(";"))
    return {code for code in codes if re.fullmatch(r"[34]\d|9\d|10\d", code)}


@pytest.mark.server
def test_no_color_takes_the_colors_and_leaves_the_words(open_demo: OpenDemo) -> None:
    for env, colored in (({}, True), ({"NO_COLOR": "1"}, False)):
        demo = open_demo("twin", "--fix", "none", **env)
        demo.until("the start")
        demo.press(" " * 11)
        demo.until("ANOMALY (duplicates: 1, missed: 1)", "‼ DUPLICATE  ‼ MISSED")
        demo.press("q")
        assert demo.end() == 0
        assert bool(colors(demo.seen)) is colored


@pytest.mark.server
def test_a_terminal_with_ascii_alone_gets_ascii(open_demo: OpenDemo) -> None:
    demo = open_demo("twin", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii")
    demo.until("the start")
    demo.press(" ")
    demo.until("step 1 of 10", "> BEGIN")
    demo.press("q")
    assert demo.end() == 0
    assert demo.seen.isascii()


@pytest.mark.server
def test_a_dumb_terminal_gets_text(open_demo: OpenDemo) -> None:
    demo = open_demo("error-500", "--fix", "none", TERM="dumb")
    assert demo.end() == 0
    assert b"\x1b" not in demo.seen
    assert b"ANOMALY: refused: 1" in demo.seen


@pytest.mark.parametrize("steps", [0, 6])
@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM", "closed"])
def test_however_it_ends_the_terminal_is_as_before_and_nothing_is_left(
    how: str, steps: int, open_demo: OpenDemo, users_server: UsersServer
) -> None:
    """At the start, and while session 2 waits for session 1."""
    demo = open_demo("late-lock", "--dsn", users_server.dsn())
    demo.until("the start")
    demo.press(" " * steps)
    if steps:
        demo.until("step 6 of 12", "session 2: WAITS")
        assert users_server.sessions() > 0
    if how == "ctrl-c":
        demo.press("\x03")
    elif how == "SIGTERM":
        demo.process.send_signal(signal.SIGTERM)
    else:
        os.close(demo.master)
        demo.master = -1
        assert demo.process.wait(timeout=LIMIT_S) == 130
    if how != "closed":
        assert demo.end() == 130
        assert "racebench: interrupted; no server, worker or schema is left" in demo.text
        demo.assert_as_before()
    assert users_server.schemas() == []
    assert users_server.sessions() == 0


@pytest.mark.server
def test_it_can_be_suspended_and_continued(open_demo: OpenDemo) -> None:
    demo = open_demo("twin")
    demo.until("the start")
    demo.process.send_signal(signal.SIGTSTP)
    wait_for(lambda: Path(f"/proc/{demo.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "runs on")
    demo.read()
    assert termios.tcgetattr(demo.slave) == demo.before
    tty.setcbreak(demo.slave)  # as a shell may have done
    demo.process.send_signal(signal.SIGCONT)
    wait_for(lambda: bool(demo.read() or demo.seen.count(b"the start") > 1), "it does not draw again")
    demo.press(" ")
    demo.until("step 1 of 10")
    demo.press("q")
    assert demo.end() == 0
    demo.assert_as_before()


def test_interrupted_during_the_preparation(open_demo: OpenDemo, cache_folder: Path) -> None:
    before = embedded_servers(cache_folder)
    demo = open_demo("naive", "--scenario", "double-claim")
    wait_for(lambda: bool(embedded_servers(cache_folder) - before), "no server was started")
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 130
    assert termios.tcgetattr(demo.slave) == demo.before
    assert embedded_servers(cache_folder) == before


def test_a_server_that_ends_is_one_line_and_the_terminal_is_as_before(open_demo: OpenDemo, cache_folder: Path) -> None:
    before = embedded_servers(cache_folder)
    demo = open_demo("twin")
    demo.until("the start")
    demo.press("  ")
    demo.until("step 2 of 10")
    (server,) = embedded_servers(cache_folder) - before
    os.kill(server, signal.SIGQUIT)
    wait_for(
        lambda: not Path(f"/proc/{server}").exists() or "Z" in Path(f"/proc/{server}/stat").read_text(), "it runs on"
    )
    demo.press(" ")
    assert demo.end() == 6
    demo.assert_as_before()
    left = demo.seen.decode().rpartition("\x1b[?1049l")[2].split("\r\n")
    assert [line for line in left if line.startswith("racebench: the embedded server ended")], left
    assert "Traceback" not in demo.seen.decode()


def test_a_session_that_another_program_ends_ends_the_demo(open_demo: OpenDemo, users_server: UsersServer) -> None:
    demo = open_demo("twin", "--fix", "none", "--dsn", users_server.dsn())
    demo.until("the start")
    demo.press("  ")
    demo.until("step 2 of 10")
    victim = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'racebench%' AND state = 'idle in transaction'"
    )
    with users_server.connect() as connection:
        assert connection.execute(victim).fetchall() == [(True,)]
    demo.press("    ")
    assert demo.end() == 6
    demo.assert_as_before()
    left = demo.seen.decode().rpartition("\x1b[?1049l")[2]
    assert re.search(r"racebench: .*terminating connection due to administrator command", left)
    assert users_server.schemas() == []


def test_the_timeouts_of_the_server_do_not_end_a_demo(open_demo: OpenDemo, users_server: UsersServer) -> None:
    timeouts = "-c idle_in_transaction_session_timeout=200 -c lock_timeout=200 -c statement_timeout=200"
    demo = open_demo("late-lock", "--fix", "none", "--dsn", f"{users_server.dsn()}&options={quote(timeouts)}")
    demo.until("the start")
    demo.press(" " * 6)
    demo.until("session 2: WAITS")
    parked = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'racebench%session'"
        " AND (state = 'idle in transaction' OR wait_event_type = 'Lock') AND now() - state_change > interval '0.5 s'"
    )

    def are_parked() -> bool:
        with users_server.connect() as connection:
            return connection.execute(parked).fetchone() == (2,)

    wait_for(are_parked, "the sessions are not parked")
    demo.press(" " * 7)
    demo.until("ANOMALY (duplicates: 1, missed: 1)")
    demo.press("q")
    assert demo.end() == 0
    assert users_server.schemas() == []
