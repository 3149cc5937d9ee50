"""The page's templates. All values are escaped; the content security policy allows only the page's style and script.

The policy names the style and the script by their hashes (assets.py).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from racebench.core.plain_text import printable
from racebench.core.quantity import quantity
from racebench.reports.page.assets import asset, digest, shared_style

_FOLDER = Path(__file__).parent
_QUOTED = re.compile("`([^`]+)`")
# A browser breaks a line after a hyphen, so also after the dashes of an option; it breaks a name only where it must.
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_INSIDE_NAME = re.compile(r"(?<=\w)[_.:/]+(?=\w)")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_writable,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": True, "allow_nan": False}
    environment.filters["thousands"] = lambda value: f"{value:,}"
    environment.filters["quantity"] = quantity
    environment.filters["ms"] = _ms
    environment.filters["prose"] = _prose
    environment.filters["breakable"] = _breakable
    return environment


def fill(template: str, **values: Any) -> str:
    """Fill in a template; `style` and `script` are available in every template."""
    environment = _environment()
    timeline = asset("timeline.css")
    style, script = shared_style() + timeline + asset("page.css"), asset("base.js") + asset("page.js")
    text = environment.get_template(template).render(
        **values,
        picture_style=Markup(asset("theme.css") + timeline),
        style=Markup(style),
        script=Markup(script),
        style_hash=digest(style),
        script_hash=digest(script),
    )
    return text if text.endswith("\n") else f"{text}\n"


def _writable(value: Any) -> Any:
    """Escape each character that a document must not contain, or that a terminal would obey."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _prose(text: str) -> Markup:
    """Text in which the parts between backticks become code, and no line ends inside an option."""
    plain = _OPTION.sub(r'<span class="option">\g<0></span>', str(escape(_writable(text))))
    return Markup(_QUOTED.sub(r"<code>\1</code>", plain))


def _breakable(name: str) -> Markup:
    """A name that may go on in the next line between its words, before it has to inside one."""
    return Markup(_INSIDE_NAME.sub(r"\g<0><wbr>", str(escape(_writable(name)))))


def _ms(us: float | None) -> str:
    if us is None:
        return "–"
    ms = us / 1e3
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 1 else f"{ms:.2f}"
