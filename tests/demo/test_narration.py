"""Captions and sentences: which steps they match, and what they say of an answer."""

from __future__ import annotations

from collections.abc import Sequence
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


NAMES = {1: "Session 1", 2: "Session 2"}


@pytest.mark.parametrize(
    ("sql", "answer", "said"),
    [
        ("INSERT INTO t", "INSERT 0 1", "inserts 1 row. No other session sees that before the commit."),
        ("INSERT INTO t ON CONFLICT DO NOTHING", "INSERT 0 0", "sends its INSERT, which adds no row."),
        ("UPDATE t", "UPDATE 0", "sends its UPDATE, which changes no row."),
        ("UPDATE t RETURNING 1", "UPDATE 0", "sends its UPDATE, which changes no row."),
        ("DELETE FROM t", "DELETE 2", "deletes 2 rows. No other session sees that before the commit."),
        ("UPDATE t", "sold = 1", "updates 1 row and gets sold = 1. No other session sees that before the commit."),
        (
            "UPDATE t",
            "id = 3 (2 rows)",
            "updates 2 rows and gets id = 3 (2 rows). No other session sees that before the commit.",
        ),
        (
            "INSERT INTO c ON CONFLICT (t) DO UPDATE SET n = c.n + 1 RETURNING n",
            "n = 2",
            "inserts or updates 1 row and gets n = 2. No other session sees that before the commit.",
        ),
        ("WITH a AS (SELECT 1) SELECT 1", "SELECT 0", "sends its query and gets no row."),
        ("SELECT 1", "SELECT 0", "sends its SELECT and gets no row."),
        ("SELECT qty", "qty = 1", "sends its SELECT and gets qty = 1."),
        ("SELECT id FROM t FOR UPDATE", "SELECT 0", "finds no row to lock."),
        ("SELECT id FROM t FOR UPDATE SKIP LOCKED", "id = 1", "locks the row that it reads and gets id = 1."),
        ("SELECT count(*) FROM (SELECT FROM t FOR UPDATE) s", "count = 0", "sends its SELECT and gets count = 0."),
        ("SELECT pg_advisory_lock(1)", "pg_advisory_lock = ", "requests an advisory lock and gets it."),
        ("SELECT pg_advisory_unlock(1)", "freed = t", "releases an advisory lock and gets freed = t."),
        (
            "SELECT pg_try_advisory_lock(1) AS got",
            "got = f",
            "asks for an advisory lock without waiting and gets got = f.",
        ),
        ("LOCK TABLE t", "LOCK TABLE", "locks the table."),
        ("begin isolation level  repeatable read", "BEGIN", "begins a transaction at isolation level REPEATABLE READ."),
        ("COMMIT", "COMMIT", "commits."),
        ("ROLLBACK", "ROLLBACK", "rolls back."),
        ("ROLLBACK TO a", "ROLLBACK", "rolls back to a savepoint."),
    ],
)
def test_a_step_is_told_by_what_its_statement_did(sql: str, answer: str, said: str) -> None:
    effect = narration.effect_of(sql, answer)
    taken = TakenStep(session=1, line=0, sent=sql, answer=answer, effects=(effect,), in_transaction=True)
    assert narration.narrate_step(taken, NAMES) == f"Session 1 {said}"


def test_a_step_outside_of_a_transaction_or_after_a_failed_one_is_told_so() -> None:
    wrote = TakenStep(
        session=2, line=0, sent="INSERT", answer="1 row", effects=(narration.effect_of("INSERT INTO t", "INSERT 0 1"),)
    )
    alone = "Session 2 inserts 1 row. It is committed at once: there is no transaction around it."
    assert narration.narrate_step(wrote, NAMES) == alone
    failed = replace(wrote, sent="COMMIT", effects=(narration.effect_of("COMMIT", "ROLLBACK"),), rolled_back=True)
    assert narration.narrate_step(failed, NAMES).startswith(
        "Session 2 sends its COMMIT, but its transaction had failed"
    )
    began = replace(wrote, effects=(narration.effect_of("BEGIN", "BEGIN"),), isolation="serializable")
    assert narration.narrate_step(began, NAMES) == "Session 2 begins a transaction at isolation level SERIALIZABLE."


@pytest.mark.parametrize(
    ("waited", "retried", "refused", "said"),
    [
        ((), (), (), "No anomaly, and no session had to wait."),
        (["Session 1"], (), ["Session 2"], "No anomaly. The price: session 1 had to wait, and session 2 was refused."),
        (
            (),
            ["Session 1", "Session 2"],
            (),
            "No anomaly. The price: session 1 and session 2 were refused and tried again.",
        ),
    ],
)
def test_the_end_names_the_price(
    waited: Sequence[str], retried: Sequence[str], refused: Sequence[str], said: str
) -> None:
    assert narration.narrate_end((), waited=waited, retried=retried, refused=refused, late=0) == said


def test_oversells_sentences_are_true_of_what_was_sent(embedded: Target, prepare: Prepare) -> None:
    """The first transaction of the second session changes nothing; its second one changes two rows."""
    schedule = "v1:oversell/check:s1.s1.s1.s1.s1.s2.s2.s2.s2.s2.s2.s2.s2.s1"
    (part,) = prepare(schedule, fix="none").presentation.parts
    said = [frame.sentence for frame in player.play(embedded, part, 0)]
    assert said[7] == "Session 2 sends its INSERT, which adds no row."
    assert said[11] == "Session 2 updates 1 row. No other session sees that before the commit."
    assert said[14].startswith("The server refuses session 1: ERROR 23514")
    assert said[-1] == "No anomaly. The price: session 1 was refused."


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
