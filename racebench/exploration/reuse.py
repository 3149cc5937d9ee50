"""What an exploration leaves open for the next one of its process: the schema, a connection, and sessions at rest.

Only on a server that no other program uses. A schema is kept if nothing is left of the exploration, and is used again
for the same setup, by the same role, when its tables, definitions and statistics are as the setup left them: that is
what schedules of one exploration begin with, too. Whatever is not so is dropped, and made anew.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg
from psycopg import pq

from racebench.core.errors import DatabaseProblem
from racebench.core.model import Consumer, Origin, Scenario, SqlFile, Strategy
from racebench.core.target import Target
from racebench.exploration.draws import in_sql
from racebench.exploration.independence import CLOCKS, names_in
from racebench.exploration.known import Known
from racebench.exploration.leftovers import leaves
from racebench.exploration.sessions.backends import Backends
from racebench.postgres import catalogs, definitions, removal
from racebench.postgres.connection import connect
from racebench.postgres.control import Control
from racebench.postgres.definitions import Definitions
from racebench.postgres.message import send
from racebench.postgres.schemas import fresh_schema
from racebench.postgres.snapshot import Snapshot
from racebench.postgres.storage import keep_from_autovacuum

#: DISCARD ALL, but for what was prepared: only racebench has prepared on the monitor, and will again what it had.
_DISCARDING = (
    b"CLOSE ALL",
    b"RESET SESSION AUTHORIZATION",
    b"RESET ALL",
    b"UNLISTEN *",
    b"SELECT pg_advisory_unlock_all()",
    b"DISCARD TEMP",
    b"DISCARD SEQUENCES",
)
#: What a schema is made by.
Definition = tuple[Scenario, Strategy, Sequence[Consumer]]


@dataclass(frozen=True, slots=True)
class Standing:
    """A schema as its setup left it: its rows, sequences and storage, and its definitions."""

    snapshot: Snapshot
    definitions: Definitions


class Leaving(Protocol):
    """Says in what state a schema is left. `standing`: None if it may not be as its setup left it."""

    @property
    def standing(self) -> Standing | None:
        """The schema as its setup left it."""


@dataclass(slots=True)
class Place:
    """Where an exploration runs. `monitor`: a connection that no session uses. `standing`: of a schema used again.

    `known`: what the exploration learns of the schema and finds known already. `left`: set by the exploration, and
    asked at its end; None if the schema is not to be kept.
    """

    monitor: psycopg.Connection[Any]
    known: Known = field(default_factory=Known)
    standing: Standing | None = None
    left: Leaving | None = None


@contextlib.contextmanager
def place(
    target: Target,
    schema: str,
    definition: Definition,
    reuse: Reuse | None,
    step_limit: str,
    tell: Callable[[str], None],
) -> Iterator[Place]:
    """A place with a schema that is set up, new or kept by the exploration before. Raises RacebenchError.

    `reuse`: None to keep nothing. `step_limit`: the monitor's time limit for a statement. `tell` is called as by
    fresh_schema.
    """
    key = _key(target, schema, definition, step_limit)
    kept = None if reuse is None else reuse.take(key, target)
    if reuse is None or key is None:
        with _new(target, schema, definition, step_limit, tell) as made:
            yield made
        return
    if kept is None:
        kept = _Kept(key)
        with ExitStack() as opening:
            kept.place = opening.enter_context(_new(target, schema, definition, step_limit, kept.tell))
            kept.place.known = Known(catalogs.state(kept.place.monitor))
            kept.stack = opening.pop_all()
    kept.teller = tell
    try:
        yield kept.place
    except BaseException:
        if not kept.stack.__exit__(*sys.exc_info()):
            raise
    else:
        rests = False
        try:
            rests = kept.rests()
        finally:
            if rests:
                reuse.keep(kept)
            else:
                kept.stack.close()


@contextlib.contextmanager
def _new(
    target: Target, schema: str, definition: Definition, step_limit: str, tell: Callable[[str], None]
) -> Iterator[Place]:
    scenario, strategy, consumers = definition
    with (
        Control(target) as control,
        fresh_schema(target, schema, scenario, strategy, consumers, tell=tell, control=control),
        # It is closed in whatever state: an interruption may have left it in the middle of a query.
        contextlib.closing(
            connect(target, schema=schema, settings={"statement_timeout": step_limit}, prepares=True)
        ) as monitor,
    ):
        keep_from_autovacuum(monitor, schema)
        yield Place(monitor)


#: What must be the same for a schema to be used again.
_Key = tuple[str, str, str, tuple[SqlFile, ...]]


def _key(target: Target, schema: str, definition: Definition, step_limit: str) -> _Key | None:
    """None for what is not kept: a callable may do more than set up a schema, and be given the monitor."""
    scenario, strategy, consumers = definition
    own = scenario.origin is Origin.OWN_CODE and target.exclusive
    if not own or scenario.setup or scenario.checks or consumers or not strategy.calls:
        return None
    if any(leaves(query) for query in scenario.invariants.values()):
        return None
    return schema, target.parameters.get("user", ""), step_limit, (*scenario.schema, *strategy.schema)


class _Kept:
    """A place that may outlive its exploration, with what closes it."""

    place: Place
    stack: ExitStack

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.teller: Callable[[str], None] = lambda _: None

    def tell(self, sentence: str) -> None:
        """Pass on a sentence to the exploration that uses the place last."""
        self.teller(sentence)

    def rests(self) -> bool:
        """Whether the place can be kept: nothing was left in it or made outside it."""
        here = self.place
        here.standing = None if here.left is None else here.left.standing
        here.left = None
        monitor = here.monitor
        if here.standing is None or monitor.closed or monitor.info.transaction_status != pq.TransactionStatus.IDLE:
            return False
        if monitor.info.parameter_status("is_superuser") == "on" or (self._dated and here.standing.snapshot.has_rows):
            return False  # a superuser may change what no catalog shows
        with contextlib.suppress(psycopg.Error):
            send(monitor, _DISCARDING)
            return not removal.is_anything(monitor)
        return False

    def is_as_it_was(self, target: Target, schema: str) -> bool:
        """Restore the rows, and say whether everything else is as the setup left it."""
        here = self.place
        assert here.standing is not None  # otherwise it was not kept
        with contextlib.suppress(psycopg.Error, DatabaseProblem):
            here.standing.snapshot.restore(here.monitor)
            if not here.known.is_current(here.monitor):
                here.known = Known(catalogs.state(here.monitor))
                defined = definitions.read(here.monitor, schema, everywhere=target.exclusive)
                if here.standing.definitions.differences(defined):
                    return False
            return here.standing.snapshot.is_described_as_before()
        return False

    @property
    def _dated(self) -> bool:
        """Whether the rows that the setup makes may differ from one time to the next."""
        texts = [file.text for file in self.key[-1]]
        drawn = in_sql(texts)
        return bool(drawn.vary or drawn.unseeded or drawn.clocks) or any(names_in(text) & CLOCKS for text in texts)


class Reuse:
    """What explorations of one process, one after the other, leave for the next; a context manager.

    `backends`: sessions at rest whose connections the application has closed.
    """

    def __init__(self) -> None:
        self.backends = Backends()
        self._kept: _Kept | None = None
        self._process = os.getpid()

    def __enter__(self) -> Reuse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_ours(self) -> bool:
        """Whether this process has made it: a fork must not use its connections."""
        return self._process == os.getpid()

    def take(self, key: _Key | None, target: Target) -> _Kept | None:
        """The place that was kept, if it is of that key and as its setup left it; any other is closed."""
        if self._kept is not None and key == self._kept.key and self._kept.is_as_it_was(target, key[0]):
            kept, self._kept = self._kept, None
            return kept
        self.leave()
        return None

    def keep(self, kept: _Kept) -> None:
        """Keep a place."""
        self._kept = kept

    def leave(self) -> None:
        """Close the place that is kept, if there is one: something else needs its name."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.stack.close()

    def close(self) -> None:
        """Close everything; nothing in a fork of the process."""
        if self.is_ours:
            self.backends.close()
            self.leave()
