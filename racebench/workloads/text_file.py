"""Reads a text file that the user named."""

from __future__ import annotations

from pathlib import Path

from racebench.core import documentation
from racebench.core.errors import ScenarioProblem


def read_text(path: Path, advice: str, *, page: str = "") -> str:
    """A file's text; raises ScenarioProblem, with the advice, if it cannot be read or no server takes it as SQL.

    `page`: the page of the documentation that the advice names.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        see = f"; see {documentation.page(page)}" if page else ""
        raise ScenarioProblem(f"{path}: cannot be read ({problem.strerror}); {advice}{see}") from None
    except UnicodeDecodeError as problem:
        raise ScenarioProblem(f"{path}: is not UTF-8 text (byte {problem.start}); save it as UTF-8") from None
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise ScenarioProblem(f"{path}:{line}: has a NUL character, which PostgreSQL takes in no text; remove it")
    return text
