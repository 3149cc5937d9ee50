"""Which values the database made up, and are told apart only by where they occur again: the labels of an effect.

The server says which columns have such defaults (defaults.py). What else is made up shows when the same schedule is run
twice, the second time with every sequence moved on by a number of its own: the parts of a text (parts.py) that differ
are labels, and of which sequence they are shows in the difference. Two times are equal only by chance, so that one is
as good as another. A value that is in the tables before a schedule begins is no label.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from racebench.exploration.oracle.canonical import Label, Term
from racebench.exploration.oracle.defaults import CLOCK, MADE, Column
from racebench.exploration.oracle.effects import Effect
from racebench.exploration.oracle.parts import ALONE, apart, between, frame, is_time, number
from racebench.postgres.copied_rows import Row

#: Where a value occurs: in a column, in what a session's call returned, or in the answers to a statement.
_Place = tuple[Any, ...]
#: A part of the texts of a place: their frame, and its number among their parts.
_Slot = tuple[_Place, str, int]
#: What stands for a value: one term; or the number of its pieces and the pieces.
Terms = tuple[Term, ...]

#: In place of a time: two of them are equal only by chance.
_SOME_TIME = "a time"
_DAY_S = 86_400
#: The parts of a second in which clocks count.
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)


class Labels:
    """The places whose values are labels, each with the domain of its values: values of one domain may be the same.

    `declared`: what the server says. `rows`: those of the tables before a schedule, with the names of their columns.
    """

    def __init__(
        self,
        declared: Mapping[Column, str],
        rows: Callable[[], Mapping[tuple[str, str], tuple[tuple[str, ...], Sequence[Row]]]],
    ) -> None:
        #: The columns whose default is a clock. Their values are labels if they differ; see `_terms`.
        self._clocks = frozenset(column for column, domain in declared.items() if domain == CLOCK)
        #: The places whose texts are labels as a whole.
        self._whole: dict[_Place, str] = {
            column: domain for column, domain in declared.items() if column not in self._clocks
        }
        #: The parts that are labels, and their places.
        self._slots: dict[_Slot, str] = {}
        self._divided: set[_Place] = set()
        self._declared = frozenset(declared)
        self._same: dict[str, str] = {}
        self._rows = rows
        self._constants: frozenset[tuple[str, str]] | None = None

    def term(self, column: Column, text: str | None) -> Terms:
        """What stands for the value of a column."""
        return self._terms(column, text)

    def path(self, session: int, path: str) -> Terms:
        """What stands for the keys that lead to a text in what the call of a session returned."""
        return self._terms(_keys(session), path)

    def leaf(self, session: int, path: str, text: str) -> Terms:
        """What stands for such a text."""
        return self._terms(_returned(session, path), text)

    def told(self, session: int, statement: str, column: str, text: str | None) -> Terms:
        """What stands for a value in an answer to a statement of a session."""
        return self._terms((session, statement, column), text)

    def measure(self, one: Effect, other: Effect, shifts: Mapping[tuple[str, str], int]) -> bool:
        """Take what differs between two runs of a schedule as labels, and return whether that is more than before.

        `shifts`: by how much each sequence had been moved on before the second of them.
        """
        before = len(self._whole), dict(self._slots), dict(self._same)
        first, second = _by_place(one), _by_place(other)
        for place in first.keys() & second.keys():
            self._compare(place, first[place] - second[place], second[place] - first[place], shifts)
        if before == (len(self._whole), self._slots, self._same):
            return False
        self._constants = None
        return True

    def copy(self) -> Labels:
        """Labels that know the same, and learn by themselves."""
        copy = Labels({}, self._rows)
        copy._clocks, copy._declared = self._clocks, self._declared
        copy._whole, copy._slots, copy._same = dict(self._whole), dict(self._slots), dict(self._same)
        copy._divided = set(self._divided)
        return copy

    def with_sequences(self, one: Effect, other: Effect, shifts: Mapping[tuple[str, str], int]) -> Labels | None:
        """Labels by which two runs differ in numbers of sequences; None if something else was made up, too.

        `shifts`: as in `measure`. Nothing is learned here.
        """
        trial = self.copy()
        trial.measure(one, other, shifts)
        new = [domain for slot, domain in trial._slots.items() if self._slots.get(slot) != domain]
        return trial if trial._whole == self._whole and {CLOCK, MADE}.isdisjoint(new) else None

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns that hold labels although their definition does not say so, as `table.column`."""
        places = (self._whole.keys() | self._divided) - self._declared
        return tuple(sorted(f"{place[1]}.{place[2]}" for place in places if isinstance(place[0], str)))

    def _terms(self, place: _Place, text: str | None) -> Terms:
        if text is None:
            return (None,)
        whole = self._whole.get(place)
        if whole is not None:
            return (self._term(whole, text),)
        if place in self._divided:
            of, parts = apart(text)
            domains = [self._slots.get((place, of, slot)) for slot in range(len(parts))]
            if any(domain is not None for domain in domains):
                terms = [
                    part if own is None else self._term(own, part) for own, part in zip(domains, parts, strict=True)
                ]
                return _joined(of, terms)
        if place in self._clocks and "." not in text and _is_recent(text):
            return (_SOME_TIME,)  # without fractions of a second two runs may have the same
        return (text,)

    def _term(self, domain: str, text: str) -> Term:
        domain = self._domain(domain)
        if domain == CLOCK:
            return _SOME_TIME
        value = _normal(text)
        return text if (domain, value) in self._known() else Label(domain, value)

    def _domain(self, domain: str) -> str:
        """The domain that stands for all those that have values in common with this one."""
        while domain in self._same:
            domain = self._same[domain]
        return domain

    def _known(self) -> frozenset[tuple[str, str]]:
        """The values that are in the tables before a schedule, with their domains."""
        if self._constants is None:
            self._constants = frozenset(
                (self._domain(domain), _normal(part))
                for table, (columns, rows) in self._rows().items()
                for number_of_column, name in enumerate(columns)
                for domain, part in self._labelled((*table, name), (row[number_of_column] for row in rows))
            )
        return self._constants

    def _labelled(self, place: _Place, texts: Iterable[str | None]) -> Iterator[tuple[str, str]]:
        """The parts of texts that would be labels, with their domains."""
        whole = self._whole.get(place)
        if whole is None and place not in self._divided:
            return
        for text in filter(None, texts):
            if whole is not None:
                yield whole, text
                continue
            of, parts = apart(text)
            for slot, part in enumerate(parts):
                domain = self._slots.get((place, of, slot))
                if domain is not None:
                    yield domain, part

    def _compare(
        self, place: _Place, fewer: Counter[str], more: Counter[str], shifts: Mapping[tuple[str, str], int]
    ) -> None:
        """Learn from the texts that a place had in one of two runs alone."""
        if fewer.total() != more.total():
            return  # not the same happened, so that the difference does not say what was made up
        ones, others = _by_frame(fewer), _by_frame(more)
        if {of: len(rows) for of, rows in ones.items()} != {of: len(rows) for of, rows in others.items()}:
            self._whole.setdefault(place, MADE)
            return
        for of, rows in ones.items():
            for slot in range(len(rows[0])):
                parts, their_parts = (Counter(row[slot] for row in found[of]) for found in (ones, others))
                if parts != their_parts:
                    self._note((place, of, slot), _domain_of(parts - their_parts, their_parts - parts, shifts))

    def _note(self, slot: _Slot, domain: str) -> None:
        place = slot[0]
        known = self._whole.get(place, self._slots.get(slot))
        of_sequence = domain not in (CLOCK, MADE)
        if known is not None and known not in (CLOCK, MADE):
            if of_sequence and self._domain(known) != self._domain(domain):
                self._same[self._domain(known)] = self._domain(domain)
        elif place not in self._whole and (known is None or of_sequence):
            self._slots[slot] = domain
            self._divided.add(place)


def shown(terms: Terms, made_up: str) -> str | None:
    """A value as a reader is to see it, with a mark in place of what was made up; None for NULL."""
    pieces = [made_up if isinstance(term, Label) else term for term in (terms if len(terms) == 1 else terms[1:])]
    return None if pieces == [None] else "".join(piece or "" for piece in pieces)


def _joined(of: str, terms: Sequence[Term]) -> Terms:
    """The pieces of a text in their order. Their number comes first, so that pieces of two texts are not mixed up."""
    if of == ALONE:
        return tuple(terms)
    texts = between(of)
    pieces: list[Term] = [texts[0]]
    for term, text in zip(terms, texts[1:], strict=True):
        pieces += (term, text)
    return (f"\0{len(pieces)}", *pieces)


def _normal(text: str) -> str:
    """A text, or the number that it is without leading zeros."""
    value = number(text)
    return text if value is None else str(value)


def _returned(session: int, path: str) -> _Place:
    return (session, frame(path))


def _keys(session: int) -> _Place:
    return (session, None)


def _by_place(effect: Effect) -> Mapping[_Place, Counter[str]]:
    """The values of an effect by the places where they occur."""
    found: defaultdict[_Place, Counter[str]] = defaultdict(Counter)
    for place, text in _values(effect):
        if text is not None:
            found[place][text] += 1
    return found


def _values(effect: Effect) -> Iterator[tuple[_Place, str | None]]:
    for change in effect.tables:
        for row in (*change.added, *change.removed):
            yield from (((*change.table, name), text) for name, text in zip(change.columns, row, strict=True))
    for session_number, session in enumerate(effect.sessions, 1):
        for path, leaf in session.returned:
            yield _keys(session_number), path
            yield _returned(session_number, path), leaf
        for told in session.told:
            for row in told.rows:
                for name, text in zip(told.columns, row, strict=True):
                    yield (session_number, told.statement, name), text


def _by_frame(texts: Counter[str]) -> Mapping[str, list[tuple[str, ...]]]:
    """The parts of texts, by the frames of the texts."""
    found: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for text in texts.elements():
        of, parts = apart(text)
        found[of].append(parts)
    return found


def _domain_of(fewer: Counter[str], more: Counter[str], shifts: Mapping[tuple[str, str], int]) -> str:
    """The domain of parts that differ: that of the sequence that was moved on by the difference, or a clock's."""
    if all(is_time(part) or _is_clock(part) for part in (*fewer, *more)):
        return CLOCK
    numbers = [Counter({number(part): count for part, count in parts.items()}) for parts in (fewer, more)]
    if None not in numbers[0] and None not in numbers[1]:
        for (schema, name), by in shifts.items():
            if Counter({value + by: count for value, count in numbers[0].items() if value is not None}) == numbers[1]:
                return f"{schema}.{name}"
    return MADE


def _is_clock(part: str) -> bool:
    """Whether a number is the time of now, in seconds or parts of seconds since 1970."""
    try:
        value = float(part)
    except ValueError:
        return False
    return any(abs(value / unit - time.time()) < _DAY_S for unit in _UNITS)


def _is_recent(text: str) -> bool:
    """Whether a time has a date of these days, or none."""
    if not is_time(text):
        return False
    try:
        date = datetime.date.fromisoformat(text[:10])
    except ValueError:
        return True
    return abs((date - datetime.date.today()).days) <= 1
