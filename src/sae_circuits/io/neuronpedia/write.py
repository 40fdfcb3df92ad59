"""A graph as the viewers' JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from sae_circuits._version import __version__
from sae_circuits.disk.atomic import write_whole
from sae_circuits.errors import GraphError
from sae_circuits.graph import AttributionGraph, Node
from sae_circuits.graph.annotations import Groups, Texts, group_of, text_of
from sae_circuits.io.codec import to_plain

NUMBERS = ("activation", "influence", "weight")
TYPES = {
    "feature": "cross layer transcoder",
    "error": "mlp reconstruction error",
    "input": "embedding",
    "logits": "logit",
}


def to_neuronpedia(
    graph: AttributionGraph,
    path: str | Path,
    *,
    slug: str,
    scan: str | None = None,
    labels: Texts | None = None,
    groups: Groups | None = None,
    n_layers: int | None = None,
) -> Path:
    """Write a graph for the viewers of Neuronpedia and circuit-tracer.

    Args:
        slug: the graph's name there.
        scan: their name of the model, such as "gemma-2-2b"; by default the graph's.
        labels: short texts by node name, with or without a position.
        groups: node names by the name of a supernode; its members are pinned, as only pinned nodes
            are shown grouped.
        n_layers: of the model, which decides the logits' ids; by default as many as the graph's
            nodes need.

    Raises:
        GraphError: a node that those files have no name for, or a number that is not finite.
        OutputError: the place cannot be written.
    """
    ids = _ids(graph, n_layers)
    for name in NUMBERS:
        if not bool(getattr(graph, name).isfinite().all()):
            raise GraphError(f"a graph whose {name} is not finite everywhere cannot be written")
    inside = group_of(graph.nodes, groups or {})
    members = {
        group: [ids[node] for node, its in inside.items() if its == group]
        for group in dict.fromkeys(inside.values())
    }
    document = {
        "metadata": _metadata(graph, slug, scan),
        "qParams": {
            "pinnedIds": [one for group in members.values() for one in group],
            "supernodes": [[group, *its] for group, its in members.items()],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": _nodes(graph, ids, labels or {}),
        "links": [
            {"source": ids[edge.src], "target": ids[edge.dest], "weight": weight}
            for edge, weight in zip(graph.edges, graph.weight.tolist(), strict=True)
        ],
    }
    return write_whole(path, json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n")


def _ids(graph: AttributionGraph, n_layers: int | None) -> dict[Node, str]:
    """What the viewers call each node."""
    layers = 1 + max((node.layer for node in graph.nodes if node.layer is not None), default=0)
    top = (layers if n_layers is None else n_layers) + 1
    return {node: _id(node, graph.tokens, top) for node in graph.nodes}


def _id(node: Node, tokens: Sequence[int], top: int) -> str:
    if node.pos is not None:
        if node.kind == "feature" and node.site == "m":
            return f"{node.layer}_{node.index}_{node.pos}"
        if node.kind == "error" and node.site == "m":
            return f"{node.layer}_-1_{node.pos}"
        if node.kind == "input":
            return f"E_{tokens[node.pos]}_{node.pos}"
        if node.kind == "logits" and node.index is not None:
            return f"{top}_{node.index}_{node.pos}"
    raise GraphError(
        f"{node.name!r} cannot be written for Neuronpedia: its files know tokens, logits, and the "
        "features and errors of MLPs, each at a position"
    )


def _metadata(graph: AttributionGraph, slug: str, scan: str | None) -> dict[str, object]:
    options = graph.provenance.options
    pruning = {"node_threshold": "node_share", "edge_threshold": "edge_share"}
    own = {
        "tokens": list(graph.tokens),
        "dtypes": {
            name: str(getattr(graph, name).dtype).removeprefix("torch.") for name in NUMBERS
        },
        "n_active": graph.n_active,
        "replacement": graph.replacement,
        "completeness": graph.completeness,
        "predicted": list(graph.predicted),
        "provenance": graph.provenance,
    }
    return {
        "slug": slug,
        "scan": scan or graph.provenance.model or "unknown",
        "transcoder_list": [],
        "prompt_tokens": list(graph.text),
        "prompt": graph.prompt,
        "node_threshold": 1.0,  # all nodes are shown at first
        "schema_version": 1,  # `feature` is paired
        "info": {"generator": {"name": "sae-circuits", "version": __version__}},
        "pruning_settings": {a: options[b] for a, b in pruning.items() if b in options},
        "sae_circuits": to_plain(own),
    }


def _nodes(graph: AttributionGraph, ids: Mapping[Node, str], labels: Texts) -> list[object]:
    activations = graph.activation.tolist()
    logits = [(a, n) for a, n in zip(activations, graph.nodes, strict=True) if n.kind == "logits"]
    likeliest = max(logits, key=lambda one: one[0], default=(0.0, None))[1]
    values = zip(
        graph.nodes,
        activations,
        graph.influence.tolist(),
        _cumulative(graph),
        strict=True,
    )
    return [
        {
            "node_id": ids[node],
            "feature": _feature(node),
            "layer": ids[node].split("_")[0],
            "ctx_idx": node.pos,
            "feature_type": TYPES[node.kind],
            "token_prob": activation if node.kind == "logits" else 0.0,
            "is_target_logit": node is likeliest,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": _js_id(node, ids[node]),
            "clerp": _clerp(graph, node, activation, labels),
            "influence": cumulative,
            "activation": activation if node.kind == "feature" else None,
            "own_influence": influence,
        }
        for node, activation, influence, cumulative in values
    ]


def _feature(node: Node) -> int | None:
    """The number of a node: of a feature, its layer and index paired (Cantor)."""
    if node.kind == "feature" and node.layer is not None and node.index is not None:
        both = node.layer + node.index
        return both * (both + 1) // 2 + node.index
    return {"error": -1, "input": node.pos}.get(node.kind, node.index)


def _js_id(node: Node, node_id: str) -> str:
    layer, index, _ = node_id.split("_")
    if node.kind == "feature":
        return f"{layer}_{index}-0"  # one for all positions, as they are hovered together
    return f"{'L' if node.kind == 'logits' else layer}_{index}-{node.pos}"


def _clerp(graph: AttributionGraph, node: Node, activation: float, labels: Texts) -> str:
    """The text beside a node; a logit's form is fixed, as the viewer parses it."""
    if node.kind != "logits":
        return text_of(node, labels)
    said = text_of(node, labels) or graph.token_text(node) or f"token {node.index}"
    return f'Output "{said}" (p={activation:.3f})'


def _cumulative(graph: AttributionGraph) -> list[float | None]:
    """The share of influence that each node and the stronger ones have; logits have none."""
    counted = torch.tensor([node.kind != "logits" for node in graph.nodes], dtype=torch.bool)
    values = graph.influence.double().cpu()[counted]
    order = values.sort(descending=True, stable=True).indices
    shares = torch.empty_like(values)
    shares[order] = (values[order].cumsum(0) / values.sum().clamp(min=1e-30)).clamp(max=1.0)
    given = iter(shares.tolist())
    return [next(given) if one else None for one in counted.tolist()]
