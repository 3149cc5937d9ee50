"""Where SERIALIZABLE holds: access method, predicate and isolation level, two sessions, every schedule.

Two sessions search for a row, and insert it if it is not there; a session that is refused tries again. Right is one row
at the end, as one session after the other leaves; wrong is two. The tables, indexes and predicates are in
access_methods.py. READ COMMITTED and REPEATABLE READ do not depend on the access method, so only one of the three
places is explored there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from psycopg import sql

from benchmarks.access_methods import FEW, INDEX, MANY, SEARCHED, Gap, Searched
from benchmarks.levels import LEVELS, running, servers_and_output, spent, united
from benchmarks.measurement import Document, Table, document, finish, progress
from racebench.core.model import Origin, Retry, Scenario, ScheduleIsolation, SqlFile, Strategy
from racebench.core.target import Target
from racebench.exploration import explorer
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.outcome import ScheduleResult
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.exploration.search import Diverged
from racebench.postgres.connection import connect
from racebench.workloads import scripts

#: The planner takes an index wherever it can, as it does by itself on a large table. Up to PostgreSQL 17 a plan without
#: an index has a cost then for which the server would compile it.
SETTINGS = {"enable_seqscan": "off", "jit": "off"}
_SERIALIZABLE = LEVELS[-1]
_SMALL, _INSIDE, _OUTSIDE = f"{FEW} rows", f"{MANY:,} rows, inside a leaf", f"{MANY:,} rows, outside every leaf"
#: How often a cell is explored in which the server draws.
_ROUNDS = 5
#: A row that another session has is refused by an exclusion constraint.
_REFUSED = frozenset({"40001", "40P01", "23P01"})

_SCRIPT = """\
BEGIN;
SELECT count(*) AS present FROM items WHERE {condition} \\gset
\\if :present = 0
INSERT INTO items VALUES ({values});
\\endif
COMMIT;
"""


def scenario(searched: Searched, gap: Gap, rows: int, level: str) -> Scenario:
    """Two sessions that search a gap and fill it, as own code of racebench."""
    strategy = Strategy(
        name="search-then-insert",
        summary="search, and insert if nothing is there",
        script=scripts.parse(
            _SCRIPT.format(condition=gap.condition, values=gap.values), Path("search-then-insert.sql")
        ),
        isolation=level,
        retry=Retry(sqlstates=_REFUSED),
    )
    return Scenario(
        name="indexes",
        title="indexes",
        summary=f"{searched.method}, {searched.predicate}",
        folder=Path(),
        schema=(SqlFile(path=Path("setup.sql"), text=searched.setup(rows)),),
        rows=None,
        invariants={"one row": f"SELECT count(*) FROM items WHERE {gap.condition} HAVING count(*) > 1"},
        measures={},
        lines={},
        once=False,
        forbid=("violations",),
        advise=None,
        strategies={strategy.name: strategy},
        consumers={},
        schedule_isolation=ScheduleIsolation.RESTORED_TABLES,
        origin=Origin.OWN_CODE,
        options=None,
    )


def places(searched: Searched) -> dict[str, tuple[Gap, int]]:
    """The gaps to explore: each with the number of rows beside it. Without an index there is one place."""
    places = {_OUTSIDE: (searched.outside, MANY)}
    if searched.method != "none":
        places = {_SMALL: (searched.outside, FEW), _INSIDE: (searched.inside, MANY), **places}
    return places


def measure(target: Target, searched: Searched, gap: Gap, rows: int, level: str) -> dict[str, Any]:
    """Explore two sessions at a gap; if the server draws leaves, some times, and the schedules are summed."""
    begin = time.perf_counter()
    rounds = _ROUNDS if searched.drawn and level == _SERIALIZABLE else 1
    ended: list[ScheduleResult] = []
    complete = True
    for _ in range(rounds):
        subject = scenario(searched, gap, rows, level)
        (strategy,) = subject.strategies.values()
        request = ExplorationRequest(scenario=subject, strategy=strategy, oracle=Oracle.STATE)
        explored: list[Exploration] = []
        # The witness may end in another way when it is run again, or its steps be others.
        with contextlib.suppress(Diverged):
            explored.append(explorer.explore(target, request, ended=ended.append, interrupted=explored.append))
        complete &= bool(explored) and explored[-1].complete
    return {
        "rounds": rounds,
        "wrong": sum(result.counts["violations"] > 0 for result in ended),
        "non_serializable": sum(result.counts["non-serializable"] > 0 for result in ended),
        "differ": sum(
            not result.unjudged and bool(result.counts["violations"]) != bool(result.counts["non-serializable"])
            for result in ended
        ),
        "unjudged": sum(result.unjudged for result in ended),
        "refused": sum(any(tries > 1 for *_, tries in result.signature[0]) for result in ended),
        "schedules": len(ended),
        "complete": complete,
        "seconds": time.perf_counter() - begin,
    }


def plan(target: Target, searched: Searched, gap: Gap, rows: int) -> dict[str, Any]:
    """How the server runs the search: the node that scans, whether it uses the index, and the index's pages."""
    schema = sql.Identifier("plan_of_a_search")
    with connect(target) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {0}; SET search_path = {0}, public").format(schema))
        try:
            connection.execute(searched.setup(rows).encode())
            query = f"EXPLAIN (FORMAT JSON) SELECT count(*) FROM items WHERE {gap.condition}"
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            scans = [node for node in _nodes(row[0][0]["Plan"]) if "Plans" not in node]
            pages = "SELECT coalesce(pg_relation_size(to_regclass(%s)), 0) / current_setting('block_size')::int"
            size = connection.execute(pages, (INDEX,)).fetchone()
            assert size is not None
        finally:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))
    by_index = all(node.get("Index Name") == INDEX for node in scans)
    return {"scan": scans[0]["Node Type"], "by_index": by_index, "pages": int(size[0])}


def _nodes(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [node, *(inner for part in node.get("Plans", ()) for inner in _nodes(part))]


def _cells(target: Target, version: str, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Every cell of a server."""
    for searched in SEARCHED:
        tell(f"{searched.method}, {searched.predicate}")
        if searched.extension and not _has(target, searched.extension):
            continue
        for place, (gap, rows) in places(searched).items():
            how = plan(target, searched, gap, rows)
            for level in LEVELS if place == _OUTSIDE else (_SERIALIZABLE,):
                named = {"method": searched.method, "predicate": searched.predicate, "place": place, "level": level}
                yield {"server": version, **named, **how, **measure(target, searched, gap, rows, level)}


def _has(target: Target, extension: str) -> bool:
    """Whether a server has an extension, which is created if it can be."""
    with connect(target) as connection:
        if connection.execute("SELECT FROM pg_available_extensions WHERE name = %s", (extension,)).fetchone() is None:
            return False
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA public").format(sql.Identifier(extension)))
    return True


def _text(cell: Mapping[str, Any]) -> str:
    """The verdict, and whether the search did not use the index that the row is about."""
    drawn = f" in {cell['rounds']} rounds" if cell["rounds"] > 1 else ""
    other = "" if cell["by_index"] or cell["method"] == "none" else f", {cell['scan']}"
    proved = cell["complete"] and not drawn
    verdict = "**wrong**" if cell["wrong"] else "right" if proved else "not seen"
    return f"{verdict}: {cell['wrong']} of {cell['schedules']}{drawn}{other}"


def tables(measured: Document) -> list[Table]:
    """One row for each access method and predicate."""
    cells = measured["cells"]
    versions = [server["server_version"] for server in measured["servers"]]
    columns = [(_OUTSIDE, level) for level in LEVELS[:-1]]
    columns += [(place, _SERIALIZABLE) for place in (_SMALL, _INSIDE, _OUTSIDE)]
    rows = []
    for searched in SEARCHED:
        own = [c for c in cells if (c["method"], c["predicate"]) == (searched.method, searched.predicate)]
        if own:
            texts = [
                united(versions, [c for c in own if (c["place"], c["level"]) == column], _text) for column in columns
            ]
            scans = ", ".join(dict.fromkeys(cell["scan"] for cell in own))
            rows.append((searched.method, f"`{searched.predicate}`", scans, *texts))
    differ, unjudged = (sum(cell[key] for cell in cells) for key in ("differ", "unjudged"))
    return [
        Table(
            title="Two sessions search, and insert if nothing is there: schedules that leave two rows",
            columns=("method", "predicate", "scan", *LEVELS[:-1], *(f"serializable: {p}" for p, _ in columns[2:])),
            rows=tuple(rows),
            names=3,
            notes=(
                f"Schedules that leave two rows and are serializable, or the contrary: {differ}.",
                "Schedules that were not compared with serial orders, because they end in another way when run "
                f"again: {unjudged}.",
                spent(versions, cells),
            ),
        )
    ]


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@servers_and_output("indexes")
def main(*, servers: tuple[str, ...], output: Path) -> None:
    """Explore, print, write."""
    cells, descriptions = [], []
    with progress(len(servers) * len(SEARCHED)) as tell:
        for server in servers:
            with running(server, SETTINGS) as (target, description):
                descriptions.append(description)
                cells += _cells(target, description["server_version"], tell)
    measured = document("indexes", rounds=1, parameters=SETTINGS, servers=descriptions, cells=cells)
    finish(measured, tables(measured), output)


if __name__ == "__main__":
    main()
