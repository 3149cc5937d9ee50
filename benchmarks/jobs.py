"""Measure how much faster jobs explore: `python -m benchmarks.jobs`.

The same search by one process and by several, in turn, as whole commands: the medians, their ratio, and whether the
verdict, the outcomes and the witness are the same.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

#: Searches of some seconds, as options of `racebench explore`.
SEARCHES = {
    "unique-retry, 3 sessions, cursor": (
        "-s",
        "unique-retry",
        "--sessions",
        "3",
        "--consumer",
        "cursor",
        "--polls",
        "2",
    ),
    "sequence, 3 sessions, horizon": ("-s", "sequence", "--sessions", "3", "--consumer", "horizon", "--polls", "2"),
}
_SIZE = ("--sessions", "3", "--polls", "2")
#: A search that ends before other processes are started.
SHORT = ("-s", "naive")


def explored(words: tuple[str, ...], jobs: int, folder: Path) -> tuple[float, Any]:
    """The seconds of a whole command, and its document's exploration."""
    path = folder / "explored.json"
    command = [
        sys.executable,
        "-m",
        "racebench",
        "explore",
        *words,
        "--budget",
        "unlimited",
        "--seed",
        "1",
        "--no-save",
    ]
    begun = time.perf_counter()
    subprocess.run(
        [*command, "--jobs", str(jobs), "--json", str(path)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - begun
    return seconds, json.loads(path.read_text())["explorations"][0]


def findings(exploration: Any) -> tuple[Any, ...]:
    """What must not depend on the number of jobs."""
    outcomes = sorted(json.dumps({**outcome, "schedules": 0}, sort_keys=True) for outcome in exploration["outcomes"])
    witness = exploration["witness"] and exploration["witness"]["schedule"]
    return exploration["verdict"], exploration["explored"]["complete"], outcomes, witness


@click.command()
@click.option("--jobs", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(jobs: int, rounds: int) -> None:
    """Measure each search by one process and by several, in turn."""
    with tempfile.TemporaryDirectory() as name:
        searches = {title: (*words, *_SIZE) for title, words in SEARCHES.items()}
        for title, words in {**searches, "naive, which is short": SHORT}.items():
            times: dict[int, list[float]] = {1: [], jobs: []}
            schedules: dict[int, int] = {}
            found = set()
            for _ in range(rounds):
                for count, seconds in times.items():
                    taken, exploration = explored(words, count, Path(name))
                    seconds.append(taken)
                    schedules[count] = exploration["explored"]["run"]
                    found.add(json.dumps(findings(exploration)))
            one, several = (statistics.median(times[count]) for count in (1, jobs))
            click.echo(
                f"{title}: 1 process {one:.2f} s ({schedules[1]} schedules), {jobs} jobs {several:.2f} s "
                f"({schedules[jobs]} schedules), ratio {one / several:.2f}, "
                f"{'the same findings' if len(found) == 1 else 'OTHER FINDINGS'}"
            )


if __name__ == "__main__":
    main()
