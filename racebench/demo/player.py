"""Play a part on the server: for each frame that is requested, one step runs, and the rows are read.

The schema, the sessions and the consumer (world.ServerWorld) are created for the first frame, and removed when the
generator is closed, at whatever frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from racebench.core.errors import UsageProblem
from racebench.core.model import Statement
from racebench.core.target import Target
from racebench.demo import narration, schedules
from racebench.demo.frames import (
    ConsumerState,
    FoundAnomaly,
    Frame,
    Lane,
    Line,
    Mark,
    Resumed,
    State,
    TakenStep,
    clean,
)
from racebench.demo.observer import SETTINGS, Observer
from racebench.demo.presentation import Part, Presentation, ScheduleEntry
from racebench.exploration import choices
from racebench.exploration.choices import Cut
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.schedules import Step
from racebench.exploration.sessions.consumer import ConsumerSession
from racebench.exploration.sessions.session import Session
from racebench.exploration.sessions.session import State as SessionState
from racebench.exploration.steps import describe
from racebench.exploration.world import ServerWorld
from racebench.postgres.compiler.transactions import is_commit, leaves_open
from racebench.postgres.connection import connect

#: Most steps of one schedule entry, so that a session that is refused again and again does not run for ever.
_MOST_STEPS = 60
_MOST_DELIVERED = 8


def rehearse(target: Target, presentation: Presentation) -> tuple[Presentation, tuple[tuple[Frame, ...], ...]]:
    """Play all parts once without showing them; return them with their schedules filled in, and their frames.

    Raises UsageProblem if a part cannot follow its schedule.
    """
    parts: list[Part] = []
    frames: list[tuple[Frame, ...]] = []
    for number, planned in enumerate(presentation.parts):
        part = planned
        if planned.repeats:
            part = replace(planned, schedule=schedules.transfer(frames[-1], planned))
        parts.append(part)
        frames.append(tuple(play(target, part, number)))
    return replace(presentation, parts=tuple(parts)), tuple(frames)


def play(target: Target, part: Part, number: int) -> Generator[Frame, None, None]:
    """Yield the frames of a part; each step runs when its frame is requested. `number`: the part's place, from 0."""
    results: list[ScheduleResult] = []
    request = ExplorationRequest(
        scenario=part.scenario,
        strategy=part.strategy,
        consumer=part.consumer,
        sessions=part.sessions,
        polls=sum(entry.session > part.sessions for entry in part.schedule),
        crash=sum(entry.cut is not None for entry in part.schedule),
        reduce=False,
    )
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(ServerWorld(target, request, results.append, repeats=0))
        observer = Observer(connect(target, schema=world.schema, settings=SETTINGS), part.scenario, world.schema)
        stack.callback(observer.close)
        yield from _PartPlayer(part, number, world, observer, results).frames()


class _Lane:
    """The mutable state of a lane."""

    def __init__(self, session: Session, statements: Sequence[Statement], title: str) -> None:
        self.session = session
        self.statements = tuple(statements)
        self.title = title
        self.texts = [clean(describe([statement])) for statement in self.statements]
        self.status = ""
        #: Index of the statement sent last.
        self.sent = -1
        #: Index of the last statement that has been answered, in this try.
        self.answered = -1
        #: Whether a transaction of the session is open.
        self.in_transaction = False
        self.reset()

    def reset(self) -> None:
        """Go back to the state before the first statement."""
        self.states = [State.AHEAD] * len(self.statements)
        self.answers = [""] * len(self.statements)
        self.answered = -1
        self.in_transaction = False

    def index(self, step: Sequence[Statement]) -> int:
        """Index in the script of a step's last statement."""
        return next(index for index, statement in enumerate(self.statements) if statement is step[-1])

    def record_transaction(self, statements: Sequence[Statement], *, refused: bool) -> None:
        """Record whether a transaction is open after the answer to these statements; a refused session rolls back."""
        opened = False if refused else leaves_open(statements)
        if opened is not None:
            self.in_transaction = opened

    def record_answer(self, index: int, answer: str, *, refused: bool = False) -> None:
        """Record the answer to a statement."""
        self.states[index] = State.REFUSED if refused else State.DONE
        self.answers[index] = answer
        self.answered = -1 if refused else index

    def view(self, *, active: bool) -> Lane:
        lines = tuple(
            Line(
                text=text,
                state=State.NOW if active and index == self.sent and state is State.DONE else state,
                answer=answer,
            )
            for index, (text, state, answer) in enumerate(zip(self.texts, self.states, self.answers, strict=True))
        )
        return Lane(name=self.session.name, title=self.title, lines=lines, status=self.status, active=active)


def _state(lane: _Lane) -> SessionState:
    """The session's state now; a function, because it changes with each step."""
    return lane.session.state


class _PartPlayer:
    """Plays one part in its world."""

    def __init__(
        self, part: Part, part_number: int, world: ServerWorld, observer: Observer, results: list[ScheduleResult]
    ) -> None:
        self._part, self._part_number, self._world = part, part_number, world
        self._observer, self._results = observer, results
        self._step_number = 0
        self._captions = list(part.captions)
        self._captions_match = True
        self._waited: dict[int, None] = {}
        self._cut: dict[int, None] = {}
        self._blocked: set[int] = set()
        self._sessions = {session.number: session for session in world.strategy_sessions}
        self._lanes = [
            _Lane(session, session.statements, f"session {session.number}") for session in self._sessions.values()
        ]
        if world.consumer is not None and part.consumer is not None:
            statements = part.consumer.script.statements[:1]
            self._lanes.append(_Lane(world.consumer, statements, f"consumer {part.consumer.name}"))
        self._names = {lane.session.number: lane.title.capitalize() for lane in self._lanes}
        self._names |= {part.sessions + 1: "The consumer"}

    def frames(self) -> Iterator[Frame]:
        part, world = self._part, self._world
        world.begin()
        yield self._frame(part.opening, note=part.note)
        for number, entry in enumerate(part.schedule, 1):
            yield from self._play_step(entry, number) if part.strict else self._play_until(entry)
        while ready := [choice.number for choice in world.choices()]:
            if part.strict:
                names = ", ".join(f"s{session}" for session in ready)
                raise UsageProblem(f"the schedule ends before the sessions do: {names} can go on; explore again")
            yield self._step(ready[0])
        yield self._end()

    def _play_step(self, entry: ScheduleEntry, number: int) -> Iterator[Frame]:
        ready = [choice.number for choice in self._world.choices()]
        if entry.session not in ready:
            others = ", ".join(f"s{session}" for session in ready) or "no session"
            raise UsageProblem(
                f"'{self._part.strategy.name}' cannot follow this schedule: at step {number} s{entry.session} "
                f"cannot go on, {others} can; explore again: racebench explore -s {self._part.strategy.name}"
            )
        yield self._step(entry.session, entry.cut)

    def _play_until(self, entry: ScheduleEntry) -> Iterator[Frame]:
        lane = self._lanes[entry.session - 1]
        for _ in range(_MOST_STEPS):
            if _state(lane) is SessionState.WAITING:
                if entry.session not in self._blocked:
                    self._blocked.add(entry.session)
                    yield self._frame(self._describe_skipped(entry.session))
                return
            if _state(lane) is SessionState.DONE or (entry.until is not None and lane.answered >= entry.until):
                return
            is_last = entry.until is None or lane.index(lane.session.next_step) == entry.until
            cut = entry.cut if is_last else None
            yield self._step(entry.session, cut)
            if cut is not None or entry.until is None or _state(lane) is SessionState.WAITING:
                return

    def _describe_skipped(self, session: int) -> str:
        name = self._names[session]
        blockers = self._blockers(session)
        return (
            f"The schedule continues with {narration.lower_first(name)}, but it still waits for {blockers}. "
            "It is skipped, and the others go on."
        )

    def _blockers(self, session: int) -> str:
        pids = self._world.scheduler.waits.get(self._world.scheduler.sessions[session - 1].pid, ())
        names = {
            other.pid: narration.lower_first(self._names[other.number]) for other in self._world.scheduler.sessions
        }
        return " and ".join(names.get(pid, f"backend {pid}") for pid in pids) or "its answer"

    def _step(self, session: int, cut: Cut | None = None) -> Frame:
        lane = self._lanes[session - 1]
        statements = lane.session.next_step
        retrying = session in self._sessions and self._sessions[session].tries > 1
        if retrying and lane.index(statements[:1]) == 0:
            lane.reset()
        index = lane.index(statements)
        self._step_number += 1
        step = self._world.watch(choices.choice(session, cut=cut))
        lane.sent = index
        if cut is not None:
            self._cut[session] = None
        if not step.waits_for:
            lane.record_transaction(statements, refused=cut is not None or narration.is_refused(step.answered))
        taken = self._taken(lane, index, step, statements)
        for resumed in taken.resumed:
            other = self._lanes[resumed.session - 1]
            self._blocked.discard(resumed.session)
            other.record_answer(other.sent, resumed.answer, refused=resumed.refused)
            other.record_transaction(other.statements[other.sent : other.sent + 1], refused=resumed.refused)
            self._update_status(other)
        if taken.waits_for:
            self._waited[session] = None
            lane.states[index] = State.WAITS
            lane.status = f"WAITS for {self._blockers(session)}"
        else:
            lane.record_answer(index, taken.answer, refused=taken.refused)
            if not taken.refused:  # several statements sent at once were all answered
                for earlier in range(index - len(statements) + 1, index):
                    lane.states[earlier] = State.DONE
            self._update_status(lane)
        sentence, note = self._caption(taken)
        return self._frame(sentence, step=taken, note=note)

    def _update_status(self, lane: _Lane) -> None:
        lane.status = ""
        session = self._sessions.get(lane.session.number)
        if session is not None:
            if session.state is SessionState.DONE:
                lane.status = f"ended: {session.outcome.name}"
            elif State.REFUSED in lane.states:
                lane.status = "will try again"

    def _taken(self, lane: _Lane, index: int, step: Step, statements: Sequence[Statement]) -> TakenStep:
        return TakenStep(
            session=lane.session.number,
            line=index,
            sent=clean(step.sent),
            answer=clean(narration.summarize_answer(step.answered)),
            refused=step.cut is not None or narration.is_refused(step.answered),
            cut=step.cut,
            effects=tuple(
                narration.effect_of(clean(statement.text), clean(answer))
                for statement, answer in zip(statements, step.answered, strict=False)
            ),
            in_transaction=lane.in_transaction,
            isolation=self._part.strategy.isolation or "",
            rolled_back=is_commit(statements[-1]) and step.answered[-1:] == ("ROLLBACK",),
            waits_for=step.waits_for,
            resumed=tuple(
                Resumed(
                    session=int(name[1:]),
                    answer=clean(narration.summarize_answer(answered)),
                    refused=narration.is_refused(answered),
                )
                for name, answered in step.went_on
            ),
        )

    def _caption(self, step: TakenStep) -> tuple[str, str]:
        """The walkthrough's sentence and note if they are about this step, else a sentence derived from the step.

        After the first step that differs from the walkthrough, its captions are not used any more.
        """
        if self._captions and self._captions_match:
            caption = self._captions.pop(0)
            if caption.matches(step):
                return caption.render(step), caption.note
            self._captions_match = False
        return narration.narrate_step(step, self._names), ""

    def _frame(
        self,
        sentence: str,
        *,
        step: TakenStep | None = None,
        note: str = "",
        anomalies: tuple[FoundAnomaly, ...] | None = None,
    ) -> Frame:
        consumer = self._world.consumer
        delivered = consumer.delivered if consumer is not None else []
        tables = self._observer.read(
            self._world.tenant, self._author, delivered, ended=anomalies is not None, polled=consumer is not None
        )
        active = step.session if step is not None else 0
        return Frame(
            part=self._part_number,
            heading=self._part.heading,
            number=self._step_number,
            sentence=clean(sentence),
            note=clean(note),
            lanes=tuple(lane.view(active=lane.session.number == active) for lane in self._lanes),
            tables=tuple(tables),
            consumer=None if consumer is None else self._consumer(consumer),
            step=step,
            anomalies=anomalies,
        )

    def _consumer(self, consumer: ConsumerSession) -> ConsumerState:
        versions = {str(identity): version for identity, version, _ in self._observer.numbered(self._world.tenant)}
        return ConsumerState(
            name=consumer.consumer.name,
            cursor=", ".join(f"{name} {clean(value)}" for name, value in consumer.cursor.items()) or "none",
            delivered=tuple(
                f"row {identity}" + (f" (version {clean(str(version))})" if version is not None else "")
                for identity in consumer.delivered[-_MOST_DELIVERED:]
                for version in (versions.get(str(identity)),)
            ),
            more=max(0, len(consumer.delivered) - _MOST_DELIVERED),
        )

    def _author(self, operation: int) -> str:
        return narration.lower_first(self._names[operation >> 32]) if operation >> 32 in self._names else "the setup"

    def _end(self) -> Frame:
        """Let the consumer read to the end, count the anomalies, and describe the result."""
        consumer = self._world.consumer
        if consumer is not None:
            consumer.answers.clear()
        delivered_before = len(consumer.delivered) if consumer is not None else 0
        self._world.end((), complete=True)
        (result,) = self._results
        late = len(consumer.delivered) - delivered_before if consumer is not None else 0
        if consumer is not None and late:
            lane = self._lanes[-1]
            lane.record_answer(0, clean("; ".join(consumer.answers[:1])))
        counts = {kind: result.counts[kind] for kind in self._part.scenario.forbid if result.counts[kind]}
        anomalies = tuple(narration.anomaly(kind, count, self._details(kind)) for kind, count in counts.items())
        if self._part.closing and counts == self._part.expected:
            sentence = self._part.closing
        else:
            waited = [self._names[session] for session in self._waited]
            sessions = self._sessions.values()
            refused = [self._names[session.number] for session in sessions if session.refused]
            retried = [self._names[session.number] for session in sessions if session.tries > 1 and not session.refused]
            cut = [self._names[session] for session in self._cut]
            retried = [name for name in retried if name not in cut]
            sentence = narration.narrate_end(
                anomalies, waited=waited, retried=retried, refused=refused, late=late, cut=cut
            )
        return self._frame(sentence, anomalies=anomalies)

    def _details(self, kind: str) -> Sequence[str]:
        if kind == "refused":
            return [
                f"{narration.lower_first(self._names[session.number])} was refused, ERROR {session.sqlstate}: "
                "its user gets HTTP 500"
                for session in self._sessions.values()
                if session.sqlstate and session.outcome.name == "FAIL"
            ]
        (table, *_) = self._frame("", anomalies=()).tables or (None,)
        if table is None:
            return []
        if kind == "missed":
            missed = [row for row in table.rows if Mark.MISSED in row.marks]
            return [
                f"the consumer will never deliver row {row.cells[0]} (version {row.cells[1]}, by {row.cells[2]})"
                for row in missed
            ]
        if kind == "duplicates":
            ids_by_version: dict[str, list[str]] = {}
            for row in table.rows:
                if Mark.DUPLICATE in row.marks:
                    ids_by_version.setdefault(row.cells[1], []).append(row.cells[0])
            return [
                f"rows {' and '.join(ids)} have the same version {version}" for version, ids in ids_by_version.items()
            ]
        if kind == "violations":
            return [f"invariant {broken}" for broken in self._observer.broken(self._part.scenario.invariants)]
        return []
