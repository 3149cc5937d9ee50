"""What is shown of long work: a line every ten seconds without a terminal, a bar below finished rows on one."""

from __future__ import annotations

import io

import pytest

from racebench.cli.streams import say
from racebench.reports.terminal import progress
from racebench.reports.terminal.plain_console import PlainConsole


class Clock:
    """The clock of the progress, moved by the test."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.delenv("CI", raising=False)
    return clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_a_line_is_printed_every_ten_seconds_after_the_rows_that_ended(clock: Clock) -> None:
    stream = io.StringIO()
    with progress.shown(PlainConsole(file=stream, width=20)) as tell:
        for second in range(25):
            clock.now = 100.0 + second
            tell(f"second {second}: a line longer than the console", second / 25, left="at most 1:05 left")
            if second in (3, 4):
                tell.ended(f"row {second}\x1b[31m")
            assert bool(stream.getvalue()) == (second >= 10)
    assert stream.getvalue().splitlines() == [
        "[0:10] row 3\\x1b[31m",
        "[0:10] row 4\\x1b[31m",
        "[0:10] second 10: a line longer than the console; at most 1:05 left",
        "[0:20] second 20: a line longer than the console; at most 1:05 left",
    ]


def test_progress_that_is_not_wanted_shows_nothing(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    with progress.shown(None) as tell:
        clock.now += 60
        tell("work", 0.5, left=progress.left(30, 0.5))
        tell.ended("row")
    assert capfd.readouterr() == ("", "")


def test_the_time_left_is_that_of_the_rest_at_the_pace_so_far() -> None:
    assert progress.left(30, 0.25) == "about 1:30 left"
    assert (progress.left(0.5, 0.5), progress.left(30, 0.0), progress.left(30, 1.0)) == ("", "", "about 0:00 left")


def test_in_ci_a_terminal_gets_lines_too(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    stream = Terminal()
    with progress.shown(PlainConsole(file=stream)) as tell:
        tell("first", 0.0)
        clock.now += 10
        tell("second", 0.5)
    assert stream.getvalue() == "[0:10] second\n"


def test_a_terminal_has_a_bar_below_the_rows_that_ended_and_keeps_none_of_it(clock: Clock) -> None:
    stream = Terminal()
    with progress.shown(PlainConsole(file=stream, force_terminal=True, color_system=None, width=50, height=6)) as tell:
        for number in range(5):
            clock.now += 1
            tell(f"work {number} of five, with a long name that is cut", number / 5)
            tell.ended(f"row {number}")
        clock.now += 0.01
        tell("too soon", 1.0)
    drawn = stream.getvalue()
    assert "too soon" not in drawn
    last = drawn[drawn.rindex("work 4") - 120 :]
    assert "row 1" in last
    assert "row 3" in last
    assert "cut" not in last
    assert drawn.endswith("\x1b[1A\x1b[2K")


def test_a_notice_is_printed_above_the_bar(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class BinaryTerminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    written = io.BytesIO()
    monkeypatch.setattr("sys.stderr", BinaryTerminal(written, encoding="utf-8"))
    with progress.shown(PlainConsole(stderr=True, force_terminal=True, color_system=None, width=50)) as tell:
        clock.now += 1
        tell("work", 0.5)
        say("racebench: a notice", err=True)
    assert "\x1b[2Kracebench: a notice\n" in written.getvalue().decode()
