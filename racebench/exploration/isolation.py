"""How each schedule of a search is kept apart from the schedules before it: one class for each method.

A world chooses the method when it is made, by its scenario and by what the code may leave behind. What no method
restores is named, as the reasons why a search proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.model import Scenario, ScheduleIsolation
from racebench.core.plain_text import one_line
from racebench.exploration.faults import Fault
from racebench.exploration.inspection import decoded
from racebench.exploration.known import Known
from racebench.exploration.leftovers import Leftover
from racebench.exploration.physical import Physical
from racebench.exploration.result import Beginning, Start
from racebench.exploration.reuse import Standing
from racebench.exploration.sessions.session import Session
from racebench.postgres import definitions
from racebench.postgres.copied_rows import Row, TableChange
from racebench.postgres.definitions import Definitions
from racebench.postgres.large_objects import LargeObjects
from racebench.postgres.materialized_views import MaterializedViews
from racebench.postgres.placement import Layout
from racebench.postgres.snapshot import Snapshot
from racebench.postgres.storage import Care, access_methods

if TYPE_CHECKING:
    from racebench.exploration.oracle.stored_order import StoredOrder

#: The tenants that a schema serves before it is created again: scenarios create accounts for this many.
_MOST_TENANTS = 2_000
#: What a reader can do about what cannot be restored.
_EMBEDDED = "explore it on the embedded server, where that is restored"
_SETUP = "explore it with --setup, on tables that racebench makes"
_SHOW = "write the statement itself, where racebench can read it"
#: The most changes of definitions that a sentence lists.
_MOST_LISTED = 3
#: The least number by which a sequence is moved on to tell its values, in increments: of sequences that racebench made,
#: and of the application's own.
_OFFSET, _OWN_OFFSET = 1_000_003, 11
_LARGE = frozenset({Leftover.LARGE_OBJECTS, Leftover.HIDDEN})
#: What is only restored by making the schema again.
_OF_THE_SCHEMA = (Leftover.CATALOG, Leftover.MATERIALIZED)


class Isolation(Protocol):
    """Keeps a schedule apart from the schedules before it.

    `whole_tables`: every row of the tables, of any tenant, is from the setup or from the current schedule.
    """

    whole_tables: bool

    @property
    def beginning(self) -> Beginning:
        """What the schedules so far began with."""

    @property
    def suffices(self) -> bool:
        """Whether the current schedule began in a state that will do, by what is known of the sessions by now."""

    def renew(self) -> bool:
        """Prepare for the next schedule; False if the world must be made again first. Raises DatabaseProblem."""

    def check(self) -> None:
        """Restore what can be, after the last schedule, and name what has changed all the same."""

    @property
    def named(self) -> tuple[str, ...]:
        """Why schedules may have begun in different states, as sentences: what was changed and not restored, so far."""

    def close(self, over: psycopg.Connection[Any]) -> None:
        """Restore what outlives the schema over a connection, when the sessions are closed. Raises DatabaseProblem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What schedules run on.

    `connection`: one that no session uses. `sessions`: those of the schedules. `exclusive`: no other program uses the
    database. `remake`: drops the schema and sets it up again; None where the tables are the application's own.
    `expected`: what the code may leave behind, as far as that is known beforehand; None if it is not known.
    `original`: the application's own tables before the setup, which are restored at the end. `standing`: the schema as
    its setup left it, if that is known from an exploration before. `known`: what was asked of the catalogs.
    """

    connection: psycopg.Connection[Any]
    schema: str
    sessions: Sequence[Session]
    exclusive: bool
    remake: Callable[[], None] | None
    expected: Mapping[Leftover, str] | None
    original: Snapshot | None = None
    standing: Standing | None = None
    known: Known = field(default_factory=Known)

    def may_leave(self, *leftovers: Leftover) -> bool:
        """Whether the code may leave one of these behind."""
        return self.expected is None or not self.expected.keys().isdisjoint((*leftovers, Leftover.HIDDEN))


class _Besides:
    """Restores, or names, what is not in the schema: what sessions hold, large objects, tables of other schemas."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._names: dict[str, None] = {}
        restorable = ground.exclusive and ground.may_leave(Leftover.LARGE_OBJECTS)
        self._large = self._first = LargeObjects(ground.connection) if restorable else None
        # A search_path that was set leads to other schemas too.
        written = ground.exclusive and ground.may_leave(Leftover.ELSEWHERE, Leftover.SETTINGS)
        self._others = None
        if written:
            self._others = Snapshot(ground.connection, ground.schema, others=True, physical=True)

    def restore(self, *, care: Care = Care.ROWS) -> dict[Leftover, str]:
        """Clean the sessions and restore large objects; return what the sessions may have left, and by which step.

        `care`: with tables of other schemas, if they are restored.
        """
        left: dict[Leftover, str] = {}
        for session in self._ground.sessions:
            left = {**session.leaves, **left}
            try:
                session.clean()
            except DatabaseProblem as problem:
                sqlstate = problem.sqlstate if isinstance(problem, Fault) else ""
                said = f"{session.name}: {problem}"
                raise (Fault(said, sqlstate) if sqlstate else DatabaseProblem(said)) from None
        if self._large is not None:
            if left.keys() & _LARGE:
                self._large.restore()
        elif Leftover.LARGE_OBJECTS in left:
            step = left[Leftover.LARGE_OBJECTS]
            self.name(f"'{step}' may change large objects, which belong to no schema", _EMBEDDED)
        if self._others is not None:
            self._others.restore(care=care)
        elif Leftover.ELSEWHERE in left and not self._ground.exclusive:
            self.name(f"'{left[Leftover.ELSEWHERE]}' writes to another schema than {self._ground.schema}", _EMBEDDED)
        return left

    @property
    def not_anew(self) -> str:
        """Why tables of other schemas were not made anew; "" if they were, or are not restored."""
        return "" if self._others is None else self._others.not_anew

    def note(self) -> None:
        """Note what the setup has made outside the schema when it was run again."""
        if self._others is not None:
            self._others.restore()
        if self._large is not None:
            self._large = LargeObjects(self._ground.connection)

    def changes(self) -> tuple[TableChange, ...]:
        """The changes of tables in other schemas."""
        return () if self._others is None else self._others.changes()

    def close(self, over: psycopg.Connection[Any]) -> None:
        """Restore what outlives the sessions."""
        if self._first is not None and any(session.leaves.keys() & _LARGE for session in self._ground.sessions):
            self._first.restore(over)
        if self._others is not None:
            self._others.restore(over)

    @property
    def named(self) -> tuple[str, ...]:
        """What was changed and is not restored, as sentences."""
        return tuple(self._names)

    def name(self, what: str, advice: str) -> None:
        """Name something that was changed and is not restored, and what to do."""
        self._names[f"{what}; {advice}"] = None

    def check(self) -> None:
        """Name what the sessions still hold, and what was changed without a statement that shows it."""
        for session in self._ground.sessions:
            for what in session.kept():
                self.name(f"{session.name} left {what}", "have the code remove it before it ends")
        if self._large is not None and (changed := self._large.changed()):
            self.name(f"large object {changed[0]} was changed by code that does not show it", _SHOW)


class FreshTenants:
    """Each schedule has a new tenant, so no table is restored, and rows and index entries of others do not matter."""

    whole_tables = False

    suffices = True

    def __init__(self, most: int, ground: Ground, physical: Physical | None = None) -> None:
        self._left, self._physical = most, physical
        self._besides = _Besides(ground)
        self._anew = most == 1
        # A world that is made again for each schedule has new definitions each time.
        self._schema = None if self._anew else _Schema(ground)

    def renew(self) -> bool:
        self._besides.restore()
        self._left -= 1
        return self._left >= 0

    @property
    def beginning(self) -> Beginning:
        if self._anew:
            return Beginning(start=Start.REMADE)
        if self._physical is None or self._physical.care is Care.ROWS:
            return Beginning(start=Start.TENANT)
        return Beginning(
            start=Start.TENANT,
            reasons=self._physical.reasons,
            prevented="a replication slot reads the tables",
            doubtful=self._physical.decides,
        )

    @property
    def named(self) -> tuple[str, ...]:
        return self._besides.named

    def close(self, over: psycopg.Connection[Any]) -> None:
        self._besides.close(over)

    def check(self) -> None:
        self._besides.restore()
        self._besides.check()
        if self._schema is not None and (changes := [*self._schema.changes(), *self._schema.refreshed()]):
            self._besides.name(f"{_listed(changes)} by code that does not show it", _SHOW)


class RestoredTables:
    """The tables and sequences are restored before each schedule, for code that has no tenants.

    If definitions were changed, the schema is made again, under its name and beneath the same sessions.
    """

    whole_tables = True

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._besides = _Besides(ground)
        self._schema = _Schema(ground)
        self._snapshot = ground.standing.snapshot if ground.standing is not None else self._taken()
        self._physical = _physical(ground)
        self._began_with = Care.ROWS

    def _taken(self) -> Snapshot:
        return Snapshot(self._ground.connection, self._ground.schema, physical=True)

    def _restore(self) -> None:
        """Restore the tables, and make them anew if that may matter."""
        self._began_with = self._physical.care
        self._snapshot.restore(care=self._began_with)

    def make_anew(self) -> None:
        """Make the tables anew after `renew`, so that rows are stored in the order in which they are inserted."""
        self._snapshot.restore(care=Care.ALL)

    def note_places(self, stored: StoredOrder, *, writer: int) -> None:
        """Note where the committed rows are stored now, after a step of a session. Raises DatabaseProblem."""
        try:
            for table, (columns, copied) in self._snapshot.placement.read().items():
                stored.note(self._named(table), columns, copied, writer=writer)
        except psycopg.Error as problem:
            raise DatabaseProblem(f"the places of rows cannot be read: {one_line(str(problem))}") from None

    def rearrange(self, stored: StoredOrder, *, session: int) -> None:
        """Store the rows as in a schedule, with room for those of a session, as far as that can be done.

        No session may be in a transaction. Raises DatabaseProblem.
        """

        def arranging(table: tuple[str, str], columns: tuple[str, ...], lines: Sequence[bytes]) -> Layout:
            return stored.layout(self._named(table), columns, lines, session)

        try:
            self._snapshot.placement.rearrange(arranging, lambda table: stored.concerns(self._named(table)))
        except psycopg.Error as problem:
            raise DatabaseProblem(f"rows cannot be stored in another order: {one_line(str(problem))}") from None

    @property
    def suffices(self) -> bool:
        return self._began_with is self._physical.care

    @property
    def beginning(self) -> Beginning:
        care = self._physical.care
        if care is Care.ROWS:
            return Beginning(start=Start.RESTORED)
        prevented = self._snapshot.not_anew or self._besides.not_anew
        return Beginning(
            start=Start.RESTORED if prevented else Start.ANEW if care is Care.ALL else Start.PAGES,
            reasons=self._physical.reasons,
            prevented=prevented,
            doubtful=bool(prevented) and self._physical.decides,
        )

    @property
    def named(self) -> tuple[str, ...]:
        return self._besides.named

    def close(self, over: psycopg.Connection[Any]) -> None:
        self._besides.close(over)

    def renew(self) -> bool:
        left = self._besides.restore(care=self._physical.care)
        # The step that may have changed definitions, or refreshed a view.
        changer, refresher = (left.get(one, left.get(Leftover.HIDDEN)) for one in _OF_THE_SCHEMA)
        if changer is not None and (changes := self._schema.changes()):
            if self._remade():
                return True
            self._besides.name(f"'{changer}': {_listed(changes)}, in tables of the application's own", _SETUP)
            self._restore_changed(changer)
        else:
            self._restore()
        if refresher is not None and (stale := self._schema.refresh()):
            # Their rows are those of the tables at a moment before the end of the setup.
            if self._remade():
                return True
            what = f"'{refresher}' refreshes {', '.join(stale)}, which was out of date before"
            self._besides.name(what, "have the setup refresh it")
        return True

    def _restore_changed(self, changer: str) -> None:
        """Restore tables whose definitions were changed; raises UsageProblem if that cannot be done."""
        try:
            self._restore()
        except DatabaseProblem as problem:
            if self._ground.original is not None:
                self._ground.original.forget()  # it would fail in the same way
            raise UsageProblem(f"'{changer}' changed tables of the application's own: {problem}; {_SETUP}") from None

    def _remade(self) -> bool:
        """Make the schema again; False if it is the application's own."""
        if self._ground.remake is None:
            return False
        self._ground.remake()
        self._besides.note()
        self._snapshot = self._taken()
        self._restore()
        self._schema.note_views()
        for session in self._ground.sessions:
            session.prepare_again()
        return True

    def changes(self) -> tuple[TableChange, ...]:
        """The committed changes of rows since the tables were restored; the schema of the search has the name ""."""
        found = self._snapshot.changes() + self._schema.changed_rows() + self._besides.changes()
        return tuple(replace(change, table=self._named(change.table)) for change in found)

    def rows(self) -> Mapping[tuple[str, str], tuple[tuple[str, ...], Sequence[Row]]]:
        """The names of the columns and the rows of each table and materialized view, as they are restored."""
        known = {**self._snapshot.rows(), **self._schema.rows()}
        return {self._named(table): rows for table, rows in known.items()}

    def shift(self) -> Mapping[tuple[str, str], int]:
        """Move every sequence on, until the tables are restored; return by how much the values of each grow."""
        # Of the application's own sequences few numbers may be lost, should this process be killed.
        offset = _OWN_OFFSET if self._ground.remake is None else _OFFSET
        return {self._named(name): by for name, by in self._snapshot.shift(offset).items()}

    @property
    def standing(self) -> Standing | None:
        """The schema as its setup left it, to be used again; None if it may have been left in another state."""
        definitions = self._schema.definitions
        if self._besides.named or definitions is None or self._schema.has_views:
            return None
        return Standing(self._snapshot, definitions)

    def _named(self, name: tuple[str, str]) -> tuple[str, str]:
        return ("", name[1]) if name[0] == self._ground.schema else name

    def check(self) -> None:
        self.renew()
        self._besides.check()
        if not self._besides.named and (changes := [*self._schema.changes(), *self._schema.refreshed()]):
            self._besides.name(f"{_listed(changes)} by code that does not show it", _SHOW)


class _Schema:
    """What a schema has besides rows of tables: definitions and materialized views, as they were after the setup."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        known = None if ground.standing is None else ground.standing.definitions
        self._definitions = (known or self._read()) if ground.may_leave(Leftover.CATALOG) else None
        self._views: MaterializedViews | None = None
        self.note_views()

    @property
    def definitions(self) -> Definitions | None:
        """The definitions after the setup; None if nothing changes them."""
        return self._definitions

    @property
    def has_views(self) -> bool:
        """Whether there are materialized views."""
        return self._views is not None and self._views.are_there

    def note_views(self) -> None:
        """Note the rows of the materialized views."""
        if self._ground.may_leave(Leftover.MATERIALIZED):
            self._views = MaterializedViews(self._ground.connection, self._ground.schema)

    def changes(self) -> tuple[str, ...]:
        """The changes of definitions since then."""
        if self._definitions is None or self._ground.known.is_current(self._ground.connection):
            return ()
        return self._definitions.differences(self._read())

    def rows(self) -> Mapping[tuple[str, str], tuple[tuple[str, ...], Sequence[Row]]]:
        """The names of the columns and the rows of the materialized views."""
        return {} if self._views is None else self._views.rows()

    def changed_rows(self) -> tuple[TableChange, ...]:
        """The changes of the rows of materialized views since then."""
        return () if self._views is None else self._views.changes()

    def refresh(self) -> tuple[str, ...]:
        """Refresh the views that have changed; return those that still differ."""
        return () if self._views is None else self._views.restore()

    def refreshed(self) -> tuple[str, ...]:
        """The views that differ, as text."""
        return () if self._views is None else tuple(f"view {name} was refreshed" for name in self._views.changed())

    def _read(self) -> Definitions:
        return definitions.read(self._ground.connection, self._ground.schema, everywhere=self._ground.exclusive)


def choose(scenario: Scenario, ground: Ground, *, whole_tables: bool) -> Isolation:
    """The isolation that a scenario's schedules need, in a schema that is set up. Raises DatabaseProblem.

    `whole_tables`: the tables must be the same before each schedule.
    """
    if whole_tables or scenario.schedule_isolation is ScheduleIsolation.RESTORED_TABLES:
        return RestoredTables(ground)
    if scenario.once or (ground.expected is not None and not ground.expected.keys().isdisjoint(_OF_THE_SCHEMA)):
        return FreshTenants(1, ground)
    physical = _physical(ground)
    # A slot would bring the setup's rows to the consumer again.
    if physical.care is not Care.ROWS and not decoded(ground.connection):
        return RestoredTables(ground)
    return FreshTenants(_MOST_TENANTS, ground, physical)


def _physical(ground: Ground) -> Physical:
    methods = ground.known.once(
        "access methods", lambda: access_methods(ground.connection, ground.schema, everywhere=ground.exclusive)
    )
    return Physical(methods, ground.sessions)


def _listed(changes: Sequence[str]) -> str:
    more = [f"and {len(changes) - _MOST_LISTED} more"] if len(changes) > _MOST_LISTED else []
    return ", ".join([*changes[:_MOST_LISTED], *more])
