"""An exploration has one result: what is saved is read back equal, and a saved file prints as the command did."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import jsonschema
import pytest

from conftest import Command
from measured import rendered
from racebench.core.anomalies import ANOMALIES, AnomalyKind
from racebench.core.errors import UsageProblem
from racebench.core.verdict import Verdict
from racebench.exploration.result import (
    Beginning,
    Exploration,
    Limit,
    Replay,
    ScheduleOutcome,
    SessionOutcome,
    Start,
    Unseen,
)
from racebench.exploration.schedules import Schedule, Step
from racebench.reports import exploration_text, page
from racebench.reports.results.explorations import SCHEMA_FILE, Explorations, from_data, merge, to_json
from racebench.reports.results.sources import Source
from racebench.reports.terminal import exploration_table, failures, tables

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "explored.json"
TWINS = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"
ORDERS = '''"""Orders."""

def create_order(connection):
    with connection.transaction():
        (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
        connection.execute("INSERT INTO orders (number) VALUES (%s)", [number])
'''


def outcome(*codes: str, anomalies: tuple[tuple[str, int], ...] = ()) -> ScheduleOutcome:
    sessions = tuple(
        SessionOutcome(outcome="FAIL" if code else "OK", sqlstate=code, rank=0 if code else 1, tries=1)
        for code in codes
    )
    return ScheduleOutcome(sessions=sessions, anomalies=anomalies)


def replayed(**changes: object) -> Replay:
    names = Schedule(scenario="shop", strategy="pay+cancel[1]", consumer=None, digest="0123abcd", steps=(1, 2, 2, 1))
    witness = Replay(
        schedule=names,
        sessions=2,
        forbidden=("violations", "refused"),
        outcome=outcome("", "23505", anomalies=(("refused", 1),)),
        steps=(
            Step(
                session="s1",
                sent="SELECT :x",
                literal="SELECT 'ü'",
                values=("x=ü",),
                where="shop.py:7",
                answered=("x = 1",),
            ),
            Step(session="s2", sent="COMMIT", answered=(), waits_for=("s1",), script="shop.sql:4"),
            Step(session="s1", sent="COMMIT", answered=("COMMIT",), went_on=(("s2", ("ERROR 23505: no",)),)),
        ),
        broken=("'invariant' is broken by number = 1",),
        prepared=("INSERT INTO t VALUES (1)",),
        calls={"s1": "shop:pay", "s2": "shop:cancel"},
        command="racebench replay 'v1:…' --call shop:pay",
    )
    return replace(witness, **changes)  # type: ignore[arg-type]


def exploration(**changes: object) -> Exploration:
    made = Exploration(
        scenario="shop",
        strategy="pay+cancel[1]",
        summary="Python: shop:pay, shop:cancel",
        consumer=None,
        sessions=2,
        polls=0,
        reduced=True,
        seed=7,
        depth=3,
        verdict=Verdict.INVALID,
        expected=(),
        as_expected=None,
        forbidden=("violations", "refused"),
        counts=dict.fromkeys(ANOMALIES, 0) | {"refused": 3},
        outcomes={outcome("", "23505", anomalies=(("refused", 1),)): 3, outcome("", ""): 2},
        run=5,
        pruned=1,
        drawn=2,
        chance=0.125,
        anomalous=3,
        raced=1,
        complete=False,
        limit=Limit.ENOUGH,
        seconds=0.1 + 0.2,
        witness=replayed(),
        unseen=Unseen.TIMEOUT,
        calls={"s1": "shop:pay", "s2": "shop:cancel"},
        triggers=("audit",),
        code=("shop.py:3",),
        swallowed={"23505": 2},
        notes=("no --invariant was given, so only errors were looked for",),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


LEFTOVERS = ("'SELECT lo_create(0)' may change large objects; explore it elsewhere", "s1 left the cursor c; close it")


def document(*explorations: Exploration) -> Explorations:
    return Explorations(
        environment={"server_version": "18.4", "target": "embedded"},
        created="2026-01-01T00:00:00Z",
        explorations=explorations,
        complete=True,
    )


@pytest.mark.parametrize(
    "one",
    [
        exploration(),
        exploration(witness=None, verdict=Verdict.VALID, complete=True, chance=None, unseen=None, as_expected=True),
        exploration(witness=replayed(outcome=None, steps=(), broken=(), prepared=(), command=None)),
        exploration(
            consumer="cursor",
            polls=2,
            calls={},
            witness=replayed(
                calls={},
                schedule=Schedule(
                    scenario="shop", strategy="pay+cancel[1]", consumer="cursor", digest="0123abcd", steps=(1, 3)
                ),
            ),
        ),
        exploration(
            outcomes={},
            counts=dict.fromkeys(ANOMALIES, 0),
            run=0,
            seconds=0.0,
            witness=None,
            beginning=Beginning(start=Start.RESTORED, reasons=("transactions are serializable",), prevented="no"),
        ),
        exploration(verdict=Verdict.UNKNOWN, unseen=Unseen.LEFTOVER, leftovers=LEFTOVERS),
    ],
    ids=["witness", "valid", "a witness that was not run again", "consumer", "nothing was run", "leftovers"],
)
def test_what_is_saved_is_read_back_equal(one: Exploration) -> None:
    whole = document(one, exploration())
    again = from_data(json.loads(to_json(whole)), "x.json")
    assert again == whole
    assert list(again.explorations[0].outcomes.items()) == list(one.outcomes.items())  # the most frequent first
    assert to_json(again) == to_json(whole)


def test_a_document_of_before_there_was_more_in_it_is_read() -> None:
    saved = from_data(json.loads(REFERENCE.read_text()), REFERENCE.name)
    naive = next(one for one in saved.explorations if one.strategy == "naive")
    assert (naive.verdict, naive.as_expected, naive.found) == (Verdict.INVALID, True, ("duplicates", "missed"))
    assert naive.witness is not None
    assert naive.witness.anomalies == {"duplicates": 1}
    assert [int(step.session[1:]) for step in naive.witness.steps] == list(naive.witness.schedule.steps)
    assert from_data(json.loads(to_json(saved)), "again") == saved


@pytest.mark.parametrize(
    ("wrong", "said"), [(3, "3 of 5 schedules go wrong"), (0, "None of its 5 schedules goes wrong")]
)
def test_what_schedules_left_behind_is_said_whatever_was_counted(wrong: int, said: str) -> None:
    one = exploration(anomalous=wrong, verdict=Verdict.UNKNOWN, unseen=Unseen.LEFTOVER, leftovers=LEFTOVERS)
    said += f", but the schedules did not begin in the same state: {LEFTOVERS[0]} (and 1 more)."
    assert exploration_text.sentence(one) == said


@pytest.mark.parametrize(
    ("verdict", "sessions", "said", "next_step"),
    [
        (Verdict.VALID, 2, "Its only schedule was run, nothing went wrong.", "explore with `--sessions 3`; "),
        (Verdict.VALID, 9, "Its only schedule was run, nothing went wrong.", ""),
        (Verdict.UNKNOWN, 9, "Its only schedule goes right, but", None),
    ],
)
def test_an_exploration_that_can_go_no_further_says_so(
    verdict: Verdict, sessions: int, said: str, next_step: str | None
) -> None:
    alone = exploration(verdict=verdict, sessions=sessions, run=1, anomalous=0, complete=True, limit=None, triggers=())
    assert exploration_text.sentence(alone).startswith(said)
    cost = "`racebench run` shows the cost under load."
    assert exploration_text.next_step(alone) == ("" if next_step is None else f"Next: {next_step}{cost}")


@pytest.mark.parametrize(
    ("named", "said", "fix"),
    [
        ("lost update", ", a lost update: ", "let the UPDATE compute from the row (SET n = n + 1), or lock the row"),
        ("", ": ", "make one session wait for the other, by a lock that each takes before it reads"),
    ],
)
def test_an_outcome_of_no_serial_order_is_said_everywhere_with_its_name_and_its_fix(
    named: str, said: str, fix: str
) -> None:
    difference = "balance of accounts is 900 (id 1); one after the other it is 800"
    witness = replayed(
        forbidden=("non-serializable",),
        outcome=outcome("", "", anomalies=(("non-serializable", 1),)),
        broken=(),
        difference=difference,
        named=named,
    )
    counts = dict.fromkeys(ANOMALIES, 0) | {"non-serializable": 3}
    one = exploration(forbidden=("non-serializable",), counts=counts, witness=witness, limit=Limit.FIRST)
    assert exploration_text.sentence(one) == (
        f"3 of 5 schedules end as no serial order does{said}balance of accounts is 900 (id 1); "
        "the search ended at the first."
    )
    finding = f"{named}: {difference}" if named else difference
    whole = document(one)
    assert from_data(json.loads(to_json(whole)), "x.json") == whole
    reports = {
        "terminal": tables.plain(lambda console: exploration_table.show(console, whole), width=200),
        "test": failures.of_exploration(whole, width=200),
        "page": page.render([Source(path=Path("x.json"), content=whole)]),
        "junit": rendered("junit", whole),
    }
    for report, text in reports.items():
        assert finding in html.unescape(text), report
        assert fix in html.unescape(text), report
    assert f"| non-serializable{f' ({named})' if named else ''} |" in rendered("markdown", whole)


def test_documents_are_merged_in_their_order() -> None:
    one = replace(document(exploration()), command="racebench explore --call 'a|b'")
    other = replace(document(exploration(strategy="other")), command="racebench explore", complete=False)
    both = merge([one, other])
    assert [exploration.strategy for exploration in both.explorations] == ["pay+cancel[1]", "other"]
    assert not both.complete
    assert both.command == "racebench explore --call 'a|b' && racebench explore"
    assert from_data(json.loads(to_json(both)), "x").command == both.command
    assert rendered("markdown", both).endswith(f"\nMade by `{both.command}` (racebench ?, {both.created}).\n")
    assert "Made by" not in rendered("markdown", replace(both, command=""))


def test_every_key_that_is_written_is_in_the_schema() -> None:
    saved = from_data(json.loads(REFERENCE.read_text()), REFERENCE.name)
    for whole in (saved, document(exploration(leftovers=LEFTOVERS, fault="f", unseen=Unseen.RANDOM, chance=0.5))):
        jsonschema.validate(json.loads(to_json(whole)), json.loads(SCHEMA_FILE.read_text()))


@pytest.mark.parametrize(
    "change",
    [{"witness": {"schedule": "nonsense", "steps": [], "anomalies": {}}}, {"verdict": "FINE"}, {"outcomes": [1]}],
)
def test_what_is_no_exploration_is_said(change: dict[str, object]) -> None:
    data = json.loads(to_json(document(exploration())))
    data["explorations"][0] |= change
    with pytest.raises(UsageProblem, match=r"x\.json is not a racebench result: explorations\[0\]\."):
        from_data(data, "x.json")


@pytest.mark.server
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-s", "advisory"), "advisory is VALID, as expected: all"),
        (("-s", "naive", "--no-reduction"), "60 of 70 feasible schedules go wrong"),
        (("-s", "sequence", "--consumer", "cursor", "--polls", "2"), "(s3 is consumer 'cursor')"),
        (("-s", "lock-trigger-default"), "its race is inside one statement"),
        (("-s", "naive", "-s", "unique", "-s", "advisory", "-s", "upsert", "-s", "sequence"), "are as expected."),
        (("--call", "orders:create_order", "--setup", "schema.sql", "--invariant", TWINS), "orders.py:6"),
        (("insert.sql", "--setup", "schema.sql"), "note: no --invariant was given"),
    ],
    ids=["valid", "invalid", "consumer", "unseen", "many", "own code", "without an invariant"],
)
def test_a_saved_file_prints_as_the_command_did(
    racebench: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "orders.py").write_text(ORDERS)
    (tmp_path / "schema.sql").write_text("CREATE TABLE orders (number int);")
    (tmp_path / "insert.sql").write_text("INSERT INTO orders VALUES (1);")
    live = racebench("explore", *arguments, "--no-save", "--json", "x.json")
    assert (live.returncode, live.stderr) == (3 if "--invariant" in arguments else 0, "")
    assert said in " ".join(live.stdout.split())
    for report in (racebench("report", "x.json"), racebench("report", "x.json", "--format", "table")):
        assert (report.returncode, report.stderr) == (0, "")
        assert live.stdout.startswith(report.stdout)
        assert live.stdout.removeprefix(report.stdout).startswith("page: "), "the next steps follow"
    racebench("report", "x.json", "-o", "table.txt")
    assert " ".join(said.split()) in " ".join((tmp_path / "table.txt").read_text().split())


@pytest.mark.server
def test_runs_and_explorations_are_printed_one_after_the_other(racebench: Command, tmp_path: Path) -> None:
    assert racebench("run", "-s", "naive", "-n", "200", "--no-save", "--json", "run.json").returncode == 0
    done = racebench("report", "run.json", str(REFERENCE))
    assert (done.returncode, done.stderr) == (0, "")
    assert "commits" in done.stdout
    assert "27 of 27 are as expected." in done.stdout


def test_a_new_kind_of_anomaly_has_its_column_with_its_own_head(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = replace(ANOMALIES["missed"], name="stale", heading="sta-\nle")
    monkeypatch.setitem(cast("dict[str, AnomalyKind]", ANOMALIES), "stale", stale)
    found = exploration()
    document = Explorations(
        environment={}, created="", explorations=(replace(found, counts={**found.counts, "stale": 7}),), complete=True
    )
    table = tables.plain(lambda console: exploration_table.show(console, document))
    head = [line.split() for line in table.splitlines() if " stale " in line]
    assert len(head) == 1, table
    assert " 7 " in next(line for line in table.splitlines() if "INVALID" in line)
