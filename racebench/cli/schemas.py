"""The JSON Schemas of the files that racebench reads and writes. That of the settings file is made of the options.

An editor completes and checks a file whose first line names its schema (docs/settings.md, docs/scenarios.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from racebench.cli import settings
from racebench.cli.base_command import Option
from racebench.cli.values import Limit, Number, Percent
from racebench.core import documentation

_PACKAGE = Path(__file__).parents[1]
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: Where the documentation's site has the schemas, below its address.
_FOLDER = "schemas"
#: A percentage as text: 20%.
_PERCENT = r"^\s*[0-9._eE+-]+\s*%?\s*$"
#: The file of the one that is made of the options.
SETTINGS = "settings.schema.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A schema. `file`: below the package; "" for one that is made of the options. `of`: the files that it is for."""

    file: str
    of: str

    @property
    def published(self) -> str:
        """The name of its file on the documentation's site."""
        return Path(self.file).name if self.file else SETTINGS


SCHEMAS: Mapping[str, Published] = {
    "scenario": Published(file="workloads/scenario.schema.json", of="scenario.toml"),
    "settings": Published(file="", of="racebench.toml"),
    "results": Published(file="reports/results/run.schema.json", of="documents of run, compare and matrix"),
    "explorations": Published(file="reports/results/explorations.schema.json", of="documents of explore"),
    "history": Published(file="history/meta.schema.json", of="the meta of a history"),
}


def text(name: str, root: click.Command) -> str:
    """A schema as JSON. Its `$id` is its address on the documentation's site, if that has one."""
    file = SCHEMAS[name].file
    schema = json.loads((_PACKAGE / file).read_text(encoding="utf-8")) if file else of_settings(root)
    if address := address_of(name):
        schema["$id"] = address
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def address_of(name: str) -> str:
    """Where the schema is on the documentation's site; "" if there is none."""
    site = documentation.address()
    return f"{site}/{_FOLDER}/{SCHEMAS[name].published}" if site else ""


def of_settings(root: click.Command) -> dict[str, Any]:
    """The schema of a settings file: every option of every command, for all commands and for one."""
    definitions: dict[str, Any] = {}
    commands: dict[str, Any] = {}
    general: dict[str, list[str]] = {}
    for name, command in settings.leaves(root):
        keys: dict[str, Any] = {}
        for parameter in settings.settable(command):
            defined = _define(definitions, parameter)
            for key in (settings.key(parameter), *_old(parameter)):
                current = key == settings.key(parameter)
                keys[key] = _reference(defined) if current else {**_reference(defined), "deprecated": True}
                if current or key not in general:
                    general.setdefault(key, [])
                    if defined not in general[key]:
                        general[key].append(defined)
        _place(commands, name.split(), {"type": "object", "additionalProperties": False, "properties": keys})
    return {
        "$schema": _DRAFT,
        "$id": "urn:racebench:settings",
        "title": "racebench.toml",
        "description": "Settings of racebench: the values of options, for every command that has them or for one. "
        "[tool.racebench] of a pyproject.toml has the same keys.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            key: _either([*map(_reference, general.get(key, ())), *([commands[key]] if key in commands else [])])
            for key in sorted({*general, *commands})
        },
        "$defs": dict(sorted(definitions.items())),
    }


def _old(parameter: click.Parameter) -> list[str]:
    """The keys that an option had in earlier versions."""
    return [name.removeprefix("--") for name in getattr(parameter, "old", ()) if name.startswith("--")]


def _place(commands: dict[str, Any], words: list[str], table: dict[str, Any]) -> None:
    """Put the table of a command at its place: that of `server reset` is inside the table of `server`."""
    for word in words[:-1]:
        group = commands.setdefault(word, {"type": "object", "additionalProperties": False, "properties": {}})
        commands = group["properties"]
    commands[words[-1]] = table


def _either(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _define(definitions: dict[str, Any], parameter: click.Parameter) -> str:
    """The name of an option's definition; options of one key that differ have numbers after it."""
    schema, key, number = _of_option(parameter), settings.key(parameter), 1
    name = key
    while definitions.setdefault(name, schema) != schema:
        number += 1
        name = f"{key}-{number}"
    return name


def _of_option(parameter: click.Parameter) -> dict[str, Any]:
    value = _of_value(parameter)
    if isinstance(parameter, click.Option) and parameter.multiple:
        value = {"anyOf": [value, {"type": "array", "items": value}]}
    help_text = " ".join((getattr(parameter, "help", None) or "").split()).partition("  [default")[0]
    if isinstance(parameter, click.Argument):
        help_text = "The name of a shipped scenario, a folder, or a file of SQL; a path begins with ./ or has a slash."
    return {**({"description": help_text} if help_text else {}), **value}


def _of_value(parameter: click.Parameter) -> dict[str, Any]:
    """The schema of one value, as racebench.cli.settings takes it from a file."""
    kind = parameter.type
    if isinstance(parameter, Option) and parameter.is_flag:
        return {"type": "boolean"}
    if isinstance(kind, click.Choice):
        numbers = [int(choice) for choice in kind.choices if str(choice).isdecimal()]
        renamed = [*getattr(kind, "renamed", ())]
        return {"enum": [*map(str, kind.choices), *renamed, *numbers]}
    if isinstance(kind, Limit):
        return {"anyOf": [{"type": "number", **_range(kind)}, {"type": "string"}]}
    if isinstance(kind, Percent):
        return {"anyOf": [{"type": "number", **_range(kind)}, {"type": "string", "pattern": _PERCENT}]}
    if isinstance(kind, Number):
        return {"type": "integer" if kind.whole else "number", **_range(kind)}
    return {"type": "string", "pattern": "^[^\\u0000]*$"}


def _range(kind: Number) -> dict[str, float]:
    return {"exclusiveMinimum" if kind.above else "minimum": kind.low, "maximum": kind.high}
