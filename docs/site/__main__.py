"""Build the site: `python -m docs.site FOLDER`. Nothing is read from the network. Every warning is an error.

Exit code 0: the site is in FOLDER. 1: a link leads nowhere, a page is in no section, or Sphinx warned; the lines say
what. 2: the command line is wrong.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import click
from sphinx.cmd.build import main as sphinx

from docs.site import checks, llms, staging


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def build(folder: Path) -> None:
    """Build the site in FOLDER."""
    problems = checks.unlisted()
    with tempfile.TemporaryDirectory() as temporary:
        sources = Path(temporary, "sources")
        addresses = staging.addresses()
        laid_out = staging.Staging(folder=sources, addresses=addresses)
        laid_out.lay_out()
        problems += laid_out.problems
        options = ["--fail-on-warning", "--keep-going", "--quiet", "--jobs", "auto", "--fresh-env", "--write-all"]
        places = ["--conf-dir", str(Path(__file__).parent), "--doctree-dir", str(Path(temporary, "trees"))]
        failed = sphinx([*options, *places, str(sources), str(folder)])
        if not failed:
            shutil.copytree(sources / "schemas", folder / "schemas", dirs_exist_ok=True)
            llms.write(sources, folder, addresses.documentation)
            problems += checks.loaded_from_elsewhere(folder) + checks.missing(folder, addresses.documentation)
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(1 if failed or problems else 0)


if __name__ == "__main__":
    build()
