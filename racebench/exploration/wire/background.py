"""What an application sends by itself, for no operation, such as a poller's statements: it passes, and is no step."""

from __future__ import annotations

from collections.abc import Sequence

from racebench.core.plain_text import shortened
from racebench.exploration.wire.stream import Piece
from racebench.postgres.compiler.transactions import begins, ends


class Background:
    """The statements that were sent while no operation was under way, by their texts."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        #: Those that were sent only while the application started.
        self._starting: set[str] = set()
        #: Those that a session would have waited with, and that were sent after the start, in short.
        self._named: dict[str, None] = {}

    def __contains__(self, piece: Piece) -> bool:
        return piece.text in self._texts

    @property
    def notes(self) -> Sequence[str]:
        """What was sent after the start, as sentences."""
        return [f"the application sends '{text}' by itself: it passed, and is no step" for text in self._named]

    def has_started(self) -> None:
        """Note that the application has started: what it sent so far, it perhaps sends no more."""
        self._starting = set(self._texts)
        self._named.clear()

    def add(self, piece: Piece, *, waits: bool) -> None:
        """Note that the application has sent a piece by itself. `waits`: a session would have waited with it.

        The same statement may come in two pieces, of which only one waits: its Parse, and its Execute.
        """
        self._texts.add(piece.text)
        self._starting.discard(piece.text)
        if waits:
            self._named[short(piece)] = None

    def give_up(self, piece: Piece) -> bool:
        """Forget a statement that an operation needs, if it was sent only while the application started."""
        if piece.text not in self._starting:
            return False
        self._texts.discard(piece.text)
        return True


def is_frame(piece: Piece) -> bool:
    """Whether a piece begins or ends a transaction, and says nothing about whose it is."""
    parts = piece.parts
    return len(parts) == 1 and (begins(parts[0]) or ends(parts[0]))


def short(piece: Piece) -> str:
    """The text of a piece for a message, in one line."""
    return shortened(" ".join(piece.text.split()))
