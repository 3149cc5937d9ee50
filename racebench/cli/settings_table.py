"""What `racebench config` prints: each option with its value and where the value is from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from racebench.cli.settings import EffectiveOption, Settings


def show(console: Console, settings: Settings, options: Sequence[EffectiveOption]) -> None:
    """Print the file, then the options by command; a default is dim."""
    none = "none: no racebench.toml and no [tool.racebench] in a pyproject.toml, from here upwards"
    console.print(Text(f"settings file: {settings.file or none}"), soft_wrap=True)
    for warning in settings.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    option_width = max(len(option.option) for option in options)
    value_width = min(max(len(option.value) for option in options), 32)
    for command in dict.fromkeys(option.command for option in options):
        console.print(Text(f"\n{command}", style="bold"))
        for option in options:
            if option.command == command:
                line = f"  {option.option:<{option_width}}  {option.value or '–':<{value_width}}  {option.source}"
                console.print(Text(line, style="" if option.is_set else "dim"), soft_wrap=True)
