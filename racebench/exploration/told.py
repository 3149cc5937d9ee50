"""What the server answered to a statement of a session, whole: what is shown of it is short."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer: the rows as texts, None for NULL, and the command tag. `statement` is the text without its values."""

    statement: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    tag: str
