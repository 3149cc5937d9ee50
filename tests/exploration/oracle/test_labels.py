"""What differs between two runs of a schedule was made up; the rest of a text was not, and counts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from racebench.exploration.oracle.canonical import Form, Label, canonical
from racebench.exploration.oracle.defaults import CLOCK, Column
from racebench.exploration.oracle.effects import Effect, Oracle, SessionEffect
from racebench.exploration.oracle.facts import facts
from racebench.exploration.oracle.labels import Labels, shown
from racebench.exploration.oracle.values import leaves
from racebench.postgres.copied_rows import Row, TableChange

TABLE = ("", "orders")
SHIFTS = {("", "orders_id_seq"): 1000, ("", "items_id_seq"): 2000}


def effect(*rows: Sequence[str | None], columns: Sequence[str] = ("id", "code"), returned: object = None) -> Effect:
    change = TableChange(table=TABLE, columns=tuple(columns), added=tuple(map(tuple, rows)), removed=())
    session = SessionEffect(ok=True, error="", returned=leaves(returned), told=())
    return Effect(tables=(change,), sessions=(session,))


def labels(
    declared: Mapping[Column, str] | None = None, rows: Sequence[Row] = (), columns: Sequence[str] = ("id", "code")
) -> Labels:
    return Labels(declared or {}, lambda: {TABLE: (tuple(columns), rows)})


def form(of: Labels, one: Effect) -> Form:
    return canonical(facts(one, Oracle.RETURNS, {1}, of))


def test_a_number_in_a_text_is_tied_to_the_sequence_that_it_is_of() -> None:
    known = labels()
    first, shifted = effect(("1", "ORD-0001")), effect(("1001", "ORD-1001"))
    assert form(known, first) != form(known, shifted)
    assert known.measure(first, shifted, SHIFTS)
    assert form(known, first) == form(known, shifted) == form(known, effect(("7", "ORD-0007")))
    assert form(known, first) != form(known, effect(("7", "ORD-0008")))
    assert form(known, first) != form(known, effect(("7", "INV-0007")))
    assert not known.measure(first, shifted, SHIFTS)
    assert known.measured == ("orders.code", "orders.id")
    assert shown(known.term((*TABLE, "code"), "ORD-0007"), "…") == "ORD-…"


def test_what_is_missing_in_a_text_that_was_made_up_counts() -> None:
    known = labels()
    both, shifted = effect(("1", "{1,2}"), ("2", None)), effect(("1001", "{1001,1002}"), ("1002", None))
    assert known.measure(both, shifted, SHIFTS)
    assert form(known, both) == form(known, effect(("2", "{2,1}"), ("1", None)))
    assert form(known, both) != form(known, effect(("1", "{2}"), ("2", None)))
    lines, later = effect(("1", "2026-11-29 13:50:00.1 paid\n")), effect(("1", "2026-11-29 13:50:00.25 paid\n"))
    known = labels()
    assert known.measure(lines, later, {})
    assert form(known, lines) == form(known, later) != form(known, effect(("1", "2026-11-29 13:50:00.3 void\n")))


def test_one_time_is_as_good_as_another() -> None:
    known = labels({(*TABLE, "at"): CLOCK}, columns=("id", "at", "seconds"))
    now = int(time.time())

    def at(text: str, seconds: int) -> Effect:
        return effect(("1", text, str(seconds)), columns=("id", "at", "seconds"), returned=[text, f"at {seconds}"])

    first, second = at("2026-11-29 13:50:00.12345", now), at("2026-11-29 13:50:01.5", now + 1)
    assert known.measure(first, second, {})
    assert form(known, first) == form(known, second) == form(known, at("2026-11-29 13:50:02", now + 2))
    assert not any(isinstance(term, Label) for term in known.term((*TABLE, "at"), "2026-11-29 13:50:00.12345"))


def test_a_time_without_fractions_in_a_column_that_a_clock_fills_is_no_difference_unless_it_is_of_another_day() -> None:
    known = labels({(*TABLE, "at"): CLOCK})
    today = time.strftime("%Y-%m-%d")
    assert known.term((*TABLE, "at"), f"{today} 13:50:00") == known.term((*TABLE, "at"), f"{today} 13:50:01")
    assert known.term((*TABLE, "at"), "2001-01-01 13:50:00") == ("2001-01-01 13:50:00",)


def test_a_value_that_was_in_the_tables_before_is_no_label() -> None:
    known = labels({(*TABLE, "id"): ".orders_id_seq"}, rows=[("1", "x")])
    assert known.term((*TABLE, "id"), "1") == ("1",)
    assert known.term((*TABLE, "id"), "2") == (Label(".orders_id_seq", "2"),)


def test_the_keys_of_what_a_call_returned_may_be_labels_and_places_in_a_list_are_not() -> None:
    known = labels({(*TABLE, "id"): ".orders_id_seq"})
    first = effect(("1", None), returned={1: ["a", "b"]})
    assert known.measure(first, effect(("1001", None), returned={1001: ["a", "b"]}), SHIFTS)
    assert form(known, first) == form(known, effect(("5", None), returned={5: ["a", "b"]}))
    assert form(known, first) != form(known, effect(("5", None), returned={6: ["a", "b"]}))
    assert form(known, first) != form(known, effect(("5", None), returned={5: ["b", "a"]}))


def test_runs_in_which_not_the_same_happened_do_not_say_what_was_made_up() -> None:
    known = labels()
    assert not known.measure(effect(("1", "x")), effect(("1001", "x"), ("1002", "y")), SHIFTS)
    assert known.term((*TABLE, "id"), "1") == ("1",)
