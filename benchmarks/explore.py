"""The explorer compared with isolationtester: schedules a second, for the same schedules on the same server.

isolationtester cannot pass a value from one statement to the next, so its sessions send the same statements with the
numbers written in. It gets only the schedules that can happen, as the explorer found them, because it waits 360 s in a
schedule that cannot. isolationtester creates and drops the table for every permutation. The explorer creates a schema
once (counted in its time to a verdict, not in its rate), and uses a new tenant for every schedule. Commits wait for the
disk on neither side.

Then the explorer alone: the time to the first witness, and the time to a verdict for three sessions.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
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
    ratios,
    sample,
    spread,
)
from benchmarks.programs import Server, running_server
from racebench.core.target import Target
from racebench.exploration import explorer
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.postgres.external import external
from racebench.workloads import catalog

STRATEGIES = ("naive", "unique", "advisory")
_AIMS = {"naive": 1.5, "unique": 4.0, "advisory": 8.0}
_FOLDERS = ("/usr/lib/postgresql/*/lib/pgxs/src/test/isolation/isolationtester",)
_RACEBENCH, _PEER = "racebench explore --no-reduction", "isolationtester"
_VERDICT_S, _LONGEST_S = 2.0, 60.0

_SETUP = """setup
{
  CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant integer NOT NULL, version bigint,
    payload text NOT NULL, operation bigint NOT NULL);
  CREATE INDEX events_by_version ON events (tenant, version);
  %s
}
teardown { DROP TABLE events; }
"""
_UNIQUE = "ALTER TABLE events ADD CONSTRAINT events_version UNIQUE (tenant, version);"
_LOCK = "SELECT pg_advisory_xact_lock('events'::regclass::int, 1);"
_MAX = "SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = 1;"
_INSERT = "INSERT INTO events (tenant, version, payload, operation) VALUES (1, 1, 'x', {session});"


def _statements(strategy: str) -> list[str]:
    return ["BEGIN;", *([_LOCK] if strategy == "advisory" else []), _MAX, _INSERT, "COMMIT;"]


def _spec(strategy: str, orders: Sequence[Sequence[int]]) -> str:
    text = _SETUP % (_UNIQUE if strategy == "unique" else "")
    for session in (1, 2):
        steps = "".join(
            f"step s{session}_{number} {{ {sql.format(session=session)} }}\n"
            for number, sql in enumerate(_statements(strategy))
        )
        text += f"session s{session}\n{steps}"
    for order in orders:
        taken = {1: 0, 2: 0}
        names = []
        for session in order:
            names.append(f"s{session}_{taken[session]}")
            taken[session] += 1
        # A refused session goes on to its COMMIT here, which then rolls back.
        for session, count in taken.items():
            names += [f"s{session}_{number}" for number in range(count, len(_statements(strategy)))]
        text += f"permutation {' '.join(names)}\n"
    return text


def _isolationtester() -> Path:
    for pattern in _FOLDERS:
        for file in sorted(Path("/").glob(pattern.lstrip("/"))):
            return file
    raise click.ClickException("isolationtester is not installed; install postgresql-server-dev (Debian has it there)")


def _explore(target: Target, strategy: str) -> tuple[Exploration, list[tuple[int, ...]]]:
    schedules: list[tuple[int, ...]] = []
    asked = _asked(strategy, reduce=False)
    exploration = explorer.explore(target, asked, ended=lambda ended: schedules.append(ended.schedule))
    return exploration, schedules


def _asked(strategy: str, **more: Any) -> ExplorationRequest:
    scenario = catalog.find_scenario("version-counter")
    return ExplorationRequest(scenario=scenario, strategy=scenario.strategies[strategy], **more)


def _alone(target: Target, rounds: int, tell: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The verdicts for three sessions, and the first witness of naive with two."""
    scenario = catalog.find_scenario("version-counter")
    seconds: dict[str, list[float]] = {name: [] for name in scenario.strategies}
    explorations: dict[str, Exploration] = {}
    first: list[Exploration] = []
    for number in range(rounds):
        for name in alternating(list(seconds), number):
            tell(f"{name}, three sessions")
            explorations[name] = explorer.explore(target, _asked(name, sessions=3))
            seconds[name].append(explorations[name].seconds)
        tell("naive, first witness")
        first.append(explorer.explore(target, _asked("naive", stop_at_first=True)))
    three = [
        {
            "strategy": name,
            "verdict": exploration.verdict.value,
            "right": not exploration.expected,
            "complete": exploration.complete,
            "orders": exploration.run,
            "seconds": sample(seconds[name]),
        }
        for name, exploration in explorations.items()
    ]
    return three, {
        "schedules": sample([exploration.run for exploration in first]),
        "seconds": sample([exploration.seconds for exploration in first]),
    }


def _rate_of_isolationtester(program: Path, server: Server, spec: Path, count: int) -> float:
    conninfo = f"{server.dsn} options='-c synchronous_commit=off'"
    begin = time.perf_counter()
    with spec.open("rb") as text:
        done = subprocess.run([str(program), conninfo], stdin=text, capture_output=True, check=False)
    seconds = time.perf_counter() - begin
    permutations = done.stdout.count(b"starting permutation")
    if done.returncode != 0 or permutations != count:
        raise click.ClickException(
            f"isolationtester ran {permutations} of {count}: {(done.stderr or done.stdout).decode()[-500:]}"
        )
    return count / seconds


def tables(measured: Document) -> list[Table]:
    """The tables: one line for each strategy."""
    rows: list[tuple[str, ...]] = []
    aims: list[str] = []
    for cell in measured["cells"]:
        contestants: Mapping[str, Any] = cell["contestants"]
        ratio = ratios(contestants[_RACEBENCH], contestants[_PEER])
        name = cell["strategy"]
        rows.append(
            (
                f"`{name}`",
                str(cell["orders"]),
                spread(contestants[_RACEBENCH]),
                spread(contestants[_PEER]),
                spread(ratio),
            )
        )
        aims.append(aim(f"`{name}`: schedules a second to isolationtester's", ratio["median"], least=_AIMS[name]))
    return [
        Table(
            title="Schedules a second, two sessions, every schedule that can happen",
            columns=("strategy", "schedules", "racebench", "isolationtester", "ratio"),
            rows=tuple(rows),
            names=1,
            notes=(
                *aims,
                "Seconds to a verdict, connecting, schema and search: "
                + spread(sample(measured["seconds_to_verdict"]))
                + ".",
            ),
        ),
        _three(measured),
    ]


def _three(measured: Document) -> Table:
    first = measured["first_witness"]
    took = [(strategy["seconds"]["median"], strategy["right"]) for strategy in measured["three_sessions"]]
    return Table(
        title="Three sessions, reduced: seconds to a verdict",
        columns=("strategy", "verdict", "schedules", "seconds"),
        rows=tuple(
            (f"`{strategy['strategy']}`", strategy["verdict"], f"{strategy['orders']:,}", spread(strategy["seconds"]))
            for strategy in measured["three_sessions"]
        ),
        names=2,
        notes=(
            aim(
                "Slowest verdict for a right strategy, s",
                max(seconds for seconds, right in took if right),
                most=_VERDICT_S,
            ),
            aim("Slowest verdict, s", max(took)[0], most=_LONGEST_S),
            aim("`naive`, two sessions: schedules to the first witness", first["schedules"]["max"], most=2),
            aim("`naive`, two sessions: seconds from connecting to the witness", first["seconds"]["median"], most=0.1),
        ),
    )


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@options("explore", rounds=7)
def main(*, rounds: int, output: Path) -> None:
    """Measure, print, write."""
    program = _isolationtester()
    cells, verdicts = [], []
    with running_server() as server, tempfile.TemporaryDirectory() as folder, progress(rounds * (2 * 3 + 28)) as tell:
        target = external(server.dsn)
        for strategy in STRATEGIES:
            _, orders = _explore(target, strategy)
            spec = Path(folder) / f"{strategy}.spec"
            spec.write_text(_spec(strategy, orders))
            rates: dict[str, list[float]] = {_RACEBENCH: [], _PEER: []}
            for number in range(rounds):
                for name in alternating([_RACEBENCH, _PEER], number):
                    tell(f"{strategy} {name}")
                    if name == _PEER:
                        rates[name].append(_rate_of_isolationtester(program, server, spec, len(orders)))
                    else:
                        begin = time.perf_counter()
                        exploration, _ = _explore(target, strategy)
                        verdicts.append(time.perf_counter() - begin)
                        rates[name].append(exploration.schedules_per_s)
            cells.append(
                {
                    "strategy": strategy,
                    "orders": len(orders),
                    "contestants": {name: sample(figures) for name, figures in rates.items()},
                }
            )
        three, first = _alone(target, rounds, tell)
        measured = document("explore", rounds=rounds, parameters={}, server=server.description, cells=cells)
        measured |= {"seconds_to_verdict": verdicts, "three_sessions": three, "first_witness": first}
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
