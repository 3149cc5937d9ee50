"""Export a recording: one file for each format, each a function from a Recording to text. All files open offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from racebench.demo.exports import cast, markdown, mermaid, page, picture
from racebench.demo.recording import Recording

#: By the name that --export takes. Except for Mermaid it is the file's suffix too.
FORMATS: Mapping[str, Callable[[Recording], str]] = {
    "svg": picture.render,
    "html": page.render,
    "cast": cast.render,
    "mermaid": mermaid.render,
    "md": markdown.render,
}
