"""What features do, slowly: one feature and one token at a time, by the model's own modules."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

HOOKS = {
    "z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "mlp_in": "mlp.hook_in",
    "mlp_out": "hook_mlp_out",
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
}


def direction(model, dictionary, f):
    """One row of the decoder in the stream, in a model without norms behind its heads."""
    site, row = dictionary.writes[0], dictionary.W_dec[f]
    if site.kind != "z":
        return row
    W_O = model.blocks[site.layer].attn.W_O
    each = row.reshape(W_O.shape[:2])
    return sum(each[h] @ W_O[h] for h in range(len(W_O)))


def logit_effect(model, dictionary, f, *, gain):
    """The effects of one feature on all tokens."""
    d = direction(model, dictionary, f)
    w = getattr(getattr(model, "ln_final", None), "w", None)
    effect = ((d * w if gain and w is not None else d) @ model.unembed.W_U).detach().numpy()
    return effect - effect.mean()


def summary(effect, k, bins):
    """Tokens at both ends, histogram and moments of some effects."""
    order = sorted(range(len(effect)), key=lambda t: (-effect[t], t))
    lowest = sorted(range(len(effect)), key=lambda t: (effect[t], t))
    counts, edges = np.histogram(effect, bins)
    return {
        "top_tokens": order[:k],
        "top_values": effect[order[:k]],
        "bottom_tokens": lowest[:k],
        "bottom_values": effect[lowest[:k]],
        "counts": counts,
        "edges": edges,
        "std": effect.std(),
        "skew": stats.skew(effect),
        "kurtosis": stats.kurtosis(effect, fisher=False),
    }


def hooked_input(model, dictionary, tokens):
    """What the encoder gets on one prompt, and the final stream, both without the batch."""
    layer = dictionary.reads.layer
    name = f"blocks.{layer}.{HOOKS[dictionary.reads.kind]}"
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    kept = {}
    hooks = [(n, lambda x, hook: kept.__setitem__(hook.name, x[0])) for n in {name, last}]
    if dictionary.reads.kind == "mlp_in":
        handle = model.blocks[layer].mlp.register_forward_pre_hook(
            lambda _, args: kept.__setitem__(name, args[0][0])
        )
    else:
        handle = None
    model.run_with_hooks(tokens[None], fwd_hooks=[h for h in hooks if "mlp.hook_in" not in h[0]])
    if handle is not None:
        handle.remove()
    return kept[name].flatten(1), kept[last]


@torch.no_grad()
def direct_loss_effect(model, dictionary, f, tokens, added=None):
    """log p of each token but the first, minus the same without what the feature adds."""
    x, final = hooked_input(model, dictionary, tokens)
    a = dictionary.encode(x)[:, f]
    scale = dictionary.scale(x) if dictionary.is_sae else None
    a = a if scale is None else a * scale.multiply[:, 0]
    d = direction(model, dictionary, f)
    found = [float("nan")]
    for p in range(1, len(tokens)):
        with_it, without = final[p - 1], final[p - 1] - a[p - 1] * d
        each = [log_prob(model, r, int(tokens[p])) for r in (with_it, without)]
        found.append(each[0] - each[1])
    return torch.tensor(found, dtype=torch.float64)


def log_prob(model, r, token):
    """Of a token after one final stream."""
    read = model.ln_final(r[None, None]) if hasattr(model, "ln_final") else r[None, None]
    logits = model.unembed(read)[0, 0]
    cap = model.cfg.output_logits_soft_cap
    logits = cap * torch.tanh(logits / cap) if cap > 0 else logits
    return (logits[token] - logits.exp().sum().log()).item()
