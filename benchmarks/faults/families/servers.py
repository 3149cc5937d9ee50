"""Faults of the server: sessions, backends and the postmaster end."""

from __future__ import annotations

import signal

from benchmarks.faults import strikes
from benchmarks.faults.fault import CONNECTING, EXPLORING, LOADED, Fault, Promise
from benchmarks.faults.grounds import Layout
from benchmarks.faults.promises import AS_THESE, EMBEDDED, FORGETS, NO_CONSUMER, NO_WORKERS, NOTHING, RECONNECTS

SERVERS = (
    *(
        Fault(
            name=f"{role} terminated",
            family="server",
            text=f"pg_terminate_backend of {what}",
            drivers=drivers,
            elsewhere=why,
            strike=strikes.terminate(role),
            promise=RECONNECTS,
        )
        for role, what, drivers, why in (
            ("worker", "a worker's session", LOADED, NO_WORKERS),
            ("consumer", "a consumer's session", ("run", "matrix"), NO_CONSUMER),
            ("command", "the command's own session", (*CONNECTING, "compare", "demo"), AS_THESE),
            ("session", "an explored session", EXPLORING, "have none"),
            ("all", "all sessions at once", (*CONNECTING, "compare"), AS_THESE),
        )
    ),
    Fault(
        name="backend killed",
        family="server",
        text="kill -9 of a backend: crash recovery",
        drivers=("run", "run several", "run --call", "explore", "explore --call", "pytest"),
        elsewhere=AS_THESE,
        strike=strikes.to_backend(lambda scene, pid: scene.signal(pid, signal.SIGKILL)),
        promise=RECONNECTS,
    ),
    Fault(
        name="backend killed, commits forgotten",
        family="server",
        text="the same with synchronous_commit=off on the server, which forgets acknowledged rows",
        drivers=("run", "run --call"),
        elsewhere="as these",
        layout=Layout(settings=FORGETS),
        strike=strikes.to_backend(lambda scene, pid: scene.signal(pid, signal.SIGKILL)),
        loses=True,
        promise=Promise(
            does="commits durably in sessions of strategies; connects again; says that the server crashed",
            verdict="as without the fault; of your own code UNKNOWN, with the reason, or its own anomalies",
            remains=RECONNECTS.remains,
        ),
    ),
    Fault(
        name="backend paused",
        family="server",
        text="SIGSTOP of a backend, SIGCONT within a second",
        drivers=("run", "explore", "explore --call"),
        elsewhere=AS_THESE,
        strike=strikes.to_backend(lambda scene, pid: scene.pause(pid)),
        promise=NOTHING,
    ),
    *(
        Fault(
            name=name,
            family="server",
            text=text,
            drivers=CONNECTING,
            elsewhere=AS_THESE,
            strike=strikes.end_server(how),
            promise=RECONNECTS,
        )
        for name, text, how in (
            ("postmaster killed", "kill -9 of the postmaster, which is started again", signal.SIGKILL),
            ("server restarted", "a fast restart", signal.SIGINT),
            ("server crashed", "an immediate restart: crash recovery", signal.SIGQUIT),
        )
    ),
    Fault(
        name="server gone",
        family="server",
        text="the server is stopped and does not come back",
        drivers=("run", "run --call", "explore", "pytest"),
        elsewhere=AS_THESE,
        strike=strikes.end_server(signal.SIGQUIT, again=False),
        promise=Promise(
            does="tries for 10 seconds, then ends with one line",
            verdict="UNKNOWN, or none",
            remains="the schema, which is named",
        ),
    ),
    Fault(
        name="embedded, postmaster killed",
        family="server",
        text="kill -9 of the embedded server's postmaster",
        drivers=("run", "run --call", "explore", "demo"),
        elsewhere="as these",
        layout=EMBEDDED,
        strike=strikes.embedded(signal.SIGKILL, b"postmaster"),
        promise=Promise(
            does="ends with one line: the embedded server ended",
            verdict="UNKNOWN, or none",
        ),
    ),
    Fault(
        name="embedded, backend killed",
        family="server",
        text="kill -9 of a backend of the embedded server",
        drivers=("run", "run --call", "explore", "explore --call"),
        elsewhere="as these",
        layout=EMBEDDED,
        strike=strikes.embedded(signal.SIGKILL, b"[local]"),
        promise=RECONNECTS,
    ),
)
