"""The runs of a campaign share processes, sessions and the name of a schema, and are judged as if each were alone."""

from __future__ import annotations

from pathlib import Path

from racebench.core.model import Load, Scenario
from racebench.core.results import RunResult
from racebench.core.target import Target
from racebench.core.verdict import Verdict
from racebench.executors.processes import Processes
from racebench.load.campaign import Pairing, Request, opened
from racebench.postgres.connection import connect
from racebench.workloads import catalog

#: Each operation leaves the pid of its session, once, in a table of the run.
_MANIFEST = """
title = "Sessions"
summary = "which backends wrote"
schema = "schema.sql"
[measures]
pids = "SELECT coalesce(string_agg(DISTINCT pid::text, ' '), '') FROM written"
rows = "SELECT count(*) FROM written"
first = "SELECT min(number) FROM written"
[strategies.insert]
summary = "inserts"
script = "insert.sql"
[strategies.serializable]
summary = "inserts"
script = "insert.sql"
isolation = "serializable"
"""


def _scenario(folder: Path, script: str) -> Scenario:
    (folder / "scenario.toml").write_text(_MANIFEST)
    (folder / "schema.sql").write_text("CREATE TABLE written (number bigserial, pid integer);")
    (folder / "insert.sql").write_text(script)
    return catalog.find_scenario(str(folder))


def _runs(
    target: Target, processes: Processes, scenario: Scenario, *names: str, consumers: str = ""
) -> list[RunResult]:
    request = Request(
        scenario=scenario,
        strategies=tuple(scenario.strategies[name] for name in names),
        consumers=tuple(catalog.find_consumers(scenario, consumers.split())) if consumers else (),
        load=Load(workers=4, duration_s=None, operations=400, seed=1),
        pairing=Pairing.EACH_ALONE if consumers else Pairing.TOGETHER,
        rounds=None if consumers else 2,
    )
    with opened(request, target, processes) as campaign:
        results = list(campaign.results(lambda _label, _fraction: None))
        name = str(campaign.driver.schema)
    with connect(target) as admin:
        left = admin.execute(
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE starts_with(application_name, %s))"
            " + (SELECT count(*) FROM pg_namespace WHERE nspname = %s)",
            (name, name),
        ).fetchone()
    assert left == (0,)
    return results


def test_a_guilty_strategy_stays_guilty_and_an_innocent_one_innocent_in_any_order(
    embedded: Target, processes: Processes, version_counter: Scenario
) -> None:
    results = _runs(embedded, processes, version_counter, "naive", "advisory", consumers="cursor horizon")
    assert [result.counts["rows"] for result in results] == [400] * 6
    guilty = [result for result in results if result.strategy == "naive"]
    assert any(result.counts["duplicates"] for result in guilty)
    assert not any(result.counts["duplicates"] for result in results if result not in guilty)
    assert all(result.verdict is not Verdict.INVALID for result in results if result not in guilty)


def test_sessions_rest_between_runs_whose_tables_are_new(
    embedded: Target, processes: Processes, tmp_path: Path
) -> None:
    scenario = _scenario(tmp_path, "INSERT INTO written (pid) VALUES (pg_backend_pid());")
    results = _runs(embedded, processes, scenario, "insert")
    assert [result.measures["rows"] for result in results] == [400, 400]
    assert [result.measures["first"] for result in results] == [1, 1]
    one, two = (set(str(result.measures["pids"]).split()) for result in results)
    assert one == two
    assert all(result.pace is not None and result.pace.cpu.server_s is not None for result in results)


def test_runs_of_several_isolation_levels_have_the_same_sessions(
    embedded: Target, processes: Processes, tmp_path: Path
) -> None:
    script = "INSERT INTO written (pid) VALUES (pg_backend_pid() * CASE {} WHEN '{}' THEN 1 ELSE -1 END);"
    script = script.format("current_setting('transaction_isolation')", "serializable")
    results = _runs(embedded, processes, _scenario(tmp_path, script), "insert", "serializable")
    pids = {strategy: set[int]() for strategy in ("insert", "serializable")}
    for result in results:
        pids[result.strategy] |= set(map(int, str(result.measures["pids"]).split()))
    assert {-pid for pid in pids["insert"]} == pids["serializable"]
    assert min(pids["serializable"]) > 0


def test_sessions_of_sql_with_reset_do_not_rest(embedded: Target, processes: Processes, tmp_path: Path) -> None:
    level = "current_setting('transaction_isolation')"
    script = f"INSERT INTO written (pid) VALUES (CASE {level} WHEN 'serializable' THEN 1 END);"
    scenario = _scenario(tmp_path, f"RESET default_transaction_isolation;\n{script}")
    results = _runs(embedded, processes, scenario, "insert", "serializable")
    assert {result.strategy: result.measures["pids"] for result in results} == {"insert": "", "serializable": "1"}


def test_a_session_that_ends_in_a_transaction_or_is_lost_is_replaced(
    embedded: Target, processes: Processes, tmp_path: Path
) -> None:
    script = "INSERT INTO written (pid) VALUES (pg_backend_pid());\nSELECT pg_terminate_backend(pg_backend_pid());"
    results = _runs(embedded, processes, _scenario(tmp_path, script), "insert")
    assert all(result.counts["attempts"] == 400 for result in results)
