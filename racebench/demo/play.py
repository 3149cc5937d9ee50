"""A part played on the server: each time the next frame is asked for, one step runs, and what is to be seen is read.

A part's world (world.ServerWorld: a schema, sessions, a consumer) is made when its first frame is asked for and gone
when its generator is closed, wherever that was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace

from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.model import Statement
from racebench.core.target import Target
from racebench.demo import turns, words
from racebench.demo.frames import Frame, Lane, Line, Loss, Mark, Reader, State, Taken, WentOn, clean
from racebench.demo.observer import SETTINGS, Observer
from racebench.demo.telling import Part, Programme, Turn
from racebench.exploration.actors import Actor, Poller, Writer, describe
from racebench.exploration.actors import State as At
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.schedules import Step
from racebench.exploration.world import ServerWorld
from racebench.postgres.session import connect

#: Steps of one turn: a session that is refused again and again must not keep a room waiting.
_LONGEST_TURN = 60
_MOST_DELIVERED = 8


def rehearse(target: Target, programme: Programme) -> tuple[Programme, tuple[tuple[Frame, ...], ...]]:
    """Play everything once, unseen: with the turns of each part worked out, and its frames.

    Raises UsageProblem if a part's turns cannot be followed.
    """
    parts: list[Part] = []
    frames: list[tuple[Frame, ...]] = []
    for act, part in enumerate(programme.parts):
        if part.again:
            part = replace(part, turns=turns.again(frames[-1], part))  # noqa: PLW2901 - the same part, worked out
        parts.append(part)
        frames.append(tuple(play(target, part, act)))
    return replace(programme, parts=tuple(parts)), tuple(frames)


def play(target: Target, part: Part, act: int) -> Generator[Frame, None, None]:
    """Yield the frames of a part; each step runs when its frame is asked for."""
    ends: list[ScheduleResult] = []
    asked = ExplorationRequest(
        scenario=part.scenario,
        strategy=part.strategy,
        consumer=part.consumer,
        sessions=part.sessions,
        polls=sum(turn.session > part.sessions for turn in part.turns),
        reduce=False,
    )
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(contextlib.closing(ServerWorld(target, asked, ends.append)))
        observer = Observer(connect(target, schema=world.schema, settings=SETTINGS), part.scenario, world.schema)
        stack.callback(observer.close)
        yield from _Playing(part, act, world, observer, ends).frames()


class _Lane:
    """A lane as it changes."""

    def __init__(self, actor: Actor, statements: Sequence[Statement], title: str) -> None:
        self.actor = actor
        self.statements = tuple(statements)
        self.title = title
        self.texts = [clean(describe([statement])) for statement in self.statements]
        self.stands = ""
        self.at = -1
        #: The last statement that has been answered, in this try.
        self.passed = -1
        self.afresh()

    def afresh(self) -> None:
        """As before the first statement."""
        self.states = [State.AHEAD] * len(self.statements)
        self.answers = [""] * len(self.statements)
        self.passed = -1

    def place(self, gate: Sequence[Statement]) -> int:
        """Where a step's last statement stands in the script."""
        return next(at for at, each in enumerate(self.statements) if each is gate[-1])

    def settle(self, at: int, answered: str, *, refused: bool = False) -> None:
        """A statement has been answered."""
        self.states[at] = State.REFUSED if refused else State.DONE
        self.answers[at] = answered
        self.passed = -1 if refused else at

    def view(self, *, acts: bool) -> Lane:
        lines = tuple(
            Line(
                text=text,
                state=State.NOW if acts and at == self.at and state is State.DONE else state,
                answer=answer,
            )
            for at, (text, state, answer) in enumerate(zip(self.texts, self.states, self.answers, strict=True))
        )
        return Lane(name=self.actor.name, title=self.title, lines=lines, stands=self.stands, acts=acts)


def _at(lane: _Lane) -> At:
    """Where its actor is now; asked again after each step."""
    return lane.actor.state


class _Playing:
    """One part on its world."""

    def __init__(
        self, part: Part, act: int, world: ServerWorld, observer: Observer, ends: list[ScheduleResult]
    ) -> None:
        self._part, self._act, self._world, self._observer, self._ends = part, act, world, observer, ends
        self._number = 0
        self._beats = list(part.beats)
        self._on_script = True
        self._waited: dict[int, None] = {}
        self._blocked: set[int] = set()
        self._lanes: list[_Lane] = []
        for actor in world.scheduler.sessions:
            if isinstance(actor, Writer):
                lane = _Lane(actor, actor.session.script.statements, f"session {actor.number}")
            else:
                assert part.consumer is not None
                lane = _Lane(actor, part.consumer.script.statements[:1], f"consumer {part.consumer.name}")
            self._lanes.append(lane)
        self._names = {lane.actor.number: lane.title.capitalize() for lane in self._lanes}
        self._names |= {part.sessions + 1: "The consumer"}

    def frames(self) -> Iterator[Frame]:
        part, world = self._part, self._world
        world.begin()
        yield self._frame(part.opening, note=part.note)
        for number, turn in enumerate(part.turns, 1):
            yield from self._exactly(turn, number) if part.strict else self._as_far_as_it_goes(turn)
        while able := [choice.session for choice in world.choices()]:
            if part.strict:
                left = ", ".join(f"s{session}" for session in able)
                raise UsageProblem(f"the schedule ends before the sessions do: {left} can go on; explore again")
            yield self._step(able[0])
        yield self._end()

    def _exactly(self, turn: Turn, number: int) -> Iterator[Frame]:
        able = [choice.session for choice in self._world.choices()]
        if turn.session not in able:
            can = ", ".join(f"s{each}" for each in able) or "nobody"
            raise UsageProblem(
                f"'{self._part.strategy.name}' cannot follow this order: at step {number} s{turn.session} cannot go "
                f"on, {can} can; explore again: racebench explore -s {self._part.strategy.name}"
            )
        yield self._step(turn.session)

    def _as_far_as_it_goes(self, turn: Turn) -> Iterator[Frame]:
        lane = self._lanes[turn.session - 1]
        for _ in range(_LONGEST_TURN):
            if _at(lane) is At.WAITING:
                if turn.session not in self._blocked:
                    self._blocked.add(turn.session)
                    yield self._frame(self._left_alone(turn.session))
                return
            if _at(lane) is At.DONE or (turn.until is not None and lane.passed >= turn.until):
                return
            yield self._step(turn.session)
            if turn.until is None or _at(lane) is At.WAITING:
                return

    def _left_alone(self, session: int) -> str:
        name = self._names[session]
        blockers = self._blockers(session)
        return (
            f"In this order it is {words.middle(name)}'s turn, but it still waits for {blockers}: it is left alone, "
            "and the others go on."
        )

    def _blockers(self, session: int) -> str:
        pids = self._world.scheduler.waits.get(self._world.scheduler.sessions[session - 1].pid, ())
        names = {actor.pid: words.middle(self._names[actor.number]) for actor in self._world.scheduler.sessions}
        return " and ".join(names.get(pid, f"backend {pid}") for pid in pids) or "its answer"

    def _step(self, session: int) -> Frame:
        lane = self._lanes[session - 1]
        gate = lane.actor.gate
        if isinstance(lane.actor, Writer) and lane.actor.tries > 1 and lane.place(gate[:1]) == 0:
            lane.afresh()
        at = lane.place(gate)
        self._number += 1
        step = self._world.watch(session)
        for writer in self._world.writers:
            if isinstance(writer, Writer) and not writer.session.alive:
                raise DatabaseProblem(f"session {writer.number} lost its connection: {writer.session.message}")
        lane.at = at
        taken = self._taken(lane, at, step)
        for each in taken.went_on:
            other = self._lanes[each.session - 1]
            self._blocked.discard(each.session)
            other.settle(other.at, each.answer, refused=each.refused)
            self._stand(other)
        if taken.waits_for:
            self._waited[session] = None
            lane.states[at] = State.WAITS
            lane.stands = f"WAITS for {self._blockers(session)}"
        else:
            lane.settle(at, taken.answer, refused=taken.refused)
            if not taken.refused:  # several statements sent at once were all answered
                for earlier in range(at - len(gate) + 1, at):
                    lane.states[earlier] = State.DONE
            self._stand(lane)
        sentence, note = self._said(taken)
        return self._frame(sentence, taken=taken, note=note)

    def _stand(self, lane: _Lane) -> None:
        actor = lane.actor
        lane.stands = ""
        if isinstance(actor, Writer):
            if actor.state is At.DONE:
                lane.stands = f"ended: {actor.outcome.name}"
            elif State.REFUSED in lane.states:
                lane.stands = "will try again"

    @staticmethod
    def _taken(lane: _Lane, at: int, step: Step) -> Taken:
        return Taken(
            session=lane.actor.number,
            line=at,
            sent=clean(step.sent),
            answer=clean(words.answer(step.answered)),
            refused=words.refused(step.answered),
            waits_for=step.waits_for,
            went_on=tuple(
                WentOn(session=int(name[1:]), answer=clean(words.answer(answered)), refused=words.refused(answered))
                for name, answered in step.went_on
            ),
        )

    def _said(self, taken: Taken) -> tuple[str, str]:
        """The telling's sentence and note if they speak of this step, else what follows from it.

        After the first step that is another than the telling's, nothing of it is said any more.
        """
        if self._beats and self._on_script:
            beat = self._beats.pop(0)
            if beat.fits(taken):
                return beat.said(taken), beat.note
            self._on_script = False
        return words.narrate(taken, self._names), ""

    def _frame(
        self, sentence: str, *, taken: Taken | None = None, note: str = "", losses: tuple[Loss, ...] | None = None
    ) -> Frame:
        poller = self._world.poller
        delivered = poller.delivered if poller is not None else []
        tables = self._observer.read(
            self._world.tenant, self._author, delivered, ended=losses is not None, polled=poller is not None
        )
        acting = taken.session if taken is not None else 0
        return Frame(
            act=self._act,
            heading=self._part.heading,
            number=self._number,
            sentence=clean(sentence),
            note=clean(note),
            lanes=tuple(lane.view(acts=lane.actor.number == acting) for lane in self._lanes),
            tables=tuple(tables),
            reader=None if poller is None else self._reader(poller),
            taken=taken,
            losses=losses,
        )

    def _reader(self, poller: Poller) -> Reader:
        versions = {str(identity): version for identity, version, _ in self._observer.numbered(self._world.tenant)}
        return Reader(
            name=poller.consumer.name,
            cursor=", ".join(f"{name} {clean(value)}" for name, value in poller.cursor.items()) or "none",
            delivered=tuple(
                f"row {identity}" + (f" (version {clean(str(version))})" if version is not None else "")
                for identity in poller.delivered[-_MOST_DELIVERED:]
                for version in (versions.get(str(identity)),)
            ),
            more=max(0, len(poller.delivered) - _MOST_DELIVERED),
        )

    def _author(self, operation: int) -> str:
        return words.middle(self._names[operation >> 32]) if operation >> 32 in self._names else "before"

    def _end(self) -> Frame:
        """Have the consumer read to the end, count what went wrong, and say it."""
        poller = self._world.poller
        if poller is not None:
            poller.answers.clear()
        before = len(poller.delivered) if poller is not None else 0
        self._world.end((), complete=True)
        (ended,) = self._ends
        more = len(poller.delivered) - before if poller is not None else 0
        if poller is not None and more:
            lane = self._lanes[-1]
            lane.settle(0, clean("; ".join(poller.answers[:1])))
        counts = {kind: ended.counts[kind] for kind in self._part.scenario.forbid if ended.counts[kind]}
        losses = tuple(words.loss(kind, count, self._details(kind)) for kind, count in counts.items())
        if self._part.closing and counts == self._part.claims:
            sentence = self._part.closing
        else:
            waited = [self._names[session] for session in self._waited]
            again = [self._names[writer.number] for writer in self._world.writers if writer.tries > 1]
            sentence = words.closing(losses, waited, again, late=more)
        return self._frame(sentence, losses=losses)

    def _details(self, kind: str) -> Sequence[str]:
        if kind == "refused":
            return [
                f"{words.middle(self._names[writer.number])} was refused, ERROR {writer.sqlstate}: its user's HTTP 500"
                for writer in self._world.writers
                if writer.sqlstate and writer.outcome.name == "FAIL"
            ]
        (table, *_) = self._frame("", losses=()).tables or (None,)
        if table is None:
            return []
        if kind == "missed":
            lost = [row for row in table.rows if Mark.LOST in row.marks]
            return [
                f"the consumer will never deliver row {row.cells[0]} (version {row.cells[1]}, by {row.cells[2]})"
                for row in lost
            ]
        if kind == "duplicates":
            twins: Mapping[str, list[str]] = {}
            for row in table.rows:
                if Mark.TWIN in row.marks:
                    twins = {**twins, row.cells[1]: [*twins.get(row.cells[1], []), row.cells[0]]}
            return [f"rows {' and '.join(ids)} have the same version {version}" for version, ids in twins.items()]
        if kind == "violations":
            return [f"invariant {each}" for each in self._observer.broken(self._part.scenario.invariants)]
        return []
