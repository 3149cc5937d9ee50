"""CSV: one row a run, the same columns always (docs/ci.md)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

from racebench.core.anomalies import ANOMALIES, NON_SERIALIZABLE
from racebench.core.results import RunResult
from racebench.reports.formats import Material
from racebench.reports.results.document import Document

_KINDS = (*ANOMALIES,)
_LATER = _KINDS[_KINDS.index(NON_SERIALIZABLE) + 1 :]
_COUNTS = ("attempts", "committed", "failed", "rolled_back", "unknown", "retries", "rows")
_LATENCIES = ("p50", "p90", "p99", "p999", "max")

#: Column: its value in a run. New columns come at the end.
_COLUMNS: Mapping[str, Callable[[Document, RunResult], Any]] = {
    "created": lambda document, _: document.created,
    "server_version": lambda document, _: document.environment.get("server_version"),
    "target": lambda document, _: document.environment.get("target"),
    "scenario": lambda _, run: run.scenario,
    "strategy": lambda _, run: run.strategy,
    "consumers": lambda _, run: ",".join(consumer.name for consumer in run.consumers),
    "workers": lambda _, run: run.load.workers,
    "connections_per_worker": lambda _, run: run.load.connections_per_worker,
    "protocol": lambda _, run: run.load.protocol.value,
    "duration_s": lambda _, run: run.load.duration_s,
    "operations": lambda _, run: run.load.operations,
    "rate_per_s": lambda _, run: run.load.rate_per_s,
    "tenants": lambda _, run: run.load.tenants,
    "think_us": lambda _, run: run.load.think_us,
    "hold_us": lambda _, run: run.load.hold_us,
    "seed": lambda _, run: run.load.seed,
    "verdict": lambda _, run: run.verdict.value,
    "as_expected": lambda _, run: None if run.as_expected is None else str(run.as_expected).lower(),
    "upper_bound": lambda _, run: run.upper_bound,
    "seconds": lambda _, run: run.seconds,
    "throughput_per_s": lambda _, run: run.throughput_per_s,
    **{f"{name}_us": lambda _, run, name=name: run.latency_us.get(name) for name in _LATENCIES},  # type: ignore[misc]
    **{name: lambda _, run, name=name: run.counts.get(name) for name in (*_COUNTS, *_KINDS) if name not in _LATER},  # type: ignore[misc]
    "faults": lambda _, run: ",".join(fault.text for fault in run.load.faults),
    "injected": lambda _, run: sum(run.injected.values()) if run.injected else None,
    **{name: lambda _, run, name=name: run.counts.get(name) for name in _LATER},  # type: ignore[misc]
}

COLUMNS = tuple(_COLUMNS)


def render(material: Material) -> str:
    """Return the CSV; what is not known is empty."""
    document, text = material.runs, io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in document.runs:
        writer.writerow(["" if (cell := of(document, run)) is None else cell for of in _COLUMNS.values()])
    return text.getvalue()
