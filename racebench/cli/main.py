"""The command line: the group of commands, and how a failure becomes one line on stderr and an exit code.

The commands are in racebench.cli.commands, one file each.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import os
import sys
import threading
from typing import NoReturn

import click

from racebench import __version__
from racebench.cli import base_command, invocation, streams
from racebench.cli.late_commands import LateCommands
from racebench.core import signals
from racebench.core.errors import ExitCode, Interrupted, RacebenchError
from racebench.core.plain_text import one_line, shortened


def main() -> NoReturn:
    """Run the command line and exit; every failure is one line on stderr and a documented exit code."""
    sys.exit(run_program())


def run_program() -> int:
    """As main; return the exit code."""
    streams.guard()
    # numpy's linear algebra is not used; a pool of threads for it in every process would cost time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = _main(sys.argv[1:])
    signals.ignore()
    return code


def leave(code: int) -> NoReturn:
    """End the process as Python does, but without taking every module apart, which takes a tenth of a command's time.

    Not where that matters: the user's code has left a thread that is to be waited for, or a profiler wants to report.
    """
    threads = any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
    if threads or sys.gettrace() is not None or sys.getprofile() is not None:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):  # closed, or its reader is gone, which was reported
            stream.flush()
    os._exit(code)


def _main(arguments: list[str]) -> int:
    try:
        with signals.handled():
            typed = invocation.as_typed(arguments)
            code = cli.main(args=arguments, prog_name="racebench", standalone_mode=False, obj=typed)
            sys.stdout.flush()
            return int(code or 0)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as problem:
        return _say(problem.format_message(), code=ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt, Interrupted) as problem:
        return _say_interrupted(problem)
    except RacebenchError as problem:
        return _say(str(problem), *getattr(problem, "__notes__", ()), code=problem.exit_code)
    except BrokenPipeError:
        streams.let_go_of_stdout()  # the reader is gone: exit without a message
        return ExitCode.OK
    except MemoryError:
        return _say("out of memory; give the process more, or run less at once", code=ExitCode.INTERNAL)
    except RuntimeError as problem:  # by which Python 3.11 replaces an interruption while a class is made
        if isinstance(cause := _first_cause(problem), Interrupted):
            return _say_interrupted(cause)
        raise
    except (ImportError, SystemError) as problem:  # a library cannot be mapped: few descriptors, or little memory
        return _say(f"racebench cannot be loaded: {_first_cause(problem)}; {_remedy(0)}", code=ExitCode.INTERNAL)
    except streams.UnwritableError as problem:
        streams.let_go_of_stdout()
        where = f"cannot write {problem.filename}: {problem.strerror}"
        return _say(f"{where}; free some space there, or redirect it to another file", code=ExitCode.INTERNAL)
    except OSError as problem:
        streams.let_go_of_stdout()
        path = f" {problem.filename}:" if problem.filename else ""
        code = ExitCode.USAGE if problem.errno == errno.ENAMETOOLONG else ExitCode.INTERNAL
        return _say(
            f"the machine failed:{path} {problem.strerror or problem}; {_remedy(problem.errno or 0)}", code=code
        )


def _say_interrupted(problem: BaseException) -> int:
    notes = getattr(problem, "__notes__", ())
    first = "interrupted" if notes else "interrupted; no server, worker or schema is left"
    return _say(first, *notes, code=ExitCode.INTERRUPTED)


def _first_cause(problem: BaseException) -> BaseException:
    """What an exception was raised from in the end: a library wraps the reason in pages of advice."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return problem


def _remedy(number: int) -> str:
    """What to do about an error of the operating system."""
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space, or set TMPDIR to another folder"
    if number in (errno.EMFILE, errno.ENFILE):
        return "allow more open files (`ulimit -n`), or run fewer workers"
    if number in (errno.ENOMEM, errno.EAGAIN):
        return "allow more memory and processes (`ulimit -v`, `ulimit -u`), or run fewer workers"
    if number == errno.ENAMETOOLONG:
        return "give a shorter name"
    return "see the limits of this process (`ulimit -a`) and the rights of its user"


def _say(*messages: str, code: ExitCode) -> int:
    """Print the failure in one line, and one more for each thing that it left on the user's server."""
    with contextlib.suppress(OSError):  # the terminal may be closed
        for message in messages:
            streams.say(f"racebench: {shortened(one_line(message))}", err=True)
    return int(code)


_SECTIONS = {
    "Measure": ("run", "compare", "matrix"),
    "Prove and show": ("explore", "replay", "demo"),
    "Results": ("report", "check"),
    "Strategies": ("list", "show"),
    "Your project": ("init", "config", "schema", "completion", "server"),
}


@click.group(
    cls=base_command.Group,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    commands=LateCommands("racebench.cli.commands", itertools.chain(*_SECTIONS.values())),
)
@click.version_option(__version__, prog_name="racebench")
def cli() -> None:
    """Reproduce, prove and measure the races that happen when applications number rows.

    Start with:  racebench run --strategy naive --workers 8
    """
