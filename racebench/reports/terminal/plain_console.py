"""The console of every report: what it prints is plain text, with unsafe characters escaped, and never markup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from racebench.core.plain_text import printable

#: The width of a console that has none: a pipe's or a file's. Nothing wraps in it.
UNLIMITED = 10_000


class PlainConsole(Console):
    """A console on which [bold], :smile: or an escape sequence in a name or a server's message is only its characters.

    Every text passes through here: strings when they are measured for a table, other texts when they are rendered.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "highlight": False, "markup": False, "emoji": False})

    def on_broken_pipe(self) -> None:
        """Let the command decide what a reader that has gone away means; rich would exit with 1."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        return super().render(without_controls(renderable) if isinstance(renderable, Text) else renderable, options)


def without_controls(text: Text) -> Text:
    """The text with its style; its parts keep theirs only if nothing has to be escaped."""
    plain = printable(text.plain)
    return text if plain == text.plain else text.blank_copy(plain)
