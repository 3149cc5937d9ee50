"""What the compiler writes for some scripts, as files that can be read: tests/postgres/golden.

After a change to the compiler, write them again, and read the difference before it is committed:

    RACEBENCH_UPDATE_GOLDEN=1 pytest tests/postgres/test_golden.py
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from racebench.core.model import Protocol, Script, Statement
from racebench.postgres.compiler.program import DIRECT, GENERATOR, Program, ProgramWriter, Route, Transport
from racebench.postgres.compiler.round_trips import instructions
from racebench.postgres.compiler.transactions import ROLLBACK
from racebench.workloads import catalog, scripts

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("RACEBENCH_UPDATE_GOLDEN"))

BRANCHES = r"""\set amount random(1, 10)
\if :amount > 5
BEGIN;
SELECT balance FROM accounts WHERE id = :account \gset
\sleep :think us
COMMIT;
\else
UPDATE accounts SET balance = balance - :amount WHERE id = :account;
\endif
"""
PIPELINE = r"""BEGIN;
\startpipeline
INSERT INTO events VALUES (:tenant);
INSERT INTO outbox VALUES (:tenant);
\endpipeline
COMMIT;
"""
TWO_COLUMNS = "SELECT 1 AS a, 2 AS b \\gset pair_\nINSERT INTO t VALUES (:pair_a, :pair_b);\n"


def of_catalog(strategy: str) -> Script:
    return catalog.find_scenario("version-counter").strategies[strategy].script


def of_text(text: str) -> Script:
    return scripts.parse(text, Path("script.sql"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A script and how it is compiled; `columns`: what the statements that store something return."""

    script: Script
    columns: Sequence[str] = ()
    protocol: Protocol = Protocol.PREPARED
    transport: Transport = Transport.SOCKET
    loop: bool = False
    options: Mapping[str, bool] = field(default_factory=dict)
    zero: frozenset[str] = frozenset()

    def write(self) -> Program:
        statements = (*self.script.statements, ROLLBACK)
        columns = {statement: self.columns if statement.prefix is not None else () for statement in statements}
        by_step = {at: columns[s] for at, s in enumerate(self.script.steps) if isinstance(s, Statement)}
        parts = instructions(self.script, self.protocol, by_step, self.zero)
        options = dict(self.options)
        shown, direct = options.pop("shown", False), options.pop("direct", False)
        route = Route(transport=self.transport, protocol=self.protocol, columns=columns, shown=shown)
        waits = DIRECT if direct else GENERATOR
        writer = ProgramWriter(self.script, parts, route, waits=waits, gated=options.pop("gated", False))
        return writer.loop(**options) if self.loop else writer.once()


WHOLE_LOOP = {"draws": False, "due": False, "versioned": True}
CASES = {
    "naive": Case(script=of_catalog("naive"), columns=("version",)),
    "naive-loop-direct": Case(
        script=of_catalog("naive"),
        columns=("version",),
        loop=True,
        options={**WHOLE_LOOP, "direct": True},
        zero=frozenset({"think", "hold"}),
    ),
    "naive-loop-course": Case(
        script=of_catalog("naive"),
        columns=("version",),
        loop=True,
        options={**WHOLE_LOOP, "course": True},
        zero=frozenset({"think", "hold"}),
    ),
    "naive-loop-open-generator": Case(
        script=of_catalog("naive"),
        columns=("version",),
        loop=True,
        options={"draws": True, "due": True, "versioned": True},
    ),
    "naive-pipelined": Case(
        script=of_catalog("naive"),
        columns=("version",),
        protocol=Protocol.PIPELINED,
        zero=frozenset({"think", "hold"}),
    ),
    "naive-simple": Case(script=of_catalog("naive"), columns=("version",), protocol=Protocol.SIMPLE),
    "naive-libpq": Case(script=of_catalog("naive"), columns=("version",), transport=Transport.LIBPQ),
    "naive-gated": Case(
        script=of_catalog("naive"),
        columns=("version",),
        options={"gated": True, "shown": True},
        zero=frozenset({"think", "hold"}),
    ),
    "upsert": Case(script=of_catalog("upsert"), columns=("version",)),
    "branches": Case(script=of_text(BRANCHES), columns=("balance",)),
    "pipeline": Case(script=of_text(PIPELINE)),
    "two-columns": Case(script=of_text(TWO_COLUMNS), columns=("a", "b")),
    "chain": Case(script=of_text("BEGIN;\nDELETE FROM t;\nCOMMIT AND CHAIN;\nDELETE FROM u;\nROLLBACK;\n")),
}


@pytest.mark.parametrize("name", CASES)
def test_the_compiler_writes_what_the_golden_file_shows(name: str) -> None:
    case = CASES[name]
    program = case.write()
    comment = "".join(f"# {line}".rstrip() + "\n" for line in case.script.text.strip().splitlines())
    text = f"{comment}\n{program.source()}\n"
    path = GOLDEN / f"{name}.txt"
    if UPDATE:
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, f"{path.name} differs; see the head of {Path(__file__).name}"
    compile(text, str(path), "exec")


@pytest.mark.parametrize("name", CASES)
def test_each_line_of_a_program_knows_the_step_it_comes_from(name: str) -> None:
    program = CASES[name].write()
    assert len(program.steps) == len(program.body)
    assert set(program.steps) <= set(range(len(CASES[name].script.steps)))


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)
