"""Every walkthrough, with and without its fix, on the real server."""

from __future__ import annotations

import pytest

from demos import Prepare, anomalies_of, has_wait, played_parts
from racebench.demo import walkthroughs
from racebench.demo.frames import Mark, State, clean


@pytest.mark.parametrize("name", walkthroughs.WALKTHROUGHS)
def test_every_caption_is_shown_at_its_step_and_the_end_has_the_expected_anomalies(name: str, prepare: Prepare) -> None:
    ready = prepare(name)
    walkthrough = walkthroughs.WALKTHROUGHS[name]
    captioned = [(part, frames) for part, frames in played_parts(ready) if part.captions]
    assert len(captioned) == len(walkthrough.parts)
    for part, frames in captioned:
        first, *steps, end = frames
        assert first.sentence == clean(part.opening)
        assert len(steps) == len(part.captions)
        for frame, caption in zip(steps, part.captions, strict=True):
            assert frame.step is not None
            assert caption.matches(frame.step), (caption.text, frame.step)
            assert frame.sentence == clean(caption.render(frame.step))
            assert "?" not in frame.sentence
        assert anomalies_of(frames) == dict(part.expected)
        assert end.sentence == part.closing


@pytest.mark.parametrize("name", [name for name, walkthrough in walkthroughs.WALKTHROUGHS.items() if walkthrough.fix])
def test_with_the_fix_a_session_waits_in_the_same_schedule_and_there_is_no_anomaly(name: str, prepare: Prepare) -> None:
    *_, (part, frames) = played_parts(prepare(name))
    assert part.strategy.name == walkthroughs.WALKTHROUGHS[name].fix
    assert part.strategy.right
    assert has_wait(frames)
    assert anomalies_of(frames) == {}
    assert frames[-1].verdict == "no anomaly"
    assert "had to wait" in frames[-1].sentence


def test_the_twin_walkthrough_shows_the_rows_the_cursor_and_the_anomalies(prepare: Prepare) -> None:
    (_, frames), _ = played_parts(prepare("twin"))
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
    _, (_, frames) = played_parts(prepare("slow-commit"))
    alone = next(frame for frame in frames if frame.step is None and "It is skipped" in frame.sentence)
    assert "continues with session 2, but it still waits for session 1" in alone.sentence
    waiting = alone.lanes[1]
    assert waiting.status == "WAITS for session 1"
    assert [line.state for line in waiting.lines][:2] == [State.DONE, State.WAITS]


def test_a_fix_that_does_not_work_is_shown_with_its_anomaly(prepare: Prepare) -> None:
    _, (part, frames) = played_parts(prepare("twin", fix="sequence"))
    assert part.heading.startswith("again: sequence")
    assert anomalies_of(frames) == {}  # this schedule shows no anomaly of the sequence
    _, (_, frames) = played_parts(prepare("slow-commit", fix="identity"))
    assert anomalies_of(frames) == {"missed": 1}
