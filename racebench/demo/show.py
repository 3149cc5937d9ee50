"""The demo on a terminal: frames forward (live) and back (from memory), by keys or by itself."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Generator, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from racebench.core.target import Target
from racebench.demo import play, screen
from racebench.demo.frames import Frame
from racebench.demo.keys import Key, Terminal
from racebench.demo.screen import Marks, Place
from racebench.demo.telling import Programme


class Reel:
    """What has been shown, and what comes next: frames in memory, and the part that is being played."""

    def __init__(self, target: Target, programme: Programme) -> None:
        self._target, self._programme = target, programme
        self.frames: list[Frame] = []
        self.at = -1
        self._live: Generator[Frame, None, None] | None = None
        self.forward()

    @property
    def frame(self) -> Frame:
        return self.frames[self.at]

    @property
    def finished(self) -> bool:
        """Whether the frame that is shown is the last there is."""
        return self.at + 1 == len(self.frames) and self.frame.ended and self._act + 1 == len(self._programme.parts)

    @property
    def seen(self) -> bool:
        """Whether the frame that is shown has been left behind by what runs."""
        return self.at + 1 < len(self.frames)

    @property
    def _act(self) -> int:
        return self.frames[-1].act if self.frames else -1

    def forward(self) -> None:
        """The next frame: from memory as long as there are any, then by running a step."""
        if self.frames and self.finished:
            return
        if not self.seen:
            self.frames.append(self._next())
        self.at += 1

    def back(self) -> None:
        self.at = max(0, self.at - 1)

    def restart(self) -> None:
        """The act that is shown, from its start and on fresh ground."""
        act = self.frame.act
        self.close()
        self.frames = [frame for frame in self.frames if frame.act < act]
        self.at = len(self.frames) - 1
        self.forward()

    def close(self) -> None:
        if self._live is not None:
            self._live.close()
            self._live = None

    def _next(self) -> Frame:
        if self._live is not None:
            for frame in self._live:
                return frame
        act = self._act + 1
        self._live = play.play(self._target, self._programme.parts[act], act)
        return next(self._live)


def show(
    terminal: Terminal, reel: Reel, programme: Programme, steps: Sequence[int], pace: float | None, marks: Marks,
    *, notes: bool, colour: bool,
) -> None:  # fmt: skip
    """Draw, wait for a key, go on, until q. `steps` has each act; with a pace it goes on by itself until the end."""
    drawing = _Drawing(terminal, colour=colour)
    auto, waiting = pace is not None, pace or 2.0
    due = time.monotonic() + waiting
    while True:
        frame = reel.frame
        place = Place(
            title=programme.title,
            acts=len(programme.parts),
            steps=steps[frame.act],
            footer=_footer(reel, marks, auto=auto, notes=notes),
            notes=notes,
        )
        width, height = terminal.size
        drawing.show(screen.draw(frame, place, width, height, marks=marks))
        going = auto and not reel.finished
        key = terminal.key(max(0.0, due - time.monotonic()) if going else None)
        if key is Key.QUIT:
            return
        if key is Key.HELP:
            drawing.show(screen.help_page(width, height))
            while terminal.key(None) is Key.RESIZED:
                drawing.show(screen.help_page(*terminal.size))
        elif key is Key.NOTES:
            notes = not notes
        elif key is Key.AUTOPLAY:
            auto = not auto
        elif key is Key.BACK:
            auto = False
            reel.back()
        elif key is Key.RESTART:
            reel.restart()
        elif key in (Key.FORWARD, Key.NOTHING):
            reel.forward()
        if key is not Key.RESIZED:
            due = time.monotonic() + waiting


def _footer(reel: Reel, marks: Marks, *, auto: bool, notes: bool) -> str:
    noted = "n no notes" if notes else "n notes"
    parts = ["space next", "b back", "r again", "a by itself", noted, "? help", "q quit"]
    if reel.finished:
        parts = ["THE END", "b back", "r again", "", noted, "q quit"]
    elif auto:
        parts[3] = "a stop"
    if reel.seen:
        parts[3] = "from memory"
    elif reel.frame.ended and not reel.finished:
        parts[0] = "space: next act"
    return marks.dot.join(filter(None, parts))


class _Drawing:
    """Lines on the screen, each from the left edge, so that nothing scrolls."""

    def __init__(self, terminal: Terminal, *, colour: bool) -> None:
        self._terminal = terminal
        self._console = Console(
            file=io.StringIO(), force_terminal=True, color_system="standard", no_color=not colour, width=10_000
        )
        self._size: tuple[int, int] | None = None

    def show(self, lines: Sequence[Text]) -> None:
        size = (len(lines), lines[0].cell_len if lines else 0)
        clear = "\x1b[2J" if size != self._size else ""  # what another size has left at the edges
        self._size = size
        self._terminal.write(f"{clear}\x1b[H" + "\r\n".join(ansi(self._console, line) for line in lines))


def ansi(console: Console, line: Text) -> str:
    """A line with its styles as a terminal takes them."""
    with console.capture() as capture:
        console.print(line, end="", soft_wrap=True, highlight=False)
    return capture.get()


@contextlib.contextmanager
def reel(target: Target, programme: Programme) -> Iterator[Reel]:
    """A reel whose ground is gone at the end."""
    with contextlib.closing(Reel(target, programme)) as made:
        yield made
