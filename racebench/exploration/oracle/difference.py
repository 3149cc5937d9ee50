"""How the effect of a schedule differs from the serial order that comes nearest to it, as a sentence.

Rows are compared as a reader sees them, with a mark in place of what the database made up. An updated row is told by
the row that it was: of the rows that are no more, the one that it has most values in common with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from racebench.core.quantity import quantity
from racebench.exploration.oracle.canonical import canonical
from racebench.exploration.oracle.effects import Effect, Oracle, SessionEffect
from racebench.exploration.oracle.facts import facts
from racebench.exploration.oracle.labels import Labels, shown
from racebench.exploration.oracle.serial import Order
from racebench.postgres.copied_rows import TableChange

#: In place of a value that the database made up.
_MADE_UP = "…"
_SAYS_NOTHING = (_MADE_UP, "NULL", "'a time'")
#: The longest value, the most columns of a row, rows of a table, and outcomes of serial orders that a sentence shows.
_LONGEST, _MOST_COLUMNS, _MOST_ROWS, _MOST_OUTCOMES = 30, 2, 3, 3
#: The longest sentence with more than one outcome.
_LONGEST_SENTENCE = 160
_PLAIN = re.compile(r"[\w.:+@/…\[\](),-]+")
#: What a call returned that returned None.
_NOTHING = (("", "None"),)
_Table = tuple[str, str]
#: A row as it is shown: the texts of its columns.
_Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changes:
    """The changes of a table: rows that were there with what they became (None: deleted), and new rows.

    `sharing`: how many rows have the same value in a column, for the columns in which it was made up.
    """

    columns: tuple[str, ...] = ()
    became: Mapping[_Row, _Row | None]
    inserted: Counter[_Row]
    sharing: Mapping[str, int] = field(default_factory=dict)

    def now(self, row: _Row) -> _Row | None:
        """What a row is that was there before."""
        return self.became.get(row, row)


_NONE = _Changes(became={}, inserted=Counter())
_Picture = Mapping[_Table, _Changes]


def difference(effect: Effect, serial: Mapping[Order, Effect], labels: Labels, oracle: Oracle) -> str:
    """What is otherwise in a schedule than in the serial order that is most like it; "" if there is none to compare."""
    if not serial:
        return ""
    own = _picture(effect, labels)
    pictures = sorted((_picture(other, labels) for other in serial.values()), key=lambda other: _distance(own, other))
    order = _order(effect)
    for table in sorted(own.keys() | pictures[0].keys()):
        every = [picture.get(table, _NONE) for picture in pictures]
        if said := _of_table(table, own.get(table, _NONE), every, order):
            return said
    if said := _of_consumer(len(effect.undelivered), [len(other.undelivered) for other in serial.values()], order):
        return said
    if not _same_tables(effect, serial, labels):
        tables = _list([_named(table) for table in sorted(own)])
        return f"rows of {tables} refer to others, or are numbered, as in no serial order"
    return _of_answers(effect, [*serial.values()], labels, oracle, order)


def _of_consumer(missed: int, others: Sequence[int], order: str) -> str:
    """How many rows the consumer never gets, if it is another number in every serial order."""
    if missed in others:
        return ""
    said = f"the consumer never gets {quantity(missed, 'row')}"
    if not any(others):
        return f"{said} that every serial order delivers"
    return _sentence(said, order, _outcomes("it never gets {}", map(str, others)))


def _order(effect: Effect) -> str:
    """In which order the sessions run that are compared with; those that failed do not."""
    succeeded = [f"s{number}" for number in sorted(effect.succeeded)]
    if effect.unknown:
        unknown = _list([f"s{number}" for number in sorted(effect.unknown)])
        if not succeeded:
            return f"with or without {unknown}"
        return f"with {_list([*succeeded, f'perhaps {unknown}'])} in turn"
    if len(succeeded) == len(effect.sessions):
        return "one after the other"
    return f"with s{min(effect.succeeded)} alone" if len(succeeded) == 1 else f"with {_list(succeeded)} in turn"


def _picture(effect: Effect, labels: Labels) -> _Picture:
    return {change.table: _changes(change, labels) for change in effect.tables}


def _changes(change: TableChange, labels: Labels) -> _Changes:
    inserted = Counter(_shown(change, row, labels) for row in change.added)
    removed = [_shown(change, row, labels) for row in change.removed]
    became: dict[_Row, _Row | None] = {}
    alone = len(removed) == inserted.total() == 1
    for old in removed:
        likest = max(inserted.elements(), key=lambda new: _common(old, new), default=None)
        if likest is not None and not alone and not _common(old, likest):
            likest = None
        became[old] = likest
        if likest is not None:
            inserted -= Counter([likest])
    return _Changes(columns=change.columns, became=became, inserted=inserted, sharing=_sharing(change, labels))


def _sharing(change: TableChange, labels: Labels) -> dict[str, int]:
    sharing = {}
    for place, name in enumerate(change.columns):
        texts = Counter(row[place] for row in change.added if row[place] is not None)
        text, count = texts.most_common(1)[0] if texts else (None, 0)
        if shown(labels.term((*change.table, name), text), _MADE_UP) == _MADE_UP:
            sharing[name] = count
    return sharing


def _common(one: _Row, other: _Row) -> int:
    return sum(mine == theirs and mine not in _SAYS_NOTHING for mine, theirs in zip(one, other, strict=True))


def _shown(change: TableChange, row: Sequence[str | None], labels: Labels) -> _Row:
    return tuple(
        _legible(shown(labels.term((*change.table, name), text), _MADE_UP))
        for name, text in zip(change.columns, row, strict=True)
    )


def _legible(text: str | None) -> str:
    if text is None:
        return "NULL"
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return text if _PLAIN.fullmatch(text) else f"'{text}'"


def _distance(one: _Picture, other: _Picture) -> int:
    """The number of rows that differ."""
    count = 0
    for table in one.keys() | other.keys():
        own, others = one.get(table, _NONE), other.get(table, _NONE)
        count += sum(own.now(row) != others.now(row) for row in own.became.keys() | others.became.keys())
        count += ((own.inserted - others.inserted) + (others.inserted - own.inserted)).total()
    return count


def _of_table(table: _Table, own: _Changes, every: Sequence[_Changes], order: str) -> str:
    """The difference of a table; "" if it is as in the nearest order, which is the first."""
    columns = own.columns or every[0].columns
    rows = sorted({row for changes in (own, *every) for row in changes.became})
    if any(own.now(row) != every[0].now(row) for row in rows):
        return _of_rows(_named(table), columns, rows, own, every, order)
    if own.inserted != every[0].inserted:
        return _of_new_rows(_named(table), columns, own, every, order)
    return ""


def _of_rows(
    table: str, columns: Sequence[str], rows: Sequence[_Row], own: _Changes, every: Sequence[_Changes], order: str
) -> str:
    """What became of rows that were there, where it differs."""
    gone, *others = (Counter(row for row in rows if changes.now(row) is None) for changes in (own, *every))
    counts = [lost.total() for lost in others]
    if gone.total() not in counts:
        outcomes = _outcomes("it has lost {}", (str(count or "none") for count in counts))
        return _sentence(f"{table} has lost {quantity(gone.total(), 'row') if gone else 'no row'}", order, outcomes)
    if gone and gone not in others:
        outcomes = _outcomes("it has lost {}", (_listed(columns, lost) or "none" for lost in others))
        return _sentence(f"{table} has lost {_listed(columns, gone)}", order, outcomes)
    names = [
        name
        for place, name in enumerate(columns)
        if any(_at(own.now(row), place) != _at(every[0].now(row), place) for row in rows)
    ][:_MOST_COLUMNS]
    places = [columns.index(name) for name in names]
    identity = _identity(columns, rows, (own, *every), places)
    moved = [row for row in rows if any(_values(c.now(row), places) != _values(row, places) for c in (own, *every))]
    shown_rows = moved[:_MOST_ROWS]
    outcomes = [_list([_pairs(names, _values(c.now(row), places)) for row in shown_rows]) for c in every]
    known = "" if identity is None else columns[identity]
    here = [
        _pairs(names, _values(own.now(row), places))
        + ("" if identity is None else f" ({known} {row[identity]})" if not place else f" ({row[identity]})")
        for place, row in enumerate(shown_rows)
    ]
    if len(names) == 1:
        return _sentence(f"{names[0]} of {table} is {_list(here)}", order, _outcomes("it is {}", outcomes))
    return _sentence(f"{table} has {_list(here)}", order, _outcomes("it has {}", outcomes))


def _identity(
    columns: Sequence[str], rows: Sequence[_Row], every: Iterable[_Changes], places: Sequence[int]
) -> int | None:
    """The first column that tells rows apart, and that no change touches."""
    for place in range(len(columns)):
        values = [row[place] for row in rows]
        kept = all(_at(changes.now(row), place) in (None, row[place]) for changes in every for row in rows)
        if place not in places and kept and len({*values}) == len(rows) and values[0] not in _SAYS_NOTHING:
            return place
    return None


def _at(row: _Row | None, place: int) -> str | None:
    return None if row is None else row[place]


def _values(row: _Row | None, places: Sequence[int]) -> tuple[str, ...]:
    return () if row is None else tuple(row[place] for place in places)


def _pairs(names: Sequence[str], values: Sequence[str]) -> str:
    """Values with the names of their columns; the value alone of one column, which the sentence names."""
    if not values:
        return "deleted"
    if len(names) == 1:
        return values[0]
    return " and ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def _of_new_rows(
    table: str, columns: Sequence[str], changes: _Changes, others_changes: Sequence[_Changes], order: str
) -> str:
    """Which rows are new, where it differs."""
    own, every = changes.inserted, [others.inserted for others in others_changes]
    counts = [rows.total() for rows in every]
    same_count = all(count == own.total() for count in counts)
    twins = []
    for place, name in enumerate(columns):
        value, count = _by_column(own, place).most_common(1)[0] if own else ("", 0)
        others = [_by_column(rows, place) for rows in every]
        if count < 2 or value in _SAYS_NOTHING:
            continue
        if same_count and all(max(values.values()) == 1 for values in others):
            outcomes = [_list(sorted(values, key=_as_number)) for values in others]
            said = f"{count} rows of {table} have {name} {value}"
            return _sentence(said, order, _outcomes("they have {}", outcomes))
        if all(values[value] < count for values in others):
            twins.append((name, value, count, [values[value] for values in others]))
    if twins and all(count == twins[0][2] for _, _, count, _ in twins):
        pairs = ", ".join(f"{name} {value}" for name, value, _, _ in twins[: _MOST_COLUMNS + 1])
        outcomes = _outcomes("there {}", map(_there, twins[0][3]))
        return _sentence(f"{twins[0][2]} rows of {table} have {pairs}", order, outcomes)
    for name, count in changes.sharing.items():
        if count > 1 and all(others.sharing.get(name, 0) < count for others in others_changes):
            outcomes = ["they differ"] if same_count else _outcomes("there {}", map(_there, counts))
            return _sentence(f"{count} rows of {table} have the same {name}", order, outcomes)
    if own.total() not in counts:
        rows = quantity(own.total(), "new row") if own else "no new row"
        outcomes = _outcomes("it has {}", (str(count or "none") for count in counts))
        return _sentence(f"{table} has {rows}{_telling(columns, own)}", order, outcomes)
    for place, name in enumerate(columns):
        if all(_by_column(own, place) != _by_column(rows, place) for rows in every):
            new = "the new row" if own.total() == 1 else "the new rows"
            outcomes = _outcomes("it is {}", (_elements(rows, place) for rows in every))
            return _sentence(f"{name} of {new} of {table} is {_elements(own, place)}", order, outcomes)
    outcomes = _outcomes("it has {}", (_listed(columns, rows - own) or "other rows" for rows in every))
    return _sentence(f"{table} has {_listed(columns, own - every[0])}", order, outcomes)


def _by_column(rows: Counter[_Row], place: int) -> Counter[str]:
    found = Counter[str]()
    for row, times in rows.items():
        found[row[place]] += times
    return found


def _elements(rows: Counter[_Row], place: int) -> str:
    values = sorted(_by_column(rows, place).elements(), key=_as_number)
    return _list(values[:_MOST_ROWS]) or "none"


def _telling(columns: Sequence[str], rows: Counter[_Row]) -> str:
    """The values of the first column that says something of the rows."""
    for place, name in enumerate(columns):
        if rows.total() > 1 and len({*_by_column(rows, place)} - {*_SAYS_NOTHING}) > 1:
            return f", with {name} {_elements(rows, place)}"
    return ""


def _listed(columns: Sequence[str], rows: Counter[_Row]) -> str:
    texts = []
    for row in sorted(rows.elements())[:_MOST_ROWS]:
        pairs = [f"{name} {text}" for name, text in zip(columns, row, strict=True) if text not in _SAYS_NOTHING]
        texts.append(f"({', '.join(pairs[: _MOST_COLUMNS + 1])})")
    return _list(texts)


def _there(count: int) -> str:
    return "is none" if not count else "is 1" if count == 1 else f"are {count:,}"


def _same_tables(effect: Effect, serial: Mapping[Order, Effect], labels: Labels) -> bool:
    """Whether the tables are those of a serial order, made-up values included."""
    among = effect.succeeded
    form = canonical(facts(effect, Oracle.STATE, among, labels))
    return any(canonical(facts(other, Oracle.STATE, among, labels)) == form for other in serial.values())


def _of_answers(effect: Effect, serial: Sequence[Effect], labels: Labels, oracle: Oracle, order: str) -> str:
    """What the calls returned or the statements answered."""
    sessions = sorted(effect.succeeded)

    def returned(one: Effect) -> tuple[str, ...]:
        return tuple(_returned(number, one.sessions[number - 1], labels) for number in sessions)

    sessions = [
        number for number in sessions if any(one.sessions[number - 1].returned != _NOTHING for one in (effect, *serial))
    ]
    own, others = returned(effect), [returned(one) for one in serial]
    if oracle is not Oracle.STATE and any(own) and own not in others:
        if len(own) > 1 and len({*own}) == 1:
            calls = "both calls return" if len(own) == 2 else f"all {len(own)} calls return"
            said = f"{calls} {own[0]}"
            others = [*{tuple(sorted(other)): other for other in reversed(others)}.values()][::-1]
        else:
            said = _list([f"s{number} returns {value}" for number, value in zip(sessions, own, strict=True)])
        verb = "it returns {}" if len(own) == 1 else "they return {}"
        return _sentence(said, order, _outcomes(verb, map(_list, others)))
    if oracle is Oracle.ANSWERS:
        return "the answers to the statements are those of no serial order"
    if oracle is Oracle.RETURNS:
        return "what the calls return and what they leave go together in no serial order"
    return "the tables are as no serial order leaves them"


def _returned(number: int, session: SessionEffect, labels: Labels) -> str:
    texts = [_legible(shown(labels.leaf(number, path, text), _MADE_UP)) for path, text in session.returned]
    if len(texts) < 2:
        return "".join(texts)
    more = ", …" if len(texts) > _MOST_ROWS + 1 else ""
    return f"({', '.join(texts[1 : _MOST_ROWS + 1])}{more})"


def _outcomes(form: str, alternatives: Iterable[str]) -> list[str]:
    """The clause about the serial orders, with one outcome and with more: the longest is the last."""
    several = list(dict.fromkeys(alternatives))
    clauses = []
    for count in range(1, min(len(several), _MOST_OUTCOMES) + 1):
        more = " or something else" if len(several) > count else ""
        clauses.append(form.format(f"{' or '.join(several[:count])}{more}"))
    return clauses


def _sentence(said: str, order: str, outcomes: Sequence[str]) -> str:
    """What a schedule leaves, and what serial orders do: as many outcomes of them as a short sentence has room for."""
    sentences = [f"{said}; {order} {clause}" for clause in outcomes]
    return next((text for text in reversed(sentences) if len(text) <= _LONGEST_SENTENCE), sentences[0])


def _list(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _named(table: _Table) -> str:
    schema, name = table
    return f"{schema}.{name}" if schema else name


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
