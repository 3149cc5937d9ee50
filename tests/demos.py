"""The demo as tests use it: its prepared parts, a terminal that it runs on, and an exported page."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from struct import pack

import pyte

from conftest import RACEBENCH
from racebench.cli.demonstrating import Ready
from racebench.demo.frames import Frame
from racebench.demo.presentation import Part
from waiting import wait_for

Prepare = Callable[..., Ready]


def played_parts(ready: Ready) -> Iterator[tuple[Part, tuple[Frame, ...]]]:
    """Each part of a demo, with its frames."""
    yield from zip(ready.presentation.parts, ready.recording.parts, strict=True)


def anomalies_of(frames: tuple[Frame, ...]) -> dict[str, int]:
    """The counts of the anomalies at the end, by kind."""
    return {anomaly.kind: anomaly.count for anomaly in frames[-1].anomalies or ()}


def has_wait(frames: tuple[Frame, ...]) -> bool:
    """Whether a session waits in one of the frames."""
    return any(lane.waits for frame in frames for lane in frame.lanes)


class DemoTerminal:
    """A pseudo-terminal on which the demo, or another command, runs: its screen, and its keys."""

    def __init__(
        self, folder: Path, *arguments: str, size: tuple[int, int] = (80, 24), command: str = "demo", **env: str
    ) -> None:
        self.master, self.slave = os.openpty()
        self.screen = pyte.Screen(*size)
        self.stream = pyte.ByteStream(self.screen)
        self.seen = b""
        self.resize(*size, tell=False)
        self.before = termios.tcgetattr(self.slave)
        environment = {
            name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")
        }
        self.process = subprocess.Popen(
            [*RACEBENCH, command, *arguments],
            cwd=folder,
            env={**environment, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **env},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call, no lock
        )

    def resize(self, width: int, height: int, *, tell: bool = True) -> None:
        self.screen.resize(height, width)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, pack("HHHH", height, width, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self, seconds: float = 0.02) -> None:
        while select.select([self.master], (), (), seconds)[0]:
            data = os.read(self.master, 65536)
            self.seen += data
            self.stream.feed(data)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def until(self, *words: str) -> str:
        """Wait until all of these words are on the screen; returns the screen's text."""
        wait_for(lambda: self.read() or all(word in self.text for word in words), lambda: f"no {words}:\n{self.text}")
        return self.text

    def end(self) -> int:
        """Wait until the command has ended; returns its exit code."""
        wait_for(lambda: self.read() or self.process.poll() is not None, lambda: f"it still runs:\n{self.text}")
        self.read()
        return self.process.returncode

    def assert_as_before(self) -> None:
        """Assert that the terminal echoes again, and shows its own screen and its cursor."""
        assert termios.tcgetattr(self.slave) == self.before
        assert self.seen.count(b"\x1b[?1049h") == self.seen.count(b"\x1b[?1049l")
        assert self.seen.count(b"\x1b[?25l") == self.seen.count(b"\x1b[?25h")
        assert not self.screen.cursor.hidden

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.slave)
        if self.master >= 0:
            os.close(self.master)


OpenDemo = Callable[..., DemoTerminal]


def embedded_servers(cache: Path) -> set[int]:
    """The process ids of the embedded servers that run."""
    servers = set()
    for file in cache.glob("postgresql-*/slot-*/data/postmaster.pid"):
        with contextlib.suppress(FileNotFoundError, ValueError):  # just gone, or not written yet
            servers.add(int(file.read_text().split("\n", 1)[0]))
    return servers


#: Text that is markup or code in the languages of the exports.
HOSTILE = '</script><script>alert(1)</script><b onclick="x">[bold]&amp;{0}%s`|`;#end'


class ParsedPage(HTMLParser):
    """A page's tags and its text; asserts that every tag is closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


def parse_page(page: str) -> ParsedPage:
    parsed = ParsedPage()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == []
    return parsed
