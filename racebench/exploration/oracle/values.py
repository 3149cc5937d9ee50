"""What a call returned, taken apart: the texts in it, each with its path. Runs no code of the value's own but `str`."""

from __future__ import annotations

import datetime
import decimal
import enum
import numbers
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

#: The most texts of one value, and how deep they may lie; the rest does not count.
_MOST, _DEEPEST = 1_000, 6
_PLAIN = (str, numbers.Number, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta, uuid.UUID)
#: A text of a value, with the keys that lead to it.
Leaf = tuple[str, str]


def leaves(value: Any) -> tuple[Leaf, ...]:
    """The texts in a value; its type alone, where it is of a kind that cannot be taken apart."""
    found: list[Leaf] = []
    for leaf in _leaves(value, "", _DEEPEST, frozenset()):
        found.append(leaf)
        if len(found) == _MOST:
            break
    return tuple(found)


def _leaves(value: Any, path: str, depth: int, around: frozenset[int]) -> Iterator[Leaf]:
    if value is None or isinstance(value, bool):
        yield path, str(value)
    elif isinstance(value, enum.Enum):
        yield path, value.name
    elif isinstance(value, bytes | bytearray | memoryview):
        yield path, bytes(value).hex()
    elif isinstance(value, _PLAIN):
        yield path, str(value)
    elif depth == 0 or id(value) in around:
        yield path, type(value).__name__
    else:
        parts = list(_parts(value))
        yield path, f"{type(value).__name__} of {len(parts)}"
        for name, part in parts:
            yield from _leaves(part, f"{path}{name}", depth - 1, around | {id(value)})


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a container, or the attributes that an object has in its own dictionary, with what names them."""
    if isinstance(value, Mapping):
        yield from ((f"{{{key!s}}}", part) for key, part in value.items())  # unlike the number of a place in a list
    elif isinstance(value, Sequence):
        fields = getattr(value, "_fields", None)
        if isinstance(fields, tuple) and len(fields) == len(value):
            yield from ((f".{name}", part) for name, part in zip(fields, value, strict=True))
        else:
            yield from ((f"[{place}]", part) for place, part in enumerate(value))
    elif isinstance(value, Set):
        yield from (("{}", part) for part in sorted(value, key=str))
    elif hasattr(value, "__slots__") and not hasattr(value, "__dict__"):
        names = [name for name in type(value).__slots__ if not name.startswith("_") and hasattr(value, name)]
        yield from ((f".{name}", getattr(value, name)) for name in names)
    else:
        # Not by getattr: an attribute of an object-relational mapper may send a statement.
        own = getattr(value, "__dict__", {})
        yield from ((f".{name}", part) for name, part in own.items() if not str(name).startswith("_"))
