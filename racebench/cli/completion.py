"""What a shell can complete: names of scenarios, strategies and consumers, and files.

Called while somebody waits for a Tab to answer, and never to complain: trouble yields no candidates.
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
    found = get_completion_class(shell)
    assert found is not None
    return found(cli, {}, "racebench", "_RACEBENCH_COMPLETE").source()


def scenarios(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Shipped scenarios; a folder for what looks like a path."""
    if "/" in begun or begun.startswith("."):
        return [CompletionItem(begun, type="dir")]
    from racebench.workloads import catalog

    return _beginning(begun, ((scenario.name, scenario.summary) for scenario in catalog.shipped()))


def strategies(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The scenario's strategies, and their groups."""
    from racebench.workloads import catalog

    scenario = _scenario(context)
    known = {} if scenario is None else scenario.strategies
    groups = ((name, "a group of strategies") for name in catalog.GROUPS)
    return _beginning(begun, [*((each.name, each.summary) for each in known.values()), *groups])


def consumers(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The scenario's consumers; none, and all where there may be several."""
    scenario = _scenario(context)
    known = {} if scenario is None else scenario.consumers
    words = [("none", "no consumer")]
    if isinstance(parameter, click.Option) and parameter.multiple:
        words.append(("all", "every consumer"))
    return _beginning(begun, [*((each.name, each.summary) for each in known.values()), *words])


def either(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The scenario's strategies and consumers, one by one."""
    scenario = _scenario(context)
    if scenario is None:
        return []
    named: list[Strategy | Consumer] = [*scenario.strategies.values(), *scenario.consumers.values()]
    return _beginning(begun, ((each.name, each.summary) for each in named))


def files(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Files: the shell knows them best."""
    return [CompletionItem(begun, type="file")]


def folders(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Folders, as the shell knows them."""
    return [CompletionItem(begun, type="dir")]


def _scenario(context: click.Context) -> Scenario | None:
    """The scenario that the rest of the line is about."""
    from racebench.workloads import catalog

    with contextlib.suppress(RacebenchError, OSError):
        return catalog.find_scenario(context.params.get("scenario"))
    return None


def _beginning(begun: str, named: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    return [CompletionItem(name, help=summary) for name, summary in named if name.startswith(begun)]
