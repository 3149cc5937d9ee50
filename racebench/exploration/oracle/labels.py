"""Which values the database made up, and are told apart only by where they occur again: the labels of an effect.

The server says which columns have such defaults. What else is made up shows when a serial order is run twice, the
second time with every sequence moved on by a number of its own: what differs between the two is a label, and of which
sequence shows in the difference. A value that is in the tables before a schedule begins is no label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg

from racebench.exploration.independence import CLOCKS, names_in
from racebench.exploration.oracle.canonical import Label, Term
from racebench.exploration.oracle.effects import Effect
from racebench.postgres.snapshot import Row

#: A column: its schema, table and name.
Column = tuple[str, str, str]
#: Where a value occurs: in a column, in what a session's call returned, or in the answers to a statement.
_Place = tuple[Any, ...]

#: The domains of labels that are of no sequence.
_CLOCK, _MADE = "time", "other"
_TIME = re.compile(r"^\d{4,}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?([+-]\d\d(:\d\d)?)?( BC)?$|^\d{4,}-\d\d-\d\d( BC)?$")
#: In place of a time without fractions of a second: two of them may be equal by chance.
_SOME_TIME = "a time"
_INDEX = re.compile(r"\[\d+\]")
_DEFAULTS = """
SELECT n.nspname, c.relname, attname, pg_get_expr(adbin, adrelid), of.nspname, of.relname
FROM pg_attrdef d LEFT JOIN LATERAL (
    SELECT sn.nspname, s.relname FROM pg_depend p JOIN pg_class s ON s.oid = refobjid AND s.relkind = 'S'
    JOIN pg_namespace sn ON sn.oid = s.relnamespace
    WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND refclassid = 'pg_class'::regclass LIMIT 1
) AS of ON true
JOIN pg_class c ON c.oid = adrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = adnum
WHERE attgenerated = '' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT n.nspname, c.relname, attname, NULL, sn.nspname, s.relname FROM pg_attribute a
JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend p ON p.classid = 'pg_class'::regclass AND p.refclassid = p.classid AND p.refobjid = c.oid
    AND refobjsubid = attnum AND deptype = 'i'
JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
WHERE attidentity <> '' AND NOT attisdropped
"""
_UNSTABLE = "SELECT lower(proname) FROM pg_proc WHERE proname = ANY(%s) AND provolatile <> 'i'"
_REFERENCES = """
SELECT n.nspname, c.relname, a.attname, fn.nspname, f.relname, fa.attname
FROM pg_constraint k CROSS JOIN LATERAL unnest(conkey, confkey) AS pair(own, other)
JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = own
JOIN pg_class f ON f.oid = confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
JOIN pg_attribute fa ON fa.attrelid = confrelid AND fa.attnum = other
WHERE contype = 'f'
"""


class Labels:
    """The places whose values are labels, each with the domain of its values: values of one domain may be the same.

    `declared`: what the server says. `rows`: those of the tables before a schedule, with the names of their columns.
    """

    def __init__(
        self,
        declared: Mapping[Column, str],
        rows: Callable[[], Mapping[tuple[str, str], tuple[tuple[str, ...], Sequence[Row]]]],
    ) -> None:
        self._domains: dict[_Place, str] = dict(declared)
        self._measured: dict[_Place, str] = {}
        self._same: dict[str, str] = {}
        self._rows = rows
        self._constants: dict[str, frozenset[str]] | None = None

    def term(self, column: Column, text: str | None) -> Term:
        """What stands for the value of a column."""
        return self._term(column, text)

    def leaf(self, session: int, path: str, text: str) -> Term:
        """What stands for a text in what the call of a session returned."""
        return self._term(_returned(session, path), text)

    def told(self, session: int, statement: str, column: str, text: str | None) -> Term:
        """What stands for a value in an answer to a statement of a session."""
        return self._term((session, statement, column), text)

    def _term(self, place: _Place, text: str | None) -> Term:
        if text is None or (domain := self._domains.get(place)) is None:
            return text
        domain = self._domain(domain)
        if text in self._known(domain):
            return text
        if _TIME.match(text):
            return Label(_CLOCK, text) if "." in text else _SOME_TIME
        return Label(domain, text)

    def _domain(self, domain: str) -> str:
        """The domain that stands for all those that have values in common with this one."""
        while domain in self._same:
            domain = self._same[domain]
        return domain

    def _known(self, domain: str) -> frozenset[str]:
        """The values of a domain that are in the tables before a schedule."""
        if self._constants is None:
            found: dict[str, set[str]] = {}
            for table, (columns, rows) in self._rows().items():
                for place, name in enumerate(columns):
                    own = self._domains.get((*table, name))
                    if own is not None:
                        values = (row[place] for row in rows)
                        found.setdefault(self._domain(own), set()).update(text for text in values if text is not None)
            self._constants = {own: frozenset(values) for own, values in found.items()}
        return self._constants.get(domain, frozenset())

    def measure(self, one: Effect, other: Effect, shifts: Mapping[tuple[str, str], int]) -> bool:
        """Take what differs between two runs of a schedule as labels, and return whether that is more than before.

        `shifts`: by how much each sequence had been moved on before the second of them.
        """
        before = dict(self._domains), dict(self._same)
        first, second = _by_place(one), _by_place(other)
        for place in first.keys() & second.keys():
            fewer, more = first[place] - second[place], second[place] - first[place]
            if fewer or more:
                self._note(place, _domain_of(fewer, more, shifts))
        if before == (self._domains, self._same):
            return False
        self._constants = None
        return True

    def _note(self, place: _Place, domain: str) -> None:
        known = self._domains.get(place)
        if known is None:
            self._domains[place] = self._measured[place] = domain
        elif self._domain(known) != self._domain(domain) and domain != _CLOCK:
            self._same[self._domain(known)] = self._domain(domain)

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns that hold labels although their definition does not say so, as `table.column`."""
        return tuple(sorted(f"{place[1]}.{place[2]}" for place in self._measured if isinstance(place[0], str)))


def _returned(session: int, path: str) -> _Place:
    return (session, _INDEX.sub("[]", path))


def _by_place(effect: Effect) -> dict[_Place, Counter[str]]:
    """The values of an effect by the places where they occur."""
    found: dict[_Place, Counter[str]] = {}
    for place, text in _values(effect):
        if text is not None:
            found.setdefault(place, Counter())[text] += 1
    return found


def _values(effect: Effect) -> Iterator[tuple[_Place, str | None]]:
    for change in effect.tables:
        for row in (*change.added, *change.removed):
            yield from (((*change.table, name), text) for name, text in zip(change.columns, row, strict=True))
    for number, session in enumerate(effect.sessions, 1):
        yield from ((_returned(number, path), text) for path, text in session.returned)
        for told in session.told:
            for row in told.rows:
                for name, text in zip(told.columns, row, strict=True):
                    yield (number, told.statement, name), text


def _domain_of(fewer: Counter[str], more: Counter[str], shifts: Mapping[tuple[str, str], int]) -> str:
    """The domain of values that differ: that of the sequence that was moved on by the difference."""
    try:
        numbers = [Counter({int(text): count for text, count in values.items()}) for values in (fewer, more)]
    except ValueError:
        return _CLOCK if all(map(_TIME.match, (*fewer, *more))) else _MADE
    for (schema, name), by in shifts.items():
        if Counter({number + by: count for number, count in numbers[0].items()}) == numbers[1]:
            return f"{schema}.{name}"
    return _MADE


def declared(connection: psycopg.Connection[Any], schema: str) -> dict[Column, str]:
    """The columns that the database fills itself, and those that refer to them, with their domains.

    The schema of this name is called "" in them. Raises psycopg.Error.
    """
    defaults = connection.execute(_DEFAULTS).fetchall()
    names = set[str]().union(*(names_in(str(row[3])) for row in defaults if row[3] is not None))
    unstable = {str(row[0]) for row in connection.execute(_UNSTABLE, (sorted(names),)).fetchall()} | CLOCKS
    found: dict[Column, str] = {}

    def named(name: Any) -> str:
        return "" if name == schema else str(name)

    for own, table, column, default, of, sequence in defaults:
        if sequence is not None:
            found[named(own), str(table), str(column)] = f"{named(of)}.{sequence}"
        elif not unstable.isdisjoint(called := names_in(str(default))):
            found[named(own), str(table), str(column)] = _MADE if called.isdisjoint(CLOCKS) else _CLOCK
    references = [tuple(map(str, row)) for row in connection.execute(_REFERENCES).fetchall()]
    references = [(named(one), table, column, named(other), *rest) for one, table, column, other, *rest in references]
    while True:
        more = {
            (row[0], row[1], row[2]): found[row[3], row[4], row[5]]
            for row in references
            if (row[3], row[4], row[5]) in found and (row[0], row[1], row[2]) not in found
        }
        if not more:
            return found
        found |= more
