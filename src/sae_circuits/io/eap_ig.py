"""Graph files of EAP-IG, which are also the circuit files of the MIB benchmark.

    {"cfg": {"n_layers", "n_heads", "parallel_attn_mlp", "d_model"},
     "nodes": {"a0.h0": {"in_graph": true}, ...},
     "edges": {"input->a0.h0<q>": {"score": 0.1, "in_graph": true}, ...}}

The node names are ours. The sign is not: there a score is the change of a loss, so that an edge
that helps has a positive score (and MIB ranks by it); here it is the change of the metric, so that
it has a negative one. Scores are negated on the way in and on the way out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import FileFormatError, GraphError
from sae_circuits.graph import Architecture, Circuit, Provenance, Scores, TensorGraph
from sae_circuits.io.files import bytes_of, strict_json


def import_eap_ig(path: str | Path, graph: TensorGraph | None = None) -> Circuit:
    """Read a JSON file of EAP-IG's `Graph.to_json` or of MIB: a circuit that carries its scores.

    An edge is in where it and both its ends are in the graph; an edge that the file does not list
    is out and has score 0.

    Args:
        graph: the model's; without it, one is made from the file's own configuration. Where query
            heads share keys and values, give `TensorGraph.from_model(model, split_kv=True)`, as
            these files name each query head's own.

    Raises:
        FileFormatError: not such a file, a pickle (`.pt`), a circuit of neurons, or a score that
            is not finite.
        GraphError: a file of another model's graph.
    """
    path = Path(path)
    document = strict_json(path, bytes_of(path))
    try:
        config, nodes, edges = document["cfg"], document["nodes"], document["edges"]
        own = TensorGraph.from_model(_architecture(path, config))
        scores, present = _read_edges(path, graph or own, nodes, edges)
    except (KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{str(path)!r} is no graph of EAP-IG or MIB: it needs 'cfg', 'nodes' and 'edges' "
            f"({type(error).__name__}: {error})"
        ) from error
    made = Provenance(method="imported", model=(graph or own).architecture.model)
    return Circuit(graph or own, present, Scores(graph or own, scores, made))


def export_eap_ig(circuit: Circuit, path: str | Path) -> Path:
    """Write a circuit as EAP-IG's `Graph.from_json` and MIB's evaluation read it.

    Raises:
        GraphError: the graph has shared key/value heads or lacks some of the model's nodes.
        OutputError: the place cannot be written.
    """
    graph, arch = circuit.graph, circuit.graph.architecture
    if not graph.same_as(TensorGraph.from_model(arch, split_kv=True)) or not arch.has_mlps:
        raise GraphError(
            f"{graph!r} cannot be written for EAP-IG, whose graphs have all heads, each with its "
            "own k and v, and all MLPs: build it with TensorGraph.from_model(model, split_kv=True)"
        )
    values = torch.zeros(graph.n_edges) if circuit.scores is None else -circuit.scores.values.cpu()
    members = {node.name for node in circuit.nodes}
    document = {
        "cfg": {
            "n_layers": arch.n_layers,
            "n_heads": arch.n_heads,
            "parallel_attn_mlp": arch.parallel,
            "d_model": arch.d_model,
        },
        "nodes": {node.name: {"in_graph": node.name in members} for node in graph.nodes},
        "edges": {
            edge.name: {"score": score, "in_graph": present}
            for edge, score, present in zip(
                graph.edges, values.tolist(), circuit.mask.tolist(), strict=True
            )
        },
    }
    return write_whole(path, json.dumps(document, allow_nan=False))


def _architecture(path: Path, config: Mapping[str, Any]) -> Architecture:
    """What the file says of its model; it does not say the sizes of vocabulary and context."""
    n_layers, n_heads, d_model = (config[name] for name in ("n_layers", "n_heads", "d_model"))
    if not all(isinstance(size, int) and size > 0 for size in (n_layers, n_heads, d_model)):
        raise FileFormatError(f"{str(path)!r} gives its model impossible sizes: {dict(config)}")
    return Architecture(
        model=str(config.get("model_name", "imported")),
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_model=d_model,
        d_head=d_model // n_heads,
        d_vocab=0,
        n_ctx=0,
        parallel=bool(config["parallel_attn_mlp"]),
    )


def _read_edges(
    path: Path, graph: TensorGraph, nodes: Mapping[str, Any], edges: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scores and the mask, by edge id."""
    out = {name for name, node in nodes.items() if not _present(path, name, node)}
    scores = torch.zeros(graph.n_edges)
    present = torch.zeros(graph.n_edges, dtype=torch.bool)
    for name, edge in edges.items():
        try:
            i = graph.edge_id(name)
        except GraphError as error:
            raise GraphError(f"{str(path)!r} does not fit {graph!r}: {error}") from error
        score = float(edge["score"])
        if not math.isfinite(score):
            raise FileFormatError(f"{str(path)!r}: the score of {name!r} is {score}")
        scores[i] = 0.0 - score  # no negative zero
        src, dest = name.split("->")
        present[i] = bool(edge["in_graph"]) and src not in out and dest.split("<")[0] not in out
    return scores, present


def _present(path: Path, name: str, node: Any) -> bool:
    """Whether a node is in; older files say so with a bare boolean."""
    if isinstance(node, bool):
        return node
    if not all(node.get("neurons", ())):
        raise FileFormatError(
            f"{str(path)!r} leaves out neurons of {name!r}: circuits of neurons cannot be imported"
        )
    return name == "logits" or bool(node["in_graph"])
