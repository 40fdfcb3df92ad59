"""Pages as pictures: near to those that a person has looked at.

What is compared is small: where things stand, and how light or dark they are; no rule or tint may
be missing. The letters are always those of the same fonts. After a change of look, run this file
with UPDATE_PICTURES=1 and look at the pictures.
"""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import matplotlib
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
TOLERANCE = 0.5  # mean difference of brightness that is let pass, of 255
FONTS = {"Pictures": "DejaVuSans.ttf", "Pictures Mono": "DejaVuSansMono.ttf"}
LOAD = """async (fonts) => {
    for (const [name, data] of Object.entries(fonts)) {
        const bytes = Uint8Array.from(atob(data), (byte) => byte.charCodeAt(0));
        document.fonts.add(await new FontFace(name, bytes).load());
    }
}"""
STYLE = """* { font-family: Pictures !important }
    .token, .token *, .cell { font-family: "Pictures Mono" !important }"""


def set_in_our_fonts(page) -> None:
    """The same letters on every machine: those that come with matplotlib."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = {k: base64.b64encode((folder / v).read_bytes()).decode() for k, v in FONTS.items()}
    page.evaluate(LOAD, fonts)
    page.add_style_tag(content=STYLE)


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
) -> Image.Image:
    """A page's picture."""
    view = MADE.get(name, made_page.view)()
    if name == "connections":
        layout = Layout.of(["connections"], ["activations", "tokens"])
    more = {} if name == "connectome" else {"layout": layout}
    path = view.render(folder / "page.html", **more)
    page = visit(
        path, PLACES.get(name, "#feature=3"), color_scheme="dark" if name == "dark" else "light"
    )
    set_in_our_fonts(page)
    width, height = SIZES[name]
    page.set_viewport_size({"width": width, "height": height})
    page.add_style_tag(content=style)
    if name in ("light", "dark"):
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
    compact = shown(visit, tmp_path, "light", "compact")
    assert difference(compact, light) > 10 * TOLERANCE
    assert difference(light, Image.open(PICTURES / "dark.png")) > 100 * TOLERANCE


@pytest.mark.parametrize("style", [".cell { background: none }", "h2 { border: 0 !important }"])
def test_the_comparison_sees_what_is_missing(visit, tmp_path, style):
    now = shown(visit, tmp_path, "light", style=style)
    assert difference(now, Image.open(PICTURES / "light.png")) > TOLERANCE


def test_pictures_are_small():
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 400_000
