"""What `racebench config` prints: each option with what holds for it, and from where."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from racebench.cli.settings import Held, Settings


def show(console: Console, settings: Settings, held: Sequence[Held]) -> None:
    """Print the file, then the options by command; a default is dim."""
    none = "none: no racebench.toml and no [tool.racebench] in a pyproject.toml, from here upwards"
    console.print(Text(f"settings file: {settings.file or none}"), soft_wrap=True)
    for variable in settings.unknown_variables:
        console.print(Text(f"warning: {variable}", style="yellow"), soft_wrap=True)
    option = max(len(each.option) for each in held)
    value = min(max(len(each.value) for each in held), 32)
    for command in dict.fromkeys(each.command for each in held):
        console.print(Text(f"\n{command}", style="bold"))
        for each in held:
            if each.command == command:
                line = f"  {each.option:<{option}}  {each.value or '–':<{value}}  {each.source}"
                console.print(Text(line, style="" if each.is_set else "dim"), soft_wrap=True)
