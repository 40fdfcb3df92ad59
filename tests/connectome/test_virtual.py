"""Virtual weights against dense loops, and against a changed run of a model without norms."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from sae_circuits.connectome.tiles import largest_of_both
from shapes import BRIDGED, HOOKED
from small_dictionaries import dictionary


def head_of(model, layer, head):
    """One head's W_V and W_O, each query head with the value matrix of its group."""
    attn = model.blocks[layer].attn
    return attn.W_V[head].detach(), attn.W_O[head].detach()  # grouped ones are repeated here


def norm_of(model, layer, name, x):
    """Gain and centring of a norm, of vectors in the stream."""
    norm = getattr(model.blocks[layer], name, None)
    kind = model.cfg.normalization_type
    if norm is None or kind is None:
        return x
    if kind.startswith("LN"):
        x = x - x.mean(-1, keepdim=True)
    weight = getattr(norm, "w", None)
    return x if weight is None else x * weight.detach()


def written(model, sae, u):
    """What one feature adds to the stream."""
    row, site = sae.W_dec[u], sae.writes[0]
    if site.kind != "z":
        return row
    W_O = model.blocks[site.layer].attn.W_O.detach()
    row = sum(row.unflatten(0, W_O.shape[:2])[h] @ W_O[h] for h in range(len(W_O)))
    post = getattr(model.blocks[site.layer], "ln1_post", None)
    return row if post is None else row * post.w.detach()


def dense(model, source, target, head=None):
    """The whole table, one pair after the other."""
    table = torch.zeros(source.n_features, target.n_features, dtype=source.W_dec.dtype)
    reads = target.reads
    for u in range(source.n_features):
        x = written(model, source, u)
        if head is not None:
            W_V, W_O = head_of(model, *head)
            z = norm_of(model, head[0], "ln1", x) @ W_V
            if reads.kind == "z":
                x = torch.zeros_like(W_O[..., 0]).new_zeros(model.cfg.n_heads, model.cfg.d_head)
                x[head[1]] = z
                x = x.flatten()
            else:
                x = z @ W_O
                post = getattr(model.blocks[head[0]], "ln1_post", None)
                x = x if post is None else x * post.w.detach()
        if reads.kind == "mlp_in":
            has_own = hasattr(model.blocks[reads.layer], "ln2")
            x = norm_of(model, reads.layer, "ln2" if has_own else "ln1", x)
        if reads.kind == "mlp_normalized" and (model.cfg.normalization_type or "").startswith("LN"):
            x = x - x.mean()
        for v in range(target.n_features):
            table[u, v] = x @ target.W_enc[:, v]
    return table


def check(weights, table, k):
    """Both lists hold the k largest by size of the whole table."""
    for ids, values, lines in (
        (weights.of_ids, weights.of_values, table),
        (weights.into_ids, weights.into_values, table.T[weights.features]),
    ):
        assert ids.shape == (len(lines), min(k, lines.shape[1]))
        for own, found, line in zip(ids, values, lines, strict=True):
            slow = sorted(range(len(line)), key=lambda i: (-abs(float(line[i])), i))[:k]
            assert own.tolist() == slow
            torch.testing.assert_close(found, line[slow])


SOURCES = ["z", "attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post"]


@pytest.mark.parametrize("shape", ["gpt2", "gpt2-folded", "llama", "gemma2", "no-norm"])
@pytest.mark.parametrize("site", [*SOURCES, "transcoder"])
def test_weights_along_the_stream_against_one_pair_after_the_other(shape, site):
    model = HOOKED[shape]()
    writes = {"transcoder": ("mlp_in", "mlp_out")}.get(site, (site, None))
    source = dictionary(model, writes[0], 0, writes=writes[1], n=9)
    for target in (
        dictionary(model, "resid_post", 1),
        dictionary(model, "mlp_in", 1, writes="mlp_out"),
        dictionary(model, "mlp_normalized", 1, writes="mlp_out"),
    ):
        check(sc.virtual_weights(model, source, target, k=4), dense(model, source, target), 4)
