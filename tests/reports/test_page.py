"""`racebench report --html` and `--svg`: well-formed, self-contained, small, accessible; hostile text stays text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import pytest

from conftest import RACEBENCH, Command, assert_one_line
from histories import Op, Poll, Row, history, long_history
from judged import ENVIRONMENT, HOSTILE, MS, REFERENCE, TWINS, excerpt_of, kept, result_of, saved
from measured import compared, run_of
from racebench.analysis.thresholds import Held, Outcome
from racebench.core.errors import UsageProblem
from racebench.core.model import Scenario
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.reports import exploration_text, formats, page
from racebench.reports.page import latency, pace, part, scatter, timeline_picture
from racebench.reports.results import document, reading, sources

XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
ORDINARY = 300_000


def parsed(text: str) -> ET.Element:
    """The page as an HTML5 parser sees it; a parse error is a failure."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=True).parse(text)  # type: ignore[no-any-return]


def elements(tree: ET.Element, *names: str) -> Iterator[ET.Element]:
    for each in tree.iter():
        if not names or any(each.tag in (f"{XHTML}{name}", f"{SVG}{name}") for name in names):
            yield each


def text_of(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def shown(tree: ET.Element) -> str:
    """What the page says, without its style and script."""
    parts = []

    def walk(element: ET.Element) -> None:
        if element.tag in (f"{XHTML}script", f"{XHTML}style"):
            return
        parts.append(element.text or "")
        for child in element:
            walk(child)
            parts.append(child.tail or "")

    walk(tree)
    return " ".join("".join(parts).split())


def check_structure(text: str) -> ET.Element:
    """Whatever the page is of: nothing from elsewhere, nothing unnamed, headings in order, nothing unsafe allowed."""
    tree = parsed(text)
    ids = [each.get("id") for each in tree.iter() if each.get("id")]
    assert len(ids) == len(set(ids))
    for each in tree.iter():
        assert each.get("style") is None, "the policy does not allow it"
        assert not [name for name in list(each.attrib) if name.startswith("on")]
        for name in ("src", "href", "action", "data", "poster", "srcset", "{http://www.w3.org/1999/xlink}href"):
            value = each.get(name)
            assert value is None or value == "data:," or (value.startswith("#") and value[1:] in ids), (each.tag, value)
        for name in ("aria-labelledby", "aria-describedby"):
            assert each.get(name) is None or each.get(name) in ids
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    levels = [int(each.tag[-1]) for each in elements(tree, "h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for drawn in elements(tree, "svg"):
        assert drawn.get("aria-hidden") == "true" or (drawn.get("role") == "img" and drawn.get("aria-label"))
    for table in elements(tree, "table"):
        assert all(cell.get("scope") for cell in elements(table, "th"))
        (head,) = elements(table, "thead")
        width = len(list(elements(head, "th")))
        assert all(len(list(elements(row, "th", "td"))) == width for row in elements(table, "tr"))
    policy = next(each.get("content", "") for each in elements(tree, "meta") if each.get("http-equiv"))
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    runs = [each for each in elements(tree, "script") if each.get("type") is None]
    for allowed, found in (("script-src", runs), ("style-src", list(elements(tree, "style")))):
        (one,) = found
        digest = base64.b64encode(hashlib.sha256((one.text or "").encode()).digest()).decode()
        assert f"{allowed} 'sha256-{digest}'" in policy
    for data in elements(tree, "script"):
        if data.get("type") == "application/json":
            assert json.loads(data.text or "")["bars"]
    return tree


@pytest.mark.server
def test_an_ordinary_run_is_one_small_page_with_its_timeline(racebench: Command, tmp_path: Path) -> None:
    done = racebench(
        "run", "-s", "naive", "-s", "advisory", "-n", "1600", "--seed", "5", "--history", "--json", "r.json"
    )
    assert done.returncode == 0, done.stderr
    result = tmp_path / "r.json"  # its histories are in the results folder
    done = racebench("report", str(result), "--html", "out.html", "--svg", "out.svg")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "out.html").read_text()
    assert len(text.encode()) < ORDINARY
    tree = check_structure(text)
    runs = {run.strategy: run for run in reading.read(result).runs}
    said = shown(tree)
    assert "1 of 2 strategies breaks" in said
    for kind in ("duplicates", "missed"):
        assert f"{runs['naive'].counts[kind]:,}" in said
    timelines = [json.loads(each.text or "") for each in elements(tree, "script") if each.get("type")]
    assert [len(each["bars"]) > 300 for each in timelines] == [True, True]
    assert {mark[0] for mark in timelines[0]["marks"]} == {"duplicates", "missed"}
    assert timelines[1]["marks"] == []
    first = timelines[0]["marks"][0]
    assert len({timelines[0]["bars"][at][3] for at in first[1]}) == 1, "the first anomaly's bars are of one version"


def test_many_files_have_a_part_each_and_one_table_first(version_counter: Scenario, tmp_path: Path) -> None:
    made = [
        saved(
            tmp_path, result_of(version_counter, "naive"), result_of(version_counter, "advisory"), name=f"{number}.json"
        )
        for number in range(14)
    ]
    made = [
        replace(source, content=replace(source.content, command=f"racebench run -D n={at}"))
        for at, source in enumerate(made)
    ]
    made.append(sources.read(REFERENCE / "explored.json"))
    tree = check_structure(page.render(made))
    (contents,) = [table for table in elements(tree, "table") if table.get("class") == "contents"]
    links = [link.get("href") for link in elements(contents, "a")]
    assert links == [f"#f{number + 1}" for number in range(15)]
    files = [each for each in elements(tree, "details") if each.get("class") == "file"]
    assert len(files) == 15
    assert not [each for each in files if each.get("open") is not None]
    drawn = [len([each for each in elements(file, "div") if each.get("data-timeline")]) for file in files]
    assert drawn == [1] * 12 + [0] * 3, "a page has at most 12 timelines, one of each file first"
    (foot,) = elements(tree, "footer")
    assert "13.json: racebench run -D n=13 (racebench" in text_of(foot)
    few = check_structure(page.render(made[:3]))
    assert not [each for each in elements(few, "details") if each.get("class") == "file"]


def test_the_numbers_are_the_documents_own(version_counter: Scenario, tmp_path: Path) -> None:
    result = result_of(version_counter, "naive")
    counts = {**result.counts, "duplicates": 1234, "missed": 5678, "attempts": 99_999, "rows": 99_998}
    made = replace(result, counts=counts, throughput_per_s=4321.0)
    tree = check_structure(page.render([saved(tmp_path, made)]))
    (row,) = [
        row
        for table in elements(tree, "table")
        if "commits/s" in text_of(table)
        for row in elements(table, "tr")
        if "INVALID" in text_of(row)
    ]
    cells = [text_of(cell) for cell in elements(row, "th", "td")]
    assert {"4,321", "1,234", "5,678"} <= set(cells)


def test_what_is_said_of_a_run_is_whole_sentences(version_counter: Scenario, tmp_path: Path) -> None:
    runs = (
        result_of(version_counter, "naive"),
        result_of(version_counter, "advisory"),
        result_of(version_counter, "upsert", as_expected=None),
    )
    cards = [
        [text_of(said) for said in elements(card, "p")]
        for card in elements(check_structure(page.render([saved(tmp_path, *runs)])), "article")
    ]
    for card in cards:
        for said in card:
            assert said[0].isalnum(), said
    assert [any(said.startswith("As expected. ") for said in card) for card in cards] == [True, False, False]
    assert [any(said.startswith("NOT as expected. ") for said in card) for card in cards] == [False, True, False]


def test_no_line_ends_inside_an_option_and_a_name_goes_on_between_its_words(
    version_counter: Scenario, tmp_path: Path
) -> None:
    own = replace(result_of(version_counter, "naive"), strategy="shop.services:create_order", notes=("try `--hold 1`",))
    text = page.render([saved(tmp_path, own)])
    tree = check_structure(text)
    options = [text_of(span) for span in elements(tree, "span") if span.get("class") == "option"]
    assert {"--strategy", "--hold"} <= set(options)
    assert 'try <code><span class="option">--hold</span> 1</code>' in text
    assert "shop.<wbr>services:<wbr>create_<wbr>order" in text.partition("<h1>")[2].partition("</h1>")[0]
    assert "shop.services:create_order" in shown(tree), "it can be copied"


def test_hostile_text_is_shown_and_never_run(version_counter: Scenario, tmp_path: Path) -> None:
    result = result_of(version_counter, "naive")
    witness = replace(
        result.witnesses[0],
        explanation=HOSTILE,
        operations=tuple({**each, "version": HOSTILE} for each in result.witnesses[0].operations),
        consumer=HOSTILE,
    )
    hostile = replace(
        result,
        strategy=HOSTILE,
        scenario=HOSTILE,
        summary=HOSTILE,
        notes=(HOSTILE,),
        errors={"23505": 1},
        messages={"23505": HOSTILE},
        measures={HOSTILE: HOSTILE},
        witnesses=(witness,),
        consumers=tuple(replace(each, name=HOSTILE) for each in result.consumers),
        history=f"../{HOSTILE[:40]}",
    )
    whole = document.Document(
        environment={**ENVIRONMENT, "server_version": HOSTILE, "server_settings": {HOSTILE: HOSTILE}},
        created="2026-01-01T00:00:00Z",
        runs=(hostile,),
    )
    (tmp_path / "evil.json").write_text(json.dumps(json.loads(document.to_json(whole))))
    source = sources.read(tmp_path / "evil.json")
    text = page.render([source])
    tree = check_structure(text)
    assert text.count("</script>") == len(list(elements(tree, "script"))) == 2
    assert not list(elements(tree, "img"))
    said = shown(tree)
    visible = (
        "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>'\"&{{7*7}}{%x%}\\x00\\x1b[31m\\u202e\\ud800"
    )
    assert said.count(visible) > 10
    text.encode()
    picture = ET.fromstring(formats.render("timeline", [source]))
    assert not [each for each in picture.iter() if each.tag.endswith(("script", "image", "foreignObject"))]
    assert "<script>alert(1)" in "".join(picture.itertext())


def test_the_picture_is_an_svg_that_needs_nothing(version_counter: Scenario, tmp_path: Path) -> None:
    right = saved(tmp_path, result_of(version_counter, "advisory", long_history(30, twins=())))
    broken = saved(tmp_path, result_of(version_counter, "naive"), name="other.json")
    text = formats.render("timeline", [right, broken])
    picture = ET.fromstring(text)
    assert len(text) < 40_000
    assert not re.search(r"url\((?!#)|@import|@font-face|<script|href", text)
    said = " ".join(picture.itertext())
    assert "naive" in said
    assert "worker 1 committed version 17 in row 40, delivered by poll 0" in said
    assert "worker 2 committed version 17 in row 41, which was never delivered" in said
    assert "prefers-color-scheme: dark" in text


def test_the_picture_is_of_twins_of_which_one_was_lost_though_others_came_before(version_counter: Scenario) -> None:
    past = history(
        [Op(n, n * MS, (n + 2) * MS, version) for n, version in ((1, 17), (2, 17), (3, 18), (4, 18))],
        [Row(1, 17, 1), Row(2, 17, 2), Row(3, 18, 3), Row(4, 18, 4)],
        [Poll((1, 2, 3), 18)],
    )
    excerpt = excerpt_of(version_counter, past)
    assert [mark.kind for mark in excerpt.marks] == ["duplicates", "duplicates", "missed"]
    drawn = timeline_picture.draw(excerpt)
    assert drawn is not None
    said = " ".join(text for _, text in drawn.legend)
    assert "row 3, delivered by poll 0" in said
    assert "row 4, which was never delivered" in said


def test_a_long_name_has_its_end_cut_off_not_its_beginning(version_counter: Scenario) -> None:
    result = result_of(version_counter, "naive")
    for width in (1092, 358):
        drawn = latency.draw([result], ["x" * 80], width=width)
        assert drawn is not None
        (row,) = drawn.rows
        assert row.name.endswith("x…")
        assert 7 * len(row.name) < (width if drawn.above else drawn.left)
        assert "x" * 80 in row.title


def test_the_readmes_picture_is_what_the_command_makes_of_the_reference_run() -> None:
    picture = REFERENCE.parent.parent / "docs" / "pictures" / "timeline.svg"
    assert formats.render("timeline", [sources.read(REFERENCE / "run.json")]) == picture.read_text()


def test_the_history_decides_what_is_drawn_and_its_absence_is_said(version_counter: Scenario, tmp_path: Path) -> None:
    result = result_of(version_counter, "naive", history="x.history.npz")
    kept(tmp_path, result, TWINS)
    source = saved(tmp_path, result)
    assert "All 2 operations of the run are here." in shown(check_structure(page.render([source])))
    (tmp_path / "x.history.npz").write_bytes(b"PK")
    assert "its history cannot be read" in shown(check_structure(page.render([source])))
    (tmp_path / "x.history.npz").unlink()
    said = shown(check_structure(page.render([source])))
    assert "Only the 2 operations that the witnesses name are drawn, of 2: its history, x.history.npz, is nei" in said


def test_tens_of_thousands_of_operations_are_cut_to_windows_and_it_is_said(
    version_counter: Scenario, tmp_path: Path
) -> None:
    past = long_history(60_000, twins=(500, 30_000, 59_000))
    result = result_of(version_counter, "naive", past, history="x.history.npz")
    kept(tmp_path, result, past)
    text = page.render([saved(tmp_path, result)])
    assert len(text.encode()) < ORDINARY
    said = shown(check_structure(text))
    found = re.search(r"(\d[\d,]*) of the run's 60,000 operations are here, in (\d) windows around the witnesses", said)
    assert found is not None
    assert 500 < int(found[1].replace(",", "")) <= 1000


def test_files_are_put_side_by_side_and_told_apart(version_counter: Scenario, tmp_path: Path) -> None:
    read = [
        saved(
            tmp_path, result_of(version_counter, "naive"), result_of(version_counter, "advisory"), name="before.json"
        ),
        saved(tmp_path, result_of(version_counter, "naive"), name="after.json"),
    ]
    said = shown(check_structure(page.render(read)))
    assert "naive · before" in said
    assert "naive · after" in said
    assert "3 of 3 runs break" in said


def test_results_named_by_racebench_are_told_apart_by_the_end_of_their_names(
    version_counter: Scenario, tmp_path: Path
) -> None:
    ran = result_of(version_counter, "naive")
    read = [saved(tmp_path, ran, name=f"20261127T12294{n}Z-version-counter-dc158{n}.json") for n in (1, 2)]
    tree = check_structure(page.render(read))
    assert {"naive · dc1581", "naive · dc1582"} <= {text_of(each) for each in elements(tree, "code")}
    assert "20261127T122941Z-version-counter-dc1581.json" in shown(tree), "where it was measured the name is whole"


def test_that_a_run_was_interrupted_stands_at_the_top(version_counter: Scenario, tmp_path: Path) -> None:
    for complete in (True, False):
        ran = (result_of(version_counter, "naive"),)
        made = document.Document(
            environment=ENVIRONMENT, created="2026-01-01T00:00:00Z", runs=ran, complete=complete
        )  # fmt: skip
        (tmp_path / "x.json").write_text(document.to_json(made))
        tree = check_structure(page.render([sources.read(tmp_path / "x.json")]))
        (top,) = elements(tree, "header")
        assert ("interrupted: not all of it was run" in text_of(top)) is not complete


def comparison_of(folder: Path, *runs: RunResult, rounds: int = 5, **more: Any) -> sources.Source:
    made = document.Document(
        environment=ENVIRONMENT,
        created="2026-01-01T00:00:00Z",
        runs=runs,
        comparison=compared(runs, rounds=rounds),
        **more,
    )
    (folder / "compared.json").write_text(document.to_json(made))
    return sources.read(folder / "compared.json")


def test_of_a_comparison_what_was_judged_comes_first_and_a_strategy_counts_once(tmp_path: Path) -> None:
    rates = (1000.0, 1010.0, 990.0)
    runs = [run_of(name, rate * factor) for rate in rates for name, factor in (("advisory", 1), ("upsert", 2))]
    tree = check_structure(page.render([comparison_of(tmp_path, *runs)]))
    said = shown(tree)
    assert "upsert beside advisory: better" in said
    sections = [each.get("id") for each in elements(tree, "section")]
    assert sections[:2] == ["compared", "verdicts"]
    (table,) = [each for each in elements(tree, "table") if "to advisory" in text_of(each)]
    rows = [[text_of(cell) for cell in elements(row, "th", "td")] for row in elements(table, "tr")]
    assert [row[:5] for row in rows[1:]] == [
        ["upsert", "✓ VALID", "better", "2,000", "2"],
        ["advisory", "✓ VALID", "reference", "1,000", "1"],
    ]
    assert "UNFINISHED: 3 of 5 whole rounds" in said
    assert "Warning: " in said
    assert {"upsert #1", "upsert #3"} <= {text_of(each) for each in elements(tree, "code")}


def test_in_a_comparison_too_what_breaks_outranks_what_is_fast(tmp_path: Path) -> None:
    runs = [run_of(name, 1000, duplicates=twins) for name, twins in (("advisory", 0), ("naive", 7)) for _ in range(3)]
    tree = check_structure(page.render([comparison_of(tmp_path, *runs, rounds=3)]))
    assert "1 of 2 strategies breaks" in shown(tree)
    (last,) = [row for row in elements(tree, "tr") if text_of(row).startswith("naive✕ INVALID–")]
    assert "better" not in text_of(last)


def test_what_became_of_a_threshold_is_on_the_page(tmp_path: Path) -> None:
    crossed = Held(
        text="duplicates == 0", metric="duplicates", strategy="naive", outcome=Outcome.CROSSED, value=7.0, low=None,
        high=None, reason="",
    )  # fmt: skip
    whole = document.Document(
        environment=ENVIRONMENT, created="2026-01-01T00:00:00Z", runs=(run_of("naive"),), thresholds=(crossed,)
    )
    (tmp_path / "x.json").write_text(document.to_json(whole))
    said = shown(check_structure(page.render([sources.read(tmp_path / "x.json")])))
    assert "✗ crossed naive: duplicates == 0 is 7" in said


def test_the_race_comes_right_after_the_verdicts(version_counter: Scenario, tmp_path: Path) -> None:
    runs = (result_of(version_counter, "naive"), result_of(version_counter, "sequence"))
    tree = check_structure(page.render([saved(tmp_path, *runs)]))
    assert [each.get("id") for each in elements(tree, "section")][:3] == ["verdicts", "timelines", "cost"]


def test_runs_and_explorations_mix_and_a_witness_is_stepped_through(tmp_path: Path) -> None:
    read = [sources.read(REFERENCE / "explored.json"), sources.read(REFERENCE / "run.json")]
    text = page.render(read)
    assert len(text.encode()) < ORDINARY
    tree = check_structure(text)
    (naive,) = [
        each
        for each in elements(tree, "details")
        if each.get("data-steps") == "naive"
    ]  # fmt: skip
    (content,) = [each for each in read if isinstance(each.content, sources.Explorations)]
    assert isinstance(content.content, sources.Explorations)
    (explored,) = [each for each in content.content.explorations if each.strategy == "naive"]
    rows = list(elements(naive, "tr"))[1:]
    assert explored.witness is not None
    assert len(rows) == len(explored.witness.steps) > 5
    said = [text_of(row) for row in rows]
    assert all(" ".join(step.sent.split()) in row for step, row in zip(explored.witness.steps, said, strict=True))
    assert str(explored.witness.schedule) in text_of(naive)


def test_a_step_behind_a_pooler_has_its_server_session_and_another_has_none(tmp_path: Path) -> None:
    source = sources.read(REFERENCE / "explored.json")
    assert isinstance(source.content, sources.Explorations)
    (naive,) = [one for one in source.content.explorations if one.strategy == "naive"]
    assert naive.witness is not None
    steps = tuple(replace(step, backend=1 + at % 2) for at, step in enumerate(naive.witness.steps))
    pooled = replace(naive, witness=replace(naive.witness, steps=steps))
    for one, expected in ((naive, []), (pooled, [f"on {step.backend}" for step in steps])):
        tree = check_structure(page.render([replace(source, content=replace(source.content, explorations=(one,)))]))
        assert [text_of(each) for each in elements(tree, "span") if each.get("class") == "backend"] == expected
        assert ("on 1, on 2 …: the pooler's server sessions." in text_of(tree)) == bool(expected)


def test_an_exploration_says_first_what_was_tried_why_and_what_next_and_shows_the_values(tmp_path: Path) -> None:
    source = sources.read(REFERENCE / "explored.json")
    assert isinstance(source.content, sources.Explorations)
    (guilty,) = [one for one in source.content.explorations if one.strategy == "naive"]
    innocent = next(one for one in source.content.explorations if one.verdict is Verdict.VALID)
    witness = guilty.witness
    assert witness is not None
    steps = tuple(replace(step, values=(str(at), "'<b>'")) for at, step in enumerate(witness.steps))
    two = (replace(guilty, witness=replace(witness, steps=steps)), innocent)
    tree = check_structure(page.render([replace(source, content=replace(source.content, explorations=two))]))
    cards = [text_of(each) for each in elements(tree, "article")]
    assert len(cards) == 2
    for card, one in zip(cards, two, strict=True):
        assert exploration_text.sentence(one) in card.replace("\u00a0", " ")
        assert f"Tried: {one.run:,} schedules of {one.sessions} sessions" in card
        assert "Next: " in card
    rows = [text_of(row) for row in elements(tree, "tr") if "acts" in {cell.get("class") for cell in row}]
    assert len(rows) == len(steps)
    assert all(f"[{at}, '<b>']" in row for at, row in enumerate(rows))


@pytest.mark.server
def test_an_exploration_alone_is_a_page_and_nothing_else(racebench: Command, tmp_path: Path) -> None:
    assert racebench("explore", "-s", "naive", "--json", "x.json", "--no-save", "--seed", "1").returncode == 0
    assert racebench("report", "x.json", "--html", "x.html").returncode == 0
    said = shown(check_structure((tmp_path / "x.html").read_text()))
    assert "naive breaks" in said
    done = racebench("report", "x.json", "--svg", "x.svg")
    assert done.returncode == 2
    assert done.stderr == (
        "racebench: x.json: no run in it, so there is no timeline; of explorations --html has the witnesses\n"
    )
    for format_ in ("svg", "matrix"):
        done = racebench("report", "x.json", "--format", format_)
        assert done.returncode == 2
        assert done.stderr == (
            f"racebench: --format {format_} is for runs, and these are explorations; "
            "take table, markdown, json, junit, summary, sarif\n"
        )


def test_a_matrix_is_a_grid_and_stays_small() -> None:
    text = page.render([sources.read(REFERENCE / "matrix.json")])
    assert len(text.encode()) < ORDINARY
    tree = check_structure(text)
    (grid,) = [table for table in elements(tree, "table") if "alone, commits/s" in text_of(table)]
    writers = [text_of(next(elements(row, "th"))) for row in elements(grid, "tr")][1:]
    assert {"naive", "commit-stamp", "sequence"} <= set(writers)


def test_without_runs_there_is_a_page_that_says_so(tmp_path: Path) -> None:
    said = shown(check_structure(page.render([saved(tmp_path)])))
    assert "Nothing was run" in said
    assert "The file holds no run and no exploration" in said
    with pytest.raises(UsageProblem, match="there is no timeline"):
        formats.render("timeline", [saved(tmp_path)])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run["counts"].pop("duplicates"),
        lambda run: run.update(latency_us={}),
        lambda run: run.update(strategy=5),
        lambda run: run.update(throughput_per_s="fast"),
        lambda run: run.update(throughput_per_s=float("inf")),
        lambda run: run.update(seconds=float("nan")),
        lambda run: run["witnesses"][0]["operations"][0].update(start_us=None),
        lambda run: run["timeline"].update(committed=["x"]),
    ],
)
def test_a_result_that_lacks_what_a_result_has_is_one_line(
    version_counter: Scenario, tmp_path: Path, spoil: Callable[[dict[str, Any]], object], racebench: Command
) -> None:
    saved(tmp_path, result_of(version_counter, "naive"), result_of(version_counter, "advisory"))
    data = json.loads((tmp_path / "result.json").read_text())
    spoil(data["runs"][0])
    (tmp_path / "result.json").write_text(json.dumps(data))
    done = racebench("report", "result.json", "--html", "out.html")
    assert done.returncode == 2
    assert done.stderr.startswith("racebench: result.json")
    assert "not a racebench result" in done.stderr or "is no number in JSON" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["v9.json", "--html", "x.html"], "v9.json has schema version 9, this racebench reads 1; run it again"),
        (["e9.json", "--html", "x.html"], "e9.json has schema version 9, this racebench reads 1; explore again"),
        (["cut.json", "--html", "x.html"], "is not JSON"),
        (["list.json", "--html", "x.html"], "list.json is not a racebench result"),
        (["good.json", "--html", "no/x.html"], "--html 'no/x.html': folder 'no' does not exist"),
        (["good.json", "--svg", "."], "--svg '.' is a folder"),
        (["good.json", "--html", "x.html", "-o", "y"], "--html and --svg say what to write and where"),
        (["good.json", "missing.json", "--html", "x.html"], "missing.json cannot be read"),
    ],
)
def test_a_file_that_is_no_good_is_one_line_and_nothing_is_written(
    racebench: Command, tmp_path: Path, version_counter: Scenario, arguments: list[str], message: str
) -> None:
    saved(tmp_path, result_of(version_counter, "naive"), name="good.json")
    text = (tmp_path / "good.json").read_text()
    (tmp_path / "v9.json").write_text(text.replace('"schema_version": 1', '"schema_version": 9'))
    (tmp_path / "e9.json").write_text('{"schema_version": 9, "explorations": []}')
    (tmp_path / "cut.json").write_text(text[: len(text) // 2])
    (tmp_path / "list.json").write_text("[1]")
    before = sorted(tmp_path.iterdir())
    done = racebench("report", *arguments)
    assert_one_line(done, 2, message)
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    racebench: Command, tmp_path: Path, version_counter: Scenario
) -> None:
    saved(tmp_path, result_of(version_counter, "naive"))
    done = racebench("report", "result.json", "--html", "/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("racebench: cannot write /dev/full: No space left on device")
    (tmp_path / "small.html").write_text("what was there")
    limited = f"ulimit -f 8; exec {' '.join(RACEBENCH)} report result.json --html small.html"
    cut = subprocess.run(["bash", "-c", f"trap '' XFSZ; {limited}"], cwd=tmp_path, capture_output=True, text=True)
    assert cut.returncode == 1
    assert "cannot write small.html: File too large" in cut.stderr
    assert (tmp_path / "small.html").read_text() == "what was there"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["result.json", "small.html"]


def test_labels_touch_neither_each_other_nor_a_point(version_counter: Scenario) -> None:
    base = result_of(version_counter, "naive")
    runs = [
        replace(base, verdict=Verdict.VALID if n % 3 else Verdict.INVALID, throughput_per_s=1000.0 + 7 * (n * n % 29))
        for n in range(27)
    ]
    names = [f"strategy-number-{n}" for n in range(27)]
    for width in (part.WIDE, part.NARROW):
        chart = scatter.draw(runs, names, width=width)
        boxes = []
        for point in chart.points:
            if point.label_x is None:
                continue
            wide = 6.4 * len(point.name)
            left = point.label_x - {"start": 0, "middle": wide / 2, "end": wide}[point.anchor]
            boxes.append((left, point.label_y - 11, left + wide, point.label_y + 2))
            assert left >= 0
            assert left + wide <= width
        assert len(boxes) + chart.unlabeled == 27
        assert len(boxes) > 5
        for at, one in enumerate(boxes):
            for other in boxes[at + 1 :]:
                assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            for point in chart.points:
                assert not (one[0] < point.x < one[2] and one[1] < point.y < one[3])


def test_charts_of_old_or_empty_results_are_left_out_not_wrong(version_counter: Scenario, tmp_path: Path) -> None:
    base = result_of(version_counter, "naive")
    nothing = dict.fromkeys(("p50", "p90", "p99", "max"))
    old = replace(base, pace=None, latency_us=nothing, throughput_per_s=0.0)
    assert latency.draw([old], ["x"], width=1000) is None
    assert pace.draw([old], ["x"]) is None
    check_structure(page.render([saved(tmp_path, old, old)]))


def test_a_slower_run_lies_further_left_and_a_clean_one_in_the_band(version_counter: Scenario) -> None:
    broken = replace(result_of(version_counter, "naive"), throughput_per_s=4000.0)
    clean = replace(
        result_of(version_counter, "advisory", long_history(30, twins=())),
        throughput_per_s=500.0,
        verdict=Verdict.VALID,
    )
    chart = scatter.draw([broken, clean], ["naive", "advisory"], width=1000)
    naive, advisory = chart.points
    assert advisory.x < naive.x
    assert naive.y < chart.band
    assert chart.band < advisory.y < chart.floor


def test_an_exploration_of_ones_own_code_has_its_lines_its_command_and_no_expectation(tmp_path: Path) -> None:
    data = json.loads((REFERENCE / "explored.json").read_text())
    wrong, right = (
        next(each for each in data["explorations"] if each["strategy"] == name) for name in ("naive", "advisory")
    )
    for each in (wrong, right):
        each["as_expected"] = None
    wrong["witness"]["replay"] = "racebench replay 'v1:…' --call orders:create"
    wrong["witness"]["steps"][0]["where"] = "orders.py:12"
    data["explorations"] = [wrong, right]
    (tmp_path / "own.json").write_text(json.dumps(data))
    said = shown(check_structure(page.render([sources.read(tmp_path / "own.json")])))
    assert "NOT as expected" not in said
    assert "orders.py:12" in said
    assert "Run it again: racebench replay 'v1:…' --call orders:create" in said
    wrong["as_expected"] = False
    wrong["witness"]["replay"] = None
    (tmp_path / "own.json").write_text(json.dumps(data))
    said = shown(check_structure(page.render([sources.read(tmp_path / "own.json")])))
    assert "NOT as expected" in said
    assert "Again" not in said
