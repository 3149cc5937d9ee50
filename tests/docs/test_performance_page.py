"""docs/performance.md agrees with results/reference. No benchmark is run here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
NAMES = ("load", "detection", "check", "start", "campaigns", "live", "consumer", "explore", "frontrun")


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)  # benchmarks/ is not part of the package


def cell(low: float, high: float) -> dict[str, object]:
    from benchmarks.measurement import sample

    return {"throughput_per_s": sample([low, high]), "client_cpu_us": sample([None, None])}


def document(cells: list[dict[str, object]]) -> dict[str, object]:
    return {
        "benchmark": "load",
        "created": "2026-01-02T03:04:05Z",
        "rounds": 2,
        "parameters": {},
        "machine": {"processor": None, "cpu_count": 2, "memory_gb": 8.0, "machine": "x86_64", "system": "Linux 6"},
        "versions": {"python": "3.11.7", "pgbench": "18.4"},
        "server": {"server_version": "18.4"},
        "cells": cells,
    }


def test_every_table_of_the_page_agrees_with_its_figures() -> None:
    from benchmarks.page import render

    assert render(PAGE) == PAGE, "make it again: python -m benchmarks.page"


def test_the_page_has_a_place_for_every_benchmark() -> None:
    assert tuple(re.findall(r"<!-- table: (\S+) -->", PAGE)) == NAMES
    assert PAGE.count("<!-- end -->") == len(NAMES)


def test_every_command_of_the_page_exists() -> None:
    names = re.findall(r"python -m benchmarks\.(\w+)", PAGE)
    assert len(names) >= len(NAMES)
    for name in names:
        assert (ROOT / "benchmarks" / f"{name}.py").exists(), name


def test_a_benchmark_without_figures_says_so(tmp_path: Path) -> None:
    from benchmarks.page import render

    assert render(PAGE, tmp_path).count("Not measured yet.") == len(NAMES)


def test_a_cell_is_compared_with_pgbench_in_the_same_arrangement_and_with_its_best_threads() -> None:
    from benchmarks import load
    from benchmarks.measurement import markdown

    contestants = {
        "racebench prepared": cell(90, 110),
        "racebench prepared without the extension": cell(50, 50),
        "pgbench prepared -j 1": cell(100, 100),
        "pgbench prepared -j 2": cell(80, 80),
    }
    made = document([{"strategy": "naive", "workers": 2, "connections": 1, "contestants": contestants}])
    text = markdown(made, load.tables(made))
    ours = "| `naive` | 2 | 100 [90.0–110] | 80.0 [80.0–80.0] | 1.25 [1.12–1.38] | 2.00 [1.80–2.20] |"
    assert f"{ours} 100 [100–100] (-j 1) | 1.00 [0.90–1.10] | – | – |" in text
    assert "Median ratio of all cells, same arrangement: aim at least 0.97; 1.25, met." in text
    assert "its median is 2.00." in text
    assert text.startswith("Measured on 2026-01-02: 2 cores, 8 GB, Linux 6, PostgreSQL 18.4, Python 3.11.7, pgbench")


def test_several_connections_of_a_process_are_compared_with_as_many_clients_of_a_thread() -> None:
    from benchmarks import load
    from benchmarks.measurement import markdown

    contestants = {"racebench prepared": cell(90, 90), "pgbench prepared -j 2": cell(100, 100)}
    made = document([{"strategy": "naive", "workers": 2, "connections": 4, "contestants": contestants}])
    text = markdown(made, load.tables(made))
    assert "| `naive` | 2 × 4 | 90.0 [90.0–90.0] | 100 [100–100] | 0.90 [0.90–0.90] | – | – | – |" in text
    assert "Median ratio of all cells, multiplexed: aim at least 0.95; 0.90, NOT met." in text
    assert "racebench ran without its extension." in text


def test_a_ratio_is_of_the_medians_and_its_spread_within_rounds() -> None:
    from benchmarks.measurement import ratios, sample

    found = ratios(sample([10.0, 30.0, None]), sample([10.0, 10.0, 10.0]))
    assert (found["median"], found["min"], found["max"]) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_in_alternating_rounds_each_contestant_runs_before_each_other_as_often_as_after(count: int) -> None:
    from benchmarks.measurement import alternating

    contestants = list(range(count))
    rounds = [alternating(contestants, number) for number in range(2 * count)]
    assert all(sorted(each) == contestants for each in rounds)
    for one in contestants:
        for other in contestants[:one]:
            assert sum(each.index(one) < each.index(other) for each in rounds) == count
        assert sorted(each.index(one) for each in rounds) == sorted([*contestants, *contestants])


def test_a_synthetic_history_contains_the_expected_anomalies(tmp_path: Path) -> None:
    from benchmarks import checkers, synthetic

    synthetic.write(tmp_path, 3 * synthetic.STRETCH)
    _, counts = checkers.with_racebench(tmp_path)
    assert counts == synthetic.expected(3 * synthetic.STRETCH)
