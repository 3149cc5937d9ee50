"""Every export: each step is in it, and text of the server stays text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pyte
import pytest
from markdown_it import MarkdownIt

from conftest import Command
from demos import HOSTILE, Prepare, parse_page
from racebench.demo import screen
from racebench.demo.exports import FORMATS, cast, markdown, mermaid
from racebench.demo.recording import Recording
from racebench.demo.screen import Place
from racebench.reports.page.assets import shared_style


def assert_fetches_nothing(text: str) -> None:
    assert re.findall(r"\b(?:src|href)\s*=|@import|url\(", text) == []
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []


def test_the_page_has_every_step_and_fetches_nothing(prepare: Prepare) -> None:
    shown = prepare("twin").recording
    page = FORMATS["html"](shown)
    assert_fetches_nothing(page)
    assert "unsafe" not in page.partition("<title>")[0]
    assert shared_style() in page, "the report's style"
    parsed = parse_page(page)
    text = " ".join(" ".join(parsed.words).split())
    for frame in shown.frames:
        assert frame.sentence in text
    sections = [attributes for tag, attributes in parsed.tags if tag == "section" and attributes["class"] == "frame"]
    assert len(sections) == len(shown.frames)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert len(page) < 300_000


def test_what_is_markup_in_sql_is_text_in_the_page(hostile_shown: Recording) -> None:
    parsed = parse_page(FORMATS["html"](hostile_shown))
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert {"b", "i", "u"} & {tag for tag, _ in parsed.tags} == set()
    assert HOSTILE in "".join(parsed.words)
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)


@pytest.mark.parametrize("name", ["twin", "hostile"])
def test_the_picture_is_xml_that_fetches_nothing_and_has_every_step(
    name: str, prepare: Prepare, hostile_shown: Recording
) -> None:
    shown = hostile_shown if name == "hostile" else prepare("twin").recording
    picture = FORMATS["svg"](shown)
    assert "@" not in re.sub(r"@(media|keyframes)", "", picture.partition("<rect")[0].replace(HOSTILE, ""))
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg",
        "title",
        "desc",
        "style",
        "rect",
        "g",
        "text",
    }
    style = next(element.text or "" for element in root.iter() if element.tag.endswith("style"))
    keys = re.findall(r"([\d.]+)% \{ transform: translateY\(-([\d.]+)px\); \}", style)
    assert len(keys) == len(shown.frames)
    heights = [float(height) for _, height in keys]
    assert heights == sorted(heights)
    # Each step's heading is drawn where the strip stands at that time.
    height = heights[1]
    tops = {round((float(text.get("y") or 0) - 20) / height, 3) for text in root.iter() if text.tag.endswith("text")}
    assert {top for top in tops if top == int(top)} == set(map(float, range(len(shown.frames))))
    assert_fetches_nothing(re.sub(r"<(desc|text)[^>]*>[^<]*</\1>", "", picture))


def test_the_readmes_picture_shows_the_current_walkthrough(prepare: Prepare) -> None:
    drawn = FORMATS["svg"](prepare("twin", fix="none").recording)
    saved = (Path(__file__).parents[2] / "docs" / "pictures" / "twin.svg").read_text()
    described = re.compile(r"<desc>(.*?)</desc>", re.DOTALL)
    (description,) = described.findall(drawn)
    assert described.findall(saved) == [description]


def test_the_recording_is_a_header_and_events_and_plays(prepare: Prepare) -> None:
    shown = prepare("twin").recording
    header, *events = [json.loads(line) for line in FORMATS["cast"](shown).splitlines()]
    assert header["version"] == 2
    assert (header["width"], header["height"]) == (80, 24)
    times = [event[0] for event in events]
    assert times == sorted(times)
    assert {event[1] for event in events} == {"o"}
    assert len(events) == len(shown.frames) + 1
    played = pyte.Screen(80, 24)
    stream = pyte.Stream(played)
    for frame, event in zip(shown.frames, events, strict=False):
        stream.feed(event[2])
        place = Place(title=shown.title, parts=2, steps=shown.steps(frame.part))
        assert [line.rstrip() for line in played.display] == [
            line.plain.rstrip() for line in screen.draw(frame, place, 80, 24)
        ]
    assert cast.render(replace(shown, pace=5.0)).splitlines()[2].startswith("[5.0, ")


def test_no_control_character_of_the_server_reaches_a_terminal(hostile_shown: Recording) -> None:
    _, *events = [json.loads(line) for line in FORMATS["cast"](hostile_shown).splitlines()]
    for event in events:
        rest = re.sub(r"\x1b\[(\?25[lh]|H|2J|[\d;]*m)", "", event[2]).replace("\r\n", "")
        assert all(character.isprintable() for character in rest)
    assert not any("\x1b[31m\x07" in event[2] for event in events)


MESSAGE = re.compile(r"    (s\d|db)(->>|-->>)(s\d|db): [^;#\n]*(#\w+;[^;#\n]*)*")
NOTE = re.compile(r"    Note over s\d(,db)?: [^;#\n]*(#\w+;[^;#\n]*)*")


@pytest.mark.parametrize("name", ["twin", "fix", "hostile"])
def test_the_diagram_is_mermaid_line_by_line(name: str, prepare: Prepare, hostile_shown: Recording) -> None:
    shown = hostile_shown if name == "hostile" else prepare(name).recording
    first, *lines = mermaid.render(shown).splitlines()
    assert first == "sequenceDiagram"
    assert lines[0].startswith("    title: ")
    participants = [line for line in lines if line.startswith("    participant ")]
    rest = lines[1 + len(participants) :]
    for line in rest:
        assert MESSAGE.fullmatch(line) or NOTE.fullmatch(line), line
    taken = [frame for frame in shown.frames if frame.step is not None]
    assert sum("->>db" in line for line in rest) == len(taken)
    if name == "twin":
        assert "    Note over s2: WAITS for session 1" in rest
        assert "    Note over s1,db: ANOMALY: duplicates: 1, missed: 1" in rest


def test_what_is_special_to_mermaid_is_an_entity() -> None:
    assert mermaid.escape("style a:x#b; c") == "#115;tyle a:x#35;b#59; c"
    assert mermaid.escape('a;b\n#1 <x> & "y"') == "a#59;b #35;1 #lt;x#gt; #amp; #quot;y#quot;"


def test_the_markdown_is_a_table_with_a_row_a_step(prepare: Prepare, hostile_shown: Recording) -> None:
    for shown in (prepare("twin").recording, hostile_shown):
        lines = markdown.render(shown).splitlines()
        table = [line for line in lines if line.startswith("| ") and not line.startswith("| ---")]
        bars = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
        assert set(bars) <= {5, 6, 3}
        numbered = [line for line in table if re.match(r"\| \d+ \| .* \| .* \| .* \|$", line)]
        assert len(numbered) >= sum(frame.step is not None for frame in shown.frames)
    assert "**Anomaly: duplicates: 1, missed: 1.**" in markdown.render(prepare("twin").recording)


def test_a_wait_is_named_alike_in_every_export(prepare: Prepare) -> None:
    shown = prepare("late-lock").recording
    assert "Note over s2: WAITS for session 1\n" in mermaid.render(shown)
    assert "MODE` **WAITS** for session 1 |" in markdown.render(shown)


def test_the_markdown_is_read_as_tables_and_text(prepare: Prepare, hostile_shown: Recording) -> None:
    for shown in (prepare("twin").recording, hostile_shown):
        tokens = MarkdownIt("commonmark").enable("table").parse(markdown.render(shown))
        kinds = [token.type for token in tokens]
        inline = [child.type for token in tokens for child in token.children or ()]
        assert "html_block" not in kinds
        assert "html_inline" not in inline
        rows = sum(frame.step is not None for frame in shown.frames)
        assert kinds.count("tr_open") >= rows + len(shown.schedules)
        assert kinds.count("heading_open") == 1 + len(shown.schedules)
        steps = [token.content for token in tokens if token.type == "inline" and token.content.isdecimal()]
        assert len(steps) >= rows


@pytest.mark.parametrize(
    ("text", "expected"), [("a | b", r"`a \| b`"), ("a `b` c", "`` a `b` c ``"), ("plain", "`plain`")]
)
def test_code_in_a_table(text: str, expected: str) -> None:
    assert markdown.code(text) == expected


@pytest.mark.server
@pytest.mark.parametrize("format_", FORMATS)
def test_the_command_writes_each_format(format_: str, racebench: Command, tmp_path: Path) -> None:
    suffix = {"mermaid": "mmd"}.get(format_, format_)
    done = racebench("demo", "error-500", "--fix", "none", "-o", f"demo.{suffix}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    printed = racebench("demo", "error-500", "--fix", "none", "--export", format_)
    written = (tmp_path / f"demo.{suffix}").read_text()
    assert alike(printed.stdout) == alike(written)
    assert "23505" in written
    assert (f"racebench demo error-500 --fix none -o demo.{suffix}" in written) == (format_ in ("html", "md", "cast"))


def alike(text: str) -> str:
    """An export without its command and its date."""
    return re.sub(r"error-500 --fix none (-o|--export) [\w.]+|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "", text)
