"""The line that raced, as SARIF and as annotations of GitHub: where it is, how loud it is, and whom nobody accuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import Command
from judged import ENVIRONMENT, HOSTILE, result_of
from measured import rendered
from racebench.core import documentation
from racebench.core.anomalies import ANOMALIES
from racebench.core.model import Scenario
from racebench.core.verdict import Verdict
from racebench.exploration.result import Exploration, Replay, ScheduleOutcome
from racebench.exploration.schedules import Schedule, Step
from racebench.reports import annotations, formats, places
from racebench.reports.annotations import OF_TESTS, Judging
from racebench.reports.formats import sarif
from racebench.reports.places import Place, Project
from racebench.reports.results.document import Document
from racebench.reports.results.document import to_json as runs_to_json
from racebench.reports.results.explorations import Explorations, from_data, to_json
from racebench.reports.results.reading import from_json

WRITTEN = json.loads(Path(__file__).with_name("sarif.schema.json").read_text())
READ, WRITE = "SELECT max(n) FROM t", "INSERT INTO t VALUES (:n)"
#: s1 and s2 read the same maximum; s3 runs alone, after them.
SCHEDULE = ((1, READ), (2, READ), (1, WRITE), (1, "COMMIT"), (2, WRITE), (2, "COMMIT"), (3, READ), (3, WRITE))


def witness(steps: tuple[tuple[int, str], ...] = SCHEDULE, file: str = "shop.py", **changes: object) -> Replay:
    lines = {READ: 7, WRITE: 9, "COMMIT": 4}
    made = Replay(
        schedule=Schedule(
            scenario="shop",
            strategy="pay",
            consumer=None,
            digest="0123abcd",
            steps=tuple(number for number, _ in steps),
        ),
        sessions=3,
        forbidden=("violations", "refused"),
        outcome=ScheduleOutcome(sessions=(), anomalies=(("violations", 1),)),
        steps=tuple(
            Step(session=f"s{number}", sent=sent, answered=("ok",), where=f"{file}:{number * 100 + lines[sent]}")
            for number, sent in steps
        ),
        broken=("'invariant' is broken by n = 1",),
        command="racebench replay 'v1:shop/pay[0123abcd]:s1.s2.s1'",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def explored(**changes: object) -> Explorations:
    made = Exploration(
        scenario="shop",
        strategy="pay",
        summary="",
        consumer=None,
        sessions=3,
        polls=0,
        reduced=True,
        seed=1,
        depth=3,
        verdict=Verdict.INVALID,
        expected=(),
        as_expected=None,
        forbidden=("violations", "refused"),
        counts={**dict.fromkeys(ANOMALIES, 0), "violations": 2},
        outcomes={},
        run=6,
        pruned=0,
        drawn=0,
        chance=None,
        anomalous=2,
        raced=0,
        complete=True,
        seconds=0.1,
        witness=witness(),
        code=("shop.py:3",),
    )
    result = replace(made, **changes)  # type: ignore[arg-type]
    return Explorations(environment=ENVIRONMENT, created="2026-01-02T03:04:05Z", explorations=(result,), complete=True)


NO_RACE = "::error title=racebench%3A no race"
NO_VERDICT = "title=racebench%3A no verdict"
INNOCENT: dict[str, object] = {
    "verdict": Verdict.VALID,
    "counts": dict.fromkeys(ANOMALIES, 0),
    "anomalous": 0,
    "witness": None,
}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a folder `app`, in which the command was run."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    monkeypatch.delenv(places.ROOT_VARIABLE, raising=False)
    return tmp_path


def run_of(*documents: Document | Explorations) -> dict[str, Any]:
    """The one run of the SARIF log, which is as the standard requires."""
    log = json.loads(rendered("sarif", *documents))
    jsonschema.Draft202012Validator(WRITTEN).validate(log)
    return dict(log["runs"][0])


def at(location: dict[str, Any]) -> str:
    physical = location["physicalLocation"]
    return f"{physical['artifactLocation']['uri']}:{physical['region']['startLine']}"


# Places


def test_the_line_that_raced_is_the_last_write_of_a_session_that_another_interrupted() -> None:
    assert places.raced(witness()) == 4, "s3 comes later, and alone: its write is innocent"
    assert places.raced(witness(SCHEDULE[:3])) == 2
    assert places.raced(witness(((1, READ), (2, READ), (1, READ)))) == 2, "where nothing is written, the last read"
    assert places.raced(witness(((1, READ), (2, READ)))) is None, "nobody was interrupted"
    assert places.raced(witness(((1, READ), (2, WRITE), (1, "COMMIT")))) == 0, "COMMIT is no write"


def test_the_strands_of_one_session_do_not_interrupt_each_other() -> None:
    steps = witness(((1, READ), (2, READ), (1, WRITE), (2, WRITE))).steps
    alone = (steps[0], replace(steps[1], session="s1b"), steps[2], replace(steps[3], session="s1b"))
    assert places.raced(replace(witness(), steps=alone)) is None
    met = (*alone[:3], replace(steps[3], session="s2"), replace(steps[3], session="s1b"))
    assert places.raced(replace(witness(), steps=met)) == 4


def test_a_consumer_does_not_race() -> None:
    reads = witness(((1, READ), (4, READ), (1, WRITE), (4, READ)))
    with_consumer = replace(reads, schedule=replace(reads.schedule, consumer="cursor"))
    assert (places.raced(reads), places.raced(with_consumer)) == (2, 2)
    only_it = replace(with_consumer, steps=with_consumer.steps[1:])
    assert places.raced(only_it) is None


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("shop.py:7", Place(path="app/shop.py", line=7)),
        ("../db/insert.sql:1", Place(path="db/insert.sql", line=1)),
        ("a:b.py:7", Place(path="app/a:b.py", line=7)),
        ("../../elsewhere.py:7", None),
        ("/usr/lib/python3/elsewhere.py:7", None),
        ("", None),
        ("shop.py", None),
        ("shop.py:0", None),
        ("shop.py:x", None),
        (":7", None),
        ("a\0b.py:7", None),
    ],
)
def test_a_place_is_relative_to_the_root_and_nothing_outside_has_one(line: str, place: Place | None) -> None:
    assert places.here().place(line) == place


def test_an_absolute_path_in_the_project_is_relative_too(checkout: Path) -> None:
    assert places.here().place(f"{checkout}/app/x.py:3") == Place(path="app/x.py", line=3)


def test_githubs_checkout_is_the_root(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(places.ROOT_VARIABLE, str(checkout / "app"))
    assert places.here().place("shop.py:7") == Place(path="shop.py", line=7)
    monkeypatch.setenv(places.ROOT_VARIABLE, str(checkout / "other"))
    assert places.here() == Project(root=checkout, folder=checkout / "app"), "the command runs outside of it"


def test_a_step_without_a_line_is_at_the_line_of_its_session_before() -> None:
    steps = list(witness().steps)
    steps[0], steps[3] = replace(steps[0], where=""), replace(steps[3], where="")
    found = places.of_steps(replace(witness(), steps=tuple(steps)), places.here())
    assert [place.line for place in found if place is not None] == [109, 207, 109, 109, 209, 204, 307, 309]


# SARIF


def test_a_race_is_a_result_at_its_line_with_the_schedule_as_its_flow() -> None:
    run = run_of(explored())
    (result,) = run["results"]
    assert (result["ruleId"], result["level"], at(result["locations"][0])) == ("violations", "error", "app/shop.py:209")
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "violations"
    (flow,) = result["codeFlows"]
    steps = flow["threadFlows"][0]["locations"]
    assert [step["executionOrder"] for step in steps] == [*range(1, 9)]
    assert [at(step["location"]) for step in steps][:3] == ["app/shop.py:107", "app/shop.py:207", "app/shop.py:109"]
    assert steps[0]["location"]["message"]["text"] == f"s1: {READ} → ok"
    assert "2 of 6 schedules break the invariant (n = 1)" in result["message"]["text"]
    assert "racebench replay 'v1:shop/pay[0123abcd]:s1.s2.s1'" in result["message"]["text"]


def test_there_is_a_rule_for_every_kind_of_anomaly_and_no_result_for_the_innocent() -> None:
    run = run_of(explored(**INNOCENT))
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [*ANOMALIES]
    assert run["results"] == []
    assert run["invocations"] == [
        {"executionSuccessful": True, "startTimeUtc": "2026-01-02T03:04:05Z", "toolExecutionNotifications": []}
    ]


def test_unknown_is_a_notification_and_no_result() -> None:
    unknown = explored(verdict=Verdict.UNKNOWN, fault="the server closed the connection")
    run = run_of(unknown)
    assert run["results"] == []
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert told["descriptor"] == {"id": "unknown"}
    assert "the server closed the connection" in told["message"]["text"]


def test_an_interrupted_command_was_not_successful_and_the_exit_code_is_the_commands() -> None:
    (cut,) = run_of(replace(explored(), complete=False))["invocations"]
    assert cut["executionSuccessful"] is False
    assert "Interrupted" in cut["toolExecutionNotifications"][0]["message"]["text"]
    assert "exitCode" not in cut
    ended = json.loads(formats.text("sarif", explored(), exit_code=3))
    assert ended["runs"][0]["invocations"][0]["exitCode"] == 3


def test_a_fingerprint_is_that_of_the_finding_and_not_of_its_line_or_seed() -> None:
    def fingerprint(document: Explorations) -> str:
        return str(run_of(document)["results"][0]["partialFingerprints"])

    steps = [replace(step, where=step.where.replace(":2", ":3")) for step in witness().steps]
    moved = explored(seed=7, anomalous=4, witness=witness(steps=SCHEDULE, command="x"))
    lower = explored(witness=replace(witness(), steps=tuple(steps)))
    assert fingerprint(explored()) == fingerprint(moved) == fingerprint(lower)
    others = [explored(strategy="cancel"), explored(witness=witness(file="cart.py"))]
    assert len({fingerprint(document) for document in [explored(), *others]}) == 3


def test_an_upload_replaces_that_of_the_same_strategies_and_no_other() -> None:
    def category(document: Explorations) -> str:
        return str(run_of(document)["automationDetails"]["id"])

    assert category(explored()) == category(explored(**INNOCENT)) == "racebench/explore/shop/pay/"
    assert re.fullmatch(
        r"racebench/explore/shop/POST-orders-x-1-\w{8}/", category(explored(strategy="POST /orders?x=1"))
    )
    alike = [category(explored(strategy=name)) for name in ("a b", "a-b", "a?b", "заказ", "оплата")]
    assert len({*alike}) == len(alike)
    long, longer = (category(explored(strategy=name * 200)) for name in ("ab", "abb"))
    assert long != longer
    assert max(len(long), len(longer)) < 140


def test_an_anomaly_that_the_schedule_does_not_have_points_at_where_the_code_begins() -> None:
    both = explored(counts={**dict.fromkeys(ANOMALIES, 0), "violations": 2, "refused": 1})
    by_kind = {result["ruleId"]: result for result in run_of(both)["results"]}
    assert at(by_kind["refused"]["locations"][0]) == "app/shop.py:3"
    assert "codeFlows" not in by_kind["refused"]


def test_runs_have_a_result_for_each_anomaly_and_what_the_scenario_knows_is_a_note(version_counter: Scenario) -> None:
    guilty = replace(result_of(version_counter, "naive"), code=("sql/naive.sql:2",))
    own = replace(guilty, strategy="mine", as_expected=None, expected=(), possible=())
    document = Document(environment=ENVIRONMENT, created="2026-01-02T03:04:05Z", runs=(guilty, own))
    results = run_of(document)["results"]
    assert [(result["ruleId"], result["level"]) for result in results] == [
        ("duplicates", "note"),
        ("missed", "note"),
        ("duplicates", "error"),
        ("missed", "error"),
    ]
    assert {at(result["locations"][0]) for result in results} == {"app/sql/naive.sql:2"}
    assert rendered("sarif", from_json(runs_to_json(document), "x.json")) == rendered("sarif", document)


def test_runs_and_explorations_are_one_log_with_an_invocation_each(version_counter: Scenario) -> None:
    runs = Document(
        environment=ENVIRONMENT, created="2026-01-02T03:04:05Z", runs=(result_of(version_counter, "naive"),)
    )
    run = run_of(runs, explored())
    assert run["automationDetails"]["id"] == "racebench/run/explore/version-counter/shop/naive/pay/"
    assert len(run["invocations"]) == 2
    assert [result["properties"]["driver"] for result in run["results"]] == ["run", "run", "explore"]


@settings(max_examples=10)
@example("\ud800%\0")
@given(st.text(st.characters(codec=None)))
def test_any_text_is_valid_sarif_and_one_annotation(text: str) -> None:
    hostile = explored(strategy=f"x{text}", witness=witness(file=f"x{text}"), notes=(text,), fault=text)
    run_of(hostile)
    (command,) = annotations.lines([hostile], OF_TESTS)
    assert re.fullmatch(r"::error (file=[^:,\n\r]+,line=\d+,)?title=[^:,\n\r]+::[^\n\r]+", command), command


def test_hostile_text_and_machine_paths_stay_out() -> None:
    hostile = explored(scenario=HOSTILE, witness=witness(file="/home/someone/secret/shop.py"), code=("/home/x/y.py:1",))
    text = rendered("sarif", hostile)
    run_of(hostile)
    assert "/home/" not in text
    assert "\x1b" not in text
    assert "/home/" not in "".join(annotations.lines([hostile], OF_TESTS))


def test_the_steps_of_a_program_are_at_its_file() -> None:
    steps = tuple(replace(step, where="") for step in witness().steps)
    (result,) = run_of(explored(witness=replace(witness(), steps=steps), code=("pay.js:1",)))["results"]
    flow = result["codeFlows"][0]["threadFlows"][0]["locations"]
    assert {at(step["location"]) for step in flow} == {at(result["locations"][0])} == {"app/pay.js:1"}
    (result,) = run_of(explored(witness=replace(witness(), steps=steps), code=()))["results"]
    assert "codeFlows" not in result, "a service has no file"
    assert "physicalLocation" not in result["locations"][0]


def test_a_rule_has_an_address_where_the_documentation_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "helpUri" not in rendered("sarif", explored())
    monkeypatch.setattr(documentation, "address", lambda: "https://docs.example")
    driver = run_of(explored())["tool"]["driver"]
    assert {rule["helpUri"] for rule in driver["rules"]} == {"https://docs.example/results.html#counts"}


@pytest.mark.server
def test_the_statements_of_a_script_have_its_lines(racebench: Command, checkout: Path) -> None:
    (checkout / "app" / "pay.sql").write_text(
        "-- takes the next number\nBEGIN;\nSELECT coalesce(max(n), 0) + 1 AS n FROM t \\gset\n"
        "INSERT INTO t\n    VALUES (:n);\nCOMMIT;\n"
    )
    done = racebench(
        *("explore", "app/pay.sql", "--setup", "CREATE TABLE t (n int)", "--report", "sarif=x.sarif", "--no-save"),
        *("--invariant", "SELECT n FROM t GROUP BY n HAVING count(*) > 1"),
        env={"GITHUB_ACTIONS": "true"},
        cwd=checkout,
    )
    assert done.returncode == 3
    (annotation,) = done.stderr.splitlines()
    assert annotation.startswith("::error file=app/pay.sql,line=4,title=racebench%3A violations in pay%3A pay::")
    (result,) = json.loads((checkout / "x.sarif").read_text())["runs"][0]["results"]
    flow = result["codeFlows"][0]["threadFlows"][0]["locations"]
    assert [at(step["location"]) for step in flow][:4] == [f"app/pay.sql:{line}" for line in (2, 3, 4, 2)]


# Annotations


def test_a_race_is_an_error_at_its_line() -> None:
    (command,) = annotations.lines([explored()], OF_TESTS)
    head = "::error file=app/shop.py,line=209,title=racebench%3A violations in shop%3A pay::"
    assert command.startswith(f"{head}2 of 6 schedules break the invariant (n = 1).%0A")
    assert f"%0As1: {READ} (app/shop.py:107)%0A" in command


@pytest.mark.parametrize(
    ("document", "judging", "begin"),
    [
        (explored, OF_TESTS, "::error file="),
        (explored, Judging(kinds=("violations",)), "::error file="),
        (explored, Judging(kinds=("refused",)), "::warning file="),
        (explored, Judging(), "::warning file="),
        (lambda: explored(as_expected=True, expected=("violations",)), Judging(), "::notice file="),
        (lambda: explored(as_expected=True, expected=("violations",)), OF_TESTS, "::error file="),
        (lambda: explored(**INNOCENT), OF_TESTS, None),
        (
            lambda: explored(**INNOCENT),
            Judging(any_kind=True, race_expected=True),
            "::error title=racebench%3A no race",
        ),
        (explored, Judging(any_kind=True, race_expected=True), None),
        (
            lambda: explored(**{**INNOCENT, "verdict": Verdict.UNKNOWN}),
            OF_TESTS,
            "::error title=racebench%3A no verdict",
        ),
        (lambda: explored(**{**INNOCENT, "verdict": Verdict.UNKNOWN}), Judging(), f"::warning {NO_VERDICT}"),
        (
            lambda: explored(verdict=Verdict.UNKNOWN, leftovers=("a lock",)),
            OF_TESTS,
            "::error title=racebench%3A no verdict",
        ),
    ],
)
def test_how_loud_an_annotation_is_follows_from_what_fails(
    document: Callable[[], Explorations], judging: Judging, begin: str | None
) -> None:
    commands = annotations.lines([document()], judging)
    assert len(commands) == (begin is not None)
    assert begin is None or commands[0].startswith(begin), commands


def test_of_many_annotations_the_rest_is_counted() -> None:
    document = explored()
    many = replace(
        document,
        explorations=tuple(replace(document.explorations[0], strategy=f"pay{number}") for number in range(12)),
    )
    commands = annotations.lines([many], OF_TESTS)
    assert len(commands) == 12
    shown = annotations.most(commands)
    assert len(shown) == 10
    assert shown[:9] == commands[:9]
    assert shown[9].startswith("::error title=racebench%3A 3 more results::")
    assert annotations.most(commands[:10]) == commands[:10]


def test_a_document_read_back_points_at_the_same_lines() -> None:
    document = explored()
    again = from_data(json.loads(to_json(document)), "x.json")
    assert again == document
    assert rendered("sarif", again) == rendered("sarif", document)
    assert sarif.VERSION == "2.1.0"
