"""The job summary of GitHub Actions: Markdown, appended to the file that GITHUB_STEP_SUMMARY names.

GitHub takes 1 MiB a step and drops all of it if there is more, so what does not fit is left out, section by section.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from racebench.core.plain_text import printable
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.exploration.result import Exploration
from racebench.reports import escape, exploration_text, made_by, sentences, threshold_lines
from racebench.reports.formats import Material, cases
from racebench.reports.results.document import Document
from racebench.reports.results.explorations import Explorations
from racebench.reports.server import server_of
from racebench.reports.terminal import matrix_table

VARIABLE = "GITHUB_STEP_SUMMARY"
LIMIT = 1024 * 1024
_UNWRITABLE = "backslashreplace"  # what is not text is no reason to lose the rest
_LEFT_OUT = "\n_The rest is left out: GitHub takes 1 MiB of a step's summary. The saved results have it._\n"
_MARKS = {Verdict.VALID: "✅", Verdict.INVALID: "❌", Verdict.UNKNOWN: "❔"}


def append(document: Document | Explorations) -> str | None:
    """Append a document to the job's summary, if there is one; the warning to give if that cannot be done."""
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    try:
        path = Path(name)
        used = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8", errors=_UNWRITABLE) as file:
            file.write(fit(sections([document]), LIMIT - used))
    except OSError as problem:
        return f"the job summary {VARIABLE} '{name}' cannot be written: {problem.strerror}; the results are unharmed"
    return None


def render(material: Material) -> str:
    """The whole summary."""
    return fit(sections(material.documents), LIMIT)


def fit(parts: Sequence[str], room: int) -> str:
    """The sections that fit into a number of bytes, and a line that says how many do not."""
    whole = "".join(parts)
    if _bytes(whole) <= room:
        return whole
    taken, left = [], room - _bytes(_LEFT_OUT)
    if left < 0:
        return ""
    for part in parts:
        if _bytes(part) > left:
            break
        taken.append(part)
        left -= _bytes(part)
    return "".join(taken) + _LEFT_OUT


def sections(documents: Sequence[Document | Explorations]) -> list[str]:
    """Each document's heading with its table, then a section for each case that is not VALID."""
    parts = []
    for document in documents:
        parts.append(_heading(document))
        for suite in cases.suites([document]):
            if suite.driver == cases.LIMITS:
                continue  # the heading has them
            parts += [_section(suite, case) for case in suite.cases if case.verdict is not Verdict.VALID]
    return [printable(part) for part in parts]


def _heading(document: Document | Explorations) -> str:
    results: Sequence[RunResult | Exploration]
    if isinstance(document, Explorations):
        results, body = document.explorations, exploration_text.markdown(document.explorations)
    elif document.comparison is not None or _several_of_one(document):
        results, body = document.runs, matrix_table.markdown(document)
    else:
        results, body = document.runs, _table(document)
        held = [f"- {escape.markdown(line.plain)}" for line in threshold_lines.render(document, ascii_only=False)]
        body = "\n".join([*held, "", body]) if held else body
    scenarios = ", ".join(dict.fromkeys(result.scenario for result in results))
    server = server_of(document)
    cut = "" if document.complete else "\nInterrupted: these are the results until then.\n"
    made = made_by.markdown(document)
    foot = f"\n{made}" if made else ""
    return f"### racebench: {escape.markdown(scenarios)} on {escape.markdown(server)}\n{cut}\n{body}{foot}\n"


def _several_of_one(document: Document) -> bool:
    """Whether a strategy is there more than once, beside other consumers: a matrix."""
    return len({(run.scenario, run.strategy) for run in document.runs}) < len(document.runs)


def _table(document: Document) -> str:
    lines = [
        "| strategy | verdict | anomalies | commits per s | p50 / p99 ms | committed | retries | errors |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for run, name in zip(document.runs, cases.names(document), strict=True):
        wrong = ", ".join(sentences.counted(kind, run.counts[kind]) for kind in run.found) or "none"
        unlike = "" if run.as_expected is not False or run.verdict is Verdict.UNKNOWN else " (not as expected)"
        p50, p99 = run.latency_us["p50"], run.latency_us["p99"]
        latency = "–" if p50 is None or p99 is None else f"{p50 / 1e3:.1f} / {p99 / 1e3:.1f}"
        lines.append(
            f"| {escape.markdown(name)} | {_MARKS[run.verdict]} {run.verdict.value}{unlike} | {wrong} "
            f"| {run.throughput_per_s:,.0f} | {latency} | {run.counts['committed']:,} | {run.counts['retries']:,} "
            f"| {sum(run.errors.values()):,} |"
        )
    return "\n".join([*lines, ""])


def _section(suite: cases.Suite, case: cases.Case) -> str:
    said = "\n".join([case.message, *case.details])
    fence = "`" * 3
    while fence in said:
        fence += "`"
    name = escape.markdown(f"{suite.scenario}: {case.name}")
    return (
        f"<details><summary>{_MARKS[case.verdict]} {name} is {case.verdict.value}</summary>\n\n"
        f"{fence}text\n{said}\n{fence}\n\n</details>\n\n"
    )


def _bytes(text: str) -> int:
    return len(text.encode(errors=_UNWRITABLE))
