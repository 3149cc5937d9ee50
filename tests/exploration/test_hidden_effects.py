"""What a reduction must not overlook: effects that a statement does not show, and transactions behind a branch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from made_scenario import made
from racebench.api import Bench
from racebench.api import Exploration as ExplorationOfCalls
from racebench.core.errors import UsageProblem
from racebench.core.model import Statement, Strategy
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import inspection
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
        script = DUEL.format(one=one, other=other)
        scenario = made(tmp_path, script=script, schema=SCHEMA + schema, explore="SELECT setval('numbers', 1);")
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
    _, names = volatile(embedded, tmp_path, schema, "SELECT 1;")
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
    script = "INSERT INTO log VALUES (:tenant, :operation);"
    scenario = made(tmp_path, script=script, schema=SCHEMA + compares, explore="SELECT 1;")
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


REFRESHES = "PERFORM 1; REFRESH MATERIALIZED VIEW totals;"
LOCKS = "LOCK bad IN ACCESS EXCLUSIVE MODE;"
TOTALS = "CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM log;"


def function(name: str, body: str, returns: str = "int", language: str = "plpgsql") -> str:
    """The DDL of a function."""
    return f"CREATE FUNCTION {name} RETURNS {returns} LANGUAGE {language} AS $$ {body} $$;"


def trigger(body: str, table: str = "log") -> str:
    """The DDL of a trigger that runs a body before each INSERT."""
    code = function("fires()", f"BEGIN {body} RETURN NEW; END", "trigger")
    return f"{code} CREATE TRIGGER fires BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fires();"


LOCKING = function("locking()", f"BEGIN {LOCKS} RETURN 1; END")
HARMLESS = function("harmless()", "BEGIN RETURN 1; END")
INSERT = "INSERT INTO log VALUES (:tenant, 1);"


@pytest.mark.parametrize(
    ("schema", "write"),
    [
        (TOTALS + trigger(REFRESHES), INSERT),
        (trigger(LOCKS), INSERT),
        (trigger("lock/**/bad;"), INSERT),
        (LOCKING, "UPDATE log SET n = locking();"),
        (LOCKING + trigger("PERFORM locking();"), INSERT),
        (LOCKING + function("outer_()", "SELECT locking()", language="sql") + trigger("NEW.n := outer_();"), INSERT),
        (LOCKING + "ALTER TABLE log ALTER n SET DEFAULT locking();", "INSERT INTO log VALUES (:tenant);"),
        (LOCKING + "ALTER TABLE log ADD CHECK (locking() = 1);", INSERT),
        (
            LOCKING + "CREATE DOMAIN strict AS bigint CHECK (locking() = 1); ALTER TABLE log ALTER n TYPE strict;",
            INSERT,
        ),
        (LOCKING + "CREATE RULE also AS ON INSERT TO log DO ALSO SELECT locking();", INSERT),
        (
            LOCKING + "CREATE FUNCTION eq(int, text) RETURNS boolean LANGUAGE sql AS $$ SELECT locking() = 1 $$;"
            " CREATE OPERATOR === (function = eq, leftarg = int, rightarg = text);",
            "UPDATE log SET n = 2 WHERE tenant === 'a'::text;",
        ),
        (LOCKING + "CREATE VIEW v AS SELECT locking() AS n;", "INSERT INTO log SELECT :tenant, n FROM v;"),
        (
            "CREATE TABLE parent (n bigint PRIMARY KEY); INSERT INTO parent VALUES (1);"
            " CREATE TABLE child (n bigint REFERENCES parent ON DELETE CASCADE);"
            + function("fires()", f"BEGIN {LOCKS} RETURN OLD; END", "trigger")
            + "CREATE TRIGGER fires BEFORE DELETE ON child FOR EACH STATEMENT EXECUTE FUNCTION fires();",
            "DELETE FROM parent;",
        ),
        ("", "UPDATE log SET n = length(query_to_xml('SELECT 1', true, true, '')::text);"),
        (trigger("EXECUTE 'LOC' || 'K bad';"), INSERT),
        (trigger("DO 'LOCK bad';"), INSERT),
    ],
)
def test_a_write_is_not_plain_where_what_it_fires_may_take_a_lock(
    embedded: Target, tmp_path: Path, schema: str, write: str
) -> None:
    assert touched(embedded, tmp_path, schema, write) is Footprint.ANYTHING


@pytest.mark.parametrize(
    ("schema", "write"),
    [
        ("", INSERT),
        (trigger("NEW.n := coalesce(NEW.n, 0) + 1; -- no lock here\n"), INSERT),
        (trigger("PERFORM pg_advisory_xact_lock(77); NEW.n := nextval('numbers');"), INSERT),
        (trigger("PERFORM 1 FROM bad FOR UPDATE; UPDATE bad SET tenant = 1 WHERE tenant = NEW.tenant;"), INSERT),
        (trigger("INSERT INTO bad SELECT 1 WHERE false ON CONFLICT DO NOTHING;"), INSERT),
        (HARMLESS + trigger("PERFORM harmless();"), INSERT),
        (HARMLESS, "UPDATE log SET n = harmless();"),
        (HARMLESS + "ALTER TABLE log ADD CHECK (harmless() = 1);", INSERT),
        (LOCKING, INSERT),
        ("ALTER TABLE log ADD id bigserial, ADD at timestamptz DEFAULT now();", INSERT),
        ("ALTER TABLE log ADD known uuid DEFAULT gen_random_uuid();", INSERT),
        ("CREATE TABLE parent (n bigint PRIMARY KEY); ALTER TABLE log ADD FOREIGN KEY (n) REFERENCES parent;", INSERT),
        ("ALTER TABLE log ADD twice bigint GENERATED ALWAYS AS (n * 2) STORED;", INSERT),
        (TOTALS, INSERT),
    ],
)
def test_a_write_that_fires_nothing_but_the_harmless_stays_plain(
    embedded: Target, tmp_path: Path, schema: str, write: str
) -> None:
    assert touched(embedded, tmp_path, schema, write) is Footprint.WRITE


def touched(embedded: Target, folder: Path, schema: str, write: str) -> Footprint:
    """The footprint of a write on a server with this schema."""
    strategy, names = volatile(embedded, folder, schema, write)
    return footprint(strategy.script.statements, isolation=None, volatile=names)


def volatile(embedded: Target, folder: Path, schema: str, script: str) -> tuple[Strategy, frozenset[str]]:
    """A strategy with this script, and the names of volatile functions on a server with this schema."""
    scenario = made(folder, script=script, schema=SCHEMA + schema)
    strategy = scenario.strategies["it"]
    with (
        fresh_schema(embedded, "hidden_effects", scenario, strategy, []),
        connect(embedded, schema="hidden_effects") as connection,
    ):
        return strategy, volatile_functions(connection, strategy, None)


AFTER_UPDATE = "CREATE TRIGGER after_ AFTER UPDATE ON log FOR EACH ROW EXECUTE FUNCTION fires();"


@pytest.mark.parametrize(
    ("schema", "write"),
    [
        (TOTALS + trigger(REFRESHES) + AFTER_UPDATE, "UPDATE log SET n = 1;"),
        (trigger(LOCKS) + AFTER_UPDATE, "UPDATE log SET n = 1;"),
        (LOCKING, "UPDATE log SET n = 1 RETURNING locking();"),
        (LOCKING + trigger("PERFORM locking();") + AFTER_UPDATE, "UPDATE log SET n = 1;"),
    ],
)
def test_a_deadlock_over_a_lock_that_a_write_hides_is_found(duel: Duel, schema: str, write: str) -> None:
    """The reader holds what the write then wants to lock, and then wants the row that the write has locked."""
    read = f"SELECT count(*) AS n FROM {'totals' if 'MATERIALIZED' in schema else 'bad'} \\gset"
    reader = f"BEGIN;\n{read}\nUPDATE log SET tenant = 2;\nCOMMIT;"
    schema += "INSERT INTO log VALUES (1, 0);"
    fewer, every = (duel(write, reader, schema=schema, reduce=reduce) for reduce in (True, False))
    assert fewer.complete
    assert every.complete
    assert "40P01" in {session.sqlstate for outcome in every.outcomes for session in outcome.sessions}
    assert set(fewer.outcomes) == set(every.outcomes)
    assert fewer.verdict is every.verdict


def writes(connection: psycopg.Connection[Any], function: str) -> None:
    connection.execute(f"UPDATE log SET n = 1 RETURNING {function}()")
    connection.commit()


def reads_and_writes(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT count(*) FROM bad")
    connection.execute("UPDATE log SET tenant = 2")
    connection.commit()


def test_a_lock_in_a_function_that_a_call_writes_with_is_found_too(cache_folder: Path) -> None:
    """An innocent function beside it is explored in as many schedules as no function at all."""
    setup = SCHEMA + LOCKING + HARMLESS + "INSERT INTO log VALUES (1, 0);"
    with Bench() as bench:

        def explored(function: str) -> ExplorationOfCalls:
            calls_ = (partial(writes, function=function), reads_and_writes)
            found = bench.explore(*calls_, setup=setup, invariant="SELECT 1 FROM bad", budget=math.inf)
            assert isinstance(found, ExplorationOfCalls)
            assert found.complete
            return found

        assert explored("locking").verdict is Verdict.INVALID
        innocents = [explored(function) for function in ("harmless", "gen_random_uuid")]
        assert {each.verdict for each in innocents} == {Verdict.VALID}
        assert innocents[0].run == innocents[1].run


@pytest.mark.parametrize(
    ("schema", "write"),
    [
        (TOTALS + trigger(REFRESHES) + AFTER_UPDATE, "UPDATE log SET n = 1;"),
        (trigger(LOCKS) + AFTER_UPDATE, "UPDATE log SET n = 1;"),
        (LOCKING, "UPDATE log SET n = 1 RETURNING locking();"),
        (LOCKING + trigger("PERFORM locking();") + AFTER_UPDATE, "UPDATE log SET n = 1;"),
    ],
)
def test_a_lock_that_the_catalogs_do_not_show_is_observed(
    duel: Duel, monkeypatch: pytest.MonkeyPatch, schema: str, write: str
) -> None:
    """Without the inspection of the catalogs, the table of locks shows that the write did more, and a note says so."""
    monkeypatch.setattr(inspection, "does_more_than_write", lambda *_: frozenset())
    read = f"SELECT count(*) AS n FROM {'totals' if 'MATERIALIZED' in schema else 'bad'} \\gset"
    reader = f"BEGIN;\n{read}\nUPDATE log SET tenant = 2;\nCOMMIT;"
    schema += "INSERT INTO log VALUES (1, 0);"
    fewer, every = (duel(write, reader, schema=schema, reduce=reduce) for reduce in (True, False))
    assert fewer.complete
    assert set(fewer.outcomes) == set(every.outcomes)
    assert fewer.verdict is every.verdict
    assert any(f"'{write.rstrip(';')}' locked" in note for note in fewer.notes)
    assert not every.notes


def test_a_write_that_locks_no_more_than_it_says_is_no_surprise(duel: Duel) -> None:
    schema = HARMLESS + trigger("PERFORM harmless(); UPDATE bad SET tenant = 1 WHERE tenant = 2;")
    result = duel(f"BEGIN;\n{INSERT}\nCOMMIT;", "SELECT count(*) AS n FROM log \\gset", schema=schema)
    assert result.verdict is Verdict.VALID
    assert not result.notes
    assert result.run < duel(f"BEGIN;\n{INSERT}\nCOMMIT;", "SELECT 1;", schema=schema, reduce=False).run


def test_what_an_abandoned_schedule_leaves_is_not_the_next_ones(duel: Duel) -> None:
    """The session repairs what it breaks; a schedule that is abandoned in between has not repaired it."""
    breaks = "INSERT INTO bad VALUES (:tenant);\n"
    repairs = "DELETE FROM bad WHERE tenant = :tenant;\n"
    reads = "SELECT count(*) AS n FROM log \\gset\n"
    result = duel(breaks + repairs, reads * 2)
    assert result.pruned
    assert result.verdict is Verdict.VALID
    assert duel(breaks + repairs + breaks, reads * 2).verdict is Verdict.INVALID
