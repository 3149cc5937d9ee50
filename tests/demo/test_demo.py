"""Every walkthrough on the real server, the demo on a terminal by its keys, and every export."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import termios
import tty
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from struct import pack
from types import SimpleNamespace
from urllib.parse import quote
from xml.etree import ElementTree

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from conftest import RACEBENCH, Command, UsersServer, assert_one_line
from racebench.cli import demonstrating
from racebench.cli.demonstrating import Ready
from racebench.cli.option_groups import TargetOptions
from racebench.cli.servers import Server
from racebench.core.model import Scenario
from racebench.core.target import Target
from racebench.demo import narration, player, schedules, screen, sql_layout, terminal, viewer, walkthroughs
from racebench.demo.exports import FORMATS, cast, markdown, mermaid
from racebench.demo.frames import Frame, Mark, State, TakenStep, clean
from racebench.demo.presentation import Caption, Part, ScheduleEntry, substitute
from racebench.demo.recording import Recording
from racebench.demo.screen import Place
from racebench.demo.terminal import Key
from racebench.workloads import catalog
from waiting import LIMIT_S, wait_for

Prepare = Callable[..., Ready]
CONSUMER = 3

# Walkthroughs


@pytest.fixture(scope="module")
def prepare(embedded: Target) -> Iterator[Prepare]:
    """Find and rehearse what `racebench demo NAME …` would show, on the tests' server."""
    with contextlib.ExitStack() as stack:

        def rehearsed(name: str | None = None, **given: object) -> Ready:
            asked = dict.fromkeys(("scenario", "consumer", "fix", "autoplay", "export", "output"))
            target = TargetOptions(server="18", dsn=None)
            made = demonstrating.plan(name, **{**asked, "notes": False, "target": target, **given})  # type: ignore[arg-type]
            tests_server = Server(target=embedded, version=18)
            return stack.enter_context(demonstrating.ready(replace(made, server=tests_server), lambda *_: None))

        yield rehearsed


def acts(ready: Ready) -> Iterator[tuple[Part, tuple[Frame, ...]]]:
    yield from zip(ready.presentation.parts, ready.recording.parts, strict=True)


def lost(frames: tuple[Frame, ...]) -> dict[str, int]:
    return {anomaly.kind: anomaly.count for anomaly in frames[-1].anomalies or ()}


def waits(frames: tuple[Frame, ...]) -> bool:
    return any(lane.waits for frame in frames for lane in frame.lanes)


@pytest.mark.parametrize("name", walkthroughs.WALKTHROUGHS)
def test_every_caption_is_shown_at_its_step_and_the_end_has_the_expected_anomalies(name: str, prepare: Prepare) -> None:
    ready = prepare(name)
    walkthrough = walkthroughs.WALKTHROUGHS[name]
    told = [(part, frames) for part, frames in acts(ready) if part.captions]
    assert len(told) == len(walkthrough.parts)
    for part, frames in told:
        first, *steps, end = frames
        assert first.sentence == clean(part.opening)
        assert len(steps) == len(part.captions)
        for frame, caption in zip(steps, part.captions, strict=True):
            assert frame.step is not None
            assert caption.matches(frame.step), (caption.text, frame.step)
            assert frame.sentence == clean(caption.render(frame.step))
            assert "?" not in frame.sentence
        assert lost(frames) == dict(part.expected)
        assert end.sentence == part.closing


@pytest.mark.parametrize("name", [name for name, walkthrough in walkthroughs.WALKTHROUGHS.items() if walkthrough.fix])
def test_with_the_fix_a_session_waits_in_the_same_schedule_and_there_is_no_anomaly(name: str, prepare: Prepare) -> None:
    *_, (part, frames) = acts(prepare(name))
    assert part.strategy.name == walkthroughs.WALKTHROUGHS[name].fix
    assert part.strategy.right
    assert waits(frames)
    assert lost(frames) == {}
    assert frames[-1].verdict == "no anomaly"
    assert "had to wait" in frames[-1].sentence


def test_the_twin_walkthrough_shows_the_rows_the_cursor_and_the_anomalies(prepare: Prepare) -> None:
    (_, frames), _ = acts(prepare("twin"))
    end = frames[-1]
    (table,) = end.tables
    assert [row.cells[1:] for row in table.rows] == [("1", "session 1"), ("1", "session 2")]
    assert [row.marks for row in table.rows] == [(Mark.DUPLICATE, Mark.DELIVERED), (Mark.DUPLICATE, Mark.MISSED)]
    assert end.consumer is not None
    assert end.consumer.cursor == "version 1"
    assert len(end.consumer.delivered) == 1
    assert [anomaly.description for anomaly in end.anomalies or ()] == [
        "rows 1 and 2 have the same version 1",
        "the consumer will never deliver row 2 (version 1, by session 2)",
    ]
    committed = [len(frame.tables[0].rows) for frame in frames]
    assert committed == sorted(committed)  # a separate connection reads the tables: uncommitted rows are not in them
    assert committed[5] == 0  # session 1 has inserted, and not committed


def test_a_waiting_session_names_its_blocker_and_is_skipped(prepare: Prepare) -> None:
    _, (_, frames) = acts(prepare("slow-commit"))
    alone = next(frame for frame in frames if frame.step is None and "It is skipped" in frame.sentence)
    assert "continues with session 2, but it still waits for session 1" in alone.sentence
    waiting = alone.lanes[1]
    assert waiting.status == "WAITS for session 1"
    assert [line.state for line in waiting.lines][:2] == [State.DONE, State.WAITS]


def test_a_fix_that_does_not_work_is_shown_with_its_anomaly(prepare: Prepare) -> None:
    _, (part, frames) = acts(prepare("twin", fix="sequence"))
    assert part.heading.startswith("again: sequence")
    assert lost(frames) == {}  # this schedule shows no anomaly of the sequence
    _, (_, frames) = acts(prepare("slow-commit", fix="identity"))
    assert lost(frames) == {"missed": 1}


def test_captions_are_not_used_for_another_script(embedded: Target, prepare: Prepare) -> None:
    """The sentences of the twin, over a script in which the second session is refused: none of them is false."""
    part = prepare("twin").presentation.parts[0]
    other = replace(
        part, strategy=part.scenario.strategies["unique"], schedule=prepare("error-500").presentation.parts[0].schedule
    )
    frames = list(player.play(embedded, other, 0))
    said = [frame.sentence for frame in frames]
    assert said[1:6] == [
        clean(caption.render(frame.step)) for caption, frame in zip(part.captions, frames[1:6], strict=False)
    ]
    assert said[6] == "Session 2 has to wait for session 1."
    assert said[7].startswith("Session 1 commits. Session 2 goes on, and the server refuses it: ERROR 23505")
    assert said[-1] != clean(part.closing)
    assert lost(tuple(frames)) == {"refused": 1}


def test_a_caption_matches_its_session_its_statement_and_its_answer() -> None:
    caption = Caption(
        session=1, statement="SELECT", answer="version = ", text="It gets {version}, {new} and {nothing}."
    )
    taken = TakenStep(session=1, line=0, sent="SELECT 1", answer="version = 7, other = 8; 2 new")
    assert caption.matches(taken)
    assert caption.render(taken) == "It gets 7, 2 and ?."
    assert not caption.matches(replace(taken, session=2))
    assert not caption.matches(replace(taken, sent="INSERT"))
    assert not caption.matches(replace(taken, answer=""))
    assert not caption.matches(replace(taken, waits_for=("s2",)))
    assert substitute("{version}", "cursor at xid = 5, version = 3") == "3"


@pytest.mark.parametrize(
    ("answered", "said", "refused"),
    [
        (["INSERT 0 1"], "1 row", False),
        (["UPDATE 0"], "0 rows", False),
        (["BEGIN", "COMMIT", "LOCK TABLE"], "", False),
        (["pg_advisory_xact_lock = "], "", False),
        (["version = 1", "INSERT 0 2"], "version = 1; 2 rows", False),
        (["ERROR 23505: duplicate key", "ROLLBACK"], "ERROR 23505: duplicate key", True),
        (["payload = an ERROR 23505: text, 3 new"], "payload = an ERROR 23505: text", False),
        (["2 new; cursor at version = 2"], "2 new; cursor at version = 2", False),
        (["0 new"], "0 new", False),
    ],
)
def test_an_answer_is_summarized(answered: list[str], said: str, refused: bool) -> None:
    assert narration.summarize_answer(answered) == said
    assert narration.is_refused(answered) is refused


@pytest.mark.parametrize(
    ("old", "new", "places"),
    [
        (["BEGIN", "SELECT", "INSERT", "COMMIT"], ["BEGIN", "SELECT lock", "SELECT", "INSERT", "COMMIT"], [0, 2, 3, 4]),
        (["BEGIN", "SELECT", "INSERT", "COMMIT"], ["BEGIN", "LOCK", "SELECT", "INSERT", "COMMIT"], [0, 2, 3, 4]),
        (["BEGIN", "SELECT", "INSERT", "COMMIT"], ["BEGIN", "INSERT", "COMMIT"], [0, 0, 1, 2]),
        (["BEGIN", "INSERT", "COMMIT"], ["INSERT"], [0, 1, 2]),
        (["SELECT"], ["UPDATE"], [-1]),
    ],
)
def test_a_schedule_is_transferred_to_another_script(old: list[str], new: list[str], places: list[int]) -> None:
    assert schedules.matching_statements(old, new) == places


# Strategies and schedules without a walkthrough


@pytest.mark.parametrize(
    ("name", "scenario", "kinds"),
    [
        ("trigger-max", None, {"duplicates", "missed"}),
        ("identity", None, {"missed"}),
        ("naive", "oversell", {"violations"}),
        ("naive", "lost-update", {"violations"}),
    ],
)
def test_a_broken_strategy_is_shown_with_an_anomaly_and_its_fix_waits(
    name: str, scenario: str | None, kinds: set[str], prepare: Prepare
) -> None:
    (_, broken), (_, mended) = acts(prepare(name, scenario=scenario))
    assert set(lost(broken)) == kinds
    assert "have an anomaly; this is one" in broken[0].sentence
    assert lost(mended) == {}
    assert waits(mended)


def test_a_broken_invariant_is_shown(prepare: Prepare) -> None:
    (_, frames), _ = acts(prepare("naive", scenario="lost-update"))
    assert "sum-kept is broken: tenant 1, balance 1, deposited 2" in frames[-1].sentence
    accounts, deposits = frames[-1].tables
    assert (accounts.name, deposits.name) == ("accounts", "deposits")
    assert [row.cells for row in deposits.rows] == [("1", "session 1"), ("1", "session 2")]


@pytest.mark.parametrize("name", ["upsert", "table-lock", "parent-row-lock"])
def test_a_right_strategy_is_shown_with_a_wait(name: str, prepare: Prepare) -> None:
    ((part, frames),) = acts(prepare(name))
    assert re.search(
        r"(All )?\d+ schedules were just run; none has an anomaly\. In this one a session has to wait", part.opening
    )
    assert waits(frames)
    assert lost(frames) == {}


@pytest.mark.parametrize(
    ("name", "price"), [("serializable-retry", "refused and tried again"), ("commit-stamp", "no session had to wait")]
)
def test_a_right_strategy_without_a_wait_says_so(name: str, price: str, prepare: Prepare) -> None:
    ((part, frames),) = acts(prepare(name))
    assert "Here the sessions overlap, and none has to wait" in part.opening
    assert not waits(frames)
    assert price in frames[-1].sentence


def test_a_race_inside_one_statement_is_not_called_none(prepare: Prepare) -> None:
    (part, _), *_ = acts(prepare("lock-trigger-default"))
    assert "Its race is inside one statement: use racebench run to see it" in part.opening


def test_a_schedule_with_an_anomaly_only_on_used_sessions_is_not_shown_as_a_witness(
    prepare: Prepare, tmp_path: Path
) -> None:
    files = {
        "scenario.toml": """
summary = "sessions that remember"
schema = "schema.sql"
forbid = ["violations"]
[invariants]
new = "SELECT * FROM t WHERE used"
[strategies.remembers]
summary = "a setting of the session outlives the transaction"
script = "remembers.sql"
expect = ["violations"]
""",
        "schema.sql": "CREATE TABLE t (tenant int, used boolean);",
        "remembers.sql": "BEGIN;\n"
        "INSERT INTO t VALUES (:tenant, coalesce(current_setting('my.past', true), '') <> '');\n"
        "SELECT set_config('my.past', 'one', false);\nCOMMIT;",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ((part, frames),) = acts(prepare("remembers", scenario=str(tmp_path)))
    assert "this is one" not in part.opening
    assert re.search(r"\d+ of \d+ schedules had an anomaly, but none with new sessions", part.opening)
    assert lost(frames) == {}


def test_a_table_that_cannot_be_read_is_shown_as_locked(prepare: Prepare) -> None:
    (_, frames), *_ = acts(prepare("one-statement", scenario="migration", fix="none"))
    assert any(table.locked and "cannot be read now" in table.title for frame in frames for table in frame.tables)


def test_a_schedule_is_played_as_it_is_and_is_its_own(prepare: Prepare) -> None:
    text = prepare("late-lock").recording.schedules[0]
    (part, frames), _ = acts(prepare(text))
    assert part.schedule == tuple(
        ScheduleEntry(session=int(each)) for each in re.findall(r"s(\d)", text.rpartition(":")[2])
    )
    assert lost(frames) == {"duplicates": 1, "missed": 1}
    assert prepare(text).recording.schedules[0] == text


# The screen


@pytest.mark.parametrize("name", walkthroughs.WALKTHROUGHS)
@pytest.mark.parametrize("size", [(80, 24), (132, 43), (250, 70)])
@pytest.mark.parametrize("marks", [screen.UNICODE, screen.ASCII])
def test_a_frame_fills_its_screen_and_loses_no_word_that_matters(
    name: str, size: tuple[int, int], marks: screen.Marks, prepare: Prepare
) -> None:
    width, height = size
    shown = prepare(name).recording
    for frame in shown.frames:
        place = Place(title=shown.title, parts=2, steps=12, footer="keys", notes=True)
        lines = screen.draw(frame, place, width, height, marks=marks)
        assert len(lines) == height
        assert {line.cell_len for line in lines} == {width}
        text = "\n".join(line.plain.rstrip() for line in lines)
        if marks is screen.ASCII:
            assert not set("►✓‖✗→‼│─·…") & set(text.replace(frame.sentence, ""))
        assert " ".join(frame.sentence.split()) in " ".join(text.split())
        for row in (row for table in frame.tables for row in table.rows):
            assert all(mark.value in text for mark in row.marks)
        for lane in frame.lanes:
            if lane.waits:
                assert "WAITS" in text
                assert lane.status in " ".join(text.split()) or width == 80
        if frame.step is not None and not frame.step.waits_for:
            now = [line for line in text.splitlines() if marks.now in line]
            assert now or any(line.state is State.REFUSED for lane in frame.lanes for line in lane.lines)
        if frame.ended and frame.anomalies:
            assert frame.verdict in " ".join(text.split())


def test_a_terminal_that_is_too_small_is_told_its_size(prepare: Prepare) -> None:
    frame = prepare("twin").recording.frames[0]
    place = Place(title="", parts=1, steps=1)
    for width, height in ((79, 24), (80, 23), (20, 5), (1, 1)):
        lines = screen.draw(frame, place, width, height)
        assert len(lines) == height
        assert {line.cell_len for line in lines} == {width}
    text = " ".join(line.plain for line in screen.draw(frame, place, 60, 10))
    assert "60 × 10 is too small, the demo needs 80 × 24" in " ".join(text.split())


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


# On a terminal


class Seat:
    """A terminal with the demo on it: what it shows, and its keys."""

    def __init__(self, folder: Path, *arguments: str, size: tuple[int, int] = (80, 24), **env: str) -> None:
        self.master, self.slave = os.openpty()
        self.screen = pyte.Screen(*size)
        self.stream = pyte.ByteStream(self.screen)
        self.seen = b""
        self.resize(*size, tell=False)
        self.before = termios.tcgetattr(self.slave)
        environment = {
            name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")
        }
        self.process = subprocess.Popen(
            [*RACEBENCH, "demo", *arguments],
            cwd=folder,
            env={**environment, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **env},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call, no lock
        )

    def resize(self, width: int, height: int, *, tell: bool = True) -> None:
        self.screen.resize(height, width)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, pack("HHHH", height, width, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self, seconds: float = 0.02) -> None:
        while select.select([self.master], (), (), seconds)[0]:
            data = os.read(self.master, 65536)
            self.seen += data
            self.stream.feed(data)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def until(self, *words: str) -> str:
        """Wait until all of these are on the screen; what is on it."""
        wait_for(lambda: self.read() or all(word in self.text for word in words), lambda: f"no {words}:\n{self.text}")
        return self.text

    def end(self) -> int:
        """Wait until the command is over, whatever it still prints; its exit code."""
        wait_for(lambda: self.read() or self.process.poll() is not None, lambda: f"it goes on:\n{self.text}")
        self.read()
        return self.process.returncode

    def assert_as_before(self) -> None:
        """The terminal echoes again, has its own screen and its cursor."""
        assert termios.tcgetattr(self.slave) == self.before
        assert self.seen.count(b"\x1b[?1049h") == self.seen.count(b"\x1b[?1049l")
        assert self.seen.count(b"\x1b[?25l") == self.seen.count(b"\x1b[?25h")
        assert not self.screen.cursor.hidden

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.slave)
        if self.master >= 0:
            os.close(self.master)


Sit = Callable[..., Seat]


@pytest.fixture
def sit(tmp_path: Path) -> Iterator[Sit]:
    with contextlib.ExitStack() as stack:

        def take(*arguments: str, **given: object) -> Seat:
            return stack.enter_context(contextlib.closing(Seat(tmp_path, *arguments, **given)))  # type: ignore[arg-type]

        yield take


def servers(cache: Path) -> set[int]:
    """The embedded servers that run."""
    found = set()
    for file in cache.glob("postgresql-*/slot-*/data/postmaster.pid"):
        with contextlib.suppress(FileNotFoundError, ValueError):  # just gone, or not written yet
            found.add(int(file.read_text().split("\n", 1)[0]))
    return found


def test_the_twin_by_its_keys(sit: Sit, cache_folder: Path) -> None:
    before = servers(cache_folder)
    seat = sit("--fix", "advisory")
    first = seat.until("Two rows with one version", "the start · part 1 of 2", "q quit")
    assert "table events, committed rows: none" in first
    assert "cursor at version 0" in first
    assert seat.screen.cursor.hidden
    seat.press(" ")
    seat.until("step 1 of 10", "► BEGIN")
    seat.press("\x1b[C")
    second = seat.until("step 2 of 10", "its row will be version 1", "→ version = 1")
    seat.press("b")
    seat.until("step 1 of 10", "from memory")
    seat.press(" ")
    assert seat.until("step 2 of 10") == second
    for step in range(3, 11):
        seat.press(" ")
        seat.until(f"step {step} of 10")
    seat.press(" ")
    seat.until("the end · part 1 of 2", "ANOMALY (duplicates: 1, missed: 1)", "‼ DUPLICATE  ‼ MISSED")
    seat.press(" ")
    seat.until("the fix: advisory", "the start · part 2 of 2")
    seat.press("     ")
    seat.until("step 5 of 12", "session 2: WAITS", "WAITS for session 1")
    seat.press("r")
    seat.until("the start · part 2 of 2")
    seat.press(" " * 14)
    seat.until("the end · part 2 of 2", "No anomaly", "THE END")
    seat.press(" ")
    seat.press("q")
    assert seat.end() == 0
    seat.assert_as_before()
    left = seat.seen.decode().rpartition("\x1b[?1049l")[2]
    assert "naive, consumer cursor: duplicates: 1, missed: 1" in left
    assert "the fix: advisory, consumer cursor: no anomaly" in left
    assert "racebench demo 'v1:version-counter/naive+cursor[" in left
    assert servers(cache_folder) == before


@pytest.mark.server
def test_going_back_shows_what_was_and_again_starts_afresh(sit: Sit) -> None:
    seat = sit("slow-commit", "--fix", "none")
    seat.until("the start")
    seat.press("    ")
    seat.until("step 4 of 8", "gets version 2")
    seat.press("r")
    seat.until("the start")
    seat.press("  ")
    seat.until("step 2 of 8", "gives it version 1")  # a fresh sequence too
    seat.press("\x1b[5~\x1b[5~\x1b[5~\x1b[5~")
    seat.until("the start", "from memory")
    seat.press("\x1b[6~" * 9)
    seat.until("the end", "ANOMALY (missed: 1)")
    seat.press("q")
    assert seat.end() == 0
    seat.assert_as_before()


@pytest.mark.server
def test_help_notes_and_a_key_that_means_nothing(sit: Sit) -> None:
    seat = sit("twin")
    seat.until("the start")
    seat.press("?")
    seat.until("Keys", "any key")
    seat.press("x")
    seat.until("the start", "q quit")
    assert "Notes:" not in seat.text
    seat.press("n")
    seat.until("Notes: Ask who has")
    seat.press("xz\x1b")
    seat.press(" ")
    seat.until("step 1 of 10")
    seat.press("q")
    assert seat.end() == 0


@pytest.mark.server
def test_by_itself_and_stopped_by_a_key(sit: Sit) -> None:
    seat = sit("error-500", "--fix", "none", "--autoplay", "0.05")
    seat.until("the end", "ANOMALY (refused: 1)", "THE END")
    seat.press("r")
    seat.until("the end", "THE END")
    seat.press("q")
    assert seat.end() == 0


@pytest.mark.server
def test_another_size_is_drawn_again_and_too_small_is_said(sit: Sit) -> None:
    seat = sit("twin")
    seat.until("the start")
    seat.press("  ")
    seat.until("step 2 of 10")
    seat.resize(120, 40)
    wide = seat.until("step 2 of 10", "✓ BEGIN")
    wait_for(lambda: bool(seat.read() or "─" * 120 in seat.text), "not drawn at its new width")
    assert "SELECT coalesce(max(version), 0) + 1" in seat.text, wide
    seat.resize(60, 20)
    seat.until("60 × 20 is too small", "80 × 24")
    seat.resize(80, 24)
    seat.until("step 2 of 10", "q quit")
    seat.press("q")
    assert seat.end() == 0
    seat.assert_as_before()


def test_a_terminal_too_small_from_the_start_is_one_line(sit: Sit) -> None:
    seat = sit("twin", size=(70, 24))
    assert seat.end() == 2
    said = " ".join(seat.seen.decode().split())
    assert said.startswith("racebench: a terminal of 70 × 24 is too small, the demo needs 80 × 24")
    assert b"\x1b" not in seat.seen


def colors(data: bytes) -> set[str]:
    codes = (code for found in re.findall(rb"\x1b\[([\d;]*)m", data) for code in found.decode().split(";"))
    return {code for code in codes if re.fullmatch(r"[34]\d|9\d|10\d", code)}


@pytest.mark.server
def test_no_color_takes_the_colors_and_leaves_the_words(sit: Sit) -> None:
    for env, colored in (({}, True), ({"NO_COLOR": "1"}, False)):
        seat = sit("twin", "--fix", "none", **env)
        seat.until("the start")
        seat.press(" " * 11)
        seat.until("ANOMALY (duplicates: 1, missed: 1)", "‼ DUPLICATE  ‼ MISSED")
        seat.press("q")
        assert seat.end() == 0
        assert bool(colors(seat.seen)) is colored


@pytest.mark.server
def test_a_terminal_with_ascii_alone_gets_ascii(sit: Sit) -> None:
    seat = sit("twin", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii")
    seat.until("the start")
    seat.press(" ")
    seat.until("step 1 of 10", "> BEGIN")
    seat.press("q")
    assert seat.end() == 0
    assert seat.seen.isascii()


@pytest.mark.server
def test_a_dumb_terminal_gets_text(sit: Sit) -> None:
    seat = sit("error-500", "--fix", "none", TERM="dumb")
    assert seat.end() == 0
    assert b"\x1b" not in seat.seen
    assert b"ANOMALY: refused: 1" in seat.seen


@pytest.mark.parametrize("steps", [0, 6])
@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM", "closed"])
def test_however_it_ends_the_terminal_is_as_before_and_nothing_is_left(
    how: str, steps: int, sit: Sit, users_server: UsersServer
) -> None:
    """At the start, and while session 2 waits for session 1."""
    seat = sit("late-lock", "--dsn", users_server.dsn())
    seat.until("the start")
    seat.press(" " * steps)
    if steps:
        seat.until("step 6 of 12", "session 2: WAITS")
        assert users_server.sessions() > 0
    if how == "ctrl-c":
        seat.press("\x03")
    elif how == "SIGTERM":
        seat.process.send_signal(signal.SIGTERM)
    else:
        os.close(seat.master)
        seat.master = -1
        assert seat.process.wait(timeout=LIMIT_S) == 130
    if how != "closed":
        assert seat.end() == 130
        assert "racebench: interrupted; no server, worker or schema is left" in seat.text
        seat.assert_as_before()
    assert users_server.schemas() == []
    assert users_server.sessions() == 0


@pytest.mark.server
def test_it_can_be_stopped_and_taken_up_again(sit: Sit) -> None:
    seat = sit("twin")
    seat.until("the start")
    seat.process.send_signal(signal.SIGTSTP)
    wait_for(lambda: Path(f"/proc/{seat.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "runs on")
    seat.read()
    assert termios.tcgetattr(seat.slave) == seat.before
    tty.setcbreak(seat.slave)  # whatever the shell did meanwhile
    seat.process.send_signal(signal.SIGCONT)
    wait_for(lambda: bool(seat.read() or seat.seen.count(b"the start") > 1), "it does not draw again")
    seat.press(" ")
    seat.until("step 1 of 10")
    seat.press("q")
    assert seat.end() == 0
    seat.assert_as_before()


def test_interrupted_while_it_gets_ready(sit: Sit, cache_folder: Path) -> None:
    before = servers(cache_folder)
    seat = sit("naive", "--scenario", "double-claim")
    wait_for(lambda: bool(servers(cache_folder) - before), "no server was started")
    seat.process.send_signal(signal.SIGINT)
    assert seat.end() == 130
    assert termios.tcgetattr(seat.slave) == seat.before
    assert servers(cache_folder) == before


def test_a_server_that_goes_away_is_one_line_and_the_terminal_is_as_before(sit: Sit, cache_folder: Path) -> None:
    before = servers(cache_folder)
    seat = sit("twin")
    seat.until("the start")
    seat.press("  ")
    seat.until("step 2 of 10")
    (server,) = servers(cache_folder) - before
    os.kill(server, signal.SIGQUIT)
    wait_for(
        lambda: not Path(f"/proc/{server}").exists() or "Z" in Path(f"/proc/{server}/stat").read_text(), "it runs on"
    )
    seat.press(" ")
    assert seat.end() == 6
    seat.assert_as_before()
    left = seat.seen.decode().rpartition("\x1b[?1049l")[2].split("\r\n")
    assert [line for line in left if line.startswith("racebench: the embedded server ended")], left
    assert "Traceback" not in seat.seen.decode()


def test_a_session_that_another_program_ends_ends_the_demo(sit: Sit, users_server: UsersServer) -> None:
    seat = sit("twin", "--fix", "none", "--dsn", users_server.dsn())
    seat.until("the start")
    seat.press("  ")
    seat.until("step 2 of 10")
    victim = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'racebench%' AND state = 'idle in transaction'"
    )
    with users_server.connect() as connection:
        assert connection.execute(victim).fetchall() == [(True,)]
    seat.press("    ")
    assert seat.end() == 6
    seat.assert_as_before()
    left = seat.seen.decode().rpartition("\x1b[?1049l")[2]
    assert re.search(r"racebench: .*terminating connection due to administrator command", left)
    assert users_server.schemas() == []


def test_the_timeouts_of_the_server_do_not_end_a_demo(sit: Sit, users_server: UsersServer) -> None:
    hasty = "-c idle_in_transaction_session_timeout=200 -c lock_timeout=200 -c statement_timeout=200"
    seat = sit("late-lock", "--fix", "none", "--dsn", f"{users_server.dsn()}&options={quote(hasty)}")
    seat.until("the start")
    seat.press(" " * 6)
    seat.until("session 2: WAITS")
    parked = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'racebench%session'"
        " AND (state = 'idle in transaction' OR wait_event_type = 'Lock') AND now() - state_change > interval '0.5 s'"
    )

    def talked() -> bool:
        with users_server.connect() as connection:
            return connection.execute(parked).fetchone() == (2,)

    wait_for(talked, "the sessions are not parked")
    seat.press(" " * 7)
    seat.until("ANOMALY (duplicates: 1, missed: 1)")
    seat.press("q")
    assert seat.end() == 0
    assert users_server.schemas() == []


# Without a terminal


@pytest.mark.server
def test_printed_it_is_text_and_the_same_again(racebench: Command) -> None:
    one, other = (racebench("demo", "--notes", env={"FORCE_COLOR": ""}) for _ in range(2))
    assert one.returncode == 0
    assert one.stdout == other.stdout
    assert one.stderr == ""
    assert "\x1b" not in one.stdout
    assert max(map(len, one.stdout.splitlines())) <= 120
    for phrase in (
        "ANOMALY: duplicates: 1, missed: 1",
        "s2 WAITS for s1",
        "[DUPLICATE] [MISSED]",
        "(Notes: Ask who has",
        "the end: No anomaly. The price: session 2 had to wait.",
    ):
        assert phrase in one.stdout
    schedule = re.search(r"racebench demo '(v1:.*naive.*)'", one.stdout)
    assert schedule is not None
    replayed = racebench("replay", schedule[1])
    assert replayed.returncode == 0
    assert "1 duplicate, 1 missed" in replayed.stdout


def test_the_list_names_every_telling(racebench: Command) -> None:
    listed = racebench("demo", "--list")
    assert listed.returncode == 0
    for walkthrough in walkthroughs.WALKTHROUGHS.values():
        assert walkthrough.name in listed.stdout
        assert walkthrough.title in listed.stdout


def test_on_the_users_server_too(racebench: Command, users_server: UsersServer) -> None:
    done = racebench("demo", "fix", "--dsn", users_server.dsn())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no anomaly") == 2
    assert users_server.schemas() == []
    assert users_server.sessions() == 0


@pytest.mark.server
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["twinn"], 2, "'twinn' is not a walkthrough or a strategy of version-counter; did you mean 'twin'?"),
        (["oversell"], 2, "'oversell' is a scenario: racebench demo [STRATEGY] --scenario oversell"),
        (["twin", "--consumer", "cursor"], 2, "walkthrough 'twin' has its own consumer"),
        (["twin", "--scenario", "oversell"], 2, "walkthrough 'twin' belongs to version-counter"),
        (["twin", "--fix", "advisry"], 2, "did you mean 'advisory'?"),
        (["naive", "--consumer", "gap-wait", "--fix", "clock"], 2, "cannot read what 'clock' writes"),
        (["clock", "--consumer", "gap-wait"], 2, "cannot read what 'clock' writes"),
        (["v1:version-counter/naive:s1.sX"], 2, "column 29: 'sX' is no session"),
        (["v1:version-counter/naive:s1.s1"], 2, "the schedule ends before the sessions do: s1 can go on"),
        (["v1:version-counter/naive[00000000]:s1"], 2, "the schedule is of another version of 'naive'"),
        (["v1:version-counter/naive:s120.s1"], 2, "the schedule is of 120 sessions"),
        (["v1:version-counter/naive+cursor:s1"], 2, "the schedule is of 0 sessions"),
        (
            ["v1:version-counter/advisory:s1.s1.s2.s2.s2.s2"],
            2,
            "'advisory' cannot follow this schedule: at step 5 s2 cannot go on, s1 can",
        ),
        (["v1:version-counter/naive:s1", "--consumer", "cursor"], 2, "a schedule has its own consumer"),
        (["--export", "pdf"], 2, "'pdf' is not one of"),
        (["-o", "demo.pdf"], 2, "'demo.pdf' does not say the format"),
        (["-o", "missing/demo.svg"], 2, "folder 'missing' does not exist"),
        (["--autoplay", "0"], 2, "--autoplay is a number above 0"),
        (["uuidv7", "--server", "16"], 6, "'uuidv7' needs PostgreSQL 18, this is 16"),
        (["--dsn", "postgresql://me:secret@127.0.0.1:1/x"], 6, "cannot connect to 127.0.0.1:1/x"),
    ],
)
def test_bad_input_is_one_line(racebench: Command, arguments: list[str], code: int, message: str) -> None:
    done = racebench("demo", *arguments)
    assert_one_line(done, code, message)
    assert "secret" not in done.stderr


# Exports

HOSTILE = '</script><script>alert(1)</script><b onclick="x">[bold]&amp;{0}%s`|`;#end'


@pytest.fixture
def hostile(tmp_path: Path) -> Scenario:
    """A scenario whose SQL, payload and answers are full of what other languages would run."""
    files = {
        "scenario.toml": """
title = "<i>Title</i> & {more}; #1"
summary = "markup"
schema = "schema.sql"
forbid = ["violations"]
[invariants]
"one</script>" = "SELECT payload FROM t GROUP BY payload HAVING count(*) > 1"
[strategies."a"]
summary = "<script>alert(2)</script>"
script = "a.sql"
expect = ["violations"]
""",
        "schema.sql": "CREATE TABLE t (tenant int, payload text);",
        "a.sql": f"BEGIN;\nSELECT '{HOSTILE}' || chr(27) || '[31m' || chr(7) AS \"<u>\" \\gset\n"
        f"INSERT INTO t VALUES (:tenant, '{HOSTILE}');\nCOMMIT;",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return catalog.find_scenario(str(tmp_path))


@pytest.fixture
def hostile_shown(hostile: Scenario, prepare: Prepare) -> Recording:
    shown = prepare("a", scenario=str(hostile.folder), notes=True).recording
    assert any(HOSTILE in line.text for frame in shown.frames for lane in frame.lanes for line in lane.lines)
    assert any(HOSTILE in cell for frame in shown.frames for t in frame.tables for row in t.rows for cell in row.cells)
    return shown


class Reading(HTMLParser):
    """A page's tags, its text, and what it would fetch."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


def read(page: str) -> Reading:
    reading = Reading()
    reading.feed(page)
    reading.close()
    assert reading.open == []
    return reading


def assert_fetches_nothing(text: str) -> None:
    assert re.findall(r"\b(?:src|href)\s*=|@import|url\(", text) == []
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []


def test_the_page_has_every_step_and_fetches_nothing(prepare: Prepare) -> None:
    shown = prepare("twin").recording
    page = FORMATS["html"](shown)
    assert_fetches_nothing(page)
    reading = read(page)
    text = " ".join(" ".join(reading.words).split())
    for frame in shown.frames:
        assert frame.sentence in text
    sections = [attributes for tag, attributes in reading.tags if tag == "section" and attributes["class"] == "frame"]
    assert len(sections) == len(shown.frames)
    assert [tag for tag, _ in reading.tags].count("script") == 1
    assert len(page) < 300_000


def test_what_is_markup_in_sql_is_text_in_the_page(hostile_shown: Recording) -> None:
    reading = read(FORMATS["html"](hostile_shown))
    assert [tag for tag, _ in reading.tags].count("script") == 1
    assert {"b", "i", "u"} & {tag for tag, _ in reading.tags} == set()
    assert HOSTILE in "".join(reading.words)
    assert not any(name.startswith("on") for _, attributes in reading.tags for name in attributes)


@pytest.mark.parametrize("name", ["twin", "hostile"])
def test_the_picture_is_xml_that_fetches_nothing_and_has_every_step(
    name: str, prepare: Prepare, hostile_shown: Recording
) -> None:
    shown = hostile_shown if name == "hostile" else prepare("twin").recording
    picture = FORMATS["svg"](shown)
    assert "@" not in re.sub(r"@(media|keyframes)", "", picture.partition("<rect")[0].replace(HOSTILE, ""))
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg",
        "title",
        "desc",
        "style",
        "rect",
        "g",
        "text",
    }
    style = next(element.text or "" for element in root.iter() if element.tag.endswith("style"))
    keys = re.findall(r"([\d.]+)% \{ transform: translateY\(-([\d.]+)px\); \}", style)
    assert len(keys) == len(shown.frames)
    heights = [float(height) for _, height in keys]
    assert heights == sorted(heights)
    # Each step's heading is drawn where the strip stands at that time.
    height = heights[1]
    tops = {round((float(text.get("y") or 0) - 20) / height, 3) for text in root.iter() if text.tag.endswith("text")}
    assert {top for top in tops if top == int(top)} == set(map(float, range(len(shown.frames))))
    assert_fetches_nothing(re.sub(r"<(desc|text)[^>]*>[^<]*</\1>", "", picture))


def test_the_readmes_picture_shows_the_current_walkthrough(prepare: Prepare) -> None:
    drawn = FORMATS["svg"](prepare("twin", fix="none").recording)
    saved = (Path(__file__).parents[2] / "docs" / "pictures" / "twin.svg").read_text()
    described = re.compile(r"<desc>(.*?)</desc>", re.DOTALL)
    (description,) = described.findall(drawn)
    assert described.findall(saved) == [description]


def test_the_recording_is_a_header_and_events_and_plays(prepare: Prepare) -> None:
    shown = prepare("twin").recording
    header, *events = [json.loads(line) for line in FORMATS["cast"](shown).splitlines()]
    assert header["version"] == 2
    assert (header["width"], header["height"]) == (80, 24)
    times = [event[0] for event in events]
    assert times == sorted(times)
    assert {event[1] for event in events} == {"o"}
    assert len(events) == len(shown.frames) + 1
    played = pyte.Screen(80, 24)
    stream = pyte.Stream(played)
    for frame, event in zip(shown.frames, events, strict=False):
        stream.feed(event[2])
        place = Place(title=shown.title, parts=2, steps=shown.steps(frame.part))
        assert [line.rstrip() for line in played.display] == [
            line.plain.rstrip() for line in screen.draw(frame, place, 80, 24)
        ]
    assert cast.render(replace(shown, pace=5.0)).splitlines()[2].startswith("[5.0, ")


def test_no_control_character_of_the_server_reaches_a_terminal(hostile_shown: Recording) -> None:
    _, *events = [json.loads(line) for line in FORMATS["cast"](hostile_shown).splitlines()]
    for event in events:
        rest = re.sub(r"\x1b\[(\?25[lh]|H|2J|[\d;]*m)", "", event[2]).replace("\r\n", "")
        assert all(each.isprintable() for each in rest)
    assert not any("\x1b[31m\x07" in event[2] for event in events)


MESSAGE = re.compile(r"    (s\d|db)(->>|-->>)(s\d|db): [^;#\n]*(#\w+;[^;#\n]*)*")
NOTE = re.compile(r"    Note over s\d(,db)?: [^;#\n]*(#\w+;[^;#\n]*)*")


@pytest.mark.parametrize("name", ["twin", "fix", "hostile"])
def test_the_diagram_is_mermaid_line_by_line(name: str, prepare: Prepare, hostile_shown: Recording) -> None:
    shown = hostile_shown if name == "hostile" else prepare(name).recording
    first, *lines = mermaid.render(shown).splitlines()
    assert first == "sequenceDiagram"
    assert lines[0].startswith("    title: ")
    participants = [line for line in lines if line.startswith("    participant ")]
    rest = lines[1 + len(participants) :]
    for line in rest:
        assert MESSAGE.fullmatch(line) or NOTE.fullmatch(line), line
    taken = [frame for frame in shown.frames if frame.step is not None]
    assert sum("->>db" in line for line in rest) == len(taken)
    if name == "twin":
        assert "    Note over s2: WAITS for session 1" in rest
        assert "    Note over s1,db: ANOMALY: duplicates: 1, missed: 1" in rest


def test_what_is_special_to_mermaid_is_an_entity() -> None:
    assert mermaid.escape("style a:x#b; c") == "#115;tyle a:x#35;b#59; c"
    assert mermaid.escape('a;b\n#1 <x> & "y"') == "a#59;b #35;1 #lt;x#gt; #amp; #quot;y#quot;"


def test_the_markdown_is_a_table_with_a_row_a_step(prepare: Prepare, hostile_shown: Recording) -> None:
    for shown in (prepare("twin").recording, hostile_shown):
        lines = markdown.render(shown).splitlines()
        table = [line for line in lines if line.startswith("| ") and not line.startswith("| ---")]
        bars = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
        assert set(bars) <= {5, 6, 3}
        numbered = [line for line in table if re.match(r"\| \d+ \| .* \| .* \| .* \|$", line)]
        assert len(numbered) >= sum(frame.step is not None for frame in shown.frames)
    assert "**Anomaly: duplicates: 1, missed: 1.**" in markdown.render(prepare("twin").recording)


def test_a_wait_is_named_alike_in_every_export(prepare: Prepare) -> None:
    shown = prepare("late-lock").recording
    assert "Note over s2: WAITS for session 1\n" in mermaid.render(shown)
    assert "MODE` **WAITS** for session 1 |" in markdown.render(shown)


def test_the_markdown_is_read_as_tables_and_text(prepare: Prepare, hostile_shown: Recording) -> None:
    for shown in (prepare("twin").recording, hostile_shown):
        tokens = MarkdownIt("commonmark").enable("table").parse(markdown.render(shown))
        kinds = [token.type for token in tokens]
        inline = [child.type for token in tokens for child in token.children or ()]
        assert "html_block" not in kinds
        assert "html_inline" not in inline
        rows = sum(frame.step is not None for frame in shown.frames)
        assert kinds.count("tr_open") >= rows + len(shown.schedules)
        assert kinds.count("heading_open") == 1 + len(shown.schedules)
        steps = [token.content for token in tokens if token.type == "inline" and token.content.isdecimal()]
        assert len(steps) >= rows


@pytest.mark.parametrize(
    ("text", "expected"), [("a | b", r"`a \| b`"), ("a `b` c", "`` a `b` c ``"), ("plain", "`plain`")]
)
def test_code_in_a_table(text: str, expected: str) -> None:
    assert markdown.code(text) == expected


@pytest.mark.server
@pytest.mark.parametrize("format_", FORMATS)
def test_the_command_writes_each_format(format_: str, racebench: Command, tmp_path: Path) -> None:
    suffix = {"mermaid": "mmd"}.get(format_, format_)
    done = racebench("demo", "error-500", "--fix", "none", "-o", f"demo.{suffix}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    printed = racebench("demo", "error-500", "--fix", "none", "--export", format_)
    assert printed.stdout == (tmp_path / f"demo.{suffix}").read_text()
    assert "23505" in printed.stdout


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""A browser, if there is one here: what the page does is looked at in it; what it is, is tested without."""

if CHROMIUM is not None:
    PRESSED = """<script>
      var said = [];
      function press(key) { document.dispatchEvent(new KeyboardEvent("keydown", { key: key })); note(); }
      function note() { said.push(document.getElementById("place").textContent); }
      window.onerror = function (problem) { said.push("ERROR " + problem); };
      note(); press("ArrowRight"); press(" "); press("b"); press("End"); press("PageUp"); press("Home");
      document.getElementById("next").click(); note();
      document.getElementById("back").click(); note();
      document.title = said.join("|");
    </script></body>"""

    def browse(folder: Path, page: str, place: str) -> Reading:
        """The page as a browser has it in the end."""
        file = folder / "page.html"
        file.write_text(page)
        command = [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder / 'browser'}",
        ]
        command += ["--virtual-time-budget=2000", "--dump-dom", f"{file.as_uri()}#{place}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
        return read(done.stdout)

    def test_a_browser_shows_one_step_at_a_time_and_runs_nothing_of_the_server(
        hostile_shown: Recording, tmp_path: Path
    ) -> None:
        reading = browse(tmp_path, FORMATS["html"](hostile_shown), "3")
        sections = [attributes for tag, attributes in reading.tags if tag == "section"]
        assert ["shown" in str(each["class"]) for each in sections].count(True) == 1
        assert f"3 of {len(hostile_shown.frames)}" in "".join(reading.words)
        assert [tag for tag, _ in reading.tags].count("script") == 1

    def test_a_browser_steps_by_keys_and_buttons(prepare: Prepare, tmp_path: Path) -> None:
        shown = prepare("twin").recording
        page = FORMATS["html"](shown).replace("</body>", PRESSED)
        title = "".join(browse(tmp_path, page, "2").words).split("\n")
        last = len(shown.frames)
        places = [2, 3, 4, 3, last, last - 1, 1, 2, 1]
        assert "|".join(f"{place} of {last}" for place in places) in title


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT max(version) FROM events WHERE tenant = 1 ORDER BY id LIMIT 1 FOR UPDATE",
            ["SELECT max(version)", "FROM events", "WHERE tenant = 1", "ORDER BY id", "LIMIT 1", "FOR UPDATE"],
        ),
        (
            "INSERT INTO t (a) VALUES ('x FROM y') ON CONFLICT (a) DO NOTHING RETURNING a",
            ["INSERT INTO t (a)", "VALUES ('x FROM y')", "ON CONFLICT (a) DO NOTHING", "RETURNING a"],
        ),
        (
            "SELECT a IS DISTINCT FROM b FROM (SELECT 1 FROM x) t",
            ["SELECT a IS DISTINCT FROM b", "FROM (SELECT 1 FROM x) t"],
        ),
        ("SET LOCAL x = 1", ["SET LOCAL x = 1"]),
        ("DO $$ begin perform 1 from x; end $$", ["DO $$ begin perform 1 from x; end $$"]),
        ("", [""]),
    ],
)  # fmt: skip
def test_a_statement_is_broken_at_its_clauses(sql: str, expected: list[str]) -> None:
    assert sql_layout.clauses(sql) == expected


@given(text=st.text(st.sampled_from(" ()',:\"$abFROMWHEREé"), max_size=60), width=st.integers(3, 30))
def test_however_it_is_broken_not_a_letter_is_lost(text: str, width: int) -> None:
    sql = " ".join(text.split())
    lines = sql_layout.wrap(sql, width)
    assert "".join("".join(lines).split()) == "".join(sql.split())
    assert all(len(line) <= width for line in lines)


def test_a_long_word_is_broken_where_a_reader_would() -> None:
    lock = "SELECT pg_advisory_xact_lock('events'::regclass::int, :tenant)"
    assert sql_layout.wrap(lock, 24) == ["SELECT", "pg_advisory_xact_lock(", "'events'::regclass::int,", ":tenant)"]


def test_in_a_tall_terminal_the_rows_stay_near_the_sql_and_statements_apart(prepare: Prepare) -> None:
    shown = prepare("twin").recording
    place = Place(title=shown.title, parts=2, steps=12, footer="keys")
    heights = set()
    for frame in (frame for frame in shown.frames if frame.part == 0):
        lines = [line.plain.rstrip() for line in screen.draw(frame, place, 200, 50)]
        heights.add(next(at for at, line in enumerate(lines) if line.startswith("table events")))
        assert lines[-1] == "keys"
        commit = next(at for at, line in enumerate(lines) if line[2:].startswith("COMMIT"))
        assert lines[commit - 1].split("│")[0].strip() == ""
    assert len(heights) == 1, "what is below the SQL does not move from step to step"
    assert heights.pop() < 30


@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize("notes", [True, False])
@pytest.mark.parametrize("ended", [True, False])
def test_the_keys_fit_the_least_terminal(auto: bool, notes: bool, ended: bool) -> None:
    class Playback:
        finished = replaying = False
        frame = SimpleNamespace(ended=ended)

    footer = viewer.footer(Playback(), screen.UNICODE, auto=auto, notes=notes)  # type: ignore[arg-type]
    assert len(footer) <= screen.LEAST_WIDTH
    assert "n no notes" in footer if notes else "n notes" in footer
    assert footer.endswith("q quit")
