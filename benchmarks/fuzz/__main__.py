"""Random programs: the explorer compared with itself without reduction, with a brute force, and through the wire.

Each program is drawn from a seed and its index, and explored on an embedded server whose commits do not reach the disk.
A difference between the sets of outcomes or between the verdicts that no rule explains is made smaller, and written as
a folder with the command that explores it again. The exit code is 1 if there is one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.fuzz import folder, generator
from benchmarks.fuzz.client import Shape
from benchmarks.fuzz.comparison import REDUCED, WIRE, Compared, Comparer
from benchmarks.fuzz.minimiser import minimise
from benchmarks.fuzz.program import Program
from racebench.postgres.embedded import EmbeddedServer

#: The server forgets everything when it ends, and its statistics and plans change only with the programs.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
#: Programs of one server, which is then started again.
_SHARE = 200
_SHAPES = [shape.value for shape in Shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Some programs of a seed, and what to do with differences. `most`, `seconds`: limits of one exploration."""

    seed: int
    indexes: Sequence[int]
    out: Path
    most: int
    seconds: float
    minimise_s: float
    serializable: bool
    crash: int
    #: The shapes in which programs are sent through the wire, in turn; none to stay in process.
    shapes: Sequence[Shape]

    def shape(self, program: Program) -> Shape | None:
        """The shape of a program."""
        index = int(program.name.partition(":")[2])
        return self.shapes[index % len(self.shapes)] if self.shapes else None


@dataclass(slots=True)
class Totals:
    """Counts of programs: by verdict of the reduced search, refused by reason, explained by rule."""

    programs: int = 0
    schedules: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)

    def add(self, compared: Compared) -> None:
        self.programs += 1
        self.schedules.update(compared.schedules)
        if compared.refused:
            self.refused[compared.refused] += 1
        else:
            self.verdicts[compared.verdicts[REDUCED if REDUCED in compared.verdicts else WIRE]] += 1
        self.explained.update(compared.explained.keys())
        if compared.differences:
            self.different.append(compared.program.name)

    def lines(self) -> Iterator[str]:
        """What is printed at the end."""
        yield f"{self.programs} programs, {len(self.different)} with a difference: {' '.join(self.different) or 'none'}"
        for what in ("schedules", "verdicts", "refused", "explained"):
            counts: Counter[str] = getattr(self, what)
            yield f"{what}: " + (", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none")


def run(task: Task) -> list[Compared]:
    """Compare some programs on a server of their own; says on stdout what differs."""
    results = []
    with (
        EmbeddedServer(connections=30, settings=SETTINGS) as target,
        closing(Comparer(target, most=task.most, seconds=task.seconds, crash=task.crash)) as comparer,
    ):
        for index in task.indexes:
            program = generator.generate(task.seed, index)
            program = generator.serializable(program) if task.serializable else program
            compared = comparer.compare(program, shape=task.shape(program))
            results.append(compared)
            if compared.differences:
                _report(comparer, compared, task)
    return results


def _report(comparer: Comparer, compared: Compared, task: Task) -> None:
    smaller = minimise(
        compared.program,
        lambda program: _differs(comparer.compare(program, again=False, shape=task.shape(program))),
        seconds=task.minimise_s,
    )
    last = comparer.compare(smaller, shape=task.shape(smaller))
    differences = last.differences or compared.differences
    place = task.out / compared.program.name.replace(":", "-")
    command = folder.write(last.program, place, task.seed, "\n".join(f"- {line}" for line in differences))
    click.echo(f"program {compared.program.name} differs; {command}")
    for line in differences[:3]:
        click.echo(f"  {line[:500]}")


def _differs(compared: Compared) -> bool:
    """Whether there is a difference, and no name was lost with the part of the setup that defined it."""
    undefined = any(sqlstate in str(compared.outcomes) for sqlstate in ("42P01", "42703", "42704", "42883"))
    return bool(compared.differences) and not undefined


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--seed", "seeds", type=int, multiple=True, default=(1,), show_default=True, help="Several are possible.")
@click.option("--programs", type=click.IntRange(1), default=1000, show_default=True, help="Programs of each seed.")
@click.option("--index", type=click.IntRange(0), help="Only the program with this index.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, each with a server.")
@click.option("--most", type=click.IntRange(1), default=200, show_default=True, help="Schedules of an exploration.")
@click.option("--seconds", type=float, default=5.0, show_default=True, help="Time limit of an exploration.")
@click.option("--serializable", is_flag=True, help="Make each session one SERIALIZABLE transaction with retries.")
@click.option("--wire", "wire", is_flag=True, help="Explore each program through the wire too, in every shape in turn.")
@click.option(
    "--shape",
    "shapes",
    type=click.Choice(_SHAPES),
    multiple=True,
    help="As --wire, in these shapes alone.",
)
@click.option("--crash", type=click.IntRange(0), default=0, show_default=True, help="Connections cut in a schedule.")
@click.option("--minimise", type=float, default=60.0, show_default=True, help="Seconds to make a program smaller.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("fuzz"), show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write the totals to.")
def main(
    *,
    seeds: tuple[int, ...],
    programs: int,
    index: int | None,
    jobs: int,
    most: int,
    seconds: float,
    minimise: float,
    serializable: bool,
    wire: bool,
    shapes: tuple[str, ...],
    crash: int,
    out: Path,
    output: Path | None,
) -> None:
    """Compare, print the totals, exit with 1 if there is a difference."""
    indexes = range(programs) if index is None else range(index, index + 1)
    tasks = [
        Task(
            seed=seed,
            indexes=indexes[at : at + _SHARE],
            out=out,
            most=most,
            seconds=seconds,
            minimise_s=minimise,
            serializable=serializable,
            shapes=tuple(Shape) if wire else tuple(map(Shape, shapes)),
            crash=crash,
        )
        for seed in seeds
        for at in range(0, len(indexes), _SHARE)
    ]
    totals = Totals()
    begun = time.monotonic()
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        for results in pool.map(run, tasks):
            for compared in results:
                totals.add(compared)
            click.echo(f"{totals.programs} programs in {time.monotonic() - begun:.0f} s", err=True)
    for line in totals.lines():
        click.echo(line)
    if output is not None:
        document: dict[str, Any] = {
            "seeds": list(seeds),
            "programs": totals.programs,
            "different": totals.different,
            "seconds": round(time.monotonic() - begun, 1),
            **{what: dict(getattr(totals, what)) for what in ("schedules", "verdicts", "refused", "explained")},
        }
        output.write_text(json.dumps(document, indent=1) + "\n")
    raise SystemExit(1 if totals.different else 0)


if __name__ == "__main__":
    main()
