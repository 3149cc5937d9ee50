"""What a reduction must not overlook: effects that a statement does not show, and transactions behind a branch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from racebench.core.errors import UsageProblem
from racebench.core.model import Statement
from racebench.core.results import Verdict
from racebench.core.target import Target
from racebench.exploration.explorer import explore
from racebench.exploration.independence import ANY_WRITE, SERIALIZABLE, Footprint, calls, footprint
from racebench.exploration.inspection import volatile_functions
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.result import Exploration
from racebench.exploration.transactions import in_transactions
from racebench.postgres.connection import connect
from racebench.postgres.schemas import fresh_schema
from racebench.workloads import catalog, scripts

SCHEMA = """
CREATE TABLE log (tenant int, n bigint);
CREATE TABLE bad (tenant int);
CREATE SEQUENCE numbers;
"""
MANIFEST = """
summary = "made for a test"
schema = "schema.sql"
forbid = ["violations"]
explore = "explore.sql"
[invariants]
none = "SELECT 1 FROM bad"
[strategies.it]
summary = "it"
script = "it.sql"
"""
#: What one session does beside the other; how many rows are bad says what it has seen.
DUEL = """
\\if :client_id = 0
{one}
\\else
{other}
\\endif
"""
SEEN = "INSERT INTO bad SELECT :tenant FROM generate_series(1, :n::int);"

Duel = Callable[..., Exploration]


@pytest.fixture
def duel(embedded: Target, tmp_path: Path) -> Duel:
    def run(one: str, other: str, *, schema: str = "", reduce: bool = True) -> Exploration:
        texts = {
            "scenario.toml": MANIFEST,
            "schema.sql": SCHEMA + schema,
            "explore.sql": "SELECT setval('numbers', 1);",
            "it.sql": DUEL.format(one=one, other=other),
        }
        for name, content in texts.items():
            (tmp_path / name).write_text(content)
        scenario = catalog.find_scenario(str(tmp_path))
        return explore(
            embedded, ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"], reduce=reduce)
        )

    return run


def bad(found: Exploration) -> set[int]:
    """How many rows were bad in the outcomes."""
    return {dict(outcome.anomalies).get("violations", 0) for outcome in found.outcomes}


NUMBERED = "CREATE TABLE numbered (tenant int, n bigint DEFAULT nextval('numbers'));"
INSERTS = "INSERT INTO numbered VALUES (:tenant);\n"
TAKES = "LANGUAGE sql AS $$ SELECT nextval('numbers') $$;"


@pytest.mark.parametrize(
    ("read", "schema"),
    [
        ("SELECT last_value - 1 AS n FROM numbers", ""),
        ("SELECT n FROM v", "CREATE VIEW v AS SELECT last_value - 1 AS n FROM numbers;"),
        ("SELECT n FROM v", "CREATE VIEW v AS SELECT nextval('numbers') - 2 AS n;"),
        ("SELECT \"nextval\"('numbers') - 2 AS n", ""),
        ("SELECT nextval /* */ ('numbers') - 2 AS n", ""),
        (
            "SELECT next() - 2 AS n",
            "CREATE FUNCTION next() RETURNS bigint STABLE LANGUAGE plpgsql AS"
            " $$ BEGIN RETURN nextval('numbers'); END $$;",
        ),
        ("SELECT a$next() - 2 AS n", f"CREATE FUNCTION a$next() RETURNS bigint {TAKES}"),
        (
            "SELECT (1 @@@ 1) - 2 AS n",
            f"CREATE FUNCTION taken(int, int) RETURNS bigint {TAKES}"
            " CREATE OPERATOR @@@ (function = taken, leftarg = int, rightarg = int);",
        ),
        (
            "SELECT one.next - 2 AS n FROM one",
            f"CREATE TABLE one (a int); INSERT INTO one VALUES (1); CREATE FUNCTION next(one) RETURNS bigint {TAKES}",
        ),
    ],
)
def test_a_read_of_what_is_no_snapshot_is_run_between_the_writes_too(duel: Duel, read: str, schema: str) -> None:
    """The number that it sees is taken at once, whatever becomes of the transaction."""
    found = duel(f"{read} \\gset\n{SEEN}", f"BEGIN;\n{INSERTS * 2}COMMIT;", schema=NUMBERED + schema)
    assert found.complete
    assert bad(found) == {0, 1, 2}


@pytest.mark.parametrize(
    "read",
    [
        "SELECT count(*) AS n FROM pg_locks WHERE relation = 'log'::regclass AND mode = 'RowExclusiveLock'",
        "SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'idle in transaction'"
        " AND application_name = current_setting('application_name') AND query LIKE 'INSERT INTO log%'",
    ],
)
def test_a_read_of_the_servers_own_views_is_run_while_another_is_in_a_transaction(duel: Duel, read: str) -> None:
    found = duel(f"{read} \\gset\n{SEEN}", "BEGIN;\nINSERT INTO log VALUES (:tenant);\nCOMMIT;")
    assert found.verdict is Verdict.INVALID
    assert bad(found) == {0, 1}


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize(
    "script_",
    [
        "BEGIN;\nSELECT count(*) AS n FROM log WHERE tenant = :tenant \\gset\n\\if :n > 1\nROLLBACK;\n\\else\n"
        "INSERT INTO log VALUES (:tenant);\nINSERT INTO log VALUES (:tenant);\nCOMMIT;\n\\endif",
        "BEGIN;\nSELECT 1;\nCOMMIT AND CHAIN;\n"
        "INSERT INTO log VALUES (:tenant);\nINSERT INTO log VALUES (:tenant);\nCOMMIT;",
    ],
)
def test_what_is_in_one_transaction_stays_in_it(duel: Duel, script_: str, reduce: bool) -> None:
    """Nobody ever sees one row of the two."""
    read = "SELECT (count(*) = 1)::int AS n FROM log WHERE tenant = :tenant \\gset"
    found = duel(script_, f"{read}\n{SEEN}", reduce=reduce)
    assert found.verdict is Verdict.VALID


def test_a_transaction_that_depends_on_the_way_taken_is_found_out_as_the_script_runs(duel: Duel) -> None:
    """Here there is none: each INSERT is committed at once, and what reads after it sees it."""
    inserts = "INSERT INTO log VALUES (:tenant);\n" * 2
    writes = f"\\if :client_id = 7\nBEGIN;\n\\endif\n{inserts}\\if :client_id = 7\nCOMMIT;\n\\endif"
    read = "SELECT count(*) AS n FROM log WHERE tenant = :tenant \\gset"
    assert bad(duel(f"{read}\n{SEEN}", writes)) == {0, 1, 2}
    writes = writes.replace("= 7", "= 1")
    assert bad(duel(f"{read}\n{SEEN}", writes)) == {0, 2}


@pytest.mark.parametrize("end", ["COMMIT; ", ""])
def test_a_procedure_may_commit_by_itself(duel: Duel, end: str) -> None:
    """And if none does, what it writes is seen at its COMMIT, not before."""
    body = f"BEGIN INSERT INTO log VALUES (t); {end}END"
    procedure = f"CREATE PROCEDURE writes(t int) LANGUAGE plpgsql AS $$ {body} $$;"
    read = "SELECT count(*) AS n FROM log WHERE tenant = :tenant \\gset"
    found = duel(f"{read}\n{SEEN}", "CALL writes(:tenant);\nCALL writes(:tenant);", schema=procedure)
    assert bad(found) == {0, 1, 2}
    assert all(session.outcome == "OK" for outcome in found.outcomes for session in outcome.sessions)


def statement(sql: str) -> Statement:
    return scripts.parse(sql + ";", Path("s.sql")).statements[0]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('SELECT "Next One"(a.b)', {"select", "next one", "next", "one", "a", "b"}),
        ("SELECT a$b <-> c", {"select", "a$b", "<->", "c"}),
        ("SELECT Ähre(1)", {"select", "ähre"}),
    ],
)
def test_everything_that_a_statement_names_may_be_called(sql: str, expected: set[str]) -> None:
    assert calls(statement(sql)) == expected


@pytest.mark.parametrize("word", ["now()", "CURRENT_TIMESTAMP", "statement_timestamp()", "'now'::timestamptz"])
def test_a_read_of_the_clock_is_no_plain_read(word: str) -> None:
    assert footprint([statement(f"SELECT {word}")], isolation=None, volatile=()) is Footprint.ANYTHING


def test_a_script_may_ask_for_serializable_itself() -> None:
    read = statement("SELECT n FROM log")
    assert footprint([read], isolation=None, volatile={SERIALIZABLE}) is Footprint.SERIALIZABLE_READ


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INSERT INTO log VALUES (1);", "BEGIN INSERT COMMIT"),
        ("LOCK TABLE log;", "LOCK"),
        ("VACUUM log;", "VACUUM"),
        ("CREATE INDEX CONCURRENTLY i ON log (n);", "CREATE"),
        ("CREATE INDEX i ON log (n);", "BEGIN CREATE COMMIT"),
        ("SAVEPOINT a;", "SAVEPOINT"),
        ("DO 'BEGIN COMMIT; END';", "DO"),
        ("DO 'BEGIN NULL; END';", "BEGIN DO COMMIT"),
    ],
)
def test_what_a_transaction_block_would_change_is_not_put_into_one(text: str, expected: str) -> None:
    made = in_transactions(scripts.parse(text, Path("s.sql")))
    assert " ".join(each.keyword for each in made.statements) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("", False),
        ("CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;", False),
        (
            "CREATE FUNCTION empties() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN TRUNCATE bad; RETURN NEW; END $$;"
            " CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION empties();",
            True,
        ),
    ],
)
def test_a_trigger_that_locks_out_readers_makes_every_write_anything(
    embedded: Target, tmp_path: Path, schema: str, expected: bool
) -> None:
    texts = {
        "scenario.toml": MANIFEST,
        "schema.sql": SCHEMA + schema,
        "explore.sql": "SELECT 1;",
        "it.sql": "SELECT 1;",
    }
    for name, content in texts.items():
        (tmp_path / name).write_text(content)
    scenario = catalog.find_scenario(str(tmp_path))
    strategy = scenario.strategies["it"]
    with (
        fresh_schema(embedded, "hidden_effects", scenario, strategy, []),
        connect(embedded, schema="hidden_effects") as connection,
    ):
        names = volatile_functions(connection, strategy, None)
    assert (ANY_WRITE in names) is expected


def test_what_a_consumer_writes_is_committed_at_once(embedded: Target) -> None:
    """And so does not pass a read of another session."""
    scenario = catalog.find_scenario("version-counter")
    strategy, consumer = scenario.strategies["naive"], scenario.consumers["cursor"]
    writes = scripts.parse("UPDATE events SET version = 1 RETURNING id, version;", Path("s.sql"))
    with connect(embedded) as connection:
        assert ANY_WRITE not in volatile_functions(connection, strategy, consumer)
        assert ANY_WRITE in volatile_functions(connection, strategy, replace(consumer, script=writes))
        connection.execute("SET default_transaction_isolation = 'serializable'")
        assert SERIALIZABLE in volatile_functions(connection, strategy, consumer)


@pytest.mark.parametrize("default", ["DEFAULT extract(epoch FROM now()) * 1e6", ""])
def test_begin_is_a_step_where_it_says_what_now_is(duel: Duel, default: str) -> None:
    """Who began first may be locked out until the other has committed, and then writes the earlier time."""
    clock = "SELECT max(n) - extract(epoch FROM now()) * 1e6 > 0 AS late FROM log WHERE tenant = :tenant"
    writes = f"INSERT INTO log VALUES (:tenant{'' if default else ', extract(epoch FROM now()) * 1e6'});"
    lock = "BEGIN;\nSELECT pg_advisory_xact_lock(:tenant);\n"
    schema = f"ALTER TABLE log ALTER COLUMN n SET {default};" if default else ""
    found = duel(
        f"{lock}{writes}\nCOMMIT;",
        f"{lock}INSERT INTO bad SELECT 1 FROM ({clock}) x WHERE late;\nCOMMIT;",
        schema=schema,
    )
    assert found.verdict is Verdict.INVALID


def test_a_trigger_may_compare_what_sessions_are_told_apart_by(embedded: Target, tmp_path: Path) -> None:
    compares = (
        "CREATE FUNCTION compares() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF EXISTS (SELECT FROM log WHERE tenant = NEW.tenant AND n > NEW.n) THEN INSERT INTO bad VALUES (1); END IF;"
        " RETURN NEW; END $$; CREATE TRIGGER t BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION compares();"
    )
    texts = {"scenario.toml": MANIFEST, "schema.sql": SCHEMA + compares, "explore.sql": "SELECT 1;"}
    texts["it.sql"] = "INSERT INTO log VALUES (:tenant, :operation);"
    for name, content in texts.items():
        (tmp_path / name).write_text(content)
    scenario = catalog.find_scenario(str(tmp_path))
    assert (
        explore(embedded, ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"])).verdict
        is Verdict.INVALID
    )


def test_a_lock_that_a_script_leaves_behind_is_said_to_be_that(duel: Duel) -> None:
    with pytest.raises(UsageProblem, match=r"s2 cannot go on, though s1 reached the end of the script"):
        duel("SELECT pg_advisory_lock(77);", "SELECT pg_advisory_lock(77);")


def test_where_a_script_has_a_time_out_nothing_is_proved(duel: Duel) -> None:
    found = duel("BEGIN;\nSET LOCAL lock_timeout = '10s';\nSELECT 1;\nCOMMIT;", "SELECT 2;")
    assert (found.verdict, found.complete, found.anomalous) == (Verdict.UNKNOWN, True, 0)
    found = duel("BEGIN;\nSET LOCAL work_mem = '10MB';\nSELECT 1;\nCOMMIT;", "SELECT 2;")
    assert (found.verdict, found.complete) == (Verdict.VALID, True)


def test_a_transaction_goes_on_after_a_commit_and_chain(duel: Duel) -> None:
    """What it inserts then can still be rolled back: nobody sees one row of two."""
    inserts = "INSERT INTO log VALUES (:tenant, 1);\n"
    found = duel(
        f"BEGIN;\nSELECT 1;\nCOMMIT AND CHAIN;\n{inserts * 2}COMMIT;",
        "INSERT INTO bad SELECT 1 FROM (SELECT count(*) AS seen FROM log WHERE tenant = :tenant) x WHERE seen = 1;",
    )
    assert found.verdict is Verdict.VALID
