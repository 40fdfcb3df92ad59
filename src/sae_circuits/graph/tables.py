"""Scores as tables: the only module that imports pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_circuits.graph.blocks import Block, Key, node_at

if TYPE_CHECKING:
    import pandas

    from sae_circuits.graph.scores import NodeScores, Scores
    from sae_circuits.graph.span_scores import SpanPairScores
    from sae_circuits.graph.tensor_graph import TensorGraph


def scores_table(scores: Scores) -> pandas.DataFrame:
    """Columns `src`, `dest`, `score`; one row per edge, in the order of the edge ids."""
    return edges_table(scores.graph, torch.arange(scores.graph.n_edges), scores.values)


def edges_table(
    graph: TensorGraph, ids: Int64[Tensor, "edge"], values: Float[Tensor, "edge"]
) -> pandas.DataFrame:
    """The same for some edges of a graph."""
    import pandas

    src, dest = graph.ends(ids.cpu())
    return pandas.DataFrame(
        {
            "src": _names(graph.src_starts, src),
            "dest": _names(graph.dest_starts, dest),
            "score": values.cpu().numpy(),
        }
    )


def spans_table(parts: Mapping[str, Scores | NodeScores]) -> pandas.DataFrame:
    """The rows of every span's table, with a first column `span`."""
    import pandas

    tables = {span: scores.to_pandas() for span, scores in parts.items()}
    table = pandas.concat(tables, names=["span"])
    return table.reset_index(level="span").reset_index(drop=True)


def span_pairs_table(scores: SpanPairScores) -> pandas.DataFrame:
    """Columns `src_span`, `dest_span`, then those of `edges_table`: all scores but zeros."""
    import pandas

    src_span, dest_span, edge = scores.values.nonzero(as_tuple=True)
    table = edges_table(scores.graph, edge, scores.values[src_span, dest_span, edge])
    for i, (name, which) in enumerate((("src_span", src_span), ("dest_span", dest_span))):
        spans = pandas.array([scores.names[k] for k in which.tolist()], dtype="str")
        table.insert(i, name, spans)
    return table


def nodes_table(scores: NodeScores) -> pandas.DataFrame:
    """Columns `node`, `score`; one row per writer, in the order of their ids."""
    import pandas

    names = pandas.array([node.name for node in scores.graph.src_nodes], dtype="str")
    return pandas.DataFrame({"node": names, "score": scores.values.cpu().numpy()})


def _names(starts: Mapping[Key, tuple[int, Block]], which: Int64[Tensor, "edge"]) -> Any:
    """The names of nodes, of which each that occurs is made once."""
    import pandas

    different, places = which.unique(return_inverse=True)
    names = [node_at(starts, i).name for i in different.tolist()]
    return pandas.array(names, dtype="str")[places.numpy()]


def rows_table(rows: Sequence[Mapping[str, object]]) -> pandas.DataFrame:
    """One row for each mapping, its keys as columns."""
    import pandas

    return pandas.DataFrame(list(rows))


def columns_table(columns: Mapping[str, Any]) -> pandas.DataFrame:
    """One column for each array, by its name."""
    import pandas

    return pandas.DataFrame(dict(columns))
