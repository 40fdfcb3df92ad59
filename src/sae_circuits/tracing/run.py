"""`trace`: the attribution graph of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.cache import check_model
from sae_circuits.graph import AttributionGraph, Provenance
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries import Dictionary
from sae_circuits.precision import wide
from sae_circuits.provenance import provenance_of
from sae_circuits.shards import Means, Workers
from sae_circuits.sizes import Memory, in_bytes
from sae_circuits.tracing.freeze import make_local
from sae_circuits.tracing.influence import graph_scores, most_influential, node_influence
from sae_circuits.tracing.nodes import Nodes, number_nodes
from sae_circuits.tracing.options import require_options
from sae_circuits.tracing.prompt import read_prompt, strings
from sae_circuits.tracing.prune import Edges, strongest_edges, without_dead_ends
from sae_circuits.tracing.store import Rows
from sae_circuits.tracing.transcoders import by_layer


@torch.no_grad()
def trace(
    model: Any,
    prompt: str | Tensor,
    *,
    transcoders: Sequence[Dictionary],
    n_logits: int = 10,
    logit_share: float = 0.95,
    node_share: float = 0.8,
    edge_share: float = 0.98,
    max_nodes: int | None = None,
    first_position: int = 0,
    prepend_bos: bool = True,
    memory: Memory = "512MiB",
    workers: Workers | None = None,
    folder: str | Path | None = None,
) -> AttributionGraph:
    """Trace what a model says on a prompt back to its tokens, through features.

        A[t, s] = activation of s * (decoder of s, carried linearly to t's input) . (encoder of t)

    Transcoders stand in for the MLPs; attention patterns, the scales of all norms and what the
    transcoders leave over are held as they are on this prompt. A[t, s] is then the exact change of
    t's pre-activation when s is removed and no other feature reacts. Biases belong to nobody: with
    them, a row sums to the pre-activation. A logit is taken before its soft cap, if the model has
    one, and minus the mean over the vocabulary.

    Influence and pruning are the published ones: with A row-normalised by absolute value and p the
    logits' probabilities, `p^T (A + A^2 + ...)`. Tokens and logits are always kept.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        prompt: a text, or token ids [pos].
        transcoders: at most one for each layer, or those of a cross-layer transcoder. Of a layer
            with none, the whole output is an error node.
        n_logits: how many logits to explain at most.
        logit_share: the most probable ones until they hold this share of probability.
        node_share: keep the fewest nodes that hold this share of influence. 1 keeps all.
        edge_share: and of their edges the fewest that hold this share. Where both are 1, so
            are nodes without edges.
        max_nodes: keep no more features and errors than these.
        first_position: features and errors of earlier positions are constants that belong to
            nobody; 1 leaves out those of a beginning-of-sequence token, on which many models put
            outsized values whatever the prompt.
        prepend_bos: whether a text begins with the tokenizer's beginning-of-sequence token, if it
            has one.
        memory: for rows of the matrix, such as "2GiB" or a number of bytes; the run of the model
            itself is not counted. The result does not depend on it, but for rounding.
        workers: what computes the rows beside this process (see `workers`), each within `memory`.
        folder: keep rows there as they are computed, and go on from those that are there. They are
            of the whole graph, so that other shares take the same folder.

    Raises:
        TaskError: a prompt without tokens, or with ids that the model does not have.
        ContextError: a prompt longer than the model's context.
        DictionaryError: what is no transcoder, is of another model, or two of one layer.
        OptionError: a share, count or size that makes no sense.
        UnsupportedModel: a model that the graph cannot describe, or whose attention patterns are
            not to be seen.
        NumericalError: NaN or infinity.
        OutputError: a folder of another prompt, model or budget, or that cannot be written.
        ShardError: some rows failed, on workers or with a folder.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> transcoders = sc.load_saes("demo", kind="transcoder")
        >>> prompt = "Afterwards, Michael and Rebecca went to the beach, and Michael gave a map to"
        >>> graph = sc.trace(model, prompt, transcoders=transcoders)
        >>> graph.nodes[0].name, graph.nodes[-1].pos == len(graph.tokens) - 1
        ('input@0', True)

    Reference: Ameisen et al. 2025, transformer-circuits.pub/2025/attribution-graphs/methods.html.
    """
    chosen: dict[str, Any] = {
        "n_logits": n_logits,
        "logit_share": logit_share,
        "node_share": node_share,
        "edge_share": edge_share,
        "max_nodes": max_nodes,
        "first_position": first_position,
    }
    require_options(**chosen)
    adapter = Adapter.of(model)
    budget = in_bytes(memory, adapter.device)
    arch = adapter.architecture
    tokens = read_prompt(model, arch, prompt, prepend_bos=prepend_bos).to(adapter.device)
    by = by_layer(transcoders, arch, adapter.device)
    check_model(adapter, tokens[None])
    local = make_local(adapter, tokens, by, first_position)
    vocabulary, probability = likely(local.logits, n_logits, logit_share)
    nodes = number_nodes(local, tokens, vocabulary, probability, first_position)
    rows = Rows(local, nodes, None, budget, Means(workers, folder))
    influence, kept, edges = _pruned(rows, node_share, edge_share, max_nodes)
    provenance = provenance_of(
        adapter,
        None,
        method="attribution graph",
        metric="logits",
        intervention="none",
        options={"transcoders": [d.name for d in by.values()], **chosen},
    )
    text, predicted = strings(model, tokens), strings(model, vocabulary)
    return _graph(nodes, influence, kept, edges, tokens, text, predicted, provenance)


def _pruned(
    rows: Rows, node_share: float, edge_share: float, max_nodes: int | None
) -> tuple[Float[Tensor, "node"], Int64[Tensor, "some"], Edges]:
    """The influence of all nodes, those that are kept, and the edges between these."""
    nodes = rows.nodes
    influence = node_influence(nodes, rows())
    kept = most_influential(nodes, influence, node_share, max_nodes)
    rows = rows.among(kept)  # the others are let go
    edges = strongest_edges(nodes, rows, edge_share)
    if node_share < 1 or edge_share < 1:
        kept, edges = without_dead_ends(nodes, kept, edges)
    return influence, kept, edges


def _graph(
    nodes: Nodes,
    influence: Float[Tensor, "node"],
    kept: Int64[Tensor, "some"],
    edges: Edges,
    tokens: Int64[Tensor, "pos"],
    text: tuple[str, ...],
    predicted: tuple[str, ...],
    provenance: Provenance,
) -> AttributionGraph:
    """What is kept, as a value."""
    place = torch.zeros_like(nodes.kind)
    place[kept] = torch.arange(len(kept), device=kept.device)
    replacement, completeness = graph_scores(nodes, influence)
    return AttributionGraph(
        tokens=tuple(tokens.tolist()),
        text=text,
        nodes=nodes.named(kept),
        activation=nodes.activation[kept].cpu(),
        influence=influence[kept].cpu(),
        src=place[edges.src].cpu(),
        dest=place[edges.dest].cpu(),
        weight=edges.weight.cpu(),
        n_active=len(nodes),
        replacement=replacement,
        completeness=completeness,
        provenance=provenance,
        predicted=predicted,
    )


def likely(
    logits: Float[Tensor, "vocab"], most: int, share: float
) -> tuple[Int64[Tensor, "logit"], Float[Tensor, "logit"]]:
    """The most probable tokens until they hold a share of probability, and their probabilities."""
    p, vocabulary = wide(logits).softmax(0).topk(min(most, len(logits)))
    n = int((p.cumsum(0) < share).sum()) + 1
    return vocabulary[:n], p[:n]
