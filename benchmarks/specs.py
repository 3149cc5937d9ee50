"""PostgreSQL's own isolation specs, run by racebench and compared with their expected output, byte for byte.

The spec files belong to PostgreSQL (src/test/isolation in its source) and are not part of racebench: --specs names the
folder that has them. As in pg_regress, one database serves all specs of a round, and an output may equal NAME.out or
one of its alternatives, NAME_1.out to NAME_9.out. A difference is explained if a table of docs/specs.md has a reason
for this server and this spec; the exit code is 1 if one is not.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.measurement import ROOT, progress, words
from racebench.core.errors import RacebenchError
from racebench.core.target import Target
from racebench.exploration.isolationtester.place import Place, own_database
from racebench.exploration.isolationtester.runner import Runner
from racebench.exploration.isolationtester.specs import parse
from racebench.postgres.connection import connect
from racebench.postgres.embedded import VERSIONS
from racebench.postgres.external import external
from racebench.postgres.targets import open_target

PAGE = ROOT / "docs" / "specs.md"
#: More sessions than any of PostgreSQL's specs has.
_CONNECTIONS = 30

_REASON = re.compile(r"^\| *(?P<server>[\d.]+) *\| *`(?P<spec>[^`]+)` *\| *(?P<reason>[^|]+?) *\|$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one spec printed in one round, and the lines in which that differs from every expected output."""

    spec: str
    seconds: float
    text: str
    difference: tuple[str, ...]


def reasons(page: str, server: str) -> dict[str, str]:
    """The written reasons for a server, by spec: rows of a table with the columns server, spec, reason."""
    return {row["spec"]: row["reason"] for row in _REASON.finditer(page) if row["server"] == server}


def run_spec(place: Place, spec: Path, expected: Path) -> Outcome:
    """Run one spec and compare it, with what isolationtester writes to stderr, as pg_isolation_regress does."""
    started = time.monotonic()
    lines: list[str] = []
    try:
        parsed = parse(spec.read_text(), spec.name)
        lines += [f"unused step name: {name}\n" for name in parsed.unused]
        Runner(place, lines.append).run(parsed, spec.stem)
    except RacebenchError as problem:
        lines.append(f"racebench: {problem}\n")
    text = "".join(lines)
    return Outcome(
        spec=spec.stem, seconds=time.monotonic() - started, text=text, difference=_difference(text, spec.stem, expected)
    )


def _difference(text: str, spec: str, expected: Path) -> tuple[str, ...]:
    """The shortest difference from an expected output, as pg_regress chooses it; empty if one is equal."""
    paths = [expected / f"{spec}.out", *sorted(expected.glob(f"{spec}_[0-9].out"))]
    texts = {path.name: path.read_text() for path in paths if path.exists()}
    if not texts:
        return (f"no {spec}.out in {expected}\n",)
    differences = [
        tuple(difflib.unified_diff(wanted.splitlines(True), text.splitlines(True), name, "racebench"))
        for name, wanted in texts.items()
    ]
    return min(differences, key=len)


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep the machine busy meanwhile with processes that only compute."""
    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


def report(server: str, rounds: Sequence[Sequence[Outcome]], written: Mapping[str, str]) -> str:
    """The result as Markdown: how many passed in every round, and each spec that differed, with its reason."""
    specs = [outcome.spec for outcome in rounds[0]]
    differed = _differed(rounds)
    often = "1 round" if len(rounds) == 1 else f"every one of {len(rounds)} rounds"
    seconds = min(sum(outcome.seconds for outcome in outcomes) for outcomes in rounds)
    lines = [
        f"PostgreSQL {server}: {len(specs) - len(differed)} of {len(specs)} specs print what is expected, in {often} "
        f"({seconds:.0f} s for the fastest)."
    ]
    if differed:
        lines += ["", "| server | spec | rounds that differ | reason |", "|---|---|---:|---|"]
        lines += [
            f"| {server} | `{spec}` | {count} | {written.get(spec, 'NOT EXPLAINED')} |"
            for spec, count in differed.items()
        ]
    return "\n".join(lines)


def _differed(rounds: Sequence[Sequence[Outcome]]) -> dict[str, int]:
    """The specs that differed, with the number of rounds in which they did."""
    counts: dict[str, int] = {}
    for outcome in (outcome for outcomes in rounds for outcome in outcomes if outcome.difference):
        counts[outcome.spec] = counts.get(outcome.spec, 0) + 1
    return counts


def _save(folder: Path, number: int, outcome: Outcome) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{outcome.spec}.{number}.out").write_text(outcome.text)
    (folder / f"{outcome.spec}.{number}.diff").write_text("".join(outcome.difference))


def _target(server: str) -> tuple[Target | None, int]:
    """The user's server and 0, or None and the version of the embedded one."""
    if server.isdecimal():
        if int(server) not in VERSIONS:
            raise click.BadParameter(f"there is no embedded PostgreSQL {server}; give {VERSIONS} or a DSN")
        return None, int(server)
    return external(server), 0


def _files(specs: Path, only: Sequence[str]) -> list[Path]:
    files = sorted(path for path in specs.glob("*.spec") if not only or path.stem in only)
    if not files:
        raise click.ClickException(f"{specs} has no such spec; --specs names a folder like src/test/isolation/specs")
    return files


def _check_prepared(target: Target, files: Sequence[Path]) -> None:
    """Refuse a server on which the specs with PREPARE TRANSACTION cannot run."""
    with connect(target) as connection:
        allowed = connection.execute("SELECT current_setting('max_prepared_transactions')::int").fetchone()
    two_phase = [path.stem for path in files if "PREPARE TRANSACTION" in path.read_text().upper()]
    if allowed == (0,) and two_phase:
        raise click.ClickException(
            f"max_prepared_transactions is 0 on {target.label}, and {', '.join(two_phase)} need it: set it to 2"
        )


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option(
    "--specs", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="Folder of the specs."
)
@click.option(
    "--expected",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the expected outputs; by default 'expected' beside the folder of the specs.",
)
@click.option(
    "--server",
    default=str(VERSIONS[0]),
    show_default=True,
    help="18 or 16, the embedded server; or the DSN of a server, as a role that may create a database there.",
)
@click.option("--only", callback=words, default="", help="Names of specs, separated by commas.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--busy", "load", type=click.IntRange(0), default=0, show_default=True, help="Processes that compute meanwhile."
)
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), help="Folder for the outputs that differ.")
def main(
    *,
    specs: Path,
    expected: Path | None,
    server: str,
    only: Sequence[str],
    rounds: int,
    load: int,
    results: Path | None,
) -> None:
    """Run, print, and exit with 1 if a difference is not explained."""
    files = _files(specs, only)
    try:
        user, version = _target(server)
        with open_target(user, version=version, connections=_CONNECTIONS, superuser=user is None) as target:
            _check_prepared(target, files)
            release = _release(target)
            with busy(load), progress(rounds * len(files)) as tell:
                outcomes = [_round(target, files, expected or specs.parent / "expected", tell) for _ in range(rounds)]
    except RacebenchError as problem:
        raise click.ClickException(str(problem)) from None
    for number, outcomes_of_round in enumerate(outcomes, 1):
        for outcome in outcomes_of_round:
            if results is not None and outcome.difference:
                _save(results, number, outcome)
    written = reasons(PAGE.read_text(), release)
    click.echo(report(release, outcomes, written))
    sys.exit(any(spec not in written for spec in _differed(outcomes)))


def _release(target: Target) -> str:
    """The server's version, such as 15.20."""
    with connect(target) as connection:
        return (connection.info.parameter_status("server_version") or "").split()[0]


def _round(target: Target, files: Sequence[Path], expected: Path, tell: Callable[[str], None]) -> list[Outcome]:
    outcomes = []
    with own_database(target) as place:
        for path in files:
            outcomes.append(run_spec(place, path, expected))
            tell(path.stem)
    return outcomes


if __name__ == "__main__":
    main()
