"""The command line in this process, for tests of hundreds of cases: a few milliseconds a command.

An exception that the command does not turn into a message fails the test, as a traceback would.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from racebench.cli import main
from racebench.cli.streams import GuardedStream

#: What no terminal may be sent: control characters but for tab and newline, bidirectional controls, surrogates.
RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff\ufffe\uffff]"
)
_LONGEST = 520


@dataclass(frozen=True)
class Done:
    """What a command has printed, and its exit code."""

    code: int
    output: str
    errors: str


def run(*arguments: str, cwd: Path) -> Done:
    """Run `racebench` with these arguments in a folder."""
    with _streams() as (output, errors), contextlib.chdir(cwd):
        code = main._main(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
        return Done(code, output.getvalue().decode(), errors.getvalue().decode())


@contextlib.contextmanager
def _streams() -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    before = sys.stdout, sys.stderr
    output, errors = io.BytesIO(), io.BytesIO()
    sys.stdout = GuardedStream(output, encoding="utf-8", errors="replace")
    sys.stderr = GuardedStream(errors, encoding="utf-8", errors="replace")
    try:
        yield output, errors
    finally:
        sys.stdout, sys.stderr = before


def assert_clean(done: Done) -> None:
    """Nothing that a terminal or GitHub Actions would obey was printed."""
    for text in (done.output, done.errors):
        assert not RAW.search(text), RAW.findall(text)
        assert not re.search(r"^\s*::", text, re.MULTILINE), text
        assert "##[" not in text


def assert_refused_or_fine(done: Done, codes: tuple[int, ...]) -> None:
    """One of some exit codes; a failure is one line of limited length on stderr, with nothing on stdout."""
    assert done.code in codes, done
    assert_clean(done)
    assert "Traceback" not in done.errors
    if done.code:
        lines = done.errors.splitlines()
        assert len([line for line in lines if not line.startswith("racebench: warning: ")]) == 1, done
        assert done.errors.startswith("racebench: ")
        assert max(map(len, lines)) <= _LONGEST, lines


def files(folder: Path) -> list[str]:
    """Every file below a folder, with its size: what a refused command leaves as it was."""
    return sorted(f"{path} {path.lstat().st_size}" for path in folder.rglob("*") if not os.path.isdir(path))  # noqa: PTH112
