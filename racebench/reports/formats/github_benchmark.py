"""github-action-benchmark's input: arrays of named values, one for each of its two custom tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from racebench.analysis.comparison import Compared
from racebench.analysis.estimates import Estimate
from racebench.core import json_text
from racebench.core.anomalies import ANOMALIES
from racebench.core.quantity import quantity
from racebench.core.results import RunResult
from racebench.reports.formats import Material
from racebench.reports.formats.cases import names
from racebench.reports.results.document import Document
from racebench.reports.server import server_of


def bigger(material: Material) -> str:
    """For `tool: customBiggerIsBetter`: each run's throughput; of a comparison each strategy's, with its interval."""
    document = material.runs
    if document.comparison is not None:
        return _array(
            _of_comparison(document, one, "throughput", "commits/s", one.throughput_per_s.value, one.throughput_per_s)
            for one in document.comparison.strategies
            if one.throughput_per_s is not None
        )
    return _array(
        _entry(document, run, f"{name}: throughput", "commits/s", run.throughput_per_s)
        for run, name in _named(document)
    )


def smaller(material: Material) -> str:
    """For `tool: customSmallerIsBetter`: each run's latency, if anything was committed, and forbidden anomalies."""
    document = material.runs
    if document.comparison is not None:
        return _array(entry for one in document.comparison.strategies for entry in _of_strategy(document, one))
    return _array(entry for run, name in _named(document) for entry in _of_run(document, run, name))


def _of_strategy(document: Document, one: Compared) -> Iterator[dict[str, Any]]:
    for percentile, us in one.latency_us.items():
        if us is not None:
            ms = Estimate(value=us.value / 1e3, low=us.low / 1e3, high=us.high / 1e3)
            yield _of_comparison(document, one, percentile, "ms", ms.value, ms)
    for kind in document.runs[0].forbidden:
        yield _of_comparison(document, one, kind, ANOMALIES[kind].unit, one.counts[kind], None)


def _of_comparison(
    document: Document, one: Compared, what: str, unit: str, value: float, interval: Estimate | None
) -> dict[str, Any]:
    """One figure of a strategy over all rounds; its range is the wider half of its interval."""
    run = next(run for run in document.runs if run.strategy == one.strategy)
    entry = _entry(document, run, f"{run.scenario}/{one.strategy}: {what}", unit, value)
    size = f"{quantity(one.runs, 'run')}, {quantity(run.load.workers, 'worker')}"
    entry["extra"] = f"{one.verdict.value} in {size}, {server_of(document)}"
    if interval is not None:
        entry["range"] = f"± {max(interval.high - value, value - interval.low):.3g}"
    return entry


def _of_run(document: Document, run: RunResult, name: str) -> Iterator[dict[str, Any]]:
    for percentile in ("p50", "p99"):
        us = run.latency_us[percentile]
        if us is not None:
            yield _entry(document, run, f"{name}: {percentile}", "ms", us / 1e3)
    for kind in run.forbidden:
        yield _entry(document, run, f"{name}: {kind}", ANOMALIES[kind].unit, run.counts[kind])


def _named(document: Document) -> Iterator[tuple[RunResult, str]]:
    for run, name in zip(document.runs, names(document), strict=True):
        yield run, f"{run.scenario}/{name}"


def _entry(document: Document, run: RunResult, name: str, unit: str, value: float) -> dict[str, Any]:
    load = run.load
    extra = f"{run.verdict.value}, {quantity(load.workers, 'worker')}, seed {load.seed}, {server_of(document)}"
    return {"name": name, "unit": unit, "value": value, "extra": extra}


def _array(entries: Iterator[dict[str, Any]]) -> str:
    return json_text.dumps(list(entries)) + "\n"
