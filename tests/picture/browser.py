"""A real browser for the pages: Chromium without a window, where Playwright and a Chromium are installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

SCREENSHOTS = Path(os.environ.get("FLUXGRAD_SCREENSHOTS") or Path(tempfile.gettempdir(), "fluxgrad-screenshots"))
"""Where the tests put what they saw, to be looked at."""


@pytest.fixture(scope="module")
def chromium():
    """Chromium, running; the tests are skipped by name where it or Playwright is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="the page in a browser: playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("the page in a browser: no chromium on PATH")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


class Window:
    """One page in a window of its own; what its console says goes to `said`."""

    def __init__(self, chromium, file, width=1280, height=800, dark=False, still=False):
        self.context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if still else "no-preference",
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(Path(file).as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, selector):
        return " ".join(self.page.locator(selector).text_content().split())

    def shoot(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
