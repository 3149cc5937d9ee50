"""A duplicate that was known while a run went on is reported only if the table has it at the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from histories import Op, Row, history
from racebench.analysis.checkers import check
from racebench.analysis.streaming.confirmation import Confirmation, KnownDuplicate
from racebench.core.model import Outcome
from racebench.core.results import FirstDuplicate
from racebench.history import History
from racebench.history.rows import labels

KNOWN = KnownDuplicate(tenant=1, version=5, known_ns=9_000)
OPS = (Op(1, 1_000, 3_000, 5), Op(2, 2_000, 7_000, 5), Op(3, 2_500, 8_000, 5))


def confirmed(past: History, known: KnownDuplicate | None = KNOWN) -> FirstDuplicate | None:
    confirmation = Confirmation(past, known)
    check(past, also=[confirmation])
    return confirmation.first_duplicate()


def test_it_has_the_time_at_which_the_second_of_its_operations_was_acknowledged() -> None:
    past = history(OPS, [Row(1, 5, 3), Row(2, 5, 1), Row(3, 5, 2)])
    start = past.start
    assert confirmed(past) == FirstDuplicate(
        tenant=1, version=5, acknowledged_us=(7_000 - start) / 1e3, known_us=(9_000 - start) / 1e3
    )
    assert confirmed(past, None) is None


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [Row(1, 5, 1)],
        [Row(1, 5, 1), Row(2, 6, 2)],
        [Row(1, 5, 1), Row(2, 5, 2, tenant=2)],
        [Row(1, 5, 1), Row(2, None, 2)],
    ],
)
def test_what_was_deleted_or_changed_since_is_not_reported(rows: list[Row]) -> None:
    assert confirmed(history(OPS, rows)) is None


def test_without_two_acknowledged_operations_it_is_known_and_not_when_it_was_there() -> None:
    ops = (OPS[0], replace(OPS[1], outcome=Outcome.UNKNOWN))
    first = confirmed(history(ops, [Row(1, 5, 1), Row(2, 5, 2)]))
    assert first is not None
    assert first.acknowledged_us is None
    first = confirmed(history(ops, [Row(1, 5), Row(2, 5)]))
    assert first is not None
    assert first.acknowledged_us is None


def test_versions_that_are_no_integers_are_not_taken_for_the_number() -> None:
    past = history(OPS, [Row(1, 5, 1), Row(2, 5, 2)])
    ranks = replace(past, labels=labels(list("abcde")))
    assert np.all(ranks.table["version"] == 5)
    assert confirmed(ranks) is None
