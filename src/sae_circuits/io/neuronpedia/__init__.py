"""The JSON of attribution graphs that the viewers of Neuronpedia and of circuit-tracer read.

    {"metadata": {"slug", "scan", "prompt_tokens", "prompt", ...},
     "qParams": {"pinnedIds", "supernodes", "linkType", "clickedId", "sg_pos"},
     "nodes": [{"node_id", "feature", "layer", "ctx_idx", "feature_type", "clerp", ...}],
     "links": [{"source", "target", "weight"}]}

A feature is `layer_index_position`, with the Cantor pairing of layer and index as its `feature`; an
error node `layer_-1_position`; a token `E_token_position`; a logit `(n_layers + 1)_token_position`.
There, `influence` is cumulative: the share of all influence that a node and the stronger ones have
together, which the viewers compare with a threshold.

Written to circuit-tracer's `frontend/graph_models.py` (commit 196e2ce) and Neuronpedia's
`graph-schema.json` 1.0.0 (commit b8efe84) and `utils.ts` (commit 2a614bc). What those programs do
not know stands under names of its own, which they pass over: `own_influence` of each node, and
`sae_circuits` in the metadata.
"""

from sae_circuits.io.neuronpedia.explanations import (
    Explanation,
    explanations_of,
    read_explanations,
)
from sae_circuits.io.neuronpedia.read import from_neuronpedia
from sae_circuits.io.neuronpedia.write import to_neuronpedia

__all__ = [
    "Explanation",
    "explanations_of",
    "from_neuronpedia",
    "read_explanations",
    "to_neuronpedia",
]
