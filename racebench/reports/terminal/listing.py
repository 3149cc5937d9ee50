"""What `racebench list` and `racebench show` print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from racebench.core.model import Consumer, Scenario, Script, SqlFile, Strategy
from racebench.core.quantity import quantity
from racebench.reports.terminal import tables
from racebench.reports.terminal.tables import Column, Grid


def show_scenarios(console: Console, scenarios: Sequence[Scenario]) -> None:
    """Each scenario with its strategies and consumers, a line each."""
    for scenario in scenarios:
        columns = (Column(), Column(rank=1), Column(wraps=True))
        table = Grid(columns, ascii_only=console.options.ascii_only, headed=False, gap=2, indent=2)
        for strategy in scenario.strategies.values():
            table.add_row(strategy.name, _known(strategy), strategy.summary)
        for consumer in scenario.consumers.values():
            table.add_row(consumer.name, Text("consumer", style="cyan"), consumer.summary)
        tables.show(console, [Text.assemble((scenario.name, "bold"), f": {scenario.summary}"), table])


def show_strategy(console: Console, scenario: Scenario, strategy: Strategy) -> None:
    """A strategy's files, highlighted, under what is known of it."""
    lines = [
        Text.assemble((strategy.name, "bold"), f" ({scenario.name}): {strategy.summary}"),
        Text.assemble("known: ", _known(strategy), f" ({strategy.source})" if strategy.source else ""),
    ]
    if strategy.expect:
        lines.append(Text(f"allows: {', '.join(sorted(strategy.expect))}"))
    if strategy.isolation:
        lines.append(Text(f"isolation: {strategy.isolation}"))
    if strategy.retry:
        codes = ", ".join(sorted(strategy.retry.sqlstates))
        lines.append(Text(f"retry: on {codes}, at most {quantity(strategy.retry.tries, 'try', 'tries')}"))
    _show_files(console, lines, scenario, [*scenario.schema, *strategy.schema, strategy.script])


def show_consumer(console: Console, scenario: Scenario, consumer: Consumer) -> None:
    """A consumer's files, highlighted, under what is known of it."""
    lines = [
        Text.assemble((consumer.name, "bold"), f" ({scenario.name}, consumer): {consumer.summary}"),
        Text(f"misses rows: {_MISSES[consumer.misses]}"),
        *(Text(f"needs: {name} = {value}") for name, value in consumer.requires.items()),
    ]
    _show_files(console, lines, scenario, [*consumer.schema, *consumer.opening, consumer.script, *consumer.closing])


_MISSES = {
    "unordered": "of strategies that do not commit in the order of their numbers",
    "maybe": "of such strategies fewer, but not certainly none",
    "never": "never",
}


def _show_files(console: Console, lines: Sequence[Text], scenario: Scenario, parts: Sequence[SqlFile | Script]) -> None:
    """What is known, then each file. SQL is never wrapped: it is there to be copied."""
    tables.show(console, lines)
    for part in parts:
        text = Text(part.text.rstrip(), no_wrap=True)
        if not console.no_color and console.color_system is not None:
            from rich.syntax import Syntax  # it imports a library of highlighters

            text = Syntax("", "postgresql").highlight(part.text.rstrip())
            text.rstrip()
            text.no_wrap = True
        tables.show(console, [Text(), Text(f"-- {part.path.relative_to(scenario.folder)}", style="dim"), text])


def _known(strategy: Strategy) -> Text:
    """What the field knows, in a word: right, unordered (unique, not in the order of commits), broken."""
    if strategy.right:
        return Text("right", style="green")
    unordered = strategy.expect == {"missed"}
    return Text("unordered", style="yellow") if unordered else Text("broken", style="red")
