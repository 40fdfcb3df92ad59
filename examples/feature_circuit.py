"""Find the circuit of one task in features, and test how much of it the features explain.

On the bundled model and its dictionaries, for indirect object identification:

    python examples/feature_circuit.py
    python examples/feature_circuit.py --saes mlp_out.0 mlp_out.1 --task subject_verb --out verbs

Each split has an error node, which stands for all that is not among its features. A circuit in
which it carries the work is one that the features do not explain, however faithful it is: so each
circuit is tested with its error nodes as they are, with all of their edges, and with none.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import sae_circuits as sc

SETS = {
    "the first MLP": ["mlp_out.0"],
    "the first two MLPs": ["mlp_out.0", "mlp_out.1"],
    "z and MLP outputs": [f"{kind}.{layer}" for layer in range(4) for kind in ("z", "mlp_out")],
    "skip transcoders": [f"skip_transcoder.{layer}" for layer in range(4)],
    "the stream": [f"resid_post.{layer}" for layer in range(4)],
}


def main() -> int:
    options = parse()
    if options.out.exists():
        sys.exit(f"feature_circuit: {str(options.out)!r} exists already: name another with --out")
    model = sc.load_model("demo")
    task = sc.tasks.make(options.task, model, n=2 * options.n, seed=options.seed)
    found_on, tested_on = task[: options.n], task[options.n :]
    sets = {" ".join(options.saes): options.saes} if options.saes else SETS

    head = ("circuit", "nodes", "edges", "faithful", "kept", "removed", "through errors")
    print(("{:<34}" + "{:>7}" * 2 + "{:>10}" * 3 + "{:>16}").format(*head))
    graph = sc.TensorGraph.from_model(model)
    components = sc.prune.top_n(sc.attribute(model, graph, found_on, method="eap-ig"), 47)
    report = sc.evaluate(model, components, tested_on)
    print(f"{'heads and MLPs':<34}{len(components.nodes):>7}{47:>7}{report.faithfulness:>10.3f}")

    kept = {}
    for name, ids in sets.items():
        print(name)
        graph = sc.TensorGraph.from_model(model, saes=sc.load_saes("demo", ids))
        nodes = sc.attribute_nodes(model, graph, found_on, method="eap-ig")
        graph = graph.restrict(nodes.features(options.features))
        scores = sc.attribute(model, graph, found_on, method="eap-ig")
        best = [node for node, _ in nodes.top(graph.n_src) if is_in(graph, node)][: options.nodes]
        kept[name] = {
            f"by edge, {options.edges} edges": sc.prune.top_n(scores, options.edges),
            f"by node, {options.nodes} nodes": sc.Circuit.from_nodes(graph, best, scores),
        }
        for how, circuit in kept[name].items():
            line(f"  {how}", sc.evaluate(model, circuit, tested_on))

    circuit = next(iter(next(iter(kept.values())).values()))
    options.out.mkdir(parents=True)
    circuit.save(options.out / "circuit.json")
    page = circuit.render(options.out / "circuit.html", max_edges=60)
    print(f"\nThe first of these circuits: {options.out / 'circuit.json'}, and its picture: {page}")
    return 0


def is_in(graph: sc.TensorGraph, node: str) -> bool:
    """Whether a writer of the whole graph is one of the restricted graph too, but the input."""
    return node != "input" and any(own.name == node for own in graph.src_nodes)


def line(name: str, report: object) -> None:
    """One line of the table."""
    kept, removed = report.faithfulness_errors_kept, report.faithfulness_errors_removed
    print(
        f"{name:<34}{len(report.of.nodes):>7}{report.n_edges:>7}{report.faithfulness:>10.3f}"
        f"{kept:>10.3f}{removed:>10.3f}{report.error_share:>16.1%}",
        flush=True,
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--saes", nargs="+", help="bundled dictionaries, by name, not the usual")
    parser.add_argument("--task", default="ioi", choices=sc.tasks.names())
    parser.add_argument("--features", type=int, default=200, help="how many to keep as nodes")
    parser.add_argument("--edges", type=int, default=500, help="how many of the edges to keep")
    parser.add_argument("--nodes", type=int, default=50, help="how many nodes to keep")
    parser.add_argument("--n", type=int, default=24, help="pairs to find the circuit on, and test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("features"), help="where files go")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except sc.errors.CircuitsError as error:
        sys.exit(f"feature_circuit: {error}")
