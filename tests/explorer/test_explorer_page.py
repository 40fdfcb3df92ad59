"""The explorer as a person uses it, in a real browser with no network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import sae_circuits as sc
from small_circuits import by_hand, random_circuit
from small_explorer import curve_of, drawn, smooth, written
from small_graphs import traced

pytestmark = pytest.mark.browser

HELL = '</script><img src=x onerror="window.broken=1">'
LABELS = {"m0.f3": HELL, "m1.f17": "שלום עולם", "m0.f7": "a\u202ereversed", "m0.error": "&lt;b&gt;"}
STATE = "JSON.stringify(explorer.state())"
SVG = "{http://www.w3.org/2000/svg}"


def state(page) -> dict:
    return json.loads(page.evaluate(STATE))


def shown(page) -> set[str]:
    return set(page.evaluate("explorer.graph().nodes.map((node) => node.id)"))


def point_of(page, node: str) -> tuple[float, float]:
    """Where a node's middle is in the window."""
    x, y = page.evaluate(
        """(id) => { const { x, y } = explorer.drawn.cy.getElementById(id).renderedPosition();
        const box = document.querySelector(".drawing").getBoundingClientRect();
        return [box.left + x, box.top + y]; }""",
        node,
    )
    return x, y


def click(page, node: str, **options) -> None:
    page.mouse.click(*point_of(page, node), **options)


def heading(page) -> str:
    return page.locator("aside h2").inner_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("made"), traced(), labels={"m1.f17": "a name is due"})


@pytest.fixture(scope="module")
def circuit(tmp_path_factory) -> Path:
    scores = smooth(2, 2)
    folder = tmp_path_factory.mktemp("circuit")
    return written(folder, sc.prune.top_n(scores, 20), curve=curve_of(scores))


# -- pointing and keeping --------------------------------------------------------------------------


def test_pointing_at_a_node_lists_its_edges_by_size_with_their_signs(visit, made) -> None:
    page = visit(made)
    assert heading(page) == "Nodes"
    page.mouse.move(*point_of(page, "m1.f17@2"))
    page.wait_for_function("document.querySelector('aside h2').textContent !== 'Nodes'")
    assert heading(page) == "a name is due m1.f17@2"
    lists = page.locator("aside ol.edges")
    into, out = (
        [
            (row.locator(".value").inner_text(), row.locator(".who").inner_text())
            for row in lists.nth(i).locator("button").all()
        ]
        for i in (0, 1)
    )
    assert into == [("+1.50", "m0.f3@0"), ("−0.50", "m0.f7@2"), ("+0.25", "m0.error@1")]
    assert [value for value, _ in out] == ["+4.00", "−1.00"]
    assert [h.inner_text() for h in page.locator("aside h3").all()] == [
        "Into it: 3, in sum 1.25", "Out of it: 2, in sum 3",
    ]  # fmt: skip
    hues = [row.get_attribute("class") for row in lists.nth(0).locator("button").all()]
    assert hues == ["helps", "hurts", "helps"]  # raises, lowers, raises
    lit = page.evaluate("explorer.drawn.cy.edges('.on').map((edge) => edge.id())")
    assert set(lit) == {edge.name for edge in traced().edges if "m1.f17@2" in edge.name}
    page.mouse.move(5, 5)
    page.wait_for_function("document.querySelector('aside h2').textContent === 'Nodes'")


def test_a_click_keeps_a_node_and_another_lets_it_go(visit, made) -> None:
    page = visit(made)
    click(page, "m0.f3@0")
    assert heading(page) == "m0.f3@0"
    page.mouse.move(*point_of(page, "m1.f17@2"))
    assert heading(page) == "m0.f3@0"
    page.locator("aside ol.edges button").first.click()
    assert heading(page) == "input@0"
    click(page, "input@0")
    assert heading(page) != "m0.f3@0"
    click(page, "m0.f3@0")
    page.keyboard.press("Escape")
    page.mouse.move(5, 5)
    assert heading(page) == "Nodes"


def test_the_keyboard_alone_goes_from_node_to_node(visit, circuit) -> None:
    page = visit(circuit)
    page.locator(".drawing").focus()
    seen = []
    for _ in range(6):
        page.keyboard.press("ArrowUp")
        seen.append(heading(page))
    assert seen[0] == "input"
    rows = {p["name"]: p["row"] for p in page.evaluate("explorer.view.parts")}
    heights = [rows[name] for name in dict.fromkeys(seen)]
    assert heights == sorted(heights)
    assert len(heights) > 2
    page.keyboard.press("ArrowDown")
    assert rows[heading(page)] < heights[-1]
    page.keyboard.press("h")
    assert len(state(page)["hidden"]) == 1
    page.keyboard.press("Control+z")
    assert state(page)["hidden"] == []
    page.keyboard.press("Control+y")
    assert len(state(page)["hidden"]) == 1
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.className") == "find"
    page.keyboard.type("a1")
    page.keyboard.press("Enter")
    assert heading(page).startswith("a1.")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    zoom = page.evaluate("explorer.drawn.cy.zoom()")
    page.keyboard.press("+")
    assert page.evaluate("explorer.drawn.cy.zoom()") == pytest.approx(1.25 * zoom)
    page.keyboard.press("f")
    assert page.evaluate("explorer.drawn.cy.zoom()") == pytest.approx(zoom)


def test_ways_from_input_to_logits_are_lit(visit, circuit) -> None:
    page = visit(circuit)
    best = page.evaluate(
        """explorer.graph().nodes.map(({ id }) => [explorer.through(explorer.graph(), id).size, id])
        .sort((a, b) => b[0] - a[0])"""
    )
    lit = "explorer.drawn.cy.edges('.on').map((edge) => edge.id()).sort()"
    page.evaluate("(id) => explorer.act.pin(id)", best[0][1])
    page.keyboard.press("w")
    through = page.evaluate("(id) => [...explorer.through(explorer.graph(), id)]", best[0][1])
    assert page.evaluate(lit) == sorted(through)
    page.keyboard.press("s")
    way = page.evaluate("(id) => [...explorer.strongest(explorer.graph(), id)]", best[0][1])
    assert page.evaluate(lit) == sorted(way)
    dead = [id for n, id in best if n == 0]
    if dead:
        page.evaluate("(id) => explorer.act.pin(id)", dead[0])
        page.keyboard.press("w")
        assert page.locator(".said").inner_text().startswith("No way from the input through it")


def test_search_marks_what_it_finds(visit, made) -> None:
    page = visit(made)
    find = page.get_by_label("Search nodes")
    for words, n in (("name is", 1), ("m0.", 3), ("@2", 6), ("gave", 1), ("nothing", 0), ("", 0)):
        find.fill(words)
        assert page.evaluate("explorer.drawn.cy.nodes('.found').length") == n, words


# -- the curve -------------------------------------------------------------------------------------


def test_the_curve_goes_with_the_size(visit, circuit) -> None:
    page = visit(circuit)
    curve, mark = curve_of(smooth()), page.locator(".curve line.mark")
    reading = page.locator(".curve .reading")
    xs = {}
    for i, n in enumerate(curve.n_edges):
        page.get_by_label("Number of edges, exactly").fill(str(n))
        page.keyboard.press("Enter")
        xs[n] = float(mark.get_attribute("x1"))
        low, high = curve.band[i]
        said = reading.inner_text()
        assert said.startswith(f"Measured at {n} edges: faithfulness (logit_diff) ")
        value = re.search(r"\) (\S+) \[(\S+), (\S+)\], random (\S+)$", said)
        numbers = [float(one.replace("−", "-")) for one in value.groups()]
        random = sum(row[i] for row in curve.random) / 2
        assert numbers == pytest.approx([curve.faithfulness[i], low, high, random], rel=5e-3)
    assert list(xs.values()) == sorted(xs.values())
    assert len(set(xs.values())) == len(xs)
    box = page.locator(".curve svg").bounding_box()
    for n, x in xs.items():
        page.mouse.click(box["x"] + x / 260 * box["width"], box["y"] + 30)
        assert state(page)["size"] == n
    slider = page.get_by_label("Number of edges", exact=True).bounding_box()
    y = slider["y"] + slider["height"] / 2
    page.mouse.move(slider["x"] + slider["width"] / 2, y)
    page.mouse.down()
    seen = []
    for share in (0.6, 0.75, 0.9):
        page.mouse.move(slider["x"] + share * slider["width"], y, steps=3)
        page.wait_for_function("explorer.graph().edges.length === explorer.state().size")
        seen.append((state(page)["size"], float(mark.get_attribute("x1"))))
    page.mouse.up()
    assert seen == sorted(seen)
    assert len(set(seen)) == 3
    before = state(page)["size"]
    page.get_by_role("button", name="Undo").click()  # a drag is one step
    assert state(page)["size"] == curve.n_edges[-1]
    page.get_by_role("button", name="Redo").click()
    assert state(page)["size"] == before


def test_without_a_curve_there_is_no_plot(visit, made) -> None:
    assert visit(made).locator(".curve").count() == 0


# -- groups, notes, undo ---------------------------------------------------------------------------


def test_nodes_are_grouped_named_noted_and_all_of_it_undone(visit, made) -> None:
    page = visit(made)
    first = state(page)
    page.keyboard.down("Shift")
    click(page, "m0.f3@0")
    click(page, "m0.f7@2")
    page.keyboard.up("Shift")
    page.get_by_role("button", name="Group 2").click()
    assert heading(page) == "group 1"
    page.keyboard.type("names")
    page.keyboard.press("Enter")
    assert heading(page) == "names"
    note = page.get_by_label("Note")
    note.fill("who gave")
    click(page, "m1.f17@2")  # a click that ends the note reaches the node too
    assert heading(page).startswith("a name is due")
    assert state(page)["groups"] == {
        "names": {"members": ["m0.f3@0", "m0.f7@2"], "label": "", "note": "who gave"}
    }
    rows = page.locator("aside ol.edges").first.locator("button").all_inner_texts()
    assert any("names" in row and "+1.0" in row for row in rows)  # 1.5 - 0.5
    undo = page.get_by_role("button", name="Undo")
    for _ in range(3):
        undo.click()
    assert state(page) == first
    assert undo.is_disabled()
    redo = page.get_by_role("button", name="Redo")
    for _ in range(3):
        redo.click()
    assert state(page)["groups"]["names"]["note"] == "who gave"
    page.evaluate("explorer.act.pin('names')")
    page.get_by_role("button", name="Ungroup").click()
    assert {"m0.f3@0", "m0.f7@2"} <= shown(page)


def test_a_group_needs_a_name_of_its_own(visit, tmp_path) -> None:
    page = visit(
        written(tmp_path, traced(), groups={"one": ["m0.f3", "m0.f7"], "constructor": ["m1.error"]})
    )
    assert {"one", "constructor"} <= shown(page)
    page.evaluate("explorer.act.pin('one')")
    name = page.locator("aside .rename input")
    for taken in ("constructor", "m1.f17@2", " "):
        name.fill(taken)
        name.press("Enter")
        assert "one" in state(page)["groups"]
        name = page.locator("aside .rename input")
        assert name.input_value() == "one"
    name.fill("toString")
    name.press("Enter")
    assert "toString" in shown(page)


def test_groups_from_python_have_labels_and_notes(visit, tmp_path) -> None:
    page = visit(
        written(tmp_path, traced(), groups={"0": ["m0.f3", "m0.f7"]}, labels={"0": "names"},
                notes={"0": "said of people"})
    )  # fmt: skip
    assert page.evaluate("explorer.drawn.cy.getElementById('0').data('said')") == "0\nnames"
    page.evaluate("explorer.act.pin('0')")
    assert heading(page) == "names 0"
    assert page.get_by_label("Note").input_value() == "said of people"


def test_a_dragged_node_stays_and_tidy_puts_it_back(visit, made) -> None:
    page = visit(made)
    before = point_of(page, "m0.f3@0")
    page.mouse.move(*before)
    page.mouse.down()
    page.mouse.move(before[0] + 60, before[1] - 40, steps=4)
    page.mouse.up()
    assert list(state(page)["places"]) == ["m0.f3@0"]
    after = point_of(page, "m0.f3@0")
    assert after == pytest.approx((before[0] + 60, before[1] - 40), abs=2)
    page.get_by_role("button", name="Tidy").click()
    assert point_of(page, "m0.f3@0") == pytest.approx(before, abs=1)


# -- files -----------------------------------------------------------------------------------------


def download(page, name: str) -> str:
    page.locator("summary", has_text="File").click()
    with page.expect_download() as found:
        page.get_by_role("button", name=name, exact=True).click()
    page.mouse.click(5, 5)
    path = Path(found.value.path())
    return found.value.suggested_filename, path


def test_what_is_saved_loads_back_to_the_same_state(visit, made, tmp_path) -> None:
    page = visit(made)
    page.evaluate(
        """explorer.change({ size: 7, axis: "sideways", kinds: ["error"], signs: ["negative"],
        only: "m*", columns: [1], hidden: ["m0.f7@2"], notes: { "m1.f17@2": HELL },
        places: { "m0.f3@0": [10, 20] },
        groups: { mine: { members: ["input@0", "input@2"], label: "", note: "both" } }
        })""".replace("HELL", json.dumps(HELL))
    )
    before = state(page)
    name, path = download(page, "Save")
    assert name == "mary-and-john.arrangement.json"
    kept = json.loads(path.read_text())
    assert (kept["format"], kept["kind"], kept["schema"]) == ("sae-circuits", "arrangement", 1)
    again = visit(made)
    again.locator("input[type=file]").set_input_files({
        "name": "x.json", "mimeType": "application/json", "buffer": path.read_bytes()
    })  # fmt: skip
    again.get_by_text("Loaded", exact=True).wait_for()
    assert state(again) == before
    assert shown(again) == shown(page)
    (tmp_path / "kept.json").write_text(path.read_text())
    third = visit(written(tmp_path, traced(), arrangement=tmp_path / "kept.json"))
    assert state(third) == before
    assert third.evaluate("window.broken") is None


GOOD = {"format": "sae-circuits", "kind": "arrangement", "schema": 1, "state": {"size": 3}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "this is no JSON"),
        ({"format": "x"}, "this is no arrangement"),
        ({**GOOD, "schema": 2}, "it is in schema 2"),
        ({**GOOD, "schema": None}, "it does not say its schema"),
        ({**GOOD, "state": None}, "it holds no state"),
        ({**GOOD, "state": {"size": "all"}}, "its size is not what Save writes"),
        ({**GOOD, "state": {"size": -1}}, "its size is not what Save writes"),
        ({**GOOD, "state": {"places": {"x": [1]}}}, "its places is not what Save writes"),
        ({**GOOD, "state": {"layers": [1]}}, "its layers is not what Save writes"),
        ({**GOOD, "state": {"colour": 1}}, "it has colour, which Save does not write"),
        ({**GOOD, "state": {"hidden": ["m9.f1"]}}, "it is of another circuit: this one has no m9"),
        ({**GOOD, "state": {"groups": {
            "a": {"members": ["m0.f3@0"], "label": "", "note": ""},
            "b": {"members": ["m0.f3@0"], "label": "", "note": ""}}}}, "m0.f3@0 is in two"),
        ({**GOOD, "state": {"groups": {
            "m0.f3@0": {"members": ["m0.f7@2"], "label": "", "note": ""}}}}, "the name of a node"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_and_changes_nothing(visit, made, said, message) -> None:
    page = visit(made)
    before = state(page)
    text = said if isinstance(said, str) else json.dumps(said)
    page.locator("input[type=file]").set_input_files({
        "name": "x.json", "mimeType": "application/json", "buffer": text.encode()
    })  # fmt: skip
    page.wait_for_function("document.querySelector('.said').textContent.startsWith('Not loaded')")
    assert message in page.locator(".said").inner_text()
    assert state(page) == before


def texts(svg: ElementTree.Element) -> list[str]:
    return [one.text or "" for one in svg.iter(f"{SVG}text")]


def test_the_svg_and_the_png_are_what_is_seen(visit, tmp_path) -> None:
    page = visit(written(tmp_path, traced(), labels=LABELS))
    name, path = download(page, "SVG")
    assert name == "mary-and-john.svg"
    svg = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    nodes = page.evaluate("explorer.drawn.cy.nodes().not('.axis').map((n) => n.data('said'))")
    for said in nodes:
        for line in said.split("\n"):
            assert line in texts(svg)
    assert HELL[:21] + "…" in texts(svg)
    assert len(list(svg.iter(f"{SVG}rect"))) == len(nodes) + 1
    assert len(list(svg.iter(f"{SVG}polygon"))) == len(traced().weight)
    page.evaluate("""() => { const { cy } = explorer.drawn;
        cy.zoom(3); cy.center(cy.getElementById("m1.f17@2")); }""")
    near = ElementTree.fromstring(download(page, "SVG")[1].read_text(encoding="utf-8"))
    seen = page.evaluate("""() => { const { cy } = explorer.drawn, seen = cy.extent();
        return cy.nodes().not('.axis').filter((n) => { const box = n.boundingBox();
          return box.x2 > seen.x1 && box.x1 < seen.x2 && box.y2 > seen.y1 && box.y1 < seen.y2;
        }).length; }""")
    assert 0 < seen < len(nodes)
    assert len(list(near.iter(f"{SVG}rect"))) == seen + 1
    name, path = download(page, "PNG")
    assert name == "mary-and-john.png"
    from PIL import Image

    with Image.open(path) as image:
        box = page.locator(".drawing").bounding_box()
        assert image.size[0] == pytest.approx(2 * box["width"], abs=6)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20


# -- two circuits ----------------------------------------------------------------------------------


def test_two_circuits_side_by_side(visit, tmp_path) -> None:
    a, b = sc.prune.top_n(smooth(seed=1), 14), sc.prune.top_n(smooth(seed=2), 10)
    page = visit(written(tmp_path, a, other=b, names=("one", "two")))
    known = sc.overlap(a, b)
    rows = [row.inner_text().split("\t") for row in page.locator(".overlap tr").all()]
    said = {name.strip(): values for name, *values in rows}
    assert said["shared"] == [str(known.edges.n_shared), str(known.nodes.n_shared)]
    assert said["only one"][0] == str(14 - known.edges.n_shared)
    assert said["only two"][0] == str(10 - known.edges.n_shared)
    assert float(said["Jaccard"][0]) == pytest.approx(known.edges.jaccard, rel=5e-3)
    assert float(said["by chance"][1]) == pytest.approx(known.nodes.expected_jaccard, rel=5e-3)
    mine, theirs = ({edge.name for edge in c.edges} for c in (a, b))
    kept = "explorer.graph().edges.map((edge) => edge.id)"
    assert set(page.evaluate(kept)) == mine | theirs
    page.locator("summary", has_text="Filters").click()
    for off, left in (
        (["shared"], mine ^ theirs), (["only one"], theirs - mine), (["only two"], set()),
    ):  # fmt: skip
        page.get_by_role("button", name=off[0], exact=True).click()
        assert set(page.evaluate(kept)) == left
    assert page.get_by_text("Nothing is left").is_visible()
    page.get_by_role("button", name="Clear").click()
    assert set(page.evaluate(kept)) == mine | theirs
    hues = page.evaluate("""explorer.drawn.cy.edges().not('.join').map((e) =>
        [e.id(), e.data('hue')])""")
    colours = {name: page.evaluate(f"explorer.colour({name!r})") for name in ("helps", "hurts")}
    assert {i for i, hue in hues if hue == colours["helps"]} == mine - theirs
    assert {i for i, hue in hues if hue == colours["hurts"]} == theirs - mine


# -- text from data, looks, access -----------------------------------------------------------------


def test_text_from_data_stays_text(visit, tmp_path) -> None:
    odd = replace(traced(), text=(HELL, "\u202eabc", " שלום"), predicted=(HELL, "</title>"))
    page = visit(
        written(tmp_path, odd, labels=LABELS, notes={"m0.f3": HELL}, title=HELL,
                groups={HELL: ["m1.error"], "<b>": ["m0.error"]})
    )  # fmt: skip
    assert page.locator("h1").inner_text() == HELL
    page.evaluate("explorer.act.pin('m0.f3@0')")
    assert page.locator("aside h2 bdi").inner_text() == HELL
    assert HELL in page.locator("aside .tip").inner_text()
    page.evaluate("(id) => explorer.act.pin(id)", HELL)
    assert page.locator("aside .rename input").input_value() == HELL
    page.evaluate("explorer.act.pin('m1.f17@2')")
    assert "שלום עולם" in heading(page)
    assert page.locator("main img, main script, main b").count() == 0
    assert page.evaluate("window.broken") is None
    page.locator("summary", has_text="Filters").click()
    assert page.locator(".chips button", has_text=HELL).count() == 1


def test_what_is_in_the_file_as_data_cannot_end_a_script(tmp_path) -> None:
    odd = replace(traced(), text=(HELL, "\u2028", "\u2029"))
    html = written(tmp_path, odd, labels=LABELS, title=HELL).read_text(encoding="utf-8")
    scripts = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.S)
    assert len(scripts) == 3
    for script in scripts:
        assert not set(script) & set("<>&\u2028\u2029")
        json.loads(script, parse_constant=pytest.fail)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("what", ["graph", "circuit", "two", "kept"])
def test_an_accessibility_checker_finds_nothing(
    visit, made, circuit, tmp_path, scheme: str, what: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    path = circuit if what == "circuit" else made
    if what == "two":
        path = written(tmp_path, sc.prune.top_n(smooth(seed=1), 9), other=by_hand())
    page = visit(path, color_scheme=scheme)
    if what == "kept":
        page.evaluate("explorer.act.pin('m1.f17@2')")
    for menu in page.locator(".menu > summary").all():
        menu.click()
        found = axe.Axe().run(page)
        assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


def test_dark_mode_and_paper(visit, circuit) -> None:
    page = visit(circuit, color_scheme="dark")
    ink = "explorer.drawn.cy.nodes().not('.axis')[0].style('color')"
    assert page.evaluate(ink) == "rgb(229,231,235)"
    page.emulate_media(media="print")
    page.wait_for_function(f"{ink} === 'rgb(17,17,17)'")
    fills = page.evaluate("explorer.drawn.cy.nodes().not('.axis').map((n) => n.data('fill'))")
    assert set(fills) <= {"#fff", "#fef3c7", "#e5e7eb"}
    assert not page.get_by_role("toolbar").is_visible()
    assert page.locator(".drawing").is_visible()
    assert page.locator("aside").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_signs_are_told_apart_by_colours_that_the_colour_blind_tell_apart(visit, circuit) -> None:
    """Blue and vermilion of Okabe and Ito; and a number's sign says the same."""
    page = visit(circuit)
    assert [page.evaluate(f"explorer.colour({name!r})") for name in ("helps", "hurts")] == [
        "#0072b2", "#d55e00",
    ]  # fmt: skip
    scores = smooth()
    for name, hue in page.evaluate("explorer.drawn.cy.edges().map((e) => [e.id(), e.data('hue')])"):
        assert hue == ("#0072b2" if scores[name] < 0 else "#d55e00")


def test_the_toolbar_is_one_line_and_a_phone_has_no_sideways_scroll(visit, made) -> None:
    page = visit(made)
    page.set_viewport_size({"width": 1280, "height": 860})
    tops = page.locator(".bar[role=toolbar] > *:visible").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect()).map(b => [b.top + b.height / 2, b.right])"
    )
    assert max(y for y, _ in tops) - min(y for y, _ in tops) < 8
    assert max(x for _, x in tops) <= 1280
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_notebook_shows_it_in_a_frame(visit, tmp_path) -> None:
    notebook = tmp_path / "notebook.html"
    view = by_hand().explore()
    notebook.write_text(f"<main><h1 tabindex=0>Notebook</h1>{view._repr_html_()}</main>")
    page = visit(notebook)
    frame = page.frame_locator("iframe")
    assert frame.locator(".count").inner_text() == "5 nodes, 5 of 46 edges"
    assert frame.locator("h1").inner_text() == "toy · ioi · eap-ig"


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_nodes", "n_edges"), [(30, 60), (300, 600), (5_000, 20_000)])
@pytest.mark.parametrize("axis", ["columns", "layers", "sideways"])
def test_graphs_of_all_sizes_are_drawn_whole(visit, tmp_path, n_nodes, n_edges, axis) -> None:
    graph = drawn(n_nodes, n_edges)
    n_edges = len(graph.weight)
    page = visit(written(tmp_path, graph, max_edges=n_edges))
    page.evaluate("(axis) => explorer.change({ axis })", axis)
    ends = {end for edge in graph.edges for end in (edge.src.name, edge.dest.name)}
    assert shown(page) == ends
    assert page.evaluate("explorer.graph().edges.length") == n_edges
    boxes = page.evaluate("""explorer.drawn.cy.nodes().not('.axis').map((n) => {
        const { x, y } = n.position(); return [x, y, n.width(), n.height()]; })""")
    assert len(boxes) == len(ends)
    assert not overlapping(boxes)
    page.mouse.move(*point_of(page, "logits.t1@19"))
    page.evaluate("explorer.act.pin('logits.t1@19')")
    n_into = sum(edge.dest.name == "logits.t1@19" for edge in graph.edges)
    assert page.locator("aside h3").first.inner_text().startswith(f"Into it: {n_into}")
    assert page.evaluate("explorer.drawn.cy.edges('.on').length") == n_into


def test_names_can_be_read_where_nodes_are_three_hundred(visit, tmp_path) -> None:
    model = sc.load_model("demo")
    graph = sc.TensorGraph.from_model(model, saes=sc.load_saes("demo"))
    scores = sc.attribute(model, graph, sc.tasks.ioi(model, n=4, seed=0), method="eap")
    page = visit(written(tmp_path, sc.prune.top_n(scores, 500)))
    name = "explorer.drawn.cy.getElementById('logits')"
    assert page.evaluate("explorer.graph().nodes.length") > 250
    assert page.evaluate(f"{name}.numericStyle('font-size') * explorer.drawn.cy.zoom()") > 5.5  # px


def test_a_large_graph_is_drawn_when_the_slider_is_let_go(visit, tmp_path) -> None:
    page = visit(written(tmp_path, drawn(5_000, 20_000), max_edges=20_000))
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    whole = page.evaluate("explorer.drawn.cy.nodes().length")
    page.evaluate(f"explorer.act.drag({{ size: 12 }}), {frames}")
    assert page.locator(".count").inner_text().endswith("12 of 20,000 edges")
    assert page.evaluate("explorer.drawn.cy.nodes().length") == whole
    page.evaluate(f"explorer.act.dropped(), {frames}")
    assert page.evaluate("explorer.graph().edges.length") == 12
    assert page.evaluate("explorer.drawn.cy.edges().length") == 12
    page.evaluate(f"explorer.act.undo(), {frames}")
    assert page.evaluate("explorer.drawn.cy.nodes().length") == whole


def overlapping(boxes: list[list[float]]) -> list[tuple[int, int]]:
    """Pairs of boxes that share some area."""
    found = []
    order = sorted(range(len(boxes)), key=lambda i: boxes[i][1] - boxes[i][3] / 2)
    for a, i in enumerate(order):
        x, y, w, h = boxes[i]
        for j in order[a + 1 :]:
            u, v, s, t = boxes[j]
            if v - t / 2 >= y + h / 2 - 1e-6:
                break
            if abs(x - u) < (w + s) / 2 - 1e-6:
                found.append((i, j))
    return found


def test_lines_into_q_k_and_v_of_a_head_are_apart(visit, tmp_path) -> None:
    circuit = random_circuit(2, 2, 46)
    page = visit(written(tmp_path, circuit))
    ends = page.evaluate("""explorer.drawn.cy.edges().map((edge) => {
        const { x, y } = edge.targetEndpoint();
        return [edge.source().id(), edge.target().id(), [Math.round(x), Math.round(y)]]; })""")
    by_pair: dict[tuple[str, str], list] = {}
    for src, dest, end in ends:
        by_pair.setdefault((src, dest), []).append(tuple(end))
    assert max(map(len, by_pair.values())) == 3
    assert all(len(set(some)) == len(some) for some in by_pair.values())
