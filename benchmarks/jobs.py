"""Exploring by several processes beside one: `python -m benchmarks.jobs`.

The same search by one process and by several, in turn, as whole commands: their times, and whether the verdict, the
outcomes and the witness are the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.levels import running
from benchmarks.measurement import (
    Document,
    Table,
    aim,
    alternating,
    document,
    finish,
    options,
    progress,
    ratios,
    sample,
    spread,
)

#: Searches of some seconds, and one that ends before other processes are started, as options of `racebench explore`.
SEARCHES: Mapping[str, tuple[str, ...]] = {
    "`unique-retry`, 3 sessions": ("-s", "unique-retry", "--sessions", "3", "--consumer", "cursor", "--polls", "2"),
    "`sequence`, 3 sessions": ("-s", "sequence", "--sessions", "3", "--consumer", "horizon", "--polls", "2"),
    "`advisory`, 3 sessions": ("-s", "advisory", "--sessions", "3", "--consumer", "cursor", "--polls", "2"),
    "`naive`, which is short": ("-s", "naive"),
}
_ALL = ("--budget", "unlimited", "--seed", "1", "--no-save")
_AIM = 1.6


def explored(words: tuple[str, ...], jobs: int, folder: Path) -> tuple[float, Any]:
    """The seconds of a whole command, and its document's exploration."""
    path = folder / "explored.json"
    command = [sys.executable, "-m", "racebench", "explore", *words, *_ALL, "--jobs", str(jobs), "--json", str(path)]
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode not in (0, 3):
        raise click.ClickException(f"racebench explore ended with exit code {done.returncode}: {done.stderr.strip()}")
    return seconds, json.loads(path.read_text())["explorations"][0]


def findings(exploration: Any) -> str:
    """What must not depend on the number of jobs."""
    outcomes = sorted(json.dumps({**outcome, "schedules": 0}, sort_keys=True) for outcome in exploration["outcomes"])
    witness = exploration["witness"] and exploration["witness"]["schedule"]
    return json.dumps([exploration["verdict"], exploration["explored"]["complete"], outcomes, witness])


def measure(title: str, words: tuple[str, ...], counts: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Run one search by both numbers of processes, alternating."""
    times: dict[int, list[float]] = {count: [] for count in counts}
    schedules: dict[int, int] = {}
    found = set()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for count in alternating(counts, number):
                seconds, exploration = explored(words, count, Path(folder))
                times[count].append(seconds)
                schedules[count] = exploration["explored"]["run"]
                found.add(findings(exploration))
    one, several = counts
    return {
        "search": title,
        "one": sample(times[one]),
        "several": sample(times[several]),
        "schedules": [schedules[one], schedules[several]],
        "same": len(found) == 1,
    }


def tables(measured: Document) -> list[Table]:
    """The times, and how much faster several processes are."""
    cells, jobs = measured["cells"], measured["parameters"]["jobs"]
    faster = [ratios(cell["one"], cell["several"]) for cell in cells]
    best = max(ratio["median"] for ratio in faster)
    return [
        Table(
            title=f"Seconds of `racebench explore`, one process and `--jobs {jobs}`",
            columns=("search", "one process", f"{jobs} jobs", "times as fast", "schedules", "same findings"),
            rows=tuple(
                (
                    cell["search"],
                    spread(cell["one"]),
                    spread(cell["several"]),
                    spread(ratio),
                    f"{cell['schedules'][0]:,}, {cell['schedules'][1]:,}",
                    "yes" if cell["same"] else "NO",
                )
                for cell, ratio in zip(cells, faster, strict=True)
            ),
            notes=(aim("The greatest gain of a search", best, least=_AIM),),
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--jobs", type=click.IntRange(2), default=2, show_default=True)
@options("jobs", rounds=5)
def main(*, jobs: int, rounds: int, output: Path) -> None:
    """Measure, print, write."""
    cells = []
    with progress(len(SEARCHES)) as tell:
        for title, words in SEARCHES.items():
            cells.append(measure(title, words, (1, jobs), rounds))
            tell(title)
    with running("18", {}) as (_target, described):
        measured = document("jobs", rounds=rounds, parameters={"jobs": jobs}, server=described, cells=cells)
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
