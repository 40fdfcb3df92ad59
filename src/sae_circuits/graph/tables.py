"""Scores as tables: the only module that imports pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

    from sae_circuits.graph.scores import Scores


def scores_table(scores: Scores) -> pandas.DataFrame:
    """Columns `src`, `dest`, `score`; one row per edge, in the order of the edge ids."""
    import pandas
    import torch

    graph = scores.graph
    src, dest = graph.ends(torch.arange(graph.n_edges))
    src_names = pandas.array([node.name for node in graph.src_nodes], dtype="str")
    dest_names = pandas.array([node.name for node in graph.dest_nodes], dtype="str")
    return pandas.DataFrame(
        {
            "src": src_names[src.numpy()],
            "dest": dest_names[dest.numpy()],
            "score": scores.values.cpu().numpy(),
        }
    )
