"""`active_features`: which features fire on a task at all."""

from __future__ import annotations

from typing import Any

import torch

from sae_circuits.ablation.batches import default_batch_size
from sae_circuits.cache import check_model, run
from sae_circuits.errors import DictionaryError
from sae_circuits.graph import Node, TensorGraph
from sae_circuits.graph.given import require_graph
from sae_circuits.models.adapter import Adapter
from sae_circuits.models.dictionaries.placed import Placed
from sae_circuits.progress import track
from sae_circuits.sizes import Memory
from sae_circuits.tasks import Task
from sae_circuits.tasks.given import require_task


@torch.no_grad()
def active_features(
    model: Any,
    graph: TensorGraph,
    task: Task,
    *,
    at_least: int = 1,
    batch_size: int | None = None,
    memory: Memory | None = None,
) -> list[Node]:
    """The features of a graph that are active on some of a task's prompts, clean or corrupt.

    All others write nothing in either run, so that their edges' scores are 0.

    Args:
        model: a TransformerLens model of either kind; left as it was found.
        graph: with dictionaries.
        task: the prompts.
        at_least: on how many tokens, of both runs together.
        batch_size: examples at a time.
        memory: to stay under beside the model's weights, as in `attribute`.

    Raises:
        DictionaryError: no feature is active that often, or the graph has none.

    Example:
        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> graph = sc.TensorGraph.from_model(model, saes=sc.load_saes("demo"))
        >>> graph.restrict(sc.active_features(model, graph, task)).n_src < graph.n_src
        True
    """
    require_graph(graph)
    require_task(task)
    if not any(block.kind == "feature" for block in graph.writers):
        raise DictionaryError(
            f"{graph!r} has no features: give dictionaries, by TensorGraph.from_model(model, "
            "saes=[...])"
        )
    adapter = Adapter.of(model)
    task.check_fits(context=adapter.architecture.n_ctx, vocabulary=adapter.architecture.d_vocab)
    check_model(adapter, task.clean)
    saes = Placed.all_of(adapter, graph)
    n_features = sum(len(placed.chosen) for placed in saes)
    size = batch_size or default_batch_size(adapter, task, n_features, memory=memory)
    counts = {
        p.name: torch.zeros(len(p.chosen), dtype=torch.int64)
        for p in saes
        if len(p.chosen) and p.split.kind == "feature"
    }
    batches = -(-len(task) // size)
    for batch in track(task.batches(size), total=batches, description="active features"):
        pos = torch.arange(batch.clean.shape[1])
        real = (pos < batch.lengths.cpu()[:, None])[..., None]
        for tokens in (batch.clean, batch.corrupt):
            writes = run(adapter, tokens, batch.position, saes=saes).writes
            for name, count in counts.items():
                count += ((writes[f"{name}.f"] != 0).cpu() & real).sum((0, 1))
    found = [
        Node("feature", placed.layer, placed.chosen[i], site=placed.part)
        for placed in saes
        if placed.name in counts
        for i in (counts[placed.name] >= at_least).nonzero()[:, 0].tolist()
    ]
    if not found:
        raise DictionaryError(
            f"of {n_features:,} features none is active on {at_least:,} or more tokens of "
            f"{task.name!r}: other prompts, another layer, or a dictionary of another model"
        )
    return found
