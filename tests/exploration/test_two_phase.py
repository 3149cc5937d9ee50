"""A prepared transaction that a schedule leaves is gone before the next schedule, and at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_scenario import made
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration.explorer import explore
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.postgres.connection import connect

#: The second session does nothing but insert.
ONE_PREPARES = """
\\if :client_id = 0
BEGIN;
INSERT INTO t VALUES (:operation);
PREPARE TRANSACTION 'racebench test';
\\else
INSERT INTO t VALUES (:operation);
\\endif
"""
BOTH_PREPARE = """
BEGIN;
INSERT INTO t VALUES (:operation);
PREPARE TRANSACTION 'racebench test';
"""


def exploration_of(target: Target, folder: Path, script: str) -> Exploration:
    nothing = "SELECT 1 WHERE false"
    scenario = made(folder, script=script, schema="CREATE TABLE t (v bigint);", invariant=nothing, forbid="refused")
    return explore(target, ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"]))


@pytest.mark.parametrize(
    ("script", "verdict", "refused"),
    [
        pytest.param(ONE_PREPARES, Verdict.VALID, 0, id="one session prepares"),
        pytest.param(BOTH_PREPARE, Verdict.INVALID, 1, id="both sessions prepare by one name"),
    ],
)
def test_no_schedule_finds_the_prepared_transaction_of_another(
    embedded: Target, tmp_path: Path, script: str, verdict: Verdict, refused: int
) -> None:
    exploration = exploration_of(embedded, tmp_path, script)
    assert exploration.complete
    assert exploration.run > 1
    assert exploration.verdict is verdict
    assert exploration.counts["refused"] == refused * exploration.run
    with connect(embedded) as connection:
        assert connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall() == []
        assert connection.execute("SELECT FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchall() == []


def test_the_prepared_transaction_of_another_program_stays(embedded: Target, tmp_path: Path) -> None:
    with connect(embedded) as connection:
        connection.execute("BEGIN; SELECT pg_advisory_xact_lock(1); PREPARE TRANSACTION 'of another program'")
        try:
            assert exploration_of(embedded, tmp_path, ONE_PREPARES).verdict is Verdict.VALID
            left = connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall()
        finally:
            connection.execute("ROLLBACK PREPARED 'of another program'")
    assert left == [("of another program",)]
