"""Faults of the network, by a proxy, and of a pooler."""

from __future__ import annotations

import random

from benchmarks.faults import moments, strikes
from benchmarks.faults.fault import ENDED, LOADED, Fault, Promise
from benchmarks.faults.grounds import Kind, Layout
from benchmarks.faults.promises import AS_THESE, NO_COMMITS, NOTHING, PROXY, RECONNECTS, REFUSES
from benchmarks.faults.proxy import Silence, Stall
from benchmarks.faults.subjects import RETRYING


def _late(draw: random.Random, most: int = 60) -> int:
    return draw.randint(1, most)


_SESSION_POOLING = Promise(
    does="`run`, `compare` and `matrix` work; the others refuse with one line that names the pooler",
    verdict="as without a pooler",
)

_SILENT = Promise(
    does="says who waits for what; ends after --give-up-after, after a minute before the start (2: a function alone)",
    verdict="as the finished operations show, else UNKNOWN",
    remains=RECONNECTS.remains,
    codes=(*ENDED, 2),
)

NETWORK = (
    *(
        Fault(
            name=f"cut {where} COMMIT",
            family="network",
            text=text,
            drivers=LOADED,
            elsewhere=NO_COMMITS,
            layout=PROXY,
            cut=cut,
            promise=RECONNECTS,
        )
        for where, text, cut in (
            (
                "before",
                "the n-th COMMIT does not arrive, the connection is lost",
                lambda draw: moments.before_commit(_late(draw)),
            ),
            (
                "inside",
                "three bytes of the n-th COMMIT arrive, the connection is lost",
                lambda draw: moments.inside_commit(_late(draw)),
            ),
            (
                "after",
                "the n-th COMMIT is carried out, its answer is lost with the connection",
                lambda draw: moments.after_commit(_late(draw)),
            ),
        )
    ),
    Fault(
        name="cut behind a refusal",
        family="network",
        text="the connection is lost behind the n-th error, before the ROLLBACK",
        drivers=("run", "run several"),
        elsewhere="as `run`, or are refused rarely",
        layout=PROXY,
        cut=lambda draw: moments.behind_refusal(_late(draw, 15)),
        innocent=RETRYING,
        promise=RECONNECTS,
    ),
    Fault(
        name="cut at a message",
        family="network",
        text="the connection is lost at the n-th message of all",
        drivers=("run", "run --call", "compare", "explore", "explore --call", "pytest"),
        elsewhere=AS_THESE,
        layout=PROXY,
        cut=lambda draw: moments.at_message(_late(draw, 400), draw.choice([0, 1, 6])),
        promise=RECONNECTS,
    ),
    Fault(
        name="stall",
        family="network",
        text="the n-th message arrives one to two seconds later",
        drivers=("run", "explore"),
        elsewhere=AS_THESE,
        layout=PROXY,
        cut=lambda draw: moments.at_message(_late(draw, 400), Stall(seconds=draw.uniform(1.0, 2.0))),
        promise=NOTHING,
    ),
    Fault(
        name="black hole",
        family="network",
        text="from the n-th message on, one connection is open and silent",
        drivers=("run", "run --call", "explore"),
        elsewhere=AS_THESE,
        layout=PROXY,
        cut=lambda draw: moments.at_message(_late(draw, 400), Silence.BLACK_HOLE),
        promise=_SILENT,
    ),
    Fault(
        name="black hole behind COMMIT",
        family="network",
        text="the n-th COMMIT is carried out, and its connection is silent from then on",
        drivers=("run", "run --call"),
        elsewhere=NO_COMMITS,
        layout=PROXY,
        cut=lambda draw: moments.after_commit(_late(draw), Silence.BLACK_HOLE),
        promise=_SILENT,
    ),
    Fault(
        name="half-closed",
        family="network",
        text="from the n-th message on, the server's side of one connection is closed",
        drivers=("run", "run --call", "explore"),
        elsewhere=AS_THESE,
        layout=PROXY,
        cut=lambda draw: moments.at_message(_late(draw, 400), Silence.HALF_CLOSED),
        promise=RECONNECTS,
    ),
    Fault(
        name="seven bytes at a time",
        family="network",
        text="every message arrives in pieces of seven bytes",
        drivers=("run", "run --call", "explore --call"),
        elsewhere=AS_THESE,
        layout=PROXY,
        cut=lambda _draw: lambda _data, _of_client: None,
        piece=7,
        promise=NOTHING,
    ),
)

POOLERS = (
    *(
        Fault(
            name=f"PgBouncer, {mode} pooling" + (", options ignored" if ignores else ""),
            family="pooler",
            text=f"PgBouncer with pool_mode = {mode}"
            + (f" and ignore_startup_parameters = {ignores}" if ignores else ""),
            drivers=drivers,
            elsewhere=AS_THESE,
            layout=Layout(kind=Kind.POOLER, pool_mode=mode, pool_ignores=ignores),
            promise=promise,
        )
        for mode, ignores, drivers, promise in (
            ("session", "", ("run", "run --call", "explore"), _SESSION_POOLING),
            ("session", "options", ("run", "run --call", "explore"), _SESSION_POOLING),
            ("transaction", "options", ("run", "explore --call"), REFUSES),
            ("statement", "options", ("run", "pytest"), REFUSES),
        )
    ),
    Fault(
        name="PgBouncer killed",
        family="pooler",
        text="PgBouncer with session pooling is killed, and started again",
        drivers=("run", "explore"),
        elsewhere=AS_THESE,
        layout=Layout(kind=Kind.POOLER, pool_ignores="options"),
        strike=strikes.end_pooler,
        promise=RECONNECTS,
    ),
)
