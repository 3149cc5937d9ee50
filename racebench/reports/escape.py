"""Text from elsewhere (names, a server's messages), escaped: in Markdown it is neither markup nor the end of a cell."""

from __future__ import annotations

import re

from racebench.core.plain_text import one_line

_INSTEAD = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("`", "&#96;"))


def markdown(text: str) -> str:
    """Text that is neither Markdown nor HTML, on one line."""
    plain = one_line(text)
    for special, instead in _INSTEAD:
        plain = plain.replace(special, instead)
    return plain


def code(text: str, *, in_cell: bool = True) -> str:
    """Text as code: the fence is longer than any run of backticks in the text; bars are escaped in a cell."""
    plain = one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", plain)), default=0))
    padding = " " if "`" in plain else ""
    fenced = f"{fence}{padding}{plain}{padding}{fence}"
    return fenced.replace("|", r"\|") if in_cell else fenced
