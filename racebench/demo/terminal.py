"""The terminal: its keys, and its state, which is restored when the demo ends, however it ends."""

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
#: Time limit for the rest of an arrow key's sequence after its Escape, in seconds.
_ESCAPE_S = 0.05


class Key(StrEnum):
    """What a key does. RESIZED (the terminal has another size) and NOTHING (a time-out) are not keys."""

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
    """Parse what a terminal sent into keys; a key without a meaning is OTHER."""
    keys = []
    while text:
        length = _length(text)
        keys.append(_KEYS.get(text[:length], Key.OTHER))
        text = text[length:]
    return keys


def _length(text: str) -> int:
    """Length of the first key: one character, or Escape with [ or O, parameters and a letter or ~."""
    if not text.startswith(("\x1b[", "\x1bO")):
        return 1
    for index in range(2, len(text)):
        if "@" <= text[index] <= "~":
            return index + 1
    return len(text)


class Terminal:
    """A terminal in cbreak mode with the alternate screen. Made by `full_screen`."""

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
        """Restore the terminal; ignore a terminal that is gone. Keys that were not read are discarded."""
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
        """The next key; NOTHING if none came within `seconds`. Raises Interrupted if the terminal is gone."""
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
        text = self._read_bytes()
        while text.endswith(("\x1b", "\x1b[", "\x1bO")) and select.select([self._keyboard], (), (), _ESCAPE_S)[0]:
            text += self._read_bytes()
        return text

    def _read_bytes(self) -> str:
        try:
            data = os.read(self._keyboard, 1024)
        except OSError:
            data = b""
        if not data:
            raise Interrupted
        return data.decode(errors="replace")

    def resized(self, *_: Any) -> None:
        """Signal handler: the size has changed, or the process was continued. `key` returns RESIZED."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"!")

    def stopped(self, _number: int, _frame: FrameType | None) -> None:
        """Signal handler for Ctrl-Z: restore the terminal for the shell, stop, and enter it again when continued."""
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()
        self.resized()


@contextlib.contextmanager
def full_screen(keyboard: int, screen: int) -> Iterator[Terminal]:
    """Enter the terminal for a block, and restore it afterwards, also if the block raises."""
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
