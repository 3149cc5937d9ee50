"""Checks a document against a published JSON Schema, and says in a few words where it differs first.

Every document is checked here before anything else reads it. A key that the schema does not know is no difference: a
later racebench may have written it; `known_part` leaves it out. The library that checks is imported when it is needed,
because that takes a tenth of a second.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racebench.core.plain_text import shortened, shown

if TYPE_CHECKING:
    from jsonschema import TypeChecker, ValidationError
    from jsonschema.protocols import Validator

_NAMES = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
#: What a value lacks, by the keyword of the schema that it breaks; the keyword's value follows.
_LIMITS = {
    "const": "not",
    "minimum": "and the least is",
    "exclusiveMinimum": "which is not above",
    "maximum": "and the greatest is",
    "pattern": "which does not match",
}
#: JSON has no limit for numbers; what is larger is no count, no time and no rate.
_LARGEST = 2**63 - 1
_LONGEST_PATH = 120


def difference(document: Any, schema_file: Path) -> str | None:
    """What is wrong first, as "PATH is VALUE, not a string"; None if the document meets the schema."""
    error = next(iter(_validator(_schema(schema_file)).iter_errors(document)), None)
    if error is None:
        return None
    return f"{shortened(_path(error), _LONGEST_PATH) or 'the document'} {_why(error)}"


def known_part(document: Any, schema_file: Path) -> Any:
    """A document that meets the schema, without the keys that the schema does not know."""
    schema = _schema(schema_file)
    return _known_part(document, schema, schema)


def _schema(schema_file: Path) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = json.loads(schema_file.read_text(encoding="utf-8"))
    return schema


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


def _validator(schema: Mapping[str, Any]) -> Validator:
    """A validator for which keys that are not known are no difference, and numbers are finite and have 64 bits."""
    import jsonschema

    def additional(validator: Any, rule: Any, value: Any, part: Mapping[str, Any]) -> Any:
        return () if rule is False else inherited["additionalProperties"](validator, rule, value, part)

    base = jsonschema.Draft202012Validator
    inherited = base.VALIDATORS
    checker = base.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number})
    made = jsonschema.validators.extend(base, {"additionalProperties": additional}, type_checker=checker)
    validator: Validator = made(schema)
    return validator


def _is_integer(_: TypeChecker, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_number(_: TypeChecker, value: Any) -> bool:
    return _is_integer(_, value) or (isinstance(value, float) and math.isfinite(value))


def _path(error: ValidationError) -> str:
    """Where the document differs, as `runs[0].counts.missed`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return "".join(parts).removeprefix(".")


def _why(error: ValidationError) -> str:
    """What is wrong there, in words."""
    value, keyword, rule = error.instance, str(error.validator), error.validator_value
    if keyword == "type":
        kinds = [rule] if isinstance(rule, str) else rule
        return f"is {shown(value)}, not {' or '.join(_NAMES[kind] for kind in kinds)}"
    if keyword == "required":
        return f"has no '{next(name for name in rule if name not in value)}'"
    if keyword == "enum":
        return f"is {shown(value)}, not one of {', '.join(map(str, rule))}"
    if keyword in ("minItems", "maxItems"):
        return f"has {len(value)} items, and the {'fewest' if keyword == 'minItems' else 'most'} are {rule}"
    if keyword in _LIMITS:
        return f"is {shown(value)}, {_LIMITS[keyword]} {rule}"
    return f"is {shown(value)}, which is none of what it may be"
