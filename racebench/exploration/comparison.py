"""Compares the schedules of a search with the serial orders of the same operations: reads effects, judges results.

What makes an effect that of a serial order is oracle/'s. The world runs the orders (oracle.serial.Runner).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from itertools import combinations, permutations

from racebench.core.anomalies import NON_SERIALIZABLE
from racebench.core.model import Outcome
from racebench.exploration.faults import PROBLEMS
from racebench.exploration.isolation import RestoredTables
from racebench.exploration.oracle.defaults import declared
from racebench.exploration.oracle.difference import difference
from racebench.exploration.oracle.effects import Effect, SessionEffect
from racebench.exploration.oracle.labels import Labels
from racebench.exploration.oracle.naming import name_of
from racebench.exploration.oracle.recorder import Recording, SearchRecorder, accesses_of
from racebench.exploration.oracle.serial import SerialOrders
from racebench.exploration.oracle.values import leaves
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.preparation import Preparation
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.sessions.session import StrategySession
from racebench.postgres.copied_rows import Row


class Comparison:
    """The comparison of one search. A world that is made again goes on with it (`adopt`)."""

    def __init__(self, runner: Recording, preparation: Preparation, request: ExplorationRequest) -> None:
        assert request.oracle is not None
        self._runner, self._preparation = runner, preparation
        self._polls = request.polls if request.consumer is not None else 0
        rows = request.scenario.rows
        filled = preparation.known.once("filled columns", lambda: declared(preparation.monitor, preparation.schema))
        self._orders = SerialOrders(
            runner,
            request.oracle,
            Labels(filled, self._rows),
            sessions=len(preparation.strategy_sessions),
            polls=self._polls,
            key=None if rows is None else ("", rows.table, rows.id),
            seed=request.seed,
        )

    def adopt(self, preparation: Preparation) -> None:
        """Go on with the parts of another world."""
        self._preparation = preparation

    @property
    def notes(self) -> list[str]:
        """What the reader should know of the comparison, as sentences."""
        return self._orders.notes

    def effect(self, among: Set[int] | None) -> Effect:
        """The effect of the schedule that has just ended; `among`: the sessions that took part, None for all."""
        return Effect(
            tables=self._tables.changes(),
            sessions=tuple(
                _effect_of(session)
                if among is None or session.number in among
                else SessionEffect(ok=False, error="", returned=(), told=())
                for session in self._preparation.strategy_sessions
            ),
            undelivered=self._preparation.anomalies.undelivered,
        )

    def judged(self, result: ScheduleResult) -> ScheduleResult:
        """The result, with what the comparison says of it."""
        if result.effect is None:
            return result
        serial = self._orders.is_serial(
            result.effect,
            result.schedule,
            draw=result.draw,
            repeatable=not result.burst,
            raced=result.raced,
            as_orders=not result.burst and self._preparation.pooled is None,
        )
        if serial is None:
            return replace(result, unjudged=True)
        return result if serial else result.non_serializable

    def difference(self, result: ScheduleResult) -> str:
        """How the result differs from the serial order that is most like it, as a sentence; "" if it does not."""
        if result.effect is None or not result.counts[NON_SERIALIZABLE]:
            return ""
        serial = self._orders.effects(result.effect, result.draw)
        return difference(result.effect, serial, self._orders.labels, self._orders.oracle)

    def searching(self) -> SearchRecorder:
        """A recorder of what the sessions search for."""
        return SearchRecorder(self._preparation.strategy_sessions)

    def name(self, result: ScheduleResult, searched: SearchRecorder | None) -> str:
        """The classical name of what goes wrong in a result; "" if it has none. Its schedule is run again.

        `searched`: has recorded the run that had this result.
        """
        if result.effect is None or not result.counts[NON_SERIALIZABLE]:
            return ""
        serial = [*self._orders.effects(result.effect, result.draw).values()]
        changed = {change.table for effect in (result.effect, *serial) for change in effect.tables}
        try:
            accesses = accesses_of(
                result.schedule,
                self._runner,
                self._preparation.monitor,
                self._preparation.schema,
                self._preparation.strategy_sessions,
                {table: rows for table, rows in self._rows().items() if table in changed},
                polls=self._polls,
                searched=searched,
            )
            if accesses is None:
                return ""
            without = partial(self._without, result.effect.succeeded)
            named = name_of(accesses, result.effect, serial, self._orders.labels, without)
        except PROBLEMS:
            return ""
        return "" if named is None else named.value

    def _without(self, among: Set[int], session: int, other: int) -> Iterator[Effect]:
        """The effects of serial orders in which one session runs, and another does not."""
        rest = sorted(among - {session, other})
        polls = (len(self._preparation.strategy_sessions) + 1,) * self._polls
        for count in range(len(rest) + 1):
            for more in combinations(rest, count):
                for order in permutations((session, *more)):
                    yield self._runner.run_serially((*order, *polls), shifted=False)[0]

    @property
    def _tables(self) -> RestoredTables:
        tables = self._preparation.restored
        assert tables is not None  # isolation.choose restores them for an oracle
        return tables

    def _rows(self) -> Mapping[tuple[str, str], tuple[tuple[str, ...], Sequence[Row]]]:
        """The rows of the tables before a schedule."""
        return self._tables.rows()


def _effect_of(session: StrategySession) -> SessionEffect:
    succeeded = session.outcome is Outcome.OK
    return SessionEffect(
        ok=succeeded,
        error="" if succeeded else session.sqlstate,
        returned=leaves(session.returned) if succeeded else (),
        told=tuple(session.told.kept),
        drawn=session.drawn,
        unknown=session.outcome is Outcome.UNKNOWN,
    )
