"""The page in a real browser: it draws, answers pointer and keys, loads nothing from the network, and logs no error.

Debian's Chromium, without a window. Without one these tests are skipped, saying so; .ci/run installs it and demands it.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from histories import Op, Poll, Row, history, long_history
from judged import ENVIRONMENT, HOSTILE, REFERENCE, kept, result_of, saved
from racebench.core.results import RunResult
from racebench.demo.exports import page as demo_page
from racebench.demo.frames import Frame, Lane, Line, State
from racebench.demo.recording import Recording
from racebench.reports import page
from racebench.reports.results import document, sources
from racebench.workloads import catalog

MS = 1_000_000
#: Three workers; rows 1 and 2 have the same number and the consumer saw only row 1; row 4 was passed.
RACE = history(
    [
        Op(1 << 32, 0, 4 * MS, 17),
        Op(2 << 32, 1 * MS, 8 * MS, 17),
        Op((1 << 32) + 1, 5 * MS, 6 * MS, 18),
        Op(3 << 32, 2 * MS, 9 * MS, 18),
        Op((3 << 32) + 1, 10 * MS, 12 * MS, 19),
    ],
    [
        Row(1, 17, 1 << 32),
        Row(2, 17, 2 << 32),
        Row(3, 18, (1 << 32) + 1),
        Row(4, 20, 3 << 32),
        Row(5, 21, (3 << 32) + 1),
    ],
    [Poll((1,), 17), Poll((3, 5), 21)],
    bits=32,
)
RACE.logs[0].polls["start"] = (4.5 * MS, 13 * MS)
RACE.logs[0].polls["end"] = (4.8 * MS, 13.3 * MS)
WIDTHS = {"phone": 390, "desktop": 1280}


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        if os.environ.get("TEST_BROWSER") == "required":
            pytest.fail("there is no Chromium, and TEST_BROWSER says that it is required")
        pytest.skip("no Chromium here: apt-get install chromium, to see the page in a browser")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Opened:
    """A page in the browser, and whatever it asked for or complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def timeline(self) -> Locator:
        return self.page.locator(".timeline").first

    @property
    def chart(self) -> Locator:
        return self.timeline.locator("svg.chart")

    @property
    def said(self) -> str:
        return self.timeline.locator(".said").inner_text()

    def bars(self, kinds: str = "") -> Locator:
        return self.chart.locator(f".piece{kinds}:not(.poll)")

    def view(self) -> tuple[float, float]:
        """The stretch of time on show, by where its first and last bar would be."""
        box = self.timeline.locator(".overview .view")
        left = float(box.get_attribute("x") or 0)
        return left, left + float(box.get_attribute("width") or 0)


Open = Callable[..., Opened]

#: How light the page is, which texts have less than 4.5 to 1 of contrast (WCAG 2.2, 1.4.3), and how wide it is.
LOOKED_AT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (color) => rgb(color).reduce((sum, c, at) => sum + linear(c / 255) * [0.2126, 0.7152, 0.0722][at], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const faint = (each) => {
    const ink = light(getComputedStyle(each).color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) < 4.5;
  };
  const texts = [...document.querySelectorAll("p, h1, h2, h3, td, th, code, a:not(.skip), .verdict, dt, dd")]
    .filter((each) => each.offsetParent && !each.closest(".tip"));
  return {
    paper,
    faint: texts.filter(faint).map((each) => each.outerHTML),
    wide: document.documentElement.scrollWidth,
  };
}"""
#: The contrast of each bar's label with the bar, both as they are composed onto the lane.
LABELS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const over = (top, below, share) => top.map((c, at) => share * c + (1 - share) * below[at]);
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (c) => c.reduce((sum, one, at) => sum + linear(one / 255) * [0.2126, 0.7152, 0.0722][at], 0);
  const share = (each) => Number(each.opacity) * Number(each.fillOpacity);
  const lane = rgb(getComputedStyle(document.querySelector(".chart .lane")).fill);
  return [...document.querySelectorAll(".chart .piece text")].map((text) => {
    const group = Number(getComputedStyle(text.parentNode).opacity);
    const body = getComputedStyle(text.parentNode.querySelector(".body")), ink = getComputedStyle(text);
    const bar = over(rgb(body.fill), lane, share(body));
    const label = over(rgb(ink.fill), bar, share(ink));
    const seen = [over(bar, lane, group), over(label, lane, group)].map(light).sort((one, other) => one - other);
    return (seen[1] + 0.05) / (seen[0] + 0.05);
  });
}"""
#: What has the focus: its class, or what it says.
FOCUSED = "document.activeElement.getAttribute('class') || document.activeElement.textContent"


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a page of some sources from a file; at the end nothing may have been asked for or complained of."""
    opened: list[Opened] = []

    def go(*read: sources.Source, width: int = 1280, theme: str = "light", script: bool = True) -> Opened:
        (tmp_path / "page.html").write_text(page.render(read))
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,  # type: ignore[arg-type]
            java_script_enabled=script,
            has_touch=width < 500,
        )
        made = Opened(context.new_page())
        made.page.on("request", lambda request: made.requests.append(request.url))
        made.page.on("console", lambda message: made.complaints.append(message.text))
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.on("dialog", lambda dialog: (made.complaints.append(dialog.message), dialog.dismiss()))
        made.page.goto((tmp_path / "page.html").as_uri())
        opened.append(made)
        return made

    yield go
    for each in opened:
        assert each.complaints == []
        assert each.requests == [(tmp_path / "page.html").as_uri()]
        each.page.context.close()


@pytest.fixture
def race(tmp_path: Path) -> sources.Source:
    return of_race(tmp_path)


def of_race(folder: Path, **changes: Any) -> sources.Source:
    scenario = catalog.find_scenario("version-counter")
    result = result_of(scenario, "naive", RACE, history="x.history.npz", **changes)
    kept(folder, result, RACE)
    clean = result_of(scenario, "advisory", long_history(40, twins=()))
    return saved(folder, replace(result, throughput_per_s=4000.0), replace(clean, throughput_per_s=500.0))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_it_fits_the_width_and_can_be_read_in_either_theme(
    open_page: Open, race: sources.Source, theme: str, width: int
) -> None:
    opened = open_page(race, sources.read(REFERENCE / "explored.json"), width=width, theme=theme)
    seen = opened.page.evaluate(LOOKED_AT)
    assert seen["wide"] == width
    assert seen["faint"] == []
    assert (seen["paper"] > 0.9) == (theme == "light")
    charts = opened.page.locator("#cost svg:visible")
    assert charts.count() == 1
    letters = charts.locator("text").first.evaluate("each => each.getBoundingClientRect().height")
    assert letters > 10, "the text of a chart is not scaled down to nothing"


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_many_files_are_a_table_whose_links_open_a_part_each(
    open_page: Open, race: sources.Source, script: bool
) -> None:
    files = [race, race, sources.read(REFERENCE / "run.json"), sources.read(REFERENCE / "explored.json")]
    opened = open_page(*files, width=390, script=script)
    parts = opened.page.locator("details.file")
    assert parts.count() == 4
    assert parts.locator("section:visible").count() == 0
    assert opened.page.evaluate("document.documentElement.scrollHeight") < 4000
    opened.page.locator("#results a").nth(2).click()
    expect(parts.nth(2).locator("section").first).to_be_visible()
    assert parts.locator("section:visible").count() == parts.nth(2).locator("section").count()
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 390
    if script:
        expect(parts.nth(2).locator(".timeline svg.chart").first).to_be_visible()


def test_what_is_wider_than_the_screen_says_so(open_page: Open, race: sources.Source) -> None:
    narrow, wide = (open_page(race, width=width) for width in WIDTHS.values())
    table = "[aria-label='All numbers']"
    said = narrow.page.locator(f".sideways:has(+ {table})")
    expect(said).to_be_visible()
    narrow.page.locator(table).focus()
    narrow.page.keyboard.press("ArrowRight")
    narrow.page.wait_for_function(f'document.querySelector("{table}").scrollLeft > 0')
    expect(wide.page.locator(f".sideways:has(+ {table})")).to_be_hidden()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_labels_beside_the_chosen_anomaly_can_be_read_too(open_page: Open, race: sources.Source, theme: str) -> None:
    opened = open_page(race, theme=theme)
    opened.chart.press("0")
    opened.page.wait_for_function("document.querySelectorAll('.chart .piece.dim text').length > 1")
    contrasts = opened.page.evaluate(LABELS)
    assert min(contrasts) >= 4.5, "WCAG 2.2, 1.4.3"


def test_it_opens_on_the_first_anomaly_with_its_rows_marked_and_joined(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race)
    assert "1 of 3 here, duplicates: rows 1 and 2 have version 17 of tenant 1." in opened.said
    assert opened.bars(".duplicates.chosen").count() == 2
    assert opened.bars(".duplicates.missed").count() == 1
    assert opened.chart.locator(".join.duplicates").count() == 1
    assert opened.chart.locator(".join.missed").count() == 1
    lanes = opened.chart.locator("text.soft").all_text_contents()
    assert [name for name in lanes if "ms" not in name] == ["worker 1", "worker 2", "worker 3", "cursor"]


def test_bars_are_to_scale(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race)
    opened.page.get_by_role("button", name="Show all of the excerpt").first.click()
    opened.page.wait_for_function("document.querySelectorAll('.chart .piece:not(.poll)').length == 5")
    widths = {
        each.get_attribute("data-item"): float(each.locator(".body").get_attribute("width") or 0)
        for each in opened.bars().all()
    }
    assert widths["b1"] / widths["b0"] == pytest.approx(7 / 4, rel=0.01)
    assert widths["b2"] / widths["b0"] == pytest.approx(7 / 4, rel=0.01)
    assert widths["b3"] / widths["b0"] == pytest.approx(1 / 4, rel=0.01)


def test_pointing_at_a_bar_shows_its_row_and_leaving_hides_it(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race)
    tip = opened.timeline.locator(".tip")
    assert tip.is_hidden()
    opened.bars(".duplicates.missed").hover()
    assert tip.is_visible()
    said = tip.inner_text()
    assert "worker 2 committed version 17 in row 2" in said
    assert "never delivered" in said
    assert "same version: row 1" in said
    assert "1 ms to 8 ms, 7 ms long" in said
    opened.page.locator("h1").hover()
    assert tip.is_hidden()
    opened.chart.locator(".piece.poll").first.hover()
    assert "poll 0 of 'cursor' delivered 1 row" in tip.inner_text()
    assert "cursor start → 17" in tip.inner_text()


def test_a_tap_on_a_phone_shows_the_row(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race, width=390)
    opened.bars(".duplicates.missed").tap()
    expect(opened.timeline.locator(".tip")).to_be_visible()
    assert "worker 2 committed version 17 in row 2" in opened.timeline.locator(".tip").inner_text()
    box = opened.timeline.locator(".tip").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_numbers_beyond_a_browsers_are_shown_to_the_last_digit(open_page: Open, tmp_path: Path) -> None:
    version = 2**62 + 1
    past = history(
        [Op(1 << 32, 0, 4 * MS, version), Op(2 << 32, 1 * MS, 8 * MS, version)],
        [Row(2**60 + 1, version, 1 << 32), Row(2**60 + 3, version, 2 << 32)],
        [Poll((2**60 + 1,), version)],
        bits=32,
    )
    result = result_of(catalog.find_scenario("version-counter"), "naive", past, history="x.history.npz")
    kept(tmp_path, result, past)
    opened = open_page(saved(tmp_path, result))
    opened.bars(".missed").hover()
    said = opened.timeline.locator(".tip").inner_text()
    assert f"version {version} in row {2**60 + 3}" in said
    assert f"same version: row {2**60 + 1}" in said


def test_the_buttons_go_from_anomaly_to_anomaly(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race)
    button = opened.timeline.get_by_role("button", name="Next anomaly")
    previous = opened.timeline.get_by_role("button", name="Previous anomaly")
    assert previous.is_disabled()
    button.click()
    assert "2 of 3 here, missed: row 2" in opened.said
    button.click()
    assert "3 of 3 here, missed: row 4" in opened.said
    assert button.is_disabled()
    expect(opened.bars(".chosen")).to_have_count(1)
    previous.click()
    assert "2 of 3" in opened.said
    opened.timeline.get_by_role("button", name="First anomaly").click()
    assert "1 of 3" in opened.said
    opened.timeline.get_by_role("combobox").select_option("missed")
    assert "1 of 2 here, missed" in opened.said


def test_it_zooms_by_button_wheel_and_key_and_is_dragged(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race)
    settled = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

    def span() -> float:
        opened.page.evaluate(settled)
        left, right = opened.view()
        return right - left

    opened.timeline.get_by_role("button", name="Show all of the excerpt").click()
    whole = span()
    opened.timeline.get_by_role("button", name="Zoom in").click()
    half = span()
    assert half == pytest.approx(whole / 2, rel=0.05)
    opened.chart.hover()
    opened.page.keyboard.down("Control")
    opened.page.mouse.wheel(0, -100)
    opened.page.keyboard.up("Control")
    assert span() < half
    scrolled = opened.page.evaluate("scrollY")
    opened.chart.focus()
    for _ in range(3):
        opened.page.keyboard.press("+")
    near = span()
    assert near < half / 4
    box = opened.chart.bounding_box()
    assert box is not None
    before = opened.view()
    opened.page.mouse.move(box["x"] + 700, box["y"] + 5)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 500, box["y"] + 5, steps=5)
    opened.page.mouse.up()
    assert span() == pytest.approx(near, rel=0.05)
    assert opened.view()[0] > before[0]
    opened.chart.focus()
    opened.page.keyboard.press("0")
    assert span() == pytest.approx(whole, rel=0.01)
    assert opened.page.evaluate("scrollY") == scrolled, "the page stays where it is"


def test_everything_is_reached_by_keyboard_and_said_aloud(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race)
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    reached = []
    for _ in range(60):
        opened.page.keyboard.press("Tab")
        reached.append(opened.page.evaluate(FOCUSED))
        if reached[-1] == "chart":
            break
    assert {"First anomaly", "main"} & set(reached)
    assert reached[-1] == "chart"
    aloud = opened.timeline.locator(".away")
    opened.page.keyboard.press("ArrowRight")
    assert "worker 1 committed version 17 in row 1" in aloud.inner_text()
    assert opened.timeline.locator(".tip").is_visible()
    opened.page.keyboard.press("ArrowRight")
    assert "version 18 in row 3" in aloud.inner_text()
    opened.page.keyboard.press("ArrowDown")
    assert "worker 2" in aloud.inner_text()
    opened.page.keyboard.press("n")
    assert "2 of 3" in opened.said
    opened.page.keyboard.press("p")
    assert "1 of 3" in opened.said
    opened.page.keyboard.press("Escape")
    assert opened.timeline.locator(".tip").is_hidden()
    expect(opened.bars(".chosen")).to_have_count(0)
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.getAttribute('class')") != "chart", "it does not trap the focus"


def test_a_witness_is_stepped_through_forth_and_back(open_page: Open) -> None:
    opened = open_page(sources.read(REFERENCE / "explored.json"))
    witness = opened.page.locator("details.witness").first
    rows = witness.locator("tbody tr")
    total = rows.count()
    assert witness.locator("tr.later").count() == 0
    witness.get_by_role("button", name="Start over").click()
    assert witness.locator("tr.later").count() == total - 1
    assert f"step 1 of {total}" in witness.locator(".count").inner_text()
    witness.get_by_role("button", name="Forward ›").click()
    assert rows.nth(1).get_attribute("aria-current") == "step"
    assert rows.nth(1).locator("code").is_visible()
    assert not rows.nth(2).locator("code").first.is_visible()
    opened.page.keyboard.press("ArrowRight")
    assert f"step 3 of {total}" in witness.locator(".count").inner_text()
    opened.page.keyboard.press("ArrowLeft")
    opened.page.keyboard.press("End")
    assert witness.locator("tr.later").count() == 0
    assert witness.get_by_role("button", name="Forward ›").is_disabled()


def test_on_a_phone_every_step_of_a_witness_is_within_the_screen(open_page: Open) -> None:
    opened = open_page(sources.read(REFERENCE / "explored.json"), width=390)
    shown = opened.page.locator("details.witness").first.locator(".lanes td:visible")
    boxes = [box for box in (each.bounding_box() for each in shown.all()) if box is not None]
    assert len(boxes) > 5
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    acting = opened.page.locator(".lanes td.acts:visible").last
    acting.evaluate("(cell) => { cell.dataset.session = 's2 shop.services:create_order_empty_lock_and_the_rest' }")
    assert acting.evaluate("(cell) => cell.scrollWidth <= cell.clientWidth"), "its label goes on in the next line"


def test_hostile_text_does_nothing(open_page: Open, tmp_path: Path) -> None:
    scenario = catalog.find_scenario("version-counter")
    result = result_of(scenario, "naive", RACE)
    witnesses = tuple(
        replace(
            each,
            explanation=HOSTILE,
            consumer=HOSTILE,
            operations=tuple({**operation, "version": HOSTILE} for operation in each.operations),
        )
        for each in result.witnesses
    )
    evil: RunResult = replace(result, strategy=HOSTILE, summary=HOSTILE, notes=(HOSTILE,), witnesses=witnesses)
    whole = document.Document(environment=ENVIRONMENT, created="2026-01-01T00:00:00Z", runs=(evil,))
    (tmp_path / "evil.json").write_text(json.dumps(json.loads(document.to_json(whole))))
    explored = json.loads((REFERENCE / "explored.json").read_text())
    step = next(each for each in explored["explorations"] if each["witness"])["witness"]["steps"][0]
    step["sent"] = step["answered"][:] = HOSTILE
    (tmp_path / "steps.json").write_text(json.dumps(explored))
    opened = open_page(sources.read(tmp_path / "evil.json"), sources.read(tmp_path / "steps.json"))
    opened.bars().first.hover()
    assert "<script>alert(1)</script>" in opened.timeline.locator(".tip").inner_text()
    opened.timeline.get_by_role("button", name="Next anomaly").click()
    assert "<img src=x onerror=alert(2)>" in opened.said
    assert opened.page.locator("img").count() == 0
    assert opened.page.evaluate("document.scripts.length") == 2


def test_tens_of_thousands_of_operations_are_drawn_with_bounded_elements(open_page: Open, tmp_path: Path) -> None:
    past = long_history(60_000, twins=tuple(range(100, 60_000, 50)), workers=32)
    result = result_of(catalog.find_scenario("version-counter"), "naive", past, history="x.history.npz")
    kept(tmp_path, result, past)
    opened = open_page(saved(tmp_path, result))
    opened.timeline.get_by_role("button", name="Show all of the excerpt").click()
    for key in ("0", "+"):  # what is drawn is bounded, however many operations the excerpt has
        opened.page.locator(".chart").first.press(key)
        drawn = opened.page.locator(".chart *").count()
        assert 100 < drawn < 5_000, key


def test_without_a_script_the_still_and_the_tables_are_there(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race, script=False)
    assert opened.page.locator(".still").first.is_visible()
    assert (
        "worker 2 committed version 17 in row 2, which was never delivered"
        in opened.page.locator(".still").first.inner_text()
    )
    assert opened.page.locator("#numbers table").first.is_visible()


def test_on_paper_every_timeline_is_open_and_the_controls_are_gone(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race, sources.read(REFERENCE / "explored.json"), theme="dark")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    opened.page.emulate_media(media="print")
    assert opened.page.locator("details.run:not([open])").count() == 0
    assert opened.page.get_by_role("button").locator("visible=true").count() == 0
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(opened.page.pdf(format="A4")) > 10_000


def test_the_strip_above_a_timeline_keeps_its_width_whatever_the_papers(open_page: Open, race: sources.Source) -> None:
    opened = open_page(race)
    wide, strip = opened.timeline.evaluate(
        """(each) => {
          each.style.width = "500px"; // as on paper: nothing is drawn again
          return [each, each.querySelector(".overview .lane")].map((of) => of.getBoundingClientRect().width);
        }"""
    )
    assert strip == pytest.approx(wide) == 500


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_long_name_is_whole_in_its_card(open_page: Open, tmp_path: Path, width: int) -> None:
    scenario = catalog.find_scenario("version-counter")
    long = replace(result_of(scenario, "naive", RACE), strategy="a_strategy_" * 8)
    opened = open_page(saved(tmp_path, long, long), width=width)
    right = "(each) => each.getBoundingClientRect().right"
    card, name = opened.page.locator(".card").first, opened.page.locator(".card h3 code").first
    assert name.evaluate(right) < card.evaluate(right)


SQL = "SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant"


def demo_of(acting: int | None) -> Recording:
    """A demo of one step, which the lane of that number takes."""
    lanes = tuple(
        Lane(
            name=f"s{number}",
            title=f"session {number}",
            lines=tuple(
                Line(text=SQL, state=State.NOW if (number, line) == (acting, 3) else State.AHEAD) for line in range(4)
            ),
            active=number == acting,
        )
        for number in (1, 2, 3)
    )
    frame = Frame(part=0, heading="naive", number=1, sentence="Session 3 reads.", lanes=lanes, tables=())
    return Recording(
        title="The twin", frames=(replace(frame, number=0), frame), schedules=("v1:x:s1",), pace=1, notes=False
    )


def test_on_a_phone_the_step_of_the_demo_is_within_the_screen(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "demo.html").write_text(demo_page.render(demo_of(3)))
    context = browser.new_context(viewport={"width": 390, "height": 800})
    shown = context.new_page()
    shown.goto((tmp_path / "demo.html").as_uri())
    shown.get_by_role("button", name="Next").click()
    box = shown.locator(".frame.shown .now").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 800
    assert shown.locator(".frame.shown li:visible").count() == 4, "of the others the titles are enough"
    assert shown.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_the_demos_sql_stands_where_it_stood_when_its_mark_comes(browser: Browser, tmp_path: Path) -> None:
    lefts = []
    for acting in (None, 3):
        (tmp_path / "demo.html").write_text(demo_page.render(demo_of(acting)))
        shown = browser.new_page()
        shown.goto((tmp_path / "demo.html").as_uri())
        box = shown.locator(".frame.shown .lane").nth(2).locator("li code").last.bounding_box()
        assert box is not None
        lefts.append(box["x"])
        shown.close()
    assert lefts[0] == pytest.approx(lefts[1], abs=1.1), "an acting lane's border is a pixel wider"


def test_served_by_a_server_too_it_asks_for_nothing_but_itself(browser: Browser, race: sources.Source) -> None:
    text = page.render([race]).encode()
    with serving(text) as (address, asked):
        context = browser.new_context()
        shown = context.new_page()
        shown.goto(address)
        assert shown.locator(".chart").count() == 1
        context.close()
    assert asked == ["/"]


@contextmanager
def serving(text: bytes) -> Iterator[tuple[str, list[str]]]:
    """Serve one page on the loopback; yields its address and what was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
        thread.join()
