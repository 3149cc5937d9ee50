"""Make the tables of some pages in docs: `python -m benchmarks.page`.

The figures are in results/reference; what racebench promises under faults is in benchmarks/faults. Only the text
between `<!-- table: NAME -->` and `<!-- end -->` is generated; the rest of a page is written by hand. `--check` changes
nothing and says whether the pages agree with the figures. Nothing is measured here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from benchmarks import (
    campaigns,
    check,
    cluster,
    consumer,
    detection,
    explore,
    frontrun,
    hermitage,
    indexes,
    injected,
    jobs,
    live,
    load,
    poolers,
    serial_orders,
    stalls,
    standby,
    start,
    versions,
)
from benchmarks.faults import table as faults
from benchmarks.measurement import REFERENCE, ROOT, Document, Table, markdown, tables_as_markdown
from benchmarks.stacks import table as stacks
from racebench.reports.results.document import write_atomically

PAGES = tuple(
    ROOT / "docs" / f"{name}.md"
    for name in ("performance", "reliability", "isolation", "without-invariant", "any-language", "deployments", "scale")
)
TABLES: Mapping[str, Callable[[Document], list[Table]]] = {
    "load": load.tables,
    "detection": detection.tables,
    "check": check.tables,
    "cluster": cluster.tables,
    "start": start.tables,
    "campaigns": campaigns.tables,
    "consumer": consumer.tables,
    "live": live.tables,
    "explore": explore.tables,
    "frontrun": frontrun.tables,
    "faults": faults.tables,
    "hermitage": hermitage.tables,
    "indexes": indexes.tables,
    "injected": injected.tables,
    "jobs": jobs.tables,
    "serial_orders": serial_orders.tables,
    "stacks": stacks.tables,
    "versions": versions.tables,
    "stalls": stalls.tables,
    "poolers": poolers.tables,
    "standby": standby.tables,
}
#: Tables that are not measured.
FIXED: Mapping[str, Callable[[], list[Table]]] = {"promises": faults.promises}

_PLACE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str, folder: Path = REFERENCE) -> str:
    """A page with every table made from its document in a folder; a table without a document says so."""

    def fill(place: re.Match[str]) -> str:
        begin, name, end = place.groups()
        if name in FIXED:
            return f"{begin}\n{tables_as_markdown(FIXED[name]())}\n{end}"
        path = folder / f"{name}.json"
        if not path.exists():
            return f"{begin}\nNot measured yet.\n\n{end}"
        measured = json.loads(path.read_text(encoding="utf-8"))
        return f"{begin}\n{markdown(measured, TABLES[name](measured))}\n{end}"

    return _PLACE.sub(fill, text)


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if the page is not up to date.")
def main(only_check: bool) -> None:
    """Render, and write or compare."""
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = render(before)
        if not only_check:
            write_atomically(page, after)
        elif after != before:
            raise click.ClickException(f"docs/{page.name} is not what the figures say: python -m benchmarks.page")


if __name__ == "__main__":
    main()
