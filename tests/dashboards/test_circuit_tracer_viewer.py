"""circuit-tracer's own viewer shows what is exported for it.

The viewer is no part of this project: CIRCUIT_TRACER_VIEWER names a folder that holds it, made by

    pip download --no-deps circuit-tracer==0.5.0 && unzip circuit_tracer-*.whl
    cp -r circuit_tracer/frontend/assets viewer
    npm pack d3@7 d3-jetpack@2.3.0 dagre@0.8.5 pako@2.1.0

with `d3.min.js`, `d3-jetpack.cjs`, `dagre.min.js` and `pako.min.js` of these in its folder `lib`:
the viewer asks the network for them.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import sae_circuits as sc
from sae_circuits.features.captions import captions
from sae_circuits.io import to_neuronpedia

VIEWER = os.environ.get("CIRCUIT_TRACER_VIEWER")
SITE = "http://viewer.test/"
HUB = "https://huggingface.co/somebody/transcoders/resolve/main/"
SCRIPTS = {"d3.js": "d3.min.js", "jetpack_2024-07-20.js": "d3-jetpack.cjs"}
OLDER = b"""
d3.nestBy = (all, by) => [...d3.group(all, by)].map(([key, some]) => Object.assign(some, { key }));
const made = d3.conventions;
d3.conventions = (c) =>
  Object.assign(made(c), { drawAxis: (svg) => d3.drawAxis({ ...c, svg }) });
"""
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
PROMPT = "When Patrick and Steven were working at the lake, Patrick passed a ring to"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(VIEWER is None, reason="CIRCUIT_TRACER_VIEWER names no copy of the viewer"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, sc.FeatureView, sc.Node]:
    """A folder as circuit-tracer serves it: graphs, and files of the features of one layer."""
    folder = tmp_path_factory.mktemp("site")
    model = sc.load_model("demo")
    transcoders = sc.load_saes("demo", kind="transcoder")
    graph = sc.trace(model, PROMPT, transcoders=transcoders, max_nodes=40)
    node = next(one for one in graph.nodes if one.kind == "feature" and one.layer == 1)
    features = sc.FeatureDictionary.build(model, transcoders[1], sc.demo_corpus(2_000))
    features.label()
    view = sc.FeatureView.build(features, [node.index], loss_effects=False)
    view.export(folder / "scan", "circuit-tracer")
    (folder / "graph_data").mkdir()
    (folder / "data").mkdir()
    about = []
    for slug, scan in {"local": "./scan", "hub": "somebody/transcoders"}.items():
        path = folder / "graph_data" / f"{slug}.json"
        labels = captions(graph, [features])["labels"]
        to_neuronpedia(graph, path, slug=slug, scan=scan, labels=labels)
        about.append(json.loads(path.read_text())["metadata"])
    (folder / "data" / "graph-metadata.json").write_text(json.dumps({"graphs": about}))
    return folder, view, node


def found(url: str, folder: Path) -> Path:
    """What stands for an address: a file of the viewer, of the site, or of a hub that has both."""
    viewer = Path(str(VIEWER))
    if url.startswith(HUB):
        return folder / "scan" / url.removeprefix(HUB)
    if url.startswith(SITE):
        own = folder / url.removeprefix(SITE)
        return own if own.exists() else viewer / url.removeprefix(SITE)
    name = url.rpartition("/")[2]
    return viewer / "lib" / SCRIPTS.get(name, name)


def answer(route: Any, folder: Path) -> None:
    """Answer a request from disk, in ranges of bytes where asked; scripts left out are empty."""
    path = found(route.request.url.partition("?")[0], folder)
    content = path.read_bytes() if path.is_file() else b""
    if path.suffix == ".cjs":  # of another d3 than the viewer's: it would take its place
        content = content.replace(b"global.d3 = {}", b"global.d3 = {...global.d3}") + OLDER
    part = re.fullmatch(r"bytes=(\d+)-(\d+)", route.request.headers.get("range", ""))
    if part:
        content = content[int(part[1]) : int(part[2]) + 1]
    route.fulfill(
        status=206 if part else 200 if content or path.suffix == ".js" else 404,
        body=content,
        content_type=KINDS.get(path.suffix, "application/octet-stream"),
        headers={"access-control-allow-origin": "*"},
    )


@pytest.mark.parametrize("slug", ["local", "hub"])
def test_a_features_examples_logits_and_label_are_shown(
    browser: Any, site: tuple[Path, sc.FeatureView, sc.Node], slug: str, tmp_path: Path
) -> None:
    folder, view, node = site
    (profile,) = view.profiles
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route("**/*", lambda route: answer(route, folder))
    page.goto(f"{SITE}index.html?slug={slug}")
    page.wait_for_selector(".link-graph .node")
    name = f"{node.layer}_{node.index}_{node.pos}"
    drawn = page.locator(".link-graph .node")
    ids = drawn.evaluate_all("nodes => nodes.map((one) => d3.select(one).datum().nodeId)")
    box = drawn.nth(ids.index(name)).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".feature-examples .example-quantile")
    page.screenshot(path=os.environ.get("VIEWER_PICTURE", str(tmp_path / "x.png")))
    said = page.locator(".feature-detail")
    assert profile.label
    assert said.locator(".pp-clerp").inner_text() == profile.label
    assert f"L1/{node.index}" in said.locator(".feature-title").inner_text()
    rows = said.locator(".feature-example-logits .ctx-container")
    for row, values in ((rows.nth(0), profile.top), (rows.nth(1), profile.bottom)):
        shown = row.locator(".token").all_inner_texts()
        assert shown == [view.texts[token] for token in values.ids]
    titles = said.locator(".quantile-title").all_inner_texts()
    assert titles[0].strip() == "Top activations"
    assert len(titles) == len(profile.groups)
    examples = said.locator(".feature-example-list .text-wrapper").all_inner_texts()
    windows = [window for group in profile.groups for window in group.windows]
    gap = view.about.gap
    assert examples == [gap.join(view.texts[t] for t in window.tokens) for window in windows]
    assert errors == []
    page.close()
