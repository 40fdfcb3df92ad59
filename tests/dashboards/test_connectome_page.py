"""The page of a connectome as a person uses it, in a real browser with no network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import made_connectome
import sae_circuits as sc
from made_connectome import COUNTS, HELL_LABEL, LINKS, LISTED
from made_page import HELL, seen

pytestmark = pytest.mark.browser

CONNECTED = made_connectome.connected()
WAYS = {one.title: one for one in CONNECTED if one.direction == "up"}
DOWN = CONNECTED[-1]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("made") / "connectome.html"
    return made_connectome.connectome().render(path, links=LINKS)


ENDS = """e => [0, e.getTotalLength()].map(
    (at) => e.getPointAtLength(at).matrixTransform(e.getScreenCTM()).y)"""


def side(page, name: str) -> dict[str, float]:
    """Names and values of a side, in order."""
    nodes = page.locator(f".side.{name} .node")
    names = nodes.locator(".node-head > :first-child").all_inner_texts()
    values = nodes.locator(".amount").all_inner_texts()
    return {n: number(v) for n, v in zip(names, values, strict=True)}


def number(said: str) -> float:
    return float(said.replace("−", "-"))


def held(one, least: float = 0.0) -> dict[str, float]:
    """What a method lists, at least so much of its largest."""
    most = max(map(abs, one.values))
    pairs = zip(one.names, one.values, strict=True)
    return {name: x for name, x in pairs if x and abs(x) >= least * most}


def agrees(page, name: str, wanted: dict[str, float]) -> None:
    shown = side(page, name)
    assert list(shown) == list(wanted)
    assert list(shown.values()) == pytest.approx(list(wanted.values()), abs=0.006)


def least(page, share: int) -> None:
    page.get_by_role("slider").fill(str(share))


# -- choosing --------------------------------------------------------------------------------------


def test_the_target_stands_in_the_middle_and_the_strongest_at_its_sides(visit, made):
    page = visit(made)
    assert page.title() == "m1.f3 · A made connectome"
    assert page.locator("h1").inner_text() == f"m1.f3 {LISTED['m1.f3'].label}"
    up, down = side(page, "up"), side(page, "down")
    assert len(up) == 12
    total = WAYS["total (zero)"]
    share = int(page.get_by_role("slider").input_value()) / 100
    agrees(page, "up", held(total, share))
    agrees(page, "down", held(DOWN, share))
    assert page.locator(".count").inner_text() == (
        f"{len(up)} of {len(total.names)} upstream, {len(down)} of {len(DOWN.names)} downstream"
    )
    boxes = [page.locator(where).bounding_box() for where in (".up", ".card", ".down")]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    assert boxes[1]["x"] + boxes[1]["width"] < boxes[2]["x"]


def test_lines_are_as_wide_as_values_are_large_and_go_from_line_to_line(visit, made):
    page = visit(made)
    least(page, 0)
    for name, one in (("up", WAYS["total (zero)"]), ("down", DOWN)):
        paths, wanted = (
            page.locator(f".{name} + .lines path, .lines:has(+ .{name}) path"),
            held(one),
        )
        assert paths.count() == len(wanted)
        largest = max(map(abs, wanted.values()))
        nodes = page.locator(f".side.{name} .node")
        for i, (path, value) in enumerate(zip(reversed(paths.all()), wanted.values(), strict=True)):
            width = float(path.get_attribute("stroke-width"))
            assert width == pytest.approx(1 + 6 * abs(value) / largest, abs=0.006)
            assert path.get_attribute("class") == ("raises" if value > 0 else "lowers")
            dashes = path.evaluate("e => getComputedStyle(e).strokeDasharray")
            assert (dashes == "none") == (value > 0)
            node, card = nodes.nth(i).bounding_box(), page.locator(".card").bounding_box()
            ends = path.evaluate(ENDS)
            far, near = ends if name == "up" else reversed(ends)
            assert far == pytest.approx(node["y"] + node["height"] / 2, abs=1.5)
            assert card["y"] < near < card["y"] + card["height"]


def test_the_slider_hides_what_is_small_and_says_how_many_are_left(visit, made):
    page = visit(made)
    for share in (0, 30, 100):
        least(page, share)
        agrees(page, "up", held(WAYS["total (zero)"], share / 100))
        agrees(page, "down", held(DOWN, share / 100))
        assert f"{share}% of the largest" in page.locator(".least").inner_text()
        assert page.locator(".count").inner_text().startswith(f"{len(side(page, 'up'))} of 18 up")
    assert list(side(page, "up")) == [WAYS["total (zero)"].names[0]]


def test_methods_are_chosen_and_the_address_follows(visit, made):
    page = visit(made)
    for title, one in WAYS.items():
        page.get_by_role("group", name="Method").get_by_role("button", name=title).click()
        least(page, 0)
        agrees(page, "up", held(one))
        assert (side(page, "down") != {}) == (title == "total (zero)")
        assert page.get_by_role("button", name=title).get_attribute("aria-pressed") == "true"
        assert f"{title}: " in page.locator(".legend").inner_text()
    assert "None by this method." in page.locator(".side.down").inner_text()
    again = visit(made, f"#{page.url.partition('#')[2]}")
    pressed = again.locator("[aria-label='Method'] [aria-pressed='true']").all_inner_texts()
    assert pressed == ["virtual"]


def test_signs_and_dictionaries_are_filters(visit, made):
    page = visit(made)
    least(page, 0)
    total = held(WAYS["total (zero)"])
    page.get_by_role("button", name="Above 0").click()
    agrees(page, "up", {name: x for name, x in total.items() if x > 0})
    page.get_by_role("button", name="Below 0").click()
    agrees(page, "up", {name: x for name, x in total.items() if x < 0})
    page.get_by_role("button", name="All", exact=True).click()
    chips = page.get_by_role("group", name="Dictionaries").get_by_role("button")
    assert chips.all_inner_texts() == ["a0", "m0", "m1", "post1"]
    chips.nth(1).click()
    assert chips.nth(1).get_attribute("aria-pressed") == "false"
    agrees(page, "up", {name: x for name, x in total.items() if name.startswith("a0")})
    chips.nth(0).click()
    assert "None of them is shown." in page.locator(".side.up").inner_text()
    chips.nth(1).click()
    agrees(page, "up", {name: x for name, x in total.items() if name.startswith("m0")})


def test_search_finds_names_labels_and_tokens(visit, made):
    page = visit(made)
    least(page, 0)
    total = held(WAYS["total (zero)"])

    def found(words: str) -> list[str]:
        page.get_by_role("searchbox").fill(words)
        return [*side(page, "up"), *side(page, "down")]

    def wanted(holds) -> list[str]:
        return [name for name in (*total, *held(DOWN)) if holds(name, LISTED.get(name))]

    assert found("F2") == wanted(lambda name, one: "f2" in name)
    assert found("VERBS of") == wanted(lambda name, one: one and "verbs of" in (one.label or ""))
    assert found("weather") == wanted(
        lambda name, one: one and ("weather" in (one.label or "") or " weather" in one.tokens)
    )
    assert "post1.f9" in found("weather")
    assert found("no such thing") == []
    assert found(" ") == [*total, *held(DOWN)]


# -- going elsewhere -------------------------------------------------------------------------------


def test_a_click_puts_a_feature_of_the_view_in_the_middle_and_back_leads_back(visit, made):
    page = visit(made)
    least(page, 0)
    page.get_by_role("link", name="m1.f17", exact=True).click()
    assert page.locator(".card h2").inner_text() == "m1.f17"
    assert "target=m1.f17" in page.url
    assert page.evaluate("document.activeElement.tagName") == "H1"
    agrees(page, "up", {"m1.f3": -0.05, "m0.f10": 0.02})
    page.get_by_role("link", name="m1.f3", exact=True).click()
    assert page.locator(".card h2").inner_text() == "m1.f3"
    page.go_back()
    page.wait_for_function("document.title.startsWith('m1.f17')")
    page.get_by_label("Target", exact=False).first.select_option("m1.f3")
    assert page.locator(".card h2").inner_text() == "m1.f3"


def test_others_lead_to_their_pages_where_these_are_known(visit, made):
    page = visit(made)
    least(page, 0)
    hrefs = {
        name: page.locator(".node-head > :first-child").get_by_text(name, exact=True)
        for name in ("m0.f3", "a0.f17", "post1.f5")
    }
    where = [one.evaluate("e => e.getAttribute('href') || e.closest('a')?.getAttribute('href')")
             for one in hrefs.values()]  # fmt: skip
    assert where == ["../m0/index.html#feature=3", None, None]
    there = page.get_by_role("link", name="Feature 5 on Neuronpedia")
    assert there.get_attribute("href") == "https://www.neuronpedia.org/demo/1-res/5"
    assert page.locator(".side.up .hosted").count() == 0
    assert page.locator(".card .to").inner_text() == ""


def test_a_target_that_is_not_there_is_said_to_be_missing(visit, made):
    page = visit(made, "#target=m9.f1")
    assert page.locator("h1").inner_text() == "m9.f1 is not in the middle of this page"
    page.get_by_role("link", name="m1.f3").click()
    assert page.locator(".card h2").inner_text() == "m1.f3"


def test_what_is_pointed_at_says_all_that_is_known_of_it(visit, made):
    page = visit(made)
    page.locator(".node").get_by_text("a0.f17", exact=True).hover()
    tooltip = page.get_by_role("tooltip")
    names, values = tooltip.locator("dt").all_inner_texts(), tooltip.locator("dd").all_inner_texts()
    wanted = {title: one.values[one.names.index("a0.f17")] for title, one in WAYS.items()}
    assert names == list(wanted)
    assert list(map(number, values)) == pytest.approx(list(wanted.values()), rel=5e-3)
    assert tooltip.locator(".histogram .bar").count() == sum(1 for n in COUNTS["a0.f17"] if n)
    assert tooltip.locator(".token").all_text_contents() == [" Mary", " gave"]
    assert page.locator(".lines .lit").count() == 1
    page.locator(".node").get_by_text("m0.f24", exact=True).hover()
    assert "the end of a sentence" in tooltip.inner_text()
    page.locator("h1").hover()
    assert not tooltip.is_visible()
    assert page.locator(".lines .lit").count() == 0


def test_the_keyboard_alone_is_enough(visit, made):
    page = visit(made)

    def until(condition: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"(e => {condition})(document.activeElement)"):
                return
        raise AssertionError(condition)

    until("e.textContent === 'direct (zero)'")
    page.keyboard.press("Enter")
    assert page.locator("[aria-label='Method'] [aria-pressed='true']").inner_text() == (
        "direct (zero)"
    )
    until("e.type === 'range'")
    page.keyboard.press("Home")
    agrees(page, "up", held(WAYS["direct (zero)"]))
    page.keyboard.press("End")
    assert len(side(page, "up")) == 1
    page.keyboard.press("Home")
    until("e.textContent === 'a0.f17'")
    tooltip = page.get_by_role("tooltip")
    assert tooltip.locator(".tip-head").inner_text() == "a0.f17"
    page.keyboard.press("Escape")
    assert not tooltip.is_visible()
    page = visit(made, "#target=m1.f17")
    until("e.textContent === 'm1.f3'")
    page.keyboard.press("Enter")
    assert page.locator(".card h2").inner_text() == "m1.f3"


# -- what goes wrong elsewhere ---------------------------------------------------------------------


def test_what_comes_from_hell_is_shown_and_executes_nothing(visit, tmp_path):
    view = made_connectome.of_hell()
    page = visit(view.render(tmp_path / "x.html"))
    least(page, 0)
    way = view.targets[0].connections[0]
    agrees(page, "up", dict(zip(way.names, way.values, strict=True)))
    assert page.locator("h1 .label").inner_text() == HELL_LABEL
    wanted = [seen(HELL[token]) for token in sorted(HELL)]
    assert page.locator(".card .token").all_text_contents() == wanted
    page.locator(".node").get_by_text("m0.f1", exact=True).hover()
    assert page.locator(".tooltip .token").all_text_contents() == wanted
    assert page.get_by_role("group", name="Method").get_by_role("button").all_inner_texts() == [
        "</script><i> (<!--)", "two (<!--)"
    ]  # fmt: skip
    assert page.locator(".hosted").count() == 0
    assert page.evaluate("window.broken") is None
    assert page.locator("main img, main script, main i, main b").count() == 0
    chips = page.get_by_role("group", name="Dictionaries").get_by_role("button")
    assert chips.all_inner_texts() == ["m0", "others"]
    html = (tmp_path / "x.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, re.S)
    assert not any(set(script) & set("<>&\u2028\u2029") for script in scripts[:-1])


def test_one_target_by_one_method_needs_no_choice(visit, tmp_path):
    model = sc.load_model("demo")
    saes = sc.load_saes("demo", ["mlp_out.0", "resid_post.1"])
    found = sc.connections(model, "post1.f228", saes, sc.tasks.ioi(model, 8, 0))
    page = visit(sc.ConnectomeView.build(found, n=30).render(tmp_path / "x.html"))
    assert page.get_by_label("Target", exact=True).locator("option").count() == 0
    assert page.get_by_role("group", name="Method").count() == 0
    least(page, 0)
    agrees(page, "up", dict(found.top(30)))
    assert page.title() == "post1.f228 · Connectome of post1.f228"
    assert page.locator("header.about").inner_text() == "demo · total (zero)"


# -- where it is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("hash", ["", "#target=m1.f17", "#target=nothing"])
def test_an_accessibility_checker_finds_nothing(visit, made, scheme, hash):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit(made, hash, color_scheme=scheme)
    if page.locator(".node").count():
        page.locator(".node-head > :first-child").first.focus()
    found = axe.Axe().run(page)
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


def test_it_fits_a_phone_as_lists_with_bars(visit, made, tmp_path):
    for path in (made, made_connectome.of_hell().render(tmp_path / "x.html")):
        page = visit(path)
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert not page.locator(".lines").first.is_visible()
        tops = [page.locator(where).bounding_box()["y"] for where in (".card", ".up", ".down")]
        assert tops == sorted(tops)
    page = visit(made)
    page.set_viewport_size({"width": 360, "height": 740})
    least(page, 0)
    for i, value in enumerate(WAYS["total (zero)"].values):
        two = page.locator(".side.up .two").nth(i)
        bar, whole = two.locator(".bar").bounding_box(), two.bounding_box()
        part = abs(value) / max(map(abs, WAYS["total (zero)"].values))
        assert bar["width"] == pytest.approx(whole["width"] / 2 * part, abs=0.6)


def test_dark_mode_and_paper(visit, made):
    page = visit(made, color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(17, 24, 39)"
    page.emulate_media(media="print")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    assert not page.get_by_role("slider").is_visible()
    assert page.locator(".lines path").first.is_visible()
    assert page.locator(".node").first.is_visible()


def test_a_notebook_shows_it_in_a_frame_of_its_own(visit, tmp_path):
    notebook = tmp_path / "notebook.html"
    shown = made_connectome.connectome()._repr_html_()
    notebook.write_text(f"<main><h1 tabindex=0>Notebook</h1>{shown}</main>", encoding="utf-8")
    frame = visit(notebook).frame_locator("iframe")
    frame.get_by_role("button", name="virtual").click()
    assert frame.locator(".side.up .node").count() == 6
    frame.get_by_role("slider").fill("0")
    frame.get_by_role("button", name="total (zero)").click()
    frame.get_by_role("slider").fill("0")
    frame.get_by_role("link", name="m1.f17", exact=True).click()
    assert frame.locator(".card h2").inner_text() == "m1.f17"


def test_script_and_style_stay_small(made):
    own = re.findall(r"<style>.*?</style>|<script>.*?</script>", made.read_text(), re.S)
    assert sum(len(part.encode()) for part in own) < 56_000
