"""The user's own code as a scenario: SQL, Python callables, programs or HTTP requests, with a setup and invariants.

A text is SQL, the name of a file of SQL (`.sql`) or a callable (`module:function`), recognized by its form.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racebench.core.anomalies import Subject, forbidden_by_default
from racebench.core.environ import exported
from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.model import (
    Call,
    HttpRequest,
    Origin,
    Program,
    Scenario,
    ScheduleIsolation,
    Script,
    Service,
    SqlFile,
    Strategy,
)
from racebench.core.passwords import masked_header
from racebench.core.plain_text import shown
from racebench.workloads import addresses, applications, callables, processes, scripts
from racebench.workloads.catalog import find_scenario
from racebench.workloads.text_file import read_text

if TYPE_CHECKING:
    from racebench.core.target import Target


#: Statements that end what was set in a session, the schema it works in included.
_RESETS = re.compile(r"\b(?:RESET|DISCARD)\b", re.IGNORECASE)

#: The note on a result that no invariant was checked for.
NO_INVARIANT = "no --invariant was given, so only errors were looked for"

_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte of an argument that is not UTF-8

#: SQL, a file of SQL or a callable.
Definition = str | Path | Callable[..., Any]


@dataclass(slots=True)
class _Parts:
    files: list[SqlFile]
    calls: list[Call]


def own_application_name() -> str:
    """That of the connections that the user's code opens in this process. racebench does not end them."""
    return f"racebench application {os.getpid()}"


def is_sql_file(name: str) -> bool:
    """Whether a name is that of a file of SQL."""
    return name.endswith(".sql")


def from_sql(name: str, *, setup: Sequence[Definition], invariants: Sequence[Definition]) -> Scenario:
    """A scenario of one file of SQL, which is a pgbench script; raises UsageProblem or ScenarioProblem."""
    path = Path(name)
    return _scenario(path.stem, [_of_file(name, path.stem)], setup=setup, invariants=invariants, options=(name,))


def from_calls(
    functions: Sequence[str | Callable[..., Any]], *, setup: Sequence[Definition], invariants: Sequence[Definition]
) -> Scenario:
    """A scenario of callables, which the sessions share out; callables given by name are not imported yet."""
    if not functions:
        raise UsageProblem("nothing to call; name a callable, for example myapp.orders:create")
    calls = tuple(map(_call, functions))
    name = ",".join(dict.fromkeys(call.name for call in calls))
    names = [str(call) if call.function is None else _importable(call) for call in calls]
    words = None if None in names else tuple(word for known in names for word in ("--call", str(known)))
    module = calls[0].module or "python"
    return _scenario(module, [_strategy(name, calls)], setup=setup, invariants=invariants, options=words)


def from_programs(
    programs: Sequence[Program], *, setup: Sequence[Definition], invariants: Sequence[Definition], apart: bool = False
) -> Scenario:
    """A scenario of commands, which the sessions share out; `apart`: each is a strategy of its own.

    Raises UsageProblem, ScenarioProblem.
    """
    if not programs:
        raise UsageProblem("nothing to run; give a command, for example 'node create_order.js'")
    names = _distinct([applications.name_of_program(program.words) for program in programs])
    words = None if apart else tuple(word for program in programs for word in ("--exec", str(program)))
    strategies = (
        [_of_programs(name, (program,)) for name, program in zip(names, programs, strict=True)]
        if apart
        else [_of_programs(",".join(dict.fromkeys(names)), tuple(programs))]
    )
    return _scenario(names[0], strategies, setup=setup, invariants=invariants, options=words)


def from_requests(
    requests: Sequence[HttpRequest],
    service: Service,
    *,
    setup: Sequence[Definition],
    invariants: Sequence[Definition],
    apart: bool = False,
) -> Scenario:
    """A scenario of requests to a service, which the sessions share out; `apart`: each is a strategy of its own.

    Raises UsageProblem, ScenarioProblem.
    """
    if not requests:
        raise UsageProblem("no request to send to the service; give one, for example --http 'POST /orders'")
    names = _distinct([applications.name_of_request(request) for request in requests])
    known = None if apart else applications.words_of_requests(requests)
    words = None if known is None else (*applications.words_of_service(service), *known)
    strategies = (
        [_of_requests(name, (request,), service) for name, request in zip(names, requests, strict=True)]
        if apart
        else [_of_requests(",".join(dict.fromkeys(names)), tuple(requests), service)]
    )
    name = applications.name_of_service(service)
    return _scenario(name, strategies, setup=setup, invariants=invariants, options=words)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number after those that are given more than once."""
    return [
        name if names.count(name) == 1 else f"{name}-{names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def _of_programs(name: str, programs: tuple[Program, ...]) -> Strategy:
    text = "\n".join(applications.fingerprint(program.words) for program in programs)
    return Strategy(
        name=name,
        summary="program: " + "; ".join(map(str, programs)),
        script=Script(path=Path(str(programs[0])), text=text, steps=()),
        programs=programs,
    )


def _of_requests(name: str, requests: tuple[HttpRequest, ...], service: Service) -> Strategy:
    texts = [applications.described(service)]
    for request in requests:
        texts += [str(request), *(masked_header(name, value) for name, value in request.headers)]
    return Strategy(
        name=name,
        summary=f"requests to '{applications.called(service)}': " + "; ".join(map(str, requests)),
        script=Script(path=Path(str(requests[0])), text="\n".join(texts), steps=()),
        requests=requests,
        service=service,
    )


def contestants(
    files: Sequence[str],
    called: Sequence[str | Callable[..., Any]],
    *,
    setup: Sequence[Definition],
    invariants: Sequence[Definition],
) -> Scenario:
    """A scenario in which each file, or each callable, is a strategy of its own: they share tables, not a run.

    A strategy has its file's or function's name, or, where two have the same, all of it. The scenario's name stays when
    one more joins them: a baseline is of a scenario.
    """
    calls = [] if files else [_call(function) for function in dict.fromkeys(called)]
    texts = [*dict.fromkeys(files)] if files else [str(call) for call in calls]
    if odd := [name for name in files if not is_sql_file(name)]:
        raise UsageProblem(
            f"'{odd[0]}' is not a file of SQL: compare takes one scenario and --strategy, or several files"
        )
    if files and called:
        raise UsageProblem(f"both '{files[0]}' and --call {called[0]}: compare files of SQL or callables")
    short = [Path(text).stem for text in texts] if files else [call.name for call in calls]
    names = [name if short.count(name) == 1 else text for name, text in zip(short, texts, strict=True)]
    strategies = (
        [_of_file(text, name) for text, name in zip(texts, names, strict=True)]
        if files
        else [_strategy(name, (call,)) for call, name in zip(calls, names, strict=True)]
    )
    title = calls[0].module or "python" if calls else Path(texts[0]).resolve().parent.name or "sql"
    return _scenario(title, strategies, setup=setup, invariants=invariants, options=None)


def _call(subject: str | Callable[..., Any]) -> Call:
    return callables.named(subject) if isinstance(subject, str) else callables.of(subject)


def _of_file(name: str, called: str) -> Strategy:
    path = Path(name)
    return Strategy(
        name=called,
        summary=f"the script {name}",
        script=scripts.parse(read_text(path, "name an existing file"), path),
    )


def find(
    scenario: str | None,
    *,
    called: Sequence[str],
    setup: Sequence[str],
    invariants: Sequence[str],
    others: Sequence[str] = (),
    programs: Sequence[Program] = (),
    requests: Sequence[HttpRequest] = (),
    service: Service | None = None,
    apart: bool = False,
) -> Scenario:
    """The subject of a command line: callables, programs, requests, a file of SQL, or a scenario.

    `apart`: each callable, program, request and file is a strategy of its own; `others` are more files. Raises
    UsageProblem, ScenarioProblem.
    """
    files = [name for name in (scenario, *others) if name is not None]
    kinds = {
        f"'{files[0]}'" if files else "": files,
        f"--call {called[0]}" if called else "": called,
        f"--exec '{programs[0]}'" if programs else "": programs,
        f"--http '{requests[0]}'" if requests else "": requests,
    }
    given = [name for name, subjects in kinds.items() if subjects]
    if len(given) > 1 and (programs or requests):
        raise UsageProblem(f"both {given[0]} and {given[1]}: a run has one or the other")
    if programs:
        return from_programs(programs, setup=setup, invariants=invariants, apart=apart)
    if service is not None:
        return from_requests(requests, service, setup=setup, invariants=invariants, apart=apart)
    if apart and (others or (called and not files) or (scenario is not None and is_sql_file(scenario))):
        return contestants(files, called, setup=setup, invariants=invariants)
    if called:
        if scenario is not None:
            raise UsageProblem(f"both '{scenario}' and --call {called[0]}: a run has one or the other")
        return from_calls(called, setup=setup, invariants=invariants)
    if scenario is not None and is_sql_file(scenario):
        return from_sql(scenario, setup=setup, invariants=invariants)
    if setup or invariants:
        option = "--setup" if setup else "--invariant"
        raise UsageProblem(f"{option} goes with --call, --exec, --http or a file of SQL; a scenario has its own")
    return find_scenario(scenario)


@contextlib.contextmanager
def ready(scenario: Scenario, target: Target, schema: str) -> Iterator[Scenario]:
    """The scenario with its callables imported, while environment variables say where their tables are.

    Raises UsageProblem for a callable that cannot be imported, and DatabaseProblem for code that a pooler would lead
    to the application's own tables.
    """
    _check_pooler(scenario, target)
    strategies = scenario.strategies.values()
    if not (scenario.setup or scenario.checks or any(strategy.is_application for strategy in strategies)):
        yield scenario
        return
    runs_programs = any(strategy.programs or strategy.service for strategy in strategies)
    with (
        processes.none_left() if runs_programs else contextlib.nullcontext(),
        exported(addresses.variables(target, schema, own_application_name())),
    ):
        yield loaded(scenario)


def _check_pooler(scenario: Scenario, target: Target) -> None:
    """Raise DatabaseProblem if the user's SQL may undo racebench's search_path, which the pooler does not know of."""
    if not target.pooled or scenario.origin is not Origin.OWN_CODE:
        return
    if word := resets(scenario):
        raise DatabaseProblem(
            f"{word} would lead the session to the application's own tables, as {target.label} is a pooler and resets "
            "to its own search_path; give a DSN of the server itself"
        )


def resets(scenario: Scenario) -> str:
    """The word by which its SQL may return to the settings that a session began with; "" if there is none."""
    files = [*scenario.schema]
    for strategy in scenario.strategies.values():
        files += strategy.schema
    texts = [file.text for file in files] + [one.script.text for one in scenario.strategies.values()]
    return next((found.group() for text in texts if (found := _RESETS.search(text))), "")


def lacks_invariant(scenario: Scenario) -> bool:
    """Whether it is the user's own code without an invariant: then only errors are found."""
    return scenario.origin is Origin.OWN_CODE and not scenario.invariants and not scenario.checks


def loaded(scenario: Scenario) -> Scenario:
    """The scenario with its callables imported; raises UsageProblem for one that cannot be."""
    strategies = {
        name: _strategy(name, tuple(map(callables.loaded, strategy.calls))) if strategy.calls else strategy
        for name, strategy in scenario.strategies.items()
    }
    return replace(
        scenario,
        strategies=strategies,
        setup=tuple(map(callables.loaded, scenario.setup)),
        checks={name: callables.loaded(check) for name, check in scenario.checks.items()},
    )


def _strategy(name: str, calls: tuple[Call, ...]) -> Strategy:
    """The script of callables, without steps. Its text is their source, so that its digest changes with them."""
    return Strategy(
        name=name,
        summary="Python: " + ", ".join(map(str, calls)),
        script=Script(path=Path(str(calls[0])), text="\n".join(call.text for call in calls), steps=()),
        calls=calls,
    )


def _scenario(
    name: str,
    strategies: Sequence[Strategy],
    *,
    setup: Sequence[Definition],
    invariants: Sequence[Definition],
    options: tuple[str, ...] | None,
) -> Scenario:
    setup_parts = _parts(setup, "setup")
    queries: dict[str, str] = {}
    checks: dict[str, Call] = {}
    for number, invariant in enumerate(invariants, 1):
        parts = _parts([invariant], "invariant")
        label = "invariant" if len(invariants) == 1 else f"invariant {number}"
        for file in parts.files:
            queries[label] = file.text.strip().rstrip(";")
        for call in parts.calls:
            checks[label] = call
    return Scenario(
        name=name,
        title=name,
        summary="; ".join(strategy.summary for strategy in strategies),
        folder=Path(),
        schema=tuple(setup_parts.files),
        rows=None,
        invariants=queries,
        measures={},
        lines={},
        once=False,
        forbid=forbidden_by_default(Subject.OWN_CODE),
        advise=None,
        strategies={strategy.name: strategy for strategy in strategies},
        consumers={},
        setup=tuple(setup_parts.calls),
        checks=checks,
        schedule_isolation=ScheduleIsolation.RESTORED_TABLES,
        origin=Origin.OWN_CODE,
        options=_options(options, setup, invariants),
    )


def _options(
    subject: tuple[str, ...] | None, setup: Sequence[Definition], invariants: Sequence[Definition]
) -> tuple[str, ...] | None:
    """The arguments that name these subjects on a command line; None if no command line can."""
    if subject is None:
        return None
    words = list(subject)
    for option, definitions in (("--setup", setup), ("--invariant", invariants)):
        for definition in definitions:
            name = _importable(callables.of(definition)) if callable(definition) else str(definition)
            if name is None:
                return None
            words += [option, _folded(name)]
    return tuple(words)


def _folded(text: str) -> str:
    """SQL on one line, if that does not change its meaning."""
    return text if any(mark in text for mark in ("--", "'", '"', "$")) else " ".join(text.split())


def _importable(call: Call) -> str | None:
    """The name of a callable for a command; None if it is not at the top of a module."""
    return str(call) if callables.is_at_top(call) else None


def _parts(definitions: Sequence[Definition], what: str) -> _Parts:
    parts = _Parts([], [])
    for one in definitions:
        if isinstance(one, Path) or (isinstance(one, str) and is_sql_file(one.strip()) and "\n" not in one):
            path = Path(one)
            parts.files.append(
                SqlFile(path=path, text=read_text(path, f"name an existing file, or give the {what} as SQL"))
            )
        elif not isinstance(one, str):
            parts.calls.append(callables.of(one))
        elif callables.is_reference(one):
            parts.calls.append(callables.named(one))
        elif "\0" in one or _SURROGATE.search(one):
            raise UsageProblem(f"the {what} is no text that PostgreSQL takes: {shown(one)}; give it in UTF-8")
        elif not one.strip():
            raise UsageProblem(f"the {what} is empty; give SQL, a file of SQL or module:function")
        else:
            parts.files.append(SqlFile(path=Path(f"the {what}"), text=one))
    return parts
