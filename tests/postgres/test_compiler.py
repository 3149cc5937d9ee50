"""What travels together, and what is never put into one round trip."""

from __future__ import annotations

from pathlib import Path

import pytest

from racebench.core.errors import ScenarioProblem
from racebench.core.model import Protocol, Statement
from racebench.postgres.compiler.courses import has_course
from racebench.postgres.compiler.round_trips import Exchange, instructions
from racebench.workloads import scripts

NAIVE = """BEGIN;
SELECT max(v) AS version FROM t \\gset
\\sleep :think us
INSERT INTO t VALUES (:version);
\\sleep :hold us
COMMIT;
"""


def trips(text: str, protocol: Protocol, *, zero: frozenset[str] = frozenset({"think", "hold"})) -> list[list[str]]:
    """The first words of the statements of each round trip; every statement returns one column, `version`."""
    parsed = scripts.parse(text, Path("s.sql"))
    columns = {at: ("version",) for at, step in enumerate(parsed.steps) if isinstance(step, Statement)}
    found = []
    for _, part in instructions(parsed, protocol, columns, zero):
        if isinstance(part, Exchange):
            steps = [parsed.steps[at] for at in part.steps]
            found.append([step.keyword for step in steps if isinstance(step, Statement)])
    return found


def test_step_by_step_each_statement_is_a_round_trip() -> None:
    assert trips(NAIVE, Protocol.PREPARED) == [["BEGIN"], ["SELECT"], ["INSERT"], ["COMMIT"]]
    assert trips(NAIVE, Protocol.SIMPLE) == trips(NAIVE, Protocol.PREPARED)


def test_pipelined_what_needs_no_answer_travels_together() -> None:
    assert trips(NAIVE, Protocol.PIPELINED) == [["BEGIN", "SELECT"], ["INSERT", "COMMIT"]]


def test_a_sleep_is_between_what_is_sent_before_and_after_it() -> None:
    assert trips(NAIVE, Protocol.PIPELINED, zero=frozenset({"think"})) == [["BEGIN", "SELECT"], ["INSERT"], ["COMMIT"]]


def test_a_statement_that_sends_what_another_answers_waits_for_it() -> None:
    text = "BEGIN;\nSELECT 1 AS version \\gset p_\nINSERT INTO t VALUES (:p_version);\nCOMMIT;"
    assert trips(text, Protocol.PIPELINED) == [["BEGIN", "SELECT"], ["INSERT", "COMMIT"]]


def test_separate_transactions_stay_separate() -> None:
    assert trips("INSERT INTO t VALUES (1);\nINSERT INTO t VALUES (2);", Protocol.PIPELINED) == [["INSERT"], ["INSERT"]]
    assert trips("BEGIN;\nSELECT 1;\nCOMMIT;\nSELECT 2;\nBEGIN;\nEND;", Protocol.PIPELINED) == [
        ["BEGIN", "SELECT", "COMMIT"],
        ["SELECT"],
        ["BEGIN", "END"],
    ]


def test_a_savepoint_is_no_end_of_a_transaction() -> None:
    text = "BEGIN;\nSAVEPOINT s;\nROLLBACK TO s;\nSELECT 1;\nCOMMIT;"
    assert trips(text, Protocol.PIPELINED) == [["BEGIN", "SAVEPOINT", "ROLLBACK", "SELECT", "COMMIT"]]


def test_after_a_branch_it_is_unknown_whether_a_transaction_is_open() -> None:
    text = "\\if :x\nBEGIN;\n\\endif\nSELECT 1;\nSELECT 2;\n\\if :x\nCOMMIT;\n\\endif"
    assert trips(text, Protocol.PIPELINED) == [["BEGIN"], ["SELECT"], ["SELECT"], ["COMMIT"]]


@pytest.mark.parametrize("protocol", [Protocol.PREPARED, Protocol.PIPELINED])
def test_a_scripts_own_pipeline_travels_together_whatever_it_holds(protocol: Protocol) -> None:
    text = "SELECT 1;\n\\startpipeline\nSELECT 2;\n\\sleep 1 ms\nINSERT INTO t VALUES (:x);\n\\endpipeline\nSELECT 3;"
    assert trips(text, protocol) == [["SELECT"], ["SELECT", "INSERT"], ["SELECT"]]


def test_a_variable_that_a_pipeline_has_sent_is_not_changed_inside_it() -> None:
    text = "\\startpipeline\nSELECT :x;\n\\set x 2\nSELECT :x;\n\\endpipeline"
    with pytest.raises(ScenarioProblem, match=r"s\.sql:3: \\set x inside a pipeline that has sent :x"):
        trips(text, Protocol.PREPARED)


@pytest.mark.parametrize(
    ("text", "whether"),
    [
        ("SELECT 1;", True),
        ("\\set x :client_id + 1\n\\set y greatest(:x, 2)\nBEGIN;\nSELECT :y;\nCOMMIT;", True),
        ("\\set x :x + 1\nSELECT :x;", False),
        ("\\set x random(1, 2)\nSELECT :x;", False),
        ("\\set x :operation\nSELECT :x;", False),
        ("\\set x :unknown\nSELECT :x;", False),
        ("\\set x 1\n\\set x :x + 1\nSELECT :x;", False),
        ("\\set version 1\nSELECT :version;", False),
        ("SELECT 1;\n\\set x 1\nSELECT :x;", False),
        ("\\if :client_id\nSELECT 1;\n\\endif", False),
        ("\\sleep 1 ms\nSELECT 1;", False),
        ("BEGIN;\nSELECT 1;\nROLLBACK;", False),
        ("BEGIN;\nSAVEPOINT s;\nROLLBACK TO s;\nCOMMIT;", True),
    ],
)
def test_a_course_runs_scripts_whose_operations_are_all_alike(text: str, whether: bool) -> None:
    script = scripts.parse(text, Path("s.sql"))
    parts = instructions(script, Protocol.PREPARED, {})
    assert has_course(script, parts, stored=(), constants=("client_id",)) is whether
