"""Scores as tables: the only module that imports pandas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

    from sae_circuits.graph.scores import NodeScores, Scores


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


def spans_table(parts: Mapping[str, Scores | NodeScores]) -> pandas.DataFrame:
    """The rows of every span's table, with a first column `span`."""
    import pandas

    tables = {span: scores.to_pandas() for span, scores in parts.items()}
    table = pandas.concat(tables, names=["span"])
    return table.reset_index(level="span").reset_index(drop=True)


def nodes_table(scores: NodeScores) -> pandas.DataFrame:
    """Columns `node`, `score`; one row per writer, in the order of their ids."""
    import pandas

    names = pandas.array([node.name for node in scores.graph.src_nodes], dtype="str")
    return pandas.DataFrame({"node": names, "score": scores.values.cpu().numpy()})
