"""Text from elsewhere (names, a server's messages), escaped: in Markdown it is neither markup nor the end of a cell."""

from __future__ import annotations

_INSTEAD = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("`", "&#96;"))


def markdown(text: str) -> str:
    """Text that is neither Markdown nor HTML, on one line."""
    plain = " ".join(text.split())
    for special, instead in _INSTEAD:
        plain = plain.replace(special, instead)
    return plain
