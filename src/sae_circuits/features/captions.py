"""What stores say of the features in a picture: labels below them, top tokens on hover."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sae_circuits.errors import StoreError
from sae_circuits.features.dictionary import FeatureDictionary
from sae_circuits.graph import AttributionGraph, Circuit, Node, TensorGraph
from sae_circuits.graph.splits import PARTS

MOST = 5  # tokens of each kind on hover
_FIRES = """SELECT feature, text FROM feature_tokens JOIN tokens USING (token)
    WHERE feature IN (SELECT unnest(?)) AND rank <= ? ORDER BY feature, rank"""
_RAISES = """SELECT feature, text FROM logits JOIN tokens USING (token)
    WHERE feature IN (SELECT unnest(?)) AND rank <= ? AND kind = 'top' ORDER BY feature, rank"""
_LABELS = "SELECT feature, text FROM best WHERE feature IN (SELECT unnest(?))"


def captions(
    of: Circuit | TensorGraph | AttributionGraph, stores: Sequence[FeatureDictionary]
) -> dict[str, dict[str, str]]:
    """Labels and notes for a picture, from the stores of the dictionaries that are split in it.

    Args:
        of: what is drawn; a graph with features.
        stores: one for each dictionary of which something shall be said.

    Returns:
        "labels", the best label of each feature that has one, and "notes", the tokens on which
        each fires most often and those that it makes more likely: by the feature's name. Pass them
        to `render` as `**captions(...)`.

    Raises:
        StoreError: a store of a dictionary that is not in the graph, or of no dictionary.

    Example:
        >>> import sae_circuits as sc
        >>> model, saes = sc.load_model("demo"), sc.load_saes("demo", ["mlp_out.1"])
        >>> store = sc.FeatureDictionary.build(model, saes[0], sc.demo_corpus(2000))
        >>> graph = sc.TensorGraph.from_model(model, saes=saes).restrict(["m1.f3"])
        >>> list(captions(graph, [store])["notes"])
        ['m1.f3']
    """
    labels: dict[str, str] = {}
    notes: dict[str, str] = {}
    graph = of.graph if isinstance(of, Circuit) else of
    nodes = graph.nodes if isinstance(graph, AttributionGraph) else graph.src_nodes
    for store in stores:
        part = part_of(graph, store)
        names = {node.index: f"{part}.f{node.index}" for node in nodes if _is_of(node, part)}
        ids = sorted(i for i in names if i is not None)
        for i, text in store.database.query(_LABELS, [ids]).itertuples(index=False):
            labels[names[i]] = text
        said: dict[int, list[str]] = defaultdict(list)
        for lead, sql in (("fires on", _FIRES), ("raises", _RAISES)):
            texts: dict[int, list[str]] = defaultdict(list)
            for i, text in store.database.query(sql, [ids, MOST]).itertuples(index=False):
                texts[i].append(repr(text.strip() or text))
            for i, tokens in texts.items():
                said[i].append(f"{lead} {', '.join(tokens)}")
        notes |= {names[i]: "\n".join(lines) for i, lines in said.items()}
    return {"labels": labels, "notes": notes}


def _is_of(node: Node, part: str) -> bool:
    return node.kind == "feature" and f"{node.site}{node.layer}" == part


def part_of(graph: TensorGraph | AttributionGraph, store: FeatureDictionary) -> str:
    """What the names of a store's features begin with in a graph, such as `m3`."""
    source = store.database.meta()["source"]
    if source["kind"] != "dictionary":
        raise StoreError(f"{store!r} describes {source['kind']}, and no dictionary's features")
    reads, _, layer = source["site"].partition(".")
    if isinstance(graph, AttributionGraph):
        known = graph.provenance.options.get("transcoders", [source["dictionary"]])
        if reads in ("mlp_normalized", "mlp_in", "resid_mid") and source["dictionary"] in known:
            return f"m{layer}"  # all of its features are transcoders'
        raise StoreError(f"{store!r} is of none of the transcoders of {graph!r}")
    for record in graph.records:
        if record.fingerprint == source["dictionary_id"]:
            kind, _, layer = record.writes[0].partition(".")
            return f"{PARTS[kind]}{layer}"
    there = ", ".join(record.name for record in graph.records) or "no dictionary"
    raise StoreError(
        f"{store!r} is of another dictionary than those of {graph!r} ({there}): build a store of "
        "one of these"
    )
