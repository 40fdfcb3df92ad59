"""Pictures of the bundled model's dashboards, for the README and the docs.

    python docs/images/screenshots.py

Writes dashboard.png, prompt.png, connectome.png and explorer.png beside itself. It needs Playwright
(`pip install playwright`) and a Chromium: `--chromium` says where it is.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

import sae_circuits as sc

HERE = Path(__file__).parent
PROMPT = "When Mary and John went to the store, John gave a pen to"


def main() -> int:
    """Make all."""
    options = parse()
    model = sc.load_model("demo")
    (sae,) = sc.load_saes("demo", ["mlp_out.1"])
    features = sc.FeatureDictionary.build(model, sae, sc.demo_corpus(20_000))
    features.label()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=options.chromium, args=["--no-sandbox"]
        )
        size = {"width": options.width, "height": options.height}
        window = browser.new_context(viewport=size, offline=True, color_scheme="light")
        picture_of_a_feature(features, Path(folder), window.new_page())
        picture_of_a_prompt(features, Path(folder), window.new_page())
        picture_of_a_connectome(model, Path(folder), window.new_page())
        picture_of_a_circuit(model, Path(folder), window.new_page())
        browser.close()
    return 0


def picture_of_a_feature(features: sc.FeatureDictionary, folder: Path, page: Page) -> None:
    """A feature's page, with a token pointed at that follows the feature's activation."""
    view = sc.FeatureView.build(features, [feature_of_names(features)])
    page.goto(view.render(folder / "feature.html").as_uri())
    page.wait_for_selector(".window .chosen")
    page.locator(".window .chosen ~ .cell").first.hover()
    page.wait_for_timeout(300)
    page.screenshot(path=HERE / "dashboard.png")


def feature_of_names(features: sc.FeatureDictionary) -> int:
    """The feature that fires on names more than any other."""
    from sae_circuits.tasks.words import NAMES

    return int(features.search(token=NAMES, n=1).feature[0])


def picture_of_a_prompt(features: sc.FeatureDictionary, folder: Path, page: Page) -> None:
    """A prompt's page: what the last token's features do to the metric."""
    view = sc.PromptView.build(features, PROMPT, metric="logit_diff", answer="Mary", wrong="John")
    path = view.render(folder / "prompt.html")
    page.goto(f"{path.as_uri()}#position={len(view.tokens) - 1}&score=attribution")
    page.wait_for_selector("main h1[tabindex]")
    page.wait_for_timeout(300)
    page.screenshot(path=HERE / "prompt.png")


def picture_of_a_connectome(model: Any, folder: Path, page: Page) -> None:
    """A feature of the stream after layer 1, with what drives it and what it drives."""
    sites = ["mlp_out.0", "mlp_out.1", "resid_post.1", "mlp_out.2"]
    saes, places = sc.load_saes("demo", sites), ["m0", "m1", "post1", "m2"]
    stores = {}
    for place, sae in zip(places, saes, strict=True):
        stores[place] = sc.FeatureDictionary.build(model, sae, sc.demo_corpus(20_000))
        stores[place].label()
    target = f"post1.f{feature_of_names(stores['post1'])}"
    task = sc.tasks.ioi(model, n=32, seed=0)
    graph = sc.TensorGraph.from_model(model, saes=saes[3:])
    later = [node.name for node in sc.active_features(model, graph, task, at_least=30)]
    found = [sc.connections(model, name, saes, task) for name in [target, *later]]
    found.append(sc.connections(model, target, saes, task, method="direct"))
    view = sc.ConnectomeView.build(found, targets=[target], stores=stores)
    page.goto(view.render(folder / "connectome.html").as_uri())
    page.wait_for_selector("main h1[tabindex]")
    page.screenshot(path=HERE / "connectome.png")


def picture_of_a_circuit(model: Any, folder: Path, page: Page) -> None:
    """A circuit with its curve, and a head that is kept."""
    task = sc.tasks.ioi(model, n=32, seed=0)
    scores = sc.attribute(model, sc.TensorGraph.from_model(model), task, method="eap-ig")
    circuit, curve = sc.prune.top_n(scores, 47), sc.curve(model, scores, task)
    circuit.explore(folder / "explorer.html", curve=curve, title="Who is given the pen")
    page.goto((folder / "explorer.html").as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    page.evaluate("explorer.act.pin('a3.h1')")
    page.wait_for_timeout(300)
    page.screenshot(path=HERE / "explorer.png")


def parse() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the program")
    parser.add_argument("--width", type=int, default=1280, help="of the window")
    parser.add_argument("--height", type=int, default=860, help="of the window")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
