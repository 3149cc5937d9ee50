"""The rows of a serial order are laid out as a schedule had stored them, with room for those of one session."""

from __future__ import annotations

from racebench.exploration.oracle.labels import Labels
from racebench.exploration.oracle.stored_order import StoredOrder

TABLE, COLUMNS = ("", "notes"), ("id", "what")
#: s1 and s2 have inserted rows by turns, after the row of the setup; their ids are made up.
SETUP = b"(0,1)\t1\tsetup\n"
LATER = [(1, b"(0,2)\t2\ta\n"), (2, b"(0,3)\t3\tc\n"), (1, b"(0,4)\t4\tb\n"), (2, b"(1,1)\t5\td\n")]


def noted() -> StoredOrder:
    stored = StoredOrder(Labels({("", "notes", "id"): "notes_id_seq"}, dict))
    rows = SETUP
    stored.note(TABLE, COLUMNS, rows, writer=0)
    for writer, row in LATER:
        rows += row
        stored.note(TABLE, COLUMNS, rows, writer=writer)
    return stored


def test_rows_stand_in_the_order_of_the_schedule_whatever_ids_were_made_up() -> None:
    present = [b"1\tsetup", b"7\tb", b"8\ta"]
    assert noted().layout(TABLE, COLUMNS, present, 9) == [0, 2, 1]


def test_room_is_left_for_the_rows_of_the_session_that_others_stand_behind() -> None:
    present = [b"1\tsetup", b"2\ta", b"3\tb"]
    assert noted().layout(TABLE, COLUMNS, present, 2) == [0, 1, b"3\tc", 2]
    assert noted().layout(TABLE, COLUMNS, present, 1) == [0, 1, 2], "they are there"
    assert noted().layout(TABLE, COLUMNS, present[:1], 1) == [0], "the next row is stored there anyway"


def test_rows_that_the_schedule_did_not_have_come_last_in_their_order() -> None:
    assert noted().layout(TABLE, COLUMNS, [b"9\ty", b"3\tx", b"4\td", b"5\td"], 9) == [2, 0, 1, 3]
    assert [*noted().layout(("", "others"), ("what",), [b"b", b"a"], 1)] == [0, 1]
    assert [*noted().layout(TABLE, ("what", "id"), [b"d\t5", b"a\t2"], 1)] == [0, 1], "it was made again"


def test_a_table_has_several_rows_if_they_are_there_at_one_time() -> None:
    stored = StoredOrder(Labels({}, dict))
    stored.note(TABLE, COLUMNS, SETUP, writer=0)
    stored.note(TABLE, COLUMNS, LATER[0][1], writer=1)
    assert not stored.several
    stored.note(TABLE, COLUMNS, SETUP + LATER[0][1], writer=1)
    assert stored.several
