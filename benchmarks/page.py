"""Make the tables of docs/performance.md from the figures in results/reference: `python -m benchmarks.page`.

Only the text between `<!-- table: NAME -->` and `<!-- end -->` is generated; the rest of the page is written by hand.
`--check` changes nothing and says whether the page agrees with the figures. Nothing is measured here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from benchmarks import check, consumer, detection, explore, frontrun, load, start
from benchmarks.measurement import REFERENCE, ROOT, Document, Table, markdown
from racebench.reports.results.document import write_atomically

PAGE = ROOT / "docs" / "performance.md"
TABLES: Mapping[str, Callable[[Document], list[Table]]] = {
    "load": load.tables,
    "detection": detection.tables,
    "check": check.tables,
    "start": start.tables,
    "consumer": consumer.tables,
    "explore": explore.tables,
    "frontrun": frontrun.tables,
}

_PLACE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str, folder: Path = REFERENCE) -> str:
    """The page with every table made from its document in a folder; a table without a document says so."""

    def fill(place: re.Match[str]) -> str:
        begin, name, end = place.groups()
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
    before = PAGE.read_text(encoding="utf-8")
    after = render(before)
    if not only_check:
        write_atomically(PAGE, after)
    elif after != before:
        raise click.ClickException("docs/performance.md is not what results/reference says: python -m benchmarks.page")


if __name__ == "__main__":
    main()
