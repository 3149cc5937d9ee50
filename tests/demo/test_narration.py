"""Captions and sentences: which steps they match, and what they say of an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from demos import Prepare, anomalies_of
from racebench.core.target import Target
from racebench.demo import narration, player
from racebench.demo.frames import TakenStep, clean
from racebench.demo.presentation import Caption, substitute


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
    assert anomalies_of(tuple(frames)) == {"refused": 1}


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
