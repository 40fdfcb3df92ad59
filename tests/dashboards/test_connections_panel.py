"""The panel of connections, and links to features elsewhere, in a real browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import made_connectome
import made_page
from made_connectome import COUNTS, HELL_LABEL, LINKS, LISTED
from sae_circuits.dashboards.connected import Connected
from sae_circuits.dashboards.index import render_index
from sae_circuits.dashboards.listed import Listed
from sae_circuits.dashboards.places import Hosted
from small_stores import store

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("made") / "features.html"
    return made_connectome.view().render(path, links=LINKS)


def panel(visit, path: Path, hash: str = "#feature=3", **options):
    return visit(path, hash, **options).locator(".panel.connections")


def number(said: str) -> float:
    return float(said.replace("−", "-"))


def row(where, name: str):
    return where.locator("tbody tr").filter(has=where.page.get_by_text(name, exact=True))


def test_each_direction_has_its_features_with_a_value_by_each_method(visit, made):
    where = panel(visit, made)
    sides = where.locator(".side h3").all_inner_texts()
    assert sides == ["Upstream: what drives it", "Downstream: what it drives"]
    up, down = where.locator("table").all()
    heads = ["feature", "total (zero)", "direct (zero)", "patching (zero)", "virtual"]
    assert up.locator("thead th").all_inner_texts() == heads
    assert down.locator("thead th").all_inner_texts() == ["feature", "total (zero)"]
    where.get_by_role("button", name="8 more").click()
    assert where.get_by_role("button").count() == 0
    held = made_connectome.connected()
    assert up.locator("tbody tr").count() == len(held[0].names)
    for i, one in enumerate(held[:4]):
        for name in held[0].names:
            cell = row(up, name).locator("td").nth(i)
            if name not in one.names:
                assert cell.inner_text() == "–"
                continue
            value = one.values[one.names.index(name)]
            assert number(cell.locator(".amount").inner_text()) == pytest.approx(value, abs=0.006)


def test_bars_go_from_the_middle_to_the_side_of_their_sign(visit, made):
    up = panel(visit, made).locator("table").first
    total = made_connectome.connected()[0]
    for name, value in list(zip(total.names, total.values, strict=True))[:10]:
        two = row(up, name).locator("td").first.locator(".two")
        bar, whole = two.locator(".bar").bounding_box(), two.bounding_box()
        share = abs(value) / max(map(abs, total.values))
        assert bar["width"] == pytest.approx(whole["width"] / 2 * share, abs=0.6)
        middle = whole["x"] + whole["width"] / 2
        end = bar["x"] if value > 0 else bar["x"] + bar["width"]
        assert end == pytest.approx(middle, abs=0.6)
        kind = "raises" if value > 0 else "lowers"
        assert two.locator(".bar").get_attribute("class").split() == ["bar", kind]
    striped = up.locator(".bar.lowers").first
    assert "repeating-linear-gradient" in striped.evaluate(
        "e => getComputedStyle(e).backgroundImage"
    )


def test_those_with_the_largest_part_of_any_methods_largest_come_first(visit, made):
    where = panel(visit, made)
    where.get_by_role("button", name="8 more").click()
    shown = where.locator("table").first.locator("th .end-name")
    names = [re.findall(r"\w+\.f\d+", text)[0] for text in shown.all_inner_texts()]
    ways = [one.shares for one in made_connectome.connected()[:4]]
    sizes = [max(abs(own.get(name, 0)) for own in ways) for name in names]
    assert sizes == sorted(sizes, reverse=True)
    assert where.page.evaluate("document.activeElement.textContent") == names[10]


def test_labels_and_histograms_stand_beside_what_is_known(visit, made):
    where = panel(visit, made)
    known = LISTED["m0.f3"]
    line = row(where.locator("table").first, "m0.f3")
    assert line.locator(".who").inner_text() == known.label
    spark = line.locator(".spark")
    assert spark.get_attribute("aria-label") == "activations 0 to 8"
    heights = [
        float(h)
        for h in re.findall(r"M[\d.]+ 18v-([\d.]+)", spark.locator("path").get_attribute("d"))
    ]
    most = max(COUNTS["m0.f3"])
    assert heights == pytest.approx(
        [max(18 * n / most, 1) for n in COUNTS["m0.f3"] if n], abs=0.006
    )
    line.get_by_role("link", name="m0.f3").hover()
    tooltip = where.page.get_by_role("tooltip")
    assert tooltip.locator("dt").all_inner_texts()[0] == "total (zero)"
    assert number(tooltip.locator("dd").first.inner_text()) == pytest.approx(
        made_connectome.connected()[0].values[0], rel=5e-3
    )
    assert tooltip.locator(".histogram").count() == 1
    assert tooltip.locator(".token").all_text_contents() == [" Mary", " gave"]


def test_a_click_goes_where_the_feature_is(visit, made):
    where = panel(visit, made)
    page = where.page
    assert where.get_by_role("link", name="m0.f3", exact=True).get_attribute("href") == (
        "../m0/index.html#feature=3"
    )
    assert where.get_by_role("link", name="a0.f17", exact=True).count() == 0
    where.get_by_role("link", name="m1.f17", exact=True).click()
    assert "Feature 17" in page.locator("h1").inner_text()
    assert "FeatureView.connect" in page.locator(".panel.connections").inner_text()


def test_neuronpedia_is_linked_where_it_hosts_and_nowhere_else(visit, tmp_path):
    view = made_connectome.view()
    hosted = replace(view, about=replace(view.about, neuronpedia="demo/1-mlp"))
    bad = replace(view, about=replace(view.about, neuronpedia="demo/../x"),
                  hosted=(Hosted("post1", "javascript:alert(1)//x"),))  # fmt: skip
    page = visit(hosted.render(tmp_path / "a.html"), "#feature=3")
    own = page.locator(".pills").get_by_role("link", name="Feature 3 on Neuronpedia")
    assert own.get_attribute("href") == "https://www.neuronpedia.org/demo/1-mlp/3"
    assert own.get_attribute("rel") == "noopener noreferrer"
    links = page.locator(".panel.connections .hosted")
    hrefs = links.evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert hrefs == [f"https://www.neuronpedia.org/demo/1-res/{i}" for i in range(5, 10)]
    for plain in (bad, replace(view, hosted=())):
        page = visit(plain.render(tmp_path / "b.html"), "#feature=3")
        assert page.locator(".hosted").count() == 0
        assert "javascript:" not in page.content()


def test_methods_that_disagree_are_named_with_their_values(visit, made):
    where = panel(visit, made)
    note = where.locator(".differ")
    found = made_connectome.view().profiles[0].differing
    names = {(one.direction, one.name) for one in found}
    assert f"disagree about {len(names)} of" in note.locator("summary").inner_text()
    note.locator("summary").click()
    lines = note.locator("li").all_inner_texts()
    assert len(lines) == len(found)
    i = next(
        i for i, d in enumerate(found) if (d.name, d.methods[1]) == ("a0.f17", "direct (zero)")
    )
    assert lines[i] == "a0.f17 total (zero) −0.587, direct (zero) +0.587: opposite signs"
    j = next(i for i, d in enumerate(found) if d.kind == "size")
    assert lines[j].endswith("one is below a tenth of its method's largest")
    k = next(i for i, d in enumerate(found) if (d.name, d.methods[1]) == ("m0.f3", "virtual"))
    assert lines[k].endswith("by one it drives the other, by one it holds it back")
    marked = where.locator("tr", has=where.page.locator(".disputed")).locator("th a, th [tabindex]")
    first = {n for n in marked.all_inner_texts() if "↗" not in n}
    where.get_by_role("button", name="8 more").click()
    both = {n for n in marked.all_inner_texts() if "↗" not in n}
    assert first <= both == {name for _, name in names}


def test_the_signs_are_explained(visit, made):
    said = panel(visit, made).locator(".meaning").all_inner_texts()
    assert said == [
        "total (zero), direct (zero), patching (zero): the change of the downstream feature when "
        "the upstream one is taken away: below 0 it drives the other, above 0 it holds it back.",
        "virtual: above 0 the upstream feature drives the other, below 0 it holds it back.",
    ]


def test_neighbours_of_a_second_dictionary_have_links_where_its_page_is_known(visit, tmp_path):
    path = made_page.view().render(tmp_path / "a.html", links={"post1": "../post1.html"})
    panel = visit(path, "#feature=3").locator(".panel.neighbours")
    linked = panel.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert linked[-2:] == ["../post1.html#feature=88", "../post1.html#feature=3"]
    assert linked[:-2] == ["#feature=17", "#feature=3", "#feature=42", "#feature=50"]


def test_pages_of_thousands_take_links_too(visit, tmp_path):
    features, other = store(), store()
    features.relate(other, "second")
    place = tmp_path / "first"
    page = visit(render_index(features, place, range(4), links={"second": "../second/index.html"}),
                 "#feature=2")  # fmt: skip
    linked = page.locator(".panel.neighbours a[href^='..']")
    near = [row["feature"] for row in features.feature(2).neighbours if row["among"] == "second"]
    assert linked.count() == 3 * 5  # measures, and rows of each
    assert len(near) > 3 * 5
    assert linked.first.get_attribute("href") == f"../second/index.html#feature={near[0]}"
    before = (place / "index.html").read_bytes()
    render_index(features, place, range(4))
    assert (place / "index.html").read_bytes() != before


def test_what_comes_from_hell_stays_text(visit, tmp_path):
    names = ("</script><script>window.broken = 1</script>", "<b>m0.f1</b>", "__proto__", "m0.f1")
    view = made_page.view().connect(
        {3: [Connected("up", "<img src=x onerror=alert(1)>", names, (0.4, 0.3, -0.2, 0.1), "<i>")]}
    )
    view = replace(view, listed=(Listed("m0.f1", HELL_LABEL, None, ("</script>",)),))
    where = panel(visit, view.render(tmp_path / "x.html"))
    assert [text.splitlines()[0] for text in where.locator("tbody th").all_inner_texts()] == list(
        names
    )
    assert where.locator(".who").inner_text() == HELL_LABEL
    assert where.page.evaluate("window.broken") is None
    assert where.locator("img, b, i").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_accessibility_checker_finds_nothing(visit, made, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    where = panel(visit, made, color_scheme=scheme)
    where.locator("summary").click()
    where.get_by_role("link", name="m0.f3", exact=True).focus()
    found = axe.Axe().run(where.page)
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


def test_it_fits_a_phone_and_paper(visit, made):
    where = panel(visit, made)
    where.page.set_viewport_size({"width": 360, "height": 740})
    assert where.page.evaluate("document.documentElement.scrollWidth") <= 360
    where.page.emulate_media(media="print")
    assert where.locator("table").first.is_visible()
    assert not where.get_by_role("button", name="8 more").is_visible()


def test_a_layout_says_how_many_rows(visit, tmp_path):
    from sae_circuits.dashboards.layout import Layout

    layout = Layout.of([("connections", {"n": 3})])
    where = panel(visit, made_connectome.view().render(tmp_path / "x.html", layout=layout))
    assert where.locator("table").first.locator("tbody tr").count() == 3
    assert where.get_by_role("button", name="15 more").is_visible()
