"""Limits of the machine, and signals."""

from __future__ import annotations

import signal

from benchmarks.faults import arrangements, strikes
from benchmarks.faults.fault import ENDED, ENDING, Fault, Promise
from benchmarks.faults.promises import EMBEDDED, INTERRUPTS, NOTHING

_LIMITED = Promise(
    does="works, or ends with one line that says what is missing",
    verdict="as without the limit, UNKNOWN, or none",
    remains="nothing; no file is half written",
    codes=(*ENDED, 1, 2),
)
MACHINE = (
    Fault(
        name="disk full",
        family="machine",
        text="4 kB to 1 MB of space in the working folder or the folder for temporary files",
        drivers=("run", "run --call", "explore", "pytest", "check"),
        elsewhere="as these",
        limit=arrangements.small_disk,
        promise=_LIMITED,
    ),
    Fault(
        name="few descriptors",
        family="machine",
        text="ulimit -n of 8 to 60",
        drivers=("run", "run --call", "explore", "demo", "pytest", "check"),
        elsewhere="as these",
        limit=arrangements.limit_of("nofile", 8, 60),
        promise=_LIMITED,
    ),
    Fault(
        name="little memory",
        family="machine",
        text="ulimit -v of 60 to 400 MB",
        drivers=("run", "run --call", "explore", "demo", "pytest", "check"),
        elsewhere="as these",
        limit=arrangements.limit_of("as", 60 << 20, 400 << 20),
        promise=_LIMITED,
    ),
)

SIGNALS = (
    *(
        Fault(
            name=name,
            family="signals",
            text=text,
            drivers=ENDING if "twice" not in name else (*ENDING, "run --call", "explore --call"),
            elsewhere="as these",
            strike=strike,
            promise=INTERRUPTS,
        )
        for name, text, strike in (
            ("SIGINT", "SIGINT to the command", strikes.send(signal.SIGINT)),
            ("SIGTERM", "SIGTERM to the command", strikes.send(signal.SIGTERM)),
            ("SIGHUP", "SIGHUP to the command", strikes.send(signal.SIGHUP)),
            (
                "SIGINT to the group",
                "SIGINT to the command and its processes: Ctrl-C",
                strikes.send(signal.SIGINT, group=True),
            ),
            ("SIGTERM to the group", "SIGTERM to all processes", strikes.send(signal.SIGTERM, group=True)),
            (
                "SIGINT twice",
                "SIGINT to the group, twice within 0.3 seconds",
                strikes.send(signal.SIGINT, group=True, times=2),
            ),
        )
    ),
    Fault(
        name="SIGHUP ignored",
        family="signals",
        text="SIGHUP to the group of a command that was started by nohup",
        drivers=("run", "explore", "demo", "pytest"),
        elsewhere="as these",
        strike=strikes.send(signal.SIGHUP, group=True),
        limit=arrangements.nohup,
        promise=NOTHING,
    ),
    Fault(
        name="embedded, SIGINT to the group",
        family="signals",
        text="Ctrl-C while the embedded server starts, runs or stops",
        drivers=("run", "explore", "pytest"),
        elsewhere="as these",
        layout=EMBEDDED,
        strike=strikes.send(signal.SIGINT, group=True),
        promise=INTERRUPTS,
    ),
)
