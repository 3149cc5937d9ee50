"""A schedule is accused only if it has an effect of no serial order each time that it is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from racebench.exploration.choices import Cut, choice
from racebench.exploration.oracle.effects import Effect, Oracle, SessionEffect
from racebench.exploration.oracle.labels import Labels
from racebench.exploration.oracle.serial import ENOUGH_STORED_OTHERWISE, Order, SerialOrders, Shifts
from racebench.exploration.oracle.stored_order import StoredOrder
from racebench.exploration.told import Told
from racebench.postgres.copied_rows import TableChange


def effect(*rows: str) -> Effect:
    change = TableChange(table=("", "t"), columns=("n",), added=tuple((row,) for row in rows), removed=())
    session = SessionEffect(ok=True, error="", returned=(), told=())
    return Effect(tables=(change,), sessions=(session, session))


class Runs:
    """What runs leave, in their order: of serial orders, and of the schedule when it is run again."""

    def __init__(self, serial: Iterator[Effect], again: Iterator[Effect]) -> None:
        self.serial, self.again = serial, again

    def run_serially(self, order: Order, **_: object) -> tuple[Effect, Shifts]:  # noqa: ARG002 - the protocol's
        return next(self.serial), {}

    def run_again(
        self,
        schedule: Sequence[int],  # noqa: ARG002 - the protocol's
        *,
        stored: StoredOrder | None = None,
        **_: object,
    ) -> tuple[Effect, Shifts]:
        return (effect() if stored is not None else next(self.again)), {}


def judge(schedule: Effect, serial: Sequence[Effect], again: Sequence[Effect]) -> tuple[bool | None, list[str]]:
    orders = SerialOrders(
        Runs(iter(serial), iter(again)),
        Oracle.RETURNS,
        Labels({}, dict),
        sessions=2,
        polls=0,
        key=None,
        seed=0,
    )
    return orders.is_serial(schedule, [1, 2], draw=0), orders.notes


def test_an_effect_of_no_serial_order_is_accused_if_it_is_seen_twice() -> None:
    assert judge(effect("1", "1"), [effect("1", "2")] * 7, [effect("1", "1")]) == (False, [])


def test_an_effect_that_is_not_seen_again_is_not_judged() -> None:
    known, notes = judge(effect("1"), [effect("1", "2")] * 5, [effect("1", "2")])
    assert known is None
    assert notes == [
        "a schedule left what no serial order leaves, and did not when it was run again; it was not judged"
    ]


def test_what_differs_only_when_a_serial_order_is_run_later_was_made_up() -> None:
    early, late = effect("second 1"), effect("second 2")
    assert judge(late, [early, early, early, early, late, late], [late])[0] is True


def judged_as_run(schedule: Effect, serial: Sequence[Effect], again: Sequence[Effect] = ()) -> tuple[bool | None, int]:
    """The judgement of a schedule that was run as serial orders are, and how many runs were not needed."""
    left = iter(serial)
    runs = Runs(left, iter(again))
    orders = SerialOrders(runs, Oracle.RETURNS, Labels({}, dict), sessions=2, polls=0, key=None, seed=0)
    return orders.is_serial(schedule, [1, 1, 2, 2], draw=0, as_orders=True), len([*left])


def test_a_schedule_in_serial_order_stands_for_one_of_the_two_runs_of_the_order() -> None:
    assert judged_as_run(effect("1", "2"), [effect("1", "2")] * 2) == (True, 1)


def test_a_schedule_in_serial_order_is_accused_if_the_order_has_another_effect() -> None:
    # Both calls counted in the memory of their process before the first of them sent a statement.
    assert judged_as_run(effect("2", "2"), [effect("1", "2")] * 7, [effect("2", "2")])[0] is False


def test_a_schedule_stands_for_no_run_if_what_differs_may_be_made_up() -> None:
    assert judged_as_run(effect("key 7"), [effect("key 8"), effect("key 9")]) == (True, 0)


def answered(returned: Sequence[str], *answers: Sequence[str]) -> Effect:
    """An effect in which the first call was answered with these rows, one answer a statement, and returned a list."""
    told = tuple(
        Told(statement="SELECT", columns=("n",), rows=tuple((row,) for row in rows), tag=f"SELECT {len(rows)}")
        for rows in answers
    )
    leaves = tuple((f"[{place}]", value) for place, value in enumerate(returned))
    plain = effect("1")
    session = replace(plain.sessions[0], returned=leaves, told=told)
    return replace(plain, sessions=(session, *plain.sessions[1:]))


AB, BA = ["a", "b"], ["b", "a"]


def test_rows_that_are_in_the_order_of_a_serial_order_in_new_tables_are_those_of_a_serial_order() -> None:
    assert judge(answered(BA, BA), [answered(AB, AB)] * 5, [answered(AB, AB)]) == (True, [])


def test_the_rows_of_one_answer_in_another_order_are_not_judged() -> None:
    known, notes = judge(answered(BA, BA), [answered(AB, AB)] * 7, [answered(BA, BA)] * 2)
    assert known is None
    assert notes == [
        "a session was answered with the rows of a serial order in another order, and returned them so; it was not "
        "judged: without ORDER BY the server returns rows in any order"
    ]


def test_two_answers_that_a_list_has_in_another_order_are_accused() -> None:
    one_by_one, swapped = answered(AB, ["a"], ["b"]), answered(BA, ["b"], ["a"])
    assert judge(swapped, [one_by_one] * 7, [swapped] * 2) == (False, [])


class Rows:
    """Each session adds a row with its number."""

    def run_serially(self, order: Order, **_: object) -> tuple[Effect, Shifts]:
        return effect(*map(str, order)), {}

    def run_again(self, schedule: Sequence[int], **_: object) -> tuple[Effect, Shifts]:  # noqa: ARG002
        return cut_off("1", "half"), {}


def cut_off(*rows: str) -> Effect:
    """An effect of s1, and of s2 whose connection was cut: it was told nothing."""
    told, lost = effect(*rows).sessions[0], SessionEffect(ok=False, error="08006", returned=(), told=(), unknown=True)
    return replace(effect(*rows), sessions=(told, lost))


@pytest.mark.parametrize(("rows", "serial"), [(("1",), True), (("1", "2"), True), (("1", "half"), False)])
def test_a_session_whose_connection_was_cut_did_all_or_nothing(rows: tuple[str, ...], serial: bool) -> None:
    orders = SerialOrders(Rows(), Oracle.ANSWERS, Labels({}, dict), sessions=2, polls=0, key=None, seed=0)
    judged = cut_off(*rows)
    assert orders.is_serial(judged, [1, choice(2, cut=Cut.AFTER)], draw=0) is serial
    if not serial:
        assert {*orders.effects(judged, 0)} == {(1,), (1, 2), (2, 1)}


class StoringRuns:
    """A schedule has what no serial order has; `matters`: where rows are stored changes what one of these leaves."""

    def __init__(self, *, matters: bool) -> None:
        self.matters, self.looked_at, self.schedule = matters, 0, effect()

    def run_serially(self, order: Order, *, stored: StoredOrder | None = None, **_: object) -> tuple[Effect, Shifts]:
        other = self.matters and stored is not None and order == (2, 1)
        return effect("other" if other else "serial"), {}

    def run_again(
        self,
        schedule: Sequence[int],  # noqa: ARG002 - the protocol's
        *,
        stored: StoredOrder | None = None,
        **_: object,
    ) -> tuple[Effect, Shifts]:
        if stored is not None:
            self.looked_at += 1
            stored.note(("", "t"), ("n",), b"(0,1)\t1\n(0,2)\t2\n", writer=0)
        return self.schedule, {}


@pytest.mark.parametrize(("matters", "looked_at"), [(False, ENOUGH_STORED_OTHERWISE), (True, 6)])
def test_where_rows_are_stored_is_tried_at_every_accusation_unless_it_changes_no_serial_order(
    matters: bool, looked_at: int
) -> None:
    runs = StoringRuns(matters=matters)
    orders = SerialOrders(runs, Oracle.RETURNS, Labels({}, dict), sessions=2, polls=0, key=None, seed=0)

    def judged(row: str) -> bool | None:
        runs.schedule = effect(row)
        return orders.is_serial(runs.schedule, [1, 2], draw=0)

    assert [judged(f"wrong {letter}") for letter in "abcde"] == [False] * 5
    assert judged("other") is (None if matters else False)
    assert runs.looked_at == looked_at
