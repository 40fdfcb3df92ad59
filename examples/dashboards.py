"""Pages that show what features do: some features, one prompt, and all features of a dictionary.

On the bundled model and one of its SAEs, with no network:

    python examples/dashboards.py
    python examples/dashboards.py --sae z.2 --tokens 20000 --features 3 17 42 --out pages/

Prints what was written and how large it is. Open the pages in a browser, from disk.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import sae_circuits as sc

PROMPT = "When Mary and John went to the store, John gave a pen to"


def main() -> int:
    options = parse()
    model = sc.load_model("demo")
    (sae,) = sc.load_saes("demo", [options.sae])
    features = sc.FeatureDictionary.build(model, sae, sc.demo_corpus(options.tokens))
    features.label()
    options.out.mkdir(parents=True, exist_ok=True)

    asked = options.features or features.top("importance", 8).feature.tolist()
    view = sc.FeatureView.build(features, asked)
    said("some features", view.render(options.out / "features.html"), len(view.profiles))

    prompt = sc.PromptView.build(
        features, options.prompt, metric="logit_diff", answer=options.answer, wrong=options.wrong
    )
    said("one prompt", prompt.render(options.out / "prompt.html"), len(prompt.view.profiles))

    index = sc.render_index(features, options.out / "all", block=32)
    n_alive = len(features) - len(features.of_type("dead"))
    said("all that are not dead", index.parent, n_alive)
    return 0


def said(what: str, path: Path, n: int) -> None:
    """Print where a page is, and its size in all and for each of its features."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    size = sum(each.stat().st_size for each in files)
    print(f"{what + ':':<24}{path}, {n} features, {size / 1e3:,.0f} kB, {size / 1e3 / n:.0f} each")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sae", default="mlp_out.1", help="a bundled dictionary, by name")
    parser.add_argument("--tokens", type=int, default=10_000, help="how long the corpus is")
    parser.add_argument("--features", type=int, nargs="*", help="by default the most important")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--answer", default="Mary", help="the token that is right after it")
    parser.add_argument("--wrong", default="John", help="one that is not")
    parser.add_argument("--out", type=Path, default=Path("pages"), help="where the pages go")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except sc.errors.CircuitsError as error:
        sys.exit(f"dashboards: {error}")
