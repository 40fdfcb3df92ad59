"""The page of features as a person uses it, in a real browser with no network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import made_page
from made_page import HELL, TEXTS, seen
from sae_circuits.dashboards.layout import Layout
from sae_circuits.dashboards.page import feature_page
from sae_circuits.dashboards.profile import Counts, Group, Profile
from sae_circuits.dashboards.views import FeatureView
from sae_circuits.dashboards.window import Values, Windows

pytestmark = pytest.mark.browser


def written(folder: Path, view: FeatureView, layout: Layout | str | None = None) -> Path:
    path = folder / "features.html"
    path.write_text(feature_page(view, layout), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("made"), made_page.view())


def cell(page, window: int, i: int):
    return page.locator(".window").nth(window).locator(".cell").nth(i)


def rows(tooltip) -> dict[str, str]:
    names, values = tooltip.locator("dt").all_inner_texts(), tooltip.locator("dd").all_inner_texts()
    return dict(zip(names, values, strict=True))


def first_window(view: FeatureView, feature: int = 3):
    profile = next(one for one in view.profiles if one.feature == feature)
    return profile, profile.groups[0].windows[0]


# -- a feature -------------------------------------------------------------------------------------


def test_a_person_chooses_a_feature_and_goes_back(visit, made):
    page = visit(made)
    assert page.title() == "A made view"
    page.get_by_role("link", name="weather, at night").click()
    assert page.locator("h1").inner_text().split() == "Feature 17 weather, at night".split()
    assert page.title().startswith("Feature 17 · weather, at night")
    page.get_by_role("link", name="Next feature: 42").click()
    assert "Feature 42" in page.locator("h1").inner_text()
    page.go_back()
    page.wait_for_function("document.title.startsWith('Feature 17')")
    page.go_back()
    page.wait_for_selector(".index")
    assert page.title() == "A made view"


def test_hovering_a_token_says_all_that_is_known_of_it(visit, made):
    profile, window = first_window(made_page.view())
    page = visit(made, "#feature=3")
    at = window.effects.at[2]
    context = 10
    start = max(0, window.position - window.first - context)
    cell(page, 0, at - start).hover()
    tooltip = page.get_by_role("tooltip")
    assert tooltip.locator(".tip-head .token").inner_text() == TEXTS[window.tokens[at]]
    assert tooltip.locator(".id").inner_text() == f"id {window.tokens[at]}"
    said = rows(tooltip)
    assert said["position"] == f"{window.first + at} of prompt {window.prompt}"
    assert number(said["activation"]) == pytest.approx(window.activations[at], rel=1e-2)
    effect = dict(zip(profile.effects.ids, profile.effects.values, strict=True))[window.tokens[at]]
    assert number(said["logit effect"]) == pytest.approx(effect, rel=1e-2)
    direct = window.effects.direct[2]
    assert number(said["direct loss effect"]) == pytest.approx(direct, rel=1e-2)
    assert said["direct loss effect"].endswith("helps" if direct > 0 else "hurts")
    ablation = window.ablation[at]
    assert number(said["ablation loss effect"]) == pytest.approx(ablation, rel=1e-2)
    without, before = said["probability, without → with"].split(" → ")
    assert number(without) == pytest.approx(100 * window.effects.without[2], rel=1e-2)
    assert number(before) == pytest.approx(100 * window.effects.before[2], rel=1e-2)
    lists = tooltip.locator(".tip-lists > div")
    helped = window.effects.helped[2]
    assert lists.nth(0).locator(".token").all_inner_texts() == [TEXTS[i] for i in helped.ids]
    assert lists.nth(1).locator("p").inner_text() == "Most hurt"


def number(said: str) -> float:
    """The first number in a text of the page."""
    found = re.search(r"[+−]?[\d.,]+(e−?\d+)?", said)
    return float(found[0].replace("−", "-").replace(",", ""))


def test_quantiles_are_of_active_and_of_counted_tokens(visit, made):
    profile, window = first_window(made_page.view())
    density = profile.statistics["density"]
    page = visit(made, "#feature=3&context=1000")
    middle = window.position - window.first
    of_active = window.quantiles[[i for i, a in enumerate(window.activations) if a].index(middle)]
    cell(page, 0, middle).hover()
    active, counted = rows(page.get_by_role("tooltip"))["quantile"].split(", ")
    assert number(active) == pytest.approx(100 * of_active, rel=1e-2)
    assert number(counted) == pytest.approx(100 * (1 - density + density * of_active), rel=1e-2)
    cell(page, 0, window.activations.index(0.0)).hover()
    said = rows(page.get_by_role("tooltip"))["quantile"]
    assert "of active" not in said
    assert number(said) == pytest.approx(100 * (1 - density), rel=1e-2)


def test_a_tokens_value_is_drawn_on_both_histograms_while_it_is_pointed_at(visit, made):
    profile, window = first_window(made_page.view())
    page = visit(made, "#feature=3&context=1000")
    middle = window.position - window.first
    cell(page, 0, middle).hover()
    line = page.locator(".panel.activations g.value")
    assert line.get_attribute("visibility") == "visible"
    x = float(line.locator("line").get_attribute("x1"))
    low, high = profile.activations.edges[0], profile.activations.edges[-1]
    assert x == pytest.approx(8 + 344 * (9.5 - low) / (high - low))
    assert page.locator(".panel.logits g.value").get_attribute("visibility") == "visible"
    page.locator("h1").hover()
    assert line.get_attribute("visibility") == "hidden"
    assert page.get_by_role("tooltip").count() == 0


def test_histograms_that_are_out_of_sight_stand_in_the_tooltip(visit, made):
    page = visit(made, "#feature=3")
    cell(page, 0, 5).hover()
    assert page.locator(".tooltip .histogram").count() == 0
    last = page.locator(".window").last.locator(".cell.chosen")
    last.hover()
    copies = page.locator(".tooltip .histogram g.value")
    assert copies.first.get_attribute("data-value") == "9.5"
    assert copies.count() == 2


def test_the_keyboard_alone_goes_from_token_to_token(visit, made):
    _, window = first_window(made_page.view())
    page = visit(made, "#feature=3&context=1000")
    middle = window.position - window.first
    tooltip = page.get_by_role("tooltip")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.cell')"):
            break
    assert rows(tooltip)["position"] == f"{window.position} of prompt {window.prompt}"
    page.keyboard.press("ArrowRight")
    assert rows(tooltip)["position"] == f"{window.position + 1} of prompt {window.prompt}"
    page.keyboard.press("Home")
    assert rows(tooltip)["position"] == f"{window.first} of prompt {window.prompt}"
    page.keyboard.press("ArrowDown")
    second = made_page.view().profiles[0].groups[0].windows[1]
    assert rows(tooltip)["position"] == f"{second.position} of prompt {second.prompt}"
    assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tooltip"
    page.keyboard.press("Escape")
    assert not tooltip.is_visible()
    assert middle == 12


def test_a_click_keeps_the_tooltip_and_escape_lets_it_go(visit, made):
    page = visit(made, "#feature=3")
    cell(page, 0, 3).click()
    page.locator("h1").hover()
    assert page.get_by_role("tooltip").is_visible()
    cell(page, 7, 3).hover()
    page.get_by_role("tooltip").click()
    first = first_window(made_page.view())[1]
    assert rows(page.get_by_role("tooltip"))["position"].endswith(f" of prompt {first.prompt}")
    page.keyboard.press("Escape")
    assert not page.get_by_role("tooltip").is_visible()


def test_the_chosen_token_is_bold_and_backgrounds_and_lines_say_sizes(visit, made):
    _, window = first_window(made_page.view())
    page = visit(made, "#feature=3&group=top&context=1000")
    strip = page.locator(".window").first.locator(".cell")
    middle = window.position - window.first
    chosen = [i for i in range(strip.count()) if "chosen" in strip.nth(i).get_attribute("class")]
    assert chosen == [middle]
    tints = {i: strip.nth(i).evaluate("e => e.style.getPropertyValue('--a')") for i in range(24)}
    assert {i for i, tint in tints.items() if tint} == {
        i for i, a in enumerate(window.activations) if a
    }
    largest = max(range(24), key=lambda i: window.activations[i])
    assert tints[largest] == "100%"
    windows = [w for g in made_page.view().profiles[0].groups for w in g.windows]
    most = max(abs(x) for w in windows for x in w.effects.direct)
    for i, x in zip(window.effects.at, window.effects.direct, strict=True):
        if abs(x) >= 0.02 * most:
            name = "helps" if x > 0 else "hurts"
            assert name in strip.nth(i).get_attribute("class").split()
            width = strip.nth(i).evaluate("e => parseFloat(getComputedStyle(e).borderBottomWidth)")
            # Chromium draws whole pixels of a border
            assert width == pytest.approx(1 + 3 * abs(x) / most, abs=1)


def test_examples_and_context_are_the_readers_choice(visit, made):
    page = visit(made, "#feature=3&group=top")
    assert page.locator(".window").count() == 5
    page.get_by_label("examples", exact=True).select_option("10")
    assert page.locator(".window").count() == 10
    assert "examples=10" in page.url
    page.get_by_label("context", exact=True).select_option("3")
    assert page.locator(".window").first.locator(".cell").count() == 7
    page.get_by_role("button", name="2 more").click()
    assert page.locator(".window").count() == 12
    page.reload()
    page.wait_for_selector(".window")
    assert page.locator(".window").count() == 12
    assert page.locator(".window").first.locator(".cell").count() == 7


def test_a_link_leads_to_a_feature_and_a_group(visit, made):
    page = visit(made, "#feature=42&group=interval-1")
    assert "Feature 42" in page.locator("h1").inner_text()
    assert page.locator(".group h3 a").all_inner_texts() == ["Interval 2"]
    page.get_by_role("button", name="Quantiles").click()
    assert page.locator(".group h3 a").all_inner_texts() == ["Quantile group 1"]
    assert page.get_by_role("button", name="Quantiles").get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.textContent") == "Quantiles"
    assert "group=quantile" in page.url


def test_neighbours_on_the_page_are_links_and_others_are_not(visit, made):
    page = visit(made, "#feature=3")
    panel = page.locator(".panel.neighbours")
    assert panel.locator("h3").all_inner_texts() == [
        "features · pearson", "features · decoder", "neurons · cosine", "resid_post.1 · jaccard"
    ]  # fmt: skip
    linked = panel.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert linked == ["#feature=17", "#feature=3", "#feature=42", "#feature=50"]
    panel.get_by_role("link", name="42").click()
    assert "Feature 42" in page.locator("h1").inner_text()
    assert page.evaluate("document.activeElement.tagName") == "H1"


def test_a_feature_that_is_not_there_is_said_to_be_missing(visit, made):
    page = visit(made, "#feature=12345")
    assert page.locator("h1").inner_text() == "Feature 12345 is not on this page"
    page.get_by_role("link", name="All features").click()
    assert page.locator(".index").count() == 1


def test_copying_gives_text_json_and_the_place(visit, made, context):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit(made, "#feature=3&group=top")

    def copied(button) -> str:
        button.click()
        page.get_by_text("Copied", exact=True).wait_for()
        return page.evaluate("navigator.clipboard.readText()")

    text = copied(page.get_by_role("button", name="Copy text"))
    profile, window = first_window(made_page.view())
    assert text.startswith("Feature 3: gives or hands over\nmoderate, density ")
    place = f"{window.prompt}:{window.position}"
    chosen = TEXTS[window.tokens[window.position - window.first]]
    assert re.search(rf"^9.5\t{place}\t.*\*\*{re.escape(chosen)}\*\*", text, re.M)
    said = json.loads(copied(page.get_by_role("button", name="Copy JSON")))
    assert said["feature"] == 3
    assert said["top"]["values"] == list(profile.top.values)
    assert copied(page.locator(".place").first) == place


def test_attention_sources_open(visit, made):
    page = visit(made, "#feature=3")
    first = page.locator(".sources").first
    first.locator("summary").click()
    _, window = first_window(made_page.view())
    lines = first.locator("li").all_inner_texts()
    at = window.sources.ids[0]
    assert lines[0].split() == [TEXTS[window.tokens[at - window.first]].strip(), str(at), "+0.81"]


def test_an_attention_source_outside_of_the_window_is_a_position(visit, tmp_path):
    profile, window = first_window(made_page.view())
    before = replace(window, sources=Values((window.first - 1,), (0.5,)))
    only = replace(
        profile, groups=(replace(profile.groups[0], windows=Windows.from_rows([before])),)
    )
    page = visit(written(tmp_path, made_page.view(only)))
    page.locator(".sources summary").click()
    said = page.locator(".sources li").inner_text().split()
    assert said == ["position", f"{window.first - 1}", "+0.5"]


def test_every_panel_is_there(visit, made):
    page = visit(made, "#feature=3")
    titles = page.locator(".panel h2").all_inner_texts()
    assert titles == [
        "Activations", "Effects on the logits", "Tokens it makes more and less likely",
        "Tokens on which it fires", "Nearest", "Neuron alignment", "Decoder weight by head",
        "Probes", "Connections", "Labels", "Statistics", "Examples",
    ]  # fmt: skip
    heads = page.locator(".panel.heads .amount").all_inner_texts()
    assert heads == ["55%", "25%", "15%", "5%"]
    probes = page.locator(".panel.probes tbody tr").all_inner_texts()
    assert [row.split() for row in probes] == [
        ["verb", "+0.80"],
        ["noun", "0.00"],
        ["other", "−0.60"],
    ]
    firing = page.locator(".panel.firing tbody tr").first.inner_text().split()
    assert firing == ["gave", "120", "60%", "90%"]
    neurons = page.locator(".panel.neurons tbody tr").nth(1).inner_text().split()
    assert neurons == ["2", "−0.33", "13%"]
    tokens = page.locator(".panel.tokens .token-list").nth(1).locator("li").first
    assert tokens.inner_text().split() == [TEXTS[12].strip() or "↵", "−0.98"]


# -- many features ---------------------------------------------------------------------------------


def test_thousands_are_searched_sorted_and_filtered_in_a_small_page(visit, tmp_path):
    page = visit(written(tmp_path, made_page.many(5000)))
    drawn = "document.querySelectorAll('body *:not(script)').length"
    assert page.evaluate(drawn) < 1500
    assert page.locator(".index tbody tr").count() == 50
    assert page.get_by_role("status").first.inner_text() == "5,000 of 5,000 features"
    page.get_by_role("searchbox").fill("label 4321")
    assert page.locator(".index tbody th").all_inner_texts() == ["4321"]
    page.get_by_role("searchbox").fill("")
    largest = page.get_by_role("button", name="largest")
    largest.click()
    assert page.locator(".index tbody th").first.inner_text() == "88"
    assert page.locator("th[aria-sort=descending]").inner_text() == "largest"
    largest.click()
    assert page.locator(".index tbody th").first.inner_text() == "0"
    page.get_by_role("button", name="Next").click()
    assert page.evaluate(drawn) < 1500
    page.locator(".index tbody a").first.click()
    page.wait_for_selector(".window")
    assert page.evaluate(drawn) < 1500


def test_features_are_found_by_label_token_and_number(visit, made):
    page = visit(made)

    def found(words: str) -> list[str]:
        page.get_by_role("searchbox").fill(words)
        return page.locator(".index tbody th").all_inner_texts()

    assert found("WEATHER") == ["17"]
    assert found("gave") == ["3", "17", "42"]
    assert found("<!--") == ["50"]
    assert found("60") == ["60"]
    assert found("no such thing") == []
    assert found("") == ["3", "17", "42", "50", "60"]
    assert found("density>0.05") == ["17", "42"]
    assert found("largest >= 9.5 weather") == ["17"]
    assert found("density <= 0.01") == ["50", "60"]
    assert found("colour>1") == []
    page.get_by_label("Type").select_option("dead")
    assert found("") == ["60"]


def test_the_density_of_all_features_is_drawn_and_a_rows_is_marked(visit, made):
    page = visit(made)
    assert page.locator(".density .bar").count() == 7
    page.locator(".index tbody tr").first.hover()
    line = page.locator(".density g.value")
    assert line.get_attribute("visibility") == "visible"
    assert line.text_content().startswith("3: 3.59%")


# -- what goes wrong elsewhere ---------------------------------------------------------------------


def test_tokens_from_hell_are_shown_and_execute_nothing(visit, tmp_path):
    page = visit(shared_hell(tmp_path), "#feature=50&context=1000")
    wanted = [seen(HELL[token]) for token in sorted(HELL)]
    strip = page.locator(".window .cell")
    assert strip.all_text_contents() == wanted
    assert page.locator(".panel.firing tbody .token").all_text_contents() == wanted
    assert page.locator(".panel.tokens .token").all_text_contents() == wanted
    for i, text in enumerate(wanted):
        strip.nth(i).focus()
        assert page.locator(".tooltip .tip-head .token").text_content() == text
    assert page.evaluate("window.broken") is None
    assert page.locator("main img, main script, main b").count() == 0


def shared_hell(folder: Path) -> Path:
    layout = Layout.of(
        ["activations", "logits", ("firing", {"n": 100}), ("tokens", {"n": 100})], ["examples"]
    )
    return written(folder, made_page.view(made_page.of_hell(50), title="</title><script>"), layout)


def test_labels_names_and_titles_from_hell_stay_text(visit, tmp_path):
    page = visit(shared_hell(tmp_path))
    label = made_page.of_hell(50).label
    assert page.locator("h1 .label").inner_text() == label
    assert page.locator("h1 .name").inner_text() == "</title><b>&amp;"
    assert label in page.title()
    assert page.title().endswith("</title><script>")
    assert page.evaluate("window.broken") is None


def test_text_from_data_is_data_in_the_file(tmp_path):
    html = shared_hell(tmp_path).read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, re.S)
    assert len(scripts) == 6 + 1
    for script in scripts[:-1]:
        assert not set(script) & set("<>&\u2028\u2029")
        json.loads(script)
    assert "NaN" not in "".join(scripts[:-1])


ODD = {
    "dead": made_page.dead(1),
    "all equal": made_page.small(1, (0.0, 2.0), activations=Counts((2.0, 2.0), (7,))),
    "tiny": made_page.small(1, (0.0, 1e-8), activations=Counts((0.0, 5e-9, 1e-8), (3, 4))),
    "huge": made_page.small(1, (0.0, 1e6), activations=Counts((0.0, 5e5, 1e6), (3, 4))),
    "close": made_page.small(1, (0.0, 1.0), activations=Counts((1.0, 1 + 2e-16), (7,))),
    "negative": made_page.small(1, (-3.0, 2.0), activations=Counts((-3.0, 0.0, 2.0), (3, 4))),
    "one token": made_page.small(1, (1.0,)),
    "empty group": Profile(
        1, None, (), made_page.statistics(0.1),
        groups=(Group("interval", 0, 0.0, 1.0, 0, Windows.from_rows([])),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_features_have_a_page_without_nan_and_with_few_ticks(visit, tmp_path, name):
    page = visit(written(tmp_path, made_page.view(ODD[name])), "#feature=1")
    text = page.locator("body").inner_text()
    assert not re.search(r"\b(NaN|Infinity|undefined|null)\b", text)
    assert "Feature 1" in text
    for svg in page.locator("svg").all():
        ticks = svg.locator(".tick-text").all_text_contents()
        assert 1 <= len(ticks) <= 9
        assert len(set(ticks)) == len(ticks)
        assert svg.locator("rect").count() >= 1
        box = svg.locator("rect").evaluate_all(
            "all => all.map(r => ['x', 'y', 'width', 'height'].map(k => Number(r.getAttribute(k))))"
        )
        assert all(-1 <= x <= 361 and w > 0 and h > 0 for x, _, w, h in box)
    if name == "dead":
        assert "Never active on this corpus." in text
        assert page.locator("svg").count() == 0


def test_ticks_are_round_few_and_right(visit, made):
    page = visit(made)

    def ticks(low: float, high: float) -> list[float]:
        return page.evaluate("([a, b]) => dashboard.ticks(a, b)", [low, high])

    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(-1.2, 1.2) == [-1, -0.5, 0, 0.5, 1]
    assert ticks(0, 1e-8) == [0, 2e-9, 4e-9, 6e-9, 8e-9, 1e-8]
    assert ticks(0, 1e6) == [0, 200000, 400000, 600000, 800000, 1000000]
    assert ticks(3, 3) == [3]
    labels = page.evaluate(
        """[[1e6, 1e6 + 1], [1, 1.000001], [-1e-8, 1e-8], [5e5, 3e6], [0, 12345678]].map(edges => {
            const shape = dashboard.histogram({edges, counts: [1]}, {name: "x", of: "y"}).element;
            return [...shape.querySelectorAll(".tick-text")].map(tick => tick.textContent);
        })"""
    )
    for said in labels:
        assert 2 <= len(said) <= 9
        assert len(set(said)) == len(said)
        assert len("  ".join(said)) < 60
    assert labels[2] == ["−1e−8", "−5e−9", "0", "5e−9", "1e−8"]
    for low, high in [(1, 1 + 4e-16), (1e6, 1e6 + 1), (-1e-8, 1e6), (0, 1e-300), (-7, -6.99)]:
        found = ticks(low, high)
        assert 1 <= len(found) <= 9
        assert all(low <= tick <= high for tick in found)


def test_negative_activations_are_told_apart_without_colour(visit, tmp_path):
    page = visit(written(tmp_path, made_page.view(ODD["negative"])), "#feature=1")
    first = page.locator(".window .cell").first
    assert "negative" in first.get_attribute("class").split()
    assert "repeating-linear-gradient" in first.evaluate("e => getComputedStyle(e).backgroundImage")


# -- where it is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("hash", ["", "#feature=3", "#feature=50", "#feature=60"])
def test_an_accessibility_checker_finds_nothing(visit, made, scheme, hash):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit(made, hash, color_scheme=scheme)
    if page.locator(".cell").count():
        page.locator(".cell").first.hover()
    found = axe.Axe().run(page)
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


def test_on_a_phone_examples_stand_before_what_is_looked_up(visit, made):
    page = visit(made, "#feature=3")
    names = ("activations", "logits", "tokens", "examples", "firing", "neighbours", "statistics")
    page.set_viewport_size({"width": 360, "height": 740})
    tops = [page.locator(f".panel.{name}").bounding_box()["y"] for name in names]
    assert tops == sorted(tops)
    page.set_viewport_size({"width": 1280, "height": 900})
    boxes = {name: page.locator(f".panel.{name}").bounding_box() for name in names}
    assert boxes["examples"]["y"] == boxes["activations"]["y"]


def test_it_fits_a_phone(visit, made, context):
    page = visit(made)
    page.set_viewport_size({"width": 360, "height": 740})
    for hash in ["#", "#feature=3", "#feature=50", "#feature=60"]:
        page.goto(made.as_uri() + hash)
        page.wait_for_selector("main h1[tabindex]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.goto(made.as_uri() + "#feature=3")
    last = page.locator(".window .cell").nth(10)
    last.click()
    box = page.get_by_role("tooltip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def test_dark_mode_and_paper(visit, made):
    page = visit(made, "#feature=3", color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(17, 24, 39)"
    page.emulate_media(media="print")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    assert not page.get_by_role("button", name="Copy text").is_visible()
    assert page.locator(".window").first.is_visible()


def test_a_notebook_shows_it_in_a_frame_of_its_own(visit, tmp_path, context):
    view = made_page.view()
    notebook = tmp_path / "notebook.html"
    style = "<style>* { color: red !important; font-size: 40px !important }</style>"
    notebook.write_text(f"{style}<main><h1 tabindex=0>Notebook</h1>{view._repr_html_()}</main>")
    page = visit(notebook)
    frame = page.frame_locator("iframe")
    frame.get_by_role("link", name="gives or hands over").click()
    assert frame.locator("h1").inner_text().startswith("Feature 3")
    frame.get_by_role("link", name="17").first.click()
    assert "weather" in frame.locator("h1").inner_text()
    assert frame.locator("h1").evaluate("e => getComputedStyle(e).color") == "rgb(31, 41, 55)"
    assert page.locator("h1").first.inner_text() == "Notebook"
    frame.get_by_role("button", name="Copy text").click()
    frame.get_by_text("Copied", exact=True).wait_for()
    assert page.locator("iframe").bounding_box()["height"] <= 800


def test_one_feature_needs_no_table(visit, tmp_path):
    page = visit(written(tmp_path, made_page.view(made_page.small(7))))
    assert page.locator("h1").inner_text().startswith("Feature 7")
    assert page.get_by_role("link", name="All features").count() == 0


def test_layouts_say_which_panels_stand_in_which_column(visit, tmp_path):
    layout = Layout.of(["examples"], [("tokens", {"n": 2, "title": "Its tokens"}), "statistics"])
    page = visit(written(tmp_path, made_page.view(), layout), "#feature=3")
    columns = page.locator(".column")
    assert columns.nth(0).locator("h2").all_inner_texts() == ["Examples"]
    assert columns.nth(1).locator("h2").all_inner_texts() == ["Its tokens", "Statistics"]
    assert page.locator(".panel.tokens li").count() == 4
    left, right = columns.nth(0).bounding_box(), columns.nth(1).bounding_box()
    assert left["x"] < right["x"]
    assert left["width"] == pytest.approx(right["width"])


@pytest.mark.parametrize("name", ["feature", "prompt", "compact"])
def test_ready_layouts_are_drawn(visit, tmp_path, name):
    page = visit(written(tmp_path, made_page.view(), name), "#feature=3")
    assert page.locator(".column").count() == len(Layout.ready(name).columns)
    assert page.locator(".window").count() > 0


def test_script_and_style_stay_small():
    page = feature_page(made_page.view(made_page.dead(1)))
    own = re.findall(r"<style>.*?</style>|<script>.*?</script>", page, re.S)
    assert [part[:7] for part in own] == ["<style>", "<script"]
    assert sum(len(part.encode()) for part in own) < 72_000


def test_an_example_links_to_where_its_prompt_can_be_read(visit, tmp_path):
    address = 'https://x.org/"<b>/{prompt}?at={position}&again={prompt}'
    layout = Layout.of([("examples", {"address": address})])
    page = visit(written(tmp_path, made_page.view(), layout), "#feature=3")
    _, window = first_window(made_page.view())
    link = page.locator(".window a.place").first
    expected = f"/{window.prompt}?at={window.position}&again={window.prompt}"
    assert link.get_attribute("href") == f'https://x.org/"<b>{expected}'
    assert link.inner_text() == f"{window.prompt}:{window.position}"
    assert page.locator(".window button.place").count() == 0
