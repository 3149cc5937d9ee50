"""The judgement of one trial, by what is there after it: rows, processes, sessions, schemas, files, and the text.

racebench's verdicts and counts are what is judged; nothing that it says is a reason to believe it.
"""

from __future__ import annotations

from benchmarks.faults.fault import Fault
from benchmarks.faults.findings import Ended, Look
from benchmarks.faults.remains import look_at_files, look_at_processes, look_at_server
from benchmarks.faults.scene import Scene
from benchmarks.faults.subjects import Subject
from benchmarks.faults.verdicts import committed_rows, look_at_demo, look_at_result, look_at_tests, may_be_guilty

_TRACES = (
    "Traceback (most recent call last)",
    "INTERNALERROR",
    "Fatal Python error",
    "Exception ignored",
    "Segmentation",
)


def look(scene: Scene, fault: Fault, ended: Ended) -> Look:
    """Judge a trial whose command has ended. The server of its ground must answer."""
    seen = Look()
    rows = committed_rows(scene)
    if ended.hung:
        seen.blame("hangs", f"no end after {ended.seconds:.0f} s")
    else:
        _look_at_end(scene, fault, ended, seen)
    _look_at_text(ended, seen)
    if scene.driver.name == "pytest":
        look_at_tests(scene, ended, seen)
    elif scene.driver.name == "demo":
        look_at_demo(ended, seen)
    else:
        look_at_result(scene, fault, ended, rows, seen)
    look_at_processes(scene, seen)
    look_at_server(scene, fault, ended, seen)
    look_at_files(scene, fault, seen)
    return seen


def _look_at_end(scene: Scene, fault: Fault, ended: Ended, seen: Look) -> None:
    """The exit code is one that is promised, and a failure has a line."""
    code = ended.code
    if scene.driver.name == "pytest":
        allowed: tuple[int, ...] = (0, 1, 2, *(code for code in fault.promise.codes if code < 0))
        if 130 in fault.promise.codes:
            allowed += (-1, -15)  # before a test has asked for the fixture, pytest's own answer to a signal
        if code not in allowed:
            seen.blame("codes", f"exit code {code}")
        return
    if code not in fault.promise.codes:
        seen.blame("codes", f"exit code {code}: {_last_line(ended.err)}")
    elif code not in {0, 3, -9} and not ended.err.strip() and not (code == 5 and ended.out.strip()):
        seen.blame("codes", f"exit code {code} without a line on stderr")
    if scene.subject is Subject.INNOCENT and code == 3 and not may_be_guilty(scene, fault, ended):
        seen.blame("wrong", "exit code 3 for an innocent subject")


def _look_at_text(ended: Ended, seen: Look) -> None:
    for mark in _TRACES:
        if mark in ended.text:
            at = ended.text.index(mark)
            seen.blame("tracebacks", f"{mark}: {_last_line(ended.text[at : at + 6000])}")
            return


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
