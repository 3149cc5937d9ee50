"""The demo to take along: one small file a format, each a function from what was shown to text. All open offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from racebench.demo.exports import cast, markdown, mermaid, page, picture
from racebench.demo.shown import Shown

#: By the name that --export has for it, which is its file's suffix too.
FORMATS: Mapping[str, Callable[[Shown], str]] = {
    "svg": picture.render,
    "html": page.render,
    "cast": cast.render,
    "mermaid": mermaid.render,
    "md": markdown.render,
}
