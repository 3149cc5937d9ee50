"""Many runs in one command: what `racebench matrix` and `compare` take beside the time that they measure.

The measured time is that of all runs together: their number times --duration. Between two runs a command reads and
judges the first, drops its schema, makes that of the next, and has its workers prepare. `run` is beside them, whose
whole time less its --duration is what a command takes that has one run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.measurement import (
    Document,
    Table,
    aim,
    alternating,
    document,
    finish,
    options,
    progress,
    sample,
    spread,
)
from benchmarks.programs import racebench_command, run_program
from racebench.postgres import environment
from racebench.postgres.embedded import EmbeddedServer

_STRATEGIES = ("-s", "sequence", "-s", "naive")
#: The commands by name. Of the whole matrix this is a part: two of its strategies, beside each of its consumers.
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "run": ("run", "-s", "naive"),
    "compare": ("compare", *_STRATEGIES, "--rounds", "7"),
    "matrix": ("matrix", *_STRATEGIES),
    "matrix, with transactions of 150 ms": ("matrix", *_STRATEGIES, "--hold", "1", "--long", "2:150"),
}
#: Every strategy beside each of its consumers, which takes minutes.
_WHOLE = {"matrix, all pairs": ("matrix",)}
#: The largest ratio of a command's time to the measured time.
_MOST = 1.25


def _measure(command: Sequence[str], duration: float) -> dict[str, float]:
    """Run a command once: its seconds, its runs, and the seconds that it measured."""
    more = ["--duration", f"{duration:g}", "--seed", "1", "--no-save", "--json", "-"]
    done = run_program([*racebench_command(), *command, *more])
    runs = len(json.loads(done.stdout)["runs"])
    return {"seconds": done.seconds, "runs": float(runs), "measured_s": runs * duration}


def _figures(runs_of: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What one command did in all rounds. `beside_ms`: a run's share of what is not measured."""
    return {
        "runs": runs_of[0]["runs"],
        "seconds": sample([run["seconds"] for run in runs_of]),
        "ratio": sample([run["seconds"] / run["measured_s"] for run in runs_of]),
        "beside_ms": sample([(run["seconds"] - run["measured_s"]) / run["runs"] * 1e3 for run in runs_of]),
    }


def tables(measured: Document) -> list[Table]:
    """One table."""
    cells = measured["cells"]
    return [
        Table(
            title=f"Commands of several runs, each of {measured['parameters']['duration_s']:g} s, 8 workers",
            columns=("command", "runs", "seconds", "to the measured time", "beside it, ms a run"),
            rows=tuple(
                (
                    cell["command"],
                    f"{cell['runs']:.0f}",
                    spread(cell["seconds"]),
                    spread(cell["ratio"]),
                    spread(cell["beside_ms"]),
                )
                for cell in cells
            ),
            notes=tuple(
                aim(f"`{cell['command']}`, ratio to the measured time", cell["ratio"]["median"], most=_MOST)
                for cell in cells
                if cell["runs"] > 1
            ),
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("campaigns", rounds=7)
@click.option(
    "--duration", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Measurement duration, in seconds."
)
@click.option("--whole", is_flag=True, help="Measure the whole matrix too, once.")
def main(*, rounds: int, duration: float, whole: bool, output: Path) -> None:
    """Measure, print, write."""
    order = [name for number in range(rounds) for name in alternating(list(_COMMANDS), number)]
    commands = {**_COMMANDS, **(_WHOLE if whole else {})}
    runs_of: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    order += _WHOLE if whole else ()
    with progress(len(order)) as tell:
        for name in order:
            tell(name)
            runs_of[name].append(_measure(commands[name], duration))
    with EmbeddedServer(connections=8) as target:
        server = environment.describe(target)
    measured = document(
        "campaigns",
        rounds=rounds,
        parameters={"duration_s": duration},
        server=server,
        cells=[{"command": name, **_figures(runs)} for name, runs in runs_of.items()],
    )
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
