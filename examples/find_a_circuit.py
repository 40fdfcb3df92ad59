"""Find, test, draw and save the circuit of one task, step by step.

With no arguments it looks for how the bundled model does indirect object identification:

    python examples/find_a_circuit.py
    python examples/find_a_circuit.py --task subject_verb --share 0.05 --out agreement

It ends in a minute on a laptop's CPU, and prints where the pictures and the report are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import sae_circuits as sc

METRICS = ("logit_diff", "prob_diff", "cross_entropy")  # at the clean run, kl has no gradient


def main() -> int:
    options = parse()
    if options.out.exists():
        sys.exit(f"find_a_circuit: {str(options.out)!r} exists already: name another with --out")
    options.out.mkdir(parents=True)
    metric = sc.metrics.get(options.metric)

    model = sc.load_model(options.model)
    graph = sc.TensorGraph.from_model(model)
    task = sc.tasks.make(options.task, model, n=2 * options.n, seed=options.seed)
    found_on, tested_on = task[: options.n], task[options.n :]
    print(f"{graph}\n{found_on}\n")

    print("Score every edge: how much does the metric change when it alone is corrupted?")
    methods = {
        "eap": "one gradient, at the clean run",
        "eap-ig": "the mean of five gradients between corrupt and clean",
        "exact": "no estimate: every edge is patched in the running model",
    }
    scores = {}
    for method, how in methods.items():
        scores[method] = sc.attribute(model, graph, found_on, metric=metric, method=method)
        edge, value = scores[method].top(1)[0]
        print(f"  {method:7} {how}; largest: {edge} ({value:+.2f})")
    for method in ("eap", "eap-ig"):
        figure = sc.viz.scatter(scores[method], scores["exact"])
        figure.savefig(options.out / f"exact_and_{method}.png", dpi=160)

    n_edges = int(options.share * graph.n_edges)
    circuit = sc.prune.top_n(scores["eap-ig"], n_edges)
    print(f"\nKeep the {n_edges} edges of largest score ({100 * circuit.fraction:.1f}%), and test")
    print("them on prompts that were not used to find them, every other edge corrupted:")
    report = sc.evaluate(model, circuit, tested_on, metric=metric)
    low, high = report.interval("faithfulness")
    print(f"  {options.metric}: {report.clean:.2f} whole model, {report.corrupt:.2f} no circuit")
    print(f"  the circuit: {report.circuit:.2f}, which is {report.faithfulness:.2f} of the gap")
    print(f"  (95% interval {low:.2f} to {high:.2f}); the complement: {report.completeness:.2f}")

    curve = sc.curve(model, scores["eap-ig"], tested_on, metric=metric, n_random=3)
    print(f"  area between the curve and 1: {curve.cmd:.3f}, of random ones {curve.random_cmd:.3f}")

    folder = report.with_curve(curve).save(options.out / "report")
    again = sc.load(folder / "circuit.json")
    assert again == circuit, "what is loaded is what was saved"
    print(f"\nPictures: {folder / 'circuit.html'}, {folder / 'curve.svg'},")
    print(f"          {options.out / 'exact_and_eap.png'}, {options.out / 'exact_and_eap-ig.png'}")
    print(f"Report:   {folder / 'report.html'}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo", help="'demo', a directory, or a model's name")
    parser.add_argument("--task", default="ioi", choices=sc.tasks.names())
    parser.add_argument("--metric", default="logit_diff", choices=METRICS)
    parser.add_argument("--share", type=float, default=0.1, help="of the edges to keep, 0 to 1")
    parser.add_argument("--n", type=int, default=32, help="pairs to find the circuit on, and test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("circuit"), help="where pictures go")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except sc.errors.CircuitsError as error:
        sys.exit(f"find_a_circuit: {error}")
