"""Make docs/pictures/report.png, the README's picture of the report page, from results/reference/run.json.

Needs Chromium and the test extra (`pip install '.[test]'`).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from racebench.reports import page
from racebench.reports.results import sources

PICTURES = Path(__file__).parent
RUN = PICTURES.parent.parent / "results" / "reference" / "run.json"


def main() -> None:
    """Save a screenshot of the page, from its first timeline to the end of its scatter chart."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = Path(folder) / "report.html"
        report.write_text(page.render([sources.read(RUN)]), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 900, "height": 700}, color_scheme="light")
        view.goto(report.as_uri())
        first = view.locator("#timelines").bounding_box()
        last = view.locator("#cost figure:visible").last.bounding_box()
        assert first is not None
        assert last is not None
        height = last["y"] + last["height"] - first["y"] + 24
        view.screenshot(
            path=PICTURES / "report.png",
            full_page=True,
            clip={"x": 0, "y": first["y"] - 16, "width": 900, "height": height},
        )
        browser.close()


if __name__ == "__main__":
    main()
