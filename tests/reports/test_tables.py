"""The tables of the terminal: whole names, no trailing blanks, columns left out where the terminal is too narrow."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from judged import REFERENCE
from measured import compared, rendered, run_of
from racebench.core.injection import parse_all
from racebench.core.model import Load
from racebench.core.quantity import quantity
from racebench.core.results import FirstDuplicate
from racebench.core.verdict import Verdict
from racebench.reports import formats, sentences
from racebench.reports import page as rendered_page
from racebench.reports.formats.terminal import show
from racebench.reports.results import document, explorations, reading
from racebench.reports.results.sources import Source
from racebench.reports.terminal import listing, matrix_table, run_table, tables
from racebench.reports.terminal.plain_console import UNLIMITED, PlainConsole
from racebench.reports.terminal.tables import Column, Grid
from racebench.workloads import catalog

WIDTHS = (60, 80, 100, 120, UNLIMITED)
RULE = "─"


@cache
def runs() -> document.Document:
    return reading.read(REFERENCE / "run.json")


@cache
def comparison() -> document.Document:
    names = [run.strategy for run in runs().runs]
    measured = tuple(
        run_of(name, 100.0 + number, duplicates=number % 2) for _ in range(5) for number, name in enumerate(names)
    )
    return document.Document(environment={}, created="", runs=measured, comparison=compared(measured, rounds=5))


@cache
def matrix() -> document.Document:
    return reading.read(REFERENCE / "matrix.json")


@cache
def explored() -> explorations.Explorations:
    content = formats.read([REFERENCE / "explored.json"])[0].content
    assert isinstance(content, explorations.Explorations)
    return content


def _show_all(console: Console) -> None:
    listing.show_scenarios(console, catalog.shipped())


REPORTS: dict[str, Callable[[Console], None]] = {
    "run": lambda console: show(console, runs()),
    "compare": lambda console: show(console, comparison()),
    "matrix": lambda console: matrix_table.show(console, matrix()),
    "explore": lambda console: show(console, explored()),
    "list": _show_all,
}
NAMES: dict[str, Callable[[], list[str]]] = {
    "run": lambda: [run.strategy for run in runs().runs],
    "compare": lambda: [run.strategy for run in comparison().runs],
    "matrix": lambda: [run.strategy for run in matrix().runs],
    "explore": lambda: [exploration.strategy for exploration in explored().explorations],
    "list": lambda: [name for scenario in catalog.shipped() for name in (*scenario.strategies, *scenario.consumers)],
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("report", REPORTS)
def test_no_name_is_broken_no_line_ends_in_a_blank_and_no_table_is_too_wide(report: str, width: int) -> None:
    lines = tables.plain(REPORTS[report], width=width).splitlines()
    words = {line.split()[0] for line in lines if line.split()}
    assert len(NAMES[report]()) > 5
    assert [name for name in NAMES[report]() if name not in words] == []
    assert [line for line in lines if line != line.rstrip()] == []
    assert [line for line in lines if line.startswith(RULE) and len(line) > max(width, 80)] == []
    left_out = [line for line in lines if line.startswith("Left out: ")]
    assert not (left_out and width == UNLIMITED)
    assert not (width == UNLIMITED and "dupli-" in "".join(lines))


@pytest.mark.parametrize("compare", [False, True])
def test_how_the_runs_went_is_said_only_if_it_is_asked_for(compare: bool) -> None:
    document = comparison() if compare else runs()
    pace = runs().runs[0].pace
    document = replace(document, runs=tuple(replace(run, pace=pace) for run in document.runs))
    brief = tables.plain(lambda console: run_table.show(console, document))
    verbose = tables.plain(lambda console: run_table.show(console, document, verbose=True))
    said = re.findall(
        r"The workers' first operations began within [\d.]+ ms of each other\. "
        r"Of the CPU time, the workers used \d+% and the server the rest\.",
        verbose,
    )
    assert "first operations" not in brief
    assert len(said) == len({run.strategy for run in runs().runs})


def shown(table: Grid, width: int) -> list[str]:
    return tables.plain(lambda console: tables.show(console, [table]), width=width).splitlines()


def test_the_least_important_column_is_left_out_first_and_a_line_says_so() -> None:
    ranked = (("a", 1), ("of-\nten", 3), ("c", 2))
    columns = [Column(head="name"), *(Column(head=head, rank=rank) for head, rank in ranked)]
    table = Grid(columns, ascii_only=True)
    table.add_row(*(["x" * 10] * 4))
    assert shown(table, 43)[0].split() == ["name", "a", "often", "c"]
    assert shown(table, 42)[0].split() == ["name", "a", "c"]
    # No pipe is advised where there is one already, or in the failure of a test.
    assert " ".join(shown(table, 42)[3:]) == "Left out: often. The table needs 43 columns and has 42."
    terminal = PlainConsole(width=42, file=io.StringIO(), color_system=None, force_terminal=True)
    with terminal.capture() as capture:
        tables.show(terminal, [table])
    assert " ".join(capture.get().splitlines()[3:]) == (
        "Left out: often. The table needs 43 columns and the terminal has 42; a pipe (| cat) gets all of it."
    )
    assert " ".join(shown(table, 21)[3:]).startswith("Left out: often, c. ")
    assert shown(table, 5)[2].strip() == "x" * 10  # a name is shown whole, however narrow the terminal


def test_a_head_is_hyphenated_only_where_there_is_no_room() -> None:
    table = Grid([Column(head="name"), Column(head="dupli-\ncates", right=True)], ascii_only=True)
    table.add_row("naive", "1")
    assert shown(table, 16) == ["name  duplicates", "-" * 16, "naive          1"]
    assert shown(table, 15) == ["      dupli-", "name   cates", "-" * 12, "naive      1"]


def test_cells_of_sentences_wrap_between_words_and_share_the_room() -> None:
    table = Grid([Column(head="name"), Column(head="what", wraps=True)], ascii_only=True)
    table.add_row("naive", Text("two sessions read the same maximum and write it"))
    assert shown(table, 36)[2:] == ["naive two sessions read the same", "      maximum and write it"]
    assert shown(table, UNLIMITED)[2:] == ["naive two sessions read the same maximum and write it"]


def test_wide_characters_keep_the_columns_in_line() -> None:
    table = Grid([Column(head="name"), Column(head="n")], ascii_only=True)
    table.add_row("注文", "1")
    table.add_row("abcd", "2")
    assert shown(table, 80)[2:] == ["注文 1", "abcd 2"]


def test_a_count_of_one_is_singular_everywhere() -> None:
    one = replace(
        run_of(
            "naive", committed=1, duplicates=1, missed=1, redelivered=1, lost=1, unexpected=1, unnumbered=1, refused=1
        ),
        load=Load(workers=1, duration_s=None, operations=1, seed=1),
    )
    document_of_one = document.Document(environment={}, created="", runs=(one,))
    text = tables.plain(lambda console: run_table.show(console, document_of_one)) + sentences.happened(one)
    assert "1 worker, closed loop, 1 operation ·" in text
    assert "1 of 1 row has a version that another row already has" in text
    assert "1 row was delivered again" in text
    assert re.findall(r"\b1 (?:rows|operations|workers|runs|schedules|acknowledged rows|gaps) ?\w*", text) == []
    assert (quantity(1, "row"), quantity(2509, "row"), quantity(0, "try", "tries")) == (
        "1 row",
        "2,509 rows",
        "0 tries",
    )


def test_prose_wraps_between_words_and_hangs_on_a_terminal_and_is_one_line_in_a_pipe() -> None:
    words = [f"word{number}" for number in range(30)]

    def show_prose(console: Console) -> None:
        tables.show(console, [Text(" ".join(words)), tables.indented(Text(" ".join(words)))])

    lines = tables.plain(show_prose, width=40).splitlines()
    assert " ".join(lines).split() == words * 2
    assert max(map(len, lines)) <= 40
    assert [line[:2] for line in lines] == ["wo", *["  "] * (len(lines) - 1)]
    assert tables.plain(show_prose).splitlines() == [" ".join(words), f"  {' '.join(words)}"]


def test_injected_faults_are_counted_beside_what_became_of_the_operations() -> None:
    """On the terminal, in a comparison, on the page, in CSV, JUnit XML and JSON alike."""
    load = replace(Load(workers=8, duration_s=1.0, operations=None), faults=parse_all(["cut:2%", "crash-server:once"]))
    counts = {"cut:2%": 1234, "crash-server:once": 0}
    faulty = replace(run_of("naive", committed=900, failed=60, unknown=40, load=load), injected=counts)
    calm = run_of("upsert", load=load)
    made = replace(runs(), runs=(faulty, calm))
    text = tables.plain(lambda console: run_table.show(console, made), width=120)
    assert re.search(r"naive +1,234 × cut:2%, 0 × crash-server:once +900 +60 +40\n", text), text
    assert re.search(r"upsert +none +5000 +0 +0\n", text), text
    assert "faults cut:2%, crash-server:once" in text.replace("\n  ", " ")
    said = "1,234 × cut:2%, 0 × crash-server:once; of 1,000 operations 900 are OK, 60 FAIL, 40 UNKNOWN"
    assert sentences.injected([faulty]) == f"faults: {said}"
    assert sentences.injected([calm]) is None
    again = reading.from_json(document.to_json(made), "x.json").runs[0]
    assert (again.injected, again.load.faults) == (counts, load.faults)
    row = next(csv.DictReader(io.StringIO(rendered("csv", made))))
    assert (row["faults"], row["injected"]) == ("cut:2%,crash-server:once", "1234")
    assert said in rendered("junit", made)
    page = rendered_page.render([Source(path=Path("results.json"), content=made)])
    assert '<th scope="col" class="n">cut:2%</th>' in page
    assert '<td class="n">1,234</td><td class="n">0</td><td class="n">900</td><td class="n">60</td>' in page
    both = replace(made, runs=(faulty, calm) * 2, comparison=compared((faulty, calm) * 2, rounds=2, reference="upsert"))
    assert "naive: faults: 2,468 × cut:2%" in tables.plain(lambda console: run_table.show(console, both), width=120)


def test_when_the_first_duplicate_was_there_and_known_is_said_by_every_report_of_a_run() -> None:
    first = FirstDuplicate(tenant=1, version=5, acknowledged_us=2_340.0, known_us=17_080.0)
    naive, calm = replace(run_of("naive", duplicates=3), first_duplicate=first), run_of("upsert")
    made = replace(runs(), runs=(naive, calm))
    said = "the first duplicate was there after 2.3 ms and was known after 17.1 ms"
    text = tables.plain(lambda console: run_table.show(console, made), width=120)
    page = rendered_page.render([Source(path=Path("results.json"), content=made)])
    assert [report.count(said) for report in (text, rendered("junit", made), page)] == [1, 1, 1]
    again = reading.from_json(document.to_json(made), "x.json").runs
    assert [run.first_duplicate for run in again] == [first, None]
    unnamed = replace(naive, first_duplicate=replace(first, acknowledged_us=None))
    assert sentences.first_duplicate(unnamed) == "the first duplicate was known after 17.1 ms"
    assert sentences.first_duplicate(calm) is None


def test_what_is_sent_again_after_a_lost_answer_has_advice_of_its_own() -> None:
    broken = replace(run_of("retry-lost", violations=3), forbidden=("violations",), verdict=Verdict.INVALID)
    assert "whose first try may have been committed" not in sentences.advice(broken)
    assert "whose first try may have been committed" in sentences.advice(replace(broken, retried={"08006": 3}))
