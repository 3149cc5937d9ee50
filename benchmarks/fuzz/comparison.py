"""Explores one program in several ways, and compares the sets of outcomes and the verdicts.

An outcome is, of each session, the place of its code, its last refusal and (of calls) all that it was answered, and the
final contents of the tables. Sessions with the same code may be swapped, and no others: whether a serial order has an
outcome depends on which session was refused. What the server decides, not the schedule, is told by narrow rules
(`_explained`), and counted.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.fuzz.brute_force import BruteForce, Results
from benchmarks.fuzz.client import Shape
from benchmarks.fuzz.features import TABLES
from benchmarks.fuzz.ground import Ground, contents_query, read
from benchmarks.fuzz.program import Program, schedules
from benchmarks.fuzz.subjects import Logs, request, setup_text, strategy_of, wire_strategy
from racebench.core.errors import RacebenchError, ScenarioProblem
from racebench.core.model import Strategy
from racebench.core.refusals import is_refusal
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration.explorer import explore
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.search import Diverged
from racebench.postgres.connection import connect

#: Of each session the place of its code, its log (of a call), its last refusal (of a script); and the tables' contents.
Outcome = tuple[tuple[tuple[int, str, str], ...], str]
#: A failure of a call: the place of its code, SQLSTATE, constraint, and the message without values.
_Failure = tuple[int, str, str, str]
_VALUES = re.compile(r"""'[^']*'|"[^"]*"|\w*\d\w*""")
#: The ways: through the wire, the session's statements are held at a gate between a service and the server.
BRUTE_FORCE, REDUCED, UNREDUCED, WIRE, WIRE_UNREDUCED = "brute force", "reduced", "unreduced", "wire", "wire unreduced"
EXPLORED_SCHEMA, BRUTE_SCHEMA = "racebench_fuzz_explored", "racebench_fuzz_brute"
#: A program with more schedules than this is explored without reduction in part only.
_MOST_UNREDUCED = 80
#: A lock that is tried, not awaited; and the rule that explains what a woken session finds of one.
_TRIES = re.compile(r"pg_try_advisory|\bNOWAIT\b|\bSKIP LOCKED\b", re.IGNORECASE)
_RELEASING = "lock tried while it is released"
#: What makes values up, or has answers that are not kept.
_MADE_UP = re.compile(r"INTO b\b|nextval|clock_|now\(|uuid|random|commit=False", re.IGNORECASE)
#: What another transaction sees before the COMMIT, or after another's snapshot: SERIALIZABLE does not order it.
_NOT_SERIALIZABLE = re.compile(
    r"pg_try_advisory|NOWAIT|SKIP LOCKED|TRUNCATE|REFRESH|val\(|\bNOTIFY|xmin|txid|pg_current", re.IGNORECASE
)
_REFUSED = re.compile(r"'[0-9A-Z]{5}'")
#: How often a comparison that shows a difference is made again before it counts.
_AGAIN = 2


@dataclass(slots=True)
class Found:
    """What one way of exploring found.

    `chances`: of the outcomes that were seen where the server decided, what it decided: several sessions were woken at
    once, or deadlocked, or one was woken that may try a lock. `certain`: the outcomes that were seen elsewhere too.
    `guilty`: the outcomes that are wrong. `problem`: why it was not explored.
    `serial` and `not_serial`: the outcomes that the oracle says a serial order has, and has not.
    `leftovers`: what racebench says that it has not restored.
    """

    way: str
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    certain: set[Outcome] = field(default_factory=set)
    chances: dict[Outcome, set[str]] = field(default_factory=dict)
    guilty: set[Outcome] = field(default_factory=set)
    serial: set[Outcome] = field(default_factory=set)
    not_serial: set[Outcome] = field(default_factory=set)
    complete: bool = False
    verdict: Verdict = Verdict.UNKNOWN
    problem: RacebenchError | None = None
    leftovers: tuple[str, ...] = ()
    #: The numbers of schedules of each exploration.
    runs: list[int] = field(default_factory=list)
    #: Statements that are several steps elsewhere are sent in one Query, and are one step.
    coarse: bool = False

    def add(self, outcome: Outcome, *, raced: bool, deadlocked: bool, guilty: bool, tried: bool = False) -> None:
        self.outcomes[outcome] += 1
        known = (("woken together", raced), ("deadlock", deadlocked), (_RELEASING, tried))
        chances = {name for name, so in known if so}
        if chances:
            self.chances.setdefault(outcome, set()).update(chances)
        else:
            self.certain.add(outcome)
        if guilty:
            self.guilty.add(outcome)

    def undecided(self) -> set[str]:
        return set().union(*self.chances.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The result for one program.

    `refused`: why racebench does not explore it, "" if it does. `differences`: what is not explained, as text.
    `explained`: the kinds of differences that a rule explains, with their numbers. `verdicts`, `schedules` and
    `outcomes`: by way.
    """

    program: Program
    refused: str = ""
    differences: tuple[str, ...] = ()
    explained: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, str] = field(default_factory=dict)
    schedules: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, frozenset[Outcome]] = field(default_factory=dict)


class Comparer:
    """The connections of all comparisons on one server.

    `crash`: how many connections are cut at most in a schedule. The brute force cuts none, and is left out then.
    """

    def __init__(self, target: Target, *, most: int, seconds: float, crash: int = 0) -> None:
        self._target, self._most, self._seconds, self._crash = target, most, seconds, crash
        self._stack = contextlib.ExitStack()
        settings = {"lock_timeout": "0", "synchronous_commit": "off"}
        self._connections = [
            self._stack.enter_context(connect(target, schema=BRUTE_SCHEMA, settings=settings)) for _ in range(3)
        ]
        self._monitor = self._stack.enter_context(connect(target, schema=BRUTE_SCHEMA, settings=settings))
        self._reader = self._stack.enter_context(connect(target, schema=EXPLORED_SCHEMA, settings=settings))
        self._monitor.execute("SET client_min_messages = error")

    def close(self) -> None:
        self._stack.close()

    def compare(self, program: Program, *, again: bool = True, shape: Shape | None = None) -> Compared:
        """Explore a program in every way; `again`: repeat it before a difference counts.

        `shape`: explore it through the wire too, in this shape; as calls, if it is a script.
        """
        if shape is not None:
            program = replace(program, script=False)
        with self._schema(BRUTE_SCHEMA):
            try:
                self._monitor.execute(setup_text(program).encode())
                ground = Ground(self._monitor, BRUTE_SCHEMA)
                program, alone, serial, why = self._alone(program, ground)
            except psycopg.Error as problem:  # of a program that was made smaller
                return Compared(program=program, refused=f"setup: {problem.sqlstate}")
            if why:
                return Compared(program=program, refused=why)
            names = (BRUTE_FORCE, *((REDUCED, UNREDUCED) if shape is None else (UNREDUCED, WIRE, WIRE_UNREDUCED, WIRE)))
            ways = {way: Found(way) for way in names}
            if shape in (Shape.SIMPLE, Shape.JOINED) and re.search(r"\b(?:Batch|Many)\(", str(program.codes)):
                ways[WIRE].coarse = ways[WIRE_UNREDUCED].coarse = True
            for _ in range(1 + _AGAIN * again):
                if not self._crash:
                    self._force(program, ground, alone, ways[BRUTE_FORCE])
                for way in names[1:]:
                    try:
                        self._explore(program, ways[way], None if way in (REDUCED, UNREDUCED) else shape)
                    except ScenarioProblem:
                        return Compared(program=program, refused="a statement cannot be prepared")
                    except RacebenchError as problem:
                        ways[way].complete, ways[way].problem = False, problem
                exclusion = any("EXCLUDE USING" in statement for statement in program.setup)
                differences, explained = _differences(ways, exclusion=exclusion)
                differences += _misjudged(program, ways, serial, cut=self._crash > 0)
                if not differences:
                    break
        return Compared(
            program=program,
            differences=tuple(differences),
            explained=explained,
            verdicts={way: found.verdict.value for way, found in ways.items()},
            schedules={way: found.outcomes.total() for way, found in ways.items()},
            outcomes={way: frozenset(found.outcomes) for way, found in ways.items()},
        )

    @contextlib.contextmanager
    def _schema(self, name: str) -> Iterator[None]:
        identifier = sql.Identifier(name)
        self._monitor.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(identifier))
        self._monitor.execute(sql.SQL("CREATE SCHEMA {}").format(identifier))
        try:
            yield
        finally:
            self._monitor.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(identifier))

    def _alone(self, program: Program, ground: Ground) -> tuple[Program, set[_Failure], set[Outcome], str]:
        """Run the sessions one after the other in every order.

        Returns the program without the invariants that break, the failures, the outcomes, and why the program is no
        subject: "" if it is one.
        """
        failures: set[_Failure] = set()
        broken: set[str] = set()
        outcomes: set[Outcome] = set()
        why = ""
        results: list[tuple[psycopg.Error | None, list[Any]]] = []
        for order in sorted(set(permutations(program.sessions))):
            results.clear()
            self._brute_force(program, ground).explore(
                [program.codes[place] for place in order],
                ground.restore,
                lambda them, _raced, _deadlocked: results.extend(them),
                script=program.script,
                most=1,
            )
            failures |= {
                _failure(place, refusal) for place, (refusal, _) in zip(order, results, strict=True) if refusal
            }
            broken |= set(self._violated(program))
            outcomes.add(_outcome(program, order, results, ground.contents()))
            if results[0][0] is not None and not program.script:
                why = f"alone: {results[0][0].sqlstate}"
        kept = tuple(query for query in program.invariants if query not in broken)
        return replace(program, invariants=kept), failures, outcomes, why

    def _brute_force(self, program: Program, ground: Ground) -> BruteForce:
        return BruteForce(self._connections, self._monitor, ground.holds_numbers if program.script else "")

    def _violated(self, program: Program) -> list[str]:
        return [query for query in program.invariants if self._monitor.execute(query.encode()).fetchone() is not None]

    def _explore(self, program: Program, found: Found, shape: Shape | None) -> None:
        if shape is None:
            logs: Logs = []
            self._search(program, strategy_of(program, logs), found, lambda: logs[-len(program.sessions) :])
            return
        with tempfile.NamedTemporaryFile() as file:
            path = Path(file.name)

            def last() -> Logs:
                lines = path.read_text().splitlines()
                os.truncate(path, 0)
                return [ast.literal_eval(line) for line in lines[-len(program.sessions) :]]

            self._search(program, wire_strategy(program, shape, path), found, last)

    def _search(self, program: Program, strategy: Strategy, found: Found, last: Callable[[], Logs]) -> None:
        """Explore a strategy; `last` returns what the sessions of the schedule that has just ended were answered."""
        query: list[bytes] = []
        seen: list[tuple[Logs, str]] = []

        def left() -> None:
            if not query:
                query.append(contents_query(self._reader, EXPLORED_SCHEMA))
            seen.append((last(), read(self._reader, query[0])))

        def ended(result: ScheduleResult) -> None:
            if result.burst:
                return  # the brute force sends one statement at a time
            answered, contents = seen[-1]
            seen.clear()
            if program.script:
                assert result.effect is not None, "every program is compared with the serial orders"
                ends = zip(program.sessions, result.effect.sessions, strict=True)
                sessions = [(place, "", session.error) for place, session in ends]
            else:
                sessions = [(place, str(log), "") for place, log in answered]
            outcome = tuple(sorted(sessions)), contents
            guilty = bool(result.counts["violations"] or result.counts["refused"])
            found.add(outcome, raced=result.raced, deadlocked=result.deadlocked, guilty=guilty)
            if not result.unjudged:
                (found.not_serial if result.counts["non-serializable"] else found.serial).add(outcome)

        reduce = found.way in (REDUCED, WIRE)
        most = self._most if reduce or schedules(program, joined=False) <= _MOST_UNREDUCED else self._most // 8
        asked = request(program, strategy, reduce=reduce, most=most, seconds=self._seconds, schema=EXPLORED_SCHEMA)
        asked = replace(asked, crash=self._crash)
        explored = explore(self._target, asked, left=left, ended=ended)
        found.complete, found.verdict, found.problem = explored.complete, explored.verdict, None
        found.leftovers = explored.leftovers
        found.runs.append(explored.run)

    def _force(self, program: Program, ground: Ground, alone: set[_Failure], found: Found) -> None:

        tries = bool(_TRIES.search(str(program)))

        def ended(results: Results, woken: int, deadlocked: bool) -> None:
            refusals = [(place, error) for place, (error, _) in zip(program.sessions, results, strict=True) if error]
            if program.script:
                refused = any(is_refusal(error.sqlstate or "") for _, error in refusals)
            else:
                refused = any(_failure(place, error) not in alone for place, error in refusals)
            outcome = _outcome(program, program.sessions, results, ground.contents())
            guilty = refused or bool(self._violated(program))
            found.add(outcome, raced=woken > 1, deadlocked=deadlocked, tried=woken > 0 and tries, guilty=guilty)

        codes = [program.codes[place] for place in program.sessions]
        found.complete = self._brute_force(program, ground).explore(
            codes, ground.restore, ended, script=program.script, most=self._most
        )
        found.verdict = Verdict.INVALID if found.guilty else Verdict.VALID if found.complete else Verdict.UNKNOWN


def _outcome(program: Program, places: Sequence[int], results: Results, contents: str) -> Outcome:
    """The outcome of sessions whose codes are at these places."""
    if program.script:
        sessions = [
            (place, "", error.sqlstate or "" if error else "")
            for place, (error, _) in zip(places, results, strict=True)
        ]
    else:
        sessions = [(place, str(log), "") for place, (_, log) in zip(places, results, strict=True)]
    return tuple(sorted(sessions)), contents


def _misjudged(program: Program, ways: dict[str, Found], serial: set[Outcome], *, cut: bool) -> list[str]:
    """What the oracle says in one way and not in the other, or against the outcomes that serial orders have here.

    `cut`: connections were cut, so that a session may have done half of what it does.
    """
    explored = [found for way, found in ways.items() if way != BRUTE_FORCE]
    if any(found.leftovers or found.problem for found in explored):
        return []
    code = str((program.codes, program.setup[len(TABLES) :]))
    plain = not _MADE_UP.search(code) and all(one.tries == 1 for one in program.codes)
    wrong = [
        f"{one.way} says that no serial order has {outcome}, {other.way} that one has"
        for one, other in permutations(explored, 2)
        for outcome in one.not_serial & other.serial
    ]
    for found in explored:
        wrong += [f"{found.way} says that no serial order has {one}, and one has" for one in found.not_serial & serial]
        if plain and not cut:
            wrong += [
                f"{found.way} says that a serial order has {one}, and none has"
                for one in found.serial - serial
                if not any(sqlstate or _REFUSED.search(log) for _, log, sqlstate in one[0])
            ]
        if program.serializable and not cut and not _NOT_SERIALIZABLE.search(code):
            wrong += [
                f"{found.way}: SERIALIZABLE lets through {one}"
                for one in found.not_serial
                if not any(_REFUSED.search(log) for _, log, _ in one[0])  # that a call returns
            ]
    return wrong


def _failure(place: int, error: psycopg.Error) -> _Failure:
    """What makes two errors of calls the same: the code, and all but the values in the message."""
    message = _VALUES.sub("?", str(error))
    return place, error.sqlstate or "", error.diag.constraint_name or "", message


def _differences(ways: dict[str, Found], *, exclusion: bool) -> tuple[list[str], Counter[str]]:
    differences: list[str] = []
    explained: Counter[str] = Counter()
    for one in ways.values():
        if isinstance(one.problem, Diverged) and any(other.undecided() for other in ways.values()):
            explained["diverged"] += 1  # an honest answer: the server decided otherwise when a schedule was repeated
        elif one.problem is not None:
            differences.append(f"{one.way}: {type(one.problem).__name__}: {one.problem}")
        elif one.leftovers:
            explained["named as left behind"] += 1
        elif not one.complete:
            explained[f"limit: {one.way}"] += 1
        if one.complete and not one.undecided() and len(set(one.runs)) > 1:
            differences.append(f"{one.way}: another number of schedules each time: {one.runs}")
        for other in ways.values():
            if one is other or one.leftovers or other.leftovers:
                continue
            lacking = set(one.outcomes) - set(other.outcomes)
            if other.complete and lacking:
                for outcome in lacking:
                    if rule := _explained(outcome, one, other, exclusion=exclusion):
                        explained[rule] += 1
                    else:
                        differences.append(f"only {one.way} has {outcome}, {other.way} is complete")
            if other.verdict is Verdict.VALID and one.guilty - set(other.outcomes):
                wrong = [outcome for outcome in one.guilty if not _explained(outcome, one, other, exclusion=exclusion)]
                if wrong:
                    differences.append(f"{other.way} says VALID, {one.way} has {wrong[0]}")
            if one.guilty and other.verdict is Verdict.VALID and one.guilty & set(other.outcomes):
                differences.append(f"{other.way} says VALID, but has what {one.way} calls guilty")
    return differences, explained


def _explained(outcome: Outcome, one: Found, other: Found, *, exclusion: bool = False) -> str:
    """The rule that explains why only one way has an outcome; "" if there is none.

    The other way saw one order of several sessions that were woken at once. Or the outcome was only ever seen in
    schedules with a deadlock, and the other way saw deadlocks too, with other victims. Or it was only ever seen in
    schedules in which a session was woken that tries a lock: the server releases the locks of a transaction one after
    the other, and the woken session may find one of them still held. racebench lets it go on after the last. Or it was
    only ever seen with a deadlock, and there is an exclusion constraint (`exclusion`): of several rows that conflict, a
    session meets that first which the index has first, and no schedule decides on that. Or the other way sends
    several statements in one Query, which is one step.
    """
    if other.coarse:
        return "several statements in one Query"
    if "woken together" in other.undecided():
        return "woken together"
    if outcome not in one.certain and "deadlock" in one.chances.get(outcome, set()) & other.undecided():
        return f"deadlock of {len(outcome[0])} sessions"
    if outcome not in one.certain and _RELEASING in one.chances.get(outcome, set()):
        return _RELEASING
    if exclusion and outcome not in one.certain and "deadlock" in one.chances.get(outcome, set()):
        return "order of rows in an exclusion's index"
    return ""
