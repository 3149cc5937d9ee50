"""Checks a document against a published JSON Schema, and says in a few words where it differs first.

It knows the keywords that racebench's schemas use, and refuses a schema with any other. Every document is checked here
before anything else reads it. A key that the schema does not know is no difference: a later racebench may have written
it; `known_part` leaves it out. Source: JSON Schema, draft 2020-12, "Validation".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from racebench.core.plain_text import shortened, shown

_ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "title", "description"})
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_NAMES = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
#: JSON has no limit for numbers; what is larger is no count, no time and no rate.
_LARGEST = 2**63 - 1
_LONGEST_PATH = 120


def difference(document: Any, schema_file: Path) -> str | None:
    """What is wrong first, as "PATH is VALUE, not a string"; None if the document meets the schema."""
    schema = json.loads(schema_file.read_text(encoding="utf-8"))
    for path, why in _Check(schema).problems(document, schema, ""):
        return f"{shortened(path.removeprefix('.'), _LONGEST_PATH) or 'the document'} {why}"
    return None


def known_part(document: Any, schema_file: Path) -> Any:
    """A document that meets the schema, without the keys that the schema does not know."""
    schema = json.loads(schema_file.read_text(encoding="utf-8"))
    return _known_part(document, schema, schema)


def _known_part(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        return _known_part(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    if isinstance(value, list) and "items" in schema:
        return [_known_part(item, schema["items"], root) for item in value]
    if not isinstance(value, dict):
        return value
    properties, closed = schema.get("properties", {}), schema.get("additionalProperties") is False
    return {
        name: _known_part(part, properties.get(name, {}), root)
        for name, part in value.items()
        if name in properties or not closed
    }


class _Check:
    """A check of one document. `problems` yields (path, what is wrong there)."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._patterns: dict[str, re.Pattern[str]] = {}

    def problems(self, value: Any, schema: Any, path: str) -> Iterator[tuple[str, str]]:
        if "$ref" in schema:
            yield from self.problems(value, self._root["$defs"][schema["$ref"].removeprefix("#/$defs/")], path)
        types = schema.get("type")
        if types is not None and not _is_of(value, [types] if isinstance(types, str) else types):
            known = [types] if isinstance(types, str) else types
            yield path, f"is {shown(value)}, not {' or '.join(_NAMES[kind] for kind in known)}"
            return
        for keyword, rule in schema.items():
            if keyword not in _ANNOTATIONS and keyword not in ("$ref", "type"):
                yield from getattr(self, f"_{keyword}")(value, rule, path, schema)

    def _const(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:
        if value != rule or type(value) is not type(rule):
            yield path, f"is {shown(value)}, not {rule!r}"

    def _enum(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:
        if value not in rule:
            yield path, f"is {shown(value)}, not one of {', '.join(map(str, rule))}"

    def _anyOf(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:  # noqa: N802 - its keyword
        if all(next(self.problems(value, part, path), None) for part in rule):
            yield path, f"is {shown(value)}, which is none of what it may be"

    def _minimum(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:
        if _is_number(value) and value < rule:
            yield path, f"is {shown(value)}, and the least is {rule}"

    def _exclusiveMinimum(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:  # noqa: N802
        if _is_number(value) and value <= rule:
            yield path, f"is {shown(value)}, which is not above {rule}"

    def _maximum(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:
        if _is_number(value) and value > rule:
            yield path, f"is {shown(value)}, and the greatest is {rule}"

    def _pattern(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:
        pattern = self._patterns.setdefault(rule, re.compile(rule))
        if isinstance(value, str) and pattern.search(value) is None:
            yield path, f"is {shown(value)}, which does not match {rule}"

    def _required(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict) and (missing := [name for name in rule if name not in value]):
            yield path, f"has no '{missing[0]}'"

    def _properties(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for name, part in rule.items():
                if name in value:
                    yield from self.problems(value[name], part, f"{path}.{name}")

    def _additionalProperties(  # noqa: N802 - its keyword
        self, value: Any, rule: Any, path: str, schema: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict) and rule is not False:
            for name in value.keys() - schema.get("properties", {}).keys():
                yield from self.problems(value[name], rule, f"{path}.{name}")

    def _propertyNames(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:  # noqa: N802
        if isinstance(value, dict):
            for name in value:
                yield from self.problems(name, rule, f"{path}, a name in it,")

    def _items(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield from self.problems(item, rule, f"{path}[{number}]")

    def _minItems(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:  # noqa: N802
        if isinstance(value, list) and len(value) < rule:
            yield path, f"has {len(value)} items, and the fewest are {rule}"

    def _maxItems(self, value: Any, rule: Any, path: str, _: Any) -> Iterator[tuple[str, str]]:  # noqa: N802
        if isinstance(value, list) and len(value) > rule:
            yield path, f"has {len(value)} items, and the most are {rule}"


def _is_of(value: Any, types: list[str]) -> bool:
    """Whether a value has one of some types. A number is finite and has 64 bits; true is no number."""
    if isinstance(value, bool):
        return "boolean" in types
    if _is_number(value) and not (math.isfinite(value) and (isinstance(value, float) or abs(value) <= _LARGEST)):
        return False
    return any(isinstance(value, _TYPES[name]) for name in types)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
