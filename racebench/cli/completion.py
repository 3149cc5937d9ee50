"""Completions for shells: names of scenarios, strategies and consumers, and files.

They are computed while the user waits after pressing Tab, and errors yield no completions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from racebench.core.errors import RacebenchError

if TYPE_CHECKING:
    from racebench.core.model import Consumer, Scenario, Strategy

SHELLS = ("bash", "zsh", "fish")


def script(cli: click.Command, shell: str) -> str:
    """The script that makes a shell complete `racebench`."""
    completion_class = get_completion_class(shell)
    assert completion_class is not None
    return completion_class(cli, {}, "racebench", "_RACEBENCH_COMPLETE").source()


def scenarios(_context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """Shipped scenarios; a folder for what looks like a path."""
    if "/" in prefix or prefix.startswith("."):
        return [CompletionItem(prefix, type="dir")]
    from racebench.workloads import catalog

    return _beginning(prefix, ((scenario.name, scenario.summary) for scenario in catalog.listed()))


def strategies(context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """The scenario's strategies, and their groups."""
    from racebench.workloads import catalog

    scenario = _scenario(context)
    known = {} if scenario is None else scenario.strategies
    groups = ((name, "a group of strategies") for name in catalog.GROUPS)
    return _beginning(prefix, [*((strategy.name, strategy.summary) for strategy in known.values()), *groups])


def consumers(context: click.Context, parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """The scenario's consumers, and "none"; "all" too if the option can be repeated."""
    scenario = _scenario(context)
    known = {} if scenario is None else scenario.consumers
    words = [("none", "no consumer")]
    if isinstance(parameter, click.Option) and parameter.multiple:
        words.append(("all", "every consumer"))
    return _beginning(prefix, [*((consumer.name, consumer.summary) for consumer in known.values()), *words])


def either(context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """The scenario's strategies and consumers, without groups."""
    scenario = _scenario(context)
    if scenario is None:
        return []
    entries: list[Strategy | Consumer] = [*scenario.strategies.values(), *scenario.consumers.values()]
    return _beginning(prefix, ((entry.name, entry.summary) for entry in entries))


def demonstrations(context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """The walkthroughs, then the scenario's strategies."""
    from racebench.demo import walkthroughs

    scenario = _scenario(context)
    if scenario is None:
        return []
    anywhere = context.params.get("scenario") is None
    shown = [one for one in walkthroughs.WALKTHROUGHS.values() if anywhere or one.scenario == scenario.name]
    named = {walkthrough.name: walkthrough.title for walkthrough in shown}
    named |= {name: strategy.summary for name, strategy in scenario.strategies.items() if name not in named}
    return _beginning(prefix, named.items())


def files(_context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """Files, which the shell completes itself."""
    return [CompletionItem(prefix, type="file")]


def folders(_context: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """Folders, which the shell completes itself."""
    return [CompletionItem(prefix, type="dir")]


def _scenario(context: click.Context) -> Scenario | None:
    """The scenario that the rest of the command line names."""
    from racebench.workloads import catalog

    with contextlib.suppress(RacebenchError, OSError):
        return catalog.find_scenario(context.params.get("scenario"))
    return None


def _beginning(prefix: str, named: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    return [CompletionItem(name, help=summary) for name, summary in named if name.startswith(prefix)]
