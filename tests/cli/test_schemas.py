"""The JSON Schemas of scenario.toml and of the settings accept what racebench accepts, and refuse what it refuses."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from in_process import run

from racebench.cli import schemas, settings
from racebench.cli.commands import schema as command
from racebench.cli.main import cli
from racebench.cli.settings import Setting
from racebench.core import documentation
from racebench.core.anomalies import ANOMALIES
from racebench.core.errors import ScenarioProblem, UsageProblem
from racebench.core.injection import EXAMPLES
from racebench.core.model import Numbering
from racebench.core.target import Pooling
from racebench.workloads import catalog, manifest

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "scenarios").glob("*/scenario.toml"))
OTHERS = sorted((ROOT / "benchmarks").glob("**/scenario.toml"))
SCENARIO = json.loads(schemas.text("scenario", cli))
SETTINGS = json.loads(schemas.text("settings", cli))
PROBES: tuple[Any, ...] = (
    *(True, False, 0, 1, 2, 18, -1, 1.5, 1e12, 10**9, "", "x", "a\0b", "20%", "unlimited", "40001", "duplicates"),
    *([], ["x"], ["40001"], ["duplicates"], [1], {}, {"x": "y"}, {"x": 1.5}, {"x": True}, {"transaction": ["missed"]}),
    *({"sqlstates": ["40001"], "tries": 1}, {"lost": True}, {"lost": False}, {"sqlstates": [], "backoff_ms": 2}),
    *("unordered", "never", "table", "none", "dense", "serializable", "schema.sql", ["schema.sql"], "query.sql"),
)
#: Keys of which a schema cannot say all: they name a file, a strategy or a fault.
BEYOND = {"schema", "script", "open", "close", "explore", "advise", "faults"}


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def refusal(read: Callable[[], object]) -> str | None:
    """Why something is refused; None if it is read."""
    try:
        read()
    except (ScenarioProblem, UsageProblem) as problem:
        return str(problem)
    return None


def test_each_schema_is_a_schema_and_is_printed(tmp_path: Path) -> None:
    assert [*command.NAMES] == [*schemas.SCHEMAS]
    for name in command.NAMES:
        done = run("schema", name, cwd=tmp_path)
        assert (done.code, done.errors) == (0, "")
        validator(json.loads(done.output))
    assert run("schema", "settngs", cwd=tmp_path).code == 2


def test_a_schema_is_named_by_its_address_on_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documentation, "address", lambda: "https://docs.example")
    assert json.loads(schemas.text("scenario", cli))["$id"] == "https://docs.example/schemas/scenario.schema.json"
    assert json.loads(schemas.text("settings", cli))["$id"] == "https://docs.example/schemas/settings.schema.json"
    assert SCENARIO["$id"].startswith("urn:racebench:")


# scenario.toml


@pytest.mark.parametrize("path", [*SHIPPED, *OTHERS], ids=lambda path: path.parent.name)
def test_the_schema_accepts_every_shipped_scenario_and_its_first_line_names_it(path: Path) -> None:
    text = path.read_text()
    assert list(validator(SCENARIO).iter_errors(tomllib.loads(text))) == []
    named = re.match(r"#:schema (\S+)\n", text)
    assert named is not None
    assert (path.parent / named[1]).resolve() == ROOT / "racebench" / schemas.SCHEMAS["scenario"].file


def test_the_keys_and_words_of_the_schema_are_those_of_the_parser() -> None:
    strategy, consumer = SCENARIO["$defs"]["strategy"]["properties"], SCENARIO["$defs"]["consumer"]["properties"]
    assert set(SCENARIO["properties"]) == manifest._SCENARIO_KEYS
    assert set(strategy) == manifest._STRATEGY_KEYS
    assert set(consumer) == manifest._CONSUMER_KEYS
    assert set(SCENARIO["properties"]["rows"]["properties"]) == manifest._ROWS_KEYS
    assert set(strategy["retry"]["anyOf"][1]["properties"]) == manifest._RETRY_KEYS
    assert SCENARIO["$defs"]["kind"]["enum"] == [*ANOMALIES]
    assert strategy["isolation"]["enum"] == ["", *manifest.ISOLATION_LEVELS]
    assert strategy["numbers"]["enum"] == [*Numbering]
    assert strategy["pooler"]["propertyNames"]["enum"] == [*Pooling]
    assert SCENARIO["properties"]["faults"]["items"]["examples"] == [*EXAMPLES.values()]


def test_the_page_of_scenarios_describes_every_key_of_the_schema() -> None:
    page = (ROOT / "docs" / "scenarios.md").read_text().partition("## Reference")[2]
    tables = (SCENARIO, *(SCENARIO["$defs"][name] for name in ("strategy", "consumer")))
    keys = {key for table in tables for key in table["properties"]} - {"strategies", "consumers"}
    assert len(keys) > 30
    assert [key for key in sorted(keys) if not re.search(rf"`\[?{key}\]?[` ]", page)] == []


GOOD: dict[str, Any] = {
    "summary": "A summary.",
    "schema": "schema.sql",
    "rows": {"table": "t"},
    "strategies": {"one": {"summary": "One.", "script": "script.sql"}},
    "consumers": {"poll": {"summary": "Polls.", "script": "query.sql", "cursor": {"version": "zero"}}},
}


def mutations() -> Iterator[tuple[str, dict[str, Any]]]:
    """A good scenario, each time with one key set to one value, or without it."""
    tables = {
        (): manifest._SCENARIO_KEYS,
        ("rows",): manifest._ROWS_KEYS,
        ("strategies", "one"): manifest._STRATEGY_KEYS,
        ("consumers", "poll"): manifest._CONSUMER_KEYS,
    }
    for where, keys in tables.items():
        for key in (*sorted(keys), "unknown"):
            for probe in (*PROBES, None):
                data = copy.deepcopy(GOOD)
                table = data
                for part in where:
                    table = table[part]
                if probe is None:
                    table.pop(key, None)
                else:
                    table[key] = copy.deepcopy(probe)
                yield key, data


def test_the_schema_refuses_what_the_parser_refuses_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("schema.sql", ""), ("script.sql", "SELECT 1;"), ("query.sql", "SELECT 1 AS id;")):
        (tmp_path / name).write_text(text)
    (tmp_path / "scenario.toml").write_text("")
    checked, accepted, refused = validator(SCENARIO), 0, 0
    for key, data in mutations():
        monkeypatch.setattr(manifest.tomllib, "loads", lambda _text, data=data: data)
        problem = refusal(partial(manifest.read_scenario, tmp_path))
        errors = [error.message for error in checked.iter_errors(data)]
        if problem is None:
            assert errors == [], (key, data)
            accepted += 1
        elif key not in BEYOND:
            assert errors, (key, problem, data)
            refused += 1
    assert min(accepted, refused) > 200


# Settings


def options() -> Iterator[tuple[str, click.Command, click.Parameter]]:
    for name, leaf in settings.leaves(cli):
        for parameter in settings.settable(leaf):
            yield name, leaf, parameter


def nested(name: str, key: str, value: Any) -> dict[str, Any]:
    """A setting of a command, as a file has it."""
    table = {key: value}
    for word in reversed(name.split()):
        table = {word: table}
    return table


def test_the_schema_accepts_every_value_that_an_option_takes_and_no_value_of_another_type(tmp_path: Path) -> None:
    definitions = {name: jsonschema.Draft202012Validator(part) for name, part in SETTINGS["$defs"].items()}
    tried = set()
    accepted = refused = 0
    for name, leaf, parameter in options():
        key = settings.key(parameter)
        table = SETTINGS
        for word in name.split():
            of_word = table["properties"][word]
            table = next(part for part in of_word.get("anyOf", [of_word]) if "properties" in part)
        defined = table["properties"][key]["$ref"].removeprefix("#/$defs/")
        if defined in tried:  # the same option of another command
            continue
        tried.add(defined)
        context = click.Context(leaf, info_name=name)
        for probe in PROBES:
            setting = Setting(value=probe, source="x", folder=tmp_path)
            problem = refusal(partial(settings.checked, context, parameter, setting))
            if problem is None:
                assert definitions[defined].is_valid(probe), (name, key, probe)
                accepted += 1
            elif re.search(r" is (a number|a string|true or false), not ", problem):
                assert not definitions[defined].is_valid(probe), (name, key, probe, problem)
                refused += 1
    assert tried == set(definitions)
    assert min(accepted, refused) > 200


def test_the_schema_knows_the_keys_that_the_settings_know() -> None:
    checked = validator(SETTINGS)
    page = (ROOT / "docs" / "settings.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert list(checked.iter_errors(tomllib.loads(example)["tool"]["racebench"])) == []
    assert checked.is_valid({"workers": 4, "run": {"workers": 8}, "server": {"reset": {"server": 18}}})
    assert checked.is_valid({"report": ["junit=x.xml"]}), "an option of run"
    assert checked.is_valid({"report": {"format": "html"}}), "a command"
    assert not checked.is_valid({"wrokers": 4})
    assert not checked.is_valid({"run": {"sessions": 4}}), "an option of explore"
    assert not checked.is_valid({"replay": {"call": "x:y"}}), "told on the command line"
    for name, _, parameter in options():
        for key in getattr(parameter, "old", ()):
            if key.startswith("--"):
                table = SETTINGS["properties"][name.split()[0]]
                table = next(part for part in table.get("anyOf", [table]) if "properties" in part)
                assert " " in name or table["properties"][key[2:]]["deprecated"] is True


def test_the_catalog_is_read_with_its_first_line() -> None:
    assert len(catalog.shipped()) == len(SHIPPED)
