"""Promises and reasons that several families share."""

from __future__ import annotations

from benchmarks.faults.fault import JUDGED, Promise
from benchmarks.faults.grounds import Kind, Layout

PROXY = Layout(kind=Kind.PROXY)
EMBEDDED = Layout(kind=Kind.EMBEDDED)
#: The server forgets what was acknowledged in the last seconds before a crash.
FORGETS = {"synchronous_commit": "off", "wal_writer_delay": "10s"}

RECONNECTS = Promise(
    does="connects again for 10 seconds and goes on; the explorer runs the schedule again",
    verdict="as without the fault, or UNKNOWN; the lost connection is never counted as refused",
    remains="nothing; a schema that cannot be dropped is named, and `racebench server clean` drops it",
)
NOTHING = Promise(does="nothing: the run goes on", verdict="as without the fault", codes=JUDGED)
REFUSES = Promise(does="refuses with one line, before it creates anything", verdict="none", codes=(6,))
INTERRUPTS = Promise(
    does="ends; finished runs are shown and saved",
    verdict="only of what was finished",
    codes=(*JUDGED, 130),
)
AS_THESE = "as these, or uses no server"
NO_CONSUMER = "as `run`, or without a consumer"
NO_WORKERS = "as `run`, or without workers"
NO_COMMITS = "as `run`, or few COMMITs"
