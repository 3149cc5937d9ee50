"""What a call of the library is given, as a scenario with its strategies, its consumers and its load."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from racebench.api import applications
from racebench.api.options import LoadOptions, SqlOrCallable, Subject
from racebench.core import injection
from racebench.core.errors import UsageProblem
from racebench.core.model import Consumer, HttpRequest, Load, Origin, Program, Scenario, Service, Strategy
from racebench.workloads import ad_hoc, catalog

_SECONDS = 1.0


def scenario_of(
    subjects: Sequence[Subject],
    setup: SqlOrCallable,
    invariant: SqlOrCallable,
    serve: str | Service | None,
    *,
    named: bool,
    apart: bool = False,
) -> Scenario:
    """The scenario that subjects name or are; a text is a scenario's name if it is `named` so, or one is called so.

    `apart`: each program and each request is a strategy of its own.
    """
    setups, invariants = several(setup), several(invariant)
    service = applications.served(serve)
    applications.check_kinds(subjects, service)
    programs = [subject for subject in subjects if isinstance(subject, Program)]
    if programs:
        return ad_hoc.from_programs(programs, setup=setups, invariants=invariants, apart=apart)
    if service is not None:
        requests = [subject for subject in subjects if isinstance(subject, HttpRequest)]
        return ad_hoc.from_requests(requests, service, setup=setups, invariants=invariants, apart=apart)
    first = subjects[0] if subjects else None
    if isinstance(first, str | Path) and (named or catalog.is_scenario(str(first))):
        if len(subjects) > 1:
            raise UsageProblem(f"one scenario at a time, not {len(subjects)} subjects: {_listed(subjects)}")
        if setups or invariants:
            raise UsageProblem("setup and invariant go with code of your own; a scenario has its own")
        return catalog.find_scenario(str(first))
    files = [str(subject) for subject in subjects if _is_file(subject)]
    if not files:
        functions = [subject for subject in subjects if not isinstance(subject, Path | Program | HttpRequest)]
        return ad_hoc.from_calls(functions, setup=setups, invariants=invariants)
    if len(subjects) > 1:
        raise UsageProblem(f"one file of SQL at a time, not {len(subjects)} subjects: {_listed(subjects)}")
    return ad_hoc.from_sql(files[0], setup=setups, invariants=invariants)


def strategy_of(scenario: Scenario, name: str | None) -> Strategy:
    """The strategy of that name; the only one without a name. Raises UsageProblem."""
    if name is not None:
        return catalog.find_strategy(scenario, name)
    if len(scenario.strategies) > 1:
        example = next(iter(scenario.strategies))
        raise UsageProblem(
            f"scenario '{scenario.name}' has several strategies; name one, for example strategy='{example}'"
        )
    return next(iter(scenario.strategies.values()))


def consumers_of(scenario: Scenario, strategy: Strategy, names: Sequence[str]) -> tuple[Consumer, ...]:
    """The consumers of these names, which can read what the strategy writes. Raises UsageProblem."""
    if names and scenario.origin is Origin.OWN_CODE:
        raise UsageProblem(f"consumer '{names[0]}' goes with a scenario; code of your own has none")
    consumers = catalog.find_consumers(scenario, names) if names else ()
    if unfit := [consumer for consumer in consumers if not consumer.fits(strategy)]:
        raise UsageProblem(f"consumer '{unfit[0].name}' cannot read what '{strategy.name}' writes; choose another")
    return consumers


def contestants(
    subjects: Sequence[Subject],
    setup: SqlOrCallable,
    invariant: SqlOrCallable,
    serve: str | Service | None,
    *,
    named: bool,
) -> Scenario:
    """The scenario that is named, or one in which each file, function, program or request is a strategy of its own."""
    if not subjects:
        raise UsageProblem("nothing to compare; give functions or files of SQL, or name a scenario")
    first = subjects[0]
    is_name = isinstance(first, str | Path) and (named or catalog.is_scenario(str(first)))
    if is_name or serve is not None or any(isinstance(subject, Program | HttpRequest) for subject in subjects):
        return scenario_of(subjects, setup, invariant, serve, named=named, apart=True)
    files = [str(subject) for subject in subjects if _is_file(subject)]
    functions = [
        subject for subject in subjects if not (isinstance(subject, Path | Program | HttpRequest) or _is_file(subject))
    ]
    return ad_hoc.contestants(files, functions, setup=several(setup), invariants=several(invariant))


def names_of_consumers(scenario: Scenario, consumers: str | Sequence[str] | None) -> Sequence[str]:
    """The names of the consumers that run under load."""
    if consumers is None:
        return catalog.default_consumers(scenario)
    return [consumers] if isinstance(consumers, str) else consumers


def load_of(
    scenario: Scenario,
    options: LoadOptions,
    *,
    workers: int,
    seconds: float | None,
    operations: int | None,
    seed: int | None,
) -> Load:
    """The load that is asked for; a scenario that runs each worker's script once has as many operations as sessions."""
    if scenario.once and (seconds is not None or operations is not None):
        raise UsageProblem(
            f"scenario '{scenario.name}' runs each worker's script once; give workers, not seconds or operations"
        )
    of_scripts = ("think_us", "hold_us", "long_percent", "rollback_percent")
    of_functions = any(strategy.is_application for strategy in scenario.strategies.values())
    if of_functions and (name := next((name for name in of_scripts if getattr(options, name)), None)):
        raise UsageProblem(f"{name} has no effect on code of your own, whose transactions are its own; leave it out")
    return Load(
        workers=workers,
        duration_s=_SECONDS if seconds is None and operations is None and not scenario.once else seconds,
        operations=workers * options.connections_per_worker if scenario.once else operations,
        seed=seed_of(seed),
        **{
            **{field.name: getattr(options, field.name) for field in fields(options)},
            "faults": injection.chosen(options.faults, scenario.faults),
        },
    )


def _is_file(subject: Subject) -> bool:
    return isinstance(subject, Path) or (isinstance(subject, str) and ad_hoc.is_sql_file(subject))


def _listed(subjects: Sequence[Subject]) -> str:
    return shlex.join(map(str, subjects))


def several(definition: SqlOrCallable) -> tuple[ad_hoc.Definition, ...]:
    """Definitions, of which one may be given alone."""
    if isinstance(definition, str | Path) or callable(definition):
        return (definition,)
    return tuple(definition)


def seed_of(seed: int | None) -> int:
    """The seed that is given; a random one otherwise."""
    return secrets.randbelow(2**32) if seed is None else seed
