"""Show the demo on a terminal: the next frame runs a step on the server, earlier frames come from memory."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Generator, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from racebench.core.target import Target
from racebench.demo import player, screen
from racebench.demo.frames import Frame
from racebench.demo.presentation import Presentation
from racebench.demo.screen import Marks, Place
from racebench.demo.terminal import Key, Terminal
from racebench.reports.terminal.plain_console import PlainConsole


class Playback:
    """The frames that were shown, and the part that is being played."""

    def __init__(self, target: Target, presentation: Presentation) -> None:
        self._target, self._presentation = target, presentation
        self.frames: list[Frame] = []
        self.at = -1
        self._live: Generator[Frame, None, None] | None = None
        self.forward()

    @property
    def frame(self) -> Frame:
        return self.frames[self.at]

    @property
    def finished(self) -> bool:
        """Whether the frame that is shown is the last one."""
        return self.at + 1 == len(self.frames) and self.frame.ended and self._part + 1 == len(self._presentation.parts)

    @property
    def replaying(self) -> bool:
        """Whether the frame that is shown is older than the last step."""
        return self.at + 1 < len(self.frames)

    @property
    def _part(self) -> int:
        return self.frames[-1].part if self.frames else -1

    def forward(self) -> None:
        """Go to the next frame: from memory if it was shown before, else by running a step."""
        if self.frames and self.finished:
            return
        if not self.replaying:
            self.frames.append(self._next())
        self.at += 1

    def back(self) -> None:
        self.at = max(0, self.at - 1)

    def restart(self) -> None:
        """Go to the start of the part that is shown, and run it again in a new schema."""
        part = self.frame.part
        self.close()
        self.frames = [frame for frame in self.frames if frame.part < part]
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
        part = self._part + 1
        self._live = player.play(self._target, self._presentation.parts[part], part)
        return next(self._live)


def view(
    terminal: Terminal,
    playback: Playback,
    presentation: Presentation,
    steps: Sequence[int],
    pace: float | None,
    marks: Marks,
    *,
    notes: bool,
    color: bool,
) -> None:
    """Draw a frame, wait for a key, and go on, until q.

    `steps`: the number of steps of each part. `pace`: seconds for each frame if the demo plays automatically.
    """
    drawing = _Drawing(terminal, color=color)
    auto, interval = pace is not None, pace or 2.0
    due = time.monotonic() + interval
    while True:
        frame = playback.frame
        place = Place(
            title=presentation.title,
            parts=len(presentation.parts),
            steps=steps[frame.part],
            footer=footer(playback, marks, auto=auto, notes=notes),
            notes=notes,
        )
        width, height = terminal.size
        drawing.show(screen.draw(frame, place, width, height, marks=marks))
        advancing = auto and not playback.finished
        key = terminal.key(max(0.0, due - time.monotonic()) if advancing else None)
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
            playback.back()
        elif key is Key.RESTART:
            playback.restart()
        elif key in (Key.FORWARD, Key.NOTHING):
            playback.forward()
        if key is not Key.RESIZED:
            due = time.monotonic() + interval


def footer(playback: Playback, marks: Marks, *, auto: bool, notes: bool) -> str:
    notes_key = "n no notes" if notes else "n notes"
    entries = ["space next", "b back", "r again", "a automatic", notes_key, "? help", "q quit"]
    if playback.finished:
        entries = ["THE END", "b back", "r again", "", notes_key, "q quit"]
    elif auto:
        entries[3] = "a stop"
    if playback.replaying:
        entries[3] = "from memory"
    elif playback.frame.ended and not playback.finished:
        entries[0] = "space: next part"
    return marks.dot.join(filter(None, entries))


class _Drawing:
    """Writes lines at the top of the screen, so that it does not scroll."""

    def __init__(self, terminal: Terminal, *, color: bool) -> None:
        self._terminal = terminal
        self._console = PlainConsole(
            file=io.StringIO(), force_terminal=True, color_system="standard", no_color=not color, width=10_000
        )
        self._size: tuple[int, int] | None = None

    def show(self, lines: Sequence[Text]) -> None:
        size = (len(lines), lines[0].cell_len if lines else 0)
        clear = "\x1b[2J" if size != self._size else ""  # remove what was drawn at another size
        self._size = size
        self._terminal.write(f"{clear}\x1b[H" + "\r\n".join(ansi(self._console, line) for line in lines))


def ansi(console: Console, line: Text) -> str:
    """A line with its styles as ANSI escape sequences."""
    with console.capture() as capture:
        console.print(line, end="", soft_wrap=True)
    return capture.get()


@contextlib.contextmanager
def playback(target: Target, presentation: Presentation) -> Iterator[Playback]:
    """A playback; its sessions and its schema are removed at the end of the block."""
    with contextlib.closing(Playback(target, presentation)) as opened:
        yield opened
