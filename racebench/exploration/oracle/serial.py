"""The serial orders of a schedule's operations, and whether a schedule has the effect of one of them.

An order is run on the server when it is first needed, and twice, so that what the database makes up is known
(labels.py). A schedule whose sessions took their steps one after the other is one of these two runs, if the other had
the same effect. A session that failed may have left nothing, or what it leaves when it fails in a serial order: the
sessions that count are then those that succeeded, with any of the others. One whose connection was cut may have done
everything or nothing; what it was told does not count. A consumer's polls have places of their own in an order.
Source: Papadimitriou, "The Serializability of Concurrent Database Updates" (1979).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from math import factorial
from random import Random
from typing import Protocol

from racebench.exploration.choices import cuts, divided, session_of
from racebench.exploration.oracle.canonical import Form, canonical
from racebench.exploration.oracle.defaults import Column
from racebench.exploration.oracle.effects import Effect, Oracle
from racebench.exploration.oracle.facts import facts
from racebench.exploration.oracle.labels import Labels
from racebench.exploration.oracle.row_order import RowOrder
from racebench.exploration.oracle.stored_order import StoredOrder

#: The most serial orders of some sessions that are run; of more, so many are drawn.
MOST_ORDERS = 1_000
#: The most serial orders that are run again from tables made anew.
MOST_ANEW = 24
#: After so many accusations rows are no longer stored in other orders, if that has changed nothing in any serial order.
#: By then the operations are known to go wrong.
ENOUGH_STORED_OTHERWISE = 2

#: Sessions by number, and a consumer's number for each of its polls.
Order = tuple[int, ...]
#: By how much each sequence was moved on before a run.
Shifts = Mapping[tuple[str, str], int]


class Runner(Protocol):
    """Runs operations on the server, and says what their effect was.

    `shifted`: with every sequence moved on. `anew`: from tables that are made anew; the effect has what the sessions
    were told, too.
    """

    def run_serially(
        self, order: Order, *, shifted: bool, anew: bool = False, stored: StoredOrder | None = None
    ) -> tuple[Effect, Shifts]:
        """Run operations one after the other; `stored`: rows are put in this order before each."""

    def run_again(
        self, schedule: Sequence[int], *, shifted: bool, anew: bool = False, stored: StoredOrder | None = None
    ) -> tuple[Effect, Shifts]:
        """Run a schedule again, as far as it can be followed; note in `stored` where its rows are stored."""


@dataclass(slots=True)
class _Orders:
    """The orders of some sessions: those that are left to run, and the effects of the others with their forms.

    `forms`: by the sessions of which it matters how they ended.
    """

    left: Iterator[Order]
    sampled: bool
    run: dict[Order, Effect] = field(default_factory=dict)
    forms: dict[frozenset[int], set[Form]] = field(default_factory=dict)


class SerialOrders:
    """Judges effects.

    `sampled`: an effect was compared with some of the serial orders alone. `drew_otherwise`: a session has drawn other
    random numbers than in the serial orders, so that its effect may be another, too.

    `unsteady`: a serial order that did not have the same effect twice; then nothing is judged. `unrepeatable`: a
    schedule had an effect of no serial order, and another when it was run again.
    """

    def __init__(
        self,
        runner: Runner,
        oracle: Oracle,
        labels: Labels,
        *,
        sessions: int,
        polls: int,
        key: Column | None,
        seed: int,
    ) -> None:
        self.labels = labels
        self._row_order = RowOrder(oracle, labels, key)
        self.sampled = False
        self.unsteady: Order | None = None
        self.unrepeatable = self.drew_otherwise = False
        self.oracle = oracle
        self._runner, self._key, self._seed = runner, key, seed
        self._consumer, self._polls = sessions + 1, polls
        self._orders: dict[tuple[int, frozenset[int]], _Orders] = {}
        self._judged: dict[tuple[int, Effect], bool | None] = {}
        #: The forms of effects that no serial order has, and that were seen twice.
        self._accused: set[tuple[int, Form]] = set()
        #: Those that a serial order has if rows are stored in another order than that in which it inserts them.
        self._stored_otherwise: set[tuple[int, Form]] = set()
        #: How many of the others were looked at, and whether a serial order had another effect with rows stored
        #: otherwise.
        self._looked_at, self._storage_matters = 0, False
        #: The effects of serial orders that began with tables made anew, by the draw and the order.
        self._anew: dict[tuple[int, Order], Effect] = {}

    def is_serial(
        self,
        effect: Effect,
        schedule: Sequence[int],
        *,
        draw: int,
        repeatable: bool = True,
        raced: bool = False,
        as_orders: bool = False,
    ) -> bool | None:
        """Whether an effect is that of a serial order; None if that is not known.

        `schedule` had it, with the random numbers of `draw`; `repeatable`: it may be run again. `raced`: one step woke
        several sessions, so that it may have another effect then. `as_orders`: serial orders are run as it was.
        """
        known = self._judged.get((draw, effect))
        if known is None and self.unsteady is None:
            known = self._is_serial(effect, schedule, draw, as_orders=as_orders)
            if known or not repeatable:
                self._judged[draw, effect] = known
            elif self.unsteady is None:
                known = self._is_serial_after_all(effect, schedule, draw, raced=raced)
        if self.unsteady is not None:
            return None
        if not known and (self.sampled or self._drew_otherwise(effect)):
            return None
        return known

    def _drew_otherwise(self, effect: Effect) -> bool:
        """Whether a session has drawn other random numbers than in every serial order, because it tried again, say."""
        effects = [serial for orders in self._orders.values() for serial in orders.run.values()]
        otherwise = any(
            effect.sessions[number - 1].drawn not in {one.sessions[number - 1].drawn for one in effects}
            for number in effect.succeeded
        )
        self.drew_otherwise |= otherwise
        return otherwise

    def _is_serial_after_all(self, effect: Effect, schedule: Sequence[int], draw: int, *, raced: bool) -> bool | None:
        """Judge again an effect that no serial order had: from tables made anew, and when more is known to be made up.

        What only this schedule did may hold values that were made up, and a serial order that ran in the same second
        each time may have left a time; where rows are stored may have decided in which order they were read. None if
        the schedule has the effect of a serial order when it is run again, or was answered with its rows in another
        order.
        """
        everyone = range(1, self._consumer)
        form = draw, self._form(effect, everyone)
        if form in self._accused or form in self._stored_otherwise:
            return False if form in self._accused else None
        again, shifts = self._runner.run_again(schedule, shifted=True, anew=True)
        learned = self.labels.measure(effect, again, shifts)
        likely = self._likely(effect.succeeded, schedule)
        earlier = self.effects(effect, draw).get(likely)
        if earlier is not None and not self._is_as_before(earlier, likely, draw):
            later, shifts_of_later = self._runner.run_serially(likely, shifted=False)
            learned |= self.labels.measure(earlier, later, shifts_of_later)
        if learned:
            self._forget_forms()
            if self._is_serial(effect, schedule, draw):
                self._judged[draw, effect] = True
                return True
        if self._is_serial(again, schedule, draw) or self._is_serial_anew(again, draw):
            if not raced and self._row_order.is_all(effect, again, everyone):
                return True  # of this schedule: another may have this effect for another reason
            self.unrepeatable = True
            return None
        if self._returned_otherwise(again, schedule, draw, shifts):
            return None
        if self._is_serial_stored_otherwise(effect, schedule, draw):
            self._stored_otherwise.add((draw, self._form(effect, everyone)))
            return None
        self._judged[draw, effect] = False
        self._accused.add((draw, self._form(effect, everyone)))
        return False

    def _is_as_before(self, earlier: Effect, order: Order, draw: int) -> bool:
        """Whether a serial order, run now from tables made anew, holds no value that it did not hold before.

        Then nothing would be learned from one more run of it. Its effect is kept: the schedule is compared with it.
        """
        if (draw, order) in self._anew:
            return False  # what was run at another accusation says nothing of the time since then
        return not self.labels.copy().measure(earlier, self._run_anew(order, draw), {})

    def _is_serial_anew(self, effect: Effect, draw: int) -> bool:
        """Whether an effect is that of a serial order that is run from tables made anew, as the effect was."""
        return any(
            self._form(self._run_anew(order, draw), told) == self._form(effect, told)
            for order, told in self._orders_of(effect, draw)
        )

    def _returned_otherwise(self, again: Effect, schedule: Sequence[int], draw: int, shifts: Shifts) -> bool:
        """Whether the sessions were answered with the rows of a serial order, in another order."""
        orders = [
            (order, told)
            for order, told in self._orders_of(again, draw)
            if self._row_order.is_all(self._run_anew(order, draw), again, told)
        ]
        if not orders:
            return False
        # Sequences begin as in the serial orders; what differs from the run before is made up.
        effect, _ = self._runner.run_again(schedule, shifted=False, anew=True)
        if self.labels.measure(effect, again, shifts):
            self._forget_forms()
        return any(self._row_order.of_answers(self._run_anew(order, draw), effect, told) for order, told in orders)

    def _is_serial_stored_otherwise(self, effect: Effect, schedule: Sequence[int], draw: int) -> bool:
        """Whether a serial order has the effect if the rows are stored as they were in the schedule.

        Where that decides which rows are found, SQL allows the effect: a table has no order.
        """
        if self._looked_at >= ENOUGH_STORED_OTHERWISE and not self._storage_matters:
            return False
        stored = StoredOrder(self.labels)
        again, _ = self._runner.run_again(schedule, shifted=False, anew=True, stored=stored)
        everyone = range(1, self._consumer)
        if not stored.several or self._form(again, everyone) != self._form(effect, everyone):
            return False
        for order, told in self._orders_of(again, draw):
            arranged, _ = self._runner.run_serially(order, shifted=False, anew=True, stored=stored)
            form = self._form(arranged, told)
            self._storage_matters |= form != self._form(self._run_anew(order, draw), told)
            if form == self._form(again, told):
                return True
        self._looked_at += 1
        return False

    def _orders_of(self, effect: Effect, draw: int) -> list[tuple[Order, frozenset[int]]]:
        """The serial orders that were run with the sessions that succeeded, and who counts; the first few of many."""
        orders = [
            (order, among - effect.unknown)
            for (drawn, among), orders in self._orders.items()
            if drawn == draw and among >= effect.succeeded
            for order in orders.run
        ]
        return orders[:MOST_ANEW]

    def _run_anew(self, order: Order, draw: int) -> Effect:
        if (draw, order) not in self._anew:
            self._anew[draw, order], _ = self._runner.run_serially(order, shifted=False, anew=True)
        return self._anew[draw, order]

    @property
    def notes(self) -> list[str]:
        """What the reader should know of the comparison, as sentences."""
        notes = []
        if self.unsteady is not None:
            order = ", ".join(f"s{number}" for number in self.unsteady)
            notes.append(
                f"the serial order {order} did not leave the same twice; schedules are not compared with serial orders"
            )
        if self.unrepeatable:
            notes.append(
                "a schedule left what no serial order leaves, and did not when it was run again; it was not judged"
            )
        if self._row_order.seen:
            notes.append(
                "a session was answered with the rows of a serial order in another order, and returned them so; it was "
                "not judged: without ORDER BY the server returns rows in any order"
            )
        if self._stored_otherwise:
            notes.append(
                "a schedule left what a serial order leaves only if rows are stored in the order in which the schedule "
                "stored them (`LIMIT` without ORDER BY, say); it was not judged: a table has no order"
            )
        if self.sampled:
            notes.append(
                f"schedules were compared with {MOST_ORDERS:,} serial orders drawn at random, not with all: explore "
                "fewer sessions"
            )
        if self.drew_otherwise:
            notes.append(
                "a session drew other random numbers than in the serial orders (when it tried again, say); what it did "
                "cannot be compared"
            )
        if self.labels.measured:
            notes.append(
                f"{', '.join(self.labels.measured)}: the values differ between two runs of one serial order; only "
                "where a value occurs again was compared"
            )
        return notes

    def effects(self, effect: Effect, draw: int) -> Mapping[Order, Effect]:
        """The serial orders of the sessions that succeeded in an effect, with their effects, if they were run.

        Also those with sessions of which that is not known.
        """
        every: dict[Order, Effect] = {}
        for unknown in _subsets(effect.unknown):
            orders = self._orders.get((draw, effect.succeeded.union(unknown)))
            every |= {} if orders is None else orders.run
        return every

    def _is_serial(self, effect: Effect, schedule: Sequence[int], draw: int, *, as_orders: bool = False) -> bool:
        succeeded = effect.succeeded
        everyone = frozenset(range(1, self._consumer))
        in_order = self._in_order(schedule) if as_orders and succeeded == everyone else None
        return any(
            self._has_order(effect, succeeded.union(others), schedule, draw, in_order)
            for others in _subsets(everyone - succeeded)
        )

    def _has_order(
        self,
        effect: Effect,
        among: frozenset[int],
        schedule: Sequence[int],
        draw: int,
        in_order: Order | None,
    ) -> bool:
        """Whether a serial order of some sessions has an effect; orders that were not run yet are, until one has.

        `in_order`: the order that the schedule has run, None if it was none.
        """
        likely = self._likely(among, schedule)
        orders = self._orders.get((draw, among))
        if orders is None:
            orders = self._orders[draw, among] = _Orders(*self._every(among))
        told = among - effect.unknown
        wanted = self._form(effect, told)
        if told not in orders.forms:
            orders.forms[told] = {self._form(serial, told) for serial in orders.run.values()}
        if wanted in orders.forms[told]:
            return True
        for order in self._next(orders, likely):
            self._run(orders, order, among, effect if order == in_order else None)
            if self.unsteady is not None:
                return False
            if self._form(effect, told) in orders.forms[told]:
                return True
        self.sampled |= orders.sampled
        return False

    def _next(self, orders: _Orders, likely: Order) -> Iterator[Order]:
        if likely not in orders.run:
            yield likely
        for order in orders.left:
            if order not in orders.run:
                yield order

    def _run(self, orders: _Orders, order: Order, among: frozenset[int], seen: Effect | None) -> None:
        """Run an order. `seen`: the effect of a schedule that took the same steps, None if there was none."""
        again, shifts = self._runner.run_serially(order, shifted=True)
        # In that schedule all sessions had begun before the first went on, so it stands for a run only if it proves to.
        if seen is not None and self._is_proven(seen, again, among, shifts):
            effect = seen
        else:
            effect, _ = self._runner.run_serially(order, shifted=False)
        orders.run[order] = effect
        if self.labels.measure(effect, again, shifts):
            self._forget_forms()
        if not self._row_order.is_all(effect, again, among):  # unless rows were stored otherwise
            effect, _ = self._runner.run_serially(order, shifted=False, anew=True)
            again, _ = self._runner.run_serially(order, shifted=True, anew=True)
            orders.run[order] = effect
            if not self._row_order.is_all(effect, again, among):
                self.unsteady = order
        for told, forms in orders.forms.items():
            forms.add(self._form(effect, told))

    def _is_proven(self, effect: Effect, serial: Effect, among: frozenset[int], shifts: Shifts) -> bool:
        """Whether an effect is that of a serial order that was run with other numbers of its sequences."""
        labels = self.labels.with_sequences(effect, serial, shifts)
        if labels is None or any(
            one.drawn != other.drawn for one, other in zip(effect.sessions, serial.sessions, strict=True)
        ):
            return False
        forms = [canonical(facts(one, self.oracle, among, labels, self._key)) for one in (effect, serial)]
        return forms[0] == forms[1]

    def _forget_forms(self) -> None:
        """Make the forms again: more is known to be labels."""
        self._judged.clear()
        self._accused.clear()
        self._stored_otherwise.clear()
        for orders in self._orders.values():
            orders.forms = {told: {self._form(effect, told) for effect in orders.run.values()} for told in orders.forms}

    def _form(self, effect: Effect, among: Collection[int]) -> Form:
        return canonical(facts(effect, self.oracle, among, self.labels, self._key))

    def _likely(self, among: Collection[int], schedule: Sequence[int]) -> Order:
        """The order in which sessions took their last steps; polls stand where they were."""
        takers = [session_of(number) for number in schedule]
        last = {session: place for place, session in enumerate(takers)}
        ends = {place: session for session, place in last.items() if session in among}
        order = [
            session if session == self._consumer else ends[place]
            for place, session in enumerate(takers)
            if session == self._consumer or place in ends
        ]
        missing = [session for session in sorted(among) if session not in order]
        polls = [self._consumer] * (self._polls - order.count(self._consumer))
        return (*order, *missing, *polls)

    def _in_order(self, schedule: Sequence[int]) -> Order | None:
        """The order of a schedule in which no session began before the one before it had ended; None of others."""
        starts, numbers = divided(schedule)
        if starts or cuts(schedule):
            return None
        takers = [session_of(number) for number in numbers]
        order = tuple(
            session
            for place, session in enumerate(takers)
            if session == self._consumer or not place or takers[place - 1] != session
        )
        sessions = [session for session in order if session != self._consumer]
        return order if len(sessions) == len({*sessions}) else None

    def _every(self, among: Collection[int]) -> tuple[Iterator[Order], bool]:
        """Every order of some sessions and the polls; if they are too many, as many as are run, drawn at random."""
        count = factorial(len(among) + self._polls) // factorial(self._polls)
        if count <= MOST_ORDERS:
            return self._all(sorted(among)), False
        return self._drawn(sorted(among)), True

    def _all(self, among: Sequence[int]) -> Iterator[Order]:
        for places in combinations(range(len(among) + self._polls), len(among)):
            for sessions in permutations(among):
                order = [self._consumer] * (len(among) + self._polls)
                for place, session in zip(places, sessions, strict=True):
                    order[place] = session
                yield tuple(order)

    def _drawn(self, among: Sequence[int]) -> Iterator[Order]:
        random = Random(self._seed)
        order = [*among, *[self._consumer] * self._polls]
        for _ in range(MOST_ORDERS):
            random.shuffle(order)
            yield tuple(order)


def _subsets(sessions: Collection[int]) -> Iterator[tuple[int, ...]]:
    """Every subset, the smallest first."""
    for count in range(len(sessions) + 1):
        yield from combinations(sorted(sessions), count)
