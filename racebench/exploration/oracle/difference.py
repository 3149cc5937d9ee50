"""How the effect of a schedule differs from the serial order that comes nearest to it, as a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from racebench.core.quantity import quantity
from racebench.exploration.oracle.effects import Effect, Oracle, SessionEffect
from racebench.exploration.oracle.labels import Labels, shown
from racebench.exploration.oracle.serial import Order
from racebench.postgres.snapshot import TableChange

#: In place of a value that the database made up.
_MADE_UP = "…"
#: The longest value, and the most columns of a row, that a sentence shows.
_LONGEST, _MOST = 40, 4
_Table = tuple[str, str]
#: The columns of a row with the texts that are shown.
_Shown = tuple[tuple[str, str], ...]
#: The rows that each table has more (True) and no more (False).
_Rows = Mapping[tuple[_Table, bool], Counter[_Shown]]
_ALONE = "all serial orders"


def difference(effect: Effect, serial: Mapping[Order, Effect], labels: Labels, oracle: Oracle) -> str:
    """What is otherwise in a schedule than in the serial order that is most like it; "" if there is none to compare."""
    if not serial:
        return ""
    every = [_rows(other, labels) for other in serial.values()]
    own = _rows(effect, labels)
    nearest = min(range(len(every)), key=lambda place: _distance(own, every[place]))
    for table in sorted(own.keys() | every[nearest].keys()):
        said = _of_table(table, own, every[nearest], every)
        if said:
            return said
    if effect.undelivered:
        return f"the consumer never gets {quantity(len(effect.undelivered), 'row')} that every serial order delivers"
    return "" if oracle is Oracle.STATE else _of_answers(effect, [*serial.values()], labels, oracle)


def _rows(effect: Effect, labels: Labels) -> _Rows:
    found = {}
    for change in effect.tables:
        for added, rows in ((True, change.added), (False, change.removed)):
            if rows:
                found[change.table, added] = Counter(_shown(change, row, labels) for row in rows)
    return found


def _shown(change: TableChange, row: Sequence[str | None], labels: Labels) -> _Shown:
    texts = (
        (name, shown(labels.term((*change.table, name), text), _MADE_UP))
        for name, text in zip(change.columns, row, strict=True)
    )
    return tuple((name, "NULL" if text is None else _cut(text)) for name, text in texts)


def _distance(one: _Rows, other: _Rows) -> int:
    empty = Counter[_Shown]()
    return sum(
        ((one.get(key, empty) - other.get(key, empty)) + (other.get(key, empty) - one.get(key, empty))).total()
        for key in one.keys() | other.keys()
    )


def _of_table(
    key: tuple[_Table, bool],
    own: _Rows,
    nearest: _Rows,
    every: Sequence[_Rows],
) -> str:
    empty = Counter[_Shown]()
    (schema, name), added = key
    table = f"{schema}.{name}" if schema else name
    here, there = own.get(key, empty), nearest.get(key, empty)
    more, fewer = here - there, there - here
    if not more and not fewer:
        return ""
    if not added:
        if own.get((key[0], True), empty) != nearest.get((key[0], True), empty):
            return ""  # what the rows became says more
        gone, kept = (quantity(rows.total(), "row") for rows in (more, fewer))
        return f"{gone} of {table} gone that {_ALONE} keep" if more else f"{kept} of {table} kept that {_ALONE} remove"
    others = [one.get(key, empty) for one in every]
    if twins := _twins(table, here, others):
        return twins
    if more.total() == fewer.total() == 1:
        return _of_row(table, next(iter(more)), next(iter(fewer)), {row for one in others for row in one})
    if here.total() != there.total():
        counts = sorted({one.total() for one in others})
        written = f"{quantity(here.total(), 'row')} of {table} {_verb(here.total())} written"
        return f"{written}; {_in_order(map(str, counts), 'write')}"
    return f"{table} has {_listed(more)}; {_in_order([_listed(fewer)])}"


def _twins(table: str, here: Counter[_Shown], others: Sequence[Counter[_Shown]]) -> str:
    """Rows with the same value in a column whose values differ in every serial order."""
    for name, values in _by_column(here).items():
        value, count = values.most_common(1)[0]
        if count < 2 or value in (_MADE_UP, "NULL"):
            continue
        columns = [_by_column(other).get(name, Counter()) for other in others]
        if all(column and max(column.values()) == 1 for column in columns):
            lists = dict.fromkeys(_list(sorted(column, key=_as_number)) for column in columns)
            return f"{count} rows of {table} have {name} {value}; {_in_order(lists)}"
    return ""


def _by_column(rows: Counter[_Shown]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for row, times in rows.items():
        for name, value in row:
            found.setdefault(name, Counter())[value] += times
    return found


def _of_row(table: str, here: _Shown, there: _Shown, every: Collection[_Shown]) -> str:
    """The columns of a row that differ, with others that say which row it is."""
    differing = [name for (name, value), (_, other) in zip(here, there, strict=True) if value != other]
    same = [(name, value) for name, value in here if name not in differing and value not in (_MADE_UP, "NULL")]
    where = f" (where {_pairs(same[:1])})" if same else ""
    own = [(name, value) for name, value in here if name in differing]
    alternatives = dict.fromkeys(
        _pairs([(name, value) for name, value in row if name in differing])
        for row in every
        if [pair for pair in row if pair[0] not in differing] == [pair for pair in here if pair[0] not in differing]
    )
    return f"{table} has {_pairs(own)}{where}; {_in_order(alternatives)}"


def _of_answers(effect: Effect, serial: Sequence[Effect], labels: Labels, oracle: Oracle) -> str:
    """What the calls returned or the statements answered."""
    sessions = sorted(effect.succeeded)

    def returned(one: Effect) -> tuple[str, ...]:
        return tuple(_returned(number, one.sessions[number - 1], labels) for number in sessions)

    own, others = returned(effect), [returned(one) for one in serial]
    if any(own) and own not in others:
        calls = _list([f"s{number} returns {value}" for number, value in zip(sessions, own, strict=True)])
        return f"{calls}; {_in_order((_list(other) for other in others), 'return')}"
    if oracle is Oracle.ANSWERS:
        return "the answers to the statements are those of no serial order"
    return "what the calls return does not go with what they leave, as it does in every serial order"


def _returned(number: int, session: SessionEffect, labels: Labels) -> str:
    texts = [shown(labels.leaf(number, path, text), _MADE_UP) for path, text in session.returned[:_MOST]]
    return ", ".join(_cut(str(text)) for text in texts)


def _in_order(alternatives: Iterable[str], verb: str = "leave") -> str:
    """What the operations leave or return in the serial orders."""
    several = list(dict.fromkeys(alternatives))
    more = " or something else" if len(several) > _MOST else ""
    return f"one after the other they {verb} {' or '.join(several[:_MOST])}{more}"


def _listed(rows: Counter[_Shown]) -> str:
    return _list([f"({_pairs(row[:_MOST])})" for row in sorted(rows.elements())][:_MOST])


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs)


def _list(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
