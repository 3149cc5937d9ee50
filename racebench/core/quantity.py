"""A number with its noun, as text: "1 row", "2,509 rows"."""

from __future__ import annotations


def quantity(number: int, singular: str, plural: str = "") -> str:
    """The number with the form of the noun that goes with it; `plural` where it is not the singular and an s."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"
