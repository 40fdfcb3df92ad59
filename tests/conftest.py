"""What every test shares: no network, one seed, one thread, and skips for what a machine lacks.

Shapes in annotations are checked: see `type_checks.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before anything imports a hub client: what is not on disk must fail at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
# The models are tiny: a second thread costs more than it brings, in this process and in those that
# it starts, and more still where several run tests side by side.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

import type_checks

torch.set_num_threads(1)
type_checks.install()

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a program or a device that is not here."""
    missing = {}
    if CHROMIUM is None:
        missing["browser"] = pytest.mark.skip(reason="no Chromium on this machine")
    if not torch.cuda.is_available():
        missing["gpu"] = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        for marker, skip in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Start each test from one seed and with all shapes to check, whatever ran before it."""
    torch.manual_seed(0)
    type_checks.begin()


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium, for tests marked `browser`."""
    assert CHROMIUM is not None
    return CHROMIUM


# -- one browser for all tests of pages -----------------------------------------------------------


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
