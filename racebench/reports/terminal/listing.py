"""What `racebench list` and `racebench show` print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from racebench.core.model import Consumer, Scenario, Script, SqlFile, Strategy


def show_scenarios(console: Console, scenarios: Sequence[Scenario]) -> None:
    """Each scenario with its strategies and consumers, a line each."""
    for scenario in scenarios:
        console.print(Text.assemble((scenario.name, "bold"), f": {scenario.summary}"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column()
        for strategy in scenario.strategies.values():
            table.add_row(f"  {strategy.name}", _known(strategy), strategy.summary)
        for consumer in scenario.consumers.values():
            table.add_row(f"  {consumer.name}", Text("consumer", style="cyan"), consumer.summary)
        console.print(table)


def show_strategy(console: Console, scenario: Scenario, strategy: Strategy) -> None:
    """A strategy's files, highlighted, under what is known of it."""
    console.print(Text.assemble((strategy.name, "bold"), f" ({scenario.name}): {strategy.summary}"))
    console.print(Text.assemble("known: ", _known(strategy), f" ({strategy.source})" if strategy.source else ""))
    if strategy.expect:
        console.print(f"allows: {', '.join(sorted(strategy.expect))}")
    if strategy.isolation:
        console.print(f"isolation: {strategy.isolation}")
    if strategy.retry:
        codes = ", ".join(sorted(strategy.retry.sqlstates))
        console.print(f"retry: on {codes}, at most {strategy.retry.tries} tries")
    _show_files(console, scenario, [*scenario.schema, *strategy.schema, strategy.script])


def show_consumer(console: Console, scenario: Scenario, consumer: Consumer) -> None:
    """A consumer's files, highlighted, under what is known of it."""
    console.print(Text.assemble((consumer.name, "bold"), f" ({scenario.name}, consumer): {consumer.summary}"))
    console.print(f"misses rows: {_MISSES[consumer.misses]}")
    for name, value in consumer.requires.items():
        console.print(f"needs: {name} = {value}")
    _show_files(console, scenario, [*consumer.schema, *consumer.opening, consumer.script, *consumer.closing])


_MISSES = {
    "unordered": "of strategies that do not commit in the order of their numbers",
    "maybe": "of such strategies fewer, but not certainly none",
    "never": "never",
}


def _show_files(console: Console, scenario: Scenario, parts: Sequence[SqlFile | Script]) -> None:
    for part in parts:
        console.print(Text(f"\n-- {part.path.relative_to(scenario.folder)}", style="dim"))
        if console.is_terminal:
            console.print(Syntax(part.text.rstrip(), "postgresql", background_color="default", word_wrap=True))
        else:
            console.print(Text(part.text.rstrip()), soft_wrap=True)


def _known(strategy: Strategy) -> Text:
    """What the field knows, in a word: right, unordered (unique, not in the order of commits), broken."""
    if strategy.right:
        return Text("right", style="green")
    unordered = strategy.expect == {"missed"}
    return Text("unordered", style="yellow") if unordered else Text("broken", style="red")
