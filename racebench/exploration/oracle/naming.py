"""The classical name of a non-serializable schedule, where what its sessions read and wrote meets the definition.

A session *overlooks* a commit of another if the commit changes the answer to one of its searches, or does so where the
other session runs alone, and the session was answered as before it. It *sees* the commit if it was answered as after
it. With these words:

- lost update: a session read a row and overlooks the commit that changed it, then wrote the row itself, and left it as
  if the other had not run. An UPDATE that computes from the row as it is loses nothing (P4).
- write skew: two sessions overlook each other's commits, which changed different rows (A5B).
- phantom: two sessions overlook each other's commits, of which one inserted what the other had searched for (P3).
- read skew: a session overlooks how a commit changed one thing, and sees how it changed another (A5A).
- duplicate number: two sessions inserted rows with the same number in a column where every serial order has as many
  rows, and no number twice. It is a phantom, of the highest number or the like.
- missed row: the consumer never got a row, or got fewer than in every serial order.

A schedule that meets none of them has no name. Sources: Berenson et al., "A Critique of ANSI SQL Isolation Levels"
(1995), for P3 to A5B; Adya, "Weak Consistency" (1999): these are cycles of anti-dependencies (overlooks) with others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from enum import StrEnum
from itertools import combinations, permutations, product

from racebench.exploration.oracle.accesses import Accesses, Answer, Commit, Key, Search, Table, Values, Write
from racebench.exploration.oracle.canonical import Label
from racebench.exploration.oracle.effects import Effect
from racebench.exploration.oracle.labels import Labels, Terms
from racebench.postgres.copied_rows import Row


class Name(StrEnum):
    """The names, as they are shown."""

    LOST_UPDATE = "lost update"
    WRITE_SKEW = "write skew"
    READ_SKEW = "read skew"
    PHANTOM = "phantom"
    DUPLICATE_NUMBER = "duplicate number"
    MISSED_ROW = "missed row"


#: A row of a table.
_Place = tuple[Table, Key]
#: A search whose answer has changed, and the changed rows in it, if they are known.
_Change = tuple[Search, Set[_Place]]
#: A number, perhaps with something before it: 7, INV-0007.
_NUMBER = re.compile(r"\d$")


def name_of(
    accesses: Accesses,
    effect: Effect,
    serial: Collection[Effect],
    labels: Labels,
    without: Callable[[int, int], Iterator[Effect]],
) -> Name | None:
    """The name of a schedule with this effect; None if it meets no definition.

    `serial`: the effects of the serial orders. `without`: what a session (the first number) may leave in serial orders
    in which another (the second) does not run.
    """
    pairs = [*permutations(sorted({commit.session for commit in accesses.commits}), 2)]
    if any(_loses_update(accesses, one, other, labels, without) for one, other in pairs):
        return Name.LOST_UPDATE
    if _has_twins(accesses, effect, serial, labels):
        return Name.DUPLICATE_NUMBER
    for one, other in combinations(sorted({session for pair in pairs for session in pair}), 2):
        if not (ours := _overlooked(accesses, one, other)) or not (theirs := _overlooked(accesses, other, one)):
            continue
        both = (ours, theirs)
        if any(_inserts_alone(*found) for overlooked in both for found in overlooked):
            return Name.PHANTOM
        written = [{write.row for commit, _, _ in overlooked for write in commit.writes} for overlooked in both]
        if all(any(_changes_alone(*found) for found in overlooked) for overlooked in both) and not (
            written[0] & written[1]
        ):
            return Name.WRITE_SKEW
    if _has_read_skew(accesses):
        return Name.READ_SKEW
    missed = all(len(effect.undelivered) > len(other.undelivered) for other in serial)
    return Name.MISSED_ROW if missed and effect.undelivered else None


#: A commit that a search overlooks, with the answers to the search before and after it.
_Overlooked = tuple[Commit, Answer, Answer]


def _overlooked(
    accesses: Accesses, session: int, other: int, wanted: Callable[[Commit], bool] = lambda _: True
) -> list[_Overlooked]:
    """The commits of another session that a session overlooks, of those that are `wanted`."""
    return [
        (commit, before, after)
        for place, search in enumerate(accesses.searches)
        for commit in accesses.commits
        if search.session == session and commit.session == other and wanted(commit)
        for before, after in _answers_overlooked(accesses, search, commit, place)
    ]


def _answers_overlooked(
    accesses: Accesses, search: Search, commit: Commit, place: int
) -> Iterator[tuple[Answer, Answer]]:
    changed = _changed(commit.before[place], commit.after[place])
    if changed is not None:
        if _overlooks(search, commit, *changed):
            yield changed
    elif _is_older(search, commit) and (alone := accesses.alone(commit)) is not None:
        # What the session has written itself may keep the commit from changing the answer.
        changed = _changed(alone[0][place], alone[1][place])
        if changed is not None:
            yield changed


def _changed(before: Answer | None, after: Answer | None) -> tuple[Answer, Answer] | None:
    """Two answers, if both are known and they differ."""
    if before is None or after is None or Counter(before.rows) == Counter(after.rows):
        return None
    return before, after


def _overlooks(search: Search, commit: Commit, before: Answer, after: Answer) -> bool:
    return _is_older(search, commit) or (bool(search.told) and search.told == before.told != after.told)


def _is_older(search: Search, commit: Commit) -> bool:
    """Whether a search was answered before a commit, or from a snapshot that is older."""
    if search.answered < commit.step:
        return True
    return search.sent < commit.step and not search.latest and not search.told


def _sees(search: Search, commit: Commit, before: Answer, after: Answer) -> bool:
    return search.answered >= commit.step and bool(search.told) and search.told == after.told != before.told


def _loses_update(
    accesses: Accesses, session: int, other: int, labels: Labels, without: Callable[[int, int], Iterator[Effect]]
) -> bool:
    """Whether a session left a row that it had read as if the other had not changed it in between."""

    def may_be_lost(commit: Commit) -> bool:
        updated = [write.row for write in commit.writes if write.before is not None and write.after is not None]
        return any(True for row in updated for _ in _later_writes(accesses, session, commit, row))

    for commit, before, after in _overlooked(accesses, session, other, may_be_lost):
        for write in commit.writes:
            if not _was_read(write, before, after):
                continue
            changed = _changed_columns(write, labels)
            for own in _later_writes(accesses, session, commit, write.row):
                left = _terms(write.table, own.after or {}, changed, labels)
                alone = (_terms(write.table, _left(one, write), changed, labels) for one in without(session, other))
                if changed and any(values == left for values in alone):
                    return True
    return False


def _was_read(write: Write, before: Answer, after: Answer) -> bool:
    """Whether an answer had the row as it was before the write, and has it as it was after it, or no more."""
    if write.before is None or write.after is None:
        return False
    places = [(place, column[1]) for place, column in enumerate(before.columns) if column and column[0] == write.table]
    old, new = (tuple(values.get(name) for _, name in places) for values in (write.before, write.after))
    gone = _projected(before, places) - _projected(after, places)
    come = _projected(after, places) - _projected(before, places)
    return bool(places) and old in gone and (not come or new in come)


def _projected(answer: Answer, places: Sequence[tuple[int, str]]) -> Counter[Row]:
    return Counter(tuple(row[place] for place, _ in places) for row in answer.rows)


def _changed_columns(write: Write, labels: Labels) -> list[str]:
    """The columns that a write changed, without those that hold what the database makes up."""
    before, after = write.before or {}, write.after or {}
    return [
        name
        for name, text in after.items()
        if before.get(name) != text and not _is_made_up(write.table, name, text, labels)
    ]


def _later_writes(accesses: Accesses, session: int, commit: Commit, row: _Place) -> Iterator[Write]:
    for later in accesses.commits:
        if later.session == session and later.step > commit.step:
            yield from (write for write in later.writes if write.row == row and write.after is not None)


def _left(effect: Effect, write: Write) -> Values:
    """The row that an effect leaves; that before the write, if it does not change it."""
    for change in effect.tables:
        if change.table == write.table:
            for row in change.added:
                values = dict(zip(change.columns, row, strict=True))
                if all(values.get(name) == text for name, text in write.key):
                    return values
    return write.before or {}


def _terms(table: Table, values: Values, names: Sequence[str], labels: Labels) -> list[Terms]:
    return [labels.term((*table, name), values.get(name)) for name in names]


def _is_made_up(table: Table, name: str, text: str | None, labels: Labels) -> bool:
    return any(isinstance(term, Label) for term in labels.term((*table, name), text))


def _has_twins(accesses: Accesses, effect: Effect, serial: Collection[Effect], labels: Labels) -> bool:
    """Whether two sessions inserted rows with the same number where no serial order has a number twice."""
    inserted = [
        (commit.session, write)
        for commit in accesses.commits
        for write in commit.writes
        if write.before is None and write.after is not None
    ]
    for (one, first), (other, second) in combinations(inserted, 2):
        if one == other or first.table != second.table:
            continue
        for name, text in (first.after or {}).items():
            if text is None or not _NUMBER.search(text) or (second.after or {}).get(name) != text:
                continue
            if _is_made_up(first.table, name, text, labels):
                continue
            rows = len(_values_added(effect, first.table, name))
            others = [_values_added(one_of_them, first.table, name) for one_of_them in serial]
            if others and all(len(values) == rows == len({*values}) for values in others):
                return True
    return False


def _values_added(effect: Effect, table: Table, name: str) -> list[str | None]:
    return [
        row[change.columns.index(name)] for change in effect.tables if change.table == table for row in change.added
    ]


def _inserts_alone(commit: Commit, before: Answer, after: Answer) -> bool:
    """Whether what a commit wrote to the tables of a search are new rows."""
    writes = _writes_to(commit, before.tables | after.tables)
    return bool(writes) and all(write.before is None for write in writes)


def _changes_alone(commit: Commit, before: Answer, after: Answer) -> bool:
    """Whether what a commit wrote to the tables of a search are rows that were there."""
    writes = _writes_to(commit, before.tables | after.tables)
    return bool(writes) and all(write.before is not None for write in writes)


def _writes_to(commit: Commit, tables: Collection[Table]) -> list[Write]:
    return [write for write in commit.writes if write.table in tables]


def _has_read_skew(accesses: Accesses) -> bool:
    """Whether a session overlooks a change by a commit, and sees another change by it."""
    for commit in accesses.commits:
        overlooked: list[_Change] = []
        seen: list[_Change] = []
        for place, search in enumerate(accesses.searches):
            changed = _changed(commit.before[place], commit.after[place])
            if search.session == commit.session or changed is None:
                continue
            change = (search, {write.row for write in commit.writes if _was_read(write, *changed)})
            if _overlooks(search, commit, *changed):
                overlooked.append(change)
            elif _sees(search, commit, *changed):
                seen.append(change)
        if any(_differ(*pair) for pair in product(overlooked, seen)):
            return True
    return False


def _differ(one: _Change, other: _Change) -> bool:
    """Whether a session searched for two things: for different rows, or, where they are not known, by two queries."""
    (first, rows), (second, others) = one, other
    if first.session != second.session:
        return False
    return rows.isdisjoint(others) if rows and others else first.query != second.query
