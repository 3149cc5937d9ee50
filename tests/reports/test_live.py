"""Live views: what is known of each strategy while it runs, on any terminal, at most four pictures a second."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import pytest
from rich.console import Group

from measured import run_of
from racebench.analysis.streaming.pace import Figures
from racebench.core.anomalies import ANOMALIES
from racebench.core.verdict import Verdict
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration, ExplorationProgress
from racebench.reports.terminal import progress, tables
from racebench.reports.terminal.live_explorations import LiveExplorations
from racebench.reports.terminal.live_runs import LiveRuns
from racebench.reports.terminal.plain_console import PlainConsole
from racebench.workloads import catalog

FIGURES = Figures(now_per_s=5123.4, so_far_per_s=4987.6, p50_us=1234.0, p99_us=9876.0, errors=3, duplicates=1204)
NOTE = "Other anomalies, such as missed rows, are known at the end of a run."


def drawn(view: progress.View, width: int = 80, lines: int = 21) -> list[str]:
    """What a view draws, line by line; it never is wider or higher than it may."""
    parts = view.parts(width, lines, ascii_only=False)
    text = tables.plain(lambda console: console.print(Group(*parts)), width=width).splitlines()
    assert max(map(len, text), default=0) <= width
    assert len(text) <= lines
    return text


def runs(*forbidden: str) -> LiveRuns:
    return LiveRuns(forbidden or ("duplicates", "missed", "refused"))


def test_a_run_that_goes_on_has_its_figures_and_its_duplicates_so_far() -> None:
    view = runs()
    view.running("naive", FIGURES)
    heads, more, rule, line, note = drawn(view)
    assert heads.split() == ["per", "s", "per", "s", "p50/p99"]
    assert more.split() == ["strategy", "now", "so", "far", "ms", "errors", "duplicates", "verdict"]
    assert {*rule} == {"─"}
    assert line.split() == ["naive", "5,123", "4,988", "1.2/9.9", "3", "1204", "running"]
    assert note == NOTE


def test_the_counts_of_the_end_take_the_place_of_those_that_were_told() -> None:
    view = runs()
    view.running("naive", FIGURES)
    view.ended("naive", run_of("naive", 4800.0, duplicates=1310, missed=44, errors={"40001": 2}))
    (line,) = drawn(view)[3:]
    assert line.split() == ["naive", "4,800", "5.0/5.0", "2", "1310", "INVALID", "44", "missed"]


def test_what_is_not_known_is_a_dash_and_a_right_strategy_has_no_duplicate() -> None:
    view = runs()
    view.running("calls", Figures())
    view.running("unique", replace(FIGURES, duplicates=0))
    calls, unique = drawn(view)[3:5]
    assert calls.split() == ["calls", "–", "–", "–", "0", "–", "running"]
    assert unique.split()[-2:] == ["0", "running"]
    view.ended("unique", run_of("unique", committed=0))
    assert drawn(view)[4].split()[-2:] == ["0", "UNKNOWN"]


def test_in_rounds_a_strategy_has_the_median_of_its_runs_and_the_sum_of_its_anomalies() -> None:
    view = runs()
    for rate, missed in ((900.0, 1), (1100.0, 0), (1500.0, 2)):
        view.ended("naive", run_of("naive", rate, duplicates=10, missed=missed))
    view.ended("advisory", run_of("advisory", 700.0))
    naive, advisory = drawn(view)[3:5]
    assert naive.split() == ["naive", "3", "1,100", "5.0/5.0", "0", "30", "INVALID", "3", "missed"]
    assert advisory.split() == ["advisory", "1", "700", "5.0/5.0", "0", "0", "VALID"]
    view.running("naive", FIGURES)
    assert drawn(view)[3].split()[-4:] == ["1234", "INVALID", "3", "missed"]
    view.running("naive", replace(FIGURES, duplicates=None))
    assert drawn(view)[3].split()[-4:] == ["30", "INVALID", "3", "missed"]


@pytest.mark.parametrize("width", [20, 34, 60, 80, 120])
@pytest.mark.parametrize("lines", [0, 3, 4, 6, 9, 40])
def test_on_a_small_terminal_the_run_that_goes_on_stays_and_no_line_is_broken(width: int, lines: int) -> None:
    view = runs()
    for number in range(8):
        name = f"strategy-{number}"
        view.ended(name, run_of(name, missed=1234, refused=5678, lost=99))
    view.running("naive", FIGURES)
    text = drawn(view, width=max(width, 34) if lines else width, lines=lines)
    if lines < 4:
        assert text == []
        return
    assert any(line.startswith("naive") and line.endswith("running") for line in text)
    if lines < 12:
        hidden = 8 - sum(line.startswith("strategy-") for line in text)
        assert (f"{hidden} more above" in text) == (lines > 4)
        assert any(line.startswith("strategy-7") for line in text) == (lines > 5)
    assert (text[-1][:6] == NOTE[:6]) == (lines == 40)


def test_only_what_is_forbidden_is_red() -> None:
    def styles(view: LiveRuns) -> set[str]:
        console = PlainConsole(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
        view.running("sequence", FIGURES)
        with console.capture() as capture:
            console.print(Group(*view.parts(80, 20, ascii_only=False)))
        return {word for word in ("\x1b[1;31m1204",) if word in capture.get()}

    assert styles(runs("duplicates"))
    assert not styles(runs("missed"))


# Explorations


def test_an_exploration_has_its_schedules_and_the_kinds_of_what_is_wrong() -> None:
    scenario = catalog.find_scenario("version-counter")
    request = ExplorationRequest(scenario=scenario, strategy=scenario.strategies["naive"], depth=4)
    view = LiveExplorations()
    assert drawn(view) == []
    counts = MappingProxyType({"duplicates": 30, "missed": 1})
    view.running(request, ExplorationProgress(run=40, anomalous=30, seconds=65.0, counts=counts))
    *_, line = drawn(view)
    assert line.split(maxsplit=6)[1:] == ["40", "1", "30", "1:05", "searching", "30 duplicates, 1 missed"]
    view.running(request, ExplorationProgress(run=40, anomalous=0, seconds=2.0, drawing=True))
    assert drawn(view)[-1].endswith("0 0:02 random, depth 4")
    view.ended(explored("naive", Verdict.INVALID, duplicates=31))
    other = replace(request, strategy=scenario.strategies["unique"])
    view.running(other, ExplorationProgress(run=0, anomalous=0, seconds=0))
    naive, unique = drawn(view)[-2:]
    assert naive.split() == ["naive", "50", "25", "31", "0:02", "INVALID", "31", "duplicates"]
    assert unique.split() == ["unique", "0", "0", "0", "0:00", "searching"]


def explored(strategy: str, verdict: Verdict, **counts: int) -> Exploration:
    return Exploration(
        scenario="version-counter", strategy=strategy, summary="", consumer=None, sessions=2, polls=0, reduced=True,
        seed=1, depth=3, verdict=verdict, expected=(), as_expected=True, forbidden=("duplicates", "missed"),
        counts=dict.fromkeys(ANOMALIES, 0) | counts, outcomes={}, run=50, pruned=0, drawn=0, chance=None,
        anomalous=sum(counts.values()), raced=0, complete=True, seconds=2.0, witness=None,
    )  # fmt: skip


# When, and how, it is drawn


class Clock:
    """The clocks of the progress, moved by the test; each picture costs `cost_s` of CPU time."""

    now, cpu, cost_s = 100.0, 0.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        self.cpu += self.cost_s
        return self.cpu


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Lines:
    """A view of some lines, which counts how often it is drawn."""

    def __init__(self, *lines: str) -> None:
        self.lines, self.drawn = lines, 0

    def parts(self, _width: int, _lines: int, **_: bool) -> Sequence[str]:
        self.drawn += 1
        return self.lines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.delenv("CI", raising=False)
    return clock


def test_a_view_is_drawn_four_times_a_second_and_less_often_if_that_takes_long(clock: Clock) -> None:
    view = Lines("a line")
    console = PlainConsole(file=Terminal(), force_terminal=True, width=50, height=10)
    with progress.shown(console, view) as tell:
        for _ in range(200):
            clock.now += 0.01
            tell("work", 0.5)
        assert view.drawn == 8
        clock.cost_s, view.drawn = 0.02, 0
        for _ in range(500):
            clock.now += 0.01
            tell("work", 0.5)
        assert view.drawn == 3  # 5 s, and one picture in 2 s


def test_where_lines_cannot_be_drawn_again_a_view_is_not_drawn(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    view = Lines("a line")
    for stream, ci in ((io.StringIO(), ""), (Terminal(), "true")):
        monkeypatch.setenv("CI", ci)
        with progress.shown(PlainConsole(file=stream), view) as tell:
            clock.now += 11
            tell("work", 0.5)
        assert stream.getvalue() == "[0:11] work\n"
    assert view.drawn == 0


def test_all_lines_of_a_picture_are_erased_on_a_terminal_that_has_become_narrower(clock: Clock) -> None:
    stream = Terminal()
    console = PlainConsole(file=stream, force_terminal=True, color_system=None, width=40, height=10)
    with progress.shown(console, Lines("x" * 40, "y" * 30)) as tell:
        clock.now += 1
        tell("work", 0.5)
        assert stream.getvalue().count("\x1b[1A") == 0
        stream.truncate(0)
        console.width = 15
        clock.now += 1
        tell("work", 0.5)
    # The terminal has broken 40, 30 and the bar's 22 columns in 3, 2 and 2 lines; the cursor is in the last.
    assert stream.getvalue().split("work")[0].count("\x1b[1A") == 6


def test_they_are_erased_at_the_end_too(clock: Clock) -> None:
    stream = Terminal()
    console = PlainConsole(file=stream, force_terminal=True, color_system=None, width=40, height=10)
    with progress.shown(console, Lines("x" * 40, "y" * 30)) as tell:
        clock.now += 1
        tell("work", 0.5)
        stream.truncate(0)
        console.width = 15
    assert stream.getvalue().count("\x1b[1A") == 6
    assert not {*"xy"} & {*stream.getvalue()}
