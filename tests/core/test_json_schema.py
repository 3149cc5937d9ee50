"""The check of documents: what it says of the first difference, and what is no difference."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from judged import REFERENCE
from racebench.core import json_schema
from racebench.exploration.result import Unseen
from racebench.history import archive
from racebench.reports.results import document, explorations, reading

SCHEMAS = {"run.json": document.SCHEMA_FILE, "explored.json": explorations.SCHEMA_FILE}


def _small(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((REFERENCE / name).read_text())
    for key in ("runs", "explorations"):
        data |= {key: data[key][:1]} if key in data else {}
    for run in data.get("runs", ()):
        run["witnesses"] = run["witnesses"][:1]
        run["timeline"] |= {name: run["timeline"][name][:2] for name in ("committed", "p50_us", "p99_us")}
    return data


DOCUMENTS = {name: _small(name) for name in SCHEMAS}


@pytest.mark.parametrize("name", ["run.json", "explored.json", "matrix.json"])
def test_the_reference_results_meet_their_schemas(name: str) -> None:
    data = json.loads((REFERENCE / name).read_text())
    schema = explorations.SCHEMA_FILE if "explorations" in data else document.SCHEMA_FILE
    assert json_schema.difference(data, schema) is None
    assert json_schema.known_part(data, schema) == data
    jsonschema.validate(data, json.loads(schema.read_text()))


def test_what_is_wrong_is_named_by_its_path_and_its_value() -> None:
    spoiled = copy.deepcopy(DOCUMENTS["run.json"])
    spoiled["runs"][0]["counts"]["missed"] = "many"
    said = json_schema.difference(spoiled, document.SCHEMA_FILE)
    assert said == "runs[0].counts.missed is 'many', not a whole number"
    del spoiled["runs"][0]["counts"]["missed"]
    assert json_schema.difference(spoiled, document.SCHEMA_FILE) == "runs[0].counts has no 'missed'"


def test_keys_of_a_later_racebench_are_no_difference_and_left_out() -> None:
    later = copy.deepcopy(DOCUMENTS["run.json"])
    later["runs"][0]["consumers"][0]["later"] = {"a": 1}
    later["later"] = 1
    assert json_schema.difference(later, document.SCHEMA_FILE) is None
    assert json_schema.known_part(later, document.SCHEMA_FILE) == DOCUMENTS["run.json"]
    assert reading.from_data(later, "x") == reading.from_data(DOCUMENTS["run.json"], "x")


@pytest.mark.parametrize("value", [True, 2**64, float("nan"), float("inf"), "1", None])
def test_a_count_is_a_whole_number_of_64_bits(value: object) -> None:
    spoiled = copy.deepcopy(DOCUMENTS["run.json"])
    spoiled["runs"][0]["counts"]["missed"] = value
    assert json_schema.difference(spoiled, document.SCHEMA_FILE) is not None


def test_the_schemas_know_every_reason_and_are_schemas() -> None:
    known = json.loads(explorations.SCHEMA_FILE.read_text())["$defs"]["exploration"]["properties"]["explored"]
    assert set(known["properties"]["unseen"]["enum"]) == {None, *(reason.value for reason in Unseen)}
    for path in (*SCHEMAS.values(), Path(archive.__file__).with_name("meta.schema.json")):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
