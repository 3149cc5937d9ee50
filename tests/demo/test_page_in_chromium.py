"""The exported page in a browser: one step at a time, by keys and buttons."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from demos import ParsedPage, Prepare, parse_page
from racebench.demo.exports import FORMATS
from racebench.demo.recording import Recording
from waiting import LIMIT_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

KEY_SCRIPT = """<script>
  var said = [];
  function press(key) { document.dispatchEvent(new KeyboardEvent("keydown", { key: key })); note(); }
  function note() { said.push(document.getElementById("place").textContent); }
  window.onerror = function (problem) { said.push("ERROR " + problem); };
  note(); press("ArrowRight"); press(" "); press("b"); press("End"); press("PageUp"); press("Home");
  document.getElementById("next").click(); note();
  document.getElementById("back").click(); note();
  document.title = said.join("|");
</script></body>"""


def browse(folder: Path, page: str, place: str) -> ParsedPage:
    """The page after its script has run in the browser."""
    file = folder / "page.html"
    file.write_text(page)
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'browser'}",
    ]
    command += ["--virtual-time-budget=2000", "--dump-dom", f"{file.as_uri()}#{place}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return parse_page(done.stdout)


def test_a_browser_shows_one_step_at_a_time_and_runs_nothing_of_the_server(
    hostile_shown: Recording, tmp_path: Path
) -> None:
    parsed = browse(tmp_path, FORMATS["html"](hostile_shown), "3")
    sections = [attributes for tag, attributes in parsed.tags if tag == "section"]
    assert ["shown" in str(section["class"]) for section in sections].count(True) == 1
    assert f"3 of {len(hostile_shown.frames)}" in "".join(parsed.words)
    assert [tag for tag, _ in parsed.tags].count("script") == 1


def test_a_browser_steps_by_keys_and_buttons(prepare: Prepare, tmp_path: Path) -> None:
    shown = prepare("twin").recording
    page = FORMATS["html"](shown).replace("</body>", KEY_SCRIPT)
    page = page.replace("Content-Security-Policy", "no policy")  # it would not let the test's script run
    title = "".join(browse(tmp_path, page, "2").words).split("\n")
    last = len(shown.frames)
    places = [2, 3, 4, 3, last, last - 1, 1, 2, 1]
    assert "|".join(f"{place} of {last}" for place in places) in title
