"""Describe every feature of a dictionary on a corpus, label the features, and keep all in a store.

On the bundled model and one of its SAEs:

    python examples/describe_features.py
    python examples/describe_features.py --sae mlp_out.1 --tokens 50000 --show 20 --out mlp/

Prints the features that write most, each with its best label and how well that label does on text
that it was not made from. A label that points at all the right tokens has a precision of 1, and one
that misses none of the feature's firings a recall of 1; few features have such a label.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import sae_circuits as sc

IMPORTANT = """
SELECT feature, type, density, importance, text, precision, recall
FROM features LEFT JOIN (FROM labels WHERE shown) USING (feature)
QUALIFY row_number() OVER (PARTITION BY feature ORDER BY score DESC, strategy) = 1
ORDER BY importance DESC LIMIT ?
"""


def main() -> int:
    options = parse()
    model = sc.load_model("demo")
    (sae,) = sc.load_saes("demo", [options.sae])
    corpus = sc.demo_corpus(options.tokens, seed=options.seed)
    features = sc.FeatureDictionary.build(model, sae, corpus, out=options.out)
    print(features)
    features.label(options.strategies)

    types = features.statistics().type.value_counts()
    print(", ".join(f"{n} {kind}" for kind, n in types.items()))
    head = ("feature", "type", "density", "precision", "recall", "label")
    print(("{:>7}  {:<13}" + "{:>8}{:>11}{:>8}  {}").format(*head))
    for row in features.database.rows(IMPORTANT, [options.show]):
        test = "".join(
            f"{'' if row[name] is None else format(row[name], '.0%'):>{width}}"
            for name, width in (("precision", 11), ("recall", 8))
        )
        said = row["text"] or ""
        print(f"{row['feature']:>7}  {row['type']:<13}{row['density']:>8.2%}{test}  {said}")
    print(
        f"\nThe store: {options.out}. To open it: sc.FeatureDictionary.load({str(options.out)!r})"
    )
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sae", default="resid_post.1", help="a bundled dictionary, by name")
    parser.add_argument("--tokens", type=int, default=10_000, help="how long the corpus is")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus")
    parser.add_argument("--strategies", nargs="+", default=["tokens", "ngrams", "patterns"])
    parser.add_argument("--show", type=int, default=12, help="how many features to print")
    parser.add_argument("--out", type=Path, default=Path("store"), help="where the store goes")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except sc.errors.CircuitsError as error:
        sys.exit(f"describe_features: {error}")
