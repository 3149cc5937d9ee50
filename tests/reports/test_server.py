"""The server of a document, with the settings of its role, also of a document that was saved and read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from judged import ENVIRONMENT, result_of
from racebench.core.model import Scenario
from racebench.reports.results import document, sources
from racebench.reports.server import server_of

SETTINGS = {"default_transaction_isolation": "serializable", "lock_timeout": "5ms"}


@pytest.mark.parametrize(
    ("own_code", "said"),
    [
        (False, "racebench replaced the role's default_transaction_isolation = 'serializable', lock_timeout = '5ms'"),
        (True, "its sessions have default_transaction_isolation = 'serializable', lock_timeout = '5ms'"),
    ],
)
def test_settings_of_the_role_are_named_after_the_document_was_saved(
    version_counter: Scenario, tmp_path: Path, own_code: bool, said: str
) -> None:
    result = result_of(version_counter, "naive")
    whole = document.Document(
        environment={**ENVIRONMENT, "target": "external", "role_settings": SETTINGS},
        created="2026-01-01T00:00:00Z",
        runs=(replace(result, as_expected=None) if own_code else result,),
    )
    (tmp_path / "result.json").write_text(document.to_json(whole))
    assert server_of(sources.read(tmp_path / "result.json").content) == f"PostgreSQL 18.4 (external; {said})"


def test_settings_of_the_role_of_an_exploration_are_kept_too(tmp_path: Path) -> None:
    whole = {
        "schema_version": 1,
        "created": "2026-01-01T00:00:00Z",
        "complete": True,
        "environment": {"server_version": "18.4", "target": "external", "role_settings": SETTINGS},
        "explorations": [],
    }
    (tmp_path / "explored.json").write_text(json.dumps(whole))
    assert "racebench replaced the role's" in server_of(sources.read(tmp_path / "explored.json").content)


def test_a_server_with_the_defaults_is_named_alone(version_counter: Scenario) -> None:
    whole = document.Document(
        environment={"server_version": "18.4", "target": "embedded", "role_settings": {}},
        created="2026-01-01T00:00:00Z",
        runs=(result_of(version_counter, "naive"),),
    )
    assert server_of(whole) == "PostgreSQL 18.4 (embedded)"
