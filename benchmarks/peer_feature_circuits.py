"""The peer of `feature_vjps.py`: the published code of sparse feature circuits on the same weights.

    PYTHON benchmarks/peer_feature_circuits.py FOLDER CHECKOUT THREADS

CHECKOUT is saprmarks/feature-circuits (its `attribution.py` with `jvp` and `Submodule`, and
`activation_utils.py`); PYTHON is that of an environment with nnsight 0.3 and transformers 4.46, for
which it was written. Reads FOLDER/problem.json, model.safetensors and saes.safetensors; prints a
line of JSON with seconds, peak bytes and the number of backward passes, and writes the scores
between chosen features to FOLDER/peer.safetensors.

The dictionaries are taken in pairs as `get_circuit` does there, but for three things: gradients are
those of the clean run (integrated gradients with one step, where ten are the default); the reading
nodes are given, each chosen feature at each token where it is active; and error nodes are no
readers. As writers they all get 0 in this code, which sets their gradient to 0 before it is read.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from measure import highest_bytes
from nnsight import NNsight
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

Found = dict[str, Tensor]


class Sae(nn.Module):
    """An SAE as the peer calls one, with a threshold."""

    def __init__(self, W: Tensor, threshold: Tensor) -> None:
        super().__init__()
        self.W, self.threshold = W, threshold

    def encode(self, x: Tensor) -> Tensor:
        """The features."""
        pre = x @ self.W.T
        return pre * (pre > self.threshold)

    def decode(self, f: Tensor) -> Tensor:
        """What they write."""
        return f @ self.W

    def hacked_forward_for_sfc(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What they write, and they."""
        f = self.encode(x)
        return self.decode(f), f


def load(folder: Path, cfg: dict[str, Any]) -> Any:
    """A transformers model with the weights of a HookedTransformer."""
    config = GPT2Config(
        vocab_size=cfg["d_vocab"],
        n_positions=cfg["n_ctx"],
        n_embd=cfg["d_model"],
        n_layer=cfg["n_layers"],
        n_head=cfg["n_heads"],
        attn_implementation="eager",
        use_cache=False,
        tie_word_embeddings=False,
    )
    model, given = GPT2LMHeadModel(config), load_file(folder / "model.safetensors")
    state = {
        "transformer.wte.weight": given["embed.W_E"],
        "transformer.wpe.weight": given["pos_embed.W_pos"],
        "transformer.ln_f.weight": given["ln_final.w"],
        "transformer.ln_f.bias": given["ln_final.b"],
        "lm_head.weight": given["unembed.W_U"].T,
    }
    for layer in range(cfg["n_layers"]):
        own = {k.removeprefix(f"blocks.{layer}."): x for k, x in given.items()}
        h = f"transformer.h.{layer}."
        for norm, name in (("ln_1", "ln1"), ("ln_2", "ln2")):
            state |= {f"{h}{norm}.weight": own[f"{name}.w"], f"{h}{norm}.bias": own[f"{name}.b"]}
        W = [own[f"attn.W_{x}"].transpose(0, 1).flatten(1) for x in "QKV"]
        b = [own[f"attn.b_{x}"].flatten() for x in "QKV"]
        state |= {f"{h}attn.c_attn.weight": torch.cat(W, 1), f"{h}attn.c_attn.bias": torch.cat(b)}
        state |= {f"{h}attn.c_proj.weight": own["attn.W_O"].flatten(0, 1)}
        state |= {f"{h}attn.c_proj.bias": own["attn.b_O"]}
        for part, x in (("c_fc", "in"), ("c_proj", "out")):
            state |= {f"{h}mlp.{part}.weight": own[f"mlp.W_{x}"]}
            state |= {f"{h}mlp.{part}.bias": own[f"mlp.b_{x}"]}
    model.load_state_dict(state)
    if bool(given["unembed.b_U"].any()):
        raise SystemExit("a bias of the unembedding has no place in GPT-2")
    return NNsight(model.eval())


def circuit(
    model: Any, made: dict[str, Any], places: list[list[Any]], saes: dict[Any, Sae], chosen: Found
) -> tuple[Found, int]:
    """The scores by the names of two dictionaries, and how many backward passes they took.

    Each is [batch, pos, feature, batch, pos, feature], reading ones first, with the error node as
    the last feature.
    """
    from activation_utils import SparseAct  # the peer's
    from attribution import jvp, patching_effect

    def metric(model: Any) -> Any:
        logits = model.output.logits[:, -1, :]
        return (logits.gather(1, made["answer"]) - logits.gather(1, made["wrong"])).squeeze(-1)

    every = [place for layer in places for place in layer]
    _, deltas, grads, _ = patching_effect(
        made["clean"], made["corrupt"], model, every, saes, metric, method="ig", steps=1
    )
    active = _active(model, made["clean"], every, saes)
    found: Found = {}
    passes = 0

    def score(up: Any, down: Any, stopped: list[Any]) -> None:
        nonlocal passes
        kept = torch.zeros_like(active[down])
        kept[..., chosen[down.name]] = active[down][..., chosen[down.name]]
        readers = SparseAct(act=kept, resc=kept.new_zeros(*kept.shape[:2], 1))
        passes += int(kept.sum())
        out = jvp(
            made["clean"], model, saes, down, readers, up, grads[down], deltas[up],
            intermediate_stopgrads=stopped,
        )  # fmt: skip
        found[f"{up.name}->{down.name}"] = out

    for layer in reversed(range(len(places))):
        attn, mlp, resid = places[layer]
        score(mlp, resid, [])
        score(attn, resid, [mlp])
        score(attn, mlp, [])
        if layer:
            before = places[layer - 1][2]
            score(before, mlp, [attn])
            score(before, attn, [])
            score(before, resid, [mlp, attn])
    return found, passes


def _active(model: Any, tokens: Tensor, every: list[Any], saes: dict[Any, Sae]) -> Any:
    """Where each place's features are active."""
    active = {}
    with torch.no_grad(), model.trace(tokens):
        for place in every:
            active[place] = (saes[place].encode(place.get_activation()) != 0).save()
    return {place: x.value for place, x in active.items()}


def summed(found: Found, chosen: Found) -> Found:
    """Scores of edges between chosen features, summed over tokens, per example."""
    out = {}
    for name, x in found.items():
        x = x.coalesce()
        up, down = (chosen[place] for place in name.split("->"))
        total = torch.zeros(x.shape[2], x.shape[5])
        total.index_add_(0, x.indices()[2], x.values().sum((1, 2)))
        out[name] = (total[down][:, up] / x.shape[0]).contiguous()
    return out


def main() -> None:
    folder, checkout = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(int(sys.argv[3]))
    sys.path.insert(0, checkout)
    import attribution  # the peer's

    problem = json.loads((folder / "problem.json").read_text())
    cfg, weights = problem["cfg"], load_file(folder / "saes.safetensors")
    made = {name: torch.tensor(problem[name]) for name in ("clean", "corrupt", "answer", "wrong")}
    model = load(folder, cfg)
    places, saes, chosen = [], {}, {}
    for layer, h in enumerate(model.transformer.h):
        own = (("a", h.attn, True), ("m", h.mlp, False), ("post", h, True))
        made_here = [
            attribution.Submodule(f"{part}{layer}", module, is_tuple=is_tuple)
            for part, module, is_tuple in own
        ]
        for place in made_here:
            saes[place] = Sae(weights[f"{place.name}.W"], weights[f"{place.name}.threshold"])
            chosen[place.name] = weights[f"{place.name}.chosen"]
        places.append(made_here)
    start = time.perf_counter()
    peak, (found, passes) = highest_bytes(lambda: circuit(model, made, places, saes, chosen))
    took = time.perf_counter() - start
    save_file(summed(found, chosen), folder / "peer.safetensors")
    print(json.dumps({"seconds": took, "bytes": peak, "passes": passes}))


if __name__ == "__main__":
    main()
