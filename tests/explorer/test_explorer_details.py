"""What the page says of features, from their stores, and where it links to."""

from __future__ import annotations

import pytest

import sae_circuits as sc
from sae_circuits.errors import OptionError, StoreError
from sae_circuits.graph import Circuit
from small_explorer import drawn, written

NAMES = ("m1.f3", "m1.f42")


@pytest.fixture(scope="module")
def store() -> sc.FeatureDictionary:
    model, (sae,) = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
    features = sc.FeatureDictionary.build(model, sae, sc.demo_corpus(2_000))
    features.label("tokens", [3])
    return features


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    model, saes = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.0", "mlp_out.1"])
    graph = sc.TensorGraph.from_model(model, saes=saes).restrict(["m0.f1", *NAMES])
    return Circuit.from_edges(graph, [f"{name}->logits" for name in ("m0.f1", *NAMES)])


def test_details_are_those_of_the_store(store, circuit) -> None:
    view = circuit.explore(stores=[store], links={"mlp_out.1": "m1/index.html"})
    details = {one.name: one for one in view.details}
    assert set(details) == set(NAMES)
    for name, index in zip(NAMES, (3, 42), strict=True):
        feature, found = store.feature(index), details[name]
        said, text = dict(found.statistics), view.texts
        density = feature.statistics["density"]
        assert float(said["active on"].removesuffix("% of tokens")) == pytest.approx(
            100 * density, rel=5e-3
        )
        assert len(said["active on"].partition("%")[0].replace(".", "").lstrip("0")) <= 3
        assert float(said["largest"]) == pytest.approx(feature.statistics["max_active"], rel=5e-3)
        assert found.label == feature.label
        tokens = [(row["text"], row["share"]) for row in feature.tokens][:8]
        shown = zip(found.fires.ids, found.fires.values, strict=True)
        assert [(text[i], share) for i, share in shown] == tokens
        for example, own in zip(found.examples, feature.top(4), strict=True):
            assert text[example.tokens[example.at]] == own.tokens[own.position - own.first]
            assert example.activations[example.at] == own.activations[own.position - own.first]
            assert example.activations[example.at] == pytest.approx(max(own.activations))
        assert found.link == f"m1/index.html#feature={index}"
    labels = {part.name: part.label for part in view.parts}
    assert labels["m1.f3"] == details["m1.f3"].label
    assert labels["m0.f1"] == ""
    assert circuit.explore(stores=[store], labels={"m1.f3": "mine"}).parts[
        [part.name for part in view.parts].index("m1.f3")
    ].label == "mine"  # fmt: skip


def test_a_link_needs_no_store(circuit) -> None:
    view = circuit.explore(links={"m0": "https://x.org/a.html"})
    (only,) = view.details
    assert (only.name, only.link) == ("m0.f1", "https://x.org/a.html#feature=1")


def test_what_does_not_fit_is_refused(store, circuit) -> None:
    with pytest.raises(OptionError, match="names no place of a dictionary"):
        circuit.explore(links={"layer one": "x.html"})
    with pytest.raises(OptionError):
        circuit.explore(links={"m1": "javascript:alert(1)"})
    with pytest.raises(StoreError):
        drawn(30, 20).explore(stores=[store])


@pytest.mark.browser
def test_the_panel_shows_them(visit, tmp_path, store, circuit) -> None:
    page = visit(written(tmp_path, circuit, stores=[store], links={"m1": "m1/index.html"}))
    page.evaluate("explorer.act.pin('m1.f3')")
    feature = store.feature(3)
    panel = page.locator("aside .details")
    rows = dict(
        zip(panel.locator("dt").all_inner_texts(), panel.locator("dd").all_inner_texts(),
            strict=True)
    )  # fmt: skip
    assert float(rows["largest"]) == pytest.approx(feature.statistics["max_active"], rel=5e-3)
    fires = panel.locator("section").first
    assert fires.locator(".token").first.text_content() == feature.tokens[0]["text"]
    share = float(fires.locator(".amount").first.inner_text().removesuffix("%"))
    assert share == pytest.approx(100 * feature.tokens[0]["share"], rel=5e-3)
    assert panel.locator(".window, .cell").count() > 4
    assert panel.get_by_role("link").get_attribute("href") == "m1/index.html#feature=3"
    assert feature.label in page.locator("aside h2").inner_text()
    panel.locator(".cell.chosen").first.hover()
    said = page.get_by_role("tooltip").inner_text()
    assert "".join(c for c in said if c.isdigit() or c == ".")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page)
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []
