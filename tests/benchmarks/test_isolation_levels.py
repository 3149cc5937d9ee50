"""The tables of isolation levels: how each anomaly is recognized, and a guilty and an innocent cell of each table."""

from __future__ import annotations

import pytest

from benchmarks import hermitage, indexes
from benchmarks.access_methods import MANY, SEARCHED
from benchmarks.levels import united
from benchmarks.transactions import PROGRAMS, Program, Rows, Told
from racebench.core.target import Target

#: Of each program: what its transactions would be told if the anomaly occurred, and the rows at the end. Most of these
#: do not occur on PostgreSQL at any level, so that no server can show that they would be recognized.
GUILTY: dict[str, tuple[list[tuple[list[Rows], list[int]]], Rows]] = {
    "G0": ([([], [1, 1]), ([], [1, 1])], {1: 12, 2: 21}),
    "G1a": ([([], [1]), ([{1: 101}], [])], {1: 10, 2: 20}),
    "G1b": ([([], [1, 1]), ([{1: 101}], [])], {1: 11, 2: 20}),
    "G1c": ([([{2: 22}], [1]), ([{1: 11}], [1])], {1: 11, 2: 22}),
    "OTV": ([([], [1, 1]), ([], [1, 1]), ([{1: 12}, {2: 21}], [])], {1: 12, 2: 22}),
    "PMP": ([([{}, {3: 30}], []), ([], [1])], {1: 10, 2: 20, 3: 30}),
    "PMP, write predicate": ([([], [2]), ([{1: 20}], [0])], {1: 20, 2: 30}),
    "P4": ([([{1: 10}], [1]), ([{1: 10}], [1])], {1: 11, 2: 20}),
    "G-single": ([([{1: 10}, {2: 18}], []), ([], [1, 1])], {1: 12, 2: 18}),
    "G-single, predicate": ([([{1: 10, 2: 20}, {1: 12}], []), ([], [1])], {1: 12, 2: 20}),
    "G-single, write predicate": ([([{1: 10}], [0]), ([], [1, 1])], {1: 12, 2: 18}),
    "G2-item": ([([{1: 10, 2: 20}], [1]), ([{1: 10, 2: 20}], [1])], {1: 11, 2: 21}),
    "G2": ([([{}], [1]), ([{}], [1])], {1: 10, 2: 20, 3: 30, 4: 42}),
    "G2, read-only transaction": (
        [([{1: 10, 2: 20}], [1]), ([], [1]), ([{1: 10, 2: 25}], [])],
        {1: 0, 2: 25},
    ),
}


def named(name: str) -> Program:
    return next(program for program in PROGRAMS if program.name == name)


@pytest.mark.parametrize("name", GUILTY)
def test_an_anomaly_is_recognized_if_its_transactions_have_committed(name: str) -> None:
    transactions, rows = GUILTY[name]
    told = [Told(reads=reads, counts=counts, committed=name != "G1a" or bool(reads)) for reads, counts in transactions]
    assert named(name).shows(told, rows)
    for transaction in told:
        transaction.committed = False
    assert not named(name).shows(told, rows)


def test_every_program_without_a_hole_has_such_evidence() -> None:
    assert [program.name for program in PROGRAMS if not program.hole] == list(GUILTY)


def test_a_lost_update_is_shown_under_read_committed_and_refused_under_repeatable_read(embedded: Target) -> None:
    lost = hermitage.measure(embedded, named("P4"), "read committed")
    assert (lost["shown"], lost["non_serializable"], lost["schedules"], lost["40001"]) == (12, 12, 14, 0)
    assert lost["complete"]
    refused = hermitage.measure(embedded, named("P4"), "repeatable read")
    assert (refused["shown"], refused["non_serializable"], refused["schedules"], refused["40001"]) == (0, 0, 14, 12)
    assert refused["complete"]
    assert refused["waited"]


def test_serializable_is_wrong_outside_every_leaf_of_gist_and_right_inside_a_leaf(embedded: Target) -> None:
    searched = next(one for one in SEARCHED if (one.method, one.predicate) == ("gist", "int8range &&"))
    assert indexes.plan(embedded, searched, searched.outside, MANY) == {
        "scan": "Index Only Scan",
        "by_index": True,
        "pages": 6,
    }
    hole = indexes.measure(embedded, searched, searched.outside, MANY, "serializable")
    assert hole["wrong"] == hole["non_serializable"] > 0
    assert hole["complete"]
    right = indexes.measure(embedded, searched, searched.inside, MANY, "serializable")
    assert (right["wrong"], right["non_serializable"], right["complete"]) == (0, 0, True)
    assert right["refused"]


def test_a_cell_that_differs_between_servers_names_each() -> None:
    cells = [{"server": "18.4", "text": "right"}, {"server": "16.14", "text": "wrong"}]
    assert united(["18.4", "16.14"], cells, lambda cell: str(cell["text"])) == "18.4: right; 16.14: wrong"
    assert united(["18.4"], cells[:1], lambda cell: str(cell["text"])) == "right"
    assert united(["18.4", "16.14"], cells[:1], lambda cell: str(cell["text"])) == "18.4: right"
