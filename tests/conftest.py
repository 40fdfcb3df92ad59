"""What every test shares: no network, one seed, one thread, and skips for what a machine lacks.

Shapes in annotations are checked at every call: see `type_checks.py`.
"""

from __future__ import annotations

import os
import shutil

# Before anything imports a hub client: what is not on disk must fail at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
# The models are tiny: a second thread costs more than it brings, in this process and in those that
# it starts, and more still where several run tests side by side.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

torch.set_num_threads(1)

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
def _same_seed() -> None:
    """Start each test from one seed, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium, for tests marked `browser`."""
    assert CHROMIUM is not None
    return CHROMIUM
