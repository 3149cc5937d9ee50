"""What a manifest says of a strategy behind a pooler."""

from __future__ import annotations

from pathlib import Path

import pytest

from racebench.core.errors import ScenarioProblem
from racebench.core.target import Pooling
from racebench.workloads import catalog

MANIFEST = """
summary = "Locks"
schema = "schema.sql"
[invariants]
sound = "SELECT FROM t WHERE false"
[strategies.leaks]
summary = "a lock of the session"
script = "insert.sql"
may = ["lost"]
{pooler}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    folder = tmp_path / "locks"
    folder.mkdir()
    (folder / "schema.sql").write_text("CREATE TABLE t (n int);")
    (folder / "insert.sql").write_text("INSERT INTO t VALUES (1);")
    return folder


def write(folder: Path, pooler: str) -> str:
    (folder / "scenario.toml").write_text(MANIFEST.format(pooler=pooler))
    return str(folder)


def test_what_is_expected_of_a_strategy_depends_on_the_mode_of_the_pooler(scenario: Path) -> None:
    known = catalog.find_scenario(
        write(scenario, 'pooler = { transaction = ["violations"], statement = [] }\ntext = true')
    )
    (strategy,) = known.strategies.values()
    assert strategy.text
    assert (strategy.expect, strategy.may) == (frozenset(), frozenset({"lost"}))
    found = {mode: known.behind(mode).strategies["leaks"] for mode in Pooling}
    assert found[Pooling.TRANSACTION].expect == {"violations"}
    assert not found[Pooling.TRANSACTION].right
    assert found[Pooling.STATEMENT].right
    assert found[Pooling.SESSION] == strategy
    assert known.behind(None) is known


@pytest.mark.parametrize(
    ("pooler", "said"),
    [
        ("pooler = { transactoin = [] }", "pooler has no mode 'transactoin'; did you mean 'transaction'?"),
        ('pooler = { session = ["doubles"] }', "anomaly 'doubles' is unknown"),
        ('pooler = { session = "duplicates" }', "pooler is a list of anomalies, not 'duplicates'"),
        ('pooler = "transaction"', "[strategies.leaks.pooler] is a table, not 'transaction'"),
    ],
)
def test_a_pooler_that_cannot_be_read_is_named_with_its_line(scenario: Path, pooler: str, said: str) -> None:
    with pytest.raises(ScenarioProblem) as raised:
        catalog.find_scenario(write(scenario, pooler))
    assert f"scenario.toml:10: {said}" in str(raised.value)
