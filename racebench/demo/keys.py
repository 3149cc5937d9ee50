"""The terminal's keys, and the terminal itself: as it was when the demo is over, however it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from enum import StrEnum
from types import FrameType
from typing import Any

from racebench.core.errors import Interrupted
from racebench.core.signals import shielded

#: Alternate screen on, cursor hidden; and back.
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[0m\x1b[?1049l"
#: The rest of an arrow key's sequence comes within so many seconds of its Escape.
_ESCAPE_S = 0.05


class Key(StrEnum):
    """What a key asks for; RESIZED and NOTHING are no keys: another size, and time that is up."""

    FORWARD = "forward"
    BACK = "back"
    RESTART = "restart"
    AUTOPLAY = "autoplay"
    NOTES = "notes"
    HELP = "help"
    QUIT = "quit"
    OTHER = "other"
    RESIZED = "resized"
    NOTHING = "nothing"


_KEYS = {
    **dict.fromkeys((" ", "\r", "\n", "j", "l", "\x1b[C", "\x1bOC", "\x1b[B", "\x1bOB", "\x1b[6~"), Key.FORWARD),
    **dict.fromkeys(("b", "k", "\x7f", "\b", "\x1b[D", "\x1bOD", "\x1b[A", "\x1bOA", "\x1b[5~"), Key.BACK),
    **dict.fromkeys(("q", "Q", "\x04"), Key.QUIT),
    **dict.fromkeys(("?", "h"), Key.HELP),
    "r": Key.RESTART,
    "a": Key.AUTOPLAY,
    "n": Key.NOTES,
}


def parse(text: str) -> list[Key]:
    """The keys in what a terminal sent; a key that means nothing is OTHER."""
    found = []
    while text:
        length = _length(text)
        found.append(_KEYS.get(text[:length], Key.OTHER))
        text = text[length:]
    return found


def _length(text: str) -> int:
    """Of the first key: a character, or Escape with [ or O, parameters and a letter or ~."""
    if not text.startswith(("\x1b[", "\x1bO")):
        return 1
    for at in range(2, len(text)):
        if "@" <= text[at] <= "~":
            return at + 1
    return len(text)


class Terminal:
    """A terminal whose keys come one by one, and whose screen is ours. Made by `taken`."""

    def __init__(self, keyboard: int, screen: int) -> None:
        self._keyboard, self._screen = keyboard, screen
        self._before = termios.tcgetattr(keyboard)
        self._pending: list[Key] = []
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def enter(self) -> None:
        tty.setcbreak(self._keyboard)
        self.write(_ENTER)

    def leave(self) -> None:
        """Put everything back; quietly if the terminal is gone. Keys not read yet are forgotten."""
        with contextlib.suppress(OSError):
            self.write(_LEAVE)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, self._before)

    def close(self) -> None:
        os.close(self._woken)
        os.close(self._wake)

    def write(self, text: str) -> None:
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(self._screen, data) :]

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        return os.get_terminal_size(self._screen)

    def key(self, seconds: float | None) -> Key:
        """The next key; NOTHING after so many seconds without one. Raises Interrupted if the terminal is gone."""
        if not self._pending:
            readable, _, _ = select.select([self._keyboard, self._woken], (), (), seconds)
            if self._woken in readable:
                os.read(self._woken, 1024)
                return Key.RESIZED
            if not readable:
                return Key.NOTHING
            self._pending = parse(self._read())
        return self._pending.pop(0) if self._pending else Key.NOTHING

    def _read(self) -> str:
        text = self._some()
        while text.endswith(("\x1b", "\x1b[", "\x1bO")) and select.select([self._keyboard], (), (), _ESCAPE_S)[0]:
            text += self._some()
        return text

    def _some(self) -> str:
        try:
            data = os.read(self._keyboard, 1024)
        except OSError:
            data = b""
        if not data:
            raise Interrupted
        return data.decode(errors="replace")

    def resized(self, *_: Any) -> None:
        """Another size, or back from being stopped: whoever waits for a key is to draw again."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"!")

    def stopped(self, _number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal as it was, and we take it again afterwards."""
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()
        self.resized()


@contextlib.contextmanager
def taken(keyboard: int, screen: int) -> Iterator[Terminal]:
    """Take the terminal for the length of a block; what it was before comes back, whatever happens in it."""
    terminal = Terminal(keyboard, screen)
    handlers = {signal.SIGWINCH: terminal.resized, signal.SIGTSTP: terminal.stopped}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with shielded():
            terminal.enter()
        yield terminal
    finally:
        with shielded():
            terminal.leave()
            for number, handler in before.items():
                signal.signal(number, handler)
            terminal.close()
