"""Values as plain JSON and back: frozen dataclasses by their fields, tensors by their numbers.

A dataclass becomes an object with its fields and a tag `$kind`; a tensor and a number that JSON
lacks (NaN, infinity) become tagged objects too, so that what is written is strict JSON. Only the
kinds listed here are ever made, and nothing is unpickled.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sae_circuits.errors import FileFormatError
from sae_circuits.graph import (
    Architecture,
    AttributionGraph,
    Block,
    Circuit,
    Clusters,
    PairScores,
    Provenance,
    SampledScores,
    Scores,
    SourceRecord,
    SpanCircuit,
    SpanScores,
    TensorGraph,
    VirtualWeights,
    parse_edge,
    parse_node,
)

Plain = Any  # what JSON can say
MANY = 10_000  # values, above which a tensor is written as bytes


@cache
def kinds() -> Mapping[str, type]:
    """The dataclasses that files hold, by the name that stands in the files."""
    from sae_circuits.ablation import NodeValues
    from sae_circuits.evaluation import Benchmark, Cell, Curve, Minimality, Report
    from sae_circuits.evaluation.steered import Steered

    return {
        "architecture": Architecture,
        "block": Block,
        "dictionary": SourceRecord,
        "graph": TensorGraph,
        "provenance": Provenance,
        "scores": Scores,
        "sampled_scores": SampledScores,
        "pair_scores": PairScores,
        "virtual_weights": VirtualWeights,
        "node_values": NodeValues,
        "circuit": Circuit,
        "clusters": Clusters,
        "span_circuit": SpanCircuit,
        "attribution_graph": AttributionGraph,
        "curve": Curve,
        "minimality": Minimality,
        "report": Report,
        "cell": Cell,
        "benchmark": Benchmark,
        "steered": Steered,
    }


def kind_of(value: object) -> str | None:
    """The name of a value's kind in files, or None where files hold no such values."""
    return next((name for name, made in kinds().items() if type(value) is made), None)


def to_plain(value: object) -> Plain:
    """Turn a value into what JSON can say.

    Raises:
        FileFormatError: a part of the value is of a type that files do not hold.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, Tensor):
        return _plain_tensor(value)
    if isinstance(value, range):
        step = [value.step] if value.step != 1 else []
        return {"$range": [value.start, value.stop, *step]}
    if isinstance(value, Mapping):
        return {_kept(str(key)): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if (kind := kind_of(value)) is not None:
        special = _WRITERS.get(kind)
        content = special(value) if special else _fields_of(value)
        return {"$kind": kind, **{name: to_plain(item) for name, item in content.items()}}
    raise FileFormatError(
        f"cannot write {value!r}: files hold text, numbers, tensors and the library's own values, "
        f"not a {type(value).__name__}"
    )


def from_plain(plain: Plain) -> Any:
    """Make the value again: the inverse of `to_plain`, but that lists become tuples.

    Raises:
        FileFormatError: a tag or a field that this version does not know.
    """
    if isinstance(plain, list):
        return tuple(from_plain(item) for item in plain)
    if not isinstance(plain, dict):
        return plain
    if "$float" in plain:
        return float(str(plain["$float"]))
    if "$range" in plain:
        return range(*plain["$range"])
    if "$tensor" in plain:
        return _tensor(plain)
    content = {name: from_plain(item) for name, item in plain.items() if name != "$kind"}
    if "$kind" not in plain:
        return {_own(name): item for name, item in content.items()}
    kind = str(plain["$kind"])
    if kind not in kinds():
        raise FileFormatError(f"unknown kind of value {kind!r}")
    make: Callable[..., Any] = _READERS.get(kind, kinds()[kind])
    return make(**content)


def _kept(key: str) -> str:
    """A key of somebody else's that no tag is taken for."""
    return f"${key}" if key.startswith("$") else key


def _own(key: str) -> str:
    """What a kept key was."""
    return key.removeprefix("$")


def _fields_of(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in fields(value) if field.init}


def _plain_tensor(tensor: Tensor) -> Plain:
    """The numbers in row-major order, of large tensors as compressed bytes.

    Python's floats hold every dtype's exactly.
    """
    said = {"$tensor": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    values = tensor.detach().cpu().flatten()
    if len(values) > MANY:
        raw = zlib.compress(values.view(torch.uint8).numpy().tobytes(), 6)
        return {**said, "zlib": base64.b64encode(raw).decode("ascii")}
    return {**said, "values": [to_plain(value) for value in values.tolist()]}


def _tensor(plain: dict[str, Any]) -> Tensor:
    dtype = getattr(torch, str(plain["$tensor"]), None)
    if not isinstance(dtype, torch.dtype):
        raise FileFormatError(f"unknown dtype {plain['$tensor']!r}")
    if "zlib" in plain:
        raw = zlib.decompress(base64.b64decode(plain["zlib"], validate=True))
        return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(plain["shape"])
    values = [from_plain(value) for value in plain["values"]]
    return torch.tensor(values, dtype=dtype).reshape(plain["shape"])


def _graph_content(graph: TensorGraph) -> dict[str, object]:
    """The nodes, and a record of each dictionary: they are given again where they are needed."""
    content = _fields_of(graph)
    del content["saes"], content["made_with"]
    if not graph.neurons:
        del content["neurons"]
    return {**content, "made_with": graph.records} if graph.records else content


def _block_content(block: Block) -> dict[str, object]:
    content = _fields_of(block)
    if block.each is None:
        del content["each"]
    return content


# -- circuits and graphs: edges by name, so that other programs can read them --------------------


def _circuit_content(circuit: Circuit) -> dict[str, object]:
    scores = circuit.scores
    return {
        "graph": circuit.graph,
        "edges": [edge.name for edge in circuit.edges],
        "edge_scores": None if scores is None else scores.values[circuit.mask],
        "scores": None
        if scores is None
        else {"values": scores.values, "provenance": scores.provenance},
    }


def _circuit(
    graph: TensorGraph,
    edges: tuple[str, ...],
    scores: Mapping[str, Any] | None,
    edge_scores: object = None,  # for readers of the file; `scores` holds these and the others
) -> Circuit:
    return Circuit.from_edges(graph, edges, None if scores is None else Scores(graph, **scores))


def _span_circuit_content(circuit: SpanCircuit) -> dict[str, object]:
    scores = circuit.scores
    return {
        "graph": circuit.graph,
        "spans": circuit.spans,
        "edges": {span: [edge.name for edge in part.edges] for span, part in circuit.parts.items()},
        "scores": None
        if scores is None
        else {"values": scores.stacked, "provenance": scores.provenance},
    }


def _span_circuit(
    graph: TensorGraph,
    spans: Any,
    edges: Mapping[str, tuple[str, ...]],
    scores: Mapping[str, Any] | None,
) -> SpanCircuit:
    rows = (
        [None] * len(edges)
        if scores is None
        else [Scores(graph, values, scores["provenance"]) for values in scores["values"]]
    )
    parts = {
        span: Circuit.from_edges(graph, names, own)
        for (span, names), own in zip(edges.items(), rows, strict=True)
    }
    held = {span: own for span, own in zip(edges, rows, strict=True) if own is not None}
    return SpanCircuit(parts, spans, SpanScores(held, spans) if held else None)


def _traced_content(graph: AttributionGraph) -> dict[str, object]:
    content = _fields_of(graph)
    del content["src"], content["dest"]
    return {
        **content,
        "nodes": [node.name for node in graph.nodes],
        "edges": [edge.name for edge in graph.edges],
    }


def _traced(nodes: tuple[str, ...], edges: tuple[str, ...], **rest: Any) -> AttributionGraph:
    parsed = tuple(parse_node(name) for name in nodes)
    index = {node: i for i, node in enumerate(parsed)}
    ends = [parse_edge(name) for name in edges]
    return AttributionGraph(
        nodes=parsed,
        src=torch.tensor([index[edge.src] for edge in ends], dtype=torch.int64),
        dest=torch.tensor([index[edge.dest] for edge in ends], dtype=torch.int64),
        **rest,
    )


_WRITERS: Mapping[str, Callable[[Any], dict[str, object]]] = {
    "graph": _graph_content,
    "block": _block_content,
    "circuit": _circuit_content,
    "span_circuit": _span_circuit_content,
    "attribution_graph": _traced_content,
}
_READERS: Mapping[str, Callable[..., Any]] = {
    "circuit": _circuit,
    "span_circuit": _span_circuit,
    "attribution_graph": _traced,
}
