"""Sphinx's configuration. Sphinx reads it by itself; `python -m docs.site` runs Sphinx with it."""

from __future__ import annotations

from pygments.lexers.special import TextLexer
from pygments.lexers.sql import PostgresLexer
from pygments.token import Comment, Keyword
from sphinx.application import Sphinx

from docs.site.staging import addresses
from racebench import __version__

project = "racebench"
author = "The racebench authors"
project_copyright = "2026 The racebench authors"
release = version = __version__

extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["files"]
myst_heading_anchors = 4
smartquotes = False  # it would make one dash of the two of an option

html_theme = "furo"
html_title = f"racebench {__version__}"
html_baseurl = addresses().documentation
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

highlight_language = "bash"
pygments_style = "default"
pygments_dark_style = "github-dark"


class ScriptLexer(PostgresLexer):
    """SQL with the commands of pgbench and psql, which begin with a backslash, and :variables."""

    tokens = {  # noqa: RUF012 - Pygments reads it so
        **PostgresLexer.tokens,
        "root": [(r"\\[a-z]+", Keyword), (r":'?\w+'?", Comment.Preproc), *PostgresLexer.tokens["root"]],
    }


def setup(app: Sphinx) -> None:
    app.add_lexer("sql", ScriptLexer)
    app.add_lexer("csv", TextLexer)
