"""What is drawn of a circuit, and what of an attribution graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from sae_circuits.graph import AttributionGraph, Circuit, Edges, Node, TensorGraph
from sae_circuits.graph.annotations import Groups, Texts
from sae_circuits.viz.describe import Look, describe, titled
from sae_circuits.viz.picture import Picture


def picture(
    circuit: Circuit,
    *,
    title: str | None = None,
    max_edges: int = 500,
    labels: Texts | None = None,
    notes: Texts | None = None,
    groups: Groups | None = None,
) -> Picture:
    """Describe how to draw a circuit: layers upwards, width by size and colour by sign of score.

    Args:
        title: replaces the line that names model, task, method and number of edges.
        max_edges: where the circuit has more, only those with the largest scores are drawn (the
            first ones where there are no scores), and the title says so.
        labels: a short text under a node, by the node's name.
        notes: a longer text that shows on hover, such as a feature's top tokens.
        groups: node names by the name of the one node that is drawn in their place; its edges
            carry the sums of their scores.

    Raises:
        GraphError: a group of what are no nodes' names, or a node in two groups.
    """
    ids = circuit.mask.nonzero()[:, 0].cpu() if groups else strongest(circuit, max_edges)
    scores: Sequence[float | None] = (
        [None] * len(ids) if circuit.scores is None else circuit.scores.values.cpu()[ids].tolist()
    )
    look = replace(
        look_of(circuit.graph),
        labels=labels or {},
        notes=notes or {},
        groups=groups or {},
        max_edges=max_edges,
    )
    drawn = describe(Edges(circuit.graph, ids), scores, look)
    n_drawn = len(circuit) if groups and len(drawn.edges) < max_edges else len(drawn.edges)
    return titled(
        drawn,
        _title(circuit, n_drawn) if title is None else title,
        circuit.scores.provenance.metric if circuit.scores else "",
    )


def look_of(graph: TensorGraph) -> Look:
    """How the parts of a model's graph stand to each other."""
    arch = graph.architecture
    shared = any(node.kind == "kv" for node in graph.dest_nodes)
    share = arch.n_heads // arch.n_kv_heads if shared else 1
    return Look(parallel=arch.parallel, share=share)


def graph_picture(
    graph: AttributionGraph,
    *,
    title: str | None = None,
    max_edges: int = 2000,
    labels: Texts | None = None,
    notes: Texts | None = None,
    groups: Groups | None = None,
) -> Picture:
    """Describe how to draw an attribution graph: tokens to the right, layers upwards.

    Args: as of `picture`; features are tinted by their influence on the logits.

    Raises:
        GraphError: a group of what are no nodes' names, or a node in two groups.
    """
    own = look_of_graph(graph, labels or {}, notes or {})
    look = replace(own, groups=groups or {}, max_edges=max_edges)
    drawn = describe(graph.edges, graph.weight.tolist(), look, graph.nodes)
    if title is None:
        title = _graph_title(graph, len(drawn.edges), max_edges)
    return titled(drawn, title, measure="weight")


def look_of_graph(graph: AttributionGraph, labels: Texts, notes: Texts) -> Look:
    """How the nodes of an attribution graph are shown: by token, tinted by their influence."""
    influence = dict(zip(graph.nodes, graph.influence.tolist(), strict=True))
    largest = max((influence[n] for n in graph.nodes if n.kind == "feature"), default=0.0) or 1.0
    activation = dict(zip(graph.nodes, graph.activation.tolist(), strict=True))
    shown = {node.name: f"{activation[node]:.1%}" for node in graph.nodes if node.kind == "logits"}
    return Look(
        labels={**shown, **labels},
        notes=_notes(graph, notes),
        signs=("inhibits", "excites"),
        short={node: _short(graph, node) for node in graph.nodes},
        strength={n: max(influence[n], 0.0) / largest for n in graph.nodes if n.kind == "feature"},
        columns=tuple((i, visible(text)) for i, text in enumerate(graph.text)),
    )


def visible(token: str) -> str:
    r"""A token as it is shown: without the space before it, and with signs for line ends.

    >>> visible(" and"), visible("\n"), visible(" ")
    ('and', '⏎', '␣')
    """
    text = token.replace("\n", "⏎").replace("\t", "⇥")
    return text.strip() or "␣" * len(text)


def _short(graph: AttributionGraph, node: Node) -> str:
    """What row and column do not say of a node; a site is said where it is not the MLP."""
    if node.kind in ("input", "logits"):
        return visible(graph.token_text(node)) or node.name.partition("@")[0]
    site = "" if node.site in ("m", None) else f"{node.site} "
    return {"feature": f"{site}f{node.index}", "error": f"{site}error"}.get(
        node.kind, node.name.partition("@")[0]
    )


def _notes(graph: AttributionGraph, notes: Texts) -> dict[str, str]:
    """What is known of each node, before what the caller adds."""
    said = {}
    for node, activation, influence in zip(
        graph.nodes, graph.activation.tolist(), graph.influence.tolist(), strict=True
    ):
        facts = [f"at {graph.text[node.pos]!r}" if node.pos is not None else ""]
        if node.kind in ("input", "logits"):
            facts = [f"token {graph.token_text(node)!r}"]
        if node.kind in ("feature", "logits"):
            what = "activation" if node.kind == "feature" else "probability"
            facts.append(f"{what} {activation:.4g}")
        facts.append(f"influence {influence:.4g}")
        own = notes.get(node.name) or notes.get(node.name.partition("@")[0], "")
        said[node.name] = "\n".join([", ".join(fact for fact in facts if fact), own]).strip()
    return {**notes, **said}


def strongest(circuit: Circuit, max_edges: int) -> torch.Tensor:
    """The ids of the edges to draw, in ascending order."""
    ids = circuit.mask.nonzero()[:, 0].cpu()
    if len(ids) <= max_edges:
        return ids
    if circuit.scores is not None:
        sizes = circuit.scores.values.cpu()[ids].abs()
        ids = ids[sizes.sort(descending=True, stable=True).indices]
    return ids[:max_edges].sort().values


def _title(circuit: Circuit, n_drawn: int) -> str:
    made = circuit.scores.provenance if circuit.scores else None
    model = circuit.graph.architecture.model
    parts = [model, *((made.task, made.method) if made else ())]
    drawn = "" if n_drawn == len(circuit) else f", the {n_drawn:,} strongest drawn"
    parts.append(f"{len(circuit):,} of {circuit.graph.n_edges:,} edges{drawn}")
    return " · ".join(part for part in parts if part)


def _graph_title(graph: AttributionGraph, n_drawn: int, max_edges: int) -> str:
    said = graph.prompt.strip()
    drawn = "" if n_drawn < max_edges else f", the {n_drawn:,} strongest drawn"
    parts = [
        graph.provenance.model,
        f"“{said if len(said) <= 90 else '… ' + said[-88:]}”",
        f"{len(graph.nodes):,} of {graph.n_active:,} nodes, {len(graph.weight):,} edges{drawn}",
    ]
    return " · ".join(part for part in parts if part)
