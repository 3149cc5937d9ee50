"""A program as racebench's subject: a pgbench script, Python callables or requests; with a setup and invariants."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.fuzz import service
from benchmarks.fuzz.client import Shape
from benchmarks.fuzz.interpreter import call
from benchmarks.fuzz.program import RETRIED, Batch, Branch, Code, Many, Program, Savepoint, Sql, Step
from racebench.core.anomalies import Subject, forbidden_by_default
from racebench.core.model import (
    HttpRequest,
    Origin,
    Retry,
    Scenario,
    ScheduleIsolation,
    Script,
    Service,
    SqlFile,
    Strategy,
)
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.request import ExplorationRequest
from racebench.workloads import callables, scripts

#: What sessions were answered, in the order in which they were begun: the code's place, and its log.
Logs = list[tuple[int, list[Any]]]
_ROOT = Path(__file__).parents[2]


def strategy_of(program: Program, logs: Logs) -> Strategy:
    """A program as a script, or as calls; `logs` takes what the sessions of calls were answered."""
    return _script_strategy(program) if program.script else _call_strategy(program, logs)


def request(
    program: Program, strategy: Strategy, *, reduce: bool, most: int, seconds: float, schema: str
) -> ExplorationRequest:
    """The request that explores a program as this strategy."""
    scenario = Scenario(
        name="fuzz",
        title="fuzz",
        summary=program.name,
        folder=Path(),
        schema=(SqlFile(path=Path("setup.sql"), text=setup_text(program)),),
        rows=None,
        invariants={f"invariant {place}": query for place, query in enumerate(program.invariants, 1)},
        measures={},
        lines={},
        once=False,
        forbid=forbidden_by_default(Subject.OWN_CODE),
        advise=None,
        strategies={strategy.name: strategy},
        consumers={},
        schedule_isolation=ScheduleIsolation.RESTORED_TABLES,
        origin=Origin.OWN_CODE,
        options=None,
    )
    return ExplorationRequest(
        scenario=scenario,
        strategy=strategy,
        sessions=len(program.sessions),
        reduce=reduce,
        max_schedules=2 * most,  # the exhaustive search has half of them
        budget_s=2 * seconds,
        schema=schema,
        oracle=Oracle.RETURNS,  # a call returns what it was answered
    )


def setup_text(program: Program) -> str:
    """The setup as one text."""
    return "".join(f"{statement};\n" for statement in program.setup)


def _script_strategy(program: Program) -> Strategy:
    tries = program.codes[0].tries
    return Strategy(
        name="script",
        summary=program.name,
        script=scripts.parse(script_text(program), Path("script.sql")),
        retry=Retry(sqlstates=RETRIED, tries=tries) if tries > 1 else None,
    )


def _call_strategy(program: Program, logs: Logs) -> Strategy:
    functions = [_function(place, code, logs) for place, code in enumerate(program.codes)]
    calls = [callables.of(functions[place]) for place in program.sessions]
    return Strategy(
        name="calls",
        summary=program.name,
        script=Script(path=Path(program.name), text="", steps=()),
        calls=tuple(calls),
    )


def wire_strategy(program: Program, shape: Shape, log: Path) -> Strategy:
    """A program as requests to a service that sends in a shape; `log`: the file that takes what it was answered."""
    requests = [
        HttpRequest(method="POST", path="/", body=service.body(shape, place, program.codes[place], str(log)))
        for place in program.sessions
    ]
    command = ("env", f"PYTHONPATH={_ROOT}", sys.executable, "-m", "benchmarks.fuzz.service", "{port}")
    return Strategy(
        name="requests",
        summary=program.name,
        script=Script(path=Path(program.name), text="", steps=()),
        requests=tuple(requests),
        service=Service(command=command),
    )


def _function(place: int, code: Code, logs: Logs) -> Callable[[psycopg.Connection[Any]], None]:
    def run(connection: psycopg.Connection[Any]) -> list[Any]:
        log: list[Any] = []
        logs.append((place, log))
        return call(connection, code, log)

    run.__qualname__ = run.__name__ = f"code{place}"
    return run


def script_text(program: Program) -> str:
    """A program's pgbench script: sessions with different codes branch by their number."""
    if len(program.codes) == 1:
        return _lines(program.codes[0])
    text = ""
    for session, code in enumerate(program.sessions):
        text += f"\\{'elif' if session else 'if'} :client_id = {session}\n{_lines(program.codes[code])}"
    return text + "\\endif\n"


def _lines(code: Code) -> str:
    lines: list[str] = []
    for unit in code.units:
        if unit.transaction:
            lines.append(f"BEGIN{f' ISOLATION LEVEL {unit.level}' if unit.level else ''};")
        lines += _of_steps(unit.steps)
        if unit.transaction:
            lines.append("COMMIT;" if unit.commit else "ROLLBACK;")
    return "\n".join(lines) + "\n"


def _of_steps(steps: Sequence[Step]) -> list[str]:
    lines: list[str] = []
    for step in steps:
        if isinstance(step, Sql):
            text = step.text.replace("{", ":").replace("}", "")
            lines.append(f"{text} \\gset" if step.save else f"{text};")
        elif isinstance(step, Branch):
            lines += [f"\\if :{step.variable} > {step.threshold}", *_of_steps(step.then)]
            lines += ["\\else", *_of_steps(step.otherwise), "\\endif"]
        elif isinstance(step, Savepoint):
            lines += ["SAVEPOINT s;", *_of_steps(step.steps), "ROLLBACK TO s;" if step.undo else "RELEASE s;"]
        else:
            assert not isinstance(step, Many | Batch), "a script sends one statement at a time"
    return lines
