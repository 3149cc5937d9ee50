"""The lines after a run, a comparison or an exploration: at most three commands, which the command line takes."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from measured import compared, run_of
from racebench.cli import next_steps
from racebench.cli.files import ResultFiles
from racebench.cli.main import cli
from racebench.core.model import Scenario
from racebench.core.results import RunResult
from racebench.core.target import Pooling
from racebench.core.verdict import Verdict
from racebench.exploration.pool import PoolOptions
from racebench.exploration.result import Exploration
from racebench.reports.results.document import Document
from racebench.workloads import ad_hoc, catalog

SAVED = Path("results/a run.json")
KEPT = ResultFiles(json_path=None, folder=Path("results"), stem=Path("results/a run"))
NOTHING = ResultFiles(json_path="-", folder=None, stem=None)


def after_runs(
    scenario: Scenario,
    *runs: RunResult,
    files: ResultFiles = KEPT,
    compare: bool = False,
    pooler: Pooling | None = None,
    written: bool = True,
) -> list[str]:
    document = Document(environment={}, created="", runs=runs, comparison=compared(runs) if compare else None)
    saved = None if files.folder is None or not written else SAVED
    return next_steps.after_runs(scenario, document, files, saved, proof=not compare, pooler=pooler)


def after_explorations(
    scenario: Scenario,
    verdict: Verdict,
    command: str | None = None,
    *,
    pair: str = "naive",
    found: str = "violations",
    pooler: PoolOptions | None = None,
) -> list[str]:
    """`pair`: a strategy, with a consumer after a plus sign."""
    strategy, _, consumer = pair.partition("+")
    explored = SimpleNamespace(
        strategy=strategy,
        consumer=consumer or None,
        verdict=verdict,
        witness=None if command is None else SimpleNamespace(command=command),
        pooler=pooler,
        found=(found,) if verdict is Verdict.INVALID else (),
    )
    return next_steps.after_explorations(scenario, [cast("Exploration", explored)], KEPT, SAVED)


def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "insert.sql").write_text("INSERT INTO t VALUES (1)")
    (tmp_path / "t.sql").write_text("CREATE TABLE t (n int)")
    return ad_hoc.find("./insert.sql", called=(), setup=("t.sql",), invariants=("SELECT 1 WHERE false",))


def test_after_a_race_the_page_comes_first_then_the_proof_then_the_right_strategy() -> None:
    scenario = catalog.find_scenario(None)
    steps = after_runs(scenario, run_of("advisory"), run_of("naive", duplicates=3))
    assert steps == [
        "page: racebench report 'results/a run.json' --html race.html",
        "proof: racebench explore -s naive",
        "instead: racebench show advisory",
    ]
    missing = run_of("commit-stamp", missed=5)
    (reader,) = missing.consumers
    at_fault = replace(reader, at_fault=True, instead="horizon")
    assert after_runs(scenario, replace(missing, consumers=(at_fault,)))[2:] == ["instead: racebench show horizon"]
    assert after_runs(scenario, run_of("advisory")) == [
        steps[0],
        "proof: racebench explore -s advisory --consumer cursor",
    ]
    assert after_runs(scenario, run_of("naive", committed=0)) == steps[:1]
    assert after_runs(scenario, *[run_of(name) for name in ("naive", "advisory")] * 7, compare=True) == steps[:1]


def test_rows_that_only_a_consumer_misses_are_explored_with_it() -> None:
    """Without a consumer no schedule misses a row: explore would say VALID of what the run has just found."""
    missed = run_of("sequence", missed=5)
    (reader,) = missed.consumers
    harmless = replace(reader, name="horizon", counts={**reader.counts, "missed": 0})
    both = replace(missed, consumers=(harmless, reader))
    assert after_runs(catalog.find_scenario(None), both)[1] == "proof: racebench explore -s sequence --consumer cursor"


def test_calls_can_be_explored_if_they_use_psycopg_3() -> None:
    scenario = ad_hoc.find(None, called=["shop:order"], setup=(), invariants=())
    loaded = replace(run_of("order", violations=2), consumers=())
    assert after_runs(scenario, loaded)[1:] == [
        "proof, if the calls use psycopg 3: racebench explore --call shop:order"
    ]


def test_where_nothing_is_kept_the_first_line_says_how_to_keep_it() -> None:
    assert after_runs(catalog.find_scenario(None), run_of("naive"), files=NOTHING)[0] == (
        "page: nothing was kept; leave out --no-save, then: racebench report results/….json --html race.html"
    )
    beside = replace(NOTHING, json_path="kept/run.json")
    assert after_runs(catalog.find_scenario(None), run_of("naive"), files=beside)[0] == (
        "page: racebench report kept/run.json --html race.html"
    )


def test_where_the_results_cannot_be_written_no_line_says_to_leave_out_an_option_that_was_not_given() -> None:
    scenario, run = catalog.find_scenario(None), run_of("naive", duplicates=3)
    assert [step.partition(":")[0] for step in after_runs(scenario, run)] == ["page", "proof", "instead"]
    assert [step.partition(":")[0] for step in after_runs(scenario, run, written=False)] == ["proof", "instead"]


def test_after_an_exploration_the_schedule_is_replayed_or_the_load_follows() -> None:
    scenario = catalog.find_scenario("lost-update")
    assert after_explorations(scenario, Verdict.INVALID, "racebench replay 'v1:…'")[1:] == [
        "replay: racebench replay 'v1:…'",
        "instead: racebench show relative-update --scenario lost-update",
    ]
    assert after_explorations(scenario, Verdict.VALID)[1:] == ["load: racebench run lost-update -s naive"]


def test_what_was_found_behind_a_pooler_is_explored_and_run_behind_one() -> None:
    scenario = catalog.find_scenario(None)
    broken = run_of("session-advisory", duplicates=3)
    proof = "proof: racebench explore -s session-advisory --pooler transaction"
    assert after_runs(scenario, broken, pooler=Pooling.TRANSACTION)[1] == proof
    simulated = PoolOptions(pooling=Pooling.TRANSACTION, size=2)
    load = "load: racebench run -s advisory --pooler transaction"
    assert after_explorations(scenario, Verdict.VALID, pair="advisory+", pooler=simulated)[1] == load


def test_after_an_exploration_with_a_consumer_the_pair_goes_on_and_the_one_at_fault_is_replaced() -> None:
    scenario = catalog.find_scenario(None)

    def steps(pair: str, verdict: Verdict = Verdict.INVALID) -> list[str]:
        return after_explorations(scenario, verdict, pair=pair, found="missed")[1:]

    assert steps("commit-stamp+settle-delay") == ["instead: racebench show cursor"]
    assert steps("sequence+cursor") == ["instead: racebench show advisory"]
    assert steps("commit-stamp+cursor", Verdict.VALID) == ["load: racebench run -s commit-stamp --consumer cursor"]


def test_every_command_named_is_one_that_the_command_line_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = catalog.shipped_folder() / "quota"
    scenarios = [*catalog.shipped(), catalog.find_scenario(str(folder)), own_code(tmp_path, monkeypatch)]
    assert len(scenarios) > 5
    for scenario in scenarios:
        wrong = next(iter(scenario.strategies))
        broken = replace(run_of(wrong, violations=1, duplicates=1), advice=scenario.advise)
        for line in (*after_runs(scenario, broken), *after_explorations(scenario, Verdict.VALID)):
            words = shlex.split(line.partition(": ")[2])
            command: Any = cli.commands[words[1]]
            with command.make_context(words[1], words[2:]) as context:
                assert words[0] == "racebench"
                assert context.params
            if words[1] in ("run", "explore"):
                found = ad_hoc.find(
                    context.params["scenario"],
                    called=context.params["call"],
                    setup=context.params["setup"],
                    invariants=context.params["invariant"],
                )
                assert (found.name, wrong in found.strategies) == (scenario.name, True)
