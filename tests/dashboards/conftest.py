"""One browser for all tests of pages; a page that says anything on its console fails its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """Start the machine's Chromium, for tests marked `browser`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """Open a browser window of its own, with no network."""
    made = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    made.set_default_timeout(20_000)
    yield made
    made.close()


@pytest.fixture
def visit(context: Any) -> Iterator[Callable[..., Any]]:
    """Open a file in the browser; it may ask for nothing but itself, and complain of nothing."""
    said: list[str] = []
    asked: list[str] = []

    def visit(path: Path, hash: str = "", **options: Any) -> Any:
        page = context.new_page()
        if options:
            page.emulate_media(**options)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        page.goto(path.as_uri() + hash)
        page.wait_for_selector("main h1[tabindex]")
        return page

    visit.asked = asked  # type: ignore[attr-defined]
    yield visit
    assert said == []
    assert [url for url in asked if not url.startswith("file:")] == []
