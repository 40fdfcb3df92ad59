"""The page of a prompt as a person uses it, in a real browser with no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import made_prompt
import sae_circuits as sc
from made_page import HELL, TEXTS
from sae_circuits.dashboards.prompt_page import prompt_page
from sae_circuits.dashboards.prompt_view import PromptView

pytestmark = pytest.mark.browser

STEPS = ("Activation", "Quantile", "Loss effect", "Logit effect", "Attribution")


def written(folder: Path, view: PromptView, **options) -> Path:
    return view.render(folder / "prompt.html", **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("made"), made_prompt.view())


def piece(page, i: int):
    return page.get_by_role("radio").nth(i)


def shown(page) -> list[int]:
    """The features of the ranking, in order."""
    names = page.locator(".ranked > header h3 a").all_inner_texts()
    return [int(name.removeprefix("Feature ")) for name in names]


def numbers(page) -> list[float]:
    """The values of the ranking."""
    return [number(said) for said in page.locator(".ranked .value .amount").all_inner_texts()]


def number(said: str) -> float:
    plain = said.replace("−", "-").replace("+", "").replace(",", "")
    return float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)


def agrees(page, ranking) -> None:
    """The page shows a ranking: its features, and its values to three digits."""
    assert shown(page) == list(ranking.ids)
    assert numbers(page) == pytest.approx(list(ranking.values), rel=0.006)


def chosen(page) -> int:
    every = [one.get_attribute("aria-checked") for one in page.get_by_role("radio").all()]
    assert every.count("true") == 1
    return every.index("true")


# -- choosing --------------------------------------------------------------------------------------


def test_a_person_chooses_tokens_and_scores(visit, made):
    view, page = made_prompt.view(), visit(made)
    assert chosen(page) == len(view.tokens) - 1
    agrees(page, view.score("activation").features[-1])
    for i in (4, 0, 6):
        piece(page, i).click()
        assert chosen(page) == i
        assert f"Position {i}" in page.locator(".at > .head h2").inner_text()
        agrees(page, view.score("activation").features[i])
    for name in STEPS:
        page.get_by_role("button", name=name).click()
        agrees(page, view.score(name.lower()).features[6])
        pressed = page.locator("[aria-label='Score'] [aria-pressed='true']").all_inner_texts()
        assert pressed == [name]


def test_the_lowest_come_first_where_a_reader_wants_them(visit, made):
    view, page = made_prompt.view(), visit(made, "#position=3&score=loss-effect")
    page.get_by_role("button", name="Lowest").click()
    agrees(page, view.score("loss effect").lowest[3])
    assert page.url.endswith("end=lowest")
    page.get_by_role("button", name="Activation").click()
    assert not page.get_by_role("button", name="Lowest").is_visible()
    agrees(page, view.score("activation").features[3])
    page.get_by_role("button", name="Attribution").click()
    page.get_by_role("button", name="Highest").click()
    agrees(page, view.score("attribution").features[3])


def test_the_logit_effect_is_on_the_token_that_is_chosen(visit, made):
    view, page = made_prompt.view(), visit(made, "#position=3")
    target = page.get_by_label("Target token")
    assert not target.is_visible()
    page.get_by_role("button", name="Logit effect").click()
    agrees(page, view.score("logit effect").features[3])
    said = [one.strip() for one in target.locator("option").all_text_contents()]
    assert said[:3] == ["the token that comes next", f"“{TEXTS[4].replace(' ', '␣')}”, 50%",
                        f"“{TEXTS[5].replace(' ', '␣')}”, 12.5%"]  # fmt: skip
    for token in (5, 10, 1):
        target.select_option(str(token))
        agrees(page, view.score("logit effect", token).features[3])
        assert f"token {token} means" in page.locator(".at .head").inner_text()
    piece(page, 5).click()
    agrees(page, view.score("logit effect", 1).features[5])


def test_a_link_leads_to_a_ranking_and_back_leads_back(visit, made):
    view = made_prompt.view()
    page = visit(made, "#position=5&score=loss-effect&end=lowest")
    assert chosen(page) == 5
    agrees(page, view.score("loss effect").lowest[5])
    piece(page, 4).click()
    page.get_by_role("button", name="Quantile").click()
    assert "position=4" in page.url
    assert "score=quantile" in page.url
    agrees(page, view.score("quantile").features[4])
    page.go_back()
    agrees(page, view.score("loss effect").lowest[4])
    page.go_back()
    agrees(page, view.score("loss effect").lowest[5])
    page = visit(made, "#position=3&score=logit-effect&token=5")
    agrees(page, view.score("logit effect", 5).features[3])
    page = visit(made, "#position=99&score=nothing&token=zzz&end=up")
    assert chosen(page) == len(view.tokens) - 1
    agrees(page, view.score("activation").features[-1])


def test_the_keyboard_alone_is_enough(visit, made):
    view, page = made_prompt.view(), visit(made, "#position=5")
    page.keyboard.press("Tab")  # skip to the content
    for _ in STEPS:
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    agrees(page, view.score("attribution").features[5])
    assert page.evaluate("document.activeElement.textContent") == "Attribution"
    for _ in range(3):  # the two ends, then the prompt
        page.keyboard.press("Tab")
    steps = {"ArrowRight": 6, "End": 8, "ArrowDown": 8, "Home": 0, "ArrowLeft": 0}
    for press, i in steps.items():
        page.keyboard.press(press)
        assert chosen(page) == i
        assert piece(page, i).evaluate("e => e === document.activeElement")
        agrees(page, view.score("attribution").features[i])
    page.keyboard.press("ArrowRight")
    for _ in range(3):  # two buttons that copy, then the first feature
        page.keyboard.press("Tab")
    first = view.score("attribution").features[1].ids[0]
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=f"Feature {first}").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H2"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    agrees(page, view.score("attribution").features[1])
    assert page.evaluate("document.activeElement.textContent") == f"Feature {first}"


# -- what stands there -----------------------------------------------------------------------------


def test_tokens_are_coloured_by_the_largest_value_at_each(visit, made):
    view, page = made_prompt.view(), visit(made, "#score=loss-effect&end=lowest")
    score = view.score("loss effect")
    tops = [at.values[0] if at.values else None for at in score.lowest]
    most = max(abs(x) for x in tops if x is not None)
    for i, top in enumerate(tops):
        cell = piece(page, i).locator(".cell")
        part = 0 if top is None else top / most
        shade = float(cell.evaluate("e => e.style.getPropertyValue('--a')").rstrip("%"))
        assert shade == pytest.approx(100 * abs(part), abs=0.6)
        assert ("negative" in cell.get_attribute("class").split()) == (part < 0)
        size = piece(page, i).locator(".size").text_content()
        assert size == "–" if top is None else number(size) == pytest.approx(top, abs=0.0006)
        assert size in piece(page, i).get_attribute("aria-label")


def test_a_feature_stands_with_all_its_scores_and_its_value_on_the_histogram(visit, made):
    view, page = made_prompt.view(), visit(made, "#position=4&score=loss-effect")
    here, first = view.active[4], page.locator(".ranked").first
    i = here.ids.index(view.score("loss effect").features[4].ids[0])
    names, values = (first.locator(f".others {tag}").all_inner_texts() for tag in ("dt", "dd"))
    assert names == ["activation", "quantile", "attribution"]
    for name, said in zip(names, values, strict=True):
        assert number(said) == pytest.approx(here.values[name][i], abs=0.0006)
    line = first.locator(".activations .value")
    assert float(line.get_attribute("data-value")) == here.values["activation"][i]
    assert line.get_attribute("visibility") == "visible"
    first.locator(".window .cell").nth(1).hover()
    first.locator(".window .cell").nth(3).hover()
    page.mouse.move(0, 0)
    assert float(line.get_attribute("data-value")) == here.values["activation"][i]
    assert first.locator(".tokens li").count() > 0
    assert first.locator(".window").count() == 3


def test_a_feature_opens_with_all_that_is_known(visit, tmp_path):
    page = visit(written(tmp_path, made_prompt.view(), features="all.html"), "#position=4")
    assert page.locator(".whole").is_hidden()
    page.get_by_role("link", name="Feature 3", exact=True).click()
    assert page.get_by_role("heading", name="Feature 3", exact=False).first.is_visible()
    assert page.locator(".pieces").is_hidden()
    assert page.locator(".whole .panel").count() > 6
    more = page.get_by_role("link", name="All of this feature")
    assert more.get_attribute("href") == "all.html#feature=3"
    page.get_by_role("button", name="Intervals").click()
    assert "group=interval" in page.url
    page.locator(".neighbours a").first.click()
    assert page.locator(".whole h2").first.inner_text().startswith("Feature")
    page.get_by_role("link", name="The prompt").click()
    assert chosen(page) == 4
    agrees(page, made_prompt.view().score("activation").features[4])
    page.goto(page.url.partition("#")[0] + "#feature=999")
    page.reload()
    assert "not on this page" in page.locator(".whole").inner_text()


def test_positions_where_nothing_is_say_so(visit, made):
    page = visit(made, "#position=2")
    assert "No feature is active" in page.locator(".at").inner_text()
    page = visit(made, "#position=8&score=loss-effect")
    assert "not defined at this position" in page.locator(".at").inner_text()
    assert shown(page) == []


def test_copying_gives_the_ranking(visit, made, context):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    view, page = made_prompt.view(), visit(made, "#position=4&score=loss-effect")
    ranking = view.score("loss effect").features[4]
    page.get_by_role("button", name="Copy JSON").click()
    page.get_by_text("Copied").wait_for()
    said = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert said["ids"] == list(ranking.ids)
    assert said["values"] == list(ranking.values)
    assert (said["position"], said["token"], said["unit"]) == (4, view.tokens[4], "nats")
    page.get_by_role("button", name="Copy text").click()
    text = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert text[0].startswith("Position 4")
    assert [int(row.split("\t")[0]) for row in text[1:]] == list(ranking.ids)


def test_the_page_of_a_real_prompt_shows_the_views_values(visit, tmp_path):
    model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
    features = sc.FeatureDictionary.build(model, sae, sc.demo_corpus(3_000))
    view = sc.PromptView.build(
        features, "When Mary and John went", metric="logit_diff", answer="Mary", wrong="John", k=4
    )
    page = visit(written(tmp_path, view))
    labels = page.locator(".piece .cell").all_inner_texts()
    assert labels == ["<|endoftext|>", "When", "Mary", "and", "John", "went"]
    assert "special" in piece(page, 0).get_attribute("class").split()
    assert "special" not in piece(page, 1).get_attribute("class").split()
    for i in range(6):
        piece(page, i).click()
        for name in STEPS:
            page.get_by_role("button", name=name).click()
            agrees(page, view.score(name.lower()).features[i])
    page = visit(written(tmp_path, sc.PromptView.build(features, "When", prepend_bos=False)))
    assert page.locator(".piece .cell").all_inner_texts() == ["When"]
    assert shown(page)


# -- hell, and where it is read --------------------------------------------------------------------


def test_tokens_from_hell_are_shown_and_execute_nothing(visit, tmp_path):
    page = visit(written(tmp_path, made_prompt.of_hell()))
    cells = page.locator(".piece .cell")
    assert cells.count() == len(HELL)
    by_id = dict(zip(HELL, cells.all_inner_texts(), strict=True))
    for token in (100, 101, 102, 103, 104, 105, 107, 109, 115, 116, 120, 123):
        assert by_id[token].replace("\u00a0", " ") == HELL[token]
    assert (by_id[111], by_id[112], by_id[113], by_id[117]) == ("↵", "⇥", "U+2028", "empty")
    assert page.title() == made_prompt.of_hell().view.about.title
    assert page.locator("main img").count() == 0
    for i in range(len(HELL)):
        piece(page, i).click()
        assert chosen(page) == i
    page.get_by_role("button", name="Logit effect").click()
    said = page.get_by_label("Target token").locator("option").all_text_contents()
    assert "“</script>”, 50%" in said
    assert "“(empty)”, 12.5%" in said


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "hash", ["", "#position=4&score=loss-effect&end=lowest", "#score=logit-effect", "#feature=3"]
)
def test_an_accessibility_checker_finds_nothing(visit, made, scheme, hash):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(visit(made, hash, color_scheme=scheme))
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


def test_it_fits_a_phone_and_paper(visit, made, tmp_path):
    for path in (made, written(tmp_path, made_prompt.of_hell())):
        page = visit(path)
        page.set_viewport_size({"width": 360, "height": 740})
        for hash in (
            "#position=4&score=logit-effect",
            "#position=3&score=attribution",
            "#feature=3",
        ):
            page.goto(path.as_uri() + hash)
            page.wait_for_selector(".panel:visible")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page = visit(made, "#position=4")
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Copy text").is_visible()
    assert page.locator(".pieces").is_visible()
    assert page.locator(".ranked").first.is_visible()


def test_a_notebook_shows_it_in_a_frame_of_its_own(visit, tmp_path):
    view, notebook = made_prompt.view(), tmp_path / "notebook.html"
    notebook.write_text(f"<main><h1 tabindex=0>Notebook</h1>{view._repr_html_()}</main>")
    frame = visit(notebook).frame_locator("iframe")
    frame.get_by_role("radio").nth(4).click()
    frame.get_by_role("button", name="Attribution").click()
    ranking = view.score("attribution").features[4]
    first = frame.locator(".ranked > header h3 a").first
    assert first.inner_text() == f"Feature {ranking.ids[0]}"
    first.click()
    assert frame.locator(".whole h2").first.inner_text().startswith(f"Feature {ranking.ids[0]}")


def test_layouts_say_what_a_panel_shows_and_pages_are_the_same_each_time(visit, tmp_path):
    page = visit(written(tmp_path, made_prompt.view(), layout="compact"), "#position=4")
    assert page.locator(".ranked").first.locator(".column").count() == 1
    assert page.locator(".ranked").first.locator(".window").count() == 5
    view = made_prompt.view()
    again = PromptView.load(view.save(tmp_path / "view.json"))
    assert prompt_page(again) == prompt_page(view)
