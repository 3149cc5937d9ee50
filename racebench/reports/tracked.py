"""What github-action-benchmark tracks from commit to commit: arrays of named values, for its two custom tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from racebench.model import RunResult
from racebench.reports.cases import names, server_of
from racebench.reports.document import Document


def bigger(document: Document) -> str:
    """For `tool: customBiggerIsBetter`: each run's throughput."""
    return _array(
        _entry(document, run, f"{name}: throughput", "commits/s", run.throughput_per_s)
        for run, name in _named(document)
    )


def smaller(document: Document) -> str:
    """For `tool: customSmallerIsBetter`: each run's latency, if anything was committed, and forbidden anomalies."""
    return _array(entry for run, name in _named(document) for entry in _of_run(document, run, name))


def _of_run(document: Document, run: RunResult, name: str) -> Iterator[dict[str, Any]]:
    for percentile in ("p50", "p99"):
        us = run.latency_us[percentile]
        if us is not None:
            yield _entry(document, run, f"{name}: {percentile}", "ms", us / 1e3)
    for kind in run.forbidden:
        yield _entry(document, run, f"{name}: {kind}", "rows" if kind != "refused" else "operations", run.counts[kind])


def _named(document: Document) -> Iterator[tuple[RunResult, str]]:
    for run, name in zip(document.runs, names(document), strict=True):
        yield run, f"{run.scenario}/{name}"


def _entry(document: Document, run: RunResult, name: str, unit: str, value: float) -> dict[str, Any]:
    load = run.load
    extra = f"{run.verdict.value}, {load.workers} workers, seed {load.seed}, {server_of(document)}"
    return {"name": name, "unit": unit, "value": value, "extra": extra}


def _array(entries: Iterator[dict[str, Any]]) -> str:
    return json.dumps(list(entries), indent=2, ensure_ascii=False) + "\n"
