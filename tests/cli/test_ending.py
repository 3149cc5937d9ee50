"""How the process of a command ends: with its exit code, with all that it has written, at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import atexit, sys, threading, time
from racebench.cli.main import leave
{before}
sys.stdout.write("written")
leave(3)
"""


def run(before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before)], capture_output=True, text=True, check=False
    )


def test_what_waits_in_a_stream_is_written() -> None:
    done = run("")
    assert (done.returncode, done.stdout) == (3, "written")


def test_what_is_to_be_done_at_the_end_is_done() -> None:
    done = run("atexit.register(lambda: sys.stderr.write('done'))")
    assert (done.returncode, done.stdout, done.stderr) == (3, "written", "done")


def test_a_thread_of_the_users_code_is_waited_for() -> None:
    thread = "threading.Thread(target=lambda: (begun.wait(), sys.stderr.write('thread'))).start()"
    done = run(
        f"begun = threading.Event()\n{thread}\natexit.register(lambda: None)\nthreading.Timer(0, begun.set).start()"
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "written", "thread")


def test_a_command_whose_stdout_is_closed_has_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m racebench --help >&-"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
