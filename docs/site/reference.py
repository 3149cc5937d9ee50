"""Reference pages made from the code: every command with its options, and the JSON schemas.

The texts are those of `racebench COMMAND --help`. Nothing here is written by hand, so nothing can be out of date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click

from racebench.cli.base_command import Option
from racebench.cli.help_page import Section
from racebench.cli.main import cli
from racebench.cli.schemas import SETTINGS

# What Markdown would read as markup, outside code.
_CODE = re.compile(r"(`[^`]*`)")
_MARKUP = re.compile(r"([\\*_<>\[\]#|$~])")


def commands_page() -> str:
    """Every command: what it does, how it is called, its options under the headings of its help, examples."""
    parts = [
        "# Commands and options",
        "Every command with its options, as `racebench COMMAND --help` prints them. The value of an option can also be"
        " given in a settings file or in the environment: its key is its long name ([settings](../settings.md)). Every"
        " flag has an opposite: `--save` for `--no-save`.",
    ]
    for names, command in _commands(cli, ()):
        context = click.Context(command, info_name=" ".join(("racebench", *names)))
        parts.append(f"## {' '.join(names)}")
        parts.append(paragraphs(command.help or ""))
        parts.append(f"```text\n{' '.join(command.get_usage(context).removeprefix('Usage: ').split())}\n```")
        parts += _options(command, context)
        if examples := getattr(command, "examples", ()):
            lines = "\n\n".join(f"# {example.purpose}\n{example.line}" for example in examples)
            parts.append(f"### Examples of {' '.join(names)}\n\n```bash\n{lines}\n```")
    return "\n\n".join(parts) + "\n"


def _commands(group: click.Group, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in list(group.commands):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from _commands(command, (*above, name))
        elif not command.hidden:
            yield (*above, name), command


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    rows: dict[Section, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            section = parameter.section if isinstance(parameter, Option) else Section.OTHER
            rows.setdefault(section, []).append(record)
    for section in Section:
        if section in rows:
            yield f"### {section.value} ({' '.join(context.command_path.split()[1:])})"
            yield _table(("option", "meaning"), ((f"`{names}`", _plain(text)) for names, text in rows[section]))


@cache
def schemas(root: Path) -> tuple[Path, ...]:
    """The JSON schemas of the package, by their names."""
    return tuple(sorted((root / "racebench").rglob("*.schema.json"), key=lambda path: path.name))


def schemas_page(root: Path) -> str:
    """Every JSON schema: the file, and the names at the top of such a document."""
    parts = [
        "# JSON schemas",
        "racebench checks the documents that it reads with these schemas. Each is a file of the package and of"
        " the site.",
    ]
    for path in schemas(root):
        schema = json.loads(path.read_text())
        parts.append(f"## {path.name}")
        parts.append(f"[{path.name}](../schemas/{path.name}): {_plain(schema.get('title', ''))}.")
        if description := schema.get("description", ""):
            parts.append(_plain(description))
        required = schema.get("required", ())
        head = ("name", "type", "required", "meaning")
        rows = [
            (f"`{name}`", _type(value), "yes" if name in required else "", _plain(_description(value)))
            for name, value in schema.get("properties", {}).items()
        ]
        columns = len(head) if any(row[-1] for row in rows) else len(head) - 1
        parts.append(_table(head[:columns], (row[:columns] for row in rows)))
    parts.append(f"## {SETTINGS}")
    parts.append(
        f"[{SETTINGS}](../schemas/{SETTINGS}): racebench.toml, made of the [options](commands.md) of all commands"
        " ([settings](../settings.md))."
    )
    return "\n\n".join(parts) + "\n"


def _type(schema: Any) -> str:
    """The type of a property, in words: `string`, `array of object`, `a fixed value`."""
    if not isinstance(schema, dict):
        return "anything"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2].replace("_", " ")
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    names = schema.get("type", "anything")
    names = [names] if isinstance(names, str) else names
    items = f" of {_type(schema['items'])}" if "items" in schema else ""
    return " or ".join(f"{name}{items if name == 'array' else ''}" for name in names)


def _description(schema: Any) -> str:
    return str(schema.get("description", "")) if isinstance(schema, dict) else ""


def paragraphs(text: str) -> str:
    """A docstring as Markdown paragraphs. click's mark that a paragraph is not to be wrapped makes it a block."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\f", "").strip()):
        lines = paragraph.strip("\n").splitlines()
        if lines[0].strip() == "\b":
            parts.append("```text\n" + "\n".join(line.rstrip() for line in lines[1:]) + "\n```")
        else:
            parts.append(_plain(" ".join(line.strip() for line in lines)))
    return "\n\n".join(parts)


def _plain(text: str) -> str:
    """Text as Markdown: what is in backticks stays code, everything else is shown as it is. Pages named are links."""
    pieces = _CODE.split(" ".join(text.split()))
    escaped = "".join(piece if piece.startswith("`") else _MARKUP.sub(r"\\\1", piece) for piece in pieces)
    return re.sub(r"docs/([\w/-]+)\.md", r"[\1](../\1.md)", escaped)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    # A bar inside code ends a cell of a table too, unless it is escaped.
    return re.sub(r"(?<!\\)\|", r"\\|", text)
