"""llms.txt: the pages of the site with a sentence about each, for programs that read documentation (llmstxt.org).

Each entry leads to the Markdown of a page, which is on the site beside the page.
"""

from __future__ import annotations

import re
from pathlib import Path

from docs.site import contents

_SUMMARY = (
    "Reproduces, proves and measures the races of applications on PostgreSQL: what breaks when several sessions write"
    " at the same time, and what the fix costs. A command line, a Python library and a pytest fixture."
)


def write(sources: Path, site: Path, address: str) -> None:
    """Copy the Markdown of every page to the site, and write llms.txt beside the first page.

    `address`: where the site is published; if it is "", the entries are relative.
    """
    lines = ["# racebench", "", f"> {_SUMMARY}"]
    sections = contents.sections()
    first = contents.Section(title=sections[0].title, pages=(contents.START, *sections[0].pages))
    for section in (first, *sections[1:]):
        lines += ["", f"## {section.title}", ""]
        for page in section.pages:
            place = contents.place(page)
            text = (sources / place).read_text()
            (site / place).parent.mkdir(parents=True, exist_ok=True)
            (site / place).write_text(re.sub(r"\n```\{toctree\}.*?\n```", "", text, flags=re.DOTALL))
            where = f"{address.rstrip('/')}/{place}" if address else str(place)
            title, sentence = described(text)
            lines.append(f"- [{title}]({where}): {sentence}")
    (site / "llms.txt").write_text("\n".join(lines) + "\n")


def described(text: str) -> tuple[str, str]:
    """A page's heading and the first sentence of its first paragraph, as plain text."""
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    assert heading, "a page begins with a heading"
    paragraphs = re.split(r"\n\s*\n", text[heading.end() :])
    prose = next((part for part in paragraphs if re.match(r"(?!\d+\. |    |- |\* )\s*[\w*`\[(]", part)), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(prose.split())).replace("**", "")
    sentence = re.match(r".+?[.?](?=\s|$)", plain)
    return _plain(heading[1]), sentence[0] if sentence else plain


def _plain(text: str) -> str:
    return text.replace("`", "").replace("[", "(").replace("]", ")")
