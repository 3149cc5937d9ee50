"""Faults of racebench's processes, and none."""

from __future__ import annotations

from benchmarks.faults import strikes
from benchmarks.faults.fault import ENDED, EVERY, JUDGED, LOADED, Fault, Promise
from benchmarks.faults.promises import EMBEDDED, NO_CONSUMER, NO_WORKERS, NOTHING, RECONNECTS

PROCESSES = (
    Fault(
        name="nothing",
        family="control",
        text="no fault: innocent subjects must be VALID and guilty ones INVALID",
        drivers=EVERY,
        promise=Promise(does="as documented", verdict="VALID or INVALID", codes=(0, 3)),
    ),
    Fault(
        name="worker killed",
        family="processes",
        text="kill -9 of a worker",
        drivers=(*LOADED, "pytest"),
        elsewhere=NO_WORKERS,
        strike=strikes.kill("worker"),
        promise=Promise(
            does="names the worker and goes on without it; before the start it ends with one line",
            verdict=RECONNECTS.verdict,
            codes=(*ENDED, 1),
        ),
    ),
    Fault(
        name="worker paused",
        family="processes",
        text="SIGSTOP of a worker, SIGCONT within a second",
        drivers=("run", "run --call"),
        elsewhere=NO_WORKERS,
        strike=strikes.pause("worker"),
        promise=NOTHING,
    ),
    Fault(
        name="consumer killed",
        family="processes",
        text="kill -9 of a consumer",
        drivers=("run", "matrix"),
        elsewhere=NO_CONSUMER,
        strike=strikes.kill("consumer"),
        promise=Promise(
            does="names the consumer and goes on; before the start it ends with one line",
            verdict="of what the table shows, else UNKNOWN",
            codes=(*ENDED, 1),
        ),
    ),
    Fault(
        name="consumer paused",
        family="processes",
        text="SIGSTOP of a consumer, SIGCONT within a second",
        drivers=("run",),
        elsewhere=NO_CONSUMER,
        strike=strikes.pause("consumer"),
        promise=NOTHING,
    ),
    Fault(
        name="command killed",
        family="processes",
        text="kill -9 of the command",
        drivers=("run", "run --call", "compare", "explore", "demo", "pytest"),
        elsewhere="as these",
        strike=strikes.kill("main"),
        kills=True,
        promise=Promise(
            does="workers and consumers end within a second",
            verdict="none",
            remains="a schema, and a temporary folder; the next command names them and `racebench server clean` drops "
            "them",
            codes=(*JUDGED, -9),
        ),
    ),
    Fault(
        name="command paused",
        family="processes",
        text="SIGSTOP of the command, SIGCONT within a second",
        drivers=("run", "explore"),
        elsewhere="as these",
        strike=strikes.pause("main"),
        promise=NOTHING,
    ),
    Fault(
        name="embedded, command killed",
        family="processes",
        text="kill -9 of the command that started the embedded server",
        drivers=("run", "explore"),
        elsewhere="as these",
        layout=EMBEDDED,
        strike=strikes.kill("main"),
        kills=True,
        promise=Promise(
            does="a watcher stops the server; workers end within a second",
            verdict="none",
            remains="a temporary folder; the next command starts with a fresh server",
            codes=(*JUDGED, -9),
        ),
    ),
)
