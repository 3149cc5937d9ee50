"""Run a driver's own tests directly, through the proxy and through the gate, and compare what became of each test.

    python -m venv drivers
    drivers/bin/pip install psycopg2-binary asyncpg pg8000 pytest pytest-timeout pytz python-dateutil
    drivers/bin/pip download --no-deps --no-binary :all: psycopg2 asyncpg pg8000
    python -m benchmarks.drivers --python drivers/bin/python --dsn postgresql://postgres@127.0.0.1 psycopg2-2.9.*.tar.gz

The server is the user's: a new one, with trust authentication for a superuser `postgres`, max_prepared_transactions and
the extensions of contrib. The archives hold the tests; the drivers that run are those of that environment.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict

from benchmarks.between import gating, relaying
from racebench.postgres.external import external

_DATABASE = "driver_tests"
_LIMIT_S = 60


@contextlib.contextmanager
def _ports(dsn: str) -> Iterator[Mapping[str, str]]:
    """The port of each way to the server."""
    target = external(dsn)
    with relaying(target) as proxy, gating(target) as gate:
        direct = str(conninfo_to_dict(dsn).get("port", "5432"))
        yield {"direct": direct, "proxy": str(proxy.listen()), "gate": str(gate.listen())}


def _outcomes(python: Path, folder: Path, port: str, arguments: Sequence[str]) -> dict[str, str]:
    """What became of each test: passed, skipped, failed, error."""
    report = folder / "outcomes.xml"
    report.unlink(missing_ok=True)
    names = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "postgres", "PGDATABASE": _DATABASE}
    own = {"PSYCOPG2_TESTDB": _DATABASE, "PSYCOPG2_TEST_REPL_DSN": "", "PGSSLMODE": "disable", "PGPASSWORD": "pw"}
    tests = next(place for place in (folder / "tests", folder / "test") if place.is_dir())
    command = [python.absolute(), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={_LIMIT_S}"]
    command += [f"--junitxml={report}", "--import-mode=append", *(arguments or [tests.name])]
    with (folder / f"{port}.log").open("wb") as log:
        subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            env={**os.environ, **names, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        marks = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcomes[f"{case.get('classname')}.{case.get('name')}"] = "+".join(sorted(marks)) or "passed"
    return outcomes


@click.command(help=__doc__)
@click.option("--dsn", required=True, help="The server, as a superuser `postgres`, over TCP.")
@click.option("--python", required=True, type=click.Path(exists=True, path_type=Path), help="It has the drivers.")
@click.option("--only", multiple=True, help="What to run instead of all tests, as pytest's arguments.")
@click.argument("archives", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(dsn: str, python: Path, only: Sequence[str], archives: Sequence[Path]) -> None:
    differ = False
    with _ports(dsn) as ports, tempfile.TemporaryDirectory(prefix="racebench-drivers-") as folder:
        for archive in archives:
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            name = archive.name.removesuffix(".tar.gz")
            # The sources would be imported in place of what is installed.
            for part in Path(folder, name).iterdir():
                if part.is_dir() and part.name not in ("tests", "test") and (part / "__init__.py").exists():
                    part.rename(part.with_name(f"{part.name}-source"))
            results: dict[str, dict[str, str]] = {}
            for way, port in ports.items():
                with psycopg.connect(dsn, dbname="postgres", autocommit=True) as connection:
                    connection.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
                results[way] = _outcomes(python, Path(folder, name), port, only)
                click.echo(f"{name} {way}: {dict(Counter(results[way].values()))}")
            for way in ("proxy", "gate"):
                for test, outcome in results["direct"].items():
                    through = results[way].get(test, "missing")
                    if through != outcome:
                        differ = True
                        click.echo(f"  {way}: {test}: {through}, directly {outcome}")
    raise SystemExit(1 if differ else 0)


if __name__ == "__main__":
    main()
