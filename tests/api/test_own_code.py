"""The user's own code, Python and SQL: its race is found, its fix is proved, its mistakes are named."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

import applications as app
import racebench
from conftest import Command, UsersServer, assert_one_line
from racebench.api import Bench, Exploration, RaceFound, Search
from racebench.core.errors import DatabaseProblem, RacebenchError, UsageProblem
from racebench.core.model import Call
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.exploration import explorer
from racebench.exploration.sessions import threads
from racebench.exploration.sessions.connections import Connections
from racebench.postgres.connection import connect
from racebench.postgres.schemas import new_name
from racebench.postgres.snapshot import Snapshot
from racebench.pytest_plugin import Fixture
from racebench.workloads import callables
from waiting import repeat, wait_for


@pytest.fixture(scope="module")
def bench(cache_folder: Path) -> Iterator[Bench]:
    with Bench() as made:
        yield made


def explored(bench: Bench, *subjects: Any, **options: Any) -> Exploration:
    found = bench.explore(*subjects, **{"setup": app.SCHEMA, "invariant": app.TWINS, "budget": math.inf, **options})
    assert isinstance(found, Exploration)
    return found


# Exploring


@pytest.mark.parametrize("sessions", [2, 3])
@pytest.mark.parametrize(
    "call", [app.create_order, app.create_order_and_commit, app.create_order_in_one_statement], ids=lambda f: f.__name__
)
def test_a_racy_function_is_caught(bench: Bench, call: Callable[..., None], sessions: int) -> None:
    found = explored(bench, call, sessions=sessions)
    assert (found.verdict, found.complete) == (Verdict.INVALID, True)
    assert 0 < found.anomalous < found.run


@pytest.mark.parametrize("sessions", [2, 3])
@pytest.mark.parametrize(
    ("call", "setup"),
    [
        (app.create_order_locked, app.SCHEMA),
        (app.create_order_again_and_again, app.UNIQUE),
        (app.savepoints, app.SCHEMA),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_right_function_is_proved(bench: Bench, call: Callable[..., None], setup: str, sessions: int) -> None:
    found = explored(bench, call, sessions=sessions, setup=setup)
    assert (found.verdict, found.complete, found.anomalous) == (Verdict.VALID, True, 0)
    assert found.assert_clean() is found


def test_every_way_of_sending_is_scheduled(bench: Bench) -> None:
    found = explored(bench, app.create_orders_in_bulk, max_schedules=60, search=Search(depth=2))
    assert found.anomalous == 0
    assert found.run == 60
    assert (found.verdict, found.complete) == (Verdict.UNKNOWN, False)


@pytest.mark.parametrize("call", [app.stamp_in_a_block, app.stamp_and_commit], ids=lambda f: f.__name__)
def test_begin_is_a_step_where_a_session_reads_the_transactions_time(bench: Bench, call: Callable[..., None]) -> None:
    found = explored(bench, call, setup=app.STAMPED, invariant=app.OUT_OF_ORDER)
    assert (found.verdict, found.complete) == (Verdict.INVALID, True)
    right = explored(bench, app.stamp_late, setup=app.STAMPED, invariant=app.OUT_OF_ORDER)
    assert (right.verdict, right.complete) == (Verdict.VALID, True)


def test_a_call_may_have_several_connections(bench: Bench) -> None:
    right = explored(bench, app.audited_under_a_lock)
    assert (right.verdict, right.complete) == (Verdict.VALID, True)
    twins = explored(bench, app.audited)
    assert (twins.verdict, twins.complete) == (Verdict.VALID, True)  # the row lock orders them too
    with pytest.raises(RacebenchError, match="wait for each other over several connections"):
        explored(bench, app.crossed_up, app.crossed_down)
    assert _nothing_left(bench)


def test_an_error_that_only_another_session_causes_is_an_anomaly(bench: Bench) -> None:
    found = explored(bench, app.create_order, setup=app.UNIQUE)
    assert found.verdict is Verdict.INVALID
    assert found.counts["refused"] > 0
    assert found.counts["violations"] == 0


def test_an_error_that_a_call_also_raises_alone_is_no_anomaly(bench: Bench) -> None:
    assert explored(bench, app.create_order_one, setup=app.UNIQUE).verdict is Verdict.VALID
    assert explored(bench, app.buy_locked, invariant=app.OVERSOLD).verdict is Verdict.VALID
    assert explored(bench, app.buy, invariant=app.OVERSOLD).verdict is Verdict.INVALID


@pytest.mark.parametrize("call", [app.swallows_its_error, app.swallows_its_error_in_a_savepoint])
def test_a_call_that_swallows_its_error_is_remarked_upon(bench: Bench, call: Callable[..., object]) -> None:
    with pytest.warns(UserWarning, match="a call returned although its last statement was refused") as warned:
        found = Fixture(bench).explore(call, setup=app.UNIQUE, invariant=(), allow=["non-serializable"])
    assert found.verdict is Verdict.VALID  # that an order is lost, the serial orders say, and nothing else
    assert found.result.counts["non-serializable"]
    assert [warning.filename for warning in warned] == [__file__]
    assert "a call returned although its last statement was refused (23505)" in str(found)


def test_a_call_that_tries_again_after_a_refusal_is_not_remarked_upon(bench: Bench) -> None:
    assert "although" not in str(explored(bench, app.create_order_again_and_again, setup=app.UNIQUE))


def test_functions_of_different_kinds_race_each_other_into_a_deadlock(bench: Bench) -> None:
    found = explored(bench, app.move_up, app.move_down)
    assert found.verdict is Verdict.INVALID
    assert found.counts["refused"] > 0
    assert "40P01" in str(found)
    assert explored(bench, app.move_up, app.move_up).verdict is Verdict.VALID


def test_reduction_leaves_the_verdict_and_the_outcomes_as_they_are(bench: Bench) -> None:
    for call in (app.create_order, app.create_order_again_and_again, app.buy):
        outcomes = []
        for reduce in (True, False):
            found = explored(bench, call, setup=app.UNIQUE, invariant=app.OVERSOLD, search=Search(reduce=reduce))
            outcomes.append((found.verdict, set(found.result.outcomes)))
        assert outcomes[0] == outcomes[1], call


def test_savepoints_add_no_schedules(bench: Bench) -> None:
    every = explored(bench, app.create_order_nested, search=Search(reduce=False), max_schedules=200)
    plain, nested = explored(bench, app.create_order), explored(bench, app.create_order_nested)
    assert (nested.verdict, nested.complete) == (Verdict.INVALID, True)
    assert set(every.result.outcomes) <= set(nested.result.outcomes)
    assert nested.run == plain.run


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (app.create_order_in_an_executor, app.create_order_locked_in_an_executor),
        (app.create_order_in_a_thread, app.create_order_locked_in_a_thread),
        (app.create_order_async, app.create_order_locked_async),
        (app.create_order_in_a_loop, app.create_order_locked_in_a_loop),
        (app.create_order_over_sqlalchemy, app.create_order_locked_over_sqlalchemy),
    ],
    ids=lambda function: function.__name__,
)
def test_what_threads_and_tasks_send_for_a_call_is_explored_as_if_it_sent_it(
    bench: Bench, plain: tuple[int, int], wrong: Callable[..., Any], right: Callable[..., Any]
) -> None:
    if wrong is app.create_order_over_sqlalchemy:  # what its first connection asks tells sessions apart
        explored(bench, right, max_schedules=1)
    found, proved = explored(bench, wrong), explored(bench, right)
    assert (found.verdict, found.complete) == (Verdict.INVALID, True)
    assert (proved.verdict, proved.complete, proved.anomalous) == (Verdict.VALID, True, 0)
    assert (found.run, proved.run) == plain
    assert _nothing_left(bench)


@pytest.mark.parametrize(("wrong", "right"), [("post", "post_locked"), ("post_later", "post_later_locked")])
def test_a_service_is_explored_through_its_test_client(
    bench: Bench, plain: tuple[int, int], wrong: str, right: str
) -> None:
    pytest.importorskip("fastapi")
    found, proved = explored(bench, f"web_shop:{wrong}"), explored(bench, f"web_shop:{right}")
    assert (found.verdict, found.complete) == (Verdict.INVALID, True)
    assert (proved.verdict, proved.complete) == (Verdict.VALID, True)
    assert (found.run, proved.run) == plain
    assert _nothing_left(bench)


@pytest.fixture(scope="module")
def plain(bench: Bench) -> tuple[int, int]:
    """The number of schedules of a racy function, and of a right one, that send everything themselves."""
    return explored(bench, app.create_order).run, explored(bench, app.create_order_locked).run


def test_every_way_of_sending_over_an_asynchronous_connection_is_scheduled(bench: Bench) -> None:
    found = explored(bench, app.writes_in_every_way_async, max_schedules=30, search=Search(depth=2))
    assert (found.run, found.anomalous) == (30, 0)


@pytest.mark.parametrize(
    "call",
    [
        app.create_order_in_a_named_savepoint,
        app.create_order_of_a_careful_pool,
        app.create_order_of_a_growing_pool,
    ],
)
def test_generated_names_and_pools_do_not_make_a_call_nondeterministic(bench: Bench, call: Callable[..., None]) -> None:
    found = explored(bench, call)
    assert (found.verdict, found.complete) == (Verdict.INVALID, True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            app.create_order_elsewhere,
            r"applications.py:\d+ sends statements from a thread that racebench cannot schedule",
        ),
        (
            app.sends_from_two_threads,
            r"two threads or tasks of one call send statements at once \(\S*applications.py:\d+",
        ),
        (app.sends_from_two_threads_over_one_connection, "two threads or tasks of one call send statements at once"),
        (app.sends_from_two_tasks, r"of one call send statements at once \(\S*applications.py:\d+"),
        (app.does_not_wait_for_its_thread, r"applications.py:\d+ sends statements in a thread or a task that its call"),
        (app.does_not_wait_for_a_late_thread, r"applications.py:\d+ sends statements in a thread or a task that its"),
        (app.cancels_its_statement, r"applications.py:\d+: the statement was cancelled while it waited for its turn"),
        (
            app.sends_over_another_driver_too,
            r"statements also over a connection that racebench does not see.* with the same --setup and --invariant",
        ),
        (
            app.sends_under_another_name,
            r"sends its statements .* \(or sends none, if another client wrote to the embedded",
        ),
        (app.keeps_what_it_has_read, "sends statements when it is called first, and none when it is called again"),
        (
            app.sends_from_another_program,
            r"sends its statements over a connection that racebench does not see.*explore the program \(--exec\)",
        ),
        (app.ends_its_process, r"ends its process \(os\._exit\(7\)\)"),
        (app.forgets_where_it_is, r"right after the setup: raises KeyError: 'TENANT' \(\S*applications.py:\d+\)$"),
    ],
)
def test_statements_that_cannot_be_scheduled_are_named(bench: Bench, call: Callable[..., None], message: str) -> None:
    with pytest.raises(UsageProblem, match=message):
        explored(bench, call)


def test_the_report_has_the_line_of_the_application_and_the_command(bench: Bench) -> None:
    found = explored(bench, app.create_order)
    with pytest.raises(RaceFound) as caught:
        found.assert_clean()
    said = str(caught.value)
    assert "applications.py:" in said
    assert f"racebench replay '{found.schedule}' --call applications:create_order --setup" in said
    assert shlex.quote(app.TWINS) in said


@pytest.mark.server
def test_the_library_has_its_names_in_the_package() -> None:
    assert racebench.explore.__module__ == racebench.hammer.__module__ == "racebench.api"
    found = racebench.explore(app.create_order, setup=app.SCHEMA, invariant=app.TWINS, stop_at_first=True)
    assert isinstance(found, racebench.Exploration)
    assert (found.verdict, found.run) == (Verdict.INVALID, 2)
    pressed = racebench.hammer(app.create_order_locked, setup=app.SCHEMA, invariant=app.TWINS, operations=50)
    assert pressed.counts["committed"] == 50
    with pytest.raises(racebench.RacebenchError, match="cannot be read"):
        racebench.check("missing.npz")


def test_a_schedule_is_replayed_from_python(bench: Bench) -> None:
    schedule = explored(bench, app.create_order).schedule
    assert schedule is not None
    again = bench.replay(app.create_order, setup=app.SCHEMA, invariant=app.TWINS, schedule=schedule)
    assert again.counts["violations"] == 1
    with pytest.raises(RaceFound, match="1 violation"):
        again.assert_clean()
    with pytest.raises(UsageProblem, match="of another version of 'create_order'"):
        bench.replay(app.create_order, setup=app.SCHEMA, schedule=_altered(schedule))


def _altered(schedule: str) -> str:
    before, _, rest = schedule.partition("[")
    digest, _, steps = rest.partition("]")
    return f"{before}[{digest[::-1] if digest[::-1] != digest else '00000000'}]{steps}"


def test_three_explorations_have_the_same_result(bench: Bench) -> None:
    for call in (app.create_order, app.create_order_again_and_again):
        found = [explored(bench, call, setup=app.UNIQUE) for _ in range(3)]
        assert len({(each.run, each.anomalous, each.schedule) for each in found}) == 1


def test_functions_made_in_a_test_are_explored_and_hammered(bench: Bench) -> None:
    step = 1

    def create(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            row = connection.execute("SELECT coalesce(max(number), 0) FROM orders").fetchone()
            assert row is not None
            connection.execute("INSERT INTO orders (number) VALUES (%s)", [row[0] + step])

    found = explored(bench, create)
    assert found.verdict is Verdict.INVALID
    assert "racebench.replay(…, schedule='v1:" in str(found)
    assert "racebench replay" not in str(found)
    repeat(
        lambda seed: bench.hammer(create, setup=app.SCHEMA, invariant=app.TWINS, operations=200, seed=seed),
        lambda pressed: pressed.counts["violations"] > 0,
    )


@pytest.mark.parametrize(
    ("setup", "invariant"),
    [
        (app.set_up, app.no_twins),
        (app.SCHEMA, app.assert_no_twins),
        ("applications:set_up", app.TWINS),
        (app.SCHEMA, "applications:no_twins"),
    ],
    ids=["called", "asserted", "named setup", "named invariant"],
)
def test_setup_and_invariant_are_sql_or_callables(bench: Bench, setup: Any, invariant: Any) -> None:
    assert explored(bench, app.create_order, setup=setup, invariant=invariant).verdict is Verdict.INVALID
    assert explored(bench, app.create_order_locked, setup=setup, invariant=invariant).verdict is Verdict.VALID


def test_a_row_of_an_invariant_in_python_is_written_as_one_of_an_invariant_in_sql() -> None:
    rows = ({"number": 22, "orders": 2}, (22, 2))
    call = Call(module="shop", name="twins", function=lambda: rows)
    assert callables.broken(call, cast("psycopg.Connection[Any]", None)) == ["number = 22, orders = 2", "(22, 2)"]


# What the user got wrong


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("applications:nothing", "'applications:nothing' cannot be imported: applications has no 'nothing'"),
        ("applications:create_oder", "did you mean 'create_order'?"),
        (
            "no_such_module:f",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'; run racebench",
        ),
        ("applications", "'applications' does not name a callable; write module:function"),
        ("applications:not_callable", "is int, not something to call"),
        (app.needs_two, "needs 2 arguments (connection, customer)"),
        (app.is_an_async_generator, "is a generator: calling it does nothing"),
        (app.is_a_generator, "is a generator: calling it does nothing"),
        (app.left_open, "applications:left_open leaves its transaction open; commit before it returns"),
        (app.leaves, "applications:leaves called sys.exit(3)"),
        (app.fails, 'fails when it runs alone, right after the setup: raises UndefinedTable: relation "nowhere"'),
    ],
)
@pytest.mark.parametrize("driver", ["explore", "hammer"])
def test_a_call_that_cannot_be_is_named(bench: Bench, driver: str, subject: Any, message: str) -> None:
    drive = bench.explore if driver == "explore" else bench.hammer
    with pytest.raises(UsageProblem) as caught:
        drive(subject, setup=app.SCHEMA, invariant=app.TWINS)
    said = str(caught.value)
    if driver == "hammer":
        message = message.replace("raises ", "")
    assert message in said
    assert "\n" not in said
    assert _nothing_left(bench)


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (app.elsewhere, "works in schema 'public', racebench's tables are in"),
        (app.holds_a_lock_in_python, "did not come to its next statement in 3 s: it is in Python at "),
        (app.says_nothing, "applications:says_nothing sent no statement to the embedded PostgreSQL"),
        (app.takes_turns, "the same schedule took another course at step"),
    ],
)
def test_a_call_that_cannot_be_scheduled_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, subject: Any, message: str
) -> None:
    if subject is app.holds_a_lock_in_python:
        monkeypatch.setattr(threads, "PYTHON_LIMIT_S", 3.0)
    with pytest.raises(RacebenchError) as caught:
        bench.explore(subject, setup=app.SCHEMA, invariant=app.TWINS)
    assert message in str(caught.value)
    assert _nothing_left(bench)


def test_a_witness_that_cannot_be_run_again_is_said_to_be_not_deterministic(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CHANGED", [])
    follow = explorer._follow_witness

    def changed(*arguments: Any) -> Any:
        app.CHANGED.append("before the witness is run again")
        return follow(*arguments)

    monkeypatch.setattr(explorer, "_follow_witness", changed)
    with pytest.raises(UsageProblem, match="not deterministic"):
        explored(bench, app.does_more_when_something_changes)
    assert _nothing_left(bench)


def test_a_witness_names_the_wrong_row_and_the_call_of_each_session(bench: Bench) -> None:
    said = " ".join(str(explored(bench, app.create_order, app.create_order_and_commit)).split())
    assert "(s1 applications:create_order, s2 applications:create_order_and_commit)" in said
    assert "'invariant' is broken by number = 1" in said
    assert "INSERT INTO orders (number) VALUES (%s) [1]" in said
    assert "break the invariant (number = 1)" in said
    said = str(explored(bench, app.create_order, invariant=app.assert_no_twins))
    assert "'invariant' is broken: two orders have the same number" in said
    assert "s1 applications:create_order" not in said  # both run it


def test_a_call_that_swallows_everything_runs_to_its_end(bench: Bench) -> None:
    with pytest.raises(UsageProblem, match="the schedule ends before the sessions do: s1 can go on"):
        bench.replay(app.swallows_everything, setup=app.SCHEMA, schedule="v1:applications/swallows_everything:s1")
    assert _nothing_left(bench)


def test_a_setup_or_an_invariant_that_is_wrong_is_named(bench: Bench) -> None:
    for given, message in (
        ({"setup": app.no_set_up}, "the setup 'applications:no_set_up' failed: SyntaxError"),
        ({"setup": "CREATE TABLE ("}, "the setup:1: the server refuses this: syntax error"),
        ({"setup": "missing.sql"}, "missing.sql: cannot be read (No such file or directory)"),
        ({"setup": ""}, "the setup is empty"),
        ({"invariant": "SELECT nothing"}, 'the invariant: the server refuses this query: column "nothing"'),
        ({"invariant": app.fails}, "the invariant 'applications:fails' failed: UndefinedTable"),
        ({"invariant": "SELECT number FROM orders"}, "break the invariant when the calls run one after the other"),
        ({"sessions": 10}, "sessions is a number from 1 to 9"),
        ({"sessions": 1}, "sessions=1: a race needs two sessions; give 2 or more"),
        ({"budget": 0}, "budget is a number above 0, not 0"),
        ({"budget": math.nan}, "budget is a number above 0, not nan"),
        ({"max_schedules": -1}, "max_schedules is a number above 0, not -1"),
    ):
        with pytest.raises(UsageProblem) as caught:
            explored(bench, app.create_order, **given)
        assert message in str(caught.value), given
        assert _nothing_left(bench)


def test_delays_of_scripts_are_refused_for_functions(bench: Bench) -> None:
    with pytest.raises(UsageProblem, match="hold_us has no effect on code of your own"):
        bench.hammer(app.create_order, load=racebench.LoadOptions(hold_us=5))


def _nothing_left(bench: Bench) -> bool:
    """Whether no schema and no open transaction is left on the server, when the bench keeps nothing for the next time.

    A session that was closed may still be going.
    """
    bench._leave()

    def gone() -> bool:
        return _is_clean(bench)

    try:
        wait_for(gone, "a schema or an open transaction is left")
    except AssertionError:
        with connect(bench._up()) as connection:
            left = connection.execute("SELECT pid, application_name, state, wait_event, query FROM pg_stat_activity")
            raise AssertionError(f"a schema or an open transaction is left: {left.fetchall()}") from None
    return True


def _is_clean(bench: Bench) -> bool:
    with connect(bench._up()) as connection:
        # Not any of racebench's: a command that a test interrupted may have been the last in this server's slot.
        schemas = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (bench._schema,)).fetchall()
        open_ = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'").fetchone()
    return not schemas and open_ == (0,)


# Hammering


def test_a_racy_function_breaks_under_load_and_a_right_one_does_not(bench: Bench) -> None:
    racy = repeat(
        lambda seed: bench.hammer(app.create_order, setup=app.SCHEMA, invariant=app.TWINS, operations=200, seed=seed),
        lambda pressed: pressed.counts["violations"] > 0,
    )
    assert racy.verdict is Verdict.INVALID
    with pytest.raises(RaceFound, match="The invariant is broken by"):
        racy.assert_clean()
    right = bench.hammer(app.create_order_locked, setup=app.SCHEMA, invariant=app.no_twins, operations=200)
    assert right.assert_clean().counts["committed"] == 200
    one = bench.hammer(app.create_order_in_one_statement, setup=app.SCHEMA, invariant=app.TWINS, operations=100)
    assert one.counts["committed"] == 100


def test_calls_of_which_the_server_sees_no_statement_are_refused(bench: Bench, tmp_path: Path) -> None:
    def writes_elsewhere() -> None:
        import sqlite3

        sqlite3.connect(tmp_path / "orders.db").execute("CREATE TABLE IF NOT EXISTS orders (number int)").close()

    def leaves_its_connection_alone(connection: psycopg.Connection[Any]) -> None:
        connection.commit()

    for calls in ((writes_elsewhere, leaves_its_connection_alone), (app.keeps_a_connection_alone,)):
        with pytest.raises(
            UsageProblem, match="sent no statement to the embedded PostgreSQL 18: does it reach"
        ) as caught:
            bench.hammer(*calls, setup=app.SCHEMA, workers=2, operations=8)
        assert calls[0].__name__ in str(caught.value)


def test_calls_that_reach_the_server_by_another_way_are_not(bench: Bench) -> None:
    """By another program, and by a session that another process has had for long: psycopg sees neither here."""

    def in_a_program() -> None:
        import subprocess
        import sys

        code = "import os, psycopg; psycopg.connect(os.environ['DATABASE_URL']).execute('SELECT 1')"
        subprocess.run([sys.executable, "-c", code], check=True)

    def does_nothing() -> None:
        pass

    assert bench.hammer(in_a_program, does_nothing, workers=2, operations=2).counts["committed"] == 2
    with connect(bench._up()) as service, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def by_a_service() -> None:
            import socket

            with socket.create_connection(("127.0.0.1", port)) as client:
                client.recv(1)

        service.execute("SET application_name = 'a service'")
        threading.Thread(target=_serve, args=(server, service), daemon=True).start()
        assert bench.hammer(by_a_service, workers=2, operations=8).counts["committed"] == 8


def _serve(server: socket.socket, session: psycopg.Connection[Any]) -> None:
    """Send a statement over the session for each client, until the server is closed."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            session.execute("SELECT 1")
            client.close()


def test_an_error_that_a_call_also_raises_alone_is_no_anomaly_under_load(bench: Bench) -> None:
    refused = repeat(
        lambda seed: bench.hammer(app.create_order, setup=app.UNIQUE, invariant=app.TWINS, operations=200, seed=seed),
        lambda pressed: pressed.counts["refused"] > 0,
    )
    assert refused.verdict is Verdict.INVALID
    sold_out = bench.hammer(app.buy_locked, setup=app.SCHEMA, invariant=app.OVERSOLD, operations=200)
    assert sold_out.counts["committed"] == 1
    assert sold_out.counts["refused"] == 0
    assert sold_out.result.errors == {callables.code(app.OutOfStock()): 199}
    assert sold_out.verdict is Verdict.VALID


def test_a_call_that_ends_its_process_is_named(bench: Bench) -> None:
    with pytest.raises(UsageProblem, match="ends its process"):
        bench.hammer("os:abort")
    assert _nothing_left(bench)


# Tables that are put back


SHOP = """
CREATE TABLE customers (id serial PRIMARY KEY, name text);
CREATE TABLE purchases (id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers ON DELETE CASCADE, made int
  GENERATED ALWAYS AS (customer * 2) STORED);
CREATE TABLE log (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (TG_OP); RETURN NULL; END $$;
INSERT INTO customers (name) VALUES ('Ann'), (E'tab\\there'), (NULL);
INSERT INTO purchases (customer) VALUES (1), (2);
CREATE TRIGGER note AFTER INSERT OR DELETE ON purchases FOR EACH ROW EXECUTE FUNCTION note();
"""


@pytest.mark.parametrize("owner", [True, False], ids=["superuser", "ordinary user"])
@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO customers (name) VALUES ('Bob')",
        "UPDATE customers SET name = 'Eve'",
        "DELETE FROM customers WHERE id = 1",
        "TRUNCATE customers CASCADE",
        "DELETE FROM purchases; INSERT INTO purchases (customer) VALUES (3), (3)",
        "SELECT nextval('customers_id_seq')",
        "UPDATE customers SET id = id + 10 WHERE id = 3",
    ],
)
def test_tables_and_sequences_are_restored(users_server: UsersServer, owner: bool, change: str) -> None:
    role = f"restorer_{new_name()[-6:]}"
    with psycopg.connect(users_server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        admin.execute(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
        dsn = users_server.dsn() if owner else users_server.dsn(user=role, password="secret")
        try:
            with psycopg.connect(dsn, options=f"-csearch_path={role}", autocommit=True) as connection:
                connection.execute(SHOP)
                snapshot = Snapshot(connection, role)
                before = _contents(connection)
                for _ in range(2):
                    connection.execute(change)
                    assert _contents(connection) != before
                    snapshot.restore()
                    assert _contents(connection) == before
                    snapshot.restore()
        finally:
            admin.execute(f"DROP SCHEMA {role} CASCADE")
            admin.execute(f"DROP ROLE {role}")


def _contents(connection: psycopg.Connection[Any]) -> list[Any]:
    found: list[Any] = []
    for table in ("customers", "purchases", "log"):
        found += connection.execute(f"SELECT '{table}', t.* FROM {table} t ORDER BY 2").fetchall()
    for sequence in ("customers_id_seq", "purchases_id_seq"):
        found += connection.execute(f"SELECT last_value, is_called FROM {sequence}").fetchall()
    return found


def test_too_many_rows_to_restore_is_one_error(embedded: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("racebench.postgres.snapshot.MOST_ROWS", 10)
    with (
        Bench() as bench,
        pytest.raises(DatabaseProblem, match='"many" has 11 rows after the setup; at most 10 can be restored'),
    ):
        explored(bench, app.create_order, setup=app.SCHEMA + "CREATE TABLE many AS SELECT generate_series(1, 11)")


# The application's own tables, made once


def test_tables_of_the_application_stay_and_their_rows_are_restored(cache_folder: Path) -> None:
    with Bench() as bench, psycopg.connect(bench.dsn, autocommit=True) as connection:
        connection.execute(app.SCHEMA)
        connection.execute("INSERT INTO orders (number) VALUES (7)")
        for _ in range(2):
            found = bench.explore(app.create_order, invariant=app.TWINS)
            assert isinstance(found, Exploration)
            assert found.verdict is Verdict.INVALID
            assert connection.execute("SELECT id, number FROM orders").fetchall() == [(1, 7)]
        assert bench.hammer(app.create_order_locked, invariant=app.TWINS, operations=100).counts["committed"] == 100
        for drive in (bench.explore, bench.hammer):
            with pytest.raises(UsageProblem, match=r"already exists; once racebench_dsn .* a fixture with scope"):
                drive(app.create_order, setup=app.SCHEMA, invariant=app.TWINS)
        assert connection.execute("SELECT id, number FROM orders").fetchall() == [(1, 7)]


def test_a_bench_works_on_an_external_server(users_server: UsersServer) -> None:
    with Bench(users_server.dsn()) as bench:
        found = explored(bench, app.create_order_in_one_statement, setup=app.SCHEMA)
        assert found.verdict is Verdict.INVALID
        assert users_server.password not in str(found)
    with psycopg.connect(users_server.dsn()) as connection:
        assert connection.execute("SELECT FROM pg_namespace WHERE nspname LIKE 'racebench%'").fetchall() == []


# The command line


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project of one module, one script and a schema, in the folder of the `racebench` fixture."""
    (tmp_path / "shop.py").write_text(Path(app.__file__).read_text())
    (tmp_path / "schema.sql").write_text(app.SCHEMA)
    (tmp_path / "insert.sql").write_text(
        "BEGIN;\nSELECT coalesce(max(number), 0) + 1 AS number FROM orders \\gset\n"
        "INSERT INTO orders (number) VALUES (:number);\nCOMMIT;\n"
    )
    (tmp_path / "locked.sql").write_text(
        "BEGIN;\nSELECT pg_advisory_xact_lock(1);\nSELECT coalesce(max(number), 0) + 1 AS number FROM orders \\gset\n"
        "INSERT INTO orders (number) VALUES (:number);\nCOMMIT;\n"
    )
    return tmp_path


OWN = ("--setup", "./schema.sql", "--invariant", app.TWINS, "--no-save")


@pytest.mark.server
@pytest.mark.parametrize(
    ("subject", "code"),
    [
        (("./insert.sql",), 3),
        (("./locked.sql",), 0),
        (("--call", "shop:create_order"), 3),
        (("--call", "shop:create_order_locked"), 0),
        (("--call", "shop:create_order_in_one_statement"), 3),
    ],
)
def test_own_code_on_the_command_line(racebench: Command, shop: Path, subject: tuple[str, ...], code: int) -> None:
    run = repeat(
        lambda seed: racebench("run", *subject, *OWN, "-w", "4", "-n", "200", "--seed", str(seed)),
        lambda done: done.returncode == 3 or code != 3,
    )
    assert (run.returncode, run.stderr) == (code, "")
    explore = racebench("explore", *subject, *OWN)
    assert (explore.returncode, explore.stderr) == (code, "")
    command = [line for line in explore.stdout.splitlines() if "racebench replay" in line]
    assert bool(command) == (code == 3)
    if command:
        replay = racebench(*shlex.split(command[0])[1:])
        assert (replay.returncode, replay.stderr) == (3, "")
        assert "1 violation" in replay.stdout


@pytest.mark.server
@pytest.mark.parametrize("judges", [("--allow", "refused,lost"), ("--allow", "lost", "--oracle", "state")])
def test_a_printed_replay_is_judged_as_its_exploration_was(
    racebench: Command, shop: Path, judges: tuple[str, ...]
) -> None:
    explore = racebench("explore", "./insert.sql", *OWN, *judges)
    assert (explore.returncode, explore.stderr) == (3, "")
    printed = next(line for line in explore.stdout.splitlines() if "racebench replay" in line)
    words = shlex.split(printed[printed.index("racebench replay") :])
    assert words[-len(judges) :] == list(judges)
    assert racebench(*words[1:]).returncode == 3


@pytest.mark.server
@pytest.mark.parametrize("command", [("explore",), ("run", "-w", "2", "-n", "20")], ids=lambda each: each[0])
def test_what_a_call_prints_is_no_part_of_the_report(racebench: Command, shop: Path, command: tuple[str, ...]) -> None:
    done = racebench(*command, "--call", "shop:create_order_and_say_so", *OWN, "--fail-on", "none", "--json", "-")
    assert done.returncode == 0
    json.loads(done.stdout)
    assert "an order" in done.stderr


@pytest.mark.server
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("explore",), 3, "the outcome of each schedule was compared with the serial orders'"),
        (("run", "-w", "2", "-n", "20"), 0, "only errors were looked for"),
    ],
    ids=["explore", "run"],
)
def test_a_result_without_an_invariant_says_how_it_was_judged(
    racebench: Command, shop: Path, command: tuple[str, ...], code: int, said: str
) -> None:
    said = f"no --invariant was given, so {said}"
    for subject in (("./insert.sql",), ("--call", "shop:create_order")):
        done = racebench(*command, *subject, "--setup", "schema.sql", "--no-save")
        assert (done.returncode, said in " ".join(done.stdout.split())) == (code, True)
    assert said not in " ".join(racebench(*command, "./insert.sql", *OWN).stdout.split())


@pytest.mark.server
def test_an_exception_of_the_applications_own_is_named_under_load(racebench: Command, shop: Path) -> None:
    (shop / "schema.sql").write_text(app.UNIQUE)
    done = repeat(
        lambda seed: racebench(
            *("run", "--call", "shop:create_order_or_give_up", *OWN, "-w", "4", "-n", "200", "--seed", str(seed))
        ),
        lambda done: done.returncode == 3,
    )
    assert done.stderr == ""
    assert "RuntimeError: <give up> (shop.py:" in " ".join(done.stdout.split())


@pytest.mark.server
@pytest.mark.parametrize(
    ("subjects", "names"),
    [
        (("./insert.sql", "./locked.sql"), ("insert", "locked")),
        (("./insert.sql", "./other/insert.sql"), ("./insert.sql", "./other/insert.sql")),
        (
            ("--call", "shop:create_order", "--call", "shop:create_order_locked"),
            ("create_order", "create_order_locked"),
        ),
    ],
)
def test_each_file_and_each_call_is_a_strategy_of_the_comparison(
    racebench: Command, shop: Path, subjects: tuple[str, ...], names: tuple[str, str]
) -> None:
    (shop / "other").mkdir()
    shutil.copy(shop / "locked.sql", shop / "other" / "insert.sql")
    load = ("--fail-on", "any", "--rounds", "2", "-w", "4", "-n", "200", "--reference", names[1], "--json", "c.json")
    done = racebench("compare", *subjects, *OWN, *load)
    assert (done.returncode, done.stderr) == (3, "")
    runs = json.loads((shop / "c.json").read_text())["runs"]
    assert {run["strategy"]: run["verdict"] for run in runs} == {names[0]: "INVALID", names[1]: "VALID"}
    assert len(runs) == 4
    assert f"{names[0]} is INVALID: " in " ".join(done.stdout.split())  # nobody expected anything of it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("compare", "insert.sql", *OWN),
            "needs two strategies or more, not only 'insert'; add another file, --call, --exec or --http",
        ),
        (("compare", "insert.sql", "quota"), "'quota' is not a file of SQL"),
        (("compare", "quota", "oversell"), "'quota' is not a file of SQL"),
        (("compare", "insert.sql", "--call", "shop:f"), "both 'insert.sql' and --call shop:f"),
        (("compare", "insert.sql", "missing.sql"), "missing.sql: cannot be read"),
        (("run", "naive", "--call", "shop:f"), "both 'naive' and --call shop:f"),
        (("run", "--setup", "schema.sql"), "--setup goes with --call, --exec, --http or a file of SQL"),
        (("explore", "quota", "--invariant", "SELECT 1"), "--invariant goes with --call, --exec, --http"),
        (("run", "missing.sql"), "missing.sql: cannot be read"),
        (("run", "--call", "shop"), "'shop' does not name a callable"),
        (("run", "--call", "shop:create_order", "--connections-per-worker", "2"), "--call runs one call at a time"),
        (("run", "--call", "shop:create_order", "--hold", "5"), "--hold has no effect on --call"),
        (("explore", "insert.sql", "-s", "naive"), "strategy 'naive' not found in insert"),
        pytest.param(
            ("replay", "v1:a/b:s1", "--call", "shop:create_order"),
            "strategy 'b' not found in shop",
            marks=pytest.mark.server,
        ),
        pytest.param(
            ("explore", "--call", "shop:nothing"), "cannot be imported: shop has no 'nothing'", marks=pytest.mark.server
        ),
    ],
)
def test_a_users_mistake_is_one_line(racebench: Command, shop: Path, arguments: tuple[str, ...], message: str) -> None:
    done = racebench(*arguments)
    assert_one_line(done, 2, message)


def test_a_function_that_sees_other_transactions_is_volatile_in_a_call_too(embedded: Target) -> None:
    with connect(embedded) as monitor:
        connections = Connections(monitor, "public", "here")
        asked = {"pg_current_snapshot", "txid_snapshot_xmin", "nextval", "max", "now"}
        assert connections.volatile(asked) == {"pg_current_snapshot", "nextval"}
        assert connections.volatile({"pg_current_snapshot", "now"}) == {"pg_current_snapshot"}


# Scenarios, by their names


def test_a_scenario_is_explored_replayed_and_loaded_by_its_name(bench: Bench) -> None:
    found = bench.explore("version-counter", strategy="sequence", consumer="cursor", search=Search(polls=2))
    assert (found.verdict, found.complete) == (Verdict.INVALID, True)
    assert found.counts["missed"] > 0
    assert found.result.as_expected
    with pytest.raises(RaceFound, match=r"s3 is consumer 'cursor'\): 1 missed"):
        found.assert_clean()
    assert found.schedule is not None
    assert bench.replay(schedule=found.schedule).counts == {"missed": 1}
    assert bench.replay("version-counter", schedule=found.schedule).counts == {"missed": 1}
    loaded = bench.hammer("version-counter", strategy="advisory", consumer="cursor", workers=2, operations=50)
    assert loaded.assert_clean().counts["committed"] == 50
    start_up = bench.hammer("migration", strategy="locked", workers=3)
    assert start_up.counts["attempts"] == 3
    assert _nothing_left(bench)


@pytest.mark.parametrize(
    ("subjects", "options", "message"),
    [
        (
            ("version-counter",),
            {},
            "scenario 'version-counter' has several strategies; name one, for example strategy='",
        ),
        (("version-counter",), {"strategy": "niave"}, "did you mean 'naive'?"),
        (("version-conuter",), {"strategy": "naive"}, "did you mean 'version-counter'?"),
        (("version-counter",), {"strategy": "naive", "consumer": "curser"}, "did you mean 'cursor'?"),
        (("version-counter", "quota"), {"strategy": "naive"}, "one scenario at a time, not 2 subjects"),
        (("quota",), {"setup": app.SCHEMA, "strategy": "naive"}, "setup and invariant go with code of your own"),
        ((app.create_order,), {"setup": app.SCHEMA, "consumer": "cursor"}, "consumer 'cursor' goes with a scenario"),
    ],
)
@pytest.mark.parametrize("driver", ["explore", "hammer"])
def test_a_scenario_that_cannot_be_is_named(
    bench: Bench, driver: str, subjects: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageProblem) as caught:
        getattr(bench, driver)(*subjects, **options)
    assert message in str(caught.value)
    assert _nothing_left(bench)


def test_start_up_code_is_loaded_for_as_many_operations_as_workers(bench: Bench) -> None:
    with pytest.raises(UsageProblem, match="runs each worker's script once; give workers, not seconds or operations"):
        bench.hammer("migration", strategy="locked", seconds=1)


# Comparing


def test_functions_are_compared_in_rounds(bench: Bench) -> None:
    found = bench.compare(
        app.create_order_locked,
        app.create_order_in_one_statement,
        setup=app.SCHEMA,
        invariant="SELECT 1 WHERE false",
        operations=40,
        workers=2,
        rounds=2,
        reference="create_order_locked",
        seed=1,
    )
    assert found.assert_clean() is found
    assert found.reference == "create_order_locked"
    assert set(found.strategies) == {"create_order_locked", "create_order_in_one_statement"}
    assert (found.result.rounds, found.result.whole, len(found.runs)) == (2, 2, 4)
    assert "create_order_in_one_statement" in str(found)
    assert _nothing_left(bench)


def test_strategies_of_a_scenario_are_compared_and_an_anomaly_fails_the_test(bench: Bench) -> None:
    found = bench.compare(
        "version-counter", strategies=["advisory", "upsert"], operations=100, workers=2, rounds=2, seed=1
    )
    assert set(found.assert_clean().strategies) == {"advisory", "upsert"}
    assert [consumer.name for consumer in found.runs[0].consumers] == ["cursor"]
    broken = bench.compare(
        app.create_order_locked,
        app.create_order_in_one_statement,
        setup=app.SCHEMA,
        invariant="SELECT number FROM orders",
        operations=8,
        rounds=2,
    )
    with pytest.raises(RaceFound, match="create_order_locked is INVALID"):
        broken.assert_clean()


def test_what_is_compared_in_an_applications_own_tables_is_put_back(cache_folder: Path) -> None:
    with Bench() as bench, psycopg.connect(bench.dsn, autocommit=True) as connection:
        connection.execute(app.SCHEMA)
        bench.compare(app.create_order_locked, app.create_order, invariant=(), operations=20, workers=2, rounds=2)
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


@pytest.mark.parametrize(
    ("subjects", "options", "message"),
    [
        ((app.create_order,), {}, "compare needs two strategies or more, not 1; name another"),
        ((), {}, "nothing to compare; give functions or files of SQL, or name a scenario"),
        (("version-counter",), {"strategies": ["advisory", "upsrt"]}, "did you mean 'upsert'?"),
        (("insert.sql", app.create_order), {}, "compare files of SQL or callables"),
    ],
)
def test_what_cannot_be_compared_is_named(
    bench: Bench, subjects: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageProblem) as caught:
        bench.compare(*subjects, **options)
    assert message in str(caught.value)
