"""The peer of `attribution_graph.py`: circuit-tracer on the same weights, in its own environment.

    PYTHON benchmarks/peer_circuit_tracer.py FOLDER BATCH_SIZE REPEATS THREADS

Reads FOLDER/model.safetensors, transcoders.safetensors and problem.json; prints a line of JSON with
seconds and peak bytes, and writes the matrix to FOLDER/peer.safetensors.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from circuit_tracer import ReplacementModel, attribute
from circuit_tracer.graph import compute_graph_scores, prune_graph
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet
from measure import highest_bytes
from safetensors.torch import load_file, save_file
from transformer_lens import HookedTransformerConfig


class Tokenizer:
    """What the peer asks of a tokenizer when it is given token ids."""

    padding_side = "right"

    def __init__(self, first: int, vocab_size: int) -> None:
        self.all_special_ids, self.vocab_size = [first], vocab_size

    def decode(self, ids: Any) -> str:
        """The ids themselves."""
        return str(ids)


def load(folder: Path) -> tuple[Any, torch.Tensor]:
    """The model with its transcoders, and the prompt."""
    problem = json.loads((folder / "problem.json").read_text())
    weights = load_file(folder / "transcoders.safetensors")
    made = {}
    for layer in range(problem["cfg"]["n_layers"]):
        own = {name: weights[f"{layer}.{name}"] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
        n, d = own["W_dec"].shape
        one = SingleLayerTranscoder(d, n, torch.relu, layer, dtype=torch.float32)
        one.load_state_dict(own)
        made[layer] = one
    everything = TranscoderSet(made, "mlp.hook_in", "hook_mlp_out", scan="random")
    tokens = torch.tensor(problem["tokens"])
    config = HookedTransformerConfig(**problem["cfg"], device="cpu")
    model: Any = ReplacementModel.from_config(config, everything)
    state = {  # the peer wraps each MLP and the unembedding
        name.replace(".mlp.", ".mlp.old_mlp.").replace("unembed.", "unembed.old_unembed."): x
        for name, x in load_file(folder / "model.safetensors").items()
    }
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    missing, unexpected = model.load_state_dict(state, strict=False)
    lacking = [x for x in missing if not x.startswith("transcoders") and x not in buffers]
    if lacking or unexpected:
        raise SystemExit(f"weights do not fit: missing {lacking}, unexpected {unexpected}")
    model.tokenizer = Tokenizer(int(tokens[0]), config.d_vocab)
    return model, tokens


def main() -> None:
    folder, batch_size, repeats = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(int(sys.argv[4]))
    model, tokens = load(folder)
    peak, graph = highest_bytes(lambda: attribute(tokens, model, batch_size=batch_size))
    traced, pruned = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        graph = attribute(tokens, model, batch_size=batch_size)
        traced.append(time.perf_counter() - start)
        prune_graph(graph)
        scores = compute_graph_scores(graph)
        pruned.append(time.perf_counter() - start)
    ids = graph.active_features[graph.selected_features]
    matrix = {"A": graph.adjacency_matrix, "features": ids, "logits": graph.logit_token_ids}
    save_file({name: x.contiguous() for name, x in matrix.items()}, folder / "peer.safetensors")
    print(json.dumps({"seconds": traced, "with_pruning": pruned, "bytes": peak, "scores": scores}))


if __name__ == "__main__":
    main()
