"""docs/findings/: the statements of each page are run by psql as printed, and its strategies are explored.

Its specs are tested in tests/exploration/test_specs.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from conftest import Command, UsersServer
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration.explorer import explore
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.request import ExplorationRequest, judged
from racebench.postgres.connection import connect
from racebench.postgres.embedded import wheel_programs
from racebench.postgres.standby import Replay, mark
from racebench.workloads import catalog
from waiting import wait_for

FINDINGS = Path(__file__).parents[2] / "docs" / "findings"
PSQL = shutil.which("psql")
REFUSED = "could not serialize access due to read/write dependencies among transactions"


def blocks(page: str) -> list[tuple[str, str]]:
    """Each block of SQL with the terminal that runs it, in the order of the page."""
    return re.findall(r"(Terminal \d)[^.:]*:\n\n```sql\n(.*?)```", (FINDINGS / page).read_text(), re.DOTALL)


class Terminal:
    """A psql that is given one block after the other."""

    def __init__(self, dsn: str, psql: str | Path | None = PSQL) -> None:
        self._psql = subprocess.Popen(
            [str(psql), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, block: str) -> list[str]:
        """Send a block, and wait for its end; what it prints, as lines."""
        assert self._psql.stdin is not None
        assert self._psql.stdout is not None
        self._psql.stdin.write(f"{block}\\echo the end\n")
        self._psql.stdin.flush()
        return [line.rstrip("\n") for line in iter(self._psql.stdout.readline, "the end\n") if line]

    def close(self) -> None:
        self._psql.communicate()


@contextmanager
def terminals(server: UsersServer) -> Iterator[dict[str, Terminal]]:
    with psycopg.connect(server.dsn(), autocommit=True) as admin, ExitStack() as stack:
        admin.execute("CREATE DATABASE findings")
        stack.callback(admin.execute, "DROP DATABASE findings")
        opened = {name: Terminal(server.dsn(dbname="findings")) for name in ("Terminal 1", "Terminal 2")}
        for terminal in opened.values():
            stack.callback(terminal.close)
        yield opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a page prints at its end, what it prints with one change, and the block that is refused then."""

    broken: list[str]
    change: tuple[str, str]
    right: list[str]
    refused: int


BROKEN = {
    "serializable-gist.md": Finding(
        broken=["[2000,2002)", "[2000,2002)"], change=("USING gist", "USING spgist"), right=["[2000,2002)"], refused=4
    ),
    "serializable-summarized.md": Finding(broken=["0"], change=("1 .. 5000", "1 .. 5"), right=["1"], refused=2),
}


@pytest.mark.skipif(PSQL is None, reason="psql is not installed")
@pytest.mark.parametrize("page", BROKEN)
def test_the_statements_of_a_page_break_serializable_and_with_the_change_that_it_names_one_is_refused(
    users_server: UsersServer, page: str
) -> None:
    finding = BROKEN[page]
    printed = blocks(page)
    with terminals(users_server) as opened:
        output = [opened[terminal].run(sql) for terminal, sql in printed]
    assert output[-1] == finding.broken
    assert not any(REFUSED in line for lines in output for line in lines)
    with terminals(users_server) as opened:
        output = [opened[terminal].run(sql.replace(*finding.change)) for terminal, sql in printed]
    assert output[-1][-len(finding.right) :] == finding.right
    assert [any(REFUSED in line for line in lines) for lines in output].index(True) == finding.refused


@pytest.mark.parametrize(
    ("scenario", "strategy", "verdict"),
    [
        ("double-booking", "serializable-gist", Verdict.INVALID),
        ("double-booking", "serializable-spgist", Verdict.VALID),
        ("double-booking", "advisory", Verdict.VALID),
        ("write-skew", "serializable-busy", Verdict.INVALID),
    ],
)
def test_the_strategies_that_the_pages_name_are_judged_as_they_say_with_the_invariant_and_without(
    embedded: Target, scenario: str, strategy: str, verdict: Verdict
) -> None:
    subject = catalog.find_scenario(scenario)
    request = ExplorationRequest(scenario=subject, strategy=subject.strategies[strategy], stop_at_first=True)
    result = explore(embedded, request)
    assert (result.verdict, result.as_expected) == (verdict, True)
    assert result.complete == (verdict is Verdict.VALID)
    without = replace(request, scenario=replace(subject, invariants={}))
    result = explore(embedded, judged(without, oracle=Oracle.STATE))
    assert (result.verdict, result.counts["non-serializable"]) == (verdict, int(verdict is Verdict.INVALID))


def test_with_a_gist_index_the_booking_is_double_in_every_schedule_in_which_both_search_first(embedded: Target) -> None:
    subject = catalog.find_scenario("double-booking")
    result = explore(embedded, ExplorationRequest(scenario=subject, strategy=subject.strategies["serializable-gist"]))
    # The other ten are those in which one session has committed before the other searches.
    assert (result.run, result.anomalous, result.complete) == (58, 48, True)


@pytest.mark.server
def test_the_files_of_the_page_are_judged_without_an_invariant(racebench: Command, tmp_path: Path) -> None:
    page = (FINDINGS / "serializable-gist.md").read_text()
    files = dict(re.findall(r"File `([\w.]+)`:\n\n```sql\n(.*?)```", page, re.DOTALL))
    assert set(files) == {"book.sql", "schema.sql"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    command = re.search(r"^    racebench (explore \./book\.sql .*)$", page, re.MULTILINE)
    assert command is not None
    done = racebench(*command[1].split(), "--no-save")
    assert done.returncode == 3
    assert "6 of 7 schedules end as no serial order does" in " ".join(done.stdout.split())


def test_a_snapshot_kept_on_a_standby_hides_a_row_that_it_did_not_show_and_on_the_primary_it_does_not(
    pair: Target,
) -> None:
    page = "standby-snapshot.md"
    assert pair.standby is not None
    psql = wheel_programs(18) / "psql"
    with ExitStack() as stack:
        connection = stack.enter_context(connect(pair))
        stack.callback(connection.execute, "DROP TABLE events")
        replay = stack.enter_context(Replay(pair.standby, mark(connection)))
        wait_for(replay.is_done, replay.lack)
        opened = {}
        for name, target in (("Terminal 1", pair), ("Terminal 2", pair), ("Terminal 3", pair.standby)):
            opened[name] = Terminal(make_conninfo(**target.parameters), psql)
            stack.callback(opened[name].close)
        output = []
        for terminal, sql in blocks(page):
            if terminal == "Terminal 3":
                replay = stack.enter_context(Replay(pair.standby, mark(connection)))
                wait_for(replay.is_done, replay.lack)
            output.append((terminal, opened[terminal].run(sql)))
    assert output == [
        ("Terminal 1", []),
        ("Terminal 2", ["f"]),
        ("Terminal 3", ["t", "2"]),
        ("Terminal 1", []),
        ("Terminal 2", ["1"]),
        ("Terminal 3", ["1", "2"]),
    ]
