"""Scores between positions: against patches of what single positions read, and the identities."""

from __future__ import annotations

import pytest
import torch

import sae_circuits as sc
from sae_circuits.attribution import across
from sae_circuits.errors import OptionError, UnknownName
from sae_circuits.graph import SpanPairScores
from shapes import HOOKED, random_task
from small_dictionaries import dictionary
from split_run import at_answers, forward, replacement, split, targets_of

METHODS = {
    "eap": {},
    "eap-ig": {"steps": 2},
    "clean-corrupted": {},
    "eap-ig-activations": {"steps": 2},
}
SPANS = {"start": range(2), "end": -1}
LENGTHS = [6, 4, 5]


def problem(shape="gpt2", what="components"):
    model = HOOKED[shape](dtype=torch.float64)
    options = {
        "components": {},
        "split_kv": {"split_kv": True},
        "neurons": {"neurons": ["a0", "m0"]},
        "features": {"saes": [dictionary(model, "resid_post", 0), dictionary(model, "z", 1)]},
    }[what]
    return model, sc.TensorGraph.from_model(model, **options), random_task(model, lengths=LENGTHS)


@pytest.mark.parametrize("what", ["components", "features", "neurons"])
@pytest.mark.parametrize("method", METHODS)
def test_sums_over_destinations_are_the_scores_by_span(method, what):
    model, graph, task = problem("gpt2", what)
    how = {"method": method, **METHODS[method]}
    for spans in (
        (SPANS, "position") if how == {"method": "eap"} and what == "components" else (SPANS,)
    ):
        pairs = sc.attribute_spans(model, graph, task, spans, across=True, **how)
        want = sc.attribute_spans(model, graph, task, spans, **how)
        found = pairs.by_source()
        assert list(found) == list(want)
        torch.testing.assert_close(found.stacked, want.stacked, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(pairs.total.values, want.total.values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("what", ["components", "split_kv"])
@pytest.mark.parametrize("shape", ["llama", "gemma2", "pythia", "qwen3"])
def test_the_same_for_other_shapes(shape, what):
    model, graph, task = problem(shape, what)
    pairs = sc.attribute_spans(model, graph, task, SPANS, across=True, method="eap")
    want = sc.attribute_spans(model, graph, task, SPANS, method="eap")
    torch.testing.assert_close(pairs.by_source().stacked, want.stacked, rtol=1e-9, atol=1e-12)
    assert pairs["start", "end"].values.abs().max() > 1e-4


def test_positions_see_what_is_before_them_and_only_keys_and_values_look_back():
    model, graph, task = problem()
    pairs = sc.attribute_spans(model, graph, task, across=True, method="eap")
    stays = torch.tensor([edge.dest.port not in ("k", "v") for edge in graph.edges])
    for j in range(6):
        for i in range(6):
            values = pairs[f"@{j}", f"@{i}"].values
            if i < j:
                assert not values.any()
            elif i > j:
                assert not values[stays].any()
                assert values[~stays].any()
            else:
                assert values[stays].any()


def patched_slope(model, graph, task, edge, mask_src, mask_dest, eps=1e-5):
    """The metric's slope when one reader sees a share of a writer's change at some tokens, and what
    its head makes of that stands at some others: runs with that head's z written over.
    """
    parts = split(model, graph)
    clean = forward(parts, task.clean)
    change = replacement(parts, task, "corrupt")
    src, dest = graph.src_id(edge.src), graph.dest_nodes.index(edge.dest)
    d = (change[src] - clean.written[src]) * mask_src[..., None]
    share = graph.architecture.n_heads // graph.architecture.n_kv_heads
    kv = edge.dest.kind == "kv"
    heads = [edge.dest.index * share + i for i in range(share)] if kv else [edge.dest.index]
    point = parts.model.blocks[edge.dest.layer].attn.hook_z
    goal = targets_of(task, at_answers(clean.logits, task))

    def value(by):
        kept = {}
        handle = point.register_forward_hook(lambda m, a, z: kept.update(z=z))
        forward(parts, task.clean, edit_reader=lambda v, x, w: x + by * d if v == dest else x)
        handle.remove()

        def write(module, args, z):
            z = z.clone()
            for head in heads:
                new = kept["z"][:, :, head]
                z[:, :, head] = torch.where(mask_dest[..., None], new, z[:, :, head])
            return z

        handle = point.register_forward_hook(write)
        logits = forward(parts, task.clean).logits
        handle.remove()
        return sc.metrics.logit_diff(at_answers(logits, task), goal).mean()

    with torch.no_grad():
        return float(value(eps) - value(-eps)) / (2 * eps)


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_a_score_is_the_slope_of_a_patch_between_two_spans(shape):
    model, graph, task = problem(shape)
    pairs = sc.attribute_spans(model, graph, task, SPANS, across=True, method="eap")
    last = task.lengths - 1
    end = torch.arange(6) == last[:, None]
    masks = {"start": (torch.arange(6) < 2).expand(3, 6), "end": end}
    masks["rest"] = ~masks["start"] & ~end & (torch.arange(6) <= last[:, None])
    kv = "kv0" if shape == "llama" else "h1"
    for name in (f"input->a0.{kv}<k>", f"a0.h2->a1.{kv}<v>", f"m0->a1.{kv}<k>"):
        edge = graph.edges[graph.edge_id(name)]
        for ends in (("start", "end"), ("start", "rest"), ("rest", "end"), ("end", "end")):
            src, dest = (masks[span] for span in ends)
            slope = patched_slope(model, graph, task, edge, src, dest)
            assert pairs[ends][edge] == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_scores_do_not_depend_on_batches():
    model, graph, task = problem()
    whole = sc.attribute_spans(model, graph, task, SPANS, across=True, method="eap")
    for size in (1, 2):
        again = sc.attribute_spans(
            model, graph, task, SPANS, across=True, method="eap", batch_size=size
        )
        torch.testing.assert_close(again.values, whole.values, rtol=1e-9, atol=1e-12)


def test_the_largest_and_a_table():
    model, graph, task = problem()
    pairs = sc.attribute_spans(model, graph, task, SPANS, across=True, method="eap")
    assert isinstance(pairs, SpanPairScores)
    src, dest, edge, value = pairs.top(1)[0]
    assert pairs[src, dest][edge] == value
    assert abs(value) == pairs.values.abs().max()
    table = pairs.to_pandas()
    assert list(table.columns) == ["src_span", "dest_span", "src", "dest", "score"]
    assert len(table) == int(pairs.values.count_nonzero())
    assert table.score.sum() == pytest.approx(float(pairs.values.sum()))
    found = pairs.by_destination()
    torch.testing.assert_close(found["end"].values, pairs.values[:, 1].sum(0))
    with pytest.raises(UnknownName, match="unknown span 'ends': did you mean 'end'"):
        _ = pairs["start", "ends"]


def test_what_has_no_scores_across(monkeypatch):
    model, graph, task = problem()
    with pytest.raises(OptionError, match="of='nodes' has no scores across spans"):
        sc.attribute_spans(model, graph, task, of="nodes", across=True)
    through = sc.TensorGraph.from_model(model, saes=[dictionary(model, "z", 1)], through=True)
    with pytest.raises(OptionError, match="without through=True"):
        sc.attribute_spans(model, through, task, across=True, method="eap")
    monkeypatch.setattr(across, "MOST_BYTES", 1 << 16)
    with pytest.raises(OptionError, match=r"6 spans have 36 pairs, and scores of .* take"):
        sc.attribute_spans(model, graph, task, across=True, method="eap")
