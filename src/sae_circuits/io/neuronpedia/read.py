"""A graph from the viewers' JSON, their own or ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_circuits.errors import CircuitsError, FileFormatError
from sae_circuits.graph import AttributionGraph, Node, Provenance
from sae_circuits.io.codec import from_plain
from sae_circuits.io.files import bytes_of, strict_json
from sae_circuits.io.neuronpedia.write import NUMBERS, TYPES

_KINDS = {**{said: kind for kind, said in TYPES.items()}, "transcoder": "feature"}


def from_neuronpedia(path: str | Path) -> AttributionGraph:
    """Read a graph that circuit-tracer or Neuronpedia has written, or `to_neuronpedia`.

    A file of theirs says less than a graph: each node's influence is then its share of the
    influence of all, the activation of tokens and error nodes is 1, a token without a node has id
    -1, `n_active` counts the nodes in the file, and replacement and completeness are NaN.

    Raises:
        FileFormatError: not such a file, a damaged one, or one with nodes of another type, such as
            attention features.
    """
    path = Path(path)
    document = strict_json(path, bytes_of(path))
    try:
        return _graph(document["metadata"], document["nodes"], document["links"])
    except FileFormatError as error:
        raise FileFormatError(f"{str(path)!r}: {error}") from error
    except (CircuitsError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise FileFormatError(
            f"{str(path)!r} is no graph of Neuronpedia or circuit-tracer: it needs 'metadata', "
            f"'nodes' and 'links' in their form ({type(error).__name__}: {error})"
        ) from error


def _graph(metadata: Any, nodes: Any, links: Any) -> AttributionGraph:
    own = from_plain(metadata.get("sae_circuits", {}))
    text = tuple(str(token) for token in metadata["prompt_tokens"])
    parsed = [_node(one, len(text)) for one in nodes]
    order = sorted(range(len(parsed)), key=lambda i: _along(parsed[i]))
    nodes = [nodes[i] for i in order]
    kept = tuple(parsed[i] for i in order)
    dtypes = {name: getattr(torch, own.get("dtypes", {}).get(name, "float32")) for name in NUMBERS}
    src, dest, weight = _links(links, [one["node_id"] for one in nodes])
    return AttributionGraph(
        tokens=tuple(own["tokens"]) if "tokens" in own else _tokens(nodes, kept, len(text)),
        text=text,
        nodes=kept,
        activation=torch.tensor(
            [_activation(one, node) for one, node in zip(nodes, kept, strict=True)],
            dtype=dtypes["activation"],
        ),
        influence=_influence(nodes, dtypes["influence"]),
        src=torch.tensor(src, dtype=torch.int64),
        dest=torch.tensor(dest, dtype=torch.int64),
        weight=torch.tensor(weight, dtype=dtypes["weight"]),
        n_active=own.get("n_active", len(kept)),
        replacement=own.get("replacement", math.nan),
        completeness=own.get("completeness", math.nan),
        provenance=own.get("provenance")
        or Provenance(method="imported", model=str(metadata["scan"])),
        predicted=own["predicted"] if "predicted" in own else _predicted(nodes, kept),
    )


def _node(one: Mapping[str, Any], n_tokens: int) -> Node:
    name, said, pos = one["node_id"], one["feature_type"], one["ctx_idx"]
    if said not in _KINDS:
        raise FileFormatError(
            f"node {name!r} is of type {said!r}, which is not read: {', '.join(_KINDS)}"
        )
    if type(pos) is not int or not 0 <= pos < n_tokens:
        raise FileFormatError(f"node {name!r} stands at {pos!r}, and there are {n_tokens} tokens")
    kind = _KINDS[said]
    if kind == "input":
        return Node("input", pos=pos)
    if kind == "error":  # their ids have changed over time; layer and position have not
        return Node("error", _natural(name, one["layer"]), site="m", pos=pos)
    index = _natural(name, name.split("_")[1])
    if kind == "logits":
        return Node("logits", index=index, pos=pos)
    return Node("feature", _natural(name, one["layer"]), index, site="m", pos=pos)


def _natural(name: str, said: Any) -> int:
    if not str(said).isdecimal():
        raise FileFormatError(f"node {name!r} has {said!r} where its layer or index should be")
    return int(said)


def _along(node: Node) -> tuple[float, int]:
    """Where a node stands along the forward pass, and then along the prompt."""
    depth = {"input": -1.0, "logits": math.inf}.get(node.kind, node.layer or 0)
    return depth, node.pos or 0


def _tokens(nodes: Sequence[Any], kept: Sequence[Node], n_tokens: int) -> tuple[int, ...]:
    ids = [-1] * n_tokens
    for one, node in zip(nodes, kept, strict=True):
        if node.kind == "input" and node.pos is not None:
            ids[node.pos] = _natural(one["node_id"], one["node_id"].split("_")[1])
    return tuple(ids)


def _activation(one: Mapping[str, Any], node: Node) -> float:
    said = {"feature": one.get("activation"), "logits": one.get("token_prob")}.get(node.kind, 1.0)
    return _finite(f"node {one['node_id']!r}", 0.0 if said is None else said)


def _influence(nodes: Sequence[Mapping[str, Any]], dtype: torch.dtype) -> Tensor:
    """Each node's own influence: what it adds to that of the stronger ones."""
    if nodes and all("own_influence" in one for one in nodes):
        values = [_finite(f"node {one['node_id']!r}", one["own_influence"]) for one in nodes]
        return torch.tensor(values, dtype=dtype)
    shares = [_finite(f"node {one['node_id']!r}", one.get("influence") or 0.0) for one in nodes]
    before, values = 0.0, [0.0] * len(shares)
    for i in sorted(range(len(shares)), key=shares.__getitem__):
        values[i] = max(shares[i] - before, 0.0)
        before = max(shares[i], before)
    return torch.tensor(values, dtype=dtype)


def _links(links: Any, ids: Sequence[str]) -> tuple[list[int], list[int], list[float]]:
    index = {name: i for i, name in enumerate(ids)}
    if len(index) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise FileFormatError(f"node {twice!r} stands there twice")
    src, dest, weight = [], [], []
    for link in links:
        for end in (link["source"], link["target"]):
            if end not in index:
                raise FileFormatError(f"a link names {end!r}, which is no node of the file")
        src.append(index[link["source"]])
        dest.append(index[link["target"]])
        weight.append(_finite(f"the link to {link['target']!r}", link["weight"]))
    return src, dest, weight


def _finite(what: str, said: Any) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
        raise FileFormatError(f"{what} has {said!r} where a number should be")
    return float(said)


def _predicted(nodes: Sequence[Any], kept: Sequence[Node]) -> tuple[str, ...]:
    """The logits' strings, from texts such as `Output " Austin" (p=0.431)`."""
    said = [str(one.get("clerp", "")) for one, n in zip(nodes, kept, strict=True)
            if n.kind == "logits"]  # fmt: skip
    return tuple(text.rpartition('" (p=')[0].partition('"')[2] for text in said)
