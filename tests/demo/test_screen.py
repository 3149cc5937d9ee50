"""The screen: a frame fills a terminal of any size, and no important word is cut off."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from demos import Prepare
from racebench.demo import screen, viewer, walkthroughs
from racebench.demo.frames import State
from racebench.demo.screen import Place


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
