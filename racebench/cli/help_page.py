"""The help of a command: its options under headings, then examples; of a group, its commands under headings.

click draws each list; this module decides what is in it, and keeps one column for all lists of a page. The options and
the examples themselves belong to the commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import click

_WIDEST = 28  # columns of an option's names, beyond which its text begins on the next line
_NO_BREAK = "\N{NO-BREAK SPACE}"
_WHOLE = 1000  # characters: more than the first sentence of any command


class Section(Enum):
    """The headings under which help lists options, in the order of a page."""

    SUBJECT = "Scenario and strategies"
    OPTIONS = "Options"
    LOAD = "Load"
    SCHEDULES = "Schedules"
    CONSUMERS = "Consumers"
    OWN_CODE = "Your own code"
    APPLICATIONS = "Programs and services"
    COMPARISON = "Comparison"
    SERVER = "Server"
    MACHINES = "Machines"
    OUTPUT = "Output"
    CI = "CI"
    OTHER = "Other"


class Example(NamedTuple):
    """A command line to copy, and what it is for."""

    purpose: str
    line: str


def write_options(context: click.Context, formatter: click.HelpFormatter, sections: Mapping[str, Section]) -> None:
    """Write a command's options, each under the heading of its section. `sections`: of options by name."""
    lists: dict[Section, list[tuple[str, str]]] = {}
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            lists.setdefault(sections.get(str(parameter.name), Section.OTHER), []).append(record)
    if len(lists) == 1 or set(lists) == {Section.OPTIONS, Section.OTHER}:
        lists = {Section.OPTIONS: [record for section in Section for record in lists.get(section, ())]}
    names = [name for records in lists.values() for name, _ in records]
    width = min(max(map(len, names)), _WIDEST)
    for section in Section:
        if records := lists.get(section):
            with formatter.section(section.value):
                formatter.write_dl([(name.ljust(width), _unbroken(text)) for name, text in records], col_max=_WIDEST)


def _unbroken(text: str) -> str:
    """A text in which a line never ends after "[default:"; `whole` writes the spaces again."""
    return text.replace("[default: ", f"[default:{_NO_BREAK}")


def whole(page: str) -> str:
    """A page that click has drawn, as text to print."""
    return page.replace(_NO_BREAK, " ")


def write_examples(formatter: click.HelpFormatter, examples: Sequence[Example]) -> None:
    """Write command lines, each below what it is for. A command line is never wrapped: it is there to be copied."""
    if not examples:
        return
    with formatter.section("Examples"):
        for number, example in enumerate(examples):
            formatter.write("\n" if number else "")
            formatter.write(f"{'':>{formatter.current_indent}}# {example.purpose}\n")
            formatter.write(f"{'':>{formatter.current_indent}}{example.line}\n")


def write_commands(
    context: click.Context, formatter: click.HelpFormatter, sections: Mapping[str, Sequence[str]]
) -> None:
    """Write a group's commands, each with its whole first sentence. `sections`: names of commands by heading."""
    group = context.command
    assert isinstance(group, click.Group)
    width = max(map(len, group.commands))
    for heading, names in (sections or {"Commands": group.list_commands(context)}).items():
        with formatter.section(heading):
            formatter.write_dl(
                [(name.ljust(width), group.commands[name].get_short_help_str(limit=_WHOLE)) for name in names]
            )
