"""docs/reliability.md agrees with the faults of benchmarks/faults and with results/reference. No trial is run here."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.faults.families import FAULTS
from benchmarks.faults.subjects import DRIVERS
from benchmarks.page import render
from racebench.core.errors import ExitCode

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_table_of_the_page_agrees_with_the_faults_and_the_figures() -> None:
    assert render(PAGE) == PAGE, "make it again: python -m benchmarks.page"


def test_the_page_has_its_tables() -> None:
    assert re.findall(r"<!-- table: (\S+) -->", PAGE) == ["promises", "injected", "faults"]


def test_every_promised_exit_code_is_documented() -> None:
    documented = {int(code) for code in ExitCode} | {-9}
    for fault in FAULTS.values():
        assert set(fault.promise.codes) <= documented, fault.name


def test_every_fault_says_why_commands_are_left_out() -> None:
    for fault in FAULTS.values():
        assert set(fault.drivers) <= set(DRIVERS), fault.name
        assert bool(fault.elsewhere) == (set(fault.drivers) != set(DRIVERS)), fault.name
