"""Pages as pictures: near to those that a person has looked at.

What is compared is small: where things stand, and how light or dark they are. Where the machine has
the fonts of the pictures, no rule or tint may be missing; with other fonts lines break elsewhere,
and only large changes are seen. After a change of look, run this file with UPDATE_PICTURES=1 and
look at the pictures.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made_connectome
import made_page
import made_prompt
from sae_circuits.dashboards.layout import Layout

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parent / "pictures"
SIZES = {
    "light": (1280, 900), "dark": (1280, 900), "phone": (360, 760), "prompt": (1280, 900),
    "connectome": (1280, 900), "connections": (1280, 1000),
}  # fmt: skip
MADE = {"prompt": made_prompt.view, "connectome": made_connectome.connectome,
        "connections": made_connectome.view}  # fmt: skip
PLACES = {"prompt": "#position=3", "connectome": "#target=m1.f3"}
SAME_FONTS, OTHER_FONTS = 0.5, 6.0  # mean difference of brightness that is let pass, of 255
FONTS = [178.97, 228.78]  # pixels that some words take, of the pictures
MEASURE = """() => ["body", ".token"].map((where) => {
    const drawing = document.createElement("canvas").getContext("2d");
    drawing.font = `20px ${getComputedStyle(document.querySelector(where)).fontFamily}`;
    return drawing.measureText("The quick brown fox").width;
})"""


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


def shown(
    visit, folder: Path, name: str, layout: str | Layout | None = None, style: str = " "
) -> tuple[Image.Image, float]:
    """A page's picture, and how much it may differ from the one that is kept."""
    view = MADE.get(name, made_page.view)()
    if name == "connections":
        layout = Layout.of(["connections"], ["activations", "tokens"])
    more = {} if name == "connectome" else {"layout": layout}
    path = view.render(folder / "page.html", **more)
    page = visit(
        path, PLACES.get(name, "#feature=3"), color_scheme="dark" if name == "dark" else "light"
    )
    width, height = SIZES[name]
    page.set_viewport_size({"width": width, "height": height})
    page.add_style_tag(content=style)
    if name in ("light", "dark"):
        page.locator(".cell.chosen").nth(1).focus()
    same = page.evaluate(MEASURE) == pytest.approx(FONTS, abs=0.01)
    return picture(page), SAME_FONTS if same else OTHER_FONTS


@pytest.mark.parametrize("name", SIZES)
def test_a_page_looks_as_it_did(visit, tmp_path, name):
    (now, tolerance), path = shown(visit, tmp_path, name), PICTURES / f"{name}.png"
    if os.environ.get("UPDATE_PICTURES"):
        now.quantize(64).save(path, optimize=True)
    assert difference(now, Image.open(path)) < tolerance


def test_the_comparison_sees_a_change_of_layout_and_of_colours(visit, tmp_path):
    light = Image.open(PICTURES / "light.png")
    compact, _ = shown(visit, tmp_path, "light", "compact")
    assert difference(compact, light) > 1.3 * OTHER_FONTS
    assert difference(light, Image.open(PICTURES / "dark.png")) > 10 * OTHER_FONTS


@pytest.mark.parametrize("style", [".cell { background: none }", "h2 { border: 0 !important }"])
def test_with_the_same_fonts_the_comparison_sees_what_is_missing(visit, tmp_path, style):
    now, tolerance = shown(visit, tmp_path, "light", style=style)
    if tolerance == OTHER_FONTS:
        pytest.skip("other fonts than the pictures'")
    assert difference(now, Image.open(PICTURES / "light.png")) > tolerance


def test_pictures_are_small():
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 400_000
