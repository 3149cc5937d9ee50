"""Where the code under test is: where each kind of it begins, and what has no place in a project."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from racebench.core.model import Call, HttpRequest, Program, Scenario, Service
from racebench.workloads import ad_hoc, callables, locations


def pay() -> None:
    """Called by no test."""


def wrapped(function: Callable[[], None]) -> Callable[[], None]:
    @functools.wraps(function)
    def wrapper() -> None:
        function()

    return wrapper


def of_programs(*words: str) -> tuple[str, ...]:
    (strategy,) = ad_hoc.from_programs([Program(words=words)], setup=[], invariants=[]).strategies.values()
    return locations.of_strategy(strategy)


def test_a_function_begins_at_its_first_line_and_so_does_one_that_is_wrapped() -> None:
    line = pay.__code__.co_firstlineno
    name = callables.shown(__file__)
    for function in (pay, wrapped(pay)):
        (strategy,) = ad_hoc.from_calls([function], setup=[], invariants=[]).strategies.values()
        assert locations.of_strategy(strategy) == (f"{name}:{line}",)
    (twice,) = ad_hoc.from_calls([pay, pay], setup=[], invariants=[]).strategies.values()
    assert locations.of_strategy(twice) == (f"{name}:{line}",)


def test_a_library_has_no_place_and_a_module_that_is_not_imported_yet_has_none() -> None:
    assert locations._of_call(Call(module="os.path", name="join", function=functools.wraps)) == ""
    assert locations._of_call(Call(module="shop", name="pay")) == ""
    assert locations._of_call(Call(module="shop", name="pay", file="/app/shop.py")) == "/app/shop.py:1"


def test_a_script_begins_at_its_first_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("db").mkdir()
    Path("db/pay.sql").write_text("-- pays\n\n\\set n 1\nBEGIN;\nSELECT 1;\nCOMMIT;\n")
    (strategy,) = ad_hoc.from_sql("db/pay.sql", setup=[], invariants=[]).strategies.values()
    assert locations.of_strategy(strategy) == ("db/pay.sql:4",)
    begin, select, _ = strategy.script.statements
    assert locations.of_statement(strategy.script, begin) == "db/pay.sql:4"
    assert locations.of_statement(strategy.script, select) == "db/pay.sql:5"


def test_a_shipped_scenario_is_in_no_project(version_counter: Scenario) -> None:
    assert {locations.of_strategy(strategy) for strategy in version_counter.strategies.values()} == {()}


def test_a_program_is_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pay.js").write_text("")
    assert of_programs("node", "./pay.js", "1") == ("pay.js:1",)
    assert of_programs("./pay.js", "elsewhere") == ("pay.js:1",)
    assert of_programs("node", "-e", "x" * 5000) == (), "the text of a program is no name of a file"
    assert of_programs("node", "-e", "/" * 5000) == ()


def test_a_request_has_no_file() -> None:
    request, service = HttpRequest(method="POST", path="/orders"), Service(command=("node", __file__))
    (strategy,) = ad_hoc.from_requests([request], service, setup=[], invariants=[]).strategies.values()
    assert locations.of_strategy(strategy) == ()
