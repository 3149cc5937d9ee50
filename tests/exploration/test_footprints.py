"""Steps that share no table and no lock are run in one order; what only looks apart is run in both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from made_scenario import made
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import explorer
from racebench.exploration.explorer import explore
from racebench.exploration.hidden_effects import Objects
from racebench.exploration.independence import ADVISORY, ALL, OF_TRANSACTION, WAITED, Footprint, independent
from racebench.exploration.oracle.effects import Oracle
from racebench.exploration.request import ExplorationRequest
from racebench.exploration.resources import Reached
from racebench.exploration.result import Exploration
from racebench.exploration.rw_conflicts import RwConflicts, addable
from racebench.postgres.connection import connect

TABLES = (
    "CREATE TABLE bad (why text); CREATE TABLE a (id int PRIMARY KEY, n int);"
    "CREATE TABLE b (id int PRIMARY KEY, n int);"
)
ROWS = " INSERT INTO a VALUES (1, 0), (2, 0); INSERT INTO b VALUES (1, 0), (2, 0);"
#: Explores (schema, first session, second session) with and without reduction, and returns the reduced one.
Same = Callable[..., tuple[Exploration, Exploration]]


@pytest.fixture
def same(tmp_path: Path, embedded: Target, monkeypatch: pytest.MonkeyPatch) -> Same:
    monkeypatch.setattr(explorer, "_BURSTS", 0)

    def run(schema: str, first: str, second: str, *, level: str = "") -> tuple[Exploration, Exploration]:
        script = f"\\if :client_id = 0\n{first}\n\\else\n{second}\n\\endif\n"
        isolation = f'isolation = "{level}"' if level else ""
        scenario = made(tmp_path, script=script, schema=TABLES + schema, more=isolation)
        # With the tables restored before each schedule: these scripts know no tenants.
        asked = ExplorationRequest(scenario=scenario, strategy=scenario.strategies["it"], oracle=Oracle.RETURNS)
        every, reduced = (explore(embedded, replace(asked, reduce=reduce)) for reduce in (False, True))
        assert every.complete
        assert reduced.complete
        assert set(every.outcomes) == set(reduced.outcomes)
        assert every.verdict is reduced.verdict
        return every, reduced

    return run


def test_sessions_of_different_tables_need_one_schedule(same: Same) -> None:
    every, reduced = same(
        ROWS,
        "BEGIN;\nSELECT n FROM a WHERE id = 1 FOR UPDATE;\nUPDATE a SET n = 1;\nCOMMIT;",
        "BEGIN;\nLOCK TABLE b IN EXCLUSIVE MODE;\nUPDATE b SET n = 1;\nCOMMIT;",
    )
    assert every.run == 70
    assert reduced.run == 1


SAW = "INSERT INTO bad SELECT 'saw' FROM {} HAVING count(*) > 0;"


@pytest.mark.parametrize(
    ("schema", "first", "second"),
    [
        pytest.param(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN INSERT INTO b VALUES (NEW.id); RETURN NEW; END$$;"
            "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f();",
            "INSERT INTO a VALUES (1);",
            SAW.format("b"),
            id="a trigger writes the other table",
        ),
        pytest.param(
            "CREATE RULE r AS ON INSERT TO a DO ALSO INSERT INTO b VALUES (NEW.id);",
            "INSERT INTO a VALUES (1);",
            SAW.format("b"),
            id="a rule writes the other table",
        ),
        pytest.param(
            "CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE q PARTITION OF p DEFAULT;",
            "INSERT INTO q VALUES (1);",
            SAW.format("p"),
            id="a partition belongs to the other table",
        ),
        pytest.param(
            "INSERT INTO a VALUES (1, 0);",
            "BEGIN;\nSELECT pg_advisory_xact_lock(7);\nCOMMIT;",
            "INSERT INTO bad SELECT 'held' WHERE NOT pg_try_advisory_xact_lock(7);",
            id="the end of a transaction that wrote nothing releases a lock",
        ),
        pytest.param(
            "",
            "BEGIN;\nINSERT INTO b VALUES (1, 1);\nCOMMIT;",
            "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM a;\n"
            "INSERT INTO bad SELECT 'old' FROM b HAVING count(*) = 0;\nCOMMIT;",
            id="a first read of one table fixes what is seen of the other",
        ),
    ],
)
def test_what_is_reached_without_being_named_counts(same: Same, schema: str, first: str, second: str) -> None:
    """Both orders matter: one is wrong, and one is right."""
    every, _ = same(schema, first, second)
    assert every.verdict is Verdict.INVALID
    assert every.anomalous < every.run


@pytest.mark.parametrize(
    ("schema", "first", "second", "refused"),
    [
        pytest.param(
            "CREATE TABLE child (a_id int REFERENCES a); INSERT INTO a VALUES (1, 0);",
            "DELETE FROM a WHERE id = 1;",
            "INSERT INTO child VALUES (1);",
            "23503",
            id="a foreign key refers to the other table",
        ),
        pytest.param(
            "CREATE TABLE child (a_id int REFERENCES a DEFERRABLE INITIALLY DEFERRED); INSERT INTO a VALUES (1, 0);",
            "DELETE FROM a WHERE id = 1;",
            "BEGIN;\nINSERT INTO child VALUES (1);\nUPDATE b SET n = 1;\nCOMMIT;",
            "23503",
            id="a COMMIT checks the other table",
        ),
        pytest.param(
            ROWS,
            "BEGIN;\nUPDATE a SET n = 1;\nUPDATE b SET n = 1;\nCOMMIT;",
            "BEGIN;\nUPDATE b SET n = 2;\nUPDATE a SET n = 2;\nCOMMIT;",
            "40P01",
            id="the tables are locked in opposite orders",
        ),
    ],
)
def test_a_refusal_in_some_orders_is_found(same: Same, schema: str, first: str, second: str, refused: str) -> None:
    every, reduced = same(schema, first, second)
    states = {session.sqlstate for outcome in reduced.outcomes for session in outcome.sessions}
    assert states == {"", refused}
    assert reduced.run < every.run


SKEW = "BEGIN;\nSELECT sum(n) AS total FROM a \\gset\nUPDATE {} SET n = n + 1 + :total;\nCOMMIT;"


def test_serializable_sessions_that_surely_conflict_read_and_write_in_one_order(same: Same) -> None:
    every, reduced = same(ROWS, SKEW.format("a"), SKEW.format("a"), level="serializable")
    assert reduced.run < every.run
    assert {session.sqlstate for outcome in reduced.outcomes for session in outcome.sessions} == {"", "40001"}


def test_a_conflict_that_only_one_order_has_is_found(same: Same) -> None:
    """A read by an index locks a page of it: a later write of another row conflicts, an earlier one does not."""
    script = "BEGIN;\nSELECT n FROM a WHERE id = {};\nINSERT INTO a VALUES ({}, 0);\nCOMMIT;"
    every, reduced = same(ROWS, script.format(1, 11), script.format(2, 12), level="serializable")
    refused = [outcome for outcome in every.outcomes if any(session.sqlstate for session in outcome.sessions)]
    assert 0 < len(refused) < len(every.outcomes)
    assert reduced.outcomes.keys() == every.outcomes.keys()


# The rules


A, B = frozenset({"a"}), frozenset({"b"})


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Footprint(sees=A, holds=A), Footprint(sees=B, holds=B), True),
        (Footprint(sees=A, holds=A), Footprint(sees=A | B, holds=A | B), False),
        (Footprint(sees=A), Footprint(holds=A), True),
        (Footprint(sees=A), Footprint(shows=A, frees=A), False),
        (Footprint(sees=A), Footprint(shows=B, frees=B), True),
        (Footprint(sees=A), Footprint(frees=A), True),
        (Footprint(holds=A), Footprint(frees=A), False),
        (Footprint(guards=A), Footprint(holds=A), False),
        (Footprint(holds=A) | WAITED, Footprint(holds=B) | WAITED, False),
        (Footprint(holds=A) | WAITED, Footprint(holds=B), True),
        (Footprint.READ, Footprint(shows=A, frees=A), False),
        (Footprint.WRITE, Footprint(holds=A), False),
        (Footprint.ANYTHING, Footprint(sees=A), False),
        (Footprint.ANYTHING, Footprint.NOTHING, True),
    ],
)
def test_which_steps_are_independent(one: Footprint, other: Footprint, expected: bool) -> None:
    assert independent(one, other) is independent(other, one) is expected


def test_the_end_of_a_transaction_touches_what_its_session_has_touched() -> None:
    session_lock = frozenset({ADVISORY})
    assert Footprint.END.closing(A) == Footprint(shows=A, frees=A, closes=True)
    assert Footprint.ROLLBACK.closing(A) == Footprint(frees=A, closes=True)
    assert not Footprint.END.closing(session_lock).frees
    assert Footprint.END.closing(session_lock | {OF_TRANSACTION}).frees >= session_lock
    assert Footprint.ANYTHING.closing(A) == Footprint.ANYTHING


def test_a_conflict_is_certain_if_the_answer_changes_and_nobody_has_committed_since() -> None:
    known, write = RwConflicts(), Footprint.WRITE
    read = Footprint.SERIALIZABLE_READ

    def reads(session: int, answer: str) -> Footprint:
        return known.sent(session, "SELECT", read, [answer], ended=False)

    def writes(session: int, sent: str = "UPDATE") -> Footprint:
        return known.sent(session, sent, write, ["UPDATE 1"], ended=False)

    def ends(session: int, *answers: str) -> None:
        known.sent(session, "", Footprint.ANYTHING, answers, ended=True)

    first, written = reads(1, "0"), writes(1)
    other = reads(2, "0")
    assert not independent(other, written)  # it is not known yet what the other reads then
    ends(1)
    assert not independent(reads(3, "1"), write)
    known.begin()
    first, second = reads(1, "0"), reads(2, "0")
    assert independent(second, writes(1))
    assert not independent(second, writes(3, "UPDATE OF ANOTHER ROW"))
    ends(1)
    late = writes(2)
    assert not independent(first, late)  # the first has committed
    ends(2, "ERROR 40001: x")
    assert independent(reads(3, "1"), Footprint.NOTHING)


def test_rows_are_added_in_any_order_where_nothing_compares_them_and_nobody_has_committed() -> None:
    known, write = RwConflicts(frozenset({"a"})), Footprint.WRITE

    def reads(session: int, answer: str = "0") -> Footprint:
        return known.sent(session, "SELECT", Footprint.SERIALIZABLE_READ, [answer], ended=False)

    def adds(session: int, text: str = "INSERT INTO a (n) VALUES (1);") -> Footprint:
        return known.sent(session, text, write, ["INSERT 0 1"], ended=False)

    first, second = adds(1), adds(2)
    assert independent(first, second)
    assert known.commutes(2, second)
    assert not independent(first, Footprint.ANYTHING)
    assert not known.commutes(3, reads(3))  # whether it sees the rows is not known
    third = adds(4)
    assert not known.commutes(4, third)
    known.sent(1, "", Footprint.ANYTHING, (), ended=True)
    assert not independent(adds(5), second)  # a conflict may end it now
    known.begin()
    assert known.commutes(1, adds(1))
    reads(1, "1")  # whether it conflicts with what another session adds is not known
    assert not known.commutes(2, adds(2))
    known.begin()
    assert not independent(adds(1, "INSERT INTO a (n) SELECT max(n) FROM a;"), adds(2, "INSERT INTO a (n) SELECT 1;"))
    assert not independent(adds(3, "INSERT INTO b (n) VALUES (1);"), adds(4, "INSERT INTO b (n) VALUES (2);"))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int", True),
        ("n int, m text DEFAULT 'x'", True),
        ("n int UNIQUE", False),
        ("n int CHECK (n > 0)", False),
        ("n int REFERENCES parent", False),
        ("n int, m int GENERATED ALWAYS AS (n + 1) STORED", False),
        ("n int, EXCLUDE (n WITH =)", False),
        ("n positive", False),
        ("n int, m bigint DEFAULT lastval()", False),
    ],
)
def test_in_which_tables_rows_are_added_in_any_order(embedded: Target, columns: str, expected: bool) -> None:
    with connect(embedded) as connection, connection.transaction(force_rollback=True):
        connection.execute(
            "CREATE SCHEMA s; SET LOCAL search_path = s; CREATE DOMAIN positive AS int CHECK (VALUE > 0)"
        )
        connection.execute(f"CREATE TABLE parent (n int PRIMARY KEY); CREATE TABLE a ({columns})")
        assert ("a" in addable(connection, "s")) is expected


@pytest.mark.parametrize(
    "last", ["SELECT 1;", "SELECT pg_xact_commit_timestamp('3');", "SELECT n FROM a WHERE xmin = '7';"]
)
def test_what_tells_the_order_of_transactions_makes_all_of_them_depend_on_each_other(
    embedded: Target, last: str
) -> None:
    with connect(embedded) as connection, connection.transaction(force_rollback=True):
        connection.execute("CREATE TABLE a (n int)")
        reached = Reached(Objects(connection))
        reached.load(["INSERT INTO a VALUES (1)", last])
        assert (reached.of("INSERT INTO a VALUES (1)") == ALL) is (last != "SELECT 1;")
