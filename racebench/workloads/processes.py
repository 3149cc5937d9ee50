"""Processes of programs under test: starts one in a process group of its own, and ends it with all its descendants.

What a program prints goes to files without a name, so that it never waits for a reader. What it is told about the
database is racebench.workloads.addresses'; who runs next, and what its end means, are the drivers'.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from racebench.core.environ import exported
from racebench.core.errors import RacebenchError, UsageProblem
from racebench.core.plain_text import one_line, shortened
from racebench.core.signals import shielded
from racebench.workloads.addresses import Environment

#: How long a process has to end after SIGTERM, in seconds.
TERMINATION_S = 3.0
#: The variable by which a process is recognized as started by a command, also if its parent has ended.
_MARK = "_RACEBENCH_STARTED_BY"
#: A program that ends the processes with a variable in their environment once its standard input is closed.
_GUARD = """
import os, signal, sys
sys.stdin.buffer.read()
for name in os.listdir("/proc"):
    try:
        with open(f"/proc/{name}/environ", "rb") as file:
            if sys.argv[1].encode() in file.read().split(b"\\0"):
                os.kill(int(name), signal.SIGKILL)
    except (OSError, ValueError):
        pass
"""
#: How much of an output is read, in bytes, and from which size on it is emptied.
_TAIL_BYTES = 64 * 1024
_LARGEST_BYTES = 256 * 1024 * 1024
_LINES_SHOWN = 3
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended. `code`: its exit code, or minus the signal that ended it. `stdout` is whole.

    `stderr`: the last 64 KB.
    """

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def described(self) -> str:
        """The exit code or the signal, as text: "exit 1", "SIGKILL"."""
        if self.code >= 0:
            return f"exit {self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


class Process:
    """A running program, leader of a session and a process group of its own. `stop` must be called in any case.

    `exited`: a file descriptor that is readable once it has ended; None on a system without pidfd_open. An ended
    process is reaped by `stop`, so that its number, and that of its group, is no other's until then.
    """

    def __init__(self, program: subprocess.Popen[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self.pid = program.pid
        self.exited = os.pidfd_open(program.pid) if hasattr(os, "pidfd_open") else None
        self._program = program
        self._stdout, self._stderr = stdout, stderr
        self._exit: Exit | None = None
        self._stopped = False

    @classmethod
    def start(cls, words: Sequence[str], environment: Environment, *, folder: Path | None = None) -> Process:
        """Start a command with this process's environment and more variables; raises UsageProblem, RacebenchError.

        UsageProblem: the command does not exist, or may not be run. `folder`: its working folder.
        """
        process = None
        try:
            with shielded():
                process = cls._started(words, environment, folder)
        except BaseException:
            if process is not None:
                process.stop()
            raise
        return process

    @classmethod
    def _started(cls, words: Sequence[str], environment: Environment, folder: Path | None) -> Process:
        with contextlib.ExitStack() as stack:
            stdout = stack.enter_context(tempfile.TemporaryFile("a+b"))
            stderr = stack.enter_context(tempfile.TemporaryFile("a+b"))
            try:
                program = subprocess.Popen(
                    list(words),
                    env={name: value for name, value in {**os.environ, **environment}.items() if value is not None},
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                )
            except (OSError, ValueError) as problem:
                raise _cannot_start(words, problem) from None
            stack.pop_all()
        return cls(program, stdout, stderr)

    def poll(self) -> Exit | None:
        """How it ended; None while it runs. Its descendants may still run."""
        if self._exit is None and self._has_ended():
            code = self._program.returncode
            if code is None:
                ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                assert ended is not None
                code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            self._exit = Exit(code=code, stdout=_whole(self._stdout), stderr=_tail(self._stderr))
        return self._exit

    def wait(self, timeout_s: float | None = None) -> Exit | None:
        """Wait until it ends; None if it runs on after a time-out."""
        deadline = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
        while (ended := self.poll()) is None and (left := deadline - time.monotonic()) > 0:
            if self.exited is None:
                time.sleep(min(left, 0.005))
            else:
                poll = select.poll()
                poll.register(self.exited, select.POLLIN)
                poll.poll(None if timeout_s is None else 1000 * left)
        return ended

    def last_lines(self) -> str:
        """The last lines that it printed, to stderr or else to stdout, on one line; "" if it has printed none."""
        if self._stderr.closed:
            texts = [] if self._exit is None else [self._exit.stderr, self._exit.stdout[-_TAIL_BYTES:]]
        else:
            texts = [_tail(self._stderr), _tail(self._stdout)]
        for text in texts:
            lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
            # The frames of a traceback are indented in most languages; what the error says is not.
            telling = [line for line in lines if line == line.lstrip() and not line.startswith("Traceback (most")]
            if chosen := (telling or lines)[-_LINES_SHOWN:]:
                return shortened(one_line(" / ".join(line.strip() for line in chosen)))
        return ""

    def limit_output(self) -> None:
        """Empty the files of what it prints once they are large: a server may log for hours."""
        for file in (self._stdout, self._stderr):
            if os.fstat(file.fileno()).st_size > _LARGEST_BYTES:
                os.ftruncate(file.fileno(), 0)

    def stop(self, *, termination_s: float = TERMINATION_S) -> None:
        """End it and its descendants: SIGTERM if it runs, SIGKILL after `termination_s`. It may be called twice."""
        if self._stopped:
            return
        with shielded():
            descendants = []
            if not self._has_ended():
                descendants = _descendants(self.pid)
                self._signal(signal.SIGTERM)
                self.wait(termination_s)
            self._signal(signal.SIGKILL)
            for pid, began in descendants:
                if _began(pid) == began:  # it has left the group, and its number is not another's by now
                    _kill(pid)
            self.wait(termination_s)
            self.poll()
            self._program.wait()
            self._stopped = True
            if self.exited is not None:
                os.close(self.exited)
                self.exited = None
            self._stdout.close()
            self._stderr.close()

    def _has_ended(self) -> bool:
        if self._program.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses for a group of zombies
            os.killpg(self.pid, number)


@contextlib.contextmanager
def none_left() -> Iterator[None]:
    """End, after the block, each process that was started in it here or in a worker, and still runs.

    A worker that was killed cannot end what it started, and a program may have made itself a daemon. They are found by
    a variable of their environment, on systems that have /proc. If this process is killed, another one ends them.
    """
    mark = secrets.token_hex(8)
    with _guarded(mark):
        try:
            with exported({_MARK: mark}):
                yield
        finally:
            with shielded():
                _end_marked(mark)


@contextlib.contextmanager
def _guarded(mark: str) -> Iterator[None]:
    """Have a process wait for the end of this one, and end what is marked then; none on a system without /proc."""
    if not _PROC.is_dir():
        yield
        return
    guard = None
    try:
        with shielded():
            guard = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD, f"{_MARK}={mark}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        yield
    finally:
        if guard is not None:
            guard.kill()  # before its pipe is closed
            with contextlib.suppress(OSError):
                guard.communicate()


def _end_marked(mark: str) -> None:
    wanted = f"{_MARK}={mark}".encode()
    own = os.getpid()
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if folder.name.isdigit() and int(folder.name) != own:
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0") and _is_program(int(folder.name)):
                    _kill(int(folder.name))


def _is_program(pid: int) -> bool:
    """Whether a marked process leads no executor: racebench's workers are in this process's session."""
    return os.getsid(pid) != os.getsid(0)


def _descendants(pid: int) -> list[tuple[int, str]]:
    """The descendants of a process, with the times at which they began; none on a system without /proc."""
    children: dict[int, list[tuple[int, str]]] = {}
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if folder.name.isdigit() and (fields := _status(int(folder.name))):
            children.setdefault(int(fields[1]), []).append((int(folder.name), fields[19]))
    descendants: list[tuple[int, str]] = []
    parents = [pid]
    while parents:
        own = children.pop(parents.pop(), [])
        descendants += own
        parents += [child for child, _ in own]
    return descendants


def _status(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, the state; none if there is no such process. Source: proc(5)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def _began(pid: int) -> str:
    return next(iter(_status(pid)[19:20]), "")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _whole(file: IO[bytes]) -> bytes:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _tail(file: IO[bytes]) -> bytes:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))


def _cannot_start(words: Sequence[str], problem: OSError | ValueError) -> RacebenchError:
    command = words[0] if words else ""
    if not isinstance(problem, OSError):
        return UsageProblem(f"'{command}' cannot be started: {problem}; give a command that a shell could run")
    reason = os.strerror(problem.errno) if problem.errno else str(problem)
    if problem.errno in (errno.ENOENT, errno.ENOTDIR):
        return UsageProblem(f"'{command}' cannot be started: there is no such command; give its path, or check PATH")
    if problem.errno in (errno.EACCES, errno.ENOEXEC):
        return UsageProblem(
            f"'{command}' cannot be started: {reason}; make it executable, or name the program that runs it"
        )
    return RacebenchError(f"'{command}' cannot be started: {reason}; use fewer sessions or workers")
