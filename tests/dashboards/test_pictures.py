"""Pages as pictures: near to those that a person has looked at.

Fonts differ from machine to machine, so what is compared is small: where things stand, and how
light or dark they are. After a change of look, run this file with UPDATE_PICTURES=1 and look at
the pictures.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made_page
from sae_circuits.dashboards.page import feature_page

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parent / "pictures"
SIZES = {"light": (1280, 900), "dark": (1280, 900), "phone": (360, 760)}
TOLERANCE = 6.0  # mean difference of brightness, of 255


def picture(page) -> Image.Image:
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return shot.resize((shot.width // 2, shot.height // 2), Image.Resampling.BOX)


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of brightness, over squares of about 16 pixels of the screen."""
    small = [
        np.asarray(i.convert("L").resize((48, 48), Image.Resampling.BOX), float)
        for i in (one, other)
    ]
    return float(np.abs(small[0] - small[1]).mean())


def shown(visit, folder: Path, name: str, layout: str = "feature") -> Image.Image:
    path = folder / "page.html"
    path.write_text(feature_page(made_page.view(), layout), encoding="utf-8")
    page = visit(path, "#feature=3", color_scheme="dark" if name == "dark" else "light")
    width, height = SIZES[name]
    page.set_viewport_size({"width": width, "height": height})
    if name != "phone":
        page.locator(".cell.chosen").nth(1).focus()
    return picture(page)


@pytest.mark.parametrize("name", SIZES)
def test_a_page_looks_as_it_did(visit, tmp_path, name):
    now, path = shown(visit, tmp_path, name), PICTURES / f"{name}.png"
    if os.environ.get("UPDATE_PICTURES"):
        now.quantize(64).save(path, optimize=True)
    assert difference(now, Image.open(path)) < TOLERANCE


def test_the_comparison_sees_a_change_of_layout_and_of_colours(visit, tmp_path):
    light = Image.open(PICTURES / "light.png")
    assert difference(shown(visit, tmp_path, "light", "compact"), light) > 1.3 * TOLERANCE
    assert difference(light, Image.open(PICTURES / "dark.png")) > 10 * TOLERANCE


def test_pictures_are_small():
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 400_000
