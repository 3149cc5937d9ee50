"""A scenario with one strategy, `it`, which a test writes into a folder."""

from __future__ import annotations

from pathlib import Path

from racebench.core.model import Scenario
from racebench.workloads import catalog


def write(
    folder: Path,
    *,
    script: str,
    schema: str,
    invariant: str = "SELECT 1 FROM bad",
    forbid: str = "violations",
    explore: str = "",
    more: str = "",
) -> None:
    """Write the scenario's files. `explore`: the SQL before each schedule. `more`: lines at the end of the manifest."""
    manifest = ['summary = "made for a test"', 'schema = "schema.sql"', f'forbid = ["{forbid}"]']
    if explore:
        manifest.append('explore = "explore.sql"')
        (folder / "explore.sql").write_text(explore)
    manifest += [
        "[invariants]",
        f'none = "{invariant}"',
        "[strategies.it]",
        'summary = "it"',
        'script = "it.sql"',
        more,
    ]
    (folder / "scenario.toml").write_text("\n".join(manifest) + "\n")
    (folder / "schema.sql").write_text(schema)
    (folder / "it.sql").write_text(script)


def made(folder: Path, *, script: str, schema: str, **more: str) -> Scenario:
    """Write the scenario, and read it. `more`: of `write`."""
    write(folder, script=script, schema=schema, **more)
    return catalog.find_scenario(str(folder))
