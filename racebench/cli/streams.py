"""What reaches stdout and stderr beside tables: lines and documents. No other module of the command line prints.

No line of output begins as a command of GitHub Actions does, but for racebench's own annotations: `guard` sees to that.
What is unsafe in a text is escaped by racebench.core.plain_text.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

import click

from racebench.core.plain_text import printable

# "::error::…", also after white space. Source: docs.github.com, "Workflow commands for GitHub Actions".
_COMMAND = re.compile(r"^([^\S\n]*)(?=::|:\Z)", re.MULTILINE)


def say(text: object = "", *, err: bool = False, end: str = "\n") -> None:
    """Print a line, or a document whose own last line ends it (`end=""`).

    The stream is named: click would write past rich's, which puts a line above the progress bar.
    """
    click.echo(printable(str(text)) + end, file=sys.stderr if err else sys.stdout, nl=False, err=err)


def say_workflow_command(line: str) -> None:
    """Print a command of GitHub Actions, which is racebench's own, on stderr: its runner reads both streams."""
    stream = sys.stderr
    if isinstance(stream, GuardedStream):
        stream.write_command(line)
    else:
        stream.write(f"{line}\n")


def say_source(text: str) -> None:
    """Print a program or a history that is to be read by another program: unchanged, but for a terminal."""
    click.echo(printable(text) if sys.stdout.isatty() else text, nl=False)


def guard() -> None:
    """Replace stdout and stderr by guarded ones, which also print what the terminal's encoding lacks, as "?"."""
    if sys.stdout is None:  # closed by the shell (`>&-`)
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as the process
    sys.stdout = _guarded(sys.stdout)
    sys.stderr = _guarded(sys.stderr)
    if isinstance(sys.stderr, GuardedStream):
        sys.stderr.needs_reader = False


def _guarded(stream: TextIO) -> TextIO:
    """A stream that was replaced (by a test) or closed stays as it is."""
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, GuardedStream):
        return stream
    encoding, line_buffering, write_through = stream.encoding, stream.line_buffering, stream.write_through
    return GuardedStream(
        stream.detach(),
        encoding=encoding,
        errors="replace",
        line_buffering=line_buffering,
        write_through=write_through,
    )


class ReaderGoneError(BrokenPipeError):
    """The reader of a pipe has gone away. It has no errno: for EPIPE click would exit with 1."""


class UnwritableError(OSError):
    """stdout or stderr, as `filename` says, cannot be written: what it leads to is full or has gone away."""


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Print what the block prints; if the reader of stdout has gone away (`| head`), go on without it.

    The exit code then still says what was found. Outside of such a block the command ends with 0.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        let_go_of_stdout()


def let_go_of_stdout() -> None:
    """Write what is still waiting for stdout nowhere, if it cannot be written: at its end the process tries again."""
    with contextlib.suppress(OSError, ValueError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class GuardedStream(io.TextIOWrapper):
    """A stream on which a backslash stands before "::" at the beginning of a line.

    `needs_reader`: writing raises ReaderGoneError if the reader has gone away. False for stderr: a command goes on
    if nothing reads its progress and warnings.
    """

    needs_reader = True
    _at_start = True  # nothing but white space is on the current line so far

    def write(self, text: str, /) -> int:
        first = _COMMAND.match(text)
        guarded = _COMMAND.sub(r"\1\\", text)
        if first is not None and not self._at_start:
            guarded = text[: first.end()] + guarded[first.end() + 1 :]
        _, newline, last = text.rpartition("\n")
        self._at_start = not last.strip() and (bool(newline) or self._at_start)
        try:
            super().write(guarded)
        except BrokenPipeError:
            self._lose_reader()
        except OSError as problem:
            raise self._unwritable(problem) from None
        return len(text)

    def write_command(self, line: str) -> None:
        """Write a command of GitHub Actions on a line of its own."""
        begin = "" if self._at_start else "\n"
        self._at_start = True
        try:
            super().write(f"{begin}{line}\n")
        except BrokenPipeError:
            self._lose_reader()
        except OSError as problem:
            raise self._unwritable(problem) from None

    def flush(self) -> None:
        """Write what waits; raises ReaderGoneError if it cannot be read any more."""
        try:
            super().flush()
        except BrokenPipeError:
            self._lose_reader()
        except OSError as problem:
            raise self._unwritable(problem) from None

    def _lose_reader(self) -> None:
        if self.needs_reader:
            raise ReaderGoneError from None

    def _unwritable(self, problem: OSError) -> UnwritableError:
        return UnwritableError(problem.errno, problem.strerror or str(problem), str(self.name).strip("<>"))
