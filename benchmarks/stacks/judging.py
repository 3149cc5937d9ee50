"""One case explored by racebench's command line, and compared with what it must give."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stacks.cases import Case
from benchmarks.stacks.stack import STACKS

#: Runs racebench with these words; the document goes to the path that they name.
Command = Callable[[Sequence[str]], Any]
_BUDGET = "300"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What racebench said of a case. `report`: everything that it printed; `wrong`: what differs from the case."""

    verdict: str
    schedules: int
    anomalous: int
    report: str
    wrong: tuple[str, ...]
    seconds: float


def words(case: Case, folder: Path) -> list[str]:
    """The command line that explores a case, from `explore` on; what must be compiled is put into the folder."""
    stack = STACKS[case.stack]
    variables = ["env", *(f"{name}={value}" for name, value in case.variables.items())] if case.variables else []
    command = [*case.before, *variables, *stack.command(folder)]
    return [
        "explore",
        *(_program(command, case) if stack.program else _service(command, case)),
        *("--sessions", str(case.sessions), "--setup", case.setup, "--invariant", case.invariant),
        *("--no-reduction", "--budget", _BUDGET, "--no-save", "--progress", "never"),
    ]


def _program(command: Sequence[str], case: Case) -> list[str]:
    return [word for operation in case.operations for word in ("--exec", shlex.join([*command, operation]))]


def _service(command: Sequence[str], case: Case) -> list[str]:
    paths = ["/orders" if operation == "transaction" else f"/orders/{operation}" for operation in case.operations]
    return [
        *("--serve", shlex.join(command)),
        *(word for path in paths for word in ("--http", f"POST {path}")),
        *("--instances", "shared" if case.shared else "each"),
    ]


def judge(case: Case, folder: Path, command: Command | None = None) -> Judged:
    """Explore a case, and compare the verdict, the number of schedules, and what must be named."""
    document = folder / "explored.json"
    document.unlink(missing_ok=True)
    begin = time.perf_counter()
    report = str((command or _run)([*words(case, folder), "--json", str(document)]))
    seconds = time.perf_counter() - begin
    if not document.exists():
        return Judged(verdict="–", schedules=0, anomalous=0, report=report, wrong=("no result",), seconds=seconds)
    (explored,) = json.loads(document.read_text(encoding="utf-8"))["explorations"]
    verdict, schedules, anomalous = explored["verdict"], explored["explored"]["run"], explored["explored"]["anomalous"]
    wrong = [f"{verdict} in place of {case.verdict}"] if verdict != case.verdict else []
    if case.schedules not in (None, schedules):
        wrong.append(f"{schedules} schedules in place of {case.schedules}")
    if case.anomalous not in (None, anomalous):
        wrong.append(f"{anomalous} with an anomaly in place of {case.anomalous}")
    flat = " ".join(report.split())
    wrong += [f"'{text}' is not in the report" for text in case.says if text not in flat]
    return Judged(
        verdict=verdict, schedules=schedules, anomalous=anomalous, report=report, wrong=tuple(wrong), seconds=seconds
    )


def missing(case: Case) -> str:
    """What is not installed for a case; "" if everything is."""
    return STACKS[case.stack].missing


def _run(arguments: Sequence[str]) -> str:
    done = subprocess.run([sys.executable, "-m", "racebench", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
